"""Job files -> jobs and their cases, with everything that can be found wrong before anything is sent."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from runner.cases.file_variables import FILE_VARIABLES
from runner.cases.plan import EVERYTHING, CaseList
from runner.cases.rendering import Renderer
from runner.cases.sidecar import VARIABLES
from runner.cases.sidecar_paths import Plans, undefined_names
from runner.datasets.files import DataError
from runner.errors import Problem, UsageError
from runner.jobs.assertions import uses_of_code
from runner.jobs.job import NO_OVERRIDES, of_document
from runner.jobs.job import load as load_jobs
from runner.records import CaseFile, CaseGlob, Text
from runner.templates import body_images
from runner.templates.environment import Templates, is_name
from runner.templates.problems import of_item, placed
from runner.words import named, nearest, plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from runner.cases.plan import Selection
    from runner.errors import Place
    from runner.jobs.job import Overrides
    from runner.records import AssertionSpec, Job
    from runner.source import Document

_NAMED_IDS = 10


def load(  # noqa: PLR0913 - by name: what is chosen, and what it may do
    paths: Sequence[Path],
    *,
    overrides: Overrides = NO_OVERRIDES,
    selection: Selection = EVERYTHING,
    allow_dirs: Sequence[Path] = (),
    allow_python: bool = False,
    written: Collection[Path] = (),
) -> tuple[CaseList, ...]:
    """The cases of the jobs of some files, all found to be in order. Jobs of which no case is chosen are left out.

    Cases in a list are rendered once, before anything is sent. A file of rows is read through once: its structure, its
    ids and the columns that the templates need; a row whose template fails later is a case at fault.
    Raises one UsageError with all problems of all files and cases. What many cases share is said once. Assertions that
    run code of the job are problems too, unless `allow_python` says that they may, or that nothing is going to run. No
    sidecar may have a name of what the run itself writes: of the files `written`, or of rows in the folders `written`.
    """
    jobs, problems = load_jobs(paths, overrides=overrides, allow_dirs=allow_dirs)
    lists = [CaseList(each, selection, allow_dirs) for each in jobs]
    return _checked(lists, problems, allow_python=allow_python, sidecars=Plans(written))


def load_document(
    document: Document,
    *,
    overrides: Overrides = NO_OVERRIDES,
    allow_dirs: Sequence[Path] = (),
    allow_python: bool = False,
) -> CaseList:
    """The cases of one job that is no file; otherwise as `load`."""
    job, problems = of_document(document, overrides, allow_dirs)
    lists = [CaseList(job, allow_dirs=allow_dirs)] if job else []
    (cases,) = _checked(lists, problems, allow_python=allow_python, sidecars=Plans())
    return cases


def _checked(
    lists: Sequence[CaseList], problems: Sequence[Problem], *, allow_python: bool, sidecars: Plans
) -> tuple[CaseList, ...]:
    """The lists, if nothing is wrong with them or with the jobs."""
    problems = (*problems, *(problem for cases in lists for problem in _problems(cases, sidecars)))
    problems = problems or tuple(sidecars.problems())
    if not allow_python:
        problems = (*problems, *(problem for cases in lists for problem in _uses_of_code(cases.job)))
    if problems:
        raise UsageError(*problems)
    if lists and not any(cases.count() for cases in lists):
        raise UsageError(_nothing_selected(lists, lists[0].selection))
    return tuple(lists)


def _problems(cases: CaseList, sidecars: Plans) -> Iterator[Problem]:
    """What is wrong with the cases of a job; what their `sidecars` are to be is noted on the way."""
    yield from _unused_variables(cases.job)
    match cases.job.cases:
        case CaseFile() as file:
            problems = list(_problems_of_file(cases, file))
        case CaseGlob():
            problems = list(_problems_of_glob(cases, sidecars))
        case _:
            problems = list(_problems_of_cases(cases))
    yield from problems or _problems_of_sidecars(cases, sidecars)


def _uses_of_code(job: Job) -> Iterator[Problem]:
    for spec in uses_of_code(_specs(job)):
        yield Problem(
            "a `python` assertion runs code, which has to be allowed",
            spec.place,
            "read the code, and if you trust it, add the option --allow-python",
        )


def _problems_of_cases(cases: CaseList) -> Iterator[Problem]:
    renderer = Renderer(cases.job, cases.allow_dirs)
    found: dict[Problem, list[str]] = {}
    every: set[str] = set()
    for chosen in cases.unrepeated():
        every.add(chosen.id)
        for problem in renderer.examine(chosen)[1]:
            found.setdefault(problem, []).append(chosen.id)
    if every == {"1"}:  # the job's only case, which has no name to speak of
        return iter(found)
    return (_naming_cases(problem, ids) for problem, ids in found.items())


def _problems_of_sidecars(cases: CaseList, sidecars: Plans) -> Iterator[Problem]:
    if cases.job.sidecar is None or isinstance(cases.job.cases, CaseGlob):  # whose files were counted without them
        return
    if isinstance(cases.job.cases, tuple):
        yield from undefined_names(cases)
    sidecars.add(cases)


def _problems_of_glob(cases: CaseList, sidecars: Plans) -> Iterator[Problem]:
    assert isinstance(cases.job.cases, CaseGlob)
    glob = cases.job.cases
    try:
        cases.survey_files(glob, sidecars.add(cases))
    except DataError as error:
        yield error.problem
        return
    if not cases.rows_known:
        message = f"every file that `{glob.pattern}` matches is a sidecar of this job"
        yield Problem(message, glob.place, "write a pattern that its inputs match, such as `photos/*.jpg`")
    yield from _undefined_names(cases.job, ("file",), f"a case of `{glob.pattern}` has the variable `file`")
    yield from _undefined_fields(cases.job, "file", FILE_VARIABLES, f"A file has {', '.join(FILE_VARIABLES)}")


def _problems_of_file(cases: CaseList, file: CaseFile) -> Iterator[Problem]:
    try:
        survey = cases.survey(file)
    except DataError as error:
        yield error.problem
        return
    yield from survey.problems
    if survey.columns:
        columns = ", ".join(f"`{column}`" for column in survey.columns)
        told = f"the columns of {file.path} are {columns}"
        yield from _undefined_names(cases.job, (*survey.columns, "row"), told)
        if "row" not in {*survey.columns, *_variables(cases.job)}:
            yield from _undefined_fields(cases.job, "row", survey.columns, told)


def _undefined_names(job: Job, columns: Sequence[str], told: str) -> Iterator[Problem]:
    """What the templates need and neither the job nor its rows have."""
    defined = {*columns, *body_images.FUNCTIONS, *_variables(job)}
    templates = Templates(job.path.parent)
    for text in _texts(job):
        known = defined | {*VARIABLES} if job.sidecar is not None and text is job.sidecar.text else defined
        for name, line in templates.names(text).needed.items():
            if name not in known:
                meant = nearest(name, sorted(known))
                guess = f"did you mean `{_as_written(meant, text.place)}`? " if meant else ""
                yield Problem(f"undefined variable: `{name}`", placed(text, line), f"{guess}{told}")


def _variables(job: Job) -> Iterator[str]:
    """The variables that every case has, whatever its row."""
    yield from (*job.vars, *job.fixed_vars)
    for variant in job.variants:
        yield from variant.job.vars


def _undefined_fields(job: Job, owner: str, known: Sequence[str], told: str) -> Iterator[Problem]:
    """What the templates need of `file` or `row`, and no file and no row has."""
    if owner in job.fixed_vars:
        return
    templates = Templates(job.path.parent)
    for text in _texts(job):
        for name, line in templates.fields(text, owner):
            if name not in known:
                meant = nearest(name, known)
                guess = f"did you mean `{_field(owner, meant, text.place)}`? " if meant else ""
                message = f"undefined variable: `{_field(owner, name, text.place)}`"
                yield Problem(message, placed(text, line), f"{guess}{told}")


def _field(owner: str, name: str, place: Place) -> str:
    """A field as a template at `place` names it."""
    return f"{owner}.{name}" if is_name(name) else of_item(owner, name, place)


def _as_written(name: str, place: Place) -> str:
    """How a template at `place` gets at a column."""
    return name if is_name(name) else of_item("row", name, place)


def _unused_variables(job: Job) -> Iterator[Problem]:
    """A variable of the matrix that no template names does nothing: most likely it is misspelt."""
    axes = {name for variant in job.variants for name in variant.job.fixed_vars}
    if not axes:
        return
    templates = Templates(job.path.parent)
    found = [templates.names(text) for text in _texts(job)]
    if any(names.includes for names in found):
        return
    used = frozenset[str]().union(*(names.all for names in found))
    for name in sorted(axes - used - job.fixed_vars.keys()):
        meant = nearest(name, ["model", "max_tokens", "temperature", "top_p", "top_k", *sorted(used)])
        yield Problem(
            f"no template uses `{name}` of the matrix",
            job.matrix_place,
            f"did you mean `{meant}`?" if meant else f"write {{{{ {name} }}}} where it is to stand",
        )


def unused_overrides(jobs: Sequence[Job], overrides: Overrides) -> Iterator[str]:
    """A note on each variable of the command line that no job names: it may be misspelt."""
    used: set[str] = set()
    for each in jobs:
        templates = Templates(each.path.parent)
        found = [templates.names(text) for text in _texts(each)]
        if any(names.includes for names in found):
            return
        used.update(*(names.all for names in found))
    for name in overrides.vars:
        if name not in used:
            meant = nearest(name, sorted(used))
            yield f"no job uses the variable `{name}` of --var" + (f"; did you mean `{meant}`?" if meant else "")


def earlier_sidecars(lists: Sequence[CaseList]) -> Iterator[str]:
    """A note on each job whose pattern matches what it has written before, under other names than it would now."""
    for cases in lists:
        if cases.earlier_sidecars and isinstance(cases.job.cases, CaseGlob):
            files = plural(cases.earlier_sidecars, "file is a sidecar", "files are sidecars")
            yield (
                f"{cases.job.name}: {files} that earlier runs of the job wrote, and no cases, "
                f"though `{cases.job.cases.pattern}` matches them"
            )


def _texts(job: Job) -> Iterator[Text]:
    """Every template of a job."""
    if job.system is not None:
        yield job.system
    for turn in job.turns:
        yield from (turn.text, *turn.attached)
    yield from _strings(job.body)
    if job.sidecar is not None:
        yield from filter(None, (job.sidecar.path, job.sidecar.text))
    for spec in _specs(job):
        yield from _strings(spec.value)
        for part in spec.assertions:
            yield from _strings(part.value)


def _specs(job: Job) -> Iterator[AssertionSpec]:
    """Every assertion that the job file has."""
    yield from job.assertions
    for case in job.cases if isinstance(job.cases, tuple) else ():
        yield from case.assertions


def _strings(value: Any) -> Iterator[Text]:
    if isinstance(value, Text):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _naming_cases(problem: Problem, ids: list[str]) -> Problem:
    unique = list(dict.fromkeys(ids))
    plural = "s" if len(unique) > 1 else ""
    return Problem(f"{problem.message} (case{plural} {named(unique)})", problem.place, problem.hint)


def _nothing_selected(lists: Sequence[CaseList], selection: Selection) -> Problem:
    asked = [f"--filter {pattern}" for pattern in selection.filters]
    asked += [f"--tag {tag}" for tag in sorted(selection.tags)]
    if selection.limit is not None:
        asked.append(f"--limit {selection.limit}")
    every = [cases.whole() for cases in lists]
    ids = (
        f"{chosen.id} of {cases.job.name}" if len(every) > 1 else chosen.id
        for cases in every
        for chosen in cases.unrepeated()
    )
    shown = ", ".join(islice(ids, _NAMED_IDS)) + ("" if next(ids, None) is None else ", ...")
    tags = sorted({tag for cases in every for tag in _tags(cases.job)})
    hint = f"the cases are: {shown}; the tags are: {', '.join(tags) or 'none'}"
    return Problem(f"no case matches {' '.join(asked)}", hint=hint)


def _tags(job: Job) -> frozenset[str]:
    of_cases = [spec.tags for spec in job.cases] if isinstance(job.cases, tuple) else []
    return job.tags.union(*of_cases)
