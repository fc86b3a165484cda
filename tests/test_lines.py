"""One row, one line: whatever text and numbers it holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.results.lines import from_line, to_line

if TYPE_CHECKING:
    from runner.records import Row


def row(**fields: Any) -> Row:
    return cast("Row", {"case": "c", "index": 0, **fields})


TEXTS = [
    "plain",
    "\u2028 \u2029 \x85 is no line end",
    "\x00",
    "lone \ud800 surrogate",
    "😀 é",
    "a\r\nb",
    '"\\',
    "\x7f\x1b",
]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_any_text_is_read_back_as_it_came_from_one_line(text: str) -> None:
    line = to_line(row(output=text))
    assert from_line(line) == row(output=text)
    assert json.loads(line) == row(output=text), "by any other reader too"
    assert len(line.decode().splitlines()) == 1


def test_a_long_reply_of_odd_characters_is_read_back_as_it_came() -> None:
    text = "".join(TEXTS) * 100_000
    assert len(text) > 5_000_000
    assert from_line(to_line(row(output=text))) == row(output=text)


@pytest.mark.parametrize(
    "value",
    [0, -1, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**60, 0.1, 1e16, 1e-7, 1.7976931348623157e308, 5e-324, -0.0, 1.0],
    ids=repr,
)
def test_any_number_is_read_back_as_it_came(value: float) -> None:
    read = from_line(to_line(row(vars={"n": value})))["vars"]["n"]
    assert (repr(read), type(read)) == (repr(value), type(value))


def test_keys_keep_their_order_and_readable_text_stays_readable() -> None:
    assert to_line(row(z="é 😀", a=1)) == '{"case":"c","index":0,"z":"é 😀","a":1}\n'.encode()


@pytest.mark.parametrize("surrogate", ["", "\ud800"])
def test_keys_that_are_numbers_become_text(surrogate: str) -> None:
    assert from_line(to_line(row(vars={1: surrogate})))["vars"] == {"1": surrogate}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_never_written_as_one(number: float) -> None:
    assert from_line(to_line(row(cost_usd=number))) == row(cost_usd=None)


def test_deep_nesting_is_read_back_as_it_came() -> None:
    nested: Any = "core"
    for _ in range(300):
        nested = [nested]
    assert from_line(to_line(row(vars=nested))) == row(vars=nested)


@pytest.mark.parametrize(
    "line",
    [b"", b"\0\0\0", b"{", b'{"a":1}{"b":2}', b'{"a":"\xff"}', b'{"a":"\xed\xa0\x80"}', b"[" * 100_000, b'{"a":"\0"}'],
    ids=lambda line: repr(line[:20]),
)
def test_what_is_no_json_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_line(line)
