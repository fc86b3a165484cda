"""Tokens of images, estimated from the size in which they are sent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runner import estimate
from runner.records import Fit, Image

SONNET_4_5 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
OPUS_4_7 = "anthropic.claude-opus-4-7"


def image(width: int, height: int) -> Image:
    return Image(
        path="x.png", file=Path("x.png"), sha256="", bytes=1, media_type="image/png", width=width, height=height
    )


@pytest.mark.parametrize(
    ("size", "model", "tokens"),
    [
        ((1, 1), SONNET_4_5, 1),
        ((28, 29), SONNET_4_5, 2),
        ((1000, 1000), SONNET_4_5, 36 * 36),
        ((1568, 1568), SONNET_4_5, 1568),
        ((8000, 4), SONNET_4_5, 56),
        ((2576, 100), OPUS_4_7, 92 * 4),
        ((8000, 8000), OPUS_4_7, 4784),
        ((1000, 1000), "meta.llama3-2-90b-instruct-v1:0", 36 * 36),
    ],
)
def test_tokens_of_an_image(size: tuple[int, int], model: str, tokens: int) -> None:
    assert estimate.image_tokens(image(*size), model) == tokens


def test_what_counts_is_what_is_sent() -> None:
    fit = Fit(media_type="image/jpeg", width=280, height=28, changes=("scaled down from 8000x800",))
    assert estimate.image_tokens(replace(image(8000, 800), fit=fit), SONNET_4_5) == 10


@pytest.mark.parametrize(
    ("size", "told"),
    [((900, 450), 800), ((900, 900), 1300), ((1400, 900), 1800), ((1800, 900), 2400), ((1300, 1300), 2600)],
)
def test_pictures_for_nova_have_about_the_tokens_that_aws_tells_and_no_fewer(size: tuple[int, int], told: int) -> None:
    assert told <= estimate.image_tokens(image(*size), "us.amazon.nova-lite-v1:0") <= 1.15 * told
    assert estimate.image_tokens(image(*reversed(size)), "amazon.nova-pro-v1:0") >= told


def test_nova_scales_small_pictures_up() -> None:
    small, large = (estimate.image_tokens(image(*size), "amazon.nova-lite-v1:0") for size in ((100, 50), (900, 450)))
    assert small == large
