"""JSON Schema -> problems: each at the deepest place that is wrong, in plain words, with what to write instead."""

from __future__ import annotations

from runner.schema.breaches import dotted, fits
from runner.schema.checking import check
from runner.schema.published import Name, load, text

__all__ = [
    "Name",
    "check",
    "dotted",
    "fits",
    "load",
    "text",
]
