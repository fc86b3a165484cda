"""Small help with the wording of messages."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def plural(count: int, word: str, many: str | None = None) -> str:
    """`1 case`, `2 cases`, `12,345 cases`; `many` where the plural is not formed with an s."""
    return f"{count:,} {word if count == 1 else many or f'{word}s'}"


def named(names: Sequence[str], most: int = 3) -> str:
    """`a, b`, or `a, b, c and 2 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shorten(text: str, limit: int = 40) -> str:
    """The text on one line, and cut when it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def beginning(text: str, limit: int) -> str:
    """The text or, if it has more characters than this, its beginning and how many more there are in its row."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters are in the row)"


def nearest(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """The one of `known` that was probably meant, if any is like enough (0 to 1)."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return close[0] if close else None
