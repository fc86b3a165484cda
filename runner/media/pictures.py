"""Pictures as Pillow decodes them. Each is opened as what its content says it is: no other decoder sees it."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import ContextDecorator, suppress
from importlib import import_module
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from runner.media import kinds
from runner.media.headers import CUT_SHORT, ORIENTATION, DamagedError, Header

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFile

    from runner.records import Colours, Image

_READERS = {
    "image/png": ("PIL.PngImagePlugin", "PngImageFile"),
    "image/jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "image/gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "image/webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "image/bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "image/tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "image/avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "image/heic": ("pillow_heif", "HeifImageFile"),
}
_COLOURS: dict[str, Colours] = {
    **dict.fromkeys(("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F"), "grey"),
    **dict.fromkeys(("P", "PA"), "palette"),
    "CMYK": "cmyk",
}
_BITS = {"I": 32, "F": 32, "I;16": 16, "I;16B": 16, "I;16L": 16, "I;16N": 16}
_NEW_SUBFILE_TYPE, _DNG_VERSION = 0x00FE, 0xC612  # tags
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _COMPRESSION, _UNCOMPRESSED = 0x0102, 0x0115, 0x0103, 1
_STRIPS, _TILES = (0x0111, 0x0117), (0x0144, 0x0145)  # where the pixels are: tags of offsets and of numbers of bytes
_MOST_COLOURS = 256  # of a palette
_MOST_PADDING = 3  # bytes at the end of a BMP's line: programs leave out those of the last one
_LARGEST_PROFILE = 65_536  # bytes
_TURNS = ("", "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_TURNED = {"image/tiff", "image/heic"}
_INSTALL = "pip install 'bedrock-run[heic]', or convert it to jpeg"


class UnreadableError(Exception):
    """A picture is damaged, or of a kind that nothing installed here reads; `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Quiet(ContextDecorator):
    """Pillow tells of what is odd about a picture. Within, it is a warning to no one who sees a terminal here.

    Filters of warnings and handlers of logs are the whole program's, which may be a user's: the first thread within
    adds ours, and the last takes them away.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._within = 0
        self._filter: object = None
        self._handler = logging.NullHandler()

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            if self._within == 1:
                warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
                self._filter = warnings.filters[0]
                logging.getLogger("PIL").addHandler(self._handler)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                with suppress(ValueError):  # others may have put back the filters of before
                    cast("list[object]", warnings.filters).remove(self._filter)
                logging.getLogger("PIL").removeHandler(self._handler)


quiet = _Quiet()


def opened(stream: BinaryIO, media_type: str) -> PIL.ImageFile.ImageFile:
    """The picture in `stream`, of which no pixel is decoded yet. To be called, and the picture used, within `quiet`.

    Raises UnreadableError, and what Pillow raises: on damaged data that may be any exception, now or later.
    """
    module, name = _READERS[media_type]
    try:
        reader = getattr(import_module(module), name)
    except ImportError as error:
        raise UnreadableError("nothing that reads it is installed", _INSTALL) from error
    stream.seek(0)
    picture: PIL.ImageFile.ImageFile = reader(stream)
    return picture


@quiet
def header(stream: BinaryIO, media_type: str) -> Header:
    """What Pillow says of a picture before it decodes it. Raises DamagedError and UnreadableError."""
    try:
        picture = opened(stream, media_type)
        if media_type == "image/tiff":
            _refuse_raw(picture)
            _refuse_cut_tiff(picture, os.fstat(stream.fileno()).st_size)
        elif media_type == "image/bmp":
            _refuse_damaged_bmp(picture, os.fstat(stream.fileno()).st_size)
        return Header(
            width=picture.width,
            height=picture.height,
            orientation=_orientation(picture, media_type),
            colours=_COLOURS.get(picture.mode, "rgb"),
            bits=_BITS.get(picture.mode, 8),
            transparent=picture.has_transparency_data,
            several=bool(getattr(picture, "is_animated", False)),
        )
    except (DamagedError, UnreadableError):
        raise
    except Exception as error:  # decoders raise anything on damaged data
        raise UnreadableError(reason(error), "convert it to png or jpeg with another program") from error


def reason(error: Exception) -> str:
    """What Pillow says is wrong, in one line."""
    if str(error).startswith("decoder error"):  # and a number
        return "its pixels are damaged, or packed in a way that is not known here"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _orientation(picture: PIL.ImageFile.ImageFile, media_type: str) -> int:
    """How it is still to be turned once it is decoded: decoders of TIFF and HEIC turn it themselves."""
    found = picture.getexif().get(ORIENTATION, 1) if media_type not in _TURNED else 1
    return found if found in range(2, 9) else 1


def _refuse_raw(picture: Any) -> None:
    """Raise UnreadableError for a DNG, NEF, ARW or the like: first in it is a small copy of what the camera saw."""
    tags = picture.tag_v2
    if _DNG_VERSION in tags or tags.get(_NEW_SUBFILE_TYPE, 0) & 1:
        raise UnreadableError("it is a raw photograph", kinds.EXPORT)


def _refuse_cut_tiff(picture: Any, size: int) -> None:
    """Raise DamagedError where the pixels of the first page, by the tags of where they are, are not all in the file.

    Nothing that decodes looks at the numbers of bytes where pixels are not compressed, so these may be wrong.
    """
    tags = picture.tag_v2
    offset_tag, count_tag = _TILES if _TILES[0] in tags else _STRIPS
    offsets, counts = tags.get(offset_tag), tags.get(count_tag) or ()
    if not offsets:
        raise DamagedError("it does not say where its pixels are")
    end = max((offset + count for offset, count in zip(offsets, counts, strict=False)), default=0)
    if tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED:
        bits = tags.get(_BITS_PER_SAMPLE, (1,))[0] * tags.get(_SAMPLES_PER_PIXEL, 1)
        end = min(end, min(offsets) + picture.height * -(-picture.width * bits // 8))
    if max(end, max(offsets) + 1) > size:
        raise DamagedError(CUT_SHORT)


def _refuse_damaged_bmp(picture: Any, size: int) -> None:
    """Raise DamagedError where its lines are not all in the file, and for a palette that nothing decodes."""
    ((codec, _, offset, args),) = picture.tile
    if codec == "raw":
        _, bytes_of_line, _ = args
        if offset + picture.height * bytes_of_line - _MOST_PADDING > size:
            raise DamagedError(CUT_SHORT)
    palette = picture.palette
    if palette and len(palette.palette) > _MOST_COLOURS * len(palette.rawmode):
        raise DamagedError(f"its palette has {len(palette.palette) // len(palette.rawmode)} colours")


# --- decoded ---------------------------------------------------------------------------------------------------------


def decoded_pixels(image: Image, size: tuple[int, int]) -> int:
    """How many pixels of the image have to be in memory for `scaled` to make it of that size."""
    pixels = image.width * image.height
    if image.progressive or image.media_type != "image/jpeg":
        return pixels
    most = min(image.width // size[0], image.height // size[1])
    divisor = max(each for each in (1, 2, 4, 8) if each == 1 or each <= most)  # the scales at which JPEGs are decoded
    return pixels // divisor**2


@quiet
def scaled(stream: BinaryIO, image: Image, size: tuple[int, int]) -> PIL.Image.Image:
    """The image upright, of that size, with 8 bits a channel: grey, RGB or a palette, with transparency if it has any.

    Of what its file said besides it keeps the colour profile. Raises whatever Pillow raises.
    """
    from PIL.Image import Resampling, Transpose

    across = image.orientation >= 5
    stored, target = ((image.height, image.width), size[::-1]) if across else ((image.width, image.height), size)
    picture: PIL.Image.Image
    with opened(stream, image.media_type) as picture:
        if picture.size != stored:  # what has been judged is the size that is told
            raise UnreadableError("it says two sizes of itself", "save it anew with another program")
        picture.draft(None, target)  # a JPEG is decoded at about the size that is wanted
        picture.load()
    picture = _of_8_bits(picture)
    if picture.size != target:
        picture = _with_whole_channels(picture).resize(target, Resampling.BICUBIC, reducing_gap=2.0)
    picture = _in_rgb(picture)
    turn = _TURNS[image.orientation - 1]
    return picture.transpose(Transpose[turn]) if turn else picture


def _of_8_bits(picture: PIL.Image.Image) -> PIL.Image.Image:
    """A picture in shades of more than 8 bits as one of 8. What has no white of its own gets its lightest as white."""
    bits = _BITS.get(picture.mode, 8)
    if bits == 8:
        return picture
    if "transparency" in picture.info:
        picture.info["transparency"] >>= 8
    wide = picture if picture.mode in {"I", "I;16", "F"} else picture.convert("I")
    low, high = (0, 65535) if bits == 16 else cast("tuple[float, float]", wide.getextrema())
    scale = 255 / (high - low) if high > low else 0.0
    return wide.point(lambda shade: shade * scale - low * scale).convert("L")


def _with_whole_channels(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture in a form in which its pixels can be averaged: not as numbers of a palette, nor as black or white."""
    if picture.has_transparency_data:
        return picture.convert("LA" if picture.mode in {"1", "L", "LA", "La"} else "RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    return picture.convert("RGB") if picture.mode in {"P", "PA"} else picture


def _in_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as a PNG or JPEG for screens can hold it, and only its colour profile left of what was said of it."""
    profile = picture.info.get("icc_profile") or b""
    made = picture
    if picture.mode in {"CMYK", "LAB"}:
        made = _from_profile(picture, profile)
    elif picture.mode not in {"1", "L", "LA", "P", "RGB", "RGBA"} or (
        picture.mode != "P" and "transparency" in picture.info
    ):
        made = _with_whole_channels(picture)
        made = made if made.mode in {"LA", "RGBA"} else made.convert("RGB")
    kept = ["transparency"] if made.mode == "P" else []
    if profile[16:20] == (b"GRAY" if made.mode in {"L", "LA"} else b"RGB ") and len(profile) <= _LARGEST_PROFILE:
        kept.append("icc_profile")
    made.info = {name: made.info[name] for name in kept if name in made.info}
    return made


def _from_profile(picture: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """A picture in inks or in L*a*b* as RGB, by the profile that it brings if that can be used."""
    from PIL import ImageCms

    screen = ImageCms.createProfile("sRGB")
    if picture.mode == "LAB":
        return _converted(picture, ImageCms.createProfile("LAB"), screen)
    try:
        return _converted(picture, ImageCms.ImageCmsProfile(BytesIO(profile)), screen)
    except (ImageCms.PyCMSError, OSError):  # none, or a damaged one
        return picture.convert("RGB")


def _converted(picture: PIL.Image.Image, source: Any, target: Any) -> PIL.Image.Image:
    from PIL import ImageCms

    made = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
    assert made is not None  # it is not changed in place
    return made
