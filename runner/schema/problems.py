"""One breach -> problems in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner import thresholds
from runner.errors import Problem
from runner.schema import assertion_hints
from runner.schema.breaches import dotted
from runner.schema.keys import extra_keys, missing_keys, unknown_key
from runner.schema.published import keys_of_type, positive_types
from runner.schema.wrong_values import EXPLANATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.schema.breaches import Breach, Pointer
    from runner.source import Document


def problems_of(error: Breach, document: Document) -> Iterator[Problem]:
    pointer = error.pointer
    if error.keyword == "additionalProperties":
        for key in extra_keys(error):
            yield unknown_key(error, document, key)
    elif error.keyword == "required":
        for key in missing_keys(error):
            yield _missing_key(error, document, key)
    elif error.keyword == "not":  # a key that makes no sense beside another
        yield _useless(error, document, pointer)
    elif error.keyword == "oneOf":
        yield from _content(document)
    elif pointer[:1] == ("thresholds",) and len(pointer) == 2:
        message, hint = thresholds.explain(str(pointer[1]), error.value)
        yield Problem(message, document.place(pointer), hint)
    else:
        explain = EXPLANATIONS[error.keyword]
        message, hint = explain(error, pointer, document)
        yield Problem(message, document.place(pointer), hint)


def _missing_key(error: Breach, document: Document, key: str) -> Problem:
    pointer = error.pointer
    hint = {
        "model": "add `model: ` and a model id, an inference profile id or an ARN",
        "type": 'write `{type: contains, value: "text"}`; types: ' + ", ".join(positive_types()),
        "value": f"add `value: ` and {_values_of(_type_at(document, pointer))}",
        "threshold": f"add `threshold: ` and {_bounds_of(_type_at(document, pointer))}",
        "text": "add `text: ` and what the assistant said",
        "path": "add `path: ` and the name of a file, as in `{{ file.stem }}.txt`"
        if pointer == ("sidecar",)
        else "add `path: ` and a JSONPath, as in `$.items[0].name`",
        "assert": "add `assert: ` and a list of assertions",
    }[key]
    inside = f"`{dotted(pointer)}` needs" if pointer else "the job needs"
    return Problem(f"`{key}` is missing: {inside} it", document.place(pointer), hint)


def _bounds_of(name: str) -> str:
    return assertion_hints.THRESHOLDS.get(name, "a duration, as in `20s`")


def _values_of(name: str) -> str:
    return assertion_hints.VALUES.get(name, "the text to check for")


def _type_at(document: Document, pointer: Pointer) -> str:
    """The type, without its `not-`, of the assertion at or around a place; empty where there is none."""
    found: Any = document.data
    for step in pointer:
        if isinstance(found, dict) and isinstance(found.get("type"), str):
            break
        found = found[step]
    name = found.get("type") if isinstance(found, dict) else None
    return name.removeprefix("not-") if isinstance(name, str) else ""


def _useless(error: Breach, document: Document, pointer: Pointer) -> Problem:
    place = document.place(pointer, key=True)
    if pointer[-1] == "weight":
        return Problem(
            "`weight` counts only inside an `assert-set`", place, "remove it, or put the assertion into a set"
        )
    if pointer[-1] == "type":
        return Problem(
            f"`{error.value}` cannot stand inside another set",
            document.place(pointer),
            "list its assertions in one set",
        )
    name = _type_at(document, pointer)
    no_meaning = keys_of_type(name, "forbidden")
    taken = [f"`{key}`" for key in ("assert", "value", "threshold", "model") if key not in no_meaning]
    return Problem(
        f"`{pointer[-1]}` has no meaning for `{name}`",
        place,
        f"remove it; `{name}` takes {' and '.join(taken)}" if taken else "remove it",
    )


def _content(document: Document) -> Iterator[Problem]:
    given = [key for key in ("prompt", "turns", "body") if key in document.data]
    if not given:
        yield Problem(
            "there is nothing to send: `prompt`, `turns` or `body` is needed",
            document.place(()),
            "add `prompt: text` for one user turn, or `turns:` for a conversation",
        )
    for key in given[1:]:
        yield Problem(
            f"`{given[0]}` and `{key}` cannot both be given", document.place((key,), key=True), "keep one of them"
        )
