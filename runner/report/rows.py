"""The rows that reports are made of: read as often as wanted, in the order of the cases, never all held in memory."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ESTALE
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runner.records import matrix_label
from runner.records.figures import verdict_of_case
from runner.report.job_paths import found_from_here
from runner.results.checking import NewerRowError, as_row
from runner.results.files import skip_bom
from runner.results.lines import from_line, parse, to_line
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.records import Row, Status


class _Line(NamedTuple):
    """Where a row is, sorted as reports tell of it: by job in the order of the files, case and repetition."""

    job: int
    position: int  # of the case
    case: str
    repeat: int
    file: int
    offset: int


class Rows:
    """The rows of some files, as `outputs/*.jsonl`. Of several rows of one case and repetition the last one counts.

    `jobs` are their names, in the order of the files. `notices` has a line for each file that has lines which are no
    rows, or rows that take the place of those of a file before it; `unreadable` says how many lines are no rows, and
    `newer` which files have rows of a newer version, and why these can't be read. A row takes some 300 bytes of memory.
    """

    def __init__(self, files: Sequence[Path], *, away: bool = False) -> None:
        """Read the files through once. `away`: they do not lie where their run put them, so the paths of job files are
        left as they are; otherwise they lead there from here. Raises OSError.
        """
        self.files = tuple(files)
        self.notices: list[str] = []
        self.unreadable = 0
        self.newer: dict[Path, str] = {}
        self._away = away
        numbers: dict[str, int] = {}
        found: dict[tuple[int, str, int], _Line] = {}
        for number, file in enumerate(self.files):
            self._index(number, file, numbers=numbers, found=found)
        self.jobs = list(numbers)
        self._lines: dict[str, list[_Line]] = {name: [] for name in self.jobs}
        for line in sorted(found.values()):
            self._lines[self.jobs[line.job]].append(line)
        self._files = {
            job: [self.files[number] for number in sorted({line.file for line in lines})]
            for job, lines in self._lines.items()
        }

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[Row]:
        """Every row, read from its file."""
        for job in self.jobs:
            yield from self.of_job(job)

    def files_of(self, job: str) -> list[Path]:
        """The files that the rows of one job are in."""
        return self._files.get(job, [])

    def of_job(self, job: str) -> Iterator[Row]:
        """The rows of one job; none if there is no such job."""
        return self._read(self._lines.get(job, ()))

    def at(self, numbers: Iterable[int]) -> Iterator[Row]:
        """The rows of these numbers, counted from 0 in the order of the cases. Each is read when it is asked for."""
        return self._read(self._every[number] for number in numbers)

    @cached_property
    def _every(self) -> list[_Line]:
        return [line for job in self.jobs for line in self._lines[job]]

    def _read(self, lines: Iterable[_Line]) -> Iterator[Row]:
        opened = [file.open("rb") for file in self.files]
        try:
            for line in lines:
                opened[line.file].seek(line.offset)
                yield self._row(opened[line.file].readline(), line.file)
        finally:
            for file in opened:
                file.close()

    def _row(self, line: bytes, file: int) -> Row:
        try:
            row = as_row(from_line(line))
        except ValueError as error:  # there was a row
            raise OSError(ESTALE, "changed while it was read", str(self.files[file])) from error
        return row if self._away else found_from_here(row, self.files[file])

    def cases(self, job: str | None = None) -> Iterator[CaseResult]:
        """The rows by case, its repetitions together: of every job, or of one."""
        rows = self if job is None else self.of_job(job)
        for _, repetitions in groupby(rows, key=lambda row: (row["job"], row["index"], row["case"])):
            yield CaseResult(tuple(repetitions))

    def _index(
        self, number: int, file: Path, *, numbers: dict[str, int], found: dict[tuple[int, str, int], _Line]
    ) -> None:
        damaged, replaced = 0, 0
        with file.open("rb") as lines:
            offset = skip_bom(lines)
            for line in lines:
                try:
                    row = as_row(parse(line))
                    job = numbers.setdefault(row["job"], len(numbers))
                    name = (job, row["case"], row["repeat"])
                    replaced += name in found and found[name].file != number
                    found[name] = _Line(job, row["index"], row["case"], row["repeat"], number, offset)
                except ValueError as error:
                    damaged += not line.isspace()
                    if isinstance(error, NewerRowError):
                        self.newer[file] = str(error)
                offset += len(line)
        self.unreadable += damaged
        if damaged:
            newer = f" ({self.newer[file]}: update it)" if file in self.newer else ""
            what = plural(damaged, "line is no row", "lines are no rows")
            self.notices.append(f"{file}: {what}, and left out{newer}")
        if replaced:
            self.notices.append(
                f"{file}: {plural(replaced, 'row')} of cases that earlier files have too; the last counts"
            )


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case: its rows, one for each repetition that has finished."""

    rows: tuple[Row, ...]

    @property
    def job(self) -> str:
        return self.rows[0]["job"]

    @property
    def id(self) -> str:
        return self.rows[0]["case"]

    @property
    def status(self) -> Status:
        """The verdict over its repetitions."""
        statuses = [row["status"] for row in self.rows]
        return verdict_of_case(
            passed=self.passes,
            failed=statuses.count("failed"),
            errors=statuses.count("error"),
            repeats=self.rows[0]["repeats"],
            min_pass=self.rows[0]["min_pass"],
        )

    @property
    def passes(self) -> int:
        """How many of its repetitions passed."""
        return sum(row["status"] == "passed" for row in self.rows)

    @property
    def missing(self) -> int:
        """How many of its repetitions have no row."""
        return max(0, self.rows[0]["repeats"] - len(self.rows))

    @property
    def variant(self) -> str:
        """The values of the matrix that it is for, as `model=a, tone=dry`; empty without a matrix."""
        return matrix_label(self.rows[0]["matrix"] or {})

    @property
    def base_id(self) -> str:
        """Its id without the variant, which it shares with the same case of other variants."""
        return self.id.removesuffix(f"[{self.variant}]").removesuffix(self.variant).strip() if self.variant else self.id


class Spool:
    """The rows of a run as they finish, for its reports: those of this run alone, kept ones as they are judged now.

    No report is worth a run: what goes wrong is kept for `rows` to raise, and nothing more is written.
    """

    def __init__(self, path: Path, failure: OSError | None = None) -> None:
        self._path = path
        self._file = path.open("wb")
        self._failure = failure

    def add(self, row: Row) -> None:
        if self._failure is None:
            try:
                self._file.write(to_line(row))
            except OSError as error:
                self._failure = error

    def rows(self) -> Rows:
        """Everything that was added. Raises OSError if some of it could not be kept."""
        if self._failure is not None:
            raise self._failure
        self._file.flush()
        return Rows([self._path], away=True)

    def close(self) -> None:
        with suppress(OSError):  # what could not be written is not wanted any more
            self._file.close()


@contextmanager
def spool() -> Iterator[Spool]:
    """A spool in a temporary folder, which goes with it."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bedrock-run-", ignore_cleanup_errors=True))
            made = Spool(Path(folder, "rows.jsonl"))
        except OSError as error:
            made = Spool(Path(os.devnull), failure=error)
        stack.callback(made.close)
        yield made
