"""Tokens before they are counted: estimates for pacing and for `--dry-run`, never for a row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from runner import media
from runner.answer import exchanges
from runner.records import Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import Image, Message, Request

_CHARACTERS_PER_TOKEN = 4  # of English; other languages and code have more tokens
_IMAGE_EDGE = 1568  # pixels: larger images are shrunk by the model before it looks at them
_IMAGE_PATCH = 28  # pixels on each side of what one token covers


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens of a case at worst: every call of its conversation answers with max_tokens."""

    calls: int
    usage: Usage


def worst_case(request: Request) -> Estimate:
    """What a case may use: its input, estimated, and all the output it allows.

    A later turn of a live conversation carries the replies before it, taken as long as they can be.
    """
    if request.body is not None:
        body_tokens = text_tokens(json.dumps(request.body))
        return Estimate(1, Usage(input_tokens=body_tokens, output_tokens=_limit_of_body(request)))
    max_tokens = request.inference.max_tokens
    history, total_input, calls = text_tokens(request.system or ""), 0, 0
    for messages in exchanges(request):
        history += input_tokens(messages)
        total_input += history
        history += max_tokens
        calls += 1
    return Estimate(calls, Usage(input_tokens=total_input, output_tokens=calls * max_tokens))


def input_tokens(messages: Sequence[Message]) -> int:
    """Tokens of messages, images included."""
    return sum(text_tokens(message.text) + sum(image_tokens(image) for image in message.images) for message in messages)


def text_tokens(text: str) -> int:
    return ceil(len(text) / _CHARACTERS_PER_TOKEN)


def image_tokens(image: Image) -> int:
    """Tokens of an image by its size in pixels, as the Claude documentation counts them."""
    width, height = media.size(image)
    shrink = min(1.0, _IMAGE_EDGE / max(width, height))
    return ceil(width * shrink / _IMAGE_PATCH) * ceil(height * shrink / _IMAGE_PATCH)


def _limit_of_body(request: Request) -> int:
    """The max_tokens of a raw body, by whichever name its family gives it; 0 where there is none (embeddings)."""
    body = request.body
    for settings in (body, body.get("inferenceConfig"), body.get("textGenerationConfig")):
        if isinstance(settings, dict):
            for name in ("max_tokens", "maxTokens", "maxTokenCount", "max_gen_len", "max_completion_tokens"):
                if isinstance(settings.get(name), int):
                    return int(settings[name])
    return 0
