"""`bedrock-run validate`, `render` and `schema`: what can be said of jobs without calling anything."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import emit, no_command_in_json, say
from runner.console.estimates import faults_told, files_told
from runner.errors import ExitCode, UsageError
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from runner.cases.plan import CaseList
    from runner.records import Job
    from runner.results.earlier import Earlier
    from runner.schema import Name


@click.command(short_help="Check jobs; touches no network, needs no AWS set-up.")
@options.job_files
@options.choice_of_cases
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default="outputs",
    show_default=True,
    help="Folder of the rows, which say what sidecars are the job's own; `-` looks at none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing if all is well.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: every case that cannot be asked.")
def validate(  # noqa: PLR0913 - one for each option
    jobs: tuple[Path, ...],
    *,
    allow_dirs: tuple[Path, ...],
    output: str,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **given: Any,
) -> int:
    """Check jobs and their cases; touches no network, needs no AWS set-up.

    Cases in a list are rendered; of a file of rows its structure, its ids and the columns that templates need are
    checked. Every picture and document is looked at: what would be made to fit is told, and what would be refused,
    which makes the exit code 3. So does a file in the place of a sidecar that the job did not write.
    """
    problems = [*options.problems_of_output(output), *options.problems_of_loudness(quiet=quiet, verbose=verbose)]
    if problems:
        raise UsageError(*problems)
    rows = None if output == "-" else Path(output)
    lists = options.load(jobs, allow_dirs=allow_dirs, written=[rows] if rows else [], **given)
    checked = []
    for cases in lists:
        entry = _checked(cases, rows, tell=None if quiet else say)
        checked.append(entry)
        if not as_json:
            for line in _told(entry, cases.told(), quiet=quiet, verbose=verbose):
                say(line)
    faults = sum(entry["faults"] for entry in checked)
    if as_json:
        from runner.running import preflight

        cases_of_all = sum(entry["cases"] for entry in checked)
        emit({"schema": preflight.SCHEMA, "total": {"cases": cases_of_all, "faults": faults}, "jobs": checked})
    return ExitCode.INCOMPLETE if faults else ExitCode.OK


def _checked(cases: CaseList, rows: Path | None, *, tell: Callable[[str], None] | None) -> dict[str, Any]:
    """What is to be said of a job that is in order, and of cases that would be in error all the same."""
    from runner.bedrock import structured
    from runner.jobs.job import jobs_of
    from runner.running import preflight

    found = None
    if preflight.is_worth_it(cases.job):
        with _earlier(cases.job, rows) as earlier:
            found = preflight.survey(cases, earlier, tell=tell)
    return {
        "name": cases.job.name,
        "path": str(cases.job.path),
        "cases": found.cases if found else cases.count(),
        "faults": len(found.faults) if found else 0,
        "cannot_be_asked": [fault._asdict() for fault in found.faults] if found else [],
        "sidecars_left_out": cases.files_left_out,
        "files": found.files.as_json() if found else None,
        "notes": list(structured.notes(jobs_of(cases.job))),
    }


def _earlier(job: Job, rows: Path | None) -> AbstractContextManager[Earlier | None]:
    from runner.results import earlier_rows

    if job.sidecar is None or rows is None:
        return nullcontext()
    return earlier_rows(rows / f"{job.name}.jsonl", accept_local=False)


def _told(entry: dict[str, Any], cases_told: str, *, quiet: bool, verbose: bool) -> Iterator[str]:
    """What was found of a job, as a person reads it."""
    if entry["faults"]:
        of_all = f"{entry['faults']:,} of {plural(entry['cases'], 'case')}"
        yield f"{entry['path']}: {of_all} cannot be asked and would be in error:"
        yield from faults_told(entry["cannot_be_asked"], verbose=verbose)
    elif not quiet:
        yield f"ok  {entry['path']}: {cases_told}"
    if not quiet:
        files = files_told(entry["files"]) if entry["files"] else None
        yield from (f"    {note}" for note in ([files] if files else []) + entry["notes"])


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
    with suppress(BrokenPipeError):  # of `bedrock-run render job.yaml | head`, which has what it wanted
        for request in preview.requests(options.load(jobs, allow_dirs=allow_dirs, **given)):
            if isinstance(request, dict):
                click.echo(no_command_in_json(json.dumps(request, ensure_ascii=False)))
                continue
            code = ExitCode.INCOMPLETE
            say(f"cannot be asked: {request.message}" + (f"\n    hint: {request.hint}" if request.hint else ""))
    return code


@click.command()
@click.argument("name", type=click.Choice(["job", "result", "summary", "preflight", "diff"]), default="job")
def schema(name: Name) -> int:
    """Print a JSON Schema: of job files, of rows, or of what --json prints (default: job)."""
    from runner import schema as schemas

    click.echo(schemas.text(name), nl=False)
    return ExitCode.OK
