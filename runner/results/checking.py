"""What is read back as a row is checked here: files are edited by hand, and those of a fork are a stranger's.

It holds to schemas/result.schema.json, which tests compare with it. A field that nobody knows is left alone: a later
version may have written it. jsonschema itself takes fifty times as long, and all rows of a report pass here.
"""

from __future__ import annotations

import re
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from runner.errors import FailureCode
from runner.media import formats, kinds
from runner.records import LONGEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.records import Row

    Check = Callable[[Any], bool]


SCHEMA = "bedrock-run/result/1"


class NewerRowError(ValueError):
    """What a newer version of bedrock-run wrote, so that this one can't tell what it means."""

    def __init__(self, schema: str) -> None:
        super().__init__(f"written by a newer bedrock-run ({schema}; this one reads {SCHEMA})")


def refuse_newer(value: Any) -> None:
    """Raise NewerRowError for a row of a later schema than this version knows."""
    schema = value.get("schema") if isinstance(value, dict) else None
    if schema != SCHEMA and isinstance(schema, str) and _LATER_SCHEMA.fullmatch(schema):
        raise NewerRowError(schema)


_LATER_SCHEMA = re.compile(r"bedrock-run/result/([2-9]|[1-9][0-9]{1,3})")


def as_row(value: object) -> Row:
    """The value as a row of this version: itself or, where it lacks fields that earlier versions did not write, a copy
    that has them. Raises NewerRowError, or ValueError for what no version can have written.
    """
    refuse_newer(value)
    try:
        row = _with_later_fields(cast("dict[str, Any]", value))
        if _is_row(row) and _is_consistent(row):
            return cast("Row", row)
    except (LookupError, TypeError, ValueError):  # what reading anything else as a row may raise
        pass
    raise ValueError("not a row")


# --- rows of earlier versions ----------------------------------------------------------------------------------------

_LATER_FIELDS: dict[str, Any] = {
    "matrix": None,
    "tags": [],
    "repeats": 1,
    "min_pass": 1,
    "judgements": [],
    "parsed": None,
    "sidecar": None,
}
_LATER_OF_VERDICTS: dict[str, Any] = {"expected": "", "actual": None, "score": None}


def _with_later_fields(row: dict[str, Any]) -> dict[str, Any]:
    if "source" in row and row.keys() >= _LATER_FIELDS.keys():
        return row
    source = {"path": f"{row['job']}.yaml", "line": 1, "row": None}
    verdicts = [{**_LATER_OF_VERDICTS, **verdict} for verdict in row["assertions"]]
    return {**_LATER_FIELDS, "source": source, **row, "assertions": verdicts}


# --- values ----------------------------------------------------------------------------------------------------------

_MOST = 2**53 - 1  # what every reader of JSON takes for a whole number
_DEEPEST = 200  # levels of lists and objects: who writes them as JSON again recurses
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _name(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _flag(value: Any) -> bool:
    return value is True or value is False


def _number(value: Any) -> bool:
    return type(value) in {int, float} and -sys.float_info.max <= value <= sys.float_info.max  # NaN is not


def _price(value: Any) -> bool:
    return type(value) in {int, float} and 0 <= value <= 1e12


def _time(value: Any) -> bool:
    datetime.fromisoformat(value)  # raises for a 31 June
    return _TIME.fullmatch(value) is not None


def _json(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        if not inside:
            return True
        level = [item for items in inside for item in items]
    return False


def _object(value: Any) -> bool:
    return isinstance(value, dict) and _json(value)


# --- combinations ----------------------------------------------------------------------------------------------------


def _whole(least: int, most: int = _MOST) -> Check:
    return lambda value: type(value) is int and least <= value <= most  # True is an int as well, but no number of JSON


def _one_of(*known: str) -> Check:
    return frozenset(known).__contains__


def _like(pattern: str) -> Check:
    found = re.compile(pattern).fullmatch
    return lambda value: found(value) is not None


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check, *, least: int = 0) -> Check:
    return lambda value: isinstance(value, list) and len(value) >= least and all(map(check, value))


def _record(fields: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """An object with these fields, and perhaps with others."""
    required, others = tuple(fields.items()), tuple((optional or {}).items())

    def is_one(value: Any) -> bool:
        for name, check in required:  # all() with a generator takes half as long again
            if not check(value[name]):
                return False
        return all(check(value[name]) for name, check in others if name in value)

    return is_one


# --- rows ------------------------------------------------------------------------------------------------------------

_COUNT = _whole(0)
_SHA256 = _like("[0-9a-f]{64}")
_CODE = _one_of(*FailureCode)
_USAGE = _record(
    {"input_tokens": _COUNT, "output_tokens": _COUNT, "cache_read_tokens": _COUNT, "cache_write_tokens": _COUNT}
)
_FILE: Mapping[str, Check] = {"path": _text, "sha256": _maybe(_SHA256), "bytes": _maybe(_whole(1))}
_FIT = _record(
    {
        "media_type": _one_of("image/png", "image/jpeg", "image/webp"),
        "width": _whole(1, LONGEST_SIDE),
        "height": _whole(1, LONGEST_SIDE),
        "changes": _list(_text),
    }
)
_IMAGE = _record({**_FILE, "media_type": _one_of(*kinds.NAMES)}, {"sent": _FIT})
_DOCUMENT = _record({**_FILE, "media_type": _one_of(*formats.DOCUMENTS.values()), "name": _text})
_VIDEO = _record({**_FILE, "media_type": _one_of(*formats.VIDEOS.values())})
_MESSAGE = _record(
    {"role": _one_of("user", "assistant"), "text": _text},
    {"images": _list(_IMAGE, least=1), "documents": _list(_DOCUMENT, least=1), "video": _VIDEO},
)
_INFERENCE = _record(
    {
        "max_tokens": _whole(1),
        "temperature": _maybe(_number),
        "top_p": _maybe(_number),
        "top_k": _maybe(_COUNT),
        "stop": _list(_text),
    }
)
_RESPONSE_SCHEMA = _record({"schema": _object, "sent": _one_of("native", "prompt")})
_CONVERSATION = _record(
    {"system": _maybe(_text), "messages": _list(_MESSAGE, least=1), "inference": _INFERENCE},
    {"extra": _object, "response_schema": _RESPONSE_SCHEMA},
)
_RAW_BODY = _record({"body": _object}, {"images": _list(_IMAGE, least=1)})
_REPLY = _record(
    {
        "text": _text,
        "stop_reason": _maybe(_text),
        "usage": _maybe(_USAGE),
        "latency_ms": _COUNT,
        "first_token_ms": _maybe(_COUNT),
        "request_id": _maybe(_text),
    }
)
_ATTEMPT = _record(
    {
        "started_at": _time,
        "latency_ms": _COUNT,
        "waited_ms": _COUNT,
        "code": _maybe(_CODE),
        "message": _maybe(_text),
        "request_id": _maybe(_text),
        "possibly_billed": _flag,
    }
)
_VERDICT_FIELDS: Mapping[str, Check] = {
    "type": _text,
    "passed": _flag,
    "reason": _text,
    "expected": _text,
    "actual": _maybe(_text),
    "score": _maybe(_number),
    "value": _json,
    "threshold": _maybe(_number),
    "line": _whole(1),
}
_PART = _record(_VERDICT_FIELDS)  # of a set, which is in no other
_VERDICT = _record(_VERDICT_FIELDS, {"assertions": _list(_PART, least=1)})
_ERROR = _record(
    {
        "code": _CODE,
        "message": _text,
        "hint": _maybe(_text),
        "http_status": _maybe(_COUNT),
        "request_id": _maybe(_text),
        "retryable": _flag,
    }
)
_JUDGEMENT = _record(
    {
        "type": _text,
        "key": _text,
        "model": _text,
        "endpoint": _text,
        "score": _maybe(_number),
        "passed": _maybe(_flag),
        "reason": _maybe(_text),
        "usage": _maybe(_USAGE),
        "cost_usd": _maybe(_price),
        "latency_ms": _COUNT,
        "attempts": _list(_ATTEMPT),
        "error": _maybe(_ERROR),
        "current": _flag,
    }
)

_SIDECAR: Mapping[str, Check] = {"path": _name, "sha256": _SHA256}


def _request(value: Any) -> bool:
    return (_RAW_BODY if "body" in value else _CONVERSATION)(value)


_is_row = _record(
    {
        "schema": _one_of(SCHEMA),
        "job": _name,
        "case": _name,
        "index": _whole(0, 2**40 - 1),
        "repeat": _whole(0, 9_999),
        "key": _SHA256,
        "status": _one_of("passed", "failed", "error"),
        "model": _name,
        "region": _name,
        "api": _one_of("invoke", "converse"),
        "stream": _flag,
        "endpoint": _name,
        "vars": _object,
        "request": _request,
        "output": _maybe(_text),
        "replies": _list(_REPLY),
        "stop_reason": _maybe(_text),
        "usage": _maybe(_USAGE),
        "cost_usd": _maybe(_price),
        "latency_ms": _maybe(_COUNT),
        "first_token_ms": _maybe(_COUNT),
        "attempts": _list(_ATTEMPT),
        "assertions": _list(_VERDICT),
        "error": _maybe(_ERROR),
        "started_at": _time,
        "finished_at": _time,
        "version": _text,
        "matrix": _maybe(_object),
        "tags": _list(_text),
        "source": _record({"path": _text, "line": _whole(1), "row": _maybe(_text)}),
        "repeats": _whole(1, 10_000),
        "min_pass": _whole(1, 10_000),
        "judgements": _list(_JUDGEMENT),
        "parsed": _json,
        "sidecar": _maybe(_record(_SIDECAR, {"former": _list(_record(_SIDECAR), least=1)})),
    }
)


def _is_consistent(row: Mapping[str, Any]) -> bool:
    """Whether the status is what the rest of the row comes to."""
    if row["status"] == "error":
        return row["error"] is not None
    status = "passed" if all(verdict["passed"] for verdict in row["assertions"]) else "failed"
    return row["status"] == status and row["error"] is None and row["output"] is not None and bool(row["replies"])
