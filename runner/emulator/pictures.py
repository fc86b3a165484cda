"""Images as a model would see them: type by content, size, and the colours one would name."""

from __future__ import annotations

import colorsys
import io
import warnings
from collections import Counter
from dataclasses import dataclass, field

_GRID = 24  # images are looked at as this many by this many pixels
_NAMED_FROM = 0.2  # a second colour is named from this share of the pixels
_MAX_SIDE = 8000
_HUES = (  # upper bound in degrees, name
    (14, "red"),
    (42, "orange"),
    (68, "yellow"),
    (165, "green"),
    (195, "cyan"),
    (258, "blue"),
    (290, "purple"),
    (345, "pink"),
    (361, "red"),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """An image that could be decoded. `colours` are the names of what it mostly shows, most common first; `grid` is a
    small copy of it, as RGBA.
    """

    width: int
    height: int
    colours: tuple[str, ...]
    grid: bytes = field(default=b"", repr=False)

    def __str__(self) -> str:
        first, *others = self.colours
        shown = f"mostly {first}, with {' and '.join(others)}" if others else first
        return f"{self.width}x{self.height} pixels, {shown}"


class UnreadableError(Exception):
    """The bytes are of no image that can be decoded. `size` is set when it is only too large: its sides in pixels."""

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        super().__init__("image cannot be read")
        self.size = size


def media_type(data: bytes) -> str | None:
    """The media type that the first bytes tell, or None for what no model takes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def look(data: bytes) -> Picture:
    """Decode an image and name its colours. Takes milliseconds, and more for photographs.

    Raises UnreadableError for what Pillow can't decode and for sides over 8000 pixels, before decoding those.
    """
    from PIL import Image  # Pillow is slow to import, and most runs have no images

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, about large sizes: they are checked here
            image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "WEBP"))
        width, height = image.size
        small = None
        if max(image.size) <= _MAX_SIDE:
            image.draft("RGB", (_GRID * 8, _GRID * 8))  # JPEG only: decodes a fraction of the pixels
            small = image.convert("RGBA").resize((_GRID, _GRID), Image.Resampling.BOX).tobytes()
    except Exception as error:  # decoders raise anything on damaged data
        raise UnreadableError from error
    if small is None:
        raise UnreadableError((width, height))
    return Picture(width, height, _colours([tuple(small[at : at + 4]) for at in range(0, len(small), 4)]), small)


def _colours(pixels: list[tuple[int, ...]]) -> tuple[str, ...]:
    visible = [pixel[:3] for pixel in pixels if pixel[3] >= 128]
    if not visible:
        return ("transparent",)
    names = Counter(_name(*pixel) for pixel in visible).most_common(2)
    return tuple(name for place, (name, count) in enumerate(names) if place == 0 or count >= _NAMED_FROM * len(visible))


def _name(red: int, green: int, blue: int) -> str:
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    if value < 0.15:
        return "black"
    if saturation < 0.12:
        return "white" if value > 0.9 else "grey"
    colour = next(name for bound, name in _HUES if hue * 360 < bound)
    if colour == "orange" and saturation < 0.5 and value > 0.7:
        return "beige"
    if value < 0.78 and (colour == "orange" or (colour == "red" and 6 < hue * 360 < 14)):
        return "brown"
    return colour
