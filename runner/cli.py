"""The command line: options -> values -> one call -> an exit code. What a command needs is imported when it runs."""

from __future__ import annotations

import gc
import os
import re
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from runner import __version__
from runner.console import Patient, dry_run_lines, emit, on_terminal, render_problems, say
from runner.errors import ExitCode, Problem, SignalledError, UsageError
from runner.words import nearest, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from runner.cases import CaseList, Selection
    from runner.job import Overrides
    from runner.records import Job
    from runner.results.earlier import Earlier


_PATH = click.Path(path_type=Path)


class _RunByDefault(click.Group):
    """`bedrock-run JOB.yaml` is `bedrock-run run JOB.yaml`: the word `run` may be left out."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h", "--version"}:
            self._refuse_misspelt_command(args[0])
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def _refuse_misspelt_command(self, word: str) -> None:
        if word.isalpha() and not Path(word).exists():
            meant = nearest(word, self.commands, likeness=0.7)
            hint = f"did you mean `{meant}`?" if meant else f"the commands are {', '.join(sorted(self.commands))}"
            raise UsageError(Problem(f"there is no command or job file `{word}`", hint=hint))


@click.group(
    cls=_RunByDefault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 all passed; 1 an assertion failed; 2 wrong usage, nothing sent; 3 some cases without a "
    "reply; 4 stopped early (credentials, access, budget, failures); 70 a bug; 129, 130, 143 stopped by a signal.",
)
@click.version_option(__version__, prog_name="bedrock-run")
def cli() -> None:
    """Run prompts declared in YAML against models on AWS Bedrock, and keep the replies as JSONL.

    The word `run` may be left out: bedrock-run prompts/*.yaml
    """


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def _finite(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):  # not NaN either
        raise click.BadParameter(f"{value:g} is not more than 0")
    return value


def _endpoint(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} is not a URL such as https://bedrock-runtime.us-east-1.amazonaws.com")
    return value


def _region(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[a-z0-9-]+", value):
        raise click.BadParameter(f"{value!r} is not a region such as us-east-1")
    return value


_job_files = click.argument("jobs", metavar="JOB.yaml...", nargs=-1, required=True, type=_PATH)

_choice_of_cases = _options(
    click.option("--model", metavar="ID", help="Use this model instead of the job's."),
    click.option(
        "--var",
        "variables",
        metavar="NAME=VALUE",
        multiple=True,
        help="Set a variable, in place of the job's and the cases'; the value is read as YAML. Repeatable.",
    ),
    click.option(
        "--filter",
        "patterns",
        metavar="GLOB",
        multiple=True,
        help="Only cases whose id is this, or matches it as a glob. Repeatable: one match is enough.",
    ),
    click.option(
        "--limit",
        metavar="N",
        type=click.IntRange(min=1),
        help="Only the first N cases of each job, each combination of a matrix counted.  [default: all]",
    ),
    click.option(
        "--tag",
        "tags",
        metavar="T",
        multiple=True,
        help="Only jobs and cases with this tag. Repeatable: one is enough.",
    ),
    click.option(
        "--allow-dir",
        "allow_dirs",
        metavar="DIR",
        multiple=True,
        type=click.Path(path_type=Path, file_okay=False, exists=True),
        help="Images and files of rows may also lie in this folder. Repeatable.  [default: the job file's own folder]",
    ),
)

_prices = click.option(
    "--prices", metavar="FILE", type=_PATH, help="Prices that go before the package's own, as YAML.  [default: none]"
)

_replies = click.option(
    "--replies", metavar="FILE", type=_PATH, help="Scripted replies for the local emulator, as YAML.  [default: none]"
)


@cli.command()
@_job_files
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    default="outputs",
    show_default=True,
    help="Folder for the rows, one NAME.jsonl for each job; `-` writes them to standard output and keeps none.",
)
@click.option("--local", is_flag=True, help="Run against a private emulator; no AWS account is touched.")
@_replies
@click.option("--endpoint-url", metavar="URL", callback=_endpoint, help="Where to send.  [default: as for the AWS CLI]")
@click.option(
    "--region",
    metavar="NAME",
    callback=_region,
    help="AWS region, in place of the job's.  [default: the job's, AWS_REGION, the profile's, us-east-1]",
)
@click.option("--profile", metavar="NAME", help="AWS profile.  [default: as for the AWS CLI]")
@_choice_of_cases
@click.option("--fresh", is_flag=True, help="Call every case again.  [default: keep the rows that answer a case]")
@click.option("--replay", is_flag=True, help="Never call: a case that no row in the output folder answers is an error.")
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
    callback=_finite,
    help="Requests per minute to pace to, for each model and region.  [default: the job's, or none]",
)
@click.option(
    "--tpm",
    metavar="N",
    type=float,
    callback=_finite,
    help="Tokens per minute to pace to, for each model and region.  [default: the job's, or none]",
)
@click.option(
    "--max-cost",
    metavar="USD",
    type=float,
    callback=_finite,
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
@_prices
@click.option("--dry-run", is_flag=True, help="Count cases, tokens and worst-case cost; send nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the run's summary as one JSON object on standard output.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")
@click.option("-v", "--verbose", is_flag=True, help="Say more: retries, and cases that passed.")
def run(jobs: tuple[Path, ...], output: str, *, local: bool, dry_run: bool, **given: Any) -> int:
    """Run jobs, and write one row for each case to outputs/NAME.jsonl."""
    _check_run_options(local=local, output=output, **given)
    if dry_run:
        return _dry_run(jobs, output=output, local=local, **given)
    from runner.account import Connection
    from runner.run import RunOptions
    from runner.run import run as run_jobs

    return run_jobs(
        RunOptions(
            jobs=jobs,
            output=None if output == "-" else Path(output),
            local=local,
            connection=Connection(
                endpoint_url=given["endpoint_url"], region=given["region"], profile=given["profile"]
            ),
            overrides=_overrides(**given),
            selection=_selection(**given),
            **{
                name: given[name]
                for name in (
                    "allow_dirs", "as_json", "fresh", "max_concurrency", "max_cost", "max_failures", "prices", "quiet",
                    "replay", "replies", "rpm", "tpm", "verbose",
                )
            },
        )
    )  # fmt: skip


@cli.command(short_help="Check jobs; touches no network, needs no AWS set-up.")
@_job_files
@_choice_of_cases
@click.option("-q", "--quiet", is_flag=True, help="Say nothing if all is well.")
def validate(jobs: tuple[Path, ...], *, allow_dirs: tuple[Path, ...], quiet: bool, **given: Any) -> int:
    """Check jobs and their cases; touches no network, needs no AWS set-up.

    Cases in a list are rendered; of a file of rows its structure, its ids and the columns that templates need are
    checked.
    """
    lists = _load(jobs, allow_dirs=allow_dirs, **given)
    if not quiet:
        for cases in lists:
            say(f"ok  {cases.job.path}: {plural(cases.count(), 'case')}")
    return ExitCode.OK


@cli.command()
@_job_files
@_choice_of_cases
def render(jobs: tuple[Path, ...], *, allow_dirs: tuple[Path, ...], **given: Any) -> int:
    """Print the exact requests as JSONL; sends nothing."""
    import json

    from runner import preview

    for request in preview.requests(_load(jobs, allow_dirs=allow_dirs, **given)):
        click.echo(json.dumps(request, ensure_ascii=False))
    return ExitCode.OK


@cli.command()
@click.argument("name", type=click.Choice(["job", "result"]), default="job")
def schema(name: str) -> int:
    """Print the JSON Schema of job files or of rows (default: job)."""
    from runner import schema as schemas

    click.echo(schemas.text("result" if name == "result" else "job"), nl=False)
    return ExitCode.OK


def _duration(_ctx: click.Context, _option: click.Parameter, value: str) -> float:
    from runner import times

    try:
        return times.seconds(value)
    except ValueError:
        raise click.BadParameter(f"{value} is not a duration such as 500ms, 2s or 1m") from None


def _shares(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, float]:
    """`throttle` or `throttle=0.1`: the name of a fault and the share of calls that meet it."""
    shares = {}
    for value in values:
        name, equals, share = value.partition("=")
        try:
            shares[name] = float(share) if equals else 1.0
        except ValueError:
            raise click.BadParameter(f"{value} is not NAME=SHARE, for example throttle=0.1") from None
    return shares


def _list_faults(ctx: click.Context, _option: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if not value:
        return
    from runner.emulator import FAULTS

    width = max(map(len, FAULTS))
    for name, meaning in FAULTS.items():
        click.echo(f"{name:<{width}}  {meaning}")
    ctx.exit()


@cli.command()
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=4599, show_default=True, help="0 takes any free port."
)
@_replies
@click.option(
    "--latency",
    metavar="TIME",
    callback=_duration,
    default="0s",
    show_default=True,
    help="Time to the first byte of a reply.",
)
@click.option(
    "--pace",
    metavar="TIME",
    callback=_duration,
    default="0s",
    show_default=True,
    help="Time between the events of a stream.",
)
@click.option(
    "--rpm", metavar="N", type=float, help="Requests per minute that are granted, per model and region.  [default: any]"
)
@click.option(
    "--tpm",
    metavar="N",
    type=float,
    help="Tokens per minute that are granted, reserved as Bedrock does.  [default: any]",
)
@click.option(
    "--burst",
    metavar="TIME",
    callback=_duration,
    default="1m",
    show_default=True,
    help="How much of a quota may be used at once: what it grants in this time.",
)
@click.option(
    "--fault",
    "faults",
    metavar="NAME=SHARE",
    callback=_shares,
    multiple=True,
    help="Make this share of the calls fail so, all of them without =SHARE; repeatable. --faults lists the names.",
)
@click.option(
    "--faults",
    "list_faults",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_faults,
    help="List the faults and exit.",
)
@click.option("--seed", metavar="N", type=int, default=0, show_default=True, help="Decides which calls meet a fault.")
@click.option("--access-key-id", metavar="ID", help="The only access key that is accepted.  [default: any]")
@click.option("--secret-access-key", metavar="KEY", help="Verify SigV4 signatures with it.  [default: not verified]")
@click.option("--bearer-token", metavar="TOKEN", help="The only bearer token that is accepted.  [default: any]")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each request.")
def emulate(*, faults: dict[str, float], rpm: float | None, tpm: float | None, **given: Any) -> int:
    """Serve the local Bedrock emulator until stopped.

    Point any client at it: AWS_ENDPOINT_URL_BEDROCK_RUNTIME and AWS_ENDPOINT_URL_BEDROCK, with any credentials.
    """
    from runner import emulator

    verbose = given.pop("verbose")
    try:
        settings = emulator.Settings(
            faults=faults,
            requests_per_minute=rpm,
            tokens_per_minute=tpm,
            log=say if verbose else None,
            **given,
        )
        emulator.serve(settings, ready=_tell_where)
    except emulator.SettingsError as error:
        raise UsageError(*(Problem(line) for line in str(error).splitlines())) from None
    return ExitCode.OK


def _tell_where(url: str) -> None:
    click.echo(f"Serving a local Bedrock emulator on {url} (Ctrl-C stops it). Point clients at it with:", err=True)
    click.echo(f"export AWS_ENDPOINT_URL_BEDROCK_RUNTIME={url} AWS_ENDPOINT_URL_BEDROCK={url}")


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
    if output == "-" and sys.stdout is None:
        problems.append(Problem("-o - has no standard output to write to", hint="give a folder, or open it"))
    if output == "-" and given["as_json"]:
        problems.append(Problem("-o - and --json both write to standard output", hint="leave one out"))
    if given["replay"] and given["fresh"]:
        problems.append(Problem("--replay never calls, and --fresh calls every case", hint="leave one out"))
    if output == "-" and given["replay"]:
        problems.append(Problem("--replay has no rows with -o -", hint="give the folder of the rows, or leave -o out"))
    if given["quiet"] and given["verbose"]:
        problems.append(Problem("-q and -v exclude each other", hint="leave one out"))
    if problems:
        raise UsageError(*problems)


def _dry_run(jobs: tuple[Path, ...], *, output: str, local: bool, as_json: bool, **given: Any) -> int:
    import json

    from runner import models, preview
    from runner.guard import check_budgets
    from runner.results import earlier_rows

    def earlier(job: Job) -> AbstractContextManager[Earlier | None]:
        if output == "-" or given["fresh"]:
            return nullcontext()
        return earlier_rows(Path(output, f"{job.name}.jsonl"), accept_local=local or given["replay"])

    known = models.load(given["prices"])
    lists = _load(jobs, **given)
    check_budgets([cases.job for cases in lists], max_cost=given["max_cost"], known=known)
    estimate = preview.dry_run(lists, known, earlier)
    if as_json:
        emit(json.dumps(estimate, indent=2))
    else:
        for line in dry_run_lines(estimate, max_cost=given["max_cost"]):
            say(line)
    return ExitCode.OK


def _load(jobs: tuple[Path, ...], *, allow_dirs: tuple[Path, ...], **given: Any) -> tuple[CaseList, ...]:
    from runner import loading

    return loading.load(jobs, overrides=_overrides(**given), selection=_selection(**given), allow_dirs=allow_dirs)


def _overrides(*, model: str | None, variables: tuple[str, ...], **_: Any) -> Overrides:
    from runner.job import Overrides

    if model is not None and (not model or any(character.isspace() for character in model)):
        raise UsageError(Problem(f"--model {model!r} is no model id", hint="for example amazon.nova-lite-v1:0"))
    return Overrides(model=model, vars=_read_variables(variables))


def _selection(*, patterns: tuple[str, ...], limit: int | None, tags: tuple[str, ...], **_: Any) -> Selection:
    from runner.cases import Selection

    return Selection(filters=patterns, limit=limit, tags=frozenset(tags))


def _read_variables(assignments: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` as given with --var; values are YAML, so `n=3` is a number and `s='3'` a string."""
    from runner import source
    from runner.template import is_name

    variables: dict[str, Any] = {}
    problems = []
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not is_name(name):
            problems.append(Problem(f"--var {assignment} is not NAME=VALUE", hint="for example --var topic=squares"))
            continue
        try:
            variables[name] = source.read_value(value, shown_as=f"--var {name}")
        except UsageError as error:
            problems += error.problems
    if problems:
        raise UsageError(*problems)
    return variables


def main() -> None:
    """The entry point: every way out of the program is an exit code of the design."""
    code = _run_to_exit_code()
    for stream in (sys.stdout, sys.stderr):
        _let_go(stream)
    gc.freeze()  # all memory goes with the process: Python need not look through it for garbage, which takes 30 ms
    sys.exit(int(code or ExitCode.OK))


def _let_go(stream: TextIO | None) -> None:
    """Python flushes its streams at its end and changes the exit code if nobody reads them any more."""
    if stream is None:
        return
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run_to_exit_code() -> int | None:
    code: int | None
    try:
        code = cli.main(standalone_mode=False)
    except UsageError as error:
        code = _tell(error.problems)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except SignalledError as error:
        say(error.message)
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("interrupted")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:  # `bedrock-run render job.yaml | head`
        code = ExitCode.OK
    except OSError as error:
        say(f"stopped: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        code = ExitCode.STOPPED
    except Exception:
        code = _tell_of_bug()
    return code


def _tell(problems: Sequence[Problem]) -> ExitCode:
    def style(text: str, kind: str) -> str:
        return click.style(text, bold=True, fg=None if kind == "bold" else kind)

    plain_text = os.environ.get("NO_COLOR") or not on_terminal()
    Patient().write((render_problems(problems) if plain_text else render_problems(problems, style=style)) + "\n")
    if len(problems) > 1:
        say(f"\n{len(problems)} problems; nothing was sent")
    return ExitCode.USAGE


def _tell_of_bug() -> ExitCode:
    import traceback

    say(traceback.format_exc())
    say("This is a bug in bedrock-run. Rows that were written are kept.")
    return ExitCode.BUG
