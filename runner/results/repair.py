"""A row file whose last line a kill or a power cut has torn: mended before anything is read or appended."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.results.lines import parse

if TYPE_CHECKING:
    from io import FileIO

_BLOCK = 1 << 16  # bytes read at once, from the end backwards


def mend_end(file: FileIO) -> str | None:
    """Make the file end with a whole line, on disk. Says what was done; None if nothing was. Raises OSError.

    The beginning of a row is cut off: it was not yet counted as written, and its case is called again. A row that lacks
    only its newline gets it. So does what is nothing of ours, so that it is kept, as a damaged line.
    """
    size = os.fstat(file.fileno()).st_size
    start = _last_line(file, size)
    if start == size:
        return None
    tail = os.pread(file.fileno(), size - start, start)
    if _is_torn(tail):
        file.truncate(start)
        done = f"the last line was torn; {len(tail):,} bytes of it were cut off, and its case counts as not done"
    else:
        os.pwrite(file.fileno(), b"\n", size)
        done = "the last line lacked its line end, which was added"
    os.fsync(file.fileno())
    return done


def _is_torn(tail: bytes) -> bool:
    """Whether it can be the beginning of a line of ours, which is an object, or space that was never filled."""
    if tail.lstrip(b"\0")[:1] not in {b"", b"{"} or b"\r" in tail.rstrip(b"\r"):
        return False
    try:
        parse(tail)
    except ValueError:
        return True
    return False


def _last_line(file: FileIO, size: int) -> int:
    """Where the last line begins that does not end: the size of the file if every line does."""
    end = size
    while end:
        start = max(0, end - _BLOCK)
        newline = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
