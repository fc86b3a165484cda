"""Data files -> rows for the cases of a job.

A file is surveyed before anything is sent: read through once, with everything that is wrong in it told together. Its
rows are then read again, one at a time, as they are needed. Memory does not grow with the number of rows.
"""

from __future__ import annotations

from array import array
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Final, Never

from runner import source as yaml_source
from runner.datasets import csv_rows, files, json_rows, parquet_rows
from runner.datasets.files import DataError, DataRow, DataSource
from runner.errors import Problem, UsageError
from runner.source import MAX_PROBLEMS, kind
from runner.words import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.datasets.files import Report, Row

MAX_ID: Final = 500  # characters, as in the job's schema

_ID = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What is in a data file. With any problem, the rest is what could be read all the same.

    `columns` are in order of first appearance; `in_every_row` are those that no row lacks.
    """

    columns: tuple[str, ...]
    in_every_row: frozenset[str]
    rows: int
    problems: tuple[Problem, ...]


def survey(source: DataSource) -> Survey:
    """Read the whole file, and say what is in it and all that is wrong with it."""
    found = _Findings()
    columns = _Columns()
    ids = _Ids(source, found.add)
    rows = 0
    try:
        files.check(source)
        if source.format not in ("yaml", "parquet"):
            found.extend(files.text_problems(source))
        for line, values in _read(source, found.add, lenient=True):
            rows += 1
            columns.count(values)
            ids.check(values, rows, line)
        ids.report_duplicates()
        if not rows and not found.total:
            found.add(source.problem("the file has no rows", "each row is one case"))
    except DataError as error:
        found.add(error.problem)
    return Survey(
        columns=columns.names,
        in_every_row=columns.in_every_row(rows),
        rows=rows,
        problems=_with_excerpts(found.sorted(source), source),
    )


def rows(source: DataSource) -> Iterator[DataRow]:
    """The rows of a file that was surveyed, read as they are asked for. Raises DataError at one that can't be read."""
    files.check(source)
    for number, (line, values) in enumerate(_read(source, _refuse, lenient=False), start=1):
        yield DataRow(number, line, values, _id_text(values[_ID]) if _ID in values else None)


def _refuse(problem: Problem) -> Never:
    raise DataError(problem)


# --- formats ---------------------------------------------------------------------------------------------------------


def _read(source: DataSource, report: Report, *, lenient: bool) -> Iterator[Row]:
    """The rows that are in order. Problems are reported; DataError is raised where nothing more can be read.

    `lenient` reads on where bytes are no text, which is told elsewhere.
    """
    if source.format == "parquet":
        yield from parquet_rows.read(source, report)
        return
    if source.format == "yaml":
        yield from _read_yaml(source, report)
        return
    read = {"jsonl": json_rows.read_lines, "json": json_rows.read_array}.get(source.format, csv_rows.read)
    try:
        with files.open_text(source, lenient=lenient) as text:
            yield from read(text, source, report)
    except UnicodeDecodeError:
        raise DataError(source.problem("the file is not UTF-8 any more: it has changed meanwhile")) from None
    except OSError as error:
        raise files.unreadable(source, error) from None


def _read_yaml(source: DataSource, report: Report) -> Iterator[Row]:
    try:
        document = yaml_source.read_list(source.file, shown_as=source.shown)
    except UsageError as error:
        for problem in error.problems:
            report(problem)
        return
    for problem in document.problems:
        report(problem)
    for index, value in enumerate(document.items):
        place = document.place(index)
        if not isinstance(value, dict):
            message = f"each row must be a mapping, and this is {kind(value)}"
            report(Problem(message, place, "write it as `- name: value`"))
        elif not yaml_source.holds_finite(value):
            report(
                Problem("a number of this row is none that JSON can hold", place, "quote it, if it is meant as text")
            )
        else:
            yield place.line, value


# --- what the survey finds -------------------------------------------------------------------------------------------


class _Findings:
    """The first problems, and the number of all."""

    def __init__(self) -> None:
        self.total = 0
        self._first: list[Problem] = []

    def add(self, problem: Problem) -> None:
        self.total += 1
        if len(self._first) < MAX_PROBLEMS:
            self._first.append(problem)

    def extend(self, problems: list[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def sorted(self, source: DataSource) -> list[Problem]:
        """In the order of the file, the last one saying how many more there are."""

        def position(problem: Problem) -> tuple[int, int]:
            assert problem.place is not None
            return problem.place.line, problem.place.column

        problems = sorted(self._first, key=position)
        if self.total > len(problems):
            more = plural(self.total - len(problems), "more problem")
            problems.append(source.problem(f"{more} of this file are not shown", "mend these first"))
        return problems


def _with_excerpts(problems: list[Problem], source: DataSource) -> tuple[Problem, ...]:
    """The problems with the lines that they are on, read in one go."""
    wanted = {
        problem.place.line for problem in problems if problem.place and problem.place.line and not problem.place.source
    }
    if not wanted:
        return tuple(problems)
    lines: dict[int, str] = {}
    with suppress(OSError), files.open_text(source, lenient=True) as text:
        for number, line in enumerate(islice(text, max(wanted)), start=1):
            if number in wanted:
                lines[number] = line.rstrip("\r\n")
    return tuple(
        replace(problem, place=replace(problem.place, source=lines[problem.place.line]))
        if problem.place and problem.place.line in lines
        else problem
        for problem in problems
    )


class _Columns:
    """Counts in how many rows each column is. Most rows have the columns of the one before, which costs little."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._shape: tuple[str, ...] = ()
        self._run = 0  # rows of this shape that are not counted yet

    def count(self, values: Mapping[str, Any]) -> None:
        shape = tuple(values)
        if shape != self._shape:
            self._flush()
            self._shape = shape
        self._run += 1

    @property
    def names(self) -> tuple[str, ...]:
        self._flush()
        return tuple(self._counts)

    def in_every_row(self, rows: int) -> frozenset[str]:
        self._flush()
        return frozenset(name for name, count in self._counts.items() if count == rows)

    def _flush(self) -> None:
        for name in self._shape:
            self._counts[name] = self._counts.get(name, 0) + self._run
        self._run = 0


# --- ids -------------------------------------------------------------------------------------------------------------


def _id_text(value: Any) -> str | None:
    """An id as text; None for what can be none."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


class _Ids:
    """Checks the ids of all rows, if there are any: each there, not too long, and unique.

    Of a million ids only hashes of 8 bytes are kept; the ids that share one are looked up in the file again.
    """

    def __init__(self, source: DataSource, report: Report) -> None:
        self._source = source
        self._report = report
        self._hashes = tuple(array("q") for _ in range(256))  # by their lowest byte: each is small enough for a set
        self._given = 0
        self._lacking: tuple[int, int, int] | None = None  # rows without one so far; number and line of the first

    def check(self, values: Mapping[str, Any], number: int, line: int) -> None:
        if _ID not in values:
            self._count_lacking(number, line)
            return
        self._given += 1
        if self._given == 1 and self._lacking:
            self._report_lacking(*self._lacking)
        text = _id_text(values[_ID])
        if text is None or not text.strip() or len(text) > MAX_ID:
            self._report_wrong(values[_ID], text, number, line)
        else:
            hashed = hash(text)
            self._hashes[hashed & 255].append(hashed)

    def report_duplicates(self) -> None:
        """Tell of each id that an earlier row has already."""
        repeated: set[int] = set()
        for hashes in self._hashes:
            if len(set(hashes)) < len(hashes):
                ordered = sorted(hashes)
                repeated.update(one for one, other in pairwise(ordered) if one == other)
        if not repeated:
            return
        first: dict[str, str] = {}
        for number, (line, values) in enumerate(_read(self._source, lambda _: None, lenient=True), start=1):
            text = _id_text(values.get(_ID))
            if text is None or hash(text) not in repeated:
                continue
            here = _where(number, line)
            earlier = first.setdefault(text, here)
            if earlier is not here:
                self._tell(
                    f"the id `{shorten(text)}` is on {earlier} already", "give each row an id of its own", number, line
                )

    def _count_lacking(self, number: int, line: int) -> None:
        if self._given:
            self._report_lacking(1, number, line)
        elif self._lacking is None:
            self._lacking = (1, number, line)
        else:
            self._lacking = (self._lacking[0] + 1, *self._lacking[1:])

    def _report_lacking(self, count: int, number: int, line: int) -> None:
        message = "this row has no id, and others have one"
        if count > 1:
            message = f"this row and the {plural(count - 1, 'row')} below it have no id, and others have one"
        self._tell(message, "give every row an id, or none", number, line)

    def _report_wrong(self, value: Any, text: str | None, number: int, line: int) -> None:
        if text and text.strip():
            message, hint = f"the id has {len(text):,} characters", f"it may have {MAX_ID} at most"
        elif value is None or text is not None:
            message, hint = "the id is empty", "give every row an id, or remove the column"
        else:
            message, hint = f"the id is {kind(value)}", "an id is a text or a number"
        self._tell(message, hint, number, line)

    def _tell(self, message: str, hint: str, number: int, line: int) -> None:
        if not line:
            message = f"{_where(number, line)}: {message}"
        self._report(self._source.problem(message, hint, line=line))


def _where(number: int, line: int) -> str:
    return f"line {line:,}" if line else f"row {number:,}"
