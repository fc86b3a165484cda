"""The files that Bedrock takes: its own names for their formats, their media types, and their suffixes."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["image", "document", "video"]

# Bedrock's name of a format -> its media type.
IMAGES: Final[Mapping[str, str]] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
DOCUMENTS: Final[Mapping[str, str]] = {
    "pdf": "application/pdf",
    "csv": "text/csv",
    "doc": "application/msword",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "html": "text/html",
    "txt": "text/plain",
    "md": "text/markdown",
}
VIDEOS: Final[Mapping[str, str]] = {
    "mkv": "video/x-matroska",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "flv": "video/x-flv",
    "mpeg": "video/mpeg",
    "wmv": "video/x-ms-wmv",
    "three_gp": "video/3gpp",
}
_FORMATS: Final[Mapping[Kind, Mapping[str, str]]] = {"image": IMAGES, "document": DOCUMENTS, "video": VIDEOS}
_OTHER_SUFFIXES: Final[Mapping[str, str]] = {
    "jpg": "jpeg",
    "htm": "html",
    "markdown": "md",
    "mpg": "mpeg",
    "3gp": "three_gp",
}
_NAMES: Final = {media_type: name for known in _FORMATS.values() for name, media_type in known.items()}


def of_suffix(path: str, kind: Kind) -> str | None:
    """The media type that the suffix of a path stands for, in any case of letters; None if it is no `kind`'s."""
    suffix = PurePosixPath(path).suffix.removeprefix(".").lower()
    return _FORMATS[kind].get(_OTHER_SUFFIXES.get(suffix, suffix))


def kinds_of_suffix(path: str) -> list[Kind]:
    """The kinds of files that may have a name like this one."""
    return [kind for kind in _FORMATS if of_suffix(path, kind)]


def suffixes(kind: Kind) -> str:
    """The suffixes of a kind, as people read them."""
    return ", ".join("3gp" if name == "three_gp" else name for name in _FORMATS[kind])


def bedrock_name(media_type: str) -> str:
    """What Bedrock calls the format."""
    return _NAMES[media_type]


def kind_of(media_type: str) -> Kind:
    """Whether a media type is one of images, of videos or of documents."""
    kind = media_type.partition("/")[0]
    return "image" if kind == "image" else "video" if kind == "video" else "document"
