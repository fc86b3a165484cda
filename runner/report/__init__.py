"""Reports of rows: JUnit, HTML, Markdown, tables, GitHub annotations. A live run and rows on disk take the same way."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TextIO, cast

from runner.console import Patient
from runner.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.report.rows import Rows
    from runner.summary import Summary

STDOUT = Path("-")
_TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}  # \ud800 has no place in UTF-8


class _Format(NamedTuple):
    """How a report is made: by `writer` of `module`, which is called with (the open file, rows, summary)."""

    module: str
    writer: str = "write"
    binary: bool = False


_FORMATS = {
    "junit": _Format("junit"),
    "html": _Format("html"),
    "markdown": _Format("markdown"),
    "csv": _Format("tables", "write_csv"),
    "parquet": _Format("tables", "write_parquet", binary=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The reports that are wanted: for each the file that it goes to, or None; `STDOUT` is standard output.

    `github`: annotations on standard error, and the Markdown report to the file of GITHUB_STEP_SUMMARY.
    """

    junit: Path | None = None
    html: Path | None = None
    markdown: Path | None = None
    csv: Path | None = None
    parquet: Path | None = None
    github: bool = False

    def __bool__(self) -> bool:
        return self.github or any(self.files())

    def files(self) -> Iterator[tuple[str, Path]]:
        """The format and the file of each report that is wanted."""
        for name in _FORMATS:
            path = getattr(self, name)
            if path is not None:
                yield name, path

    def problems(self, taken: Mapping[Path, str]) -> Iterator[Problem]:
        """Reports that would overwrite each other, or a file that is `taken`: its path, and what it is."""
        known = {_identity(path): what for path, what in taken.items()}
        for name, path in self.files():
            what = known.setdefault(_identity(path), f"the {name} report")
            if what != f"the {name} report":
                shown = "standard output" if path == STDOUT else path
                yield Problem(f"the {name} report would overwrite {what}: {shown}", hint="give it a file of its own")


NO_REPORTS = Reports()


def _identity(path: Path) -> object:
    """What two paths of one file share, through links and names in other cases."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def in_github_actions() -> bool:
    """Whether this process belongs to a step of a GitHub workflow."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


class Outcome(NamedTuple):
    """What came of reports: the files that were written, and a line for each report that could not be made."""

    files: list[Path]
    failures: list[str]


def write(wanted: Reports, rows: Rows, summary: Summary, *, verbose: bool = False) -> Outcome:
    """Make the reports. Those that could not be made are told: they change nothing about the run.

    What has gone wrong takes a line each; with `verbose` a bug comes with its traceback.
    """
    outcome = Outcome([], [])
    for what, make, file in _makers(wanted, rows, summary):
        try:
            make()
        except OSError as error:
            outcome.failures.append(f"{what} could not be written: {error.strerror or error}")
        except Exception as error:
            bug = f"{what} could not be made: {type(error).__name__}: {error}; this is a bug in bedrock-run"
            outcome.failures.append(f"{bug}\n{traceback.format_exc()}" if verbose else f"{bug} (-v tells more)")
        else:
            outcome.files.extend([file] if file else [])
    return outcome


class _Maker(NamedTuple):
    """What a report is called, what makes it, and the file that it goes to if it is one that was asked for."""

    what: str
    make: Callable[[], None]
    file: Path | None = None


def _makers(wanted: Reports, rows: Rows, summary: Summary) -> Iterator[_Maker]:
    for name, path in wanted.files():
        make = partial(_write_file, name, path, rows, summary)
        yield _Maker(f"the {name} report ({path})", make, None if path == STDOUT else path)
    if wanted.github:
        from runner.report import github

        yield _Maker("GitHub's annotations", partial(github.write, cast("TextIO", Patient()), rows, summary))
        if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            yield _Maker("GitHub's step summary", partial(github.append_summary, Path(step_summary), rows, summary))


def _write_file(name: str, path: Path, rows: Rows, summary: Summary) -> None:
    how = _FORMATS[name]
    writer = getattr(import_module(f"runner.report.{how.module}"), how.writer)
    with _opened(path, binary=how.binary) as out:
        writer(out, rows, summary)


@contextmanager
def _opened(path: Path, *, binary: bool) -> Iterator[IO[Any]]:
    """A file that takes the place of the one at `path` when it is whole. What is no file, as a pipe, is written to."""
    how: dict[str, Any] = {"mode": "wb"} if binary else {"mode": "w", **_TEXT}
    if path == STDOUT:
        if sys.stdout is None:
            raise OSError("there is no standard output")
        with suppress(BrokenPipeError), os.fdopen(os.dup(sys.stdout.fileno()), **how) as out:  # as of `| head`
            yield out
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        with path.open(**how) as out:
            yield out
        return
    target = Path(os.path.realpath(path))  # a link stays one
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        with draft.open(**how) as out:
            yield out
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def write_file(name: str, path: Path, make: Callable[[TextIO], None]) -> Iterator[str]:
    """Write another report, whole or not at all. Tells in a line if that could not be done."""
    try:
        with _opened(path, binary=False) as out:
            make(cast("TextIO", out))
    except OSError as error:
        yield f"the {name} report could not be written to {path}: {error.strerror or error}"
