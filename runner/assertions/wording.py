"""How verdicts show outputs and values: quoted, on one line, and short."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_EXCERPT = 200  # characters of a value or an output that a reason shows
_ITEM = 60  # characters of one value among several
_ITEMS = 4  # of a list that a reason names


def excerpt(text: str, around: int = 0, *, limit: int = _EXCERPT) -> str:
    """`text` quoted, cut to what a person wants to read; `around` is the offset that must be in view."""
    if len(text) <= limit:  # mostly, and every verdict quotes a value
        return f"'{_line(text)}'"
    start = max(0, min(around - limit // 4, len(text) - limit))
    return f"{'…' if start else ''}'{_line(text[start : start + limit])}'{'…' if start + limit < len(text) else ''}"


def shortened(text: str) -> str:
    """`text` on one line, cut at the end: what others wrote as a reason."""
    return _line(text[:_EXCERPT]) + ("…" if len(text) > _EXCERPT else "")


def listing(texts: Sequence[str]) -> str:
    """`'a', 'b' and 3 more`."""
    named = ", ".join(excerpt(text, limit=_ITEM) for text in texts[:_ITEMS])
    return f"{named} and {len(texts) - _ITEMS} more" if len(texts) > _ITEMS else named


def spelled(value: Any) -> str:
    """A JSON value as JSON writes it, cut to what a person wants to read."""
    return shortened(as_json(value))


def pointer(steps: Iterable[str | int]) -> str:
    """Where something is in a JSON value, as a JSON pointer, of which the end says most."""
    whole = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)
    if not whole:
        return "the top"
    return ("…" if len(whole) > _EXCERPT else "") + _line(whole[-_EXCERPT:])


def as_json(value: Any) -> str:
    """A JSON value as JavaScript writes it: the number 2.0 is `2`."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e21
    return json.dumps(int(value) if whole else value, ensure_ascii=False)


def counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def difference(expected: str, output: str) -> str:
    """What came instead of `expected`, around the first character that differs."""
    if expected == output:
        return f"got {excerpt(output)}"
    differs = next((i for i, (a, b) in enumerate(zip(expected, output, strict=False)) if a != b), None)
    at = min(len(expected), len(output)) if differs is None else differs
    return f"got {excerpt(output, at)}" + (f", which differs from character {at + 1} on" if at else "")


def _line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r") if "\n" in text or "\r" in text else text
