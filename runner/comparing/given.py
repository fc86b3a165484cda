"""OLD and NEW as they are given on the command line: row files, folders of them, or streams."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runner.errors import Problem, UsageError
from runner.report import row_files
from runner.report.rows import Rows
from runner.words import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

_WHERE_ROWS_ARE = "a run writes its rows to outputs/NAME.jsonl, or below -o DIR"


class Run(NamedTuple):
    """A run as it was given: what people call it, and its rows."""

    name: str  # the path, `/` behind that of a folder
    rows: Rows


@contextmanager
def runs_of(old: Path, new: Path) -> Iterator[tuple[Run, Run]]:
    """Both runs, for as long as the context lasts. Raises UsageError with all that is wrong with both.

    A folder without any rows is no mistake as OLD: so looks the state before the first suite.
    """
    with tempfile.TemporaryDirectory(prefix="bedrock-run-") as scratch:
        problems: list[Problem] = []
        if str(old) == str(new) == "-":
            raise UsageError(Problem("OLD and NEW can't both be standard input"))
        runs = [_read(path, side, Path(scratch), problems) for path, side in ((old, "OLD"), (new, "NEW"))]
        if problems:
            raise UsageError(*problems)
        yield runs[0], runs[1]


def _read(path: Path, side: str, scratch: Path, problems: list[Problem]) -> Run:
    """One of the runs; without rows if there is a problem, which is added to the others."""
    name = f"{path}/" if path.is_dir() else "standard input" if str(path) == "-" else str(path)
    try:
        files = _files(path, scratch / side)
        rows = Rows(files, away=files == [scratch / side])
    except OSError as error:
        problems.append(_unreadable(path, side, error))
        return Run(name, Rows([]))
    rows.notices = [notice.replace(str(scratch / side), name) for notice in rows.notices]
    may_be_empty = side == "OLD" and path.is_dir() and not rows.notices
    if not len(rows) and not may_be_empty:
        problems.append(_no_rows(path, side, rows))
    return Run(name, rows)


def _unreadable(path: Path, side: str, error: OSError) -> Problem:
    if path.exists():
        return Problem(f"{side} can't be read: {error.strerror or error}: {error.filename or path}")
    siblings = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
    meant = nearest(path.name, siblings)
    hint = f"did you mean {path.with_name(meant)}?" if meant else _WHERE_ROWS_ARE
    if side == "OLD":
        hint += "; an empty folder stands for no earlier run"
    return Problem(f"{side} does not exist: {path}", hint=hint)


def _no_rows(path: Path, side: str, rows: Rows) -> Problem:
    for newer in rows.newer.values():
        return Problem(f"{side} has only rows that were {newer}: {path}", hint="update bedrock-run")
    hint = "give a file of rows such as outputs/NAME.jsonl, or a folder of them"
    if not rows.files:
        return Problem(f"{side} has no row files: there is no NAME.jsonl in {path}", hint=hint)
    if path.suffix in {".yaml", ".yml"}:
        return Problem(f"{side} is a job file: {path}", hint=f"{hint}, which running the job writes")
    return Problem(f"{side} has no rows: {path}", hint=hint)


def _files(path: Path, copy: Path) -> list[Path]:
    """The row files that `path` stands for. What can be read only once, such as a pipe, goes to the file `copy`."""
    if path.is_dir():
        return row_files.in_folder(path)
    if str(path) == "-":
        with copy.open("wb") as out:
            shutil.copyfileobj(sys.stdin.buffer, out)
        return [copy]
    if path.exists() and not path.is_file():
        with path.open("rb") as stream, copy.open("wb") as out:
            shutil.copyfileobj(stream, out)
        return [copy]
    return [path]
