"""Small copies of images for reports."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from runner.media import files, fitting, pictures
from runner.media.files import MediaError
from runner.media.limits import refuse_too_many_pixels

if TYPE_CHECKING:
    from runner.records import Image


def thumbnail(image: Image, *, side: int) -> str:
    """The image made to fit a square of `side` pixels, upright, as a data URI. Raises MediaError.

    It is a PNG if it has transparent parts, else a JPEG; of an animation the first picture.
    """
    refuse_too_many_pixels(image)
    scale = min(1, side / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    try:
        with fitting.room(image, size), files.open_regular(image.file) as stream:
            small = pictures.scaled(stream, image, size)
            transparent = small.has_transparency_data
            kind, mode = ("PNG", "RGBA") if transparent else ("JPEG", "RGB")
            made = fitting.saved(small.convert(mode), kind, optimize=True)
    except Exception as error:  # decoders raise anything on damaged data
        raise MediaError(f"the image {image.path!r} is damaged: {pictures.reason(error)}") from error
    return f"data:image/{kind.lower()};base64,{b64encode(made).decode('ascii')}"
