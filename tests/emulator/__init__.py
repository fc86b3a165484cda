"""A package, so that mypy can tell its conftest from others."""
