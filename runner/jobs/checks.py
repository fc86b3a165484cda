"""What is wrong with a job file beyond what its schema says, and with a job for the model that it names."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from runner import models, schema, thresholds
from runner.datasets import files, globs
from runner.datasets.files import DataError
from runner.errors import Place, Problem
from runner.jobs import assertions
from runner.media import rules
from runner.models import model_ids
from runner.records import CaseFile, Text
from runner.templates.environment import Templates, is_name, is_template
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from runner.records import Job, Threshold
    from runner.source import Document

Pointer = tuple[str | int, ...]


# --- where things are in data of any shape ---------------------------------------------------------------------------


def items(data: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Any]]:
    """The entries of a list, each with its pointer; nothing for what is no list."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            yield (*pointer, index), item


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _variables(document: Document) -> Iterator[tuple[Pointer, Any]]:
    yield ("vars",), document.data.get("vars")
    yield ("matrix",), document.data.get("matrix")
    for pointer, case in items(document.data.get("cases"), ("cases",)):
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
    for pointer, turn in items(data.get("turns"), ("turns",)):
        for role in ("user", "assistant"):
            yield from _leaves(_get(turn, role), (*pointer, role))
    for pointer, value in assertions.values(document):
        yield from _leaves(value, pointer)
    yield from _leaves(data.get("body"), ("body",))
    yield from _leaves(data.get("sidecar"), ("sidecar",))


def _setting(document: Document, name: str) -> Pointer:
    """Where a setting of `inference` is given: there, or in the matrix."""
    in_matrix = name in (_get(document.data, "matrix") or {})
    return ("matrix", name) if in_matrix else ("inference", name)


# --- checks ----------------------------------------------------------------------------------------------------------


def _template_problems(document: Document) -> Iterator[Problem]:
    templates = Templates(document.path.parent)
    right: set[tuple[str, bool]] = set()  # many cases assert with the same text
    for pointer, value in _templates(document):
        in_body = pointer[0] == "body"
        if not isinstance(value, str) or not is_template(value) or (value, in_body) in right:
            continue
        problems = templates.check(Text(value, document.place(pointer)), in_body=in_body)
        if not problems:
            right.add((value, in_body))
        yield from problems


def _case_id_problems(document: Document) -> Iterator[Problem]:
    first: dict[str, Place] = {}
    for position, (pointer, case) in enumerate(items(document.data.get("cases"), ("cases",)), start=1):
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


MATRIX_SETTINGS: Final = ("max_tokens", "temperature", "top_p", "top_k")  # beside `model`: those of `inference`
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
                f"what can: model, {', '.join(MATRIX_SETTINGS)}, and variables, which templates name",
            )
        seen: list[Any] = []
        for pointer, value in items(values, ("matrix", name)):
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
        for name in MATRIX_SETTINGS:
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


def _sidecar_problems(document: Document) -> Iterator[Problem]:
    repeat = document.data.get("repeat", 1)
    if "sidecar" in document.data and isinstance(repeat, int) and repeat > 1:
        yield Problem(
            f"each case is run {_times(repeat)}, and all of its repetitions would write one sidecar",
            document.place(("sidecar",), key=True),
            "leave out `repeat` or `sidecar`",
        )


def _threshold_problems(document: Document) -> Iterator[Problem]:
    for threshold in thresholds_of(document):
        wrong = thresholds.futile(threshold) or thresholds.ambiguous(threshold)
        if wrong is not None:
            yield Problem(wrong[0], threshold.place, wrong[1])
        if threshold.name.endswith("first_token_latency") and document.data.get("stream", False) is False:
            yield Problem(
                f"`{threshold.name}` needs replies that are streamed",
                document.place(("thresholds", threshold.name), key=True),
                "add `stream: true` to the job",
            )


def thresholds_of(document: Document) -> Iterator[Threshold]:
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
    for pointer, turn in items(document.data.get("turns"), ("turns",)):
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
        content = _get(turn, "user")
        if isinstance(content, dict) and "documents" in content and "text" not in content:
            yield Problem(
                "documents need a text beside them",
                document.place((*pointer, "user", "documents"), key=True),
                "add `text:` and say what is to be done with them: Bedrock refuses documents without",
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
                f"put {'it' if key == 'system' else 'its fields'} into `body`",
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
        ((*pointer, "threshold"), _get(assertion, "threshold")) for pointer, assertion in assertions.entries(document)
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
    assertions.problems,
    _case_id_problems,
    _case_source_problems,
    _matrix_problems,
    _repeat_problems,
    _sidecar_problems,
    _threshold_problems,
    _turn_problems,
    _body_problems,
    _variable_name_problems,
    _number_problems,
    _duration_problems,
)


def of_document(document: Document) -> Iterator[Problem]:
    """All that is wrong with a document. Each check copes with data of any shape, so that its findings come together
    with the schema's.
    """
    for check in _CHECKS:
        yield from check(document)


def of_case_files(document: Document, allow_dirs: Sequence[Path]) -> Iterator[Problem]:
    """What is wrong with the files that `cases` names, as far as it shows without their rows. It is for documents of
    which no job can be made; else those who read the rows tell it.
    """
    folder = document.path.parent
    places: tuple[Pointer, ...] = (("cases",), ("cases", "file"), ("cases", "glob"))
    for pointer in places:
        named, place = _dig(document.data, pointer), document.place(pointer)
        if not isinstance(named, str) or not named.strip():
            continue
        try:
            if pointer[-1] == "glob":
                next(globs.files(named, folder, place=place, allow_dirs=allow_dirs), None)
            else:
                files.check(files.find(CaseFile(path=named, place=place), folder, allow_dirs))
        except DataError as error:
            yield error.problem


# --- of a job, for its model -----------------------------------------------------------------------------------------


def of_model(document: Document, job: Job) -> Iterator[Problem]:
    """What Bedrock would refuse, as far as the model is known."""
    yield from _wrong_api(document, job)
    yield from _refused(document, job)
    yield from _not_taken(document, job)


def _wrong_api(document: Document, job: Job) -> Iterator[Problem]:
    maker = model_ids.provider(job.model)
    if job.api == "converse" or job.body is not None or maker in (None, "anthropic"):
        return
    yield Problem(
        f"`api: invoke` sends Anthropic's request body, and `{job.model}` is a model of {maker}",
        document.place(("api",)),
        "write `api: converse`, or give the model's own request as `body`",
    )


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


def _not_taken(document: Document, job: Job) -> Iterator[Problem]:
    """What turns attach that the model never takes, whichever file it is."""
    first_video = None
    for position, turn in enumerate(job.turns):
        pointer = ("turns", position, "user")
        if turn.documents and not rules.takes_documents(job.model):
            place = document.place((*pointer, "documents"), key=True)
            yield Problem(
                f"`{job.model}` takes no documents", place, "use another model, or give their text in `text:`"
            )
        if turn.images and not rules.takes_images(job.model):
            place = document.place((*pointer, "images"), key=True)
            yield Problem(
                f"`{job.model}` takes no images", place, "use a model that sees, as Amazon Nova Lite or Claude"
            )
        if turn.video and not rules.takes_video(job.model, job.api):
            place = document.place((*pointer, "video"), key=True)
            yield Problem(f"`{job.model}` takes no video", place, rules.NO_VIDEO_HINT)
        elif turn.video and first_video:
            yield Problem(
                f"a conversation has one video, and line {first_video.place.line} gives one already",
                document.place((*pointer, "video"), key=True),
                "ask about each in a job or a case of its own",
            )
        first_video = first_video or turn.video
