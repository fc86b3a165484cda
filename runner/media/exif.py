"""What a camera wrote into a photograph beside its pixels: when it was taken, and how it is to be turned."""

from __future__ import annotations

import re
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.media import files

if TYPE_CHECKING:
    from pathlib import Path

_ORIENTATION, _DATE_TIME, _EXIF, _DATE_TIME_ORIGINAL = 0x0112, 0x0132, 0x8769, 0x9003
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})  # the orientations whose width and height are exchanged

_TIME = re.compile(r"([0-9]{4})[:-]([0-9]{2})[:-]([0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})")


class Exif(NamedTuple):
    """`taken` is as `2026-11-22T20:00:00`, in the time of the camera; empty where no sensible time is given.
    `on_its_side`: upright, the picture is as wide as its pixels are high.
    """

    taken: str = ""
    on_its_side: bool = False


def read(file: Path) -> Exif:
    """What an image says of itself. No pixel is decoded. What is damaged or missing says nothing. Raises OSError."""
    import PIL.Image

    with files.open_regular(file) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about the size and about damage
        try:
            with PIL.Image.open(stream) as image:
                found = PIL.Image.Image.getexif(image)  # not PNG's own, which decodes the picture in search of more
                times = (found.get_ifd(_EXIF).get(_DATE_TIME_ORIGINAL), found.get(_DATE_TIME))
                taken = next(filter(None, map(_time, times)), "")
                return Exif(taken, found.get(_ORIENTATION) in _ON_ITS_SIDE)
        except Exception:  # decoders raise anything on damaged data
            return Exif()


def _time(value: Any) -> str:
    """A time of EXIF as ISO 8601 has it; empty for what is none, such as a clock that was never set."""
    match = _TIME.match(str(value).strip()) if value else None
    if match is None:
        return ""
    year, month, day, clock = match.groups()
    try:
        return datetime.fromisoformat(f"{year}-{month}-{day}T{clock}").isoformat()
    except ValueError:
        return ""
