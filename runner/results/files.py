"""A file that may hold rows: what it has to be, and where its first line begins."""

from __future__ import annotations

import errno
import os
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES: Final = (".jsonl", ".damaged", ".foreign", ".ordered", ".lock")  # of what there may be in a folder of rows
NOT_A_ROW: Final = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
)  # what reading anything else as a row may raise


def superseded(path: Path) -> Path:
    """The file beside a row file to which rows go that its job no longer has."""
    return path.with_name(f"{path.stem}.superseded.jsonl")


def refuse_irregular(path: Path) -> None:
    """A folder can't hold rows, and to open a pipe would wait for ever. Raises OSError."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def skip_bom(file: BinaryIO) -> int:
    """Go behind the byte order mark that an editor may have put at the start of a file; where that is, in bytes."""
    offset = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
    file.seek(offset)
    return offset
