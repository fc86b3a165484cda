"""Documents and videos of a job: found, and of the type that their suffix says, to which their content must hold."""

from __future__ import annotations

import codecs
import re
import zipfile
import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from runner.media import files, formats
from runner.media.files import MediaError
from runner.records import DiskFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runner.media.formats import Kind

    _Wrong = tuple[str, str | None]  # what is wrong with a file, and what to do about it

_MOST_BYTES: Final = 25_000_000
_SMALLER: Final = {
    "document": "split it, or leave out what the question does not need",
    "video": "put it into S3, and write `video: s3://bucket/key`",
}
_HEADER_OF_PDF: Final = 1024  # bytes within which a PDF must begin
_CHUNK: Final = 1024 * 1024
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the container of Office before 2007
_PROTECTED: Final = "it is protected with a password"
_SAVE_WITHOUT: Final = "save it without a password"


def describe(path: str, root: Path, *, kind: Literal["document", "video"], allow_dirs: Sequence[Path] = ()) -> DiskFile:
    """Find the document or video that a job in folder `root` calls `path`, and check what it is. Raises MediaError.

    A file that has not changed since it was described before is not read again.
    """
    found = files.find(path, root, allow_dirs=allow_dirs, what=kind)
    media_type = formats.of_suffix(path, kind)
    if media_type is None:
        raise MediaError(f"{path!r} has no suffix of a {kind} that Bedrock takes", _other_suffix(path, kind))
    if found.bytes > _MOST_BYTES:  # which takes long to read
        raise MediaError(f"the {kind} {path!r} has {found.bytes:,} bytes; no request takes so many", _SMALLER[kind])
    content = files.content(found, what=kind)
    try:
        wrong = _checked(found.file, media_type, found.mtime_ns, found.bytes, found.inode)
    except OSError as error:
        files.refuse_unreadable(path, found.file, error, what=kind)
    if wrong is not None:
        raise MediaError(f"the {kind} {path!r} cannot be used: {wrong[0]}", wrong[1])
    return DiskFile(path=path, file=found.file, sha256=content.sha256, bytes=found.bytes, media_type=media_type)


def _other_suffix(path: str, kind: Kind) -> str:
    key = {"image": "images: [PATH]", "document": "documents: [PATH]", "video": "video: PATH"}
    for meant in formats.kinds_of_suffix(path):
        return f"it is named like a {meant}: give it under `{key[meant]}`"
    if kind == "document":
        return f"documents are {formats.suffixes(kind)}: name a text file .txt, and save anything else as PDF"
    return f"videos are {formats.suffixes(kind)}: convert it"


@lru_cache(maxsize=4096)
def _checked(file: Path, media_type: str, mtime_ns: int, size: int, inode: int) -> _Wrong | None:  # noqa: ARG001 - part of the key
    """What is wrong with the content and what to do, or None; kept as long as the file looks the same."""
    with files.open_regular(file) as stream:
        head = stream.read(_HEADER_OF_PDF)
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer and not the file itself", "fetch it with `git lfs pull`"
    return _CHECKS[media_type](file, head)


# --- what each type must look like -----------------------------------------------------------------------------------


def _pdf(_file: Path, head: bytes) -> _Wrong | None:
    return None if b"%PDF-" in head else _not_a("PDF", head)


def _not_a(name: str, head: bytes) -> _Wrong:
    """That a file is not what its suffix says, and what it is instead, as far as its beginning tells."""
    if _is_image(head):
        return f"it is an image and no {name}", "name it in `images:`"
    for magic, (actual, hint) in _OTHERS.items():
        if head.startswith(magic):
            return f"it is {actual} and no {name}", hint
    if head[:512].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return f"it is an HTML page and no {name}", "download the file itself, or give it the suffix .html"
    return f"its content is that of no {name}", "give it the suffix of what it is, or save it anew"


def _is_image(head: bytes) -> bool:
    magics = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
    return head.startswith(magics) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


_OTHERS: Final[Mapping[bytes, tuple[str, str]]] = {
    b"%PDF-": ("a PDF", "give it the suffix .pdf"),
    b"PK\x03\x04": ("a ZIP archive or a file of Office", "give it the suffix of what it is, as .docx or .xlsx"),
    _OLE: ("a file of Office before 2007", "give it the suffix .doc or .xls, or save it as .docx or .xlsx"),
    b"{\\rtf": ("an RTF file", "save it as .docx or PDF"),
    b"\x1f\x8b": ("a gzip file", "unpack it"),
}


def _office(folder: str, name: str) -> Callable[[Path, bytes], _Wrong | None]:
    """A ZIP archive that holds the parts of a document in `folder`."""

    def check(file: Path, head: bytes) -> _Wrong | None:
        if head.startswith(_OLE) and _holds(file, "EncryptedPackage"):
            return _PROTECTED, _SAVE_WITHOUT
        if not head.startswith(b"PK\x03\x04"):
            return _not_a(name, head)
        try:
            with zipfile.ZipFile(file) as archive:
                entries = [entry.replace("\\", "/").lower() for entry in archive.namelist()]  # as Office reads them
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            return f"it is damaged: {error}", "save or download it anew"
        if "[content_types].xml" in entries and any(entry.startswith(folder) for entry in entries):
            return None
        for other, (actual, suffix) in _OFFICE_FOLDERS.items():
            if any(entry.startswith(other) for entry in entries):
                return f"it is {actual} and no {name}", f"give it the suffix {suffix}" if suffix else "save it as PDF"
        return f"it is a ZIP archive and no {name}", "unpack it, and name the file inside"

    return check


_OFFICE_FOLDERS: Final[Mapping[str, tuple[str, str]]] = {
    "word/": ("a Word document", ".docx"),
    "xl/": ("an Excel workbook", ".xlsx"),
    "ppt/": ("a PowerPoint presentation", ""),
    "meta-inf/manifest.xml": ("an OpenDocument file", ""),
}


def _old_office(streams: Sequence[str], name: str) -> Callable[[Path, bytes], _Wrong | None]:
    """An OLE container that holds one of these streams."""

    def check(file: Path, head: bytes) -> _Wrong | None:
        if not head.startswith(_OLE):
            return _not_a(name, head)
        if any(_holds(file, stream) for stream in streams):
            return None
        return f"it is a file of Office before 2007, but no {name}", "give it the suffix of what it is"

    return check


def _holds(file: Path, stream: str) -> bool:
    """Whether an OLE container has a stream of this name, which its directory spells in UTF-16."""
    name = f"{stream}\0".encode("utf-16-le")
    with files.open_regular(file) as content:
        before = b""
        while chunk := content.read(_CHUNK):
            if name in before + chunk:
                return True
            before = chunk[-len(name) :]
    return False


def _text(file: Path, head: bytes) -> _Wrong | None:
    """UTF-8, with or without a byte order mark, and without NUL: what has one is no text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16, and Bedrock takes UTF-8", "convert it: `iconv -f UTF-16 -t UTF-8`"
    if _is_image(head) or head.startswith(tuple(_OTHERS)):
        return _not_a("text", head)
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    offset, blank = 0, True
    with files.open_regular(file) as stream:
        while True:
            chunk = stream.read(_CHUNK)
            nul = chunk.find(b"\0")
            if nul >= 0:
                return f"it is no text: byte {offset + nul:,} is NUL", "give it the suffix of what it is"
            try:
                blank = not decoder.decode(chunk, final=not chunk).strip() and blank
            except UnicodeDecodeError as error:
                at = offset + len(chunk) - len(error.object) + error.start  # the object may begin in the chunk before
                return (
                    f"it is not UTF-8: byte 0x{error.object[error.start]:02X} at offset {at:,}",
                    "convert it, as with `iconv -f LATIN1 -t UTF-8`",
                )
            if not chunk:
                return ("it is empty but for white space", None) if blank else None
            offset += len(chunk)


def _video(*magics: tuple[int, bytes]) -> Callable[[Path, bytes], _Wrong | None]:
    """A video that has one of these bytes at these offsets."""

    def check(_file: Path, head: bytes) -> _Wrong | None:
        if any(head.startswith(magic, offset) for offset, magic in magics):
            return None
        return _not_a("video of that format", head)

    return check


_ISO = _video(*((4, kind) for kind in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")))
_MATROSKA = _video((0, b"\x1a\x45\xdf\xa3"))

_CHECKS: Final[Mapping[str, Callable[[Path, bytes], _Wrong | None]]] = {
    "application/pdf": _pdf,
    formats.DOCUMENTS["docx"]: _office("word/", "Word document"),
    formats.DOCUMENTS["xlsx"]: _office("xl/", "Excel workbook"),
    formats.DOCUMENTS["doc"]: _old_office(["WordDocument"], "Word document"),
    formats.DOCUMENTS["xls"]: _old_office(["Workbook", "Book"], "Excel workbook"),
    "text/csv": _text,
    "text/html": _text,
    "text/plain": _text,
    "text/markdown": _text,
    "video/mp4": _ISO,
    "video/quicktime": _ISO,
    "video/3gpp": _ISO,
    "video/x-matroska": _MATROSKA,
    "video/webm": _MATROSKA,
    "video/x-flv": _video((0, b"FLV")),
    "video/mpeg": _video((0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3")),
    "video/x-ms-wmv": _video((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
}


# --- how much there is of it -----------------------------------------------------------------------------------------

_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_OBJECTS: Final = re.compile(rb"/ObjStm\b.{0,400}?stream\r?\n", re.DOTALL)
_MOST_INFLATED: Final = 16 * 1024 * 1024  # bytes of one compressed stream
_BYTES_PER_CHARACTER: Final = 5  # of the markup of Office


@lru_cache(maxsize=1024)
def pages(document: DiskFile) -> int:
    """About how many pages a PDF has: those that can be seen in it, and at least one. Raises OSError."""
    with files.open_regular(document.file) as stream:
        content = stream.read()
    found = len(_PAGE.findall(content))
    for objects in _OBJECTS.finditer(content):
        packed = content[objects.end() : content.find(b"endstream", objects.end())]
        try:
            found += len(_PAGE.findall(zlib.decompressobj().decompress(packed, _MOST_INFLATED)))
        except zlib.error:  # compressed in another way, or encrypted
            continue
    return max(1, found)


@lru_cache(maxsize=1024)
def characters(document: DiskFile) -> int:
    """About how many characters of text there are in what is no PDF. Raises OSError."""
    if document.media_type.startswith("text/"):
        return document.bytes
    if document.media_type not in {formats.DOCUMENTS["docx"], formats.DOCUMENTS["xlsx"]}:
        return document.bytes // _BYTES_PER_CHARACTER
    try:
        with zipfile.ZipFile(document.file) as archive:
            markup = sum(entry.file_size for entry in archive.infolist() if entry.filename.endswith(".xml"))
    except zipfile.BadZipFile:  # it was none when it was described
        markup = document.bytes
    return markup // _BYTES_PER_CHARACTER


@lru_cache(maxsize=1024)
def seconds(video: DiskFile) -> float | None:
    """How long an MP4, MOV or 3GP is, by its movie header; None where it does not tell. Raises OSError."""
    with files.open_regular(video.file) as stream:
        content = stream.read()
    at = content.find(b"mvhd") + 4
    header = content[at : at + 32]
    if at < 4 or len(header) < 32:
        return None
    scale, duration = (slice(20, 24), slice(24, 32)) if header[0] == 1 else (slice(12, 16), slice(16, 20))
    per_second, length = int.from_bytes(header[scale]), int.from_bytes(header[duration])
    return length / per_second if per_second and length else None
