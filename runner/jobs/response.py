"""The `response_schema` of a document: where it is, what is wrong with it, and its value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner import paths, source
from runner.assertions import json_schemas
from runner.bedrock import structured
from runner.errors import Problem, UsageError
from runner.jobs.values import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from runner.errors import Place
    from runner.records import Job, ResponseSchema
    from runner.source import Document

    Placing = Callable[[Sequence[str | int]], Place]  # where a part of the schema is written

_POINTER = ("response_schema",)
_HINT = "write a JSON Schema (2020-12) as a mapping, or the name of a JSON or YAML file that has one"


def find(document: Document, allow_dirs: Sequence[Path]) -> tuple[ResponseSchema | None, list[Problem]]:
    """The response schema of a document, if it has one that is in order, and all that is wrong about it.

    A file is looked for in the document's folder and may not lie outside of it and of `allow_dirs`. Of what breaks the
    schema of jobs nothing is said here.
    """
    problems = list(_problems_beside(document))
    given = document.data.get("response_schema")
    if isinstance(given, str) and given.strip():
        try:
            file = _read(document, given, allow_dirs)
        except UsageError as error:
            return None, [*problems, *error.problems]
        problems += file.problems
        schema = plain(file.data)
        problems += _problems_of(schema, file.place)
    elif isinstance(given, dict) and source.holds_finite(given):
        schema = plain(given)
        problems += _problems_of(schema, lambda steps: document.place((*_POINTER, *steps)))
    else:
        return None, problems
    if problems:
        return None, problems
    repair = document.data.get("response_repair") is True
    return structured.response_schema(schema, place=document.place(_POINTER, key=True), repair=repair), []


def _read(document: Document, path: str, allow_dirs: Sequence[Path]) -> Document:
    """The file of a schema. Raises UsageError, at the job's line where the path is what is wrong."""
    folder, place = document.path.parent, document.place(_POINTER)
    try:
        file = paths.resolved(path, folder)
    except ValueError as error:  # a NUL byte, a loop of links
        raise UsageError(Problem(f"{path!r} is not a usable path: {error}", place)) from error
    if not paths.is_allowed(file, (folder, *allow_dirs)):
        raise UsageError(
            Problem(
                f"the schema {path!r} lies outside the job file's folder",
                place,
                f"move it there, or allow its folder with --allow-dir {file.parent}",
            )
        )
    if not file.is_file():
        what = "is no file" if file.exists() else "is not there"
        raise UsageError(Problem(f"the schema {path!r} {what}", place, f"paths start at the job file's folder: {file}"))
    read = source.read(file, shown_as=str(folder / path))
    if not source.holds_finite(read.data):
        raise UsageError(Problem("the JSON Schema has a number that JSON cannot hold", read.place(())))
    return read


def _problems_of(schema: dict[str, Any], place: Placing) -> Iterator[Problem]:
    fault = json_schemas.fault(schema)
    if fault is not None:
        yield Problem(fault.message, place(fault.steps), fault.hint or _HINT)
    elif not json_schemas.has_known_dialect(schema):
        yield Problem(
            "`$schema` names no dialect that is known here",
            place(("$schema",)),
            'leave it out for 2020-12, or write `$schema: "https://json-schema.org/draft/2020-12/schema"`',
        )


def _problems_beside(document: Document) -> Iterator[Problem]:
    """What makes no sense beside a response schema, or without one."""
    data = document.data
    if "response_schema" not in data:
        if "response_repair" in data:
            place = document.place(("response_repair",), key=True)
            yield Problem("`response_repair` has no effect without `response_schema`", place, "add one, or remove it")
        return
    place = document.place(_POINTER, key=True)
    if "body" in data:
        yield Problem(
            "`response_schema` has no effect beside `body`, which is the whole request",
            place,
            "put it into `body` as the model wants it, and check the reply with `{type: is-json, value: SCHEMA}`",
        )
    turns = data.get("turns")
    if isinstance(turns, list) and len(turns) > 1 and isinstance(turns[-1], dict) and "assistant" in turns[-1]:
        yield Problem(
            "an assistant turn at the end begins the reply, which `response_schema` wants whole",
            document.place(("turns", len(turns) - 1)),
            "end with a user turn: the schema says what the reply looks like",
        )


def of_model(document: Document, job: Job) -> Iterator[Problem]:
    """What Bedrock would refuse of the request of a job."""
    wanted, given = job.response_schema, job.extra.get("output_config")
    if wanted is not None and wanted.sent == "native" and isinstance(given, dict) and "format" in given:
        yield Problem(
            "`extra.output_config.format` and `response_schema` both say what the reply looks like",
            document.place(("extra", "output_config", "format"), key=True),
            "keep one of them",
        )
