"""When a photograph was taken, as the camera wrote it beside the pixels."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.media import files, pictures

if TYPE_CHECKING:
    from runner.records import Image

_DATE_TIME, _EXIF, _DATE_TIME_ORIGINAL = 0x0132, 0x8769, 0x9003  # tags

_TIME = re.compile(r"([0-9]{4})[:-]([0-9]{2})[:-]([0-9]{2})[ T]([0-9]{2}:[0-9]{2}:[0-9]{2})")


def taken(image: Image) -> str:
    """The time as `2026-11-22T20:00:00`, by the camera's clock; empty where no sensible time is given. Raises OSError.

    No pixel is decoded.
    """
    import PIL.Image

    with files.open_regular(image.file) as stream, pictures.quiet:
        try:
            picture = pictures.opened(stream, image.media_type)
            found = PIL.Image.Image.getexif(picture)  # not PNG's own, which decodes the picture in search of more
            times = (found.get_ifd(_EXIF).get(_DATE_TIME_ORIGINAL), found.get(_DATE_TIME))
            return next(filter(None, map(_time, times)), "")
        except Exception:  # decoders raise anything on damaged data
            return ""


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
