"""JSON Schema -> problems: each at the deepest place that is wrong, in plain words, with what to write instead."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from runner import assertion_hints, thresholds
from runner.errors import Problem
from runner.source import kind
from runner.words import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.source import Document

Name = Literal["job", "result", "summary", "diff"]
Pointer = tuple[str | int, ...]

_MAX_BREACHES: Final = 300  # of one file, and problems of them: far more than anybody reads
_MAX_KEYS: Final = 100  # unknown ones of one mapping
_MAX_NAME: Final = 100  # characters of a key or value that is compared with the known ones


# --- the schemas -----------------------------------------------------------------------------------------------------


def text(name: Name) -> str:
    """The JSON Schema as published."""
    package = Path(__file__).parent
    folders = (package / "schemas", package.parent / "schemas")  # of the wheel, of a checkout
    folder = next(folder for folder in folders if folder.is_dir())
    return (folder / f"{name}.schema.json").read_text(encoding="utf-8")


@cache
def load(name: Name) -> dict[str, Any]:
    """The JSON Schema as data, shared by all callers: do not change it."""
    schema: dict[str, Any] = json.loads(text(name))
    return schema


# --- data -> breaches ------------------------------------------------------------------------------------------------

# The keywords that schemas/job.schema.json uses, and no others. To import jsonschema takes as long as the rest of a
# small `validate`, its messages hold the whole value, which aliases may make many times the file, and its `$` also
# matches before a line break at the end. It is for the tests: they hold this to what jsonschema finds.


@dataclass(frozen=True, slots=True)
class _Breach:
    """One value that breaks one keyword of the schema."""

    pointer: Pointer
    keyword: str
    wanted: Any  # what the keyword asks for
    value: Any  # what the file has
    schema: Mapping[str, Any]  # around the keyword


def _breaches(value: Any, schema: Mapping[str, Any], pointer: Pointer = ()) -> Iterator[_Breach]:
    for keyword, wanted in schema.items():
        if keyword in _RULES and not _RULES[keyword](wanted, value, schema):
            yield _Breach(pointer, keyword, wanted, value, schema)
        if keyword in _PARTS:
            for steps, part, its_schema in _PARTS[keyword](wanted, value, schema):
                yield from _breaches(part, its_schema, pointer + steps)


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    return next(_breaches(value, schema), None) is None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and (isinstance(value, int) or value.is_integer()),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}

# Whether a value is as the keyword wants it. What a keyword does not speak of (the length of a number) is right.
_RULES: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], bool]]] = {
    "type": lambda wanted, value, _: any(
        _TYPES[name](value) for name in ([wanted] if isinstance(wanted, str) else wanted)
    ),
    "enum": lambda wanted, value, _: isinstance(value, str) and value in wanted,
    "pattern": lambda wanted, value, _: not isinstance(value, str) or re.search(_whole(wanted), value) is not None,
    "minimum": lambda wanted, value, _: not (_is_number(value) and value < wanted),  # NaN is neither
    "maximum": lambda wanted, value, _: not (_is_number(value) and value > wanted),
    "exclusiveMinimum": lambda wanted, value, _: not (_is_number(value) and value <= wanted),
    "minLength": lambda wanted, value, _: not isinstance(value, str) or len(value) >= wanted,
    "maxLength": lambda wanted, value, _: not isinstance(value, str) or len(value) <= wanted,
    "minItems": lambda wanted, value, _: not isinstance(value, list) or len(value) >= wanted,
    "maxItems": lambda wanted, value, _: not isinstance(value, list) or len(value) <= wanted,
    "minProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda wanted, value, _: not isinstance(value, dict) or len(value) <= wanted,
    "required": lambda wanted, value, _: not isinstance(value, dict) or all(key in value for key in wanted),
    "additionalProperties": lambda wanted, value, schema: (  # `false`; a schema is among the parts below
        wanted is not False or not isinstance(value, dict) or value.keys() <= schema["properties"].keys()
    ),
    "not": lambda wanted, value, _: not _fits(value, wanted),
    "oneOf": lambda wanted, value, _: sum(_fits(value, schema) for schema in wanted) == 1,
}

_Part = tuple[Pointer, Any, Mapping[str, Any]]  # where it is in the value, what is there, which schema it must fit

# What else must fit which schema.
_PARTS: Final[Mapping[str, Callable[[Any, Any, Mapping[str, Any]], Iterable[_Part]]]] = {
    "properties": lambda wanted, value, _: (
        ((key,), value[key], schema) for key, schema in wanted.items() if isinstance(value, dict) and key in value
    ),
    "additionalProperties": lambda wanted, value, schema: (
        ((key,), item, wanted)
        for key, item in (value.items() if wanted and isinstance(value, dict) else ())
        if key not in schema["properties"]
    ),
    "items": lambda wanted, value, _: (
        ((index,), item, wanted) for index, item in enumerate(value if isinstance(value, list) else ())
    ),
    "$ref": lambda wanted, value, _: [((), value, load("job")["$defs"][wanted.removeprefix("#/$defs/")])],
    "allOf": lambda wanted, value, _: [((), value, schema) for schema in wanted],
    "if": lambda wanted, value, schema: [((), value, schema["then"])] if _fits(value, wanted) else [],
}


def _whole(pattern: str) -> str:
    """With the `$` of JSON Schema: Python's also matches before a line break at the end."""
    return pattern[:-1] + r"\Z" if pattern.endswith("$") else pattern


def fits(definition: str, value: Any) -> bool:
    """Whether a value is as a definition of the schema of jobs has it."""
    return _fits(value, load("job")["$defs"][definition])


def check(document: Document) -> tuple[Problem, ...]:
    """The ways in which a job file breaks its schema, in the order of the file: all of them, up to some hundreds."""
    errors = _without_consequences(list(islice(_breaches(document.data, load("job")), _MAX_BREACHES)))
    found = (problem for error in errors for problem in _explain(error, document))
    problems = dict.fromkeys(islice(found, _MAX_BREACHES))  # aliases lead to one place more than once
    return tuple(sorted(problems, key=_position))


def _position(problem: Problem) -> tuple[int, int]:
    assert problem.place is not None
    return problem.place.line, problem.place.column


# --- keys ------------------------------------------------------------------------------------------------------------

# What people write who come from promptfoo, from the bodies of Anthropic, Bedrock and OpenAI, or from SDKs.
# The first word of an advice in backquotes is the key that is meant.
_FOREIGN: Final[Mapping[str, Mapping[str, str]]] = {
    "job": {
        "prompts": "use `prompt: text` for one user turn, `turns:` for a conversation",
        "messages": "use `turns:` with `- user: text` and `- assistant: text`",
        "conversation": "use `turns:` with `- user: text` and `- assistant: text`",
        "user": "use `prompt: text`, or `turns:` with `- user: text`",
        "question": "use `prompt: text`",
        "input": "use `prompt: text`",
        "inputText": "use `body: {inputText: ...}` for a raw request body",
        "provider": "use `model: ID`",
        "providers": "use `model: ID`, or `matrix: {model: [ID, ID]}` to ask several",
        "models": "use `model: ID`, or `matrix: {model: [ID, ID]}` to ask several",
        "modelId": "use `model: ID`",
        "model_id": "use `model: ID`",
        "tests": "use `cases:`; each has `id`, `vars` and `assert`",
        "scenarios": "use `cases:`; each has `id`, `vars` and `assert`",
        "examples": "use `cases:`; each has `id`, `vars` and `assert`",
        "defaultTest": "put its `vars` and `assert` at the top level: they hold for every case",
        "image": "use `turns: [{user: {text: ..., images: [PATH]}}]`",
        "document": "use `turns: [{user: {text: ..., documents: [PATH]}}]`",
        "documents": "use `turns: [{user: {text: ..., documents: [PATH]}}]`",
        "files": "use `turns: [{user: {text: ..., documents: [PATH]}}]`",
        "attachments": "use `turns: [{user: {text: ..., documents: [PATH]}}]`",
        "video": "use `turns: [{user: {text: ..., video: PATH}}]`",
        "videos": "use `turns: [{user: {text: ..., video: PATH}}]`",
        "system_prompt": "use `system: text`",
        "instructions": "use `system: text`",
        "inferenceConfig": "use `inference:`",
        "config": "use `inference:` for max_tokens, temperature, top_p, top_k and stop",
        "parameters": "use `inference:` for max_tokens, temperature, top_p, top_k and stop",
        "additionalModelRequestFields": "use `extra:`",
        "anthropic_version": "leave it out: bedrock-run sends it",
        "response_format": "use `response_schema:` and a JSON Schema",
        "output_schema": "use `response_schema:` and a JSON Schema",
        "json_schema": "use `response_schema:` and a JSON Schema",
        "output_config": "use `response_schema:` and a JSON Schema; other fields go into `extra:`",
        "outputConfig": "use `response_schema:` and a JSON Schema",
        "tools": "use `extra:` for fields that a job file has no key for",
        "assertions": "use `assert:`",
        "asserts": "use `assert:`",
        "variables": "use `vars:`",
        "inputs": "use `vars:`",
        "rpm": "use `rate: {requests_per_minute: N}`",
        "tpm": "use `rate: {tokens_per_minute: N}`",
        "concurrency": "use `max_concurrency: N`",
        "retries": "use `retry: {max_attempts: N}`",
        "budget": "use `max_cost: USD`",
        "outputs": "leave it out: rows go to outputs/NAME.jsonl, or where `--output` says",
        "outputPath": "leave it out: rows go to outputs/NAME.jsonl, or where `--output` says",
    },
    "inference": {
        "stop_sequences": "use `stop: [text]`",
        "max_new_tokens": "use `max_tokens: N`",
        "max_gen_len": "use `max_tokens: N`",
        "max_tokens_to_sample": "use `max_tokens: N`",
        "max_completion_tokens": "use `max_tokens: N`",
    },
    "turn": {
        "role": "write the role as the key, as in `- user: text`",
        "content": "write the role as the key, as in `- user: text`",
        "system": "put `system: text` at the top level: it is no turn",
        "human": "use `user: text`",
        "bot": "use `assistant: text`",
        "ai": "use `assistant: text`",
    },
    "content": {
        "content": "use `text:`",
        "image": "use `images: [PATH]`",
        "images": "images go in a user turn",
        "document": "use `documents: [PATH]`",
        "documents": "documents go in a user turn",
        "pdf": "use `documents: [PATH]`",
        "file": "use `documents: [PATH]`",
        "files": "use `documents: [PATH]`",
        "attachments": "use `documents: [PATH]`",
        "video": "a video goes in a user turn",
        "videos": "use `video: PATH`: a request takes one",
        "audio": "leave it out: only text, images, documents and video are sent",
        "type": "write `text:`, `images:`, `documents:` and `video:` as keys",
        "source": "use `images: [PATH]` or `documents: [PATH]`; a PATH may be s3://bucket/key",
        "s3Location": "use `images: [PATH]` or `documents: [PATH]`; a PATH may be s3://bucket/key",
    },
    "cases": {
        "path": "use `file: rows.csv`",
        "files": "use `glob: PATTERN`",
        "pattern": "use `glob: PATTERN`",
        "separator": "use `delimiter:`",
        "id": "start each case with a dash, as in `- id: squares`",
        "vars": "start each case with a dash, as in `- vars: {topic: squares}`",
        "assert": "start each case with a dash, as in `- vars: {topic: squares}`",
    },
    "case": {
        "name": "use `id:`",
        "description": "use `id:`, which names the case",
        "variables": "use `vars:`",
        "inputs": "use `vars:`",
        "assertions": "use `assert:`",
        "asserts": "use `assert:`",
        "expected": "use `assert: [{type: equals, value: text}]`",
    },
    "assertion": {
        "expected": "use `value:`",
        "pattern": "use `value:`",
        "text": "use `value:`",
        "rubric": "use `value:`",
        "schema": "use `value:`",
        "max": "use `threshold:`",
        "path": "use `value: {path: TEXT}`",
        "assertions": "use `assert:`",
        "provider": "use `model: ID`",
        "rubricPrompt": "put all that the judge needs to know into `value:`",
        "metric": "leave it out: verdicts are named by type and line",
        "transform": "use `type: python`, whose code may look at any part of the output",
        "config": "leave it out: code gets what it needs from `vars`",
    },
    "sidecar": {
        "file": "use `path: NAME`",
        "name": "use `path: NAME`",
        "content": "use `text:`",
        "template": "use `text:`",
    },
    "rate": {"rpm": "use `requests_per_minute: N`", "tpm": "use `tokens_per_minute: N`"},
    "retry": {
        "attempts": "use `max_attempts: N`",
        "max_retries": "use `max_attempts: N`, which counts the first try too",
        "backoff": "use `max_backoff: 30s`",
    },
    "thresholds": {
        "accuracy": "use `pass_rate`",
        "success_rate": "use `pass_rate`",
        "failure_rate": "use `pass_rate`",
        "min_pass_rate": "use `pass_rate`",
        "latency": "use `p95_latency`; also p50_latency, p99_latency",
        "p50": "use `p50_latency`",
        "p95": "use `p95_latency`",
        "p99": "use `p99_latency`",
        "first_token_latency": "use `p95_first_token_latency`; also p50_first_token_latency",
        "total_cost": "use `cost`",
        "tokens": "use `input_tokens` and `output_tokens`",
    },
}


def _where(pointer: Sequence[str | int]) -> str:  # noqa: PLR0911 - a table
    """Which kind of mapping a pointer leads to, as the tables above call them."""
    match list(pointer):
        case []:
            return "job"
        case ["inference" | "rate" | "retry" | "cases" | "matrix" | "thresholds" | "sidecar" as name]:
            return str(name)
        case ["images"]:  # of the job; those of a turn are a list
            return "image settings"
        case ["turns", *inside]:
            return "turn" if len(inside) == 1 else "content"
        case [*_, "assert", int()]:
            return "assertion"
        case [*_, "assert", int(), "value"]:
            return "value"
        case _:
            return "case"


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).replace("-", "_").lower()


def _meant(key: str, known: Iterable[str]) -> str | None:
    """The key that was probably meant."""
    names = list(known)
    snake = _snake(key[:_MAX_NAME])
    if snake in names:
        return snake
    return nearest(snake, names, likeness=0.7)


def _unknown_key(error: _Breach, document: Document, key: str) -> Problem:
    pointer = error.pointer
    where = _where(pointer)
    place = document.place((*pointer, key), key=True)
    known = list(error.schema["properties"])
    hint = _advice(where, key) or _key_hint(key, where, known)
    inside = f" in `{dotted(pointer)}`" if pointer else ""
    return Problem(f"unknown key `{shorten(key)}`{inside}", place, hint)


def _advice(where: str, key: str) -> str | None:
    """What to write in place of a key that is known to come from elsewhere."""
    if where == "assertion" and key in _assertion_types():
        return f"use `type: {key}`" + "".join(f" and `{name}:`" for name in _keys_of_type(key, "required"))
    return _FOREIGN.get(where, {}).get(key)


def _key_hint(key: str, where: str, known: Sequence[str]) -> str:
    if _snake(key) in known:
        return f"did you mean `{_snake(key)}`?"
    if where == "job":
        for section in ("inference", "rate", "retry", "thresholds"):
            names = load("job")["$defs"][section]["properties"]
            foreign = _FOREIGN[section].get(_snake(key))
            if _snake(key) in names:
                return f"put it under `{section}:`, as `{_snake(key)}`"
            if foreign is not None:
                return f"put it under `{section}:`; {foreign}"
    elif _snake(key) in load("job")["properties"]:
        return f"`{_snake(key)}` belongs at the top level: check the indentation"
    else:
        foreign = _FOREIGN.get(where, {}).get(_snake(key))
        if foreign is not None:
            return foreign
    meant = _meant(key, known)
    return f"did you mean `{meant}`?" if meant else f"known here: {', '.join(known)}"


def _extra_keys(error: _Breach) -> list[str]:
    return list(islice((key for key in error.value if key not in error.schema["properties"]), _MAX_KEYS))


# Of keys that stand for others: a file with `prompts` needs no second message that `prompt` is missing.
_CONTENT: Final = frozenset({"prompt", "turns", "body"})


def _without_consequences(errors: list[_Breach]) -> Iterator[_Breach]:
    """The errors without those that only say that a key is missing which was there under a wrong name."""
    meant: dict[Pointer, set[str]] = {}
    for error in errors:
        if error.keyword == "additionalProperties":
            pointer = error.pointer
            for key in _extra_keys(error):
                meant.setdefault(pointer, set()).update(_named_by(error, pointer, key))
    for error in errors:
        wrong = meant.get(error.pointer, set())
        if error.keyword == "required" and wrong >= set(_missing(error)):
            continue
        if error.keyword == "oneOf" and not _CONTENT & set(error.value) and wrong & _CONTENT:
            continue
        if error.keyword == "minProperties" and wrong:
            continue
        if error.keyword == "maxProperties" and wrong and len(_known_keys(error)) <= error.wanted:
            continue
        if error.keyword == "enum" and not isinstance(error.value, str):  # its type is wrong, which says more
            continue
        yield error


def _known_keys(error: _Breach) -> list[str]:
    return [key for key in error.value if key in error.schema["properties"]]


def _named_by(error: _Breach, pointer: Pointer, key: str) -> set[str]:
    known = error.schema["properties"]
    advice = _advice(_where(pointer), key) or ""
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", advice)))) & set(known)
    meant = _meant(key, known)
    return named | ({meant} if meant else set()) or {""}


def _missing(error: _Breach) -> list[str]:
    return [key for key in error.wanted if key not in error.value]


# --- one error -> problems -------------------------------------------------------------------------------------------


def dotted(pointer: Sequence[str | int]) -> str:
    """A pointer as people write it: `turns[0].user.images`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in pointer).lstrip(".")


def _explain(error: _Breach, document: Document) -> Iterator[Problem]:
    pointer = error.pointer
    if error.keyword == "additionalProperties":
        for key in _extra_keys(error):
            yield _unknown_key(error, document, key)
    elif error.keyword == "required":
        for key in _missing(error):
            yield _missing_key(error, document, key)
    elif error.keyword == "not":  # a key that makes no sense beside another
        yield _useless(error, document, pointer)
    elif error.keyword == "oneOf":
        yield from _content(document)
    elif pointer[:1] == ("thresholds",) and len(pointer) == 2:
        message, hint = thresholds.explain(str(pointer[1]), error.value)
        yield Problem(message, document.place(pointer), hint)
    else:
        explain = _VALUES[error.keyword]
        message, hint = explain(error, pointer, document)
        yield Problem(message, document.place(pointer), hint)


def _missing_key(error: _Breach, document: Document, key: str) -> Problem:
    pointer = error.pointer
    hint = {
        "model": "add `model: ` and a model id, an inference profile id or an ARN",
        "type": 'write `{type: contains, value: "text"}`; types: ' + ", ".join(_positive_types()),
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


def _keys_of_type(name: str, which: Literal["required", "forbidden"]) -> list[str]:
    """The keys that an assertion of a type must have, or cannot."""
    keys: list[str] = []
    for rule in load("job")["$defs"]["assertion"]["allOf"]:
        if name in rule["if"]["properties"]["type"]["enum"]:
            forbidden = [key for key, schema in rule["then"]["properties"].items() if "not" in schema]
            keys += rule["then"].get("required", []) if which == "required" else forbidden
    return keys


def _useless(error: _Breach, document: Document, pointer: Pointer) -> Problem:
    place = document.place(pointer, key=True)
    if pointer[-1] == "weight":
        return Problem(
            "`weight` counts only inside an `assert-set`", place, "remove it, or put the assertion into a set"
        )
    if pointer[-1] == "type":
        return Problem(
            f"an `{error.value}` cannot stand inside another", document.place(pointer), "list its assertions in one set"
        )
    name = _type_at(document, pointer)
    no_meaning = _keys_of_type(name, "forbidden")
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


def _wrong_type(error: _Breach, pointer: Pointer, document: Document) -> Explanation:
    wanted = [error.wanted] if isinstance(error.wanted, str) else list(error.wanted)
    value = error.value
    name = dotted(pointer) or "the job"
    if value is None:
        return f"`{name}` has no value", _null_hint(pointer, document)
    words = "a duration" if "pattern" in error.schema and _is_duration(error) else _alternatives(wanted)
    return f"`{name}` must be {words}, not {kind(value)}", _type_hint(error, wanted, pointer)


def _alternatives(wanted: list[str]) -> str:
    return " or ".join(_TYPE_WORDS[name] for name in wanted)


def _null_hint(pointer: Pointer, document: Document) -> str:
    place = document.place(pointer, key=True)
    if re.search(r"[:-]\s+#", place.source[place.column - 1 :]):
        return "what follows a `#` is a comment: quote a text that starts with one"
    return "write a value, or leave the key out"


def _type_hint(error: _Breach, wanted: list[str], pointer: Pointer) -> str:
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
        shape = _SHAPES.get(_where(pointer))
    return shape or f"write {_alternatives(wanted)}{_example(error)}"


def _example(error: _Breach) -> str:
    examples = error.schema.get("examples")
    return f", as in `{_as_yaml(examples[0])}`" if examples else ""


def _as_yaml(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_duration(error: _Breach) -> bool:
    return bool(error.schema.get("pattern") == load("job")["$defs"]["duration"]["pattern"])


def _duration_hint(value: object) -> str:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        number = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?(?:s|secs?|seconds?)?", str(value).strip())
        if number:
            unit, name = ("ms", "milliseconds") if float(number[1]) >= 1000 else ("s", "seconds")
            return f"write `{number[1]}{unit}` for {name}; units are ms, s, m and h"
    return "write a number with its unit, as in `500ms`, `30s`, `5m` or `1h`"


def _assertion_types() -> list[str]:
    names: list[str] = load("job")["$defs"]["assertion"]["properties"]["type"]["enum"]
    return names


def _positive_types() -> list[str]:
    return [name for name in _assertion_types() if not name.startswith("not-")]


def _not_in_list(error: _Breach, pointer: Pointer, _: Document) -> Explanation:
    known = [str(name) for name in error.wanted]
    value = str(error.value)
    instead = assertion_hints.PROMPTFOO_TYPES.get(value.removeprefix("not-")) if known == _assertion_types() else None
    if instead:
        return f"the assertion type `{value}` is not supported by bedrock-run", instead
    meant = _meant_value(value, known)
    offered = _positive_types() if known == _assertion_types() else known
    hint = f"did you mean `{meant}`?" if meant else f"write one of: {', '.join(offered)}"
    return f"`{dotted(pointer)}` cannot be `{shorten(value)}`", hint


def _meant_value(value: str, known: list[str]) -> str | None:
    dashed = _snake(value[:_MAX_NAME]).replace("_", "-").replace(" ", "-")
    return nearest(dashed, known)


def _wrong_pattern(error: _Breach, pointer: Pointer, _: Document) -> Explanation:
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


def _out_of_range(error: _Breach, pointer: Pointer, _: Document) -> Explanation:
    limit = f"{error.wanted:,g}" if isinstance(error.wanted, float) else f"{error.wanted:,}"
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than"}[error.keyword]
    return f"`{dotted(pointer)}` must be {words} {limit}, not {shorten(str(error.value))}", f"write {_range(error)}"


def _range(error: _Breach) -> str:
    schema = error.schema
    word = "a whole number" if schema["type"] == "integer" else "a number"
    if schema["maximum"] == 1:
        return f"{word} from 0 to 1"
    low = f"from {schema['minimum']}" if "minimum" in schema else "above 0"
    return f"{word} {low}{_example(error)}"


def _too_short(error: _Breach, pointer: Pointer, _: Document) -> Explanation:
    shape = _SHAPES.get(str(pointer[-1]))
    return f"`{dotted(pointer)}` is empty", shape or f"add something to it{_example(error)}, or leave it out"


def _too_long(error: _Breach, pointer: Pointer, _: Document) -> Explanation:
    return f"`{dotted(pointer)}` is longer than {error.wanted}", "shorten it"


def _two_roles(_error: _Breach, pointer: Pointer, _document: Document) -> Explanation:
    return (
        f"`{dotted(pointer)}` is two turns in one",
        "start each turn with a dash of its own: `- user:`, `- assistant:`",
    )


_VALUES: Final[Mapping[str, Callable[[_Breach, Pointer, Document], Explanation]]] = {
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
