"""Estimates of token counts. Real tokenizers differ by model; these are only of the right size."""

from __future__ import annotations

import math

CHARS_PER_TOKEN = 4
_LONG_EDGE = 1568  # pixels: larger images are scaled down before they are counted
_IMAGE_MAX = 1568
_PAGE = 2250  # between what a page of little and one of much text takes
_MARKUP_PER_CHARACTER = 5  # bytes
_VIDEO_SECOND, _BYTES_PER_SECOND = 288, 125_000  # of a video of one megabit per second
UNSEEN = 1000  # what stands in S3: nothing is known of it


def of_text(text: str) -> int:
    """About four characters per token."""
    return math.ceil(len(text) / CHARS_PER_TOKEN)


def of_image(width: int, height: int) -> int:
    """One token for each 28 by 28 pixels, after scaling down."""
    scale = min(1.0, _LONG_EDGE / max(width, height))
    return min(_IMAGE_MAX, math.ceil(width * scale / 28) * math.ceil(height * scale / 28))


def of_bytes(count: int) -> int:
    """As for text, one character in each byte."""
    return math.ceil(count / CHARS_PER_TOKEN)


def of_markup(count: int) -> int:
    """Of a file of Office, most of which is not text."""
    return of_bytes(count // _MARKUP_PER_CHARACTER)


def of_pages(count: int) -> int:
    """Of a PDF, of which both text and looks count."""
    return count * _PAGE


def of_video(size: int) -> int:
    """By a duration that is guessed from the bytes."""
    return math.ceil(size / _BYTES_PER_SECOND) * _VIDEO_SECOND
