"""Encoder of the AWS event stream, `application/vnd.amazon.eventstream`."""

from __future__ import annotations

import base64
import json
import struct
from binascii import crc32
from typing import Any

CONTENT_TYPE = "application/vnd.amazon.eventstream"

_PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_STRING = 7


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message: length, length of headers, CRC of both, headers, payload, CRC of everything before it."""
    head = b"".join(_header(name, value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return message + struct.pack(">I", crc32(message))


def event(name: str, payload: bytes) -> bytes:
    """An event of the service's model, such as `contentBlockDelta`; its payload is JSON."""
    return frame({":event-type": name, ":content-type": "application/json", ":message-type": "event"}, payload)


def exception(name: str, document: dict[str, Any]) -> bytes:
    """A failure the service's model knows. `name` is in lower camel case: `throttlingException`."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, to_json(document))


def error(code: str, message: str) -> bytes:
    """A failure the service's model does not know: it is all in the headers."""
    return frame({":message-type": "error", ":error-code": code, ":error-message": message}, b"")


def padded(document: dict[str, Any]) -> bytes:
    """The payload of an event, with the key `p` by which Bedrock hides the length of what a model says.

    The length of the padding looks random and is not: equal events are equal bytes.
    """
    length = crc32(to_json(document)) % len(_PADDING) + 1
    return to_json({**document, "p": _PADDING[:length]})


def chunk(document: bytes) -> dict[str, Any]:
    """The event `chunk` of InvokeModelWithResponseStream, which carries the model's own JSON."""
    return {"bytes": base64.b64encode(document).decode()}


def to_json(document: object) -> bytes:
    """Compact JSON in UTF-8; half a surrogate pair, which UTF-8 does not hold, is escaped."""
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def _header(name: str, value: str) -> bytes:
    raw = value.encode()
    return struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", _STRING, len(raw)) + raw
