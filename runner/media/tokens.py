"""About how many tokens a document or a video has for a model. Estimates for pacing and budgets, never for a row."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Final

from runner.media import files, formats

if TYPE_CHECKING:
    from pathlib import Path
    from zipfile import ZipFile

CHARACTERS_PER_TOKEN: Final = 4  # of English; other languages and code have more tokens
_PAGE: Final = 2250  # of a PDF: Anthropic speaks of 1,500 to 3,000
DOCUMENT_IN_S3: Final = 10 * _PAGE  # nothing is known of it
_VIDEO_SECOND: Final = 288  # Amazon Nova looks at one picture per second,
LONGEST_VIDEO: Final = 960 * _VIDEO_SECOND  # and at no more of them than this

_ONE_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_STREAM: Final = re.compile(rb"stream\r?\n")
_LONGEST_DICTIONARY: Final = 400  # bytes between the type of a stream and its content
_MOST_INFLATED: Final = 16 * 1024 * 1024  # bytes of one file
_BYTES_PER_CHARACTER: Final = 5  # of the markup of Office
_PARTS_WITH_TEXT: Final = {  # in small letters
    formats.DOCUMENTS["docx"]: re.compile(r"word/(document|(header|footer)[0-9]*|footnotes|endnotes|comments)\.xml"),
    formats.DOCUMENTS["xlsx"]: re.compile(r"xl/(sharedstrings|worksheets/[^/]+)\.xml"),
}
_TAG: Final = re.compile(rb"<[^<>]*>\s*")


def of_file(file: Path, media_type: str) -> int:
    """By pages, by text or by duration: a PDF is read and looked at, of other documents the text counts.

    Reads the file, if need be all of it. Raises OSError.
    """
    if formats.kind_of(media_type) == "video":
        return _of_video(file)
    if media_type == formats.DOCUMENTS["pdf"]:
        return _pages(file) * _PAGE
    return ceil(_characters(file, media_type) / CHARACTERS_PER_TOKEN)


def _of_video(file: Path) -> int:
    """By duration; where that is not known, as many as there can be."""
    seconds = _seconds(file)
    return LONGEST_VIDEO if seconds is None else min(LONGEST_VIDEO, ceil(seconds) * _VIDEO_SECOND)


def _pages(file: Path) -> int:
    """About how many pages a PDF has: those that can be seen in it, and at least one."""
    with files.open_regular(file) as stream:
        content = stream.read()
    found = len(_ONE_PAGE.findall(content))
    at, left = 0, _MOST_INFLATED
    while left > 0 and (at := content.find(b"/ObjStm", at)) >= 0:
        begin = _STREAM.search(content, at, at + _LONGEST_DICTIONARY)
        if begin is None:
            at += 1
            continue
        packed, at = begin.end(), content.find(b"endstream", begin.end())
        if at < 0:
            break
        try:
            objects = zlib.decompressobj().decompress(content[packed:at], left)
        except zlib.error:  # encrypted or compressed in another way, and so are the others
            break
        left -= len(objects)
        found += len(_ONE_PAGE.findall(objects))
    return max(1, found)


def _characters(file: Path, media_type: str) -> int:
    """About how many characters of text there are in what is no PDF."""
    with files.open_regular(file) as stream:
        size = stream.seek(0, 2)
        if media_type.startswith("text/"):
            return size
        if media_type not in _PARTS_WITH_TEXT:
            return size // _BYTES_PER_CHARACTER
        import zipfile  # as documents.py does

        try:
            with zipfile.ZipFile(stream) as archive:
                return _characters_of_parts(archive, _PARTS_WITH_TEXT[media_type])
        except zipfile.BadZipFile:  # it was none when it was checked
            return size // _BYTES_PER_CHARACTER


def _characters_of_parts(archive: ZipFile, with_text: re.Pattern[str]) -> int:
    """What is left of the parts of a file of Office that hold text without their tags; styles, themes and pictures do
    not count. What is too much to look at, or cannot be unpacked, counts by its size.
    """
    found, left = 0, _MOST_INFLATED
    for entry in archive.infolist():
        if not with_text.fullmatch(entry.filename.replace("\\", "/").lower()):
            continue
        content = b""
        with suppress(Exception), archive.open(entry) as part:  # encrypted, damaged, packed in another way
            content = part.read(left)
        left -= len(content)
        found += len(_TAG.sub(b"", content)) + max(0, entry.file_size - len(content)) // _BYTES_PER_CHARACTER
    return found


def _seconds(file: Path) -> float | None:
    """How long an MP4, MOV or 3GP is, by its movie header; None where it does not tell."""
    with files.open_regular(file) as stream:
        content = stream.read()
    at = content.find(b"mvhd") + 4
    header = content[at : at + 32]
    if at < 4 or len(header) < 32:
        return None
    scale, duration = (slice(20, 24), slice(24, 32)) if header[0] == 1 else (slice(12, 16), slice(16, 20))
    per_second, length = int.from_bytes(header[scale]), int.from_bytes(header[duration])
    return length / per_second if per_second and length else None
