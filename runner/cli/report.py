"""`bedrock-run report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import say, summary_lines
from runner.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from runner.report import Reports
    from runner.report.rows import Rows


@click.command(short_help="Make reports from rows already on disk.")
@click.argument("named", metavar="ROWS.jsonl...", nargs=-1, required=True, type=options.PATH)
@options.report_files(short_names=True)
@click.option(
    "--csv",
    metavar="FILE",
    type=options.PATH,
    help="Write the rows as a table for spreadsheets, in which no cell is a formula; `-` is standard output. Not for a "
    "log of CI: what a reply says stands in it as it is, commands to CI too.  [default: none]",
)
@click.option(
    "--parquet",
    metavar="FILE",
    type=options.PATH,
    help="Write the rows as Parquet; needs the extra `parquet`.  [default: none]",
)
@click.option(
    "--github",
    is_flag=True,
    help="Print GitHub annotations on standard error, and add the Markdown to the file of GITHUB_STEP_SUMMARY.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more, should a report fail because of a bug.")
def report(named: tuple[Path, ...], *, verbose: bool, **given: Any) -> int:
    """Make reports from rows already on disk, of several files together; without an option, print a summary.

    A folder stands for every NAME.jsonl in it. Files of superseded rows are left out, unless only such are named. Of
    several rows of one case the last one counts. The exit code is 0 if the reports were written, whatever the rows say:
    a report doesn't judge, a run does (--replay judges rows again). It is 4 if one could not be written.
    """
    from runner import report as reports
    from runner.report import Reports
    from runner.running import summary as summaries

    files, left_out = _row_files(named)
    wanted = Reports(**given)
    problems = [*_problems_of_rows(named), *_problems_of_reports(wanted, files)]
    if problems:
        raise UsageError(*problems)
    for file in left_out:
        say(f"note: {file} is left out: no case wants its rows any more (only such files named are reported)")
    rows = _rows(files)
    summary = summaries.of_rows(rows)
    if not wanted:
        for line in summary_lines(summary):
            say(line)
    outcome = reports.write(wanted, rows, summary, tell=say, verbose=verbose)
    for written in outcome.written:
        say(f"report: {written}")
    for failure in outcome.failures:
        say(f"error: {failure}")
    return ExitCode.STOPPED if outcome.failures else ExitCode.OK


def _row_files(named: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files that are named, and those in named folders; and the superseded ones among them, which are left out."""
    from runner.report import row_files

    return row_files.wanted(file for path in named for file in (row_files.in_folder(path) if path.is_dir() else [path]))


def _problems_of_rows(named: tuple[Path, ...]) -> Iterator[Problem]:
    from runner.report import row_files

    for path in named:
        if path.is_dir():
            if not row_files.in_folder(path):
                yield Problem(f"there is no NAME.jsonl in {path}", hint="rows are written to outputs/, or below -o DIR")
        elif not path.exists():
            yield Problem(f"there is no file {path}", hint="rows are written to outputs/NAME.jsonl, or below -o DIR")
        elif not path.is_file():
            yield Problem(f"{path} can be read only once", hint="write the rows to a file first")


def _problems_of_reports(wanted: Reports, files: Sequence[Path]) -> Iterator[Problem]:
    from importlib.util import find_spec

    from runner.report.files import STDOUT

    yield from wanted.problems(dict.fromkeys(files, "rows"))
    if wanted.parquet == STDOUT:
        yield Problem("--parquet - would write what is no text to standard output", hint="give it a file")
    if wanted.parquet is not None and find_spec("pyarrow") is None:
        hint = "install it: `pip install 'bedrock-run[parquet]'`"
        yield Problem("writing Parquet needs pyarrow, which is not installed", hint=hint)


def _rows(files: Sequence[Path]) -> Rows:
    from runner.report.rows import Rows

    rows = Rows(files)
    for notice in rows.notices:
        say(f"note: {notice}")
    if not len(rows):
        raise UsageError(*(_no_rows(file, rows.newer.get(file)) for file in files))
    return rows


def _no_rows(file: Path, newer: str | None) -> Problem:
    if newer:
        return Problem(f"{file} has only rows that were {newer}", hint="update bedrock-run")
    return Problem(f"{file} has no rows", hint="is it a file that `bedrock-run` wrote?")
