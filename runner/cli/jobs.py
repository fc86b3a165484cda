"""`bedrock-run validate`, `render` and `schema`: what can be said of jobs without calling anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import no_command_in_json, say
from runner.console.estimates import files_told
from runner.errors import ExitCode
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from runner.cases.plan import CaseList
    from runner.errors import Problem
    from runner.schema import Name


@click.command(short_help="Check jobs; touches no network, needs no AWS set-up.")
@options.job_files
@options.choice_of_cases
@click.option("-q", "--quiet", is_flag=True, help="Say nothing if all is well.")
def validate(jobs: tuple[Path, ...], *, allow_dirs: tuple[Path, ...], quiet: bool, **given: Any) -> int:
    """Check jobs and their cases; touches no network, needs no AWS set-up.

    Cases in a list are rendered; of a file of rows its structure, its ids and the columns that templates need are
    checked. Every picture and document is looked at: what would be made to fit is told, and what would be refused,
    which makes the exit code 3.
    """
    return max(_validate(cases, quiet=quiet) for cases in options.load(jobs, allow_dirs=allow_dirs, **given))


def _validate(cases: CaseList, *, quiet: bool) -> int:
    """Tell what is to be said of a job that is in order, and of cases that would be in error all the same."""
    from runner.bedrock import structured
    from runner.jobs.job import jobs_of
    from runner.running import preflight

    path = cases.job.path
    tell = None if quiet else say
    found = preflight.survey(cases, tell=tell) if preflight.is_worth_it(cases.job) else None
    if found and found.in_error:
        say(f"{path}: {found.in_error:,} of {plural(found.cases, 'case')} cannot be asked and would be in error:")
        for line in _faults_told(found.faults):
            say(f"    {line}")
        if found.in_error > len(found.faults):
            say(f"    and {found.in_error - len(found.faults):,} more")
    elif not quiet:
        say(f"ok  {path}: {cases.told()}")
    if not quiet:
        told = files_told(found.files.as_json()) if found else None
        for note in [*([told] if told else []), *structured.notes(jobs_of(cases.job))]:
            say(f"    {note}")
    return ExitCode.INCOMPLETE if found and found.in_error else ExitCode.OK


def _faults_told(faults: Iterable[Problem]) -> Iterator[str]:
    """The faults, those with the same hint together and their hint once."""
    by_hint: dict[str | None, list[str]] = {}
    for fault in faults:
        by_hint.setdefault(fault.hint, []).append(fault.message)
    for hint, messages in by_hint.items():
        yield from messages
        if hint:
            yield f"    hint: {hint}"


@click.command()
@options.job_files
@options.choice_of_cases
def render(jobs: tuple[Path, ...], *, allow_dirs: tuple[Path, ...], **given: Any) -> int:
    """Print the exact requests as JSONL; sends nothing.

    Cases that cannot be asked are told, and make the exit code 3.
    """
    import json

    from runner.running import preview

    code = ExitCode.OK
    for request in preview.requests(options.load(jobs, allow_dirs=allow_dirs, **given)):
        if isinstance(request, dict):
            click.echo(no_command_in_json(json.dumps(request, ensure_ascii=False)))
            continue
        code = ExitCode.INCOMPLETE
        for line in _faults_told([request]):
            say(line)
    return code


@click.command()
@click.argument("name", type=click.Choice(["job", "result", "summary", "diff"]), default="job")
def schema(name: Name) -> int:
    """Print the JSON Schema of job files, of rows or of what --json prints, of a run or of a diff (default: job)."""
    from runner import schema as schemas

    click.echo(schemas.text(name), nl=False)
    return ExitCode.OK
