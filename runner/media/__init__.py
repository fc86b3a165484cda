"""Images of a job: found, judged by their content, and read when they are sent."""

from __future__ import annotations

import warnings
from base64 import b64encode
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from runner.media import files
from runner.media.files import MediaError
from runner.records import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import PIL.Image

# Bedrock takes 3.75 MB of raw bytes, which is 5 MiB of base64.
MAX_BYTES = 3_932_160

_CONVERT = "Bedrock takes png, jpeg, gif and webp: convert it"
_SCALE_DOWN = "scale it down, or save it with more compression"
_LFS = "a Git LFS pointer and not the file itself"
_ISO_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIF"}
_OTHER_FORMATS = {
    b"BM": "a BMP image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"%PDF": "a PDF document",
    b"\0\0\1\0": "an ICO image",
    b"8BPS": "a Photoshop file",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 image",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip file",
    b"version https://git-lfs": _LFS,
}


def describe(path: str, root: Path, *, allow_dirs: Sequence[Path] = ()) -> Image:
    """Find the image that a job in folder `root` calls `path`, and say what it is. Raises MediaError.

    A file that has not changed since it was described before is not read again.
    """
    found = files.find(path, root, allow_dirs=allow_dirs)
    if found.bytes > MAX_BYTES:
        raise MediaError(
            f"the image {path!r} has {found.bytes:,} bytes; Bedrock takes at most {MAX_BYTES:,}",
            _SCALE_DOWN,
        )
    content = files.content(found)
    try:
        media_type = _media_type(content.head)
    except _NotAnImage as error:
        raise MediaError(f"the image {path!r} is {error}", error.hint) from error
    return Image(path=path, file=found.file, sha256=content.sha256, bytes=found.bytes, media_type=media_type)


def read_base64(image: Image) -> str:
    """The image's content, as it is sent. Raises CallError (input) if it can't be read or has changed."""
    return b64encode(files.read(image.path, image.file, digest=image.sha256)).decode("ascii")


def size(image: Image) -> tuple[int, int]:
    """Width and height in pixels, from the header alone: no pixel is decoded. Raises MediaError."""
    with _opened(image) as opened:
        return opened.size


def thumbnail(image: Image, *, side: int) -> str:
    """The image made to fit a square of `side` pixels, upright, as a data URI. Raises MediaError.

    It is a PNG if it has transparent parts, else a JPEG; of an animation the first picture.
    """
    import PIL.Image
    import PIL.ImageOps

    with _opened(image) as opened:
        opened.draft("RGB", (side, side))  # a JPEG is decoded at about the size that is wanted
        opened.thumbnail((side, side))
        small = PIL.ImageOps.exif_transpose(opened)
        transparent = small.has_transparency_data
        kind, mode = ("PNG", "RGBA") if transparent else ("JPEG", "RGB")
        stream = BytesIO()
        small.convert(mode).save(stream, kind, optimize=True)
    return f"data:image/{kind.lower()};base64,{b64encode(stream.getvalue()).decode('ascii')}"


@contextmanager
def _opened(image: Image) -> Iterator[PIL.Image.Image]:
    """The picture, of which no pixel is decoded yet. What Pillow finds wrong with it, now or later, is a MediaError."""
    import PIL.Image

    bombs = (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            with PIL.Image.open(image.file) as opened:
                yield opened
    except bombs as error:
        raise MediaError(f"the image {image.path!r} has more pixels than any model takes", _SCALE_DOWN) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaError(f"the image {image.path!r} is damaged: {error}") from error


class _NotAnImage(Exception):  # noqa: N818 - the text is what the file is
    """The content is of another kind; the text says which."""

    @property
    def hint(self) -> str:
        return "fetch it with `git lfs pull`" if str(self) == _LFS else _CONVERT


def _media_type(head: bytes) -> str:
    """The type that the first bytes show, whatever the file is called."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    raise _NotAnImage(_other_format(head))


def _other_format(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        brand = _ISO_BRANDS.get(head[8:12])
        return f"{brand} image" if brand else "a video"
    for magic, name in _OTHER_FORMATS.items():
        if head.startswith(magic):
            return name
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<svg", b"<?xml", b"<!doctype svg")):
        return "an SVG or XML file"
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return "of a format that is not known here"
