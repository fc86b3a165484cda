"""The assertions of a document: where they are, what is wrong with them that the schema cannot say, and their specs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from runner import assertions, schema, times
from runner.errors import Problem
from runner.jobs.values import plain, templates_in
from runner.records import Assertion, AssertionSpec
from runner.templates.environment import is_template
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runner.errors import Place
    from runner.source import Document

Pointer = tuple[str | int, ...]

_SETS: Final = frozenset({"assert-set", "not-assert-set"})


# --- where they are, in data of any shape ----------------------------------------------------------------------------


def entries(document: Document) -> Iterator[tuple[Pointer, Any]]:
    """Every assertion, those of sets too, with its pointer."""
    yield from _entries(document.data, ())
    cases = document.data.get("cases")
    for index, case in enumerate(cases if isinstance(cases, list) else ()):
        yield from _entries(case, ("cases", index))


def _entries(holder: Any, pointer: Pointer) -> Iterator[tuple[Pointer, Any]]:
    listed = holder.get("assert") if isinstance(holder, dict) else None
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        inside = (*pointer, "assert", index)
        yield inside, entry
        if _type(entry) in _SETS:
            yield from _entries(entry, inside)


def values(document: Document) -> Iterator[tuple[Pointer, Any]]:
    """What may be a template: the value of every assertion, except for code."""
    for pointer, entry in entries(document):
        if isinstance(entry, dict) and "value" in entry and _base(_type(entry)) != "python":
            yield (*pointer, "value"), entry["value"]


def _type(entry: Any) -> str:
    name = entry.get("type") if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ""


def _base(name: str) -> str:
    return name.removeprefix("not-")


# --- checks ----------------------------------------------------------------------------------------------------------


def problems(document: Document) -> Iterator[Problem]:
    """What the schema cannot say. Of data that breaks the schema it says nothing; where only unknown keys break it, the
    value is looked at all the same.
    """
    for pointer, entry in entries(document):
        if not schema.fits("assertion", entry):
            if isinstance(entry, dict) and "value" in entry and schema.fits("assertion", _with_known_keys(entry)):
                yield from _problems_with_value(document, entry, (*pointer, "value"))
            continue
        if _base(_type(entry)) == "first-token-latency" and document.data.get("stream", False) is False:
            yield Problem(
                f"`{entry['type']}` needs a reply that is streamed",
                document.place((*pointer, "type")),
                "add `stream: true` to the job",
            )
        if "value" in entry:
            yield from _problems_with_value(document, entry, (*pointer, "value"))
        yield from _problems_with_judge(document, entry, pointer)


def _with_known_keys(entry: Mapping[str, Any]) -> dict[str, Any]:
    known = schema.load("job")["$defs"]["assertion"]["properties"]
    return {key: value for key, value in entry.items() if key in known}


_EMBEDDING_MODELS = re.compile(r"amazon\.titan-embed-text|cohere\.embed|^arn:")


def _problems_with_judge(document: Document, entry: Mapping[str, Any], pointer: Pointer) -> Iterator[Problem]:
    """Whom a judged assertion asks must be able to answer, and must not be the one that is judged by accident."""
    kind, model = _base(entry["type"]), entry.get("model")
    matrix = document.data.get("matrix")
    if kind == "llm-rubric" and model is None:
        place, hint = document.place((*pointer, "type")), "add `model: ` and the id of the judge's model"
        if isinstance(matrix, dict) and "model" in matrix:
            yield Problem("with models in the matrix each would grade itself: name the judge", place, hint)
        elif "body" in document.data:
            yield Problem("the model of a `body` may not be one that can grade: name the judge", place, hint)
    elif kind == "similar" and isinstance(model, str) and not _EMBEDDING_MODELS.search(model):
        yield Problem(
            f"`{shorten(model)}` is no embedding model that `similar` can ask",
            document.place((*pointer, "model")),
            "leave `model` out for amazon.titan-embed-text-v2:0, or name another of Titan's or Cohere's",
        )


# promptfoo's: a URL of a file has three slashes
_FILE_REFERENCE = re.compile(r"file://(?!/)(?P<path>\S+)")


def _problems_with_value(document: Document, entry: Mapping[str, Any], pointer: Pointer) -> Iterator[Problem]:
    value, place = entry["value"], document.place(pointer)
    is_code = _base(entry["type"]) == "python"
    reference = _FILE_REFERENCE.fullmatch(value) if isinstance(value, str) and not is_code else None
    if reference:
        path = reference["path"].removeprefix("./")
        yield Problem("`file://` is not read here", place, f"write {{% include '{path}' %}} in quotes")
    elif is_code and is_template(value):
        yield Problem(
            f"the code of `{entry['type']}` is not a template, so that no data becomes code",
            place,
            'write `context["vars"]["name"]` for a variable; code that needs {{ or {% goes into a file',
        )
    elif is_code or not any(is_template(text) for text in _texts(value)):
        fault = assertions.fault_of(_without_templates(entry, document.place(pointer[:-1])))
        if fault is not None:
            yield Problem(fault.message, document.place((*pointer, *fault.steps)), fault.hint)


def _without_templates(entry: Mapping[str, Any], place: Place) -> Assertion:
    """The assertion as it will be for every case."""
    return Assertion(
        type=_base(entry["type"]),
        negated=entry["type"] != _base(entry["type"]),
        place=place,
        value=plain(entry["value"]),
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def uses_of_code(specs: Iterable[AssertionSpec]) -> Iterator[AssertionSpec]:
    """The assertions that run code of the job."""
    for spec in specs:
        if spec.type == "python":
            yield spec
        yield from uses_of_code(spec.assertions)


# --- building --------------------------------------------------------------------------------------------------------


def specs(document: Document, listed: Any, pointer: Pointer) -> tuple[AssertionSpec, ...]:
    """The specs of an `assert` list that has no problems."""
    return tuple(_spec(document, entry, (*pointer, index)) for index, entry in enumerate(listed or ()))


def _spec(document: Document, entry: Mapping[str, Any], pointer: Pointer) -> AssertionSpec:
    name = _base(entry["type"])
    value = entry.get("value")
    return AssertionSpec(
        type=name,
        place=document.place(pointer),
        negated=entry["type"] != name,
        value=value if name == "python" else templates_in(value, document, (*pointer, "value")),
        threshold=_threshold(entry.get("threshold")),
        model=entry.get("model"),
        weight=float(entry.get("weight", 1)),
        assertions=specs(document, entry.get("assert"), (*pointer, "assert")),
    )


def _threshold(threshold: str | float | None) -> float | None:
    return times.seconds(threshold) if isinstance(threshold, str) else None if threshold is None else float(threshold)
