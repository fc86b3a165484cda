"""What an image of a job is, from its name to all that is known of it before it is decoded."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.media import files, headers, kinds, pictures
from runner.media.files import MediaError
from runner.records import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_HEAD = 64


def describe(path: str, root: Path, *, allow_dirs: Sequence[Path] = ()) -> Image:
    """Find the image that a job in folder `root` calls `path`, and say what it is. Raises MediaError.

    It is read whole, and so a PNG whose pixels are damaged is told. A file that has not changed since it was described
    before is not read again.
    """
    found = files.find(path, root, allow_dirs=allow_dirs)
    image = _look(found)  # before the whole of what may be no image is read
    content = files.content(found)
    if image.media_type == "image/png":
        _check_png(found)
    return replace(image, sha256=content.sha256, stamp=content.stamp)


def look(path: str, root: Path, *, allow_dirs: Sequence[Path] = ()) -> Image:
    """What `describe` says but for the digest, which is empty: most of the file is not read. Raises MediaError."""
    return _look(files.find(path, root, allow_dirs=allow_dirs))


@lru_cache(maxsize=4096)
def _check_png(found: files.Found) -> None:
    """Raise MediaError if the pixels are damaged; found in order, it is not read again while it looks the same."""
    try:
        with files.open_found(found) as stream:
            headers.check_png(stream)
    except headers.DamagedError as error:
        raise _damaged(found, error) from error
    except OSError as error:
        files.refuse_unreadable(found.path, found.file, error, what="image")


@lru_cache(maxsize=4096)
def _look(found: files.Found) -> Image:
    """The image without its digest, kept as long as the file looks the same."""
    try:
        with files.open_found(found) as stream:
            media_type = kinds.of_image(found.path, stream.read(_HEAD))
            sendable = media_type in kinds.SENDABLE
            header = headers.read(stream, media_type) if sendable else pictures.header(stream, media_type)
    except headers.DamagedError as error:
        raise _damaged(found, error) from error
    except pictures.UnreadableError as error:
        kind = kinds.NAMES[media_type]
        raise MediaError(f"the image {found.path!r} is {kind} that cannot be read: {error}", error.hint) from error
    except OSError as error:
        files.refuse_unreadable(found.path, found.file, error, what="image")
    across = header.orientation >= 5
    return Image(
        path=found.path,
        file=found.file,
        sha256="",
        bytes=found.bytes,
        media_type=media_type,
        width=header.height if across else header.width,
        height=header.width if across else header.height,
        orientation=header.orientation,
        colours=header.colours,
        bits=header.bits,
        transparent=header.transparent,
        several=header.several,
        progressive=header.progressive,
    )


def _damaged(found: files.Found, error: headers.DamagedError) -> MediaError:
    return MediaError(f"the image {found.path!r} is damaged: {error}", "put a whole file in its place")
