"""CSV and TSV as people have them: read as Excel reads them, or refused; never shifted or swallowed.

Quotes: only a quote at the very start of a cell opens a quoted one; inside, a quote is written twice; elsewhere it is a
character. A header's name is stripped of white space; every other cell stays the text it is. A line without anything is
no row (an empty cell of a file with one column is written `""`). A column without a name is left out where
all its cells are empty, as Excel writes them.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from itertools import compress, pairwise
from typing import TYPE_CHECKING, Final

from runner.datasets.files import DataError
from runner.words import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Never, TextIO

    from runner.datasets.files import DataSource, Report, Row
    from runner.errors import Problem

MAX_CELL: Final = 10_000_000  # characters: no model reads as much, so it is a quote that is not closed

_DELIMITERS: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_MAX_HEADER: Final = 100  # lines that are looked at for the end of a header with quoted line ends
_SEP_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]++|"")*+"')
_QUOTE_HINT = 'close it where the cell ends; a quote inside a quoted cell is written twice: `"5"" nail"`'


def read(text: TextIO, source: DataSource, report: Report) -> Iterator[Row]:
    """The rows of an open file. Raises DataError where the header leaves nothing to be read."""
    csv.field_size_limit(MAX_CELL)
    records = _Records(text, source, report)
    header = _Header(records, source, report)
    width = len(header.names)
    named = [bool(name) for name in header.names]
    names = tuple(compress(header.names, named))
    for cells in records:
        if len(cells) != width:
            is_blank = len(cells) < 2 and not records.text.strip()
            if not is_blank and not records.is_doubtful:
                report(_ragged(cells, width, records))
        elif len(names) == width:
            yield records.line, dict(zip(names, cells, strict=True))
        else:
            header.report_unnamed(cells, records.line)
            yield records.line, dict(zip(names, compress(cells, named), strict=True))


class _Records:
    """The records of a CSV file, as lists of cells. Goes on after one that is wrongly quoted.

    While a record is handled, `line` is where it starts and `text` is how it is written.
    """

    def __init__(self, text: TextIO, source: DataSource, report: Report) -> None:
        self.line = 1
        self.source = source
        self.report = report
        self._lines = iter(text)
        self._again: deque[str] = deque()  # lines that are read a second time
        self._held: list[str] = []  # the lines of this record
        self._doubtful_until = 0
        self.delimiter = self._find_delimiter()
        self._records = self._read()

    def __iter__(self) -> Iterator[list[str]]:
        return self._records

    @property
    def text(self) -> str:
        return "".join(self._held)

    @property
    def is_doubtful(self) -> bool:
        """Whether this may be the inside of a cell that a wrong quote left open: its shape says nothing then."""
        return self.line <= self._doubtful_until

    def spot(self, index: int) -> tuple[int, int]:
        """The line and column of a character of `text`."""
        for number, line in enumerate(self._held):
            if index < len(line.rstrip("\r\n")) + 1 or number == len(self._held) - 1:
                return self.line + number, index + 1
            index -= len(line)
        return self.line, 1

    def cell_starts(self) -> tuple[list[int], int]:
        """Where the cells start in `text`, up to one that is wrongly quoted, and where the last one of them ends."""
        text = self.text
        unquoted = re.compile(f"[^{re.escape(self.delimiter)}\r\n]*+")
        starts = [0]
        while True:
            start = starts[-1]
            cell = (_QUOTED if text.startswith('"', start) else unquoted).match(text, start)
            if cell is None:
                return starts, len(text)
            if not text.startswith(self.delimiter, cell.end()):
                return starts, cell.end()
            starts.append(cell.end() + 1)

    def _read(self) -> Iterator[list[str]]:
        while True:
            try:
                for cells in csv.reader(self._feed(), delimiter=self.delimiter, strict=True):
                    yield cells
                    self.line += len(self._held)
                    self._held.clear()
            except csv.Error as error:
                self._report_quote(too_long="limit" in str(error))
            else:
                return

    def _feed(self) -> Iterator[str]:
        hold = self._held.append
        while self._again:
            hold(self._again[0])
            yield self._again.popleft()
        for line in self._lines:
            hold(line)
            yield line

    def _report_quote(self, *, too_long: bool) -> None:
        """Tell where the wrong quote is, and go on with the line after the one where its cell starts."""
        starts, end = self.cell_starts()
        start = starts[-1]
        if too_long:
            start = next((one for one, following in pairwise([*starts, end]) if following - one > MAX_CELL), start)
        line, column = self.spot(start)
        last = self.line + len(self._held) - 1
        if too_long:
            message = f"the cell that starts here has more than {MAX_CELL:,} characters: is its quote never closed?"
            last = sys.maxsize
        elif end == len(self.text):
            message = "the quote that opens here is never closed"
        elif line == last:
            line, column = self.spot(end)
            message = "text follows the closing quote of a cell"
        else:
            message = f"the quote that opens here is closed only on line {self.spot(end)[0]}, where text follows it"
        self.report(self.source.problem(message, _QUOTE_HINT, line=line, column=column))
        handled = line - self.line + 1
        self._again.extendleft(reversed(self._held[handled:]))
        self._doubtful_until = max(self._doubtful_until, last)
        self._held.clear()
        self.line += handled

    def _find_delimiter(self) -> str:
        """The delimiter that is said, by the job or by the `sep=` that Excel writes, or the header's only one."""
        first = self._skip_blank()
        said = _SEP_LINE.fullmatch(first)
        if said:
            self.line += 1
            first = self._skip_blank()
        header = self._whole_header(first)
        if self.source.delimiter is not None:
            return self.source.delimiter
        if said:
            return said[1]
        if self.source.format == "tsv":
            return "\t"
        unquoted = _QUOTED.sub("", header)
        found = [delimiter for delimiter in _DELIMITERS if delimiter in unquoted]
        if len(found) > 1:
            names = " and ".join(_DELIMITERS[delimiter] for delimiter in found)
            hint = 'say which separates the cells, as in `cases: {file: ..., delimiter: ";"}`; or quote the other'
            raise DataError(
                self.source.problem(f"the header has more than one delimiter: {names}", hint, line=self.line)
            )
        return found[0] if found else ","

    def _skip_blank(self) -> str:
        for line in self._lines:
            if line.strip():
                return line
            self.line += 1
        raise DataError(self.source.problem("the file is empty"))

    def _whole_header(self, first: str) -> str:
        """The header with the line ends that are quoted in it; its lines are left to be read."""
        self._again.append(first)
        header = first
        while header.count('"') % 2 and len(self._again) < _MAX_HEADER:
            line = next(self._lines, None)
            if line is None:
                break
            self._again.append(line)
            header += line
        return first if header.count('"') % 2 else header


class _Header:
    """The names of the columns, in order; an empty one where there is none."""

    def __init__(self, records: _Records, source: DataSource, report: Report) -> None:
        self._source = source
        self._report = report
        records.report = _refuse  # with a broken header no row is sure
        self.names = [
            name.lstrip("\ufeff").strip() for name in next(iter(records))
        ]  # a second BOM comes of joining files
        records.report = report
        self._spots = [records.spot(start) for start in records.cell_starts()[0]]
        self._told: set[int] = set()
        if not any(self.names):
            raise DataError(source.problem("the header has no names", "name the columns", line=records.line))
        self._report_duplicates()

    def _report_duplicates(self) -> None:
        first: dict[str, int] = {}
        for position, name in enumerate(self.names):
            if name and first.setdefault(name, position) != position:
                message = f"columns {first[name] + 1} and {position + 1} are both named `{shorten(name)}`"
                self._tell(position, message, "rename or remove one of the two")

    def report_unnamed(self, cells: list[str], line: int) -> None:
        """Tell, once each, of columns without a name that have a value."""
        for position, name in enumerate(self.names):
            if not name and cells[position] and position not in self._told:
                self._told.add(position)
                message = f"column {position + 1} has no name, and line {line} has `{shorten(cells[position])}` in it"
                self._tell(position, message, "name the column, or remove what is in it")

    def _tell(self, position: int, message: str, hint: str) -> None:
        line, column = self._spots[position]
        self._report(self._source.problem(message, hint, line=line, column=column))


def _refuse(problem: Problem) -> Never:
    raise DataError(problem)


def _ragged(cells: list[str], width: int, records: _Records) -> Problem:
    message = f"this row has {plural(len(cells), 'cell')}, and the header has {width:,}"
    name = _DELIMITERS.get(records.delimiter, f"`{records.delimiter}`")
    starts, end = records.cell_starts()
    index = end
    if any(cell.startswith(' "') for cell in cells):
        hint = "remove the space before the quote: a quote opens a cell only at its very start"
    elif len(cells) > width:
        index = starts[width]
        hint = f"put a cell that has a {name} in it in double quotes"
    else:
        hint = "add the missing cells, empty or not; a quote that is not closed may have swallowed them"
    line, column = records.spot(index)
    return records.source.problem(message, hint, line=records.line, column=column if line == records.line else 1)
