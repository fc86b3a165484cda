"""`bedrock-run diff`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import say
from runner.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runner.comparing import Comparison
    from runner.report import Reports

_STYLES: dict[str, dict[str, Any]] = {
    "bold": {"bold": True},
    "dim": {"dim": True},
    "good": {"fg": "green"},
    "bad": {"fg": "red", "bold": True},
    "removed": {"fg": "red", "strikethrough": True},
    "added": {"fg": "green"},
}


@click.command()
@click.argument("old", metavar="OLD", type=options.PATH)
@click.argument("new", metavar="NEW", type=options.PATH)
@click.option(
    "--fail-on-regression",
    is_flag=True,
    help="Exit with 1 if a case fails that did not fail, or is in error that was in none; with 3 if NEW lacks rows, as "
    "those of a whole job.  [default: exit with 0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as one JSON object on standard output.")
@click.option(
    "--report-html",
    "--html",
    "html",
    metavar="FILE",
    type=options.PATH,
    help="Also write it as one HTML file; `-` is standard output.",
)
@click.option(
    "--report-markdown",
    "--markdown",
    "markdown",
    metavar="FILE",
    type=options.PATH,
    help="Also write it for a pull-request comment; `-` is standard output.",
)
@click.option(
    "--filter",
    "patterns",
    metavar="GLOB",
    multiple=True,
    help="Only cases whose id, with or without its variant, is this or matches it as a glob, or which a run calls "
    "so. Repeatable: one match is enough.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say only what regressed, and the verdict.")
@click.option("-v", "--verbose", is_flag=True, help="Tell of every case that changed, with whole outputs.")
def diff(  # noqa: PLR0913 - one parameter for each option
    old: Path,
    new: Path,
    *,
    fail_on_regression: bool,
    as_json: bool,
    html: Path | None,
    markdown: Path | None,
    patterns: tuple[str, ...],
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare two runs: what fails now, what passes now, what else changed, and what it costs.

    OLD and NEW are each a file of rows, a folder of them (outputs/), or - for standard input. Cases are matched by what
    they asked, by their id and by their variables; what has no row is not known to it. Where OLD is a folder without
    rows, every case is added.
    """
    from runner.comparing import as_json as json_text
    from runner.comparing import compare, given, text, verdict
    from runner.report import Reports
    from runner.report.files import STDOUT

    reports = Reports(html=html, markdown=markdown)
    report_on_stdout = STDOUT in (html, markdown)
    if quiet and verbose:
        raise UsageError(Problem("-q and -v exclude each other", hint="leave one out"))
    if as_json and report_on_stdout:
        raise UsageError(Problem("--json and a report can't both go to standard output", hint="give it a file"))
    with given.runs_of(old, new) as (before, after):
        _refuse_overwriting(reports, [*before.rows.files, *after.rows.files])
        comparison = compare(before, after, patterns=patterns)
        _refuse_nothing(comparison, patterns)
        for notice in comparison.notices:
            say(f"note: {notice}")
        if as_json:
            _write(json_text.text(comparison))
        if as_json or report_on_stdout:
            say(verdict.verdict(comparison))
        else:
            tell = text.regressions if quiet else text.lines
            style = _coloured if _colours() else text.without_style
            _write(f"{line}\n" for line in tell(comparison, style=style, verbose=verbose))
        failures = _write_reports(reports, comparison, verbose=verbose)
    for failure in failures:
        say(f"note: {failure}")
    if failures:
        return ExitCode.STOPPED
    return _exit_code(comparison) if fail_on_regression else ExitCode.OK


def _write_reports(wanted: Reports, comparison: Comparison, *, verbose: bool) -> list[str]:
    """Write the reports that are wanted. A line for each that could not be written."""
    from runner.comparing import as_html, as_markdown
    from runner.report import files

    writers = {"html": as_html.write, "markdown": as_markdown.write}
    found = (
        files.write(name, path, partial(writers[name], comparison=comparison), verbose=verbose)
        for name, path in wanted.files()
    )
    return [failure for failure in found if failure]


def _exit_code(comparison: Comparison) -> ExitCode:
    if comparison.incomplete:
        return ExitCode.INCOMPLETE
    return ExitCode.ASSERTION_FAILED if comparison.regressions else ExitCode.OK


def _refuse_overwriting(reports: Reports, rows: Iterable[Path]) -> None:
    problems = list(reports.problems(dict.fromkeys(rows, "rows that are compared")))
    if problems:
        raise UsageError(*problems)


def _refuse_nothing(comparison: Comparison, patterns: tuple[str, ...]) -> None:
    if patterns and not comparison.old.total.cases and not comparison.new.total.cases:
        raise UsageError(Problem(f"no case of OLD or NEW matches --filter {' or '.join(patterns)}"))


def _write(parts: Iterable[str]) -> None:
    """Write to standard output. That its reader has gone, as in `| head`, changes nothing about the verdict."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a locale without UTF-8 has no arrows
    with suppress(BrokenPipeError):
        for part in parts:
            print(part, end="")
        print(end="", flush=True)


def _colours() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in {"dumb", ""} and not os.environ.get("NO_COLOR")


def _coloured(text: str, kind: str) -> str:
    return click.style(text, **_STYLES[kind])
