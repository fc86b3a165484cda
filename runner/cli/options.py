"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from runner.cases.plan import CaseList, Selection
    from runner.jobs.job import Overrides

PATH = click.Path(path_type=Path)


def together(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def finite(_ctx: click.Context, _option: click.Parameter, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):  # not NaN either
        raise click.BadParameter(f"{value:g} is not more than 0")
    return value


def endpoint(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value!r} is not a URL such as https://bedrock-runtime.us-east-1.amazonaws.com")
    return value


def region(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch("[a-z0-9-]+", value):
        raise click.BadParameter(f"{value!r} is not a region such as us-east-1")
    return value


job_files = click.argument("jobs", metavar="JOB.yaml...", nargs=-1, required=True, type=PATH)

choice_of_cases = together(
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
        help="Only cases whose id, with or without its variant, is this or matches it as a glob, or which a run calls "
        "so. Repeatable: one match is enough.",
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

prices = click.option(
    "--prices", metavar="FILE", type=PATH, help="Prices that go before the package's own, as YAML.  [default: none]"
)

replies = click.option(
    "--replies", metavar="FILE", type=PATH, help="Scripted replies for the local emulator, as YAML.  [default: none]"
)

_REPORTS = {
    "junit": "JUnit XML",
    "html": "one HTML file; more than 20 MB of thumbnails go to a folder, report_files beside report.html",
    "markdown": "Markdown",
}


def report_files(*, short_names: bool = False) -> Callable[[Any], Any]:
    """`--report-junit FILE` and so on; with `short_names` also `--junit FILE`."""
    return together(
        *(
            click.option(
                f"--report-{name}",
                *([f"--{name}"] if short_names else []),
                name,
                metavar="FILE",
                type=PATH,
                help=f"Write a report as {form}; `-` is standard output.  [default: none]",
            )
            for name, form in _REPORTS.items()
        )
    )


def problems_of_output(output: str) -> list[Problem]:
    hint = "name one, or leave -o out for `outputs`"
    return [] if output else [Problem("-o names no folder: it is empty", hint=hint)]


def problems_of_loudness(*, quiet: bool, verbose: bool, **_: Any) -> list[Problem]:
    return [Problem("-q and -v exclude each other", hint="leave one out")] if quiet and verbose else []


def load(
    jobs: tuple[Path, ...],
    *,
    allow_dirs: tuple[Path, ...],
    allow_python: bool = True,
    written: Collection[Path] = (Path("outputs"),),
    **given: Any,
) -> tuple[CaseList, ...]:
    """The cases of jobs. Commands that run nothing need no leave to run the code of assertions."""
    from runner.cases import loading

    return loading.load(
        jobs,
        overrides=overrides(**given),
        selection=selection(**given),
        allow_dirs=allow_dirs,
        allow_python=allow_python,
        written=written,
    )


def overrides(*, model: str | None, variables: tuple[str, ...], **_: Any) -> Overrides:
    from runner.jobs.job import Overrides

    if model is not None and (not model or any(character.isspace() for character in model)):
        raise UsageError(Problem(f"--model {model!r} is no model id", hint="for example amazon.nova-lite-v1:0"))
    return Overrides(model=model, vars=_read_variables(variables))


def selection(*, patterns: tuple[str, ...], limit: int | None, tags: tuple[str, ...], **_: Any) -> Selection:
    from runner.cases.plan import Selection

    return Selection(filters=patterns, limit=limit, tags=frozenset(tags))


def _read_variables(assignments: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` as given with --var; values are YAML, so `n=3` is a number and `s='3'` a string."""
    from runner import source
    from runner.templates.environment import is_name

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
