"""Structured replies: how a JSON Schema is asked for, in the request or in the prompt, and how a repair is. Pure.

What comes back is checked by runner/assertions/structured_reply.py, however it was asked for.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from runner import models
from runner.models import model_ids
from runner.records import Assertion, Message, ResponseSchema
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.errors import Place
    from runner.records import Job, Request

ASSERTION: Final = "response-schema"  # the type of the verdict on the reply

_INSTRUCTIONS = """\
Answer with one JSON value that holds to the JSON Schema below, and with nothing around it: no explanation, no code \
fence.

<json-schema>
{schema}
</json-schema>"""

_REPAIR = """\
Your reply does not hold to the JSON Schema that was asked for: {found}. Answer again with the corrected JSON value \
alone: no explanation, no code fence."""


def response_schema(schema: Mapping[str, Any], *, place: Place, repair: bool) -> ResponseSchema:
    """The response schema of a job, before it is known which model is asked."""
    return ResponseSchema(schema=schema, text=json.dumps(schema, ensure_ascii=False), place=place, repair=repair)


def for_model(wanted: ResponseSchema, model: str, *, may_cite: bool = False) -> ResponseSchema:
    """The response schema as it is sent to a model. `may_cite`: it may be asked to cite from documents."""
    cites = "the model cites from documents, which Bedrock does not combine with structured output"
    return replace(wanted, why_in_prompt=cites if may_cite else _why_in_prompt(wanted.schema, model))


def _why_in_prompt(schema: Mapping[str, Any], model: str) -> str | None:
    """Why a model cannot be sent a schema as structured output; None if it can."""
    known = models.load()
    facts = known.find(model) or known.find(model_ids.bare(model))
    if facts is None or "json_schema" not in facts.takes:
        return f"`{shorten(model)}` is not known to take structured output"
    beyond = beyond_subset(schema)
    return None if beyond is None else f"Bedrock's structured output does not take it: {beyond}"


def notes(jobs: Sequence[Job]) -> list[str]:
    """Why the response schema of a job, or of the variants of one, is not sent as structured output."""
    wanted = [job.response_schema for job in jobs]
    whys = dict.fromkeys(each.why_in_prompt for each in wanted if each is not None and each.why_in_prompt is not None)
    return [f"response_schema is asked for in the system prompt: {why}" for why in whys]


# --- requests --------------------------------------------------------------------------------------------------------


def asked_for(request: Request, messages: Sequence[Message]) -> ResponseSchema | None:
    """What the reply to these messages must hold to: nothing, in a live conversation, before the last turn is sent."""
    wanted = request.response_schema
    if wanted is None or not any(message is request.messages[-1] for message in messages):
        return None
    return wanted


def native(request: Request, messages: Sequence[Message]) -> ResponseSchema | None:
    """What is to be sent as structured output with these messages."""
    wanted = asked_for(request, messages)
    return wanted if wanted is not None and wanted.sent == "native" else None


def system(request: Request, messages: Sequence[Message]) -> str | None:
    """The system prompt that is sent with these messages: where the schema is asked for in it, that is its end."""
    wanted = asked_for(request, messages)
    if wanted is None or wanted.sent == "native":
        return request.system
    instructions = _INSTRUCTIONS.format(schema=wanted.text)
    return instructions if request.system is None else f"{request.system}\n\n{instructions}"


def instructions(request: Request, messages: Sequence[Message]) -> str:
    """All that is asked beside the messages, for an estimate of its tokens: a schema counts however it is sent."""
    wanted = native(request, messages)
    return (system(request, messages) or "") + (wanted.text if wanted else "")


def repair_turn(found: str) -> Message:
    """What the user says to a reply that does not hold to the schema; `found` is what is wrong with it."""
    return Message(role="user", text=_REPAIR.format(found=found))


def assertion(wanted: ResponseSchema) -> Assertion:
    """What the last reply must hold to, as an assertion."""
    return Assertion(type=ASSERTION, place=wanted.place, value=wanted.schema)


def described(wanted: ResponseSchema) -> dict[str, Any]:
    """The response schema as rows tell of it."""
    return {"schema": wanted.schema, "sent": wanted.sent}


# --- the subset of JSON Schema that Bedrock takes --------------------------------------------------------------------

# What the documentation of structured output names. A keyword that it does not speak of counts as one that is refused:
# asking in the prompt always works, while a refusal is an error for every case.
_KEYWORDS: Final = frozenset(
    {"$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "definitions", "description"}
    | {"enum", "format", "items", "minItems", "properties", "required", "title", "type"}
)
_TELLING: Final = frozenset({"$ref", "allOf", "anyOf", "type"})
_FORMATS: Final = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
_MOST_OPTIONAL: Final = 24  # properties that are not required, in a whole schema
_MOST_UNIONS: Final = 16  # of `anyOf` and lists of types


def beyond_subset(schema: Mapping[str, Any]) -> str | None:
    """The first thing in a JSON Schema, all of whose references lead into itself, that structured output does not take;
    None if it takes all of it.
    """
    if schema.get("type") != "object":
        return "its top is no object"
    optional = unions = 0
    for where, part in _subschemas(schema, ""):
        found = next((told for check in _CHECKS if (told := check(part)) is not None), None)
        if found is not None:
            return f"{found} at {where or 'the top'}"
        optional += len(part.get("properties", {}).keys() - set(part.get("required", ())))
        unions += "anyOf" in part or isinstance(part.get("type"), list)
    if optional > _MOST_OPTIONAL:
        return f"{optional} properties are not required, and {_MOST_OPTIONAL} may be"
    if unions > _MOST_UNIONS:
        return f"{unions} values may be of several types, and {_MOST_UNIONS} may"
    return "it refers to itself" if _is_recursive(schema) else None


def _subschemas(part: Any, where: str) -> Iterator[tuple[str, Any]]:
    """A schema and the schemas in it, each with its JSON pointer."""
    yield where, part
    if not isinstance(part, dict):
        return
    for keyword in ("properties", "$defs", "definitions"):
        for name, inner in part.get(keyword, {}).items():
            yield from _subschemas(inner, f"{where}/{keyword}/{name}")
    if "items" in part:
        yield from _subschemas(part["items"], f"{where}/items")
    for keyword in ("anyOf", "allOf"):
        for index, inner in enumerate(part.get(keyword, ())):
            yield from _subschemas(inner, f"{where}/{keyword}/{index}")


def _types(part: Mapping[str, Any]) -> list[str]:
    types = part.get("type", [])
    return [types] if isinstance(types, str) else types


def _not_a_mapping(part: Any) -> str | None:
    return None if isinstance(part, dict) else f"`{json.dumps(part)}` stands for a schema"


def _keyword(part: Mapping[str, Any]) -> str | None:
    unknown = next((name for name in part if name not in _KEYWORDS), None)
    if unknown is not None:
        return f"`{shorten(unknown)}` stands"
    return None if part.keys() & _TELLING else "a schema without `type` stands"


def _open_object(part: Mapping[str, Any]) -> str | None:
    if "object" not in _types(part) and not part.keys() & {"properties", "additionalProperties"}:
        return None
    return None if part.get("additionalProperties") is False else "`additionalProperties: false` is missing"


def _many_items(part: Mapping[str, Any]) -> str | None:
    return f"`minItems: {part['minItems']}` stands" if part.get("minItems", 0) not in (0, 1) else None


def _unknown_format(part: Mapping[str, Any]) -> str | None:
    return f"`format: {shorten(part['format'])}` stands" if part.get("format", "date") not in _FORMATS else None


def _large_constant(part: Mapping[str, Any]) -> str | None:
    values = [*part.get("enum", ()), part.get("const")]
    return "a constant that is a list or an object stands" if any(isinstance(v, list | dict) for v in values) else None


_REFERENCE: Final = re.compile(r"#/(\$defs|definitions)/[^/%~]+")


def _other_reference(part: Mapping[str, Any]) -> str | None:
    reference = part.get("$ref", "#/$defs/a")
    return None if _REFERENCE.fullmatch(reference) else f"`$ref: {shorten(reference)}` stands"


def _reference_in_all_of(part: Mapping[str, Any]) -> str | None:
    referring = any(isinstance(inner, dict) and "$ref" in inner for inner in part.get("allOf", ()))
    return "a `$ref` in `allOf` stands" if referring else None


_CHECKS: Final[tuple[Callable[[Any], str | None], ...]] = (
    _not_a_mapping,
    _keyword,
    _open_object,
    _many_items,
    _unknown_format,
    _large_constant,
    _other_reference,
    _reference_in_all_of,
)


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition refers to itself, directly or through others."""
    left = {
        f"#/{keyword}/{name}": {inner["$ref"] for _, inner in _subschemas(part, "") if "$ref" in inner}
        for keyword in ("$defs", "definitions")
        for name, part in schema.get(keyword, {}).items()
    }
    while free := [name for name, references in left.items() if not references & left.keys()]:
        for name in free:
            del left[name]
    return bool(left)
