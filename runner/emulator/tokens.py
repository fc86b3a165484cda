"""Estimates of token counts. Real tokenizers differ by model; these are only of the right size."""

from __future__ import annotations

import math

CHARS_PER_TOKEN = 4
_LONG_EDGE = 1568  # pixels: larger images are scaled down before they are counted
_IMAGE_MAX = 1568


def of_text(text: str) -> int:
    """About four characters per token."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def of_image(width: int, height: int) -> int:
    """One token for each 28 by 28 pixels, after scaling down."""
    scale = min(1.0, _LONG_EDGE / max(width, height))
    return min(_IMAGE_MAX, math.ceil(width * scale / 28) * math.ceil(height * scale / 28))
