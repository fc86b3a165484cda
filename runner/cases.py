"""Job -> cases: chosen, rendered, with stable ids and keys. Made one at a time, as they are needed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from runner import assertions, media
from runner.errors import Problem, UsageError
from runner.job import NO_OVERRIDES
from runner.job import load as load_jobs
from runner.records import Assertion, Case, CaseSpec, Message, Request, Text
from runner.template import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.job import Overrides
    from runner.records import AssertionSpec, Image, Job, Turn

_EMPTY_HINT = "Bedrock refuses a turn without text or images: write something, or check the variables in it"
_NAMED_CASES = 3  # how many cases a problem names before it says how many more there are


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which cases to run: ids matching one of `filters` (globs), the first `limit` of each job, one of `tags`."""

    filters: tuple[str, ...] = ()
    limit: int | None = None
    tags: frozenset[str] = frozenset()


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class _Chosen:
    index: int
    id: str
    spec: CaseSpec


def selected(job: Job, selection: Selection) -> Iterator[_Chosen]:
    """The cases of the job that are to run, in order, not yet rendered."""
    specs = job.cases or (CaseSpec(place=job.place),)
    taken = 0
    for index, spec in enumerate(specs):
        if selection.limit is not None and taken >= selection.limit:
            return
        case_id = spec.id if spec.id is not None else str(index + 1)
        if selection.filters and not any(fnmatchcase(case_id, pattern) for pattern in selection.filters):
            continue
        if selection.tags and not selection.tags & (job.tags | spec.tags):
            continue
        taken += 1
        yield _Chosen(index, case_id, spec)


def indexes(job: Job, selection: Selection) -> Iterator[int]:
    """The positions, in the job, of the cases that are to run."""
    return (chosen.index for chosen in selected(job, selection))


class Renderer:
    """Renders the cases of one job. Paths in the job are relative to its folder, or within one of `allow_dirs`."""

    def __init__(self, job: Job, allow_dirs: Sequence[Path] = ()) -> None:
        self._job = job
        self._root = job.path.parent
        self._allow_dirs = tuple(allow_dirs)
        self._templates = Templates(self._root)

    def cases(self, selection: Selection) -> Iterator[Case]:
        """Each selected case, rendered. Raises UsageError at a case that can't be."""
        for chosen in selected(self._job, selection):
            case, problems = self._render(chosen)
            if problems:
                raise UsageError(*problems)
            yield case

    def problems(self, selection: Selection) -> Iterator[tuple[str, Problem]]:
        """Everything that is wrong with any selected case, with the case's id."""
        for chosen in selected(self._job, selection):
            for problem in self._render(chosen)[1]:
                yield chosen.id, problem

    def _render(self, chosen: _Chosen) -> tuple[Case, list[Problem]]:
        problems: list[Problem] = []
        variables = {**self._job.vars, **chosen.spec.vars}
        request = self._request(variables, problems)
        specs = (*self._job.assertions, *chosen.spec.assertions)
        case = Case(
            job=self._job,
            id=chosen.id,
            index=chosen.index,
            key=key(self._job.model, request, repeat=0),
            vars=variables,
            request=request,
            assertions=tuple(self._assertion(spec, variables, problems) for spec in specs),
        )
        return case, problems

    def _request(self, variables: Mapping[str, Any], problems: list[Problem]) -> Request:
        job = self._job

        def text(template: Text) -> str:
            return self._text(template, variables, problems)

        def message(turn: Turn) -> Message:
            images = [self._image(template, text(template), problems) for template in turn.images]
            rendered = text(turn.text)
            if not images and not rendered.strip() and not any(known.place == turn.text.place for known in problems):
                problems.append(Problem(f"the text of this {turn.role} turn is empty", turn.text.place, _EMPTY_HINT))
            return Message(role=turn.role, text=rendered, images=tuple(image for image in images if image is not None))

        system = "" if job.system is None else text(job.system)
        return Request(
            system=system if system.strip() else None,  # Converse refuses an empty one, which can only mean none
            messages=tuple(message(turn) for turn in job.turns),
            inference=job.inference,
            extra=job.extra,
            body=_map_strings(job.body, text),
        )

    def _text(self, template: Text, variables: Mapping[str, Any], problems: list[Problem]) -> str:
        try:
            return self._templates.render(template, variables)
        except UsageError as error:
            problems.extend(error.problems)
            return ""

    def _image(self, template: Text, path: str, problems: list[Problem]) -> Image | None:
        if any(problem.place == template.place for problem in problems):
            return None  # its path could not be rendered, which has been said
        try:
            return media.describe(path, self._root, allow_dirs=self._allow_dirs)
        except media.MediaError as error:
            problems.append(Problem(error.message, template.place, error.hint))
            return None

    def _assertion(self, spec: AssertionSpec, variables: Mapping[str, Any], problems: list[Problem]) -> Assertion:
        assertion = Assertion(
            type=spec.type,
            place=spec.place,
            negated=spec.negated,
            value=None if spec.value is None else self._text(spec.value, variables, problems),
            threshold=spec.threshold,
        )
        wrong = assertions.problem_with(assertion)
        if wrong is not None:
            problems.append(Problem(wrong, spec.place if spec.value is None else spec.value.place))
        return assertion


def load(
    paths: Sequence[Path],
    *,
    overrides: Overrides = NO_OVERRIDES,
    selection: Selection = EVERYTHING,
    allow_dirs: Sequence[Path] = (),
) -> tuple[tuple[Job, ...], dict[str, int]]:
    """The jobs of some files and the number of selected cases by job name, all found to be in order.

    Every selected case is rendered once, before anything is sent. Raises one UsageError with all problems of all files
    and of all cases: undefined variables, images that are missing, and so on. What many cases share is said once.
    """
    jobs, of_files = load_jobs(paths, overrides=overrides)
    of_cases: dict[Problem, list[str]] = {}
    for job in jobs:
        for case_id, problem in Renderer(job, allow_dirs).problems(selection):
            of_cases.setdefault(problem, []).append(case_id)
    problems = [*of_files, *(_naming_cases(problem, ids) for problem, ids in of_cases.items())]
    if problems:
        raise UsageError(*problems)
    counts = {job.name: sum(1 for _ in selected(job, selection)) for job in jobs}
    if not any(counts.values()):
        raise UsageError(_nothing_selected(jobs, selection))
    return jobs, counts


def key(model: str, request: Request, *, repeat: int) -> str:
    """SHA-256 of what is asked: the model, the rendered request, the content of its images and the repeat.

    Not of how: API, streaming, region and timeouts are left out, and so are the names of image files.
    """
    inference = request.inference
    asked = {
        "model": model,
        "system": request.system,
        "messages": [
            [message.role, message.text, [image.sha256 for image in message.images]] for message in request.messages
        ],
        "inference": None
        if request.body is not None
        else [inference.max_tokens, inference.temperature, inference.top_p, inference.top_k, inference.stop],
        "extra": request.extra,
        "body": request.body,
        "repeat": repeat,
    }
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _map_strings(value: Any, change: Callable[[Text], str]) -> Any:
    if isinstance(value, Text):
        return change(value)
    if isinstance(value, dict):
        return {name: _map_strings(item, change) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_strings(item, change) for item in value]
    return value


def _naming_cases(problem: Problem, ids: list[str]) -> Problem:
    unique = list(dict.fromkeys(ids))
    if unique == ["1"]:
        return problem  # most likely the job's only case, which has no name to speak of
    named = ", ".join(unique[:_NAMED_CASES])
    more = f" and {len(unique) - _NAMED_CASES} more" if len(unique) > _NAMED_CASES else ""
    plural = "s" if len(unique) > 1 else ""
    return Problem(f"{problem.message} (case{plural} {named}{more})", problem.place, problem.hint)


def _nothing_selected(jobs: Sequence[Job], selection: Selection) -> Problem:
    asked = [f"--filter {pattern}" for pattern in selection.filters]
    asked += [f"--tag {tag}" for tag in sorted(selection.tags)]
    if selection.limit is not None:
        asked.append(f"--limit {selection.limit}")
    prefixed = len(jobs) > 1
    ids = [
        f"{chosen.id} of {job.name}" if prefixed else chosen.id for job in jobs for chosen in selected(job, EVERYTHING)
    ]
    tags = sorted({tag for job in jobs for tag in job.tags.union(*(spec.tags for spec in job.cases))})
    shown = ", ".join(ids[:10]) + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
    hint = f"the cases are: {shown}; the tags are: {', '.join(tags) or 'none'}"
    return Problem(f"no case matches {' '.join(asked)}", hint=hint)
