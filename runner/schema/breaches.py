"""Data -> the ways in which it breaks a schema."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.schema.published import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


Pointer = tuple[str | int, ...]


# The keywords that schemas/job.schema.json uses, and no others. To import jsonschema takes as long as the rest of a
# small `validate`, its messages hold the whole value, which aliases may make many times the file, and its `$` also
# matches before a line break at the end. It is for the tests: they hold this to what jsonschema finds.


@dataclass(frozen=True, slots=True)
class Breach:
    """One value that breaks one keyword of the schema."""

    pointer: Pointer
    keyword: str
    wanted: Any  # what the keyword asks for
    value: Any  # what the file has
    schema: Mapping[str, Any]  # around the keyword


def breaches(value: Any, schema: Mapping[str, Any], pointer: Pointer = ()) -> Iterator[Breach]:
    for keyword, wanted in schema.items():
        if keyword in _RULES and not _RULES[keyword](wanted, value, schema):
            yield Breach(pointer, keyword, wanted, value, schema)
        if keyword in _PARTS:
            for steps, part, its_schema in _PARTS[keyword](wanted, value, schema):
                yield from breaches(part, its_schema, pointer + steps)


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    return next(breaches(value, schema), None) is None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

# Whether a value is as the keyword wants it. What a keyword does not speak of (the length of a number) is right.
_RULES: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], bool]]] = {
    "type": lambda wanted, value, _: any(
        _TYPES[name](value) for name in ([wanted] if isinstance(wanted, str) else wanted)
    ),
    "enum": lambda wanted, value, _: isinstance(value, str) and value in wanted,
    "pattern": lambda wanted, value, _: not isinstance(value, str) or re.search(_whole(wanted), value) is not None,
    "minimum": lambda wanted, value, _: not (_is_number(value) and value < wanted),  # NaN is neither
    "maximum": lambda wanted, value, _: not (_is_number(value) and value > wanted),
    "exclusiveMinimum": lambda wanted, value, _: not (_is_number(value) and value <= wanted),
    "minLength": lambda wanted, value, _: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda wanted, value, _: not isinstance(value, str) or len(value) <= wanted,
    "minItems": lambda wanted, value, _: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda wanted, value, _: not isinstance(value, list) or len(value) <= wanted,
    "minProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) <= wanted,
    "required": lambda wanted, value, _: not isinstance(value, dict) or all(key in value for key in wanted),
    "additionalProperties": lambda wanted, value, schema: (  # `false`; a schema is among the parts below
        wanted is not False or not isinstance(value, dict) or value.keys() <= schema["properties"].keys()
    ),
    "not": lambda wanted, value, _: not _fits(value, wanted),
    "oneOf": lambda wanted, value, _: sum(_fits(value, schema) for schema in wanted) == 1,
}

_Part = tuple[Pointer, Any, Mapping[str, Any]]  # where it is in the value, what is there, which schema it must fit

# What else must fit which schema.
_PARTS: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], Iterable[_Part]]]] = {
    "properties": lambda wanted, value, _: (
        ((key,), value[key], schema) for key, schema in wanted.items() if isinstance(value, dict) and key in value
    ),
    "additionalProperties": lambda wanted, value, schema: (
        ((key,), item, wanted)
        for key, item in (value.items() if wanted and isinstance(value, dict) else ())
        if key not in schema["properties"]
    ),
    "items": lambda wanted, value, _: (
        ((index,), item, wanted) for index, item in enumerate(value if isinstance(value, list) else ())
    ),
    "$ref": lambda wanted, value, _: [((), value, load("job")["$defs"][wanted.removeprefix("#/$defs/")])],
    "allOf": lambda wanted, value, _: [((), value, schema) for schema in wanted],
    "if": lambda wanted, value, schema: [((), value, schema["then"])] if _fits(value, wanted) else [],
}


def _whole(pattern: str) -> str:
    """With the `$` of JSON Schema: Python's also matches before a line break at the end."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


def fits(definition: str, value: Any) -> bool:
    """Whether a value is as a definition of the schema of jobs has it."""
    return _fits(value, load("job")["$defs"][definition])


def dotted(pointer: Sequence[str | int]) -> str:
    """A pointer as people write it: `turns[0].user.images`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in pointer).lstrip(".")
