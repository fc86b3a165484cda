"""Markdown with texts of jobs and models in it, harmless for who reads it on GitHub, on GitLab or in an editor.

Such a text stands in code. There it is shown as it is: no markup, HTML, link, picture, mention or formula, and it ends
no cell and no block. Control characters, and those that turn the direction of writing, are spelled out. No line of it
is a command to CI, should the file be printed in a log.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from runner.console import no_command, one_line, plain
from runner.words import beginning, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TextIO

ROOM = 60_000  # characters of a page: GitHub takes 65,536 of a comment
_LONGEST = 500  # characters of a text, unless another limit is given


def code(text: str, *, limit: int = _LONGEST) -> str:
    """The text on one line: fenced by more backticks than it has in a row. Not for tables, nor within HTML."""
    line = no_command(one_line(beginning(text, limit)))
    if not line.strip():
        return "(empty)"
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def cell(text: str, *, limit: int = _LONGEST) -> str:
    """As `code`, for a table: there a `|` ends the cell, in code too, and how to escape it differs by reader."""
    return code(one_line(text).replace("|", "\\x7c"), limit=limit)


def block(text: str, *, limit: int) -> str:
    """The text line by line."""
    lines = no_command(plain(beginning(text, limit)))
    fence = "`" * max(3, _longest_run(lines) + 1)
    return f"{fence}text\n{lines}\n{fence}"


def html_code(text: str, *, limit: int = _LONGEST) -> str:
    """As `code`, for a line that opens a fold, in which readers take HTML alone."""
    return f"<code>{html.escape(no_command(one_line(beginning(text, limit))))}</code>"


def preformatted(text: str) -> str:
    """Text of any number of lines to stand within `<pre>`, which Markdown takes for HTML until its end."""
    return html.escape(no_command(plain(text)))


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


class Page:
    """A report as it is written, and the room that is left of what GitHub takes. Tables get a part of it alone, so that
    there is always room for what comes after them.
    """

    def __init__(self, out: TextIO, *, room_of_tables: int) -> None:
        self._out = out
        self._used = 0
        self._room_of_tables = room_of_tables

    def add(self, text: str, *, to_spare: int = 0) -> bool:
        """Write the text if that leaves so much room; whether it did."""
        fits = self._used + len(text) <= ROOM - to_spare
        if fits:
            self._out.write(text)
            self._used += len(text)
        return fits

    def add_to_tables(self, text: str) -> bool:
        """Write the text if it fits in the room of tables; whether it did."""
        return self.add(text, to_spare=ROOM - self._room_of_tables)

    def table(self, heads: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        """A table of cells that are Markdown. The lines that there is no room for are counted."""
        if not self.add_to_tables(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}\n"):
            return
        left_out = sum(not self.add_to_tables(f"| {' | '.join(line)} |\n") for line in lines)
        if left_out:
            self.add(f"\n{plural(left_out, 'line')} of this table left out, to stay below GitHub's limits\n")
