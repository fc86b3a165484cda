"""Images of a job: found, judged by their content, and read when they are sent."""

from __future__ import annotations

import stat
import warnings
from base64 import b64encode
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from typing import TYPE_CHECKING, Never

from runner import paths
from runner.errors import CallError, FailureCode
from runner.records import Image

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import PIL.Image

# Bedrock takes 3.75 MB of raw bytes, which is 5 MiB of base64.
MAX_BYTES = 3_932_160

_HEAD = 64
_CHUNK = 1024 * 1024
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


class MediaError(Exception):
    """An image cannot be used: what is wrong with it, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def describe(path: str, root: Path, *, allow_dirs: Sequence[Path] = ()) -> Image:
    """Find the image that a job in folder `root` calls `path`, and say what it is. Raises MediaError.

    The file must lie inside `root` or one of `allow_dirs`, symbolic links followed. A file that has not changed since
    it was described before is not read again.
    """
    file = _resolve(path, root, allow_dirs=allow_dirs)
    try:
        found = file.stat()
    except (OSError, ValueError) as error:
        _refuse_unreadable(path, file, error)
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
        raise MediaError(f"{path!r} is {kind}, not a file", "name the image file itself")
    if found.st_size == 0:
        raise MediaError(f"the image {path!r} is empty")
    if found.st_size > MAX_BYTES:
        raise MediaError(
            f"the image {path!r} has {found.st_size:,} bytes; Bedrock takes at most {MAX_BYTES:,}",
            _SCALE_DOWN,
        )
    try:
        media_type, digest = _examine(file, found.st_mtime_ns, found.st_size, found.st_ino)
    except OSError as error:
        _refuse_unreadable(path, file, error)
    except _NotAnImage as error:
        raise MediaError(f"the image {path!r} is {error}", error.hint) from error
    return Image(path=path, file=file, sha256=digest, bytes=found.st_size, media_type=media_type)


def read_base64(image: Image) -> str:
    """The image's content, as it is sent. Raises CallError (input) if it can't be read or has changed."""
    try:
        content = image.file.read_bytes()
    except OSError as error:
        raise CallError(
            FailureCode.INPUT,
            f"the image {image.path!r} can no longer be read: {error.strerror}",
            hint="put the file back and run the same command again",
        ) from error
    if sha256(content).hexdigest() != image.sha256:
        raise CallError(
            FailureCode.INPUT,
            f"the image {image.path!r} has changed since the run began",
            hint="run the same command again: what changed is called anew",
        )
    return b64encode(content).decode("ascii")


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


def _resolve(path: str, root: Path, *, allow_dirs: Sequence[Path]) -> Path:
    scheme, separator, _ = path.partition("://")
    if separator and scheme.isalnum():
        raise MediaError(f"{path!r} is a URL; an image must be a file", "download it next to the job file and name it")
    try:
        file = paths.resolved(path, root)
    except ValueError as error:  # a NUL byte, a loop of links
        raise MediaError(f"{path!r} is not a usable path: {error}") from error
    if not paths.is_allowed(file, (root, *allow_dirs)):
        raise MediaError(
            f"the image {path!r} lies outside the job file's folder",
            f"move it there, or allow its folder with --allow-dir {file.parent}",
        )
    return file


def _refuse_unreadable(path: str, file: Path, error: Exception) -> Never:
    if isinstance(error, FileNotFoundError):
        raise MediaError(f"there is no image {path!r}", f"paths start at the job file's folder: {file}") from error
    reason = error.strerror if isinstance(error, OSError) else error
    raise MediaError(f"the image {path!r} cannot be read: {reason}") from error


@lru_cache(maxsize=4096)
def _examine(file: Path, mtime_ns: int, size: int, inode: int) -> tuple[str, str]:  # noqa: ARG001 - part of the key
    """Media type and SHA-256 of a file's content; kept as long as the file looks the same."""
    digest = sha256()
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
        media_type = _media_type(head)
        digest.update(head)
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return media_type, digest.hexdigest()


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
