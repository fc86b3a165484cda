"""What Bedrock takes of an image, and what is sent instead of one that it would not take."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from runner.media import kinds
from runner.media.files import MediaError
from runner.records import Fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.records import Image

MAX_BYTES = 3_932_160  # 3.75 MB of raw bytes, which are 5 MiB of base64
MAX_PIXELS = 89_478_485  # that are decoded; the bound that Pillow sets itself
_MAX_JPEG_PIXELS = 3 * MAX_PIXELS  # its decoder gives them at reduced scale: telephones take 200 megapixels

_MAX_SIDE = 8000
_MAX_SIDE_AMONG_MANY = 2000
_MANY = 20  # images and documents of a request: with more, each image must be smaller
_MOST_ENCODED_PIXELS = {"image/jpeg": 16_000_000, "image/webp": 6_000_000}  # with which even noise fits into the bytes

_WORST_PNG = 0.98  # of the limit: noise makes a PNG a little larger than its pixels
_DRAWN_PNG = 0.5  # bytes a pixel: a PNG with fewer is a drawing or shows a screen, while photographs have some

_OR_FIT = "or leave out `fit: off`: then it is made to fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an image may have: bytes, and pixels on its longest side.

    `max_side` is Bedrock's own limit, `max_edge` what larger ones are scaled down to. Without `fit` nothing is changed,
    and what Bedrock would refuse is refused here.
    """

    max_bytes: int = MAX_BYTES
    max_side: int = _MAX_SIDE
    max_edge: int | None = None
    fit: bool = True

    @classmethod
    def among(cls, attachments: int, *, max_edge: int | None = None, fit: bool = True) -> Limits:
        """The limits for each image of a request with so many images and documents."""
        side = _MAX_SIDE if attachments <= _MANY else _MAX_SIDE_AMONG_MANY
        return cls(max_side=side, max_edge=max_edge, fit=fit)

    @property
    def edge(self) -> int:
        """The longest side of what is sent, in pixels."""
        return min(self.max_side, self.max_edge or self.max_side)


def plan(image: Image, limits: Limits) -> Fit | None:
    """What is sent instead of `image`; None if it goes byte for byte. The same for the same file and limits.

    Raises MediaError for what cannot be made to fit, or must not be.
    """
    if not limits.fit:
        _refuse_beyond(image, limits)
        return None
    longest = max(image.width, image.height)
    if _passes(image) and image.bytes <= limits.max_bytes and longest <= limits.edge:
        return None
    refuse_too_many_pixels(image)
    width, height = _scaled(image.width, image.height, min(1, limits.edge / longest))
    media_type = _media_type(image, width * height, limits)
    if media_type in _MOST_ENCODED_PIXELS:
        width, height = _scaled(width, height, min(1, sqrt(_MOST_ENCODED_PIXELS[media_type] / (width * height))))
    return Fit(
        media_type=media_type, width=width, height=height, changes=tuple(_changes(image, limits, (width, height)))
    )


def _passes(image: Image) -> bool:
    """Whether any model sees the image as people do."""
    return image.media_type in kinds.SENDABLE and image.colours != "cmyk" and image.bits <= 8 and image.orientation == 1


def _scaled(width: int, height: int, scale: float) -> tuple[int, int]:
    return max(1, round(width * scale)), max(1, round(height * scale))


def _media_type(image: Image, pixels: int, limits: Limits) -> str:
    """PNG for drawings and scans as long as even the worst of them would fit, if need be in 256 colours. Of the others
    WebP has transparency.
    """
    drawn = image.media_type != "image/jpeg" and image.colours in {"grey", "palette"}
    drawn |= image.media_type == "image/png" and image.bytes < _DRAWN_PNG * image.width * image.height
    channels = 1 if drawn else 3 + image.transparent
    if (drawn or image.transparent) and pixels * channels <= limits.max_bytes * _WORST_PNG:
        return "image/png"
    return "image/webp" if image.transparent else "image/jpeg"


def _changes(image: Image, limits: Limits, size: tuple[int, int]) -> Iterator[str]:
    """What is done to the image, in words."""
    if image.media_type not in kinds.SENDABLE:
        yield f"converted from {image.media_type.removeprefix('image/')}"
    if image.several:
        yield "the first of its pages" if image.media_type == "image/tiff" else "the first of its frames"
    if image.colours == "cmyk":
        yield "CMYK to RGB"
    if image.bits > 8:
        yield f"{image.bits} bits a channel to 8"
    if image.orientation != 1:
        yield "turned upright"
    if size != (image.width, image.height):
        yield f"scaled down from {image.width}x{image.height}"
    if image.bytes > limits.max_bytes and max(image.width, image.height) <= limits.edge:
        yield f"recompressed: {image.bytes:,} bytes are more than the {limits.max_bytes:,} that Bedrock takes"


def _refuse_beyond(image: Image, limits: Limits) -> None:
    """Raise MediaError for what Bedrock would refuse."""
    if image.media_type not in kinds.SENDABLE:
        raise MediaError(
            f"the image {image.path!r} is {kinds.NAMES[image.media_type]}; Bedrock takes png, jpeg, gif and webp",
            f"convert it, {_OR_FIT}",
        )
    if image.bytes > limits.max_bytes:
        raise MediaError(
            f"the image {image.path!r} has {image.bytes:,} bytes; Bedrock takes at most {limits.max_bytes:,}",
            f"scale it down, {_OR_FIT}",
        )
    if max(image.width, image.height) > limits.max_side:
        most = f"at most {limits.max_side} a side"
        where = f" in a request with more than {_MANY} images and documents" if limits.max_side < _MAX_SIDE else ""
        raise MediaError(
            f"the image {image.path!r} has {image.width}x{image.height} pixels; Bedrock takes {most}{where}",
            f"scale it down, {_OR_FIT}",
        )


def refuse_too_many_pixels(image: Image) -> None:
    """Raise MediaError for an image that would take too much memory to decode."""
    whole = image.progressive or image.media_type != "image/jpeg"
    most = MAX_PIXELS if whole else _MAX_JPEG_PIXELS
    if image.width * image.height > most:
        kind = "a progressive JPEG" if image.progressive else kinds.NAMES[image.media_type]
        raise MediaError(
            f"the image {image.path!r} has {image.width}x{image.height} pixels; "
            f"{kind} may have {most // 1_000_000} million to be made to fit",
            "scale it down with another program",
        )


_WITH_FIGURES = ("scaled down", "recompressed")  # the kinds of changes that `_changes` tells the figures of


def kind_of_change(change: str) -> str:
    """What is done to an image, without the figures of that one: `scaled down` of `scaled down from 4000x3000`."""
    return next((kind for kind in _WITH_FIGURES if change.startswith(kind)), change)
