"""What scalars mean, by the core schema of YAML 1.2, and how values are called in messages."""

from __future__ import annotations

import re
from typing import TypeVar

from runner.words import shorten

TAG = "tag:yaml.org,2002:"


class _Integer(int):
    """An integer that was written in another way than Python writes it, such as `0x1F` or `+1`."""

    written: str

    def __str__(self) -> str:
        return self.written


class _Float(float):
    """A number that was written in another way than Python writes it, such as `2.50` or `1e3`."""

    written: str

    def __str__(self) -> str:
        return self.written


INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_NUMBER_START = frozenset("+-.0123456789")

SCALAR_TAGS: dict[str, type] = {
    TAG + "str": str,
    TAG + "int": int,
    TAG + "float": float,
    TAG + "bool": bool,
    TAG + "null": type(None),
}
WRITTEN_TYPES: dict[type, type] = {int: _Integer, float: _Float}


def resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar means by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    if INTEGER.fullmatch(text):
        integer = int(text, 0)
        return integer if str(integer) == text else _as_written(_Integer(integer), text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if str(number) == text else _as_written(_Float(number), text)
    if _INFINITE.fullmatch(text):
        return _as_written(_Float(text.replace(".", "")), text)
    return text


_N = TypeVar("_N", _Integer, _Float)


def _as_written(number: _N, text: str) -> _N:
    number.written = text
    return number


def as_yaml(value: object) -> str:
    """A scalar as YAML spells it."""
    return {True: "true", False: "false"}.get(value, "") if isinstance(value, bool) else str(value)


def kind(value: object) -> str:
    """What a value is, in words: `a string`, `the number 3`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {as_yaml(value)}"
        case int() | float():
            return f"the number {shorten(str(value))}"
        case str():
            return f'the string "{shorten(value)}"'
        case list():
            return "a list"
        case _:
            return "a mapping"
