"""The bytes that are sent for an image: its file's, or those of a picture that is made to fit."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager, nullcontext
from io import BytesIO
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, BinaryIO

from runner.errors import FailureCode, NoRequestError
from runner.media import files, pictures
from runner.media.limits import MAX_BYTES
from runner.threads import cores

if TYPE_CHECKING:
    from collections.abc import Iterator

    import PIL.Image

    from runner.records import Fit, Image

_QUALITIES = (90, 80, 70, 50, 30, 10, 1)  # of JPEG and WebP: photographs need the first, noise may need the last
_COARSE = 70  # below it colours go at half the resolution, and transparency is no longer exact
_KEPT_BYTES = 16_000_000  # of fitted pictures, for what is sent again
_LARGE = 25_000_000  # pixels: what is larger takes hundreds of MB while it is decoded
_places = BoundedSemaphore(cores())
_place_of_large = Lock()


def content(image: Image) -> bytes:
    """The bytes that are sent for `image`. Raises NoRequestError if they can't be had or the file has changed."""
    if image.fit is None:
        return files.read(image.path, image.file, digest=image.sha256, stamp=image.stamp)
    return _fitted(image, image.fit)


def is_at_hand(image: Image) -> bool:
    """Whether `content` has nothing to decode."""
    return image.fit is None or _recent.get((image.sha256, image.fit)) is not None


@contextmanager
def room(image: Image, size: tuple[int, int]) -> Iterator[None]:
    """Wait until the image may be decoded for that size: as many at once as there are cores, and of large ones one."""
    large = pictures.decoded_pixels(image, size) > _LARGE
    with _place_of_large if large else nullcontext(), _places:
        yield


def _fitted(image: Image, fit: Fit) -> bytes:
    key = (image.sha256, fit)
    made = _recent.get(key)
    if made is not None:
        return made
    with room(image, (fit.width, fit.height)):
        made = _recent.get(key)  # another thread may have made it by now
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
        raise NoRequestError(
            FailureCode.INPUT,
            f"the image {image.path!r} cannot be made to fit: {pictures.reason(error)}",
            hint="put a whole file in its place, or convert it to png or jpeg",
        ) from error


def _encoded(picture: PIL.Image.Image, image: Image, fit: Fit) -> bytes:
    """The picture as a file that Bedrock takes, of the size that was planned: that is where quality gives way."""
    if fit.media_type == "image/png":
        made = saved(picture, "PNG")
        return made if len(made) <= MAX_BYTES else saved(_in_256_colours(picture), "PNG")
    if fit.media_type == "image/jpeg" and picture.mode not in {"L", "RGB"}:
        picture = picture.convert("RGB")
    for quality in _QUALITIES:
        coarse = quality < _COARSE
        if fit.media_type == "image/webp":
            made = saved(picture, "WEBP", quality=quality, method=2, alpha_quality=quality if coarse else 100)
        else:  # a photograph comes with its colours at half the resolution, and drawings must keep their edges
            halved = coarse or image.media_type == "image/jpeg"
            made = saved(picture, "JPEG", quality=quality, subsampling=2 if halved else 0)
        if len(made) <= MAX_BYTES:
            return made
    raise ValueError(f"it has {len(made):,} bytes at the lowest quality")


def _in_256_colours(picture: PIL.Image.Image) -> PIL.Image.Image:
    from PIL.Image import Quantize

    coloured = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if picture.mode == "LA":
        coloured.info.pop("icc_profile", None)  # one of greys
    return coloured.quantize(256, Quantize.FASTOCTREE)


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
