"""OLD and NEW as they are given on the command line: row files, folders of them, or streams."""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import Problem, UsageError
from runner.report import row_files
from runner.report.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@contextmanager
def rows_of(old: Path, new: Path) -> Iterator[tuple[Rows, Rows]]:
    """The rows of both sides, for as long as the context lasts. Raises UsageError with all that is wrong with both."""
    with tempfile.TemporaryDirectory(prefix="bedrock-run-") as scratch:
        problems: list[Problem] = []
        if str(old) == str(new) == "-":
            raise UsageError(Problem("OLD and NEW can't both be standard input"))
        sides = [_read(path, name, Path(scratch), problems) for path, name in ((old, "OLD"), (new, "NEW"))]
        if problems:
            raise UsageError(*problems)
        yield sides[0], sides[1]


def _read(path: Path, name: str, scratch: Path, problems: list[Problem]) -> Rows:
    """The rows of one side; without any if there is a problem, which is added to the others."""
    try:
        files = _files(path, scratch / name)
        rows = Rows(files)
    except OSError as error:
        problems.append(Problem(f"{name} can't be read: {error.strerror or error}: {error.filename or path}"))
        return Rows([])
    rows.notices = [notice.replace(str(scratch / name), str(path)) for notice in rows.notices]
    if not len(rows):
        problems.append(_no_rows(path, name, files))
    return rows


def _no_rows(path: Path, name: str, files: Sequence[Path]) -> Problem:
    hint = "give a file of rows such as outputs/NAME.jsonl, or a folder of them"
    if not files:
        return Problem(f"{name} has no row files: there is no NAME.jsonl in {path}", hint=hint)
    if path.suffix in {".yaml", ".yml"}:
        return Problem(f"{name} is a job file: {path}", hint=f"{hint}, which running the job writes")
    return Problem(f"{name} has no rows: {path}", hint=hint)


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
