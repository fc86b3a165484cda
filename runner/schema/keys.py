"""Keys that the schema does not know: which one was meant, and what takes the place of those of other tools."""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, Final

from runner.errors import Problem
from runner.schema.breaches import dotted
from runner.schema.published import assertion_types, keys_of_type, load
from runner.words import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runner.schema.breaches import Breach, Pointer
    from runner.source import Document

_MAX_KEYS: Final = 100  # unknown ones of one mapping
MAX_NAME: Final = 100  # characters of a key or value that is compared with the known ones


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


def section_of(pointer: Sequence[str | int]) -> str:  # noqa: PLR0911 - a table
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


def snake_case(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).replace("-", "_").lower()


def _meant(key: str, known: Iterable[str]) -> str | None:
    """The key that was probably meant."""
    names = list(known)
    snake = snake_case(key[:MAX_NAME])
    if snake in names:
        return snake
    return nearest(snake, names, likeness=0.7)


def unknown_key(error: Breach, document: Document, key: str) -> Problem:
    pointer = error.pointer
    where = section_of(pointer)
    place = document.place((*pointer, key), key=True)
    known = list(error.schema["properties"])
    hint = _advice(where, key) or _key_hint(key, where, known)
    inside = f" in `{dotted(pointer)}`" if pointer else ""
    return Problem(f"unknown key `{shorten(key)}`{inside}", place, hint)


def _advice(where: str, key: str) -> str | None:
    """What to write in place of a key that is known to come from elsewhere."""
    if where == "assertion" and key in assertion_types():
        return f"use `type: {key}`" + "".join(f" and `{name}:`" for name in keys_of_type(key, "required"))
    return _FOREIGN.get(where, {}).get(key)


def _key_hint(key: str, where: str, known: Sequence[str]) -> str:
    if snake_case(key) in known:
        return f"did you mean `{snake_case(key)}`?"
    if where == "job":
        for section in ("inference", "rate", "retry", "thresholds"):
            names = load("job")["$defs"][section]["properties"]
            foreign = _FOREIGN[section].get(snake_case(key))
            if snake_case(key) in names:
                return f"put it under `{section}:`, as `{snake_case(key)}`"
            if foreign is not None:
                return f"put it under `{section}:`; {foreign}"
    elif snake_case(key) in load("job")["properties"]:
        return f"`{snake_case(key)}` belongs at the top level: check the indentation"
    else:
        foreign = _FOREIGN.get(where, {}).get(snake_case(key))
        if foreign is not None:
            return foreign
    meant = _meant(key, known)
    return f"did you mean `{meant}`?" if meant else f"known here: {', '.join(known)}"


def extra_keys(error: Breach) -> list[str]:
    return list(islice((key for key in error.value if key not in error.schema["properties"]), _MAX_KEYS))


# Of keys that stand for others: a file with `prompts` needs no second message that `prompt` is missing.
_CONTENT: Final = frozenset({"prompt", "turns", "body"})


def without_consequences(errors: list[Breach]) -> Iterator[Breach]:
    """The errors without those that only say that a key is missing which was there under a wrong name."""
    meant: dict[Pointer, set[str]] = {}
    for error in errors:
        if error.keyword == "additionalProperties":
            pointer = error.pointer
            for key in extra_keys(error):
                meant.setdefault(pointer, set()).update(_named_by(error, pointer, key))
    for error in errors:
        wrong = meant.get(error.pointer, set())
        if error.keyword == "required" and wrong >= set(missing_keys(error)):
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


def _known_keys(error: Breach) -> list[str]:
    return [key for key in error.value if key in error.schema["properties"]]


def _named_by(error: Breach, pointer: Pointer, key: str) -> set[str]:
    known = error.schema["properties"]
    advice = _advice(section_of(pointer), key) or ""
    named = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", advice)))) & set(known)
    meant = _meant(key, known)
    return named | ({meant} if meant else set()) or {""}


def missing_keys(error: Breach) -> list[str]:
    return [key for key in error.wanted if key not in error.value]
