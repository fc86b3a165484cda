"""Data files: which formats there are, what a file turns out to be, and its text, whatever its encoding."""

from __future__ import annotations

import codecs
import itertools
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TextIO

from runner import paths
from runner.errors import Place, Problem, UsageError
from runner.words import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from runner.records import CaseFile

Format = Literal["csv", "tsv", "jsonl", "json", "yaml", "parquet"]
Row = tuple[int, dict[str, Any]]  # the line where a row starts, 0 where there are none, and its values by column
Report = Callable[[Problem], None]  # what is told of a problem after which the rest can still be read

_FORMATS: Final[Mapping[str, Format]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".yaml": "yaml",
    ".yml": "yaml",
    ".parquet": "parquet",
}
_SHEET_HINT = "save the sheet as `CSV UTF-8` and name that file"
_UNPACK_HINT = "unpack it and name the file that was in it"
_SUFFIX_HINTS = {
    ".xlsx": _SHEET_HINT,
    ".xls": _SHEET_HINT,
    ".ods": _SHEET_HINT,
    ".gz": _UNPACK_HINT,
    ".zip": _UNPACK_HINT,
    ".tab": "name it .tsv",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A data file of a job. `shown` is what messages call it, `named_at` is where the job names it; `delimiter` is for
    csv and tsv, None: found out.
    """

    file: Path
    shown: str
    named_at: Place
    format: Format
    delimiter: str | None = None

    def place(self, line: int = 0, column: int = 0) -> Place:
        """A place in the file, or without a line the file itself."""
        return Place(self.shown, line, column)

    def problem(self, message: str, hint: str | None = None, *, line: int = 0, column: int = 1) -> Problem:
        return Problem(message, self.place(line, column if line else 0), hint)

    def misnamed(self, message: str, hint: str) -> DataError:
        """What is wrong with the file as the job names it, and so is mended there."""
        return DataError(Problem(message, self.named_at, hint))


class DataRow(NamedTuple):
    """One row. `number` counts from 1; `line` is where the row starts, 0 where there are no lines.

    `id` is the text of the value `id`, if the row has one; the value itself is in `values` as well.
    """

    number: int
    line: int
    values: Mapping[str, Any]
    id: str | None


class DataError(UsageError):
    """A data file, or what follows in it, cannot be read. Carries the one problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def format_of(name: str, place: Place | None = None) -> Format:
    """The format that a file's name ends with, in any case. Raises DataError, at `place`, for one that is not known."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path would change what was written
    known = _FORMATS.get(suffix)
    if known is None:
        message = (
            f"`{suffix}` is no format of data files" if suffix else f"{name!r} has no suffix that tells its format"
        )
        hint = _SUFFIX_HINTS.get(suffix, "those known are " + ", ".join(_FORMATS))
        raise DataError(Problem(message, place, hint))
    return known


def find(case_file: CaseFile, folder: Path, allow_dirs: Sequence[Path] = ()) -> DataSource:
    """The data file that a job in `folder` names. Raises DataError if it may not be read, or its kind is not known."""
    path, place = case_file.path, case_file.place
    kind = format_of(path, place)
    try:
        found = paths.resolved(path, folder)
    except ValueError as error:
        raise DataError(Problem(f"{path!r} is not a usable path: {error}", place)) from error
    if not paths.is_allowed(found, (folder, *allow_dirs)):
        hint = f"move it there, or allow its folder with --allow-dir {found.parent}"
        raise DataError(Problem(f"{path!r} lies outside the job file's folder", place, hint))
    return DataSource(file=found, shown=str(folder / path), named_at=place, format=kind, delimiter=case_file.delimiter)


# --- what the file is ------------------------------------------------------------------------------------------------

_HEAD = 4096
_LFS_HINT = "fetch it with `git lfs pull`"
_MAGIC: Final = (  # how files of other kinds start, what they are, and what to do with them
    (b"\x1f\x8b", "a gzip file", _UNPACK_HINT),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _SHEET_HINT),
    (b"(\xb5/\xfd", "a zstd file", _UNPACK_HINT),
    (b"\xfd7zXZ", "an xz file", _UNPACK_HINT),
    (b"%PDF-", "a PDF document", "name the file that has the data"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV and name that file"),
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself", _LFS_HINT),
)
_PARQUET = b"PAR1"
_PAGE = re.compile(rb"\s*<(!doctype html|html|\?xml)", re.IGNORECASE)


def check(source: DataSource) -> None:
    """Raises DataError where there is no such file, or one that can't hold rows: a folder, a pipe, a workbook."""
    try:
        mode = source.file.stat().st_mode
        if stat.S_ISDIR(mode):
            raise source.misnamed(f"{source.shown} is a folder, not a data file", "name a file in it, or use `glob:`")
        if not stat.S_ISREG(mode):
            message = f"{source.shown} is a device, pipe or socket, not a file"
            raise source.misnamed(message, "write what it gives to a file first")
        with source.file.open("rb") as file:
            head = file.read(_HEAD)
    except FileNotFoundError:
        raise source.misnamed(f"there is no file {source.shown}", _missing_hint(source)) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise unreadable(source, error) from None
    if not head:
        raise DataError(source.problem("the file is empty"))
    _refuse_other_kinds(head, source)


def unreadable(source: DataSource, error: Exception) -> DataError:
    """What the system said when the file was read, as a DataError."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return source.misnamed(f"{source.shown} cannot be read: {reason}", "check the path and its permissions")


def _missing_hint(source: DataSource) -> str:
    folder = source.file.parent
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, 1000)]
    except (OSError, ValueError):
        return f"there is no folder `{folder}` either"
    meant = nearest(source.file.name, names, likeness=0.7)
    return f"did you mean `{meant}`?" if meant else "paths start at the job file's folder"


def _refuse_other_kinds(head: bytes, source: DataSource) -> None:
    if source.format != "parquet" and head.startswith(_PARQUET + b"\x15"):
        raise DataError(source.problem("the file is a Parquet file", "name it .parquet"))
    if head.startswith(b"PK\x03\x04"):
        raise DataError(_of_zip(head, source))
    for magic, kind, hint in _MAGIC:
        if head.startswith(magic):
            raise DataError(source.problem(f"the file is {kind}", hint))
    if _PAGE.match(head.removeprefix(codecs.BOM_UTF8)):
        raise DataError(source.problem("the file is a web page or XML", "download the data itself"))


def _of_zip(head: bytes, source: DataSource) -> Problem:
    if b"[Content_Types].xml" in head or b"xl/" in head or b"_rels/" in head:
        return source.problem("the file is an Excel workbook", _SHEET_HINT)
    if b"opendocument.spreadsheet" in head:
        return source.problem("the file is an OpenDocument spreadsheet", _SHEET_HINT)
    return source.problem("the file is a ZIP archive", _UNPACK_HINT)


# --- its text --------------------------------------------------------------------------------------------------------

_CHUNK = 1 << 20  # bytes


def open_text(source: DataSource, *, lenient: bool = False) -> TextIO:
    """The file's text, lines with their ends. JSON lines end at a line feed alone; all others at a carriage return too.

    With `lenient`, bytes that are no text are read as characters that stand for them; else reading may raise
    UnicodeDecodeError. Raises DataError for encodings that are not read, OSError for files that cannot be.
    """
    encoding = _encoding(source)
    errors = "strict" if not lenient else "surrogateescape" if encoding == "utf-8-sig" else "replace"
    newline = "\n" if source.format in ("jsonl", "json") else ""
    return source.file.open(encoding=encoding, errors=errors, newline=newline)


def text_problems(source: DataSource) -> list[Problem]:
    """Bytes that are no text, and NULs: the first place of each, since one remedy mends them all."""
    if _is_text(source):
        return []
    is_utf8 = _encoding(source) == "utf-8-sig"
    undecoded = re.compile("[\udc80-\udcff]" if is_utf8 else "\ufffd")
    problems: dict[str, Problem] = {}
    is_ascii = True  # so far
    with open_text(source, lenient=True) as text:
        for number, line in enumerate(text, start=1):
            match = undecoded.search(line)
            if match and "bytes" not in problems:
                message, hint = _not_utf8(line, match.start(), source, is_ascii) if is_utf8 else _DAMAGED_UTF16
                problems["bytes"] = source.problem(message, hint, line=number, column=match.start() + 1)
            column = line.find("\0") + 1
            if column and "nul" not in problems:
                hint = f"remove it: `tr -d '\\000' < {source.shown} > NEW`; if there are many, the file is no text"
                message = "a NUL byte is in the file (the first one is here)"
                problems["nul"] = source.problem(message, hint, line=number, column=column)
            if len(problems) == 2:
                break
            is_ascii = is_ascii and line.isascii()
    return list(problems.values())


def _is_text(source: DataSource) -> bool:
    decoder = codecs.getincrementaldecoder(_encoding(source))()
    with source.file.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                if "\0" in decoder.decode(chunk):
                    return False
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _encoding(source: DataSource) -> str:
    """UTF-8, or what Excel calls Unicode text: UTF-16 with a byte order mark."""
    with source.file.open("rb") as file:
        head = file.read(200)
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise DataError(_wrong_encoding(source, "UTF-32"))
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) * 3 >= len(head):
        raise DataError(_wrong_encoding(source, "UTF-16BE" if even > odd else "UTF-16LE"))
    return "utf-8-sig"


def _wrong_encoding(source: DataSource, encoding: str) -> Problem:
    return source.problem(
        f"the file looks like {encoding}, and must be UTF-8",
        f"convert it: `iconv -f {encoding} -t UTF-8 {source.shown} > NEW`",
    )


_DAMAGED_UTF16: Final = ("the file begins as UTF-16, and is damaged or cut here", "save it again, as UTF-8")


def _not_utf8(line: str, index: int, source: DataSource, is_ascii: bool) -> tuple[str, str]:  # noqa: FBT001
    """Message and hint for a byte of a line; `is_ascii` says whether all lines before it are."""
    message = f"the file is not UTF-8: byte 0x{ord(line[index]) - 0xDC00:02X} (the first such one is here)"
    if not is_ascii:
        return message, "lines above this one are UTF-8, so it is the text here that is damaged: mend it"
    convert = f"save the file as UTF-8, or `iconv -f %s -t UTF-8 {source.shown} > NEW`"
    try:
        read = line.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeDecodeError:
        return message, convert % "ITS-ENCODING"
    start = max(read.rfind(" ", 0, index), read.rfind(",", 0, index)) + 1
    shown = shorten(read[start:].split(",")[0])
    return message, f"probably Windows-1252, in which this reads `{shown}`: " + convert % "WINDOWS-1252"
