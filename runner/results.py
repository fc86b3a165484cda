"""Rows on disk: whole lines appended and synced in groups, put in the order of the cases at the end, atomically."""

from __future__ import annotations

import json
import os
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from io import FileIO
    from pathlib import Path

    from runner.records import Row


class RowSink(Protocol):
    """Where the rows of one job go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Make `rows` durable before returning. Raises OSError."""

    def close(self) -> None:
        """Put what was written in order and in its place. Raises OSError."""


class HeldByAnotherRunError(Exception):
    """Another process is writing the same rows."""


def to_line(row: Row) -> bytes:
    """One row as one line of UTF-8 JSON, newline included.

    U+2028, U+2029 and U+0085 are escaped because some readers take them for line ends; text with a lone surrogate,
    which UTF-8 can't hold, is escaped whole.
    """
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        line = text.encode()
    except UnicodeEncodeError:
        return json.dumps(row, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    for raw, escaped in _LINE_ENDS:
        if raw in line:
            line = line.replace(raw, escaped)
    return line + b"\n"


_LINE_ENDS = [(char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\u2028\u2029\u0085"]


class RowFile:
    """`outputs/NAME.jsonl`. Rows are appended to NAME.jsonl.part, which replaces NAME.jsonl when it is closed.

    So the rows of an earlier run stay whole until this run has ended, and after a kill -9 the rows so far are in the
    part file. One run at a time: the part file is locked, and the lock dies with its process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._part.open("ab", buffering=0)
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise HeldByAnotherRunError(f"{path} is being written by another run") from None
        self._file.truncate(0)
        self._indexes = array("q")
        self._offsets = array("q")
        self._end = 0

    def write(self, rows: Sequence[Row]) -> None:
        lines = [to_line(row) for row in rows]
        try:
            _write_all(self._file, b"".join(lines))
            os.fsync(self._file.fileno())
        except OSError:
            with suppress(OSError):  # leave no torn line behind
                self._file.truncate(self._end)
            raise
        for row, line in zip(rows, lines, strict=True):
            self._indexes.append(row["index"])
            self._offsets.append(self._end)
            self._end += len(line)

    def close(self) -> None:
        """Put the rows in the order of the cases, in place of those of an earlier run; no rows replace nothing."""
        try:
            if not self._indexes:
                self._part.unlink()
            elif self._in_order():
                self._part.replace(self.path)
            else:
                self._rewrite_in_order()
            _sync_directory(self.path)
        finally:
            self._file.close()

    def _in_order(self) -> bool:
        return all(a <= b for a, b in zip(self._indexes, self._indexes[1:], strict=False))

    def _rewrite_in_order(self) -> None:
        ordered = self.path.with_name(self.path.name + ".ordered")
        with ordered.open("wb") as target:
            for line in self._lines_in_order():
                target.write(line)
            target.flush()
            os.fsync(target.fileno())
        ordered.replace(self.path)
        self._part.unlink()

    def _lines_in_order(self) -> Iterable[bytes]:
        with self._part.open("rb") as part:
            for at in sorted(range(len(self._indexes)), key=self._indexes.__getitem__):
                part.seek(self._offsets[at])
                yield part.readline()


class RowStream:
    """`-o -`: rows to a stream such as standard output, in the order of the cases as far as they have come.

    `indexes` are those of the cases to come, in order.
    """

    def __init__(self, stream: BinaryIO, indexes: Iterable[int]) -> None:
        self._stream = stream
        self._indexes = iter(indexes)
        self._next = next(self._indexes, None)
        self._waiting: dict[int, bytes] = {}

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._waiting[row["index"]] = to_line(row)
        while self._next in self._waiting:
            self._stream.write(self._waiting.pop(self._next))
            self._next = next(self._indexes, None)
        self._stream.flush()

    def close(self) -> None:
        for index in sorted(self._waiting):
            self._stream.write(self._waiting[index])
        self._waiting.clear()
        self._stream.flush()


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _lock(file: Any) -> None:
    import fcntl  # not on Windows, where this module must still import

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
