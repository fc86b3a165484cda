"""`bedrock-run report`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import say, summary_lines
from runner.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.report import Reports
    from runner.report.rows import Rows


@click.command(short_help="Make reports from rows already on disk.")
@click.argument("files", metavar="ROWS.jsonl...", nargs=-1, required=True, type=options.PATH)
@options.report_files(short_names=True)
@click.option(
    "--csv",
    metavar="FILE",
    type=options.PATH,
    help="Write the rows as a table for spreadsheets, in which no cell is a formula; `-` is standard output.  "
    "[default: none]",
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
def report(files: tuple[Path, ...], *, verbose: bool, **given: Any) -> int:
    """Make reports from rows already on disk, of several files together; without an option, print a summary.

    Of several rows of one case the last one counts. The exit code is 0 if the reports were written, whatever the rows
    say: a report doesn't judge, a run does (--replay judges rows again). It is 4 if one could not be written.
    """
    from runner import report as reports
    from runner import summary as summaries
    from runner.report import Reports

    wanted = Reports(**given)
    problems = [*_problems_of_rows(files), *_problems_of_reports(wanted, files)]
    if problems:
        raise UsageError(*problems)
    rows = _rows(files)
    summary = summaries.of_rows(rows)
    summary.prices = "their runs"
    if not wanted:
        for line in summary_lines(summary):
            say(line)
    failures = reports.write(wanted, rows, summary, verbose=verbose)
    for failure in failures:
        say(f"error: {failure}")
    return ExitCode.STOPPED if failures else ExitCode.OK


def _problems_of_rows(files: tuple[Path, ...]) -> Iterator[Problem]:
    for file in files:
        if file.is_dir():
            yield Problem(f"{file} is a folder", hint=f"name its files: {file / '*.jsonl'}")
        elif not file.exists():
            yield Problem(f"there is no file {file}", hint="rows are written to outputs/NAME.jsonl, or below -o DIR")
        elif not file.is_file():
            yield Problem(f"{file} can be read only once", hint="write the rows to a file first")


def _problems_of_reports(wanted: Reports, files: tuple[Path, ...]) -> Iterator[Problem]:
    from importlib.util import find_spec

    from runner.report import STDOUT

    yield from wanted.problems(dict.fromkeys(files, "rows"))
    if wanted.parquet == STDOUT:
        yield Problem("--parquet - would write what is no text to standard output", hint="give it a file")
    if wanted.parquet is not None and find_spec("pyarrow") is None:
        hint = "install it: `pip install 'bedrock-run[parquet]'`"
        yield Problem("writing Parquet needs pyarrow, which is not installed", hint=hint)


def _rows(files: tuple[Path, ...]) -> Rows:
    from runner.report.rows import Rows

    rows = Rows(files)
    for notice in rows.notices:
        say(f"note: {notice}")
    if not len(rows):
        problems = [Problem(f"{file} has no rows", hint="is it a file that `bedrock-run` wrote?") for file in files]
        raise UsageError(*problems)
    return rows
