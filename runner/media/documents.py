"""Documents and videos of a job: found, and of the type that their suffix says, to which their content must hold."""

from __future__ import annotations

import codecs
import os
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from runner.media import files, formats, kinds, tokens
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
_END_OF_PDF: Final = 65_536  # bytes in which its end must be: junk may follow it, as of the mail that it came by
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
    looks = (found.mtime_ns, found.bytes, found.inode, found.ctime_ns)
    try:
        wrong = _checked(found.file, media_type, *looks)
        if wrong is not None:
            raise MediaError(f"the {kind} {path!r} cannot be used: {wrong[0]}", wrong[1])
        return DiskFile(
            path=path,
            file=found.file,
            sha256=content.sha256,
            bytes=found.bytes,
            media_type=media_type,
            tokens=_tokens(found.file, media_type, *looks),
            stamp=content.stamp,
        )
    except OSError as error:
        files.refuse_unreadable(path, found.file, error, what=kind)


def _other_suffix(path: str, kind: Kind) -> str:
    key = {"image": "images: [PATH]", "document": "documents: [PATH]", "video": "video: PATH"}
    for meant in formats.kinds_of_suffix(path):
        named = "an image" if meant == "image" else f"a {meant}"
        return f"it is named like {named}: give it under `{key[meant]}`"
    if kind == "document":
        return f"documents are {formats.suffixes(kind)}: name a text file .txt, and save anything else as PDF"
    return f"videos are {formats.suffixes(kind)}: convert it"


@lru_cache(maxsize=4096)
def _checked(file: Path, media_type: str, *looks: int) -> _Wrong | None:  # noqa: ARG001 - part of the key
    """What is wrong with the content and what to do, or None; kept as long as the file looks the same."""
    with files.open_regular(file) as stream:
        head = stream.read(_HEADER_OF_PDF)
    if kinds.is_lfs_pointer(head):
        return "it is a Git LFS pointer and not the file itself", "fetch it with `git lfs pull`"
    return _CHECKS[media_type](file, head)


@lru_cache(maxsize=4096)
def _tokens(file: Path, media_type: str, *looks: int) -> int:  # noqa: ARG001 - part of the key
    """The estimate for a file; kept as long as the file looks the same."""
    return tokens.of_file(file, media_type)


# --- what each type must look like -----------------------------------------------------------------------------------


def _pdf(file: Path, head: bytes) -> _Wrong | None:
    if b"%PDF-" not in head:
        return _not_a("PDF", head)
    with files.open_regular(file) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _END_OF_PDF))
        end = stream.read()
    if b"%%EOF" in end or b"startxref" in end:
        return None
    return "it is damaged: it is cut short", "save or download it anew"


def _not_a(name: str, head: bytes) -> _Wrong:
    """That a file is not what its suffix says, and what it is instead, as far as its beginning tells."""
    if kinds.is_image(head):
        return f"it is an image and no {name}", "name it in `images:`"
    for magic, (actual, hint) in _OTHERS.items():
        if head.startswith(magic):
            return f"it is {actual} and no {name}", hint
    if kinds.is_html(head):
        return f"it is an HTML page and no {name}", "download the file itself, or give it the suffix .html"
    return f"its content is that of no {name}", "give it the suffix of what it is, or save it anew"


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
        import zipfile  # it takes longer to import than most runs to start, and few have such a document

        try:
            with files.open_regular(file) as stream, zipfile.ZipFile(stream) as archive:
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
    """UTF-8, whatever it begins with: notes about PDF may begin as a PDF does."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it is UTF-16, and Bedrock takes UTF-8", "convert it: `iconv -f UTF-16 -t UTF-8`"
    wrong = _not_utf8(file)
    if wrong is not None and (kinds.is_image(head) or head.startswith(tuple(_OTHERS))):
        return _not_a("text", head)
    return wrong


def _not_utf8(file: Path) -> _Wrong | None:
    """What keeps a file from being UTF-8, with or without a byte order mark; one with a NUL is no text."""
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
