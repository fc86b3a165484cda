"""One row as one line of JSON, and back."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, cast

import orjson

if TYPE_CHECKING:
    from runner.records import Row


def to_line(row: Row) -> bytes:
    """One row as one line of UTF-8 JSON, newline included.

    U+2028, U+2029 and U+0085 are escaped because some readers take them for line ends; text with a lone surrogate,
    which UTF-8 can't hold, is escaped whole. What is no number (NaN) is never written as one.
    """
    try:
        line = orjson.dumps(row)
    except TypeError:  # a lone surrogate, an integer of more than 64 bits, a key that is no string, deep nesting
        line = _to_json_slowly(row)
    for raw, escaped in _LINE_ENDS:
        if raw in line:
            line = line.replace(raw, escaped)
    return line + b"\n"


def from_line(line: bytes) -> Row:
    """The row of a line, exactly as it was given to `to_line`. Raises ValueError if the line is no JSON."""
    value = parse(line)
    try:
        # orjson rounds integers of more than 64 bits; what it writes again as it was, it has read right.
        if orjson.dumps(value) == line.rstrip():
            return cast("Row", value)
    except TypeError:
        pass
    return cast("Row", _from_json_slowly(line))


def parse(line: bytes) -> object:
    """The JSON value of a line, fast; integers of more than 64 bits may come out rounded. Raises ValueError; for what
    is no finite number too, which `to_line` could not write again.
    """
    try:
        value: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _from_json_slowly(line)
    return value


_LINE_ENDS = [(char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\u2028\u2029\u0085"]


def _to_json_slowly(row: Row) -> bytes:
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(row, separators=(",", ":"), allow_nan=False).encode()


def _from_json_slowly(line: bytes) -> object:
    """With lone surrogates and integers of any length, which orjson does not read."""
    try:
        return cast("object", json.loads(line.decode(), parse_float=_finite, parse_constant=_finite))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _finite(number: str) -> float:
    value = float(number)
    if not isfinite(value):
        raise ValueError(f"{number} is no number that JSON has")
    return value
