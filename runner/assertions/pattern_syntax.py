"""Regular expressions of `re`, written so that `regex` reads them alike, and how large it makes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

# What a pattern is made of as `re` reads it; the last alternative is a character that stands for itself or is a sign.
_PIECES: Final = r"""
    (?P<escape> \\N\{[^}]*\} | \\. )
  | (?P<set> \[\^?\]? (?: \\. | [^\]\\] )* \] )
  | (?P<remark> \(\?\# (?: \\. | [^)\\] )* \) )
  | (?P<flags> \(\? [a-zA-Z]+ \) )
  | (?P<open> \( (?: \? (?P<on>[a-zA-Z]*) (?: - (?P<off>[a-zA-Z]+) )? : )? )
  | (?P<close> \) )
  | (?P<count> \{ (?: (?P<least>[0-9]+) (?: ,[0-9]* )? | ,[0-9]* ) \} )
  | (?P<other> . )
"""
_PLAIN: Final = re.compile(_PIECES, re.VERBOSE | re.DOTALL)
_VERBOSE: Final = re.compile(
    rf"(?P<blank> [\ \t\n\r\v\f] ) | (?P<comment> \# (?: \\. | [^\n\\] )* ) | {_PIECES}", re.VERBOSE | re.DOTALL
)
_IN_SET: Final = re.compile(r"\\.|\[", re.DOTALL)


class Translation(NamedTuple):
    """A pattern for `regex`. `size` counts what it is made of, each part as often as it must be repeated: compiled,
    `x{3}` is `xxx`, of some hundred bytes each.
    """

    pattern: str
    size: int


@dataclass(slots=True)
class _Group:
    verbose: bool
    size: int = 0
    last: int = 0  # the size of the item that a count would repeat

    def add(self, size: int) -> None:
        self.last = size
        self.size += size

    def repeat(self, times: int) -> None:
        self.size += self.last * max(times - 1, 0)


def translated(pattern: str) -> Translation:
    """Raises what `re.compile` raises of a wrong pattern.

    What `regex` reads otherwise is escaped: a brace that begins no repetition is a fuzzy match to it, a `[` in a set
    may begin a class by name; comments end elsewhere, and without them more whitespace counts.
    """
    groups = [_Group(verbose=bool(re.compile(pattern).flags & re.VERBOSE))]
    written = []
    position = 0
    while position < len(pattern):
        group = groups[-1]
        piece = (_VERBOSE if group.verbose else _PLAIN).match(pattern, position)
        assert piece is not None, "the last alternative matches any character"
        position = piece.end()
        text = piece[0]
        match piece.lastgroup:
            case "open":
                verbose = (group.verbose or "x" in (piece["on"] or "")) and "x" not in (piece["off"] or "")
                groups.append(_Group(verbose))
            case "close":
                groups.pop()
                groups[-1].add(group.size + 1)
            case "count":
                group.repeat(int(piece["least"] or 0))
            case "remark":
                text = "(?#)"
            case "comment":
                text = "#"
            case "set":
                group.add(len(text))
                text = "[" + _IN_SET.sub(lambda found: r"\[" if found[0] == "[" else found[0], text[1:])
            case "escape" | "other":
                group.add(1)
                text = f"\\{text}" if text == "{" or (group.verbose and text.isspace()) else text
        written.append(text)
    return Translation("".join(written), groups[0].size)
