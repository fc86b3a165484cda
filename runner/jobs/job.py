"""Document -> Job: it is checked, then defaults and overrides are put in."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from runner import schema, source, times
from runner.bedrock import structured
from runner.errors import Place, Problem, UsageError
from runner.jobs import assertions, checks, response
from runner.jobs.checks import MATRIX_SETTINGS, items, thresholds_of
from runner.jobs.values import plain, templates_in
from runner.media import rules
from runner.models import model_ids
from runner.records import (
    LONGEST_SIDE,
    Api,
    CaseFile,
    CaseGlob,
    CaseSpec,
    ImageSettings,
    Inference,
    Job,
    Rate,
    RetrySettings,
    Role,
    Sidecar,
    Text,
    Turn,
    Variant,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from runner.records import ResponseSchema
    from runner.source import Document

Pointer = tuple[str | int, ...]

DEFAULT_TIMEOUT: Final = 600.0  # seconds: long replies of large models take minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line sets for every job: `vars` win over those of the jobs and of their cases.

    `name` is for a job that a program runs on its own.
    """

    name: str | None = None
    model: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)


NO_OVERRIDES = Overrides()


def load(
    paths: Sequence[Path], *, overrides: Overrides = NO_OVERRIDES, allow_dirs: Sequence[Path] = ()
) -> tuple[tuple[Job, ...], tuple[Problem, ...]]:
    """The jobs that could be made, in the order given, and all problems of all files. A job may have some of them.

    Problems are unreadable files, wrong keys and values, templates that do not parse, what the model does not take, and
    jobs that would write the same output.
    """
    given: dict[Path, list[Path]] = {}  # one file may be named in several ways
    for path in paths:
        given.setdefault(path.resolve(), []).append(path)
    problems: list[Problem] = []
    jobs: list[Job] = []
    for path, *again in given.values():
        problems += [Problem("the job file is given twice", Place(str(name), 0, 0), "name it once") for name in again]
        job, of_file = _load(path, overrides, allow_dirs)
        jobs += [job] if job else []
        problems += of_file
    problems += same_output(jobs)
    return tuple(jobs), tuple(problems)


def _load(path: Path, overrides: Overrides, allow_dirs: Sequence[Path]) -> tuple[Job | None, list[Problem]]:
    """The job of a file, if its document is in order, and what is wrong with either."""
    try:
        return of_document(source.read(path), overrides, allow_dirs)
    except UsageError as error:
        return None, list(error.problems)


def of_document(
    document: Document, overrides: Overrides, allow_dirs: Sequence[Path] = ()
) -> tuple[Job | None, list[Problem]]:
    """The job of a document, if it is in order, and what is wrong with either. Its files lie in its folder, or in one
    of `allow_dirs`.
    """
    response_schema, of_schema = response.find(document, allow_dirs)
    problems = [*document.problems, *schema.check(document), *checks.of_document(document), *of_schema]
    if problems:
        problems += checks.of_case_files(document, allow_dirs)
        return None, _in_order(document, problems)[: source.MAX_PROBLEMS]
    job = _Builder(document, response_schema).job(overrides)
    of_models = (checks.of_model, response.of_model)
    of_job = (problem for each in jobs_of(job) for check in of_models for problem in check(document, each))
    return job, _in_order(document, of_job)


def jobs_of(job: Job) -> tuple[Job, ...]:
    """The job itself or, with a matrix, the jobs of its variants: what calls which model, and how."""
    return tuple(variant.job for variant in job.variants) or (job,)


def _in_order(document: Document, problems: Iterable[Problem]) -> list[Problem]:
    """In the order of each file, and each once. Where the text itself is wrong, what else is said of the place is a
    consequence of it.
    """
    unread = {_position(problem): problem for problem in reversed(document.problems)}
    distinct = {(*_position(each), each.message): each for each in (unread.get(_position(p), p) for p in problems)}
    return sorted(distinct.values(), key=_position)


def _position(problem: Problem) -> tuple[str, int, int]:
    assert problem.place is not None
    return problem.place.path, problem.place.line, problem.place.column


def same_output(jobs: Iterable[Job]) -> list[Problem]:
    """A problem for each job that would write the rows of one before it."""
    first: dict[str, Job] = {}
    problems = []
    for job in jobs:
        # macOS and Windows take names that differ in case or in the composition of letters for one.
        earlier = first.setdefault(unicodedata.normalize("NFC", job.name).casefold(), job)
        if earlier is not job:
            problems.append(
                Problem(
                    f"the job `{job.name}` would write the same output as `{earlier.name}` of {earlier.place}",
                    job.place,
                    "give one of them another `name:`",
                )
            )
    return problems


def resolved_api(wanted: str, model: str, *, body: bool) -> Api:
    """`auto` takes InvokeModel for raw bodies and for what is known to be Anthropic's; Converse serves all others."""
    if wanted == "invoke" or (wanted == "auto" and (body or model_ids.provider(model) == "anthropic")):
        return "invoke"
    return "converse"


# --- building --------------------------------------------------------------------------------------------------------


class _Builder:
    """Makes the Job of a document that has no problems."""

    def __init__(self, document: Document, response_schema: ResponseSchema | None) -> None:
        self._document = document
        self._response_schema = response_schema
        self._data = document.data

    def job(self, overrides: Overrides) -> Job:
        job = self._job(overrides)
        chosen = {
            *overrides.vars,
            *(["model"] if overrides.model else []),
        }  # on the command line, instead of all others
        axes = {name: values for name, values in self._data.get("matrix", {}).items() if name not in chosen}
        if not axes:
            return job
        combinations = (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))
        variants = tuple(self._variant(job, values) for values in combinations)
        return replace(job, variants=variants, matrix_place=self._document.place(("matrix",), key=True))

    def _variant(self, job: Job, values: Mapping[str, Any]) -> Variant:
        model = values.get("model", job.model)
        settings = {name: value for name, value in values.items() if name in MATRIX_SETTINGS}
        variables = {name: value for name, value in values.items() if name != "model" and name not in settings}
        of_variant = replace(
            job,
            model=model,
            model_place=self._model_place(model),
            api=resolved_api(self._data.get("api", "auto"), model, body=job.body is not None),
            inference=_inference({**self._data.get("inference", {}), **settings}),
            vars={**job.vars, **variables},
            fixed_vars={**variables, **job.fixed_vars},
            response_schema=self._response_schema_for(model, job.turns),
        )
        return Variant(values=plain(values), job=of_variant)

    def _job(self, overrides: Overrides) -> Job:
        data = self._data
        model = overrides.model or data.get("model") or data["matrix"]["model"][0]
        repeat = int(data.get("repeat", 1))
        body = data.get("body")
        turns = self._turns()
        return Job(
            path=self._document.path,
            place=self._document.place(("name",) if "name" in data else ()),
            model_place=self._model_place(model),
            name=overrides.name or data.get("name", self._document.path.stem),
            description=data.get("description", ""),
            tags=frozenset(data.get("tags", ())),
            model=model,
            region=data.get("region"),
            api=resolved_api(data.get("api", "auto"), model, body=body is not None),
            stream=data.get("stream", False),
            inference=_inference(data.get("inference", {})),
            vars=data.get("vars", {}),
            system=self._text(("system",)) if "system" in data else None,
            turns=turns,
            body=None if body is None else templates_in(body, self._document, ("body",)),
            extra=plain(data.get("extra", {})),
            images=_images(data.get("images", {})),
            cases=self._cases(data.get("cases")),
            fixed_vars=overrides.vars,
            repeat=repeat,
            min_pass=int(data.get("min_pass", repeat)),
            assertions=assertions.specs(self._document, data.get("assert"), ("assert",)),
            rate=_rate(data.get("rate", {})),
            max_concurrency=_integer(data.get("max_concurrency")),
            retry=_retry(data.get("retry", {})),
            timeout=_seconds(data.get("timeout"), DEFAULT_TIMEOUT),
            max_cost=_number(data.get("max_cost")),
            thresholds=tuple(thresholds_of(self._document)),
            sidecar=self._sidecar(),
            response_schema=self._response_schema_for(model, turns),
        )

    def _model_place(self, model: str) -> Place:
        """Where a model is written; the start of the file for one that the command line gives."""
        match self._data:
            case {"matrix": {"model": [*models]}} if model in models:
                return self._document.place(("matrix", "model", models.index(model)))
            case {"model": written} if written == model:
                return self._document.place(("model",))
            case _:
                return self._document.place(())

    def _response_schema_for(self, model: str, turns: Sequence[Turn]) -> ResponseSchema | None:
        if self._response_schema is None:
            return None
        api = resolved_api(self._data.get("api", "auto"), model, body=False)
        may_cite = api == "converse" and any(turn.documents for turn in turns) and rules.sees_pages_by_citing(model)
        return structured.for_model(self._response_schema, model, may_cite=may_cite)

    def _text(self, pointer: Pointer) -> Text:
        value: Any = self._data
        for step in pointer:
            value = value[step]
        return Text(value, self._document.place(pointer))

    def _sidecar(self) -> Sidecar | None:
        match self._data.get("sidecar"):
            case None:
                return None
            case str():
                return Sidecar(path=self._text(("sidecar",)))
            case given:
                text = self._text(("sidecar", "text")) if "text" in given else None
                return Sidecar(path=self._text(("sidecar", "path")), text=text)

    def _turns(self) -> tuple[Turn, ...]:
        if "prompt" in self._data:
            return (Turn(role="user", text=self._text(("prompt",))),)
        return tuple(self._turn(turn, pointer) for pointer, turn in items(self._data.get("turns"), ("turns",)))

    def _turn(self, turn: Mapping[str, Any], pointer: Pointer) -> Turn:
        role: Role = "user" if "user" in turn else "assistant"
        inside = (*pointer, role)
        content = turn[role]
        if isinstance(content, str):
            return Turn(role=role, text=self._text(inside))
        return Turn(
            role=role,
            text=self._text((*inside, "text")) if "text" in content else Text("", self._document.place(inside)),
            images=tuple(self._text(image) for image, _ in items(content.get("images"), (*inside, "images"))),
            documents=tuple(self._text(path) for path, _ in items(content.get("documents"), (*inside, "documents"))),
            video=self._text((*inside, "video")) if "video" in content else None,
        )

    def _cases(self, cases: Any) -> tuple[CaseSpec, ...] | CaseFile | CaseGlob:
        place = self._document.place(("cases",))
        match cases:
            case str():
                return CaseFile(path=cases, place=place)
            case {"file": file}:
                return CaseFile(
                    path=file, place=self._document.place(("cases", "file")), delimiter=cases.get("delimiter")
                )
            case {"glob": pattern}:
                return CaseGlob(pattern=pattern, place=self._document.place(("cases", "glob")))
            case _:
                return tuple(self._case(case, pointer) for pointer, case in items(cases, ("cases",)))

    def _case(self, case: Mapping[str, Any], pointer: Pointer) -> CaseSpec:
        return CaseSpec(
            place=self._document.place(pointer),
            id=str(case["id"]) if "id" in case else None,
            vars=case.get("vars", {}),
            assertions=assertions.specs(self._document, case.get("assert"), (*pointer, "assert")),
            tags=frozenset(case.get("tags", ())),
        )


def _inference(data: Mapping[str, Any]) -> Inference:
    return Inference(
        max_tokens=int(data.get("max_tokens", Inference().max_tokens)),
        temperature=_number(data.get("temperature")),
        top_p=_number(data.get("top_p")),
        top_k=_integer(data.get("top_k")),
        stop=tuple(data.get("stop", ())),
    )


def _images(data: Mapping[str, Any]) -> ImageSettings:
    max_edge = data.get("max_edge")
    return ImageSettings(
        fit=data.get("fit") != "off", max_edge=LONGEST_SIDE if max_edge == "off" else _integer(max_edge)
    )


def _retry(data: Mapping[str, Any]) -> RetrySettings:
    defaults = RetrySettings()
    return RetrySettings(
        max_attempts=int(data.get("max_attempts", defaults.max_attempts)),
        max_backoff=_seconds(data.get("max_backoff"), defaults.max_backoff),
    )


def _rate(data: Mapping[str, Any]) -> Rate:
    return Rate(
        requests_per_minute=_number(data.get("requests_per_minute")),
        tokens_per_minute=_number(data.get("tokens_per_minute")),
    )


def _seconds(text: str | None, default: float) -> float:
    return default if text is None else times.seconds(text)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _integer(value: float | None) -> int | None:
    return None if value is None else int(value)
