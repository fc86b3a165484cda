"""Reports of rows: JUnit, HTML, Markdown, tables, GitHub annotations. A live run and rows on disk take the same way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TextIO, cast

from runner.console import Patient
from runner.errors import Problem
from runner.report import files
from runner.report.beside import Beside
from runner.report.files import STDOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.report.rows import Rows
    from runner.running.summary import Summary


_DATA_SUFFIXES = frozenset({".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".parquet"})  # of jobs, rows and cases


class _Format(NamedTuple):
    """How a report is made: by `writer` of `module`, which is called with (the open file, rows, summary).

    One that `shows_pictures` is also given `tell` and `beside`, the folder for them, or None where there can be none.
    """

    module: str
    writer: str = "write"
    binary: bool = False
    shows_pictures: bool = False


_FORMATS = {
    "junit": _Format("junit"),
    "html": _Format("html", shows_pictures=True),
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
        """Reports that would overwrite each other, or a file that is `taken`: its path, and what it is. And those with
        a name that no report has: where the name was forgotten, a shell's pattern puts the first of its files there.
        """
        known = {_identity(path): what for path, what in taken.items()}
        for name, path in self.files():
            what = known.setdefault(_identity(path), f"the {name} report")
            if what != f"the {name} report":
                shown = "standard output" if path == STDOUT else path
                yield Problem(f"the {name} report would overwrite {what}: {shown}", hint="give it a file of its own")
            elif path.suffix.lower() in _DATA_SUFFIXES - {f".{name}"}:
                hint = "is the name of the report missing before it?"
                yield Problem(f"the {name} report would be the file {path}, which is named as data is", hint=hint)


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
    """What came of reports: a line for each that was written, its file, and one for each that could not be made."""

    written: list[str]
    failures: list[str]


def write(
    wanted: Reports,
    rows: Rows,
    summary: Summary,
    *,
    tell: Callable[[str], None] | None = None,
    verbose: bool = False,
) -> Outcome:
    """Make the reports. Those that could not be made are told: they change nothing about the run.

    What has gone wrong takes a line each; with `verbose` a bug comes with its traceback. Where it takes its time `tell`
    hears how far it is.
    """
    outcome = Outcome([], [])
    for name, path in wanted.files():
        how = _FORMATS[name]
        beside = Beside(path) if how.shows_pictures and files.may_be_replaced(path) else None
        make = partial(_make, how, rows, summary, {"beside": beside, "tell": tell} if how.shows_pictures else {})
        failure = files.write(name, path, make, beside=beside, binary=how.binary, verbose=verbose)
        if failure is not None:
            outcome.failures.append(failure)
        elif path != STDOUT:
            pictures = f" (its pictures are in {beside.folder})" if beside and beside.is_used else ""
            outcome.written.append(f"{path}{pictures}")
    if wanted.github:
        outcome.failures.extend(filter(None, _tell_github(rows, summary, verbose=verbose)))
    return outcome


def _tell_github(rows: Rows, summary: Summary, *, verbose: bool) -> Iterator[str | None]:
    from runner.report import github

    annotate = partial(github.write, cast("TextIO", Patient()), rows, summary)
    yield files.failure("GitHub's annotations", annotate, verbose=verbose)
    if step_summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        append = partial(github.append_summary, Path(step_summary), rows, summary)
        yield files.failure("GitHub's step summary", append, verbose=verbose)


def _make(how: _Format, rows: Rows, summary: Summary, given: Mapping[str, Any], out: IO[Any]) -> None:
    writer = getattr(import_module(f"runner.report.{how.module}"), how.writer)
    writer(out, rows, summary, **given)
