"""A value that breaks a keyword -> what is wrong with it, and what to write instead."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from runner.schema import assertion_hints
from runner.schema.breaches import dotted
from runner.schema.keys import MAX_NAME, section_of, snake_case
from runner.schema.published import assertion_types, load, positive_types
from runner.source import kind
from runner.words import nearest, plural, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.schema.breaches import Breach, Pointer
    from runner.source import Document

Explanation = tuple[str, str]

_TYPE_WORDS: Final = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
_SHAPES: Final = {
    "turns": "start each turn with a dash, as in `- user: text`",
    "cases": "write a list, as in `- vars: {topic: squares}`, or the name of a file of rows, as in `rows.csv`",
    "matrix": "write `{model: [ID, ID], tone: [formal, friendly]}`",
    "assert": 'write a list, as in `- {type: contains, value: "text"}`',
    "turn": "write `- user: text` or `- assistant: text`",
    "user": "write a text, or `{text: ..., images: [PATH]}`; also `documents: [PATH]` and `video: PATH`",
    "video": "write one path: a request takes one video",
    "assistant": "write a text",
    "body": "write the request as the model takes it, as in `{inputText: TEXT}`",
    "extra": "write fields of the request, as in `{anthropic_beta: [NAME]}`",
    "case": "write `- vars: {topic: squares}`",
    "assertion": 'write `- {type: contains, value: "text"}`',
    "vars": "write `{name: value}`",
    "inference": "write `inference: {max_tokens: 1024}`",
    "sidecar": "write the name of a file, as in `{{ file.stem }}.txt`, or `{path: NAME, text: TEXT}`",
    "rate": "write `rate: {requests_per_minute: 100}`",
    "retry": "write `retry: {max_attempts: 8, max_backoff: 30s}`",
    "thresholds": 'write `{pass_rate: ">= 0.95", p95_latency: "< 8s"}`',
    "image settings": "how they are sent is said here, as in `images: {max_edge: 1024}`; "
    "which, in a turn: `turns: [{user: {text: ..., images: [PATH]}}]`",
    "response_schema": "write a JSON Schema, as in `{type: object, ...}`, or the name of a file that has one",
}


def _wrong_type(error: Breach, pointer: Pointer, document: Document) -> Explanation:
    wanted = [error.wanted] if isinstance(error.wanted, str) else list(error.wanted)
    value = error.value
    name = dotted(pointer) or "the job"
    if value is None:
        return f"`{name}` has no value", _null_hint(pointer, document)
    words = "a duration" if "pattern" in error.schema and _is_duration(error) else _alternatives(wanted)
    return f"`{name}` must be {words}, not {kind(value)}", _type_hint(error, wanted, pointer)


def _alternatives(wanted: list[str]) -> str:
    *others, last = [_TYPE_WORDS[name] for name in wanted]
    return f"{', '.join(others)} or {last}" if others else last


def _null_hint(pointer: Pointer, document: Document) -> str:
    place = document.place(pointer, key=True)
    if re.search(r"[:-]\s+#", place.source[place.column - 1 :]):
        return "what follows a `#` is a comment: quote a text that starts with one"
    return "write a value, or leave the key out"


def _type_hint(error: Breach, wanted: list[str], pointer: Pointer) -> str:
    value = error.value
    if _is_duration(error):
        return _duration_hint(value)
    if "boolean" in wanted and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off", "y", "n"):
        meant = "true" if value.lower() in ("yes", "on", "y") else "false"
        return f"`{value}` is a text in YAML 1.2: write `{meant}`"
    if isinstance(value, str) and re.fullmatch(r"true|false|[-+]?[0-9]*\.?[0-9]+", value.strip(), re.IGNORECASE):
        return f"remove the quotes: `{value.strip()}`"
    if "string" in wanted and isinstance(value, (bool, int, float)) and pointer != ("cases",):
        words = error.schema.get("enum")
        written = f'"{str(value).lower() if isinstance(value, bool) else value}"'
        return f"write one of: {', '.join(words)}" if words else f"quote it: `{written}`"
    if wanted == ["array"] and isinstance(value, str) and pointer[-1] not in ("turns", "assert"):
        return f"write a list: `[{shorten(value)}]`"
    shape = _SHAPES.get(str(pointer[-1])) if pointer and isinstance(pointer[-1], str) else None
    if shape is None and "object" in wanted and pointer:
        shape = _SHAPES.get(section_of(pointer))
    return shape or f"write {_alternatives(wanted)}{_example(error)}"


def _example(error: Breach) -> str:
    examples = error.schema.get("examples")
    return f", as in `{_as_yaml(examples[0])}`" if examples else ""


def _as_yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_duration(error: Breach) -> bool:
    return bool(error.schema.get("pattern") == load("job")["$defs"]["duration"]["pattern"])


def _duration_hint(value: object) -> str:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:s|secs?|seconds?)?", str(value).strip())
        if number:
            unit, name = ("ms", "milliseconds") if float(number[1]) >= 1000 else ("s", "seconds")
            return f"write `{number[1]}{unit}` for {name}; units are ms, s, m and h"
    return "write a number with its unit, as in `500ms`, `30s`, `5m` or `1h`"


def _not_in_list(error: Breach, pointer: Pointer, _: Document) -> Explanation:
    known = [str(name) for name in error.wanted]
    value = str(error.value)
    instead = assertion_hints.PROMPTFOO_TYPES.get(value.removeprefix("not-")) if known == assertion_types() else None
    if instead:
        return f"the assertion type `{value}` is not supported by bedrock-run", instead
    meant = _meant_value(value, known)
    offered = positive_types() if known == assertion_types() else known
    hint = f"did you mean `{meant}`?" if meant else f"write one of: {', '.join(offered)}"
    return f"`{dotted(pointer)}` cannot be `{shorten(value)}`", hint


def _meant_value(value: str, known: list[str]) -> str | None:
    dashed = snake_case(value[:MAX_NAME]).replace("_", "-").replace(" ", "-")
    return nearest(dashed, known)


def _wrong_pattern(error: Breach, pointer: Pointer, _: Document) -> Explanation:
    value = str(error.value)
    name = dotted(pointer)
    if not value.strip():
        return f"`{name}` is empty", f"write a text{_example(error)}"
    if _is_duration(error):
        return f"`{name}` must be a duration, not {kind(value)}", _duration_hint(value)
    if pointer == ("model",) or pointer[:2] == ("matrix", "model"):
        return f"`{shorten(value)}` cannot be a model id", _model_hint(value)
    if pointer == ("images", "max_edge"):
        return f"`{shorten(value)}` is no size", "write a number of pixels, as in `1024`, or `off`"
    if pointer == ("region",):
        return f"`{shorten(value)}` is not an AWS region", "write its code, as in `us-east-1`"
    return f"`{shorten(value)}` cannot name a file", (
        'leave out / \\ < > : " | ? * and control characters, and do not start or end with a dot or a space'
    )


def _model_hint(value: str) -> str:
    if value.strip() != value:
        return "remove the spaces and line breaks around it"
    return "write an id as AWS lists it, as in `anthropic.claude-3-5-sonnet-20241022-v2:0`"


def _out_of_range(error: Breach, pointer: Pointer, _: Document) -> Explanation:
    limit = f"{error.wanted:,g}" if isinstance(error.wanted, float) else f"{error.wanted:,}"
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[error.keyword]
    return f"`{dotted(pointer)}` must be {words} {limit}, not {shorten(str(error.value))}", f"write {_range(error)}"


def _range(error: Breach) -> str:
    schema = error.schema
    word = "a whole number" if schema["type"] == "integer" else "a number"
    if schema["maximum"] == 1:
        return f"{word} from 0 to 1"
    low = f"from {schema['minimum']}" if "minimum" in schema else "above 0"
    return f"{word} {low}{_example(error)}"


def _too_short(error: Breach, pointer: Pointer, _: Document) -> Explanation:
    shape = _SHAPES.get(str(pointer[-1]))
    return f"`{dotted(pointer)}` is empty", shape or f"add something to it{_example(error)}, or leave it out"


def _too_long(error: Breach, pointer: Pointer, _: Document) -> Explanation:
    what = "character" if error.keyword == "maxLength" else "item"
    return f"`{dotted(pointer)}` is longer than {plural(error.wanted, what)}", "shorten it"


def _two_roles(_error: Breach, pointer: Pointer, _document: Document) -> Explanation:
    return (
        f"`{dotted(pointer)}` is two turns in one",
        "start each turn with a dash of its own: `- user:`, `- assistant:`",
    )


EXPLANATIONS: Final[Mapping[str, Callable[[Breach, Pointer, Document], Explanation]]] = {
    "type": _wrong_type,
    "enum": _not_in_list,
    "pattern": _wrong_pattern,
    "minimum": _out_of_range,
    "maximum": _out_of_range,
    "exclusiveMinimum": _out_of_range,
    "minLength": _too_short,
    "minItems": _too_short,
    "minProperties": _too_short,
    "maxLength": _too_long,
    "maxItems": _too_long,
    "maxProperties": _two_roles,
}
