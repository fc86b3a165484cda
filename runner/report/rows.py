"""The rows that reports are made of: read as often as wanted, in the order of the cases, never all held in memory."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from errno import ESTALE
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from runner.records import matrix_label
from runner.results.lines import from_line, parse, to_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.records import Row, Status

_NOT_A_ROW = (ValueError, LookupError, TypeError)  # what reading anything else as a row may raise
_LATER_FIELDS: dict[str, Any] = {
    "matrix": None,
    "tags": [],
    "repeats": 1,
    "judgements": [],
    "min_pass": 1,
}  # that rows of earlier versions lack
_LATER_OF_VERDICTS = {"expected": "", "actual": None, "score": None}


class _Line(NamedTuple):
    """Where a row is, sorted as reports tell of it: by job in the order of the files, case and repetition."""

    job: int
    position: int  # of the case
    repeat: int
    file: int
    offset: int


class Rows:
    """The rows of some files, as `outputs/*.jsonl`. Of several rows of one case and repetition the last one counts.

    `notices` has a line for each file that has lines which are no rows. A row takes some 200 bytes of memory.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        """Read the files through once. Raises OSError."""
        self.files = tuple(files)
        self.jobs: list[str] = []
        self.notices: list[str] = []
        found: dict[tuple[int, str, int], _Line] = {}
        for number, file in enumerate(self.files):
            found.update(self._index(number, file))
        self._lines = sorted(found.values())

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[Row]:
        """Every row, read from its file."""
        return self.at(range(len(self)))

    def at(self, numbers: Iterable[int]) -> Iterator[Row]:
        """The rows of these numbers, counted from 0 in the order of the cases. Each is read when it is asked for."""
        opened = [file.open("rb") for file in self.files]
        try:
            for number in numbers:
                line = self._lines[number]
                opened[line.file].seek(line.offset)
                yield self._row(opened[line.file].readline(), line.file)
        finally:
            for file in opened:
                file.close()

    def _row(self, line: bytes, file: int) -> Row:
        try:
            return _with_later_fields(from_line(line))
        except _NOT_A_ROW as error:  # there was a row
            raise OSError(ESTALE, "changed while it was read", str(self.files[file])) from error

    def cases(self) -> Iterator[CaseResult]:
        """The rows by case: its repetitions together."""
        for _, rows in groupby(self, key=lambda row: (row["job"], row["index"], row["case"])):
            yield CaseResult(tuple(rows))

    def _index(self, number: int, file: Path) -> Iterator[tuple[tuple[int, str, int], _Line]]:
        offset, damaged = 0, 0
        with file.open("rb") as lines:
            for line in lines:
                try:
                    row = cast("Row", parse(line))
                    job = self._job(row["job"])
                    row["status"], row["output"], row["assertions"]
                    name = (job, row["case"], row["repeat"])
                    yield name, _Line(job, row["index"], row["repeat"], number, offset)
                except _NOT_A_ROW:
                    damaged += not line.isspace()
                offset += len(line)
        if damaged:
            lines_ = "line is no row" if damaged == 1 else "lines are no rows"
            self.notices.append(f"{file}: {damaged:,} {lines_}, and left out")

    def _job(self, name: str) -> int:
        if name not in self.jobs:
            self.jobs.append(name)
        return self.jobs.index(name)


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
        """`error` if a repetition is; `failed` if more of them are than `min_pass` allows."""
        statuses = [row["status"] for row in self.rows]
        if "error" in statuses:
            return "error"
        first = self.rows[0]
        return "failed" if statuses.count("failed") > first["repeats"] - first["min_pass"] else "passed"

    @property
    def variant(self) -> str:
        """The values of the matrix that it is for, as `model=a, tone=dry`; empty without a matrix."""
        return matrix_label(self.rows[0]["matrix"] or {})

    @property
    def base_id(self) -> str:
        """Its id without the variant, which it shares with the same case of other variants."""
        return self.id.removesuffix(f"[{self.variant}]").removesuffix(self.variant).strip() if self.variant else self.id


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The cases of a job with a matrix. Each has a result for each of the `variants`; None where there is no row."""

    variants: tuple[str, ...]
    cases: tuple[tuple[str, tuple[CaseResult | None, ...]], ...]  # by id without the variant


def side_by_side(cases: Iterable[CaseResult]) -> SideBySide | None:
    """The variants of the cases of one job beside each other; None if it has none, or only one."""
    table: dict[str, dict[str, CaseResult]] = {}
    variants: dict[str, None] = {}
    for case in cases:
        variants.setdefault(case.variant)
        table.setdefault(case.base_id, {})[case.variant] = case
    if len(variants) < 2:
        return None
    return SideBySide(
        tuple(variants),
        tuple((base_id, tuple(found.get(variant) for variant in variants)) for base_id, found in table.items()),
    )


class Spool:
    """The rows of a run as they finish, for its reports: those of this run alone, kept ones as they are judged now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")

    def add(self, row: Row) -> None:
        self._file.write(to_line(row))

    def rows(self) -> Rows:
        """Everything that was added."""
        self._file.flush()
        return Rows([self._path])

    def close(self) -> None:
        self._file.close()


@contextmanager
def spool() -> Iterator[Spool]:
    """A spool in a temporary folder, which goes with it. Raises OSError."""
    with tempfile.TemporaryDirectory(prefix="bedrock-run-") as folder:
        made = Spool(Path(folder, "rows.jsonl"))
        try:
            yield made
        finally:
            made.close()


def _with_later_fields(row: Row) -> Row:
    if row.keys() >= _LATER_FIELDS.keys():
        return row
    source = {"path": f"{row['job']}.yaml", "line": 1, "row": None}
    verdicts = [{**_LATER_OF_VERDICTS, **verdict} for verdict in row["assertions"]]
    return cast("Row", {**_LATER_FIELDS, "source": source, **row, "assertions": verdicts})
