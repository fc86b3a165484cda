"""The bytes that are sent for an image: its file's, or those of a picture that is made to fit."""

from __future__ import annotations

import os
from base64 import b64encode
from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from io import BytesIO
from math import sqrt
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from runner.errors import CallError, FailureCode
from runner.media import files, pictures
from runner.media.limits import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    import PIL.Image

    from runner.records import Fit, Image

_QUALITIES = (90, 80, 70)  # of JPEG and WebP: lower ones are tried before the picture is made smaller
_KEPT_BYTES = 16_000_000  # of fitted pictures, for what is sent again
_LARGE = 25_000_000  # pixels: what is larger takes hundreds of MB while it is decoded
_places = BoundedSemaphore(os.cpu_count() or 1)
_place_of_large = Lock()


def content(image: Image) -> bytes:
    """The bytes that are sent for `image`. Raises CallError (input) if they can't be had or the file has changed."""
    if image.fit is None:
        return files.read(image.path, image.file, digest=image.sha256, stamp=image.stamp)
    return _fitted(image, image.fit)


def read_base64(image: Image) -> str:
    """What `content` gives, as it stands in a body."""
    return b64encode(content(image)).decode("ascii")


@contextmanager
def room(image: Image) -> Iterator[None]:
    """Wait until the image may be decoded: as many at once as there are cores, and of large ones one."""
    whole = image.progressive or image.media_type != "image/jpeg"
    large = whole and image.width * image.height > _LARGE
    with _place_of_large if large else nullcontext(), _places:
        yield


def _fitted(image: Image, fit: Fit) -> bytes:
    key = (image.sha256, fit)
    with room(image):
        made = _recent.get(key)
        if made is None:
            with files.unchanged(image.path, image.file, digest=image.sha256, stamp=image.stamp) as stream:
                made = _made_to_fit(stream, image, fit)
            _recent.keep(key, made)
    return made


def _made_to_fit(stream: BinaryIO, image: Image, fit: Fit) -> bytes:
    try:
        picture = pictures.scaled(stream, image, (fit.width, fit.height))
        return _encoded(picture, image, fit)
    except Exception as error:  # decoders raise anything on damaged data
        raise CallError(
            FailureCode.INPUT,
            f"the image {image.path!r} cannot be made to fit: {pictures.reason(error)}",
            hint="put a whole file in its place, or convert it to png or jpeg",
        ) from error


def _encoded(picture: PIL.Image.Image, image: Image, fit: Fit) -> bytes:
    """The picture as a file that Bedrock takes. One of noise, which hardly compresses, may come out smaller."""
    if fit.media_type == "image/png":
        return saved(picture, "PNG")
    if fit.media_type == "image/webp":
        kind, how = "WEBP", {"method": 2}
    else:  # a photograph comes with its colours at half the resolution, and drawings must keep their edges
        kind, how = "JPEG", {"subsampling": 2 if image.media_type == "image/jpeg" else 0}
        picture = picture if picture.mode in {"L", "RGB"} else picture.convert("RGB")
    for quality in _QUALITIES:
        made = saved(picture, kind, quality=quality, **how)
        if len(made) <= MAX_BYTES:
            return made
    while len(made) > MAX_BYTES:
        scale = 0.9 * sqrt(MAX_BYTES / len(made))
        picture = picture.resize((max(1, int(picture.width * scale)), max(1, int(picture.height * scale))))
        made = saved(picture, kind, quality=_QUALITIES[-1], **how)
    return made


def saved(picture: PIL.Image.Image, kind: str, **how: Any) -> bytes:
    """The picture as a file, with nothing in it that was in the file that it comes from but its colour profile."""
    stream = BytesIO()
    picture.save(stream, kind, icc_profile=picture.info.get("icc_profile"), **how)
    return stream.getvalue()


class _Recent:
    """What was made last, up to so many bytes: a retry, and a picture that every case shows, are not made again."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._bytes = 0
        self._made: OrderedDict[tuple[str, Fit], bytes] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[str, Fit]) -> bytes | None:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)

    def keep(self, key: tuple[str, Fit], made: bytes) -> None:
        with self._lock:
            self._bytes += len(made) - len(self._made.pop(key, b""))
            self._made[key] = made
            while self._bytes > self._most:
                self._bytes -= len(self._made.popitem(last=False)[1])


_recent = _Recent(_KEPT_BYTES)
