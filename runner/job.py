"""Document -> Job: what the schema cannot say is checked here, defaults and overrides are put in."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from runner import job_assertions, model_ids, models, schema, source, thresholds, times
from runner.errors import Place, Problem, UsageError
from runner.records import (
    Api,
    CaseFile,
    CaseGlob,
    CaseSpec,
    Inference,
    Job,
    Rate,
    RetrySettings,
    Role,
    Text,
    Threshold,
    Turn,
    Variant,
)
from runner.template import Templates, is_name, is_template
from runner.values import plain, templates_in
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

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


def load(paths: Sequence[Path], *, overrides: Overrides = NO_OVERRIDES) -> tuple[tuple[Job, ...], tuple[Problem, ...]]:
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
        job, of_file = _load(path, overrides)
        jobs += [job] if job else []
        problems += of_file
    problems += same_output(jobs)
    return tuple(jobs), tuple(problems)


def _load(path: Path, overrides: Overrides) -> tuple[Job | None, list[Problem]]:
    """The job of a file, if its document is in order, and what is wrong with either."""
    try:
        return of_document(source.read(path), overrides)
    except UsageError as error:
        return None, list(error.problems)


def of_document(document: Document, overrides: Overrides) -> tuple[Job | None, list[Problem]]:
    """The job of a document, if it is in order, and what is wrong with either."""
    problems = [*document.problems, *schema.check(document)]
    # Each check copes with data of any shape, so that its findings come together with the schema's.
    for check in _CHECKS:
        problems += check(document)
    if problems:
        return None, _in_order(problems)[: source.MAX_PROBLEMS]
    job = _Builder(document).job(overrides)
    of_models = (
        problem for each in jobs_of(job) for problem in (*_wrong_api(document, each), *_refused(document, each))
    )
    return job, _in_order(of_models)


def jobs_of(job: Job) -> tuple[Job, ...]:
    """The job itself or, with a matrix, the jobs of its variants: what calls which model, and how."""
    return tuple(variant.job for variant in job.variants) or (job,)


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the file; of several at one place the first, since the others are its consequences."""
    first: dict[tuple[int, int], Problem] = {}
    for problem in problems:
        assert problem.place is not None
        first.setdefault((problem.place.line, problem.place.column), problem)
    return [first[position] for position in sorted(first)]


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


# --- where things are in data of any shape ---------------------------------------------------------------------------


def _items(data: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Any]]:
    """The entries of a list, each with its pointer; nothing for what is no list."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield (*pointer, index), item


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _variables(document: Document) -> Iterator[tuple[Pointer, Any]]:
    yield ("vars",), document.data.get("vars")
    yield ("matrix",), document.data.get("matrix")
    for pointer, case in _items(document.data.get("cases"), ("cases",)):
        yield (*pointer, "vars"), _get(case, "vars")


def _leaves(data: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Any]]:
    """Everything in some data that is no list and no mapping."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*pointer, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _leaves(value, (*pointer, index))
    else:
        yield pointer, data


def _templates(document: Document) -> Iterator[tuple[Pointer, Any]]:
    """Every place whose string is a template, and what is there."""
    data = document.data
    yield ("system",), data.get("system")
    yield ("prompt",), data.get("prompt")
    for pointer, turn in _items(data.get("turns"), ("turns",)):
        for role in ("user", "assistant"):
            yield from _leaves(_get(turn, role), (*pointer, role))
    for pointer, value in job_assertions.values(document):
        yield from _leaves(value, pointer)
    yield from _leaves(data.get("body"), ("body",))


def _setting(document: Document, name: str) -> Pointer:
    """Where a setting of `inference` is given: there, or in the matrix."""
    in_matrix = name in (_get(document.data, "matrix") or {})
    return ("matrix", name) if in_matrix else ("inference", name)


# --- checks ----------------------------------------------------------------------------------------------------------


def _template_problems(document: Document) -> Iterator[Problem]:
    templates = Templates(document.path.parent)
    right: set[str] = set()  # many cases assert with the same text
    for pointer, value in _templates(document):
        if not isinstance(value, str) or not is_template(value) or value in right:
            continue
        problems = templates.check(Text(value, document.place(pointer)))
        if not problems:
            right.add(value)
        yield from problems


def _case_id_problems(document: Document) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for position, (pointer, case) in enumerate(_items(document.data.get("cases"), ("cases",)), start=1):
        given = _get(case, "id")
        name = str(position if given is None else given)
        place = document.place((*pointer, "id"))
        earlier = first.setdefault(name, place)
        if earlier is not place:
            yield Problem(
                f"the case id `{shorten(name)}` is taken: line {earlier.line} has it already",
                place,
                "give each case an `id` of its own; without one it is the case's position, counting from 1",
            )


_MATRIX_SETTINGS: Final = ("max_tokens", "temperature", "top_p", "top_k")  # beside `model`: those of `inference`
# Settings that someone may try to vary; as names of variables they would do nothing.
_NOT_IN_MATRIX: Final = frozenset(
    {"api", "assert", "body", "cases", "extra", "inference", "max_concurrency", "max_cost", "models", "prompt", "rate"}
    | {"region", "repeat", "retry", "stop", "stream", "system", "timeout", "turns"}
)
MAX_VARIANTS: Final = 10_000


def _matrix_problems(document: Document) -> Iterator[Problem]:
    matrix = document.data.get("matrix")
    if not isinstance(matrix, dict):
        return
    for name, values in matrix.items():
        if name in _NOT_IN_MATRIX:
            yield Problem(
                f"`{name}` cannot vary in a matrix",
                document.place(("matrix", name), key=True),
                f"what can: model, {', '.join(_MATRIX_SETTINGS)}, and variables, which templates name",
            )
        seen: list[Any] = []
        for pointer, value in _items(values, ("matrix", name)):
            if any(value == other and type(value) is type(other) for other in seen):
                yield Problem(f"`{name}` has this value twice", document.place(pointer), "remove one of them")
            seen.append(value)
    size = math.prod(len(values) for values in matrix.values() if isinstance(values, list))
    if size > MAX_VARIANTS:
        yield Problem(
            f"the matrix has {size:,} combinations; at most {MAX_VARIANTS:,} are taken",
            document.place(("matrix",), key=True),
            "shorten it; for many values of a variable use `cases`",
        )
    if "body" in document.data:
        for name in _MATRIX_SETTINGS:
            if name in matrix:
                yield Problem(
                    f"`{name}` has no effect beside `body`, which is the whole request",
                    document.place(("matrix", name), key=True),
                    "write it into `body` as a variable, as in `{{ n }}`",
                )


def _repeat_problems(document: Document) -> Iterator[Problem]:
    repeat, min_pass = document.data.get("repeat", 1), document.data.get("min_pass")
    if isinstance(repeat, int) and isinstance(min_pass, int) and min_pass > repeat > 0:
        yield Problem(
            f"`min_pass` is {min_pass}, and each case is run {_times(repeat)}",
            document.place(("min_pass",)),
            f"set `repeat: {min_pass}` or more, or lower `min_pass`",
        )


def _threshold_problems(document: Document) -> Iterator[Problem]:
    for threshold in _thresholds(document):
        wrong = thresholds.futile(threshold) or thresholds.ambiguous(threshold)
        if wrong is not None:
            yield Problem(wrong[0], threshold.place, wrong[1])


def _thresholds(document: Document) -> Iterator[Threshold]:
    """The entries of `thresholds:` that are written as the schema wants them."""
    given = document.data.get("thresholds")
    for name, value in given.items() if isinstance(given, dict) else ():
        threshold = thresholds.parse(name, value, document.place(("thresholds", name)))
        if threshold is not None:
            yield threshold


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _case_source_problems(document: Document) -> Iterator[Problem]:
    """`cases` as a mapping: just one of `file` and `glob`."""
    cases = document.data.get("cases")
    if not isinstance(cases, dict):
        return
    given = [name for name in ("file", "glob") if name in cases]
    if len(given) == 2:
        place = document.place(("cases", "glob"), key=True)
        yield Problem("`file` and `glob` cannot both be given", place, "keep one of them")
    elif not given and not cases.keys() - {"delimiter"}:
        yield Problem(
            "`cases` names no file", document.place(("cases",)), "write `{file: rows.csv}` or `{glob: photos/*.jpg}`"
        )
    elif given == ["glob"] and "delimiter" in cases:
        yield Problem(
            "`delimiter` has no meaning for `glob`", document.place(("cases", "delimiter"), key=True), "remove it"
        )


def _turn_problems(document: Document) -> Iterator[Problem]:
    previous = None
    for pointer, turn in _items(document.data.get("turns"), ("turns",)):
        role = next(iter(turn)) if isinstance(turn, dict) and len(turn) == 1 else None
        if role == "assistant" and pointer[-1] == 0:
            yield Problem(
                "the first turn must be the user's",
                document.place((*pointer, role), key=True),
                "start with a `- user:` turn; what holds for the whole conversation goes in `system:`",
            )
        elif role == "assistant" and previous == "assistant":
            yield Problem(
                "an assistant turn follows an assistant turn",
                document.place((*pointer, role), key=True),
                "join the two texts, or put a user turn between them",
            )
        previous = role


# With `body` these would do nothing: it is the whole request.
_REPLACED_BY_BODY: Final = ("system", "inference", "extra")


def _body_problems(document: Document) -> Iterator[Problem]:
    if "body" not in document.data:
        return
    for key in _REPLACED_BY_BODY:
        if key in document.data:
            yield Problem(
                f"`{key}` has no effect beside `body`, which is the whole request",
                document.place((key,), key=True),
                "put its fields into `body`",
            )
    if document.data.get("api") == "converse":
        yield Problem(
            "`api: converse` cannot send a `body`, which is for InvokeModel",
            document.place(("api",)),
            "remove `api`, or write `turns` in place of `body`",
        )


def _variable_name_problems(document: Document) -> Iterator[Problem]:
    for pointer, variables in _variables(document):
        for name in variables if isinstance(variables, dict) else ():
            if not is_name(name):
                usable = re.sub(r"\W", "_", name)
                usable = usable if is_name(usable) else f"{usable}_" if is_name(f"{usable}_") else f"_{usable}"
                yield Problem(
                    f"a template cannot name the variable `{shorten(name)}`",
                    document.place((*pointer, name), key=True),
                    f"call it `{usable}`",
                )


def _number_problems(document: Document) -> Iterator[Problem]:
    for pointer, value in _leaves(document.data, ()):
        if isinstance(value, float) and not math.isfinite(value):
            yield Problem(
                f"`{shorten(str(value))}` is no number that JSON can hold",
                document.place(pointer),
                f'quote it, if it is meant as text: `"{shorten(str(value))}"`',
            )


_DURATIONS: Final[tuple[Pointer, ...]] = (("timeout",), ("retry", "max_backoff"))


def _duration_problems(document: Document) -> Iterator[Problem]:
    found = [(pointer, _dig(document.data, pointer)) for pointer in _DURATIONS]
    found += [
        ((*pointer, "threshold"), _get(assertion, "threshold"))
        for pointer, assertion in job_assertions.entries(document)
    ]
    for pointer, value in found:
        if isinstance(value, str) and re.fullmatch(r"[0.]+(ms|s|m|h)", value):
            yield Problem(
                f"`{schema.dotted(pointer)}` must be longer than nothing", document.place(pointer), "write `30s`, say"
            )


def _dig(data: Any, pointer: Pointer) -> Any:
    for step in pointer:
        data = _get(data, str(step))
    return data


_WRONG_IN_NAMES = re.compile(r'^[.\s]|[/\\<>:"|?*\x00-\x1f]|[.\s]$')


_SUPERSEDED = ".superseded"  # of a job's name, is where the rows go that nothing replaces


def _name_problems(document: Document) -> Iterator[Problem]:
    name = document.data.get("name", document.path.stem)
    if isinstance(name, str) and name.casefold().endswith(_SUPERSEDED):
        yield Problem(
            f"the name of a job cannot end with `{_SUPERSEDED}`",
            document.place(("name",) if "name" in document.data else ()),
            "call it otherwise: such files hold the earlier rows of a job",
        )
    if "name" not in document.data and _WRONG_IN_NAMES.search(document.path.stem):
        yield Problem(
            f"the job has no `name`, and the name of its file cannot be one: `{document.path.stem}`",
            document.place(()),
            "add `name: ` and letters, digits, dashes and underscores",
        )


_CHECKS: Final[tuple[Callable[[Document], Iterator[Problem]], ...]] = (
    _name_problems,
    _template_problems,
    job_assertions.problems,
    _case_id_problems,
    _case_source_problems,
    _matrix_problems,
    _repeat_problems,
    _threshold_problems,
    _turn_problems,
    _body_problems,
    _variable_name_problems,
    _number_problems,
    _duration_problems,
)


# --- which API -------------------------------------------------------------------------------------------------------


def resolved_api(wanted: str, model: str, *, body: bool) -> Api:
    """`auto` takes InvokeModel for raw bodies and for what is known to be Anthropic's; Converse serves all others."""
    if wanted == "invoke" or (wanted == "auto" and (body or model_ids.provider(model) == "anthropic")):
        return "invoke"
    return "converse"


def _wrong_api(document: Document, job: Job) -> Iterator[Problem]:
    maker = model_ids.provider(job.model)
    if job.api == "converse" or job.body is not None or maker in (None, "anthropic"):
        return
    yield Problem(
        f"`api: invoke` sends Anthropic's request body, and `{job.model}` is a model of {maker}",
        document.place(("api",)),
        "write `api: converse`, or give the model's own request as `body`",
    )


# --- what a model refuses --------------------------------------------------------------------------------------------


def _refused(document: Document, job: Job) -> Iterator[Problem]:
    """What Bedrock would answer with a ValidationException to every call, as far as the model is known."""
    facts = models.load().find(job.model)
    if facts is None:
        return
    if "prefill" in facts.refuses and job.turns and job.turns[-1].role == "assistant":
        yield Problem(
            f"`{job.model}` takes no assistant turn at the end",
            document.place(("turns", len(job.turns) - 1)),
            "end with a user turn; say in `system:` how the answer should begin",
        )
    if "sampling" in facts.refuses:
        given = {"temperature": job.inference.temperature, "top_p": job.inference.top_p, "top_k": job.inference.top_k}
        for name, value in given.items():
            if value is not None and (name, value) != ("temperature", 1):  # 1 is what it does anyway
                yield Problem(
                    f"`{job.model}` takes no `{name}`",
                    document.place(_setting(document, name), key=True),
                    "remove it; if this is out of date, `extra:` sends it all the same",
                )


# --- building --------------------------------------------------------------------------------------------------------


class _Builder:
    """Makes the Job of a document that has no problems."""

    def __init__(self, document: Document) -> None:
        self._document = document
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
        settings = {name: value for name, value in values.items() if name in _MATRIX_SETTINGS}
        variables = {name: value for name, value in values.items() if name != "model" and name not in settings}
        of_variant = replace(
            job,
            model=model,
            api=resolved_api(self._data.get("api", "auto"), model, body=job.body is not None),
            inference=_inference({**self._data.get("inference", {}), **settings}),
            vars={**job.vars, **variables},
            fixed_vars={**variables, **job.fixed_vars},
        )
        return Variant(values=plain(values), job=of_variant)

    def _job(self, overrides: Overrides) -> Job:
        data = self._data
        model = overrides.model or data.get("model") or data["matrix"]["model"][0]
        repeat = int(data.get("repeat", 1))
        body = data.get("body")
        return Job(
            path=self._document.path,
            place=self._document.place(("name",) if "name" in data else ()),
            model_place=self._document.place(("model",) if "model" in data else ("matrix", "model")),
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
            turns=self._turns(),
            body=None if body is None else templates_in(body, self._document, ("body",)),
            extra=plain(data.get("extra", {})),
            cases=self._cases(data.get("cases")),
            fixed_vars=overrides.vars,
            repeat=repeat,
            min_pass=int(data.get("min_pass", repeat)),
            assertions=job_assertions.specs(self._document, data.get("assert"), ("assert",)),
            rate=_rate(data.get("rate", {})),
            max_concurrency=_integer(data.get("max_concurrency")),
            retry=_retry(data.get("retry", {})),
            timeout=_seconds(data.get("timeout"), DEFAULT_TIMEOUT),
            max_cost=_number(data.get("max_cost")),
            thresholds=tuple(_thresholds(self._document)),
        )

    def _text(self, pointer: Pointer) -> Text:
        value: Any = self._data
        for step in pointer:
            value = value[step]
        return Text(value, self._document.place(pointer))

    def _turns(self) -> tuple[Turn, ...]:
        if "prompt" in self._data:
            return (Turn(role="user", text=self._text(("prompt",))),)
        return tuple(self._turn(turn, pointer) for pointer, turn in _items(self._data.get("turns"), ("turns",)))

    def _turn(self, turn: Mapping[str, Any], pointer: Pointer) -> Turn:
        role: Role = "user" if "user" in turn else "assistant"
        inside = (*pointer, role)
        content = turn[role]
        if isinstance(content, str):
            return Turn(role=role, text=self._text(inside))
        return Turn(
            role=role,
            text=self._text((*inside, "text")) if "text" in content else Text("", self._document.place(inside)),
            images=tuple(self._text(image) for image, _ in _items(content.get("images"), (*inside, "images"))),
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
                return tuple(self._case(case, pointer) for pointer, case in _items(cases, ("cases",)))

    def _case(self, case: Mapping[str, Any], pointer: Pointer) -> CaseSpec:
        return CaseSpec(
            place=self._document.place(pointer),
            id=str(case["id"]) if "id" in case else None,
            vars=case.get("vars", {}),
            assertions=job_assertions.specs(self._document, case.get("assert"), (*pointer, "assert")),
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
