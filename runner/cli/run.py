"""`bedrock-run run`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli import options
from runner.console import dry_run_lines, emit, say
from runner.errors import ExitCode, Problem, UsageError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from runner.records import Job
    from runner.results.earlier import Earlier


@click.command()
@options.job_files
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default="outputs",
    show_default=True,
    help="Folder for the rows, one NAME.jsonl for each job; `-` writes them to standard output and keeps none.",
)
@click.option("--local", is_flag=True, help="Run against a private emulator; no AWS account is touched.")
@options.replies
@click.option(
    "--endpoint-url", metavar="URL", callback=options.endpoint, help="Where to send.  [default: as for the AWS CLI]"
)
@click.option(
    "--region",
    metavar="NAME",
    callback=options.region,
    help="AWS region, in place of the job's.  [default: the job's, AWS_REGION, the profile's, us-east-1]",
)
@click.option("--profile", metavar="NAME", help="AWS profile.  [default: as for the AWS CLI]")
@options.choice_of_cases
@click.option("--fresh", is_flag=True, help="Call every case again.  [default: keep the rows that answer a case]")
@click.option(
    "--replay",
    is_flag=True,
    help="Never call, never write rows: judge those in the output folder. A case without one is an error.",
)
@click.option(
    "-j",
    "--max-concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="Cap on calls in flight, of all jobs together.  [default: found by itself]",
)
@click.option(
    "--rpm",
    metavar="N",
    type=float,
    callback=options.finite,
    help="Requests per minute to pace to, for each model and region.  [default: the job's, or none]",
)
@click.option(
    "--tpm",
    metavar="N",
    type=float,
    callback=options.finite,
    help="Tokens per minute to pace to, for each model and region.  [default: the job's, or none]",
)
@click.option(
    "--max-cost",
    metavar="USD",
    type=float,
    callback=options.finite,
    help="What this run may spend. A case begins only if it fits in even at its most, with those in flight at theirs.  "
    "[default: no bound]",
)
@click.option(
    "--max-failures",
    metavar="N",
    type=click.IntRange(min=1),
    help="Begin no further case after N that this run called have failed; those in flight still finish.  "
    "[default: no bound]",
)
@options.prices
@click.option(
    "--allow-python",
    is_flag=True,
    help="Let `python` assertions run their code, with all that you may do on this machine.",
)
@options.report_files()
@click.option("--dry-run", is_flag=True, help="Count cases, tokens and worst-case cost; send nothing.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the run's summary, or what --dry-run found, as one JSON object on standard output.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Say more: retries, and cases that passed; with --dry-run every case that cannot be asked.",
)
def run(jobs: tuple[Path, ...], output: str, *, local: bool, dry_run: bool, **given: Any) -> int:
    """Run jobs, and write one row for each case to outputs/NAME.jsonl."""
    _check_run_options(local=local, output=output, **given)
    if dry_run:
        return _dry_run(jobs, output=output, local=local, **given)
    from runner.bedrock.account import Connection
    from runner.report import Reports, in_github_actions
    from runner.running.run import RunOptions
    from runner.running.run import run as run_jobs

    return run_jobs(
        RunOptions(
            jobs=jobs,
            output=None if output == "-" else Path(output),
            local=local,
            connection=Connection(
                endpoint_url=given["endpoint_url"], region=given["region"], profile=given["profile"]
            ),
            overrides=options.overrides(**given),
            selection=options.selection(**given),
            **{
                name: given[name]
                for name in (
                    "allow_dirs", "allow_python", "as_json", "fresh", "max_concurrency", "max_cost", "max_failures",
                    "prices", "quiet", "replay", "replies", "rpm", "tpm", "verbose",
                )
            },
            reports=Reports(
                junit=given["junit"], html=given["html"], markdown=given["markdown"], github=in_github_actions()
            ),
        )
    )  # fmt: skip


def _check_run_options(*, local: bool, output: str, **given: Any) -> None:
    problems = []
    if local:
        problems += [
            Problem(f"--local and --{name.replace('_', '-')} exclude each other", hint="--local serves itself")
            for name in ("endpoint_url", "profile")
            if given[name] is not None
        ]
    elif given["replies"]:
        problems.append(Problem("--replies is for the local emulator", hint="add --local"))
    problems += options.problems_of_output(output)
    if output == "-" and sys.stdout is None:
        problems.append(Problem("-o - has no standard output to write to", hint="give a folder, or open it"))
    if output == "-" and given["as_json"]:
        problems.append(Problem("-o - and --json both write to standard output", hint="leave one out"))
    if given["replay"] and given["fresh"]:
        problems.append(Problem("--replay never calls, and --fresh calls every case", hint="leave one out"))
    if output == "-" and given["replay"]:
        problems.append(Problem("--replay has no rows with -o -", hint="give the folder of the rows, or leave -o out"))
    problems += options.problems_of_loudness(**given)
    if problems:
        raise UsageError(*problems)


def _dry_run(jobs: tuple[Path, ...], *, output: str, local: bool, as_json: bool, **given: Any) -> int:
    from runner import models
    from runner.cases import loading
    from runner.results import earlier_rows
    from runner.running import preview
    from runner.running.guard import check_budgets

    def earlier(job: Job) -> AbstractContextManager[Earlier]:
        return earlier_rows(Path(output, f"{job.name}.jsonl"), accept_local=local or given["replay"])

    def no_earlier(_: Job) -> AbstractContextManager[None]:
        return nullcontext()

    known = models.load(given["prices"])
    written = [Path(output)] if output != "-" else []
    lists = options.load(jobs, **{**given, "allow_python": True}, written=written)  # whose code is not run
    if given["replay"]:
        estimate = preview.dry_replay(lists, earlier)
    else:
        check_budgets([cases.job for cases in lists], max_cost=given["max_cost"], known=known)
        estimate = preview.dry_run(lists, known, no_earlier if output == "-" else earlier, fresh=given["fresh"])
    if as_json:
        emit(estimate)
    else:
        for notice in loading.earlier_sidecars(lists):
            say(f"note: {notice}")
        told = {name: given[name] for name in ("max_cost", "replay", "verbose")}
        for line in dry_run_lines(estimate, **told):
            say(line)
    return ExitCode.INCOMPLETE if estimate["total"]["faults"] else ExitCode.OK
