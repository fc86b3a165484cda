"""Tokens before they are counted: estimates for pacing and for `--dry-run`, never for a row. No file is read."""

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Any

from runner import models
from runner.bedrock import structured
from runner.media import formats, tokens
from runner.models import model_ids
from runner.records import DiskFile, Image, Usage, exchanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import Message, Request, S3Object

CHARACTERS_PER_TOKEN = tokens.CHARACTERS_PER_TOKEN
_REPAIR_TOKENS = 200  # of the words with which a reply is to be repaired
_IMAGE_PATCH = 28  # pixels on each side of what one token covers
_OTHER_MODELS = models.ImageFacts(edge=1568, tokens=1568)  # of which it is not known how they count
_NOVA_SIDE = 900  # pixels, to which Amazon Nova scales the longer side of a smaller picture
_NOVA_MOST = 2665  # tokens, for 1300 by 1300 pixels: AWS names no larger size


def worst_case(request: Request, *, model: str) -> list[Usage]:
    """What each call of a case may use, if each answers with max_tokens.

    A later turn of a live conversation carries the replies before it, taken as long as they can be.
    """
    calls: list[Usage] = []
    history: tuple[Message, ...] = ()
    for messages in exchanges(request):
        history = (*history, *messages)
        usage = call(request, history, model=model)
        calls.append(usage + Usage(input_tokens=len(calls) * usage.output_tokens))
    return [*calls, *repair(request, model=model)]


def repair(request: Request, *, model: str) -> list[Usage]:
    """What the call may use in which the reply is repaired: one, or none where the job asks for none."""
    if request.response_schema is None or not request.response_schema.repair:
        return []
    usage = call(request, request.messages, model=model)
    replies = len(list(exchanges(request))) * usage.output_tokens
    return [usage + Usage(input_tokens=replies + _REPAIR_TOKENS)]


def call(request: Request, messages: Sequence[Message], *, model: str) -> Usage:
    """What one call may use: its input, estimated, and all the output it allows. Bedrock reserves the sum."""
    if request.body is not None:
        images = sum(image_tokens(image, model) for image in request.images)
        text = text_tokens(json.dumps(request.body))
        return Usage(input_tokens=text + images, output_tokens=_limit_of_body(request.body))
    max_tokens = _limit_of_body({"max_tokens": request.inference.max_tokens, **request.extra})
    files = sum(file_tokens(file, model) for message in messages for file in message.attached)
    text = text_tokens(structured.instructions(request, messages))
    text += sum(text_tokens(message.text) for message in messages)
    return Usage(input_tokens=text + files, output_tokens=max_tokens)


def text_tokens(text: str) -> int:
    return ceil(len(text) / CHARACTERS_PER_TOKEN)


def image_tokens(image: Image, model: str) -> int:
    """Tokens of an image by the size in which it is sent, as the documentation of Claude or Nova counts them."""
    sent, facts = image.fit or image, models.image_facts(model) or _OTHER_MODELS
    if model_ids.bare(model).startswith("amazon.nova-"):
        return _nova_tokens(sent.width, sent.height)
    shrink = min(1.0, facts.edge / max(sent.width, sent.height))
    patches = ceil(sent.width * shrink / _IMAGE_PATCH) * ceil(sent.height * shrink / _IMAGE_PATCH)
    return min(patches, facts.tokens)


def _nova_tokens(width: int, height: int) -> int:
    """A line just above the sizes that the Nova user guide gives ("Image to tokens conversion")."""
    scale = max(1.0, _NOVA_SIDE / max(width, height))
    return min(_NOVA_MOST, 250 + ceil(width * height * scale**2 / 700))


def file_tokens(file: Image | DiskFile | S3Object, model: str) -> int:
    """Tokens of whatever a turn attaches."""
    if isinstance(file, Image):
        return image_tokens(file, model)
    if isinstance(file, DiskFile):
        return file.tokens
    match formats.kind_of(file.media_type):
        case "image":
            return _NOVA_MOST  # Nova alone takes pictures from there
        case "video":
            return tokens.LONGEST_VIDEO
        case "document":
            return tokens.DOCUMENT_IN_S3


def _limit_of_body(body: dict[str, Any]) -> int:
    """The max_tokens of a raw body, by whichever name its family gives it; 0 where there is none (embeddings)."""
    for settings in (body, body.get("inferenceConfig"), body.get("textGenerationConfig")):
        if isinstance(settings, dict):
            for name in ("max_tokens", "maxTokens", "maxTokenCount", "max_gen_len", "max_completion_tokens"):
                if isinstance(settings.get(name), int):
                    return int(settings[name])
    return 0
