"""The key of a case: what was asked, as one hash, by which later runs find its row."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from runner.records import Image, S3Object

if TYPE_CHECKING:
    from runner.records import DiskFile, Message, Request

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def key(model: str, request: Request, *, repeat: int) -> str:
    """SHA-256 of what is asked: the model, the rendered request, the content of its files and the repeat.

    Not of how: API, streaming, region and timeouts are left out, and so are the names of files. Of an object in S3 the
    name is all that is known. An image that is made to fit counts with the size that it is sent in, unless the model
    would have shrunk it to that itself. What a request does not have leaves no trace, so that rows of earlier versions
    keep their keys.
    """
    inference = request.inference
    asked: dict[str, Any] = {
        "model": model,
        "system": request.system,
        "messages": [_asked(message) for message in request.messages],
        "inference": None
        if request.body is not None
        else [inference.max_tokens, inference.temperature, inference.top_p, inference.top_k, inference.stop],
        "extra": request.extra,
        "body": request.body,
        "repeat": repeat,
    }
    if request.images:
        asked["body_images"] = [_content(image) for image in request.images]
    if request.response_schema is not None:
        asked["response_schema"] = request.response_schema.schema
    return hashlib.sha256(_CANONICAL.encode(asked).encode()).hexdigest()


def _asked(message: Message) -> list[Any]:
    """What a message asks. Of documents and video it holds the type too: it is told to the model by the suffix."""
    asked: list[Any] = [message.role, message.text, [_content(image) for image in message.images]]
    if message.documents or message.video:
        asked.append([[each.content.media_type, _content(each.content)] for each in message.documents])
    if message.video:
        asked.append([message.video.media_type, _content(message.video)])
    return asked


def _content(file: Image | DiskFile | S3Object) -> str | list[Any]:
    """What decides whether two files are the same."""
    if isinstance(file, S3Object):
        return file.path
    fit = file.fit if isinstance(file, Image) else None
    return file.sha256 if fit is None or fit.asks_the_same else [file.sha256, fit.media_type, fit.width, fit.height]
