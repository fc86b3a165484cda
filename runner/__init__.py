"""Declarative batch prompt runner for AWS Bedrock."""

__version__ = "0.1.0"
