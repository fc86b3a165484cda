"""What every family of models checks alike: limits, sampling, images."""

from __future__ import annotations

import base64
import binascii
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from runner.emulator import pictures
from runner.emulator.errors import AwsError, invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.emulator.models import Model
    from runner.emulator.prompt import Prompt

_MAX_IMAGE_BASE64 = 5 * 1024 * 1024  # bytes; 3.75 MB before encoding
_MAX_SIDE = 8000
_MANY_IMAGES, _MAX_SIDE_OF_MANY = 20, 2000


def is_number(value: object) -> bool:
    """Whether JSON calls it a number: Python calls `true` one too."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@contextmanager
def said_by_the_model() -> Iterator[None]:
    """Through Converse, what the model itself finds wrong comes with a prefix."""
    try:
        yield
    except AwsError as error:
        raise invalid(f"The model returned the following errors: {error.message}") from error


def max_tokens(asked: int | None, model: Model) -> int:
    """The output limit that counts: what was asked, or the model's maximum."""
    if asked is None:
        return model.max_output
    if asked > model.max_output:
        raise invalid(
            f"The maximum tokens you requested exceeds the model limit of {model.max_output}. "
            f"Try again with a maximum tokens value that is lower than {model.max_output}."
        )
    return asked


def fits(prompt: Prompt, model: Model) -> Prompt:
    """The prompt, when it fits the context of the model."""
    if prompt.input_tokens > model.context:
        raise invalid("Input is too long for requested model.")
    return prompt


def claude_sampling(model: Model, *, temperature: object, top_p: object, top_k: object) -> None:
    """What newer Claude models refuse: both temperature and top_p, or any sampling that is not the default."""
    if model.sampling == "temperature-or-top_p" and temperature is not None and top_p is not None:
        raise invalid("`temperature` and `top_p` cannot both be specified for this model. Please use only one.")
    if model.sampling == "refused":
        refused = {
            "temperature": temperature not in {None, 1},
            "top_p": top_p not in {None, 0.99, 1},
            "top_k": top_k is not None,
        }
        for name in (name for name, wrong in refused.items() if wrong):
            raise invalid(f"`{name}` is deprecated for this model.")


def claude_conversation(prompt: Prompt, model: Model) -> None:
    """What Claude says about a conversation as a whole: prefill, and many images or pages."""
    last = prompt.turns[-1]
    if last.role == "assistant":
        if not model.prefill:
            raise invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )
        if last.text != last.text.rstrip():
            raise invalid("messages: final assistant content cannot end with trailing whitespace")
    count, allowed = len(prompt.pictures), 600 if model.context >= 1_000_000 else 100
    pages = sum(attachment.pages for attachment in prompt.attachments)
    if pages + count > allowed:
        raise invalid(f"Too much media: {pages} document pages + {count} images > {allowed}")
    if count > _MANY_IMAGES and any(max(shown.width, shown.height) > _MAX_SIDE_OF_MANY for shown in prompt.pictures):
        raise invalid(
            "messages: At least one of the image dimensions exceed max allowed size for many-image requests: "
            f"{_MAX_SIDE_OF_MANY} pixels"
        )


def content(data: Any, *, path: str) -> bytes:
    """What was given as base64; `path` leads the message for what is wrong."""
    if not isinstance(data, str) or not data:
        raise invalid(f"{path}: Input should not be empty")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{path}: invalid base64 data") from None


def picture(data: Any, declared: str | None, *, path: str) -> pictures.Picture:
    """Decode an image given as base64. `declared` is its media type, where the API has it declared; `path` leads the
    message for what is wrong.
    """
    if not isinstance(data, str) or not data:
        raise invalid(f"{path}: image cannot be empty")
    if len(data) > _MAX_IMAGE_BASE64:
        raise invalid(f"{path}: image exceeds 5 MB maximum: {len(data)} bytes > {_MAX_IMAGE_BASE64} bytes")
    try:
        raw = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(f"{path}: invalid base64 data") from None
    actual = pictures.media_type(raw)
    if actual is not None and declared not in {None, actual}:
        raise invalid(
            f"{path}: The image was specified using the {declared} media type, "
            f"but the image appears to be a {actual} image"
        )
    try:
        return pictures.look(raw)
    except pictures.UnreadableError as error:
        if error.size is not None:
            raise invalid(
                f"{path}: At least one of the image dimensions exceed max allowed size: {_MAX_SIDE} pixels"
            ) from None
        raise invalid(f"{path}: Could not process image") from None
