"""Tokens before they are counted: estimates for pacing and for `--dry-run`, never for a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from runner import media
from runner.records import Usage, exchanges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import Image, Message, Request

_CHARACTERS_PER_TOKEN = 4  # of English; other languages and code have more tokens
_IMAGE_EDGE = 1568  # pixels: larger images are shrunk by the model before it looks at them
_IMAGE_PATCH = 28  # pixels on each side of what one token covers


@dataclass(frozen=True, slots=True)
class Estimate:
    """A case at worst: so many calls, each of which answers with max_tokens."""

    calls: int
    usage: Usage


def worst_case(request: Request) -> Estimate:
    """What a case may use in all.

    A later turn of a live conversation carries the replies before it, taken as long as they can be.
    """
    calls, total = 0, Usage()
    history: tuple[Message, ...] = ()
    for messages in exchanges(request):
        history = (*history, *messages)
        usage = call(request, history)
        total += usage + Usage(input_tokens=calls * usage.output_tokens)
        calls += 1
    return Estimate(calls, total)


def call(request: Request, messages: Sequence[Message]) -> Usage:
    """What one call may use: its input, estimated, and all the output it allows. Bedrock reserves the sum."""
    if request.body is not None:
        return Usage(input_tokens=text_tokens(json.dumps(request.body)), output_tokens=_limit_of_body(request.body))
    images = sum(image_tokens(image) for message in messages for image in message.images)
    text = text_tokens(request.system or "") + sum(text_tokens(message.text) for message in messages)
    return Usage(input_tokens=text + images, output_tokens=request.inference.max_tokens)


def text_tokens(text: str) -> int:
    return ceil(len(text) / _CHARACTERS_PER_TOKEN)


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
