"""Tokens before they are counted: estimates for pacing and for `--dry-run`, never for a row."""

from __future__ import annotations

import json
from math import ceil
from typing import TYPE_CHECKING, Any

from runner import media, structured
from runner.records import Usage, exchanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import Image, Message, Request

CHARACTERS_PER_TOKEN = 4  # of English; other languages and code have more tokens
_REPAIR_TOKENS = 200  # of the words with which a reply is to be repaired
_IMAGE_EDGE = 1568  # pixels: larger images are shrunk by the model before it looks at them
_IMAGE_PATCH = 28  # pixels on each side of what one token covers


def worst_case(request: Request) -> list[Usage]:
    """What each call of a case may use, if each answers with max_tokens.

    A later turn of a live conversation carries the replies before it, taken as long as they can be.
    """
    calls: list[Usage] = []
    history: tuple[Message, ...] = ()
    for messages in exchanges(request):
        history = (*history, *messages)
        usage = call(request, history)
        calls.append(usage + Usage(input_tokens=len(calls) * usage.output_tokens))
    return [*calls, *repair(request)]


def repair(request: Request) -> list[Usage]:
    """What the call may use in which the reply is repaired: one, or none where the job asks for none."""
    if request.response_schema is None or not request.response_schema.repair:
        return []
    usage = call(request, request.messages)
    replies = len(list(exchanges(request))) * usage.output_tokens
    return [usage + Usage(input_tokens=replies + _REPAIR_TOKENS)]


def call(request: Request, messages: Sequence[Message]) -> Usage:
    """What one call may use: its input, estimated, and all the output it allows. Bedrock reserves the sum."""
    if request.body is not None:
        return Usage(input_tokens=text_tokens(json.dumps(request.body)), output_tokens=_limit_of_body(request.body))
    max_tokens = _limit_of_body({"max_tokens": request.inference.max_tokens, **request.extra})
    images = sum(image_tokens(image) for message in messages for image in message.images)
    text = text_tokens(structured.instructions(request, messages))
    text += sum(text_tokens(message.text) for message in messages)
    return Usage(input_tokens=text + images, output_tokens=max_tokens)


def text_tokens(text: str) -> int:
    return ceil(len(text) / CHARACTERS_PER_TOKEN)


def image_tokens(image: Image) -> int:
    """Tokens of an image by its size in pixels, as the Claude documentation counts them."""
    try:
        width, height = media.size(image)
    except media.MediaError:  # Bedrock will say so; until then it counts as a large one
        width = height = _IMAGE_EDGE
    shrink = min(1.0, _IMAGE_EDGE / max(width, height))
    return ceil(width * shrink / _IMAGE_PATCH) * ceil(height * shrink / _IMAGE_PATCH)


def _limit_of_body(body: dict[str, Any]) -> int:
    """The max_tokens of a raw body, by whichever name its family gives it; 0 where there is none (embeddings)."""
    for settings in (body, body.get("inferenceConfig"), body.get("textGenerationConfig")):
        if isinstance(settings, dict):
            for name in ("max_tokens", "maxTokens", "maxTokenCount", "max_gen_len", "max_completion_tokens"):
                if isinstance(settings.get(name), int):
                    return int(settings[name])
    return 0
