"""YAML file -> plain data, and the place of every node.

Scalars mean what they mean in YAML 1.2, with one exception: an integer with a leading zero stays the string that was
typed. PyYAML is used for its parser alone; data is built here from its events, because its own composer recurses, keeps
no places of keys, lets duplicate keys pass and expands aliases without a limit.
"""

from __future__ import annotations

from runner.source.document import (
    Document,
    ListDocument,
    holds_finite,
    read,
    read_list,
    read_text,
    read_value,
)
from runner.source.scalars import kind
from runner.source.text import MAX_BYTES, MAX_PROBLEMS

__all__ = [
    "MAX_BYTES",
    "MAX_PROBLEMS",
    "Document",
    "ListDocument",
    "holds_finite",
    "kind",
    "read",
    "read_list",
    "read_text",
    "read_value",
]
