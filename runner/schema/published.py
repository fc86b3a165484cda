"""The JSON Schemas as published, in schemas/."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

Name = Literal["job", "result", "summary", "preflight", "diff"]


def text(name: Name) -> str:
    """The JSON Schema as published."""
    package = Path(__file__).parents[1]
    folders = (package / "schemas", package.parent / "schemas")  # of the wheel, of a checkout
    folder = next(folder for folder in folders if folder.is_dir())
    return (folder / f"{name}.schema.json").read_text(encoding="utf-8")


@cache
def load(name: Name) -> dict[str, Any]:
    """The JSON Schema as data, shared by all callers: do not change it."""
    schema: dict[str, Any] = json.loads(text(name))
    return schema


def keys_of_type(name: str, which: Literal["required", "forbidden"]) -> list[str]:
    """The keys that an assertion of a type must have, or cannot."""
    keys: list[str] = []
    for rule in load("job")["$defs"]["assertion"]["allOf"]:
        if name in rule["if"]["properties"]["type"]["enum"]:
            forbidden = [key for key, schema in rule["then"]["properties"].items() if "not" in schema]
            keys += rule["then"].get("required", []) if which == "required" else forbidden
    return keys


def assertion_types() -> list[str]:
    names: list[str] = load("job")["$defs"]["assertion"]["properties"]["type"]["enum"]
    return names


def positive_types() -> list[str]:
    return [name for name in assertion_types() if not name.startswith("not-")]
