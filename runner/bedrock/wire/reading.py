"""JSON as it is sent, and what replies of all APIs are read with."""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard

import orjson

from runner.bedrock.wire.protocol import IncompleteReply
from runner.records import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.bedrock.eventstream import Event
    from runner.records import Message

    Json = dict[str, Any]

INVOCATION_METRICS = "amazon-bedrock-invocationMetrics"
JSON_TYPE = "application/json"

_ENCODER = json.JSONEncoder(allow_nan=False)
_MOST_TOKENS = 10**12  # a larger count is no count


def alternating(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages; ValueError where two of one role follow each other, which no API takes."""
    for before, after in pairwise(messages):
        if before.role == after.role:
            raise ValueError(f"two {after.role} messages follow each other")
    return messages


def with_extra(ours: Mapping[str, Any], extra: Mapping[str, Any]) -> Json:
    """`extra` over `ours`, objects merged key by key."""
    merged = dict(ours)
    for name, value in extra.items():
        both_objects = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = with_extra(merged[name], value) if both_objects else value
    return merged


def to_json(value: Any) -> bytes:
    """JSON as boto3 writes it, so that a Converse body is boto3's byte for byte. ValueError for NaN and infinities."""
    return _ENCODER.encode(value).encode()


def from_json(payload: bytes) -> Json:
    """A JSON object. Integers of more than 64 bits lose their last digits: no API counts so far."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:  # it takes no half of a surrogate pair, which models do send
        value = from_json_exactly(payload)
    if not isinstance(value, dict):
        raise IncompleteReply("the reply is not a JSON object")
    return value


def from_json_exactly(payload: bytes) -> Any:
    """Any JSON, with every digit."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise IncompleteReply(f"the reply is not whole JSON ({len(payload)} bytes came)") from error


def chunk_in(event: Event) -> bytes | None:
    """The model's own event inside a `chunk`, as JSON; None for an event of another type."""
    if event.headers.get(":event-type") != "chunk":
        return None
    encoded = from_json(event.payload).get("bytes")
    if not isinstance(encoded, str):
        raise IncompleteReply("a chunk of the stream has no bytes")
    try:
        return a2b_base64(encoded, strict_mode=True)
    except ValueError as error:
        raise IncompleteReply("a chunk of the stream is not base64") from error


def content_of(message: Json) -> list[Json]:
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise IncompleteReply("the reply has no content")
    return content


def object_in(parent: Json, name: str, where: str) -> Json:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise IncompleteReply(f"the {where} has no {name}")
    return value


def text_of(block: Json) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise IncompleteReply("a text block has no text")
    return text


def stop_reason(reply: Json, name: str) -> str:
    """The stop reason. Its values are data: models bring new ones."""
    value = reply.get(name)
    if not isinstance(value, str):
        raise IncompleteReply("the reply has no stop reason")
    return value


def index_of(event: Json, name: str) -> int:
    value = event.get(name)
    if not isinstance(value, int):
        raise IncompleteReply(f"a content block of the stream has no {name}")
    return value


def joined(blocks: Mapping[int, list[str]]) -> str:
    """The text of all blocks in the order of their index, in which they need not have come."""
    return sound("".join("".join(blocks[index]) for index in sorted(blocks)))


def sound(text: str) -> str:
    """The text with surrogate pairs joined, whose halves may have come in two deltas. A lone half stays what it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def usage_from(counts: Any, *names: str) -> Usage | None:
    """Usage from the counts of these names: input, output, cache read, cache write. None if there are none."""
    if not isinstance(counts, dict):
        return None
    found = {field: count for field, name in zip(_COUNTS, names, strict=False) if _is_count(count := counts.get(name))}
    return Usage(**found) if found else None


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def metrics_usage(metrics: Any) -> Usage | None:
    return usage_from(
        metrics, "inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"
    )


def header_usage(headers: Mapping[str, str]) -> Usage | None:
    names = ("input", "output", "cache-read-input", "cache-write-input")
    counts = {name: headers.get(f"x-amzn-bedrock-{name}-token-count", "") for name in names}
    return usage_from(
        {name: int(count) for name, count in counts.items() if re.fullmatch("[0-9]{1,13}", count)}, *names
    )
