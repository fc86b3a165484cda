"""Rows on disk: whole lines appended and synced in groups, put in the order of the cases at the end, atomically."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sys
from array import array
from contextlib import suppress
from itertools import chain, pairwise
from typing import TYPE_CHECKING, BinaryIO, Protocol

from runner.errors import Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from io import FileIO
    from pathlib import Path

    from runner.records import Row


class RowSink(Protocol):
    """Where the rows of one job go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Make `rows` durable before returning. Raises OSError."""

    def close(self) -> None:
        """Put what was written in order and in its place. Raises OSError."""


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


class HeldByAnotherRunError(Exception):
    """Another process is writing the same rows."""


class RowFile:
    """`outputs/NAME.jsonl`. Rows are appended to NAME.jsonl.part, which replaces NAME.jsonl when it is closed.

    So the rows of an earlier run stay whole until this run has ended, and after a kill -9 the rows so far are in the
    part file. Replies are paid for: rows that a killed run left, and earlier rows in whose place this run has no reply,
    are moved to NAME.superseded.jsonl. One run at a time: the part file is locked, and the lock dies with its process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.part = path.with_name(path.name + ".part")
        self.superseded = path.with_name(f"{path.stem}.superseded.jsonl")
        self.set_aside = 0  # rows that were moved there
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self._file = _open_locked(self.part)
        if os.fstat(self._file.fileno()).st_size:
            self._set_aside(_whole_lines(self.part))
            self._file.truncate(0)
        self._answered: set[tuple[str, int]] = set()
        self._indexes = array("q")
        self._offsets = array("q")
        self._end = 0

    def write(self, rows: Sequence[Row]) -> None:
        lines = [to_line(row) for row in rows]
        try:
            _write_all(self._file, b"".join(lines))
            os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):  # leave no torn line behind
                self._file.truncate(self._end)
            error.filename = str(self.part)
            raise
        for row, line in zip(rows, lines, strict=True):
            if row["replies"]:
                self._answered.add((row["case"], row["repeat"]))
            self._indexes.append(row["index"])
            self._offsets.append(self._end)
            self._end += len(line)

    def close(self) -> None:
        """Put the rows in the order of the cases, in place of those of an earlier run; no rows replace nothing."""
        try:
            if not self._indexes:
                self.part.unlink()
                return
            if self.path.exists():
                self._set_aside(line for line in _whole_lines(self.path) if self._has_no_successor(line))
            if self._in_order():
                self.part.replace(self.path)
            else:
                self._rewrite_in_order()
            _sync_directory(self.path)
        finally:
            self._file.close()

    def _set_aside(self, lines: Iterable[bytes]) -> None:
        lines = iter(lines)
        for first in lines:
            with self.superseded.open("ab", buffering=0) as target:
                end = target.tell()
                try:
                    for line in chain((first,), lines):
                        _write_all(target, line)
                        self.set_aside += 1
                    os.fsync(target.fileno())
                except OSError:
                    with suppress(OSError):
                        target.truncate(end)
                    raise

    def _has_no_successor(self, line: bytes) -> bool:
        """Whether an earlier row has replies, and no row of this run has any in their place."""
        try:
            row = json.loads(line)
            return bool(row["replies"]) and (row["case"], row["repeat"]) not in self._answered
        except (ValueError, KeyError, TypeError):  # somebody's own lines, or of another version
            return True

    def _in_order(self) -> bool:
        return all(a <= b for a, b in pairwise(self._indexes))

    def _rewrite_in_order(self) -> None:
        ordered = self.path.with_name(self.path.name + ".ordered")
        with ordered.open("wb") as target:
            for line in self._lines_in_order():
                target.write(line)
            target.flush()
            os.fsync(target.fileno())
        ordered.replace(self.path)
        self.part.unlink()

    def _lines_in_order(self) -> Iterable[bytes]:
        with self.part.open("rb") as part:
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


class Outputs:
    """The rows of all jobs of a run, by job name. `folder` is None for standard output."""

    def __init__(self, folder: Path | None, indexes: Mapping[str, Iterable[int]]) -> None:
        """`indexes` are those of the cases to come, by job. Raises UsageError if rows could not be kept there."""
        self._sinks: dict[str, RowSink] = {}
        for name, of_cases in indexes.items():
            if folder is None:
                self._sinks[name] = RowStream(sys.stdout.buffer, of_cases)
            else:
                self._sinks[name] = self._open(folder / f"{name}.jsonl")

    def set_aside(self) -> dict[str, int]:
        """Files of superseded rows, and how many of them this run moved there."""
        files = [sink for sink in self._sinks.values() if isinstance(sink, RowFile)]
        return {str(file.superseded): file.set_aside for file in files if file.set_aside}

    def _open(self, path: Path) -> RowFile:
        try:
            return RowFile(path)
        except HeldByAnotherRunError as error:
            problem = Problem(str(error), hint="wait for it to end, or give another folder with -o")
        except OSError as error:
            reason = f"rows can't be written to {path}: {error.strerror}"
            problem = Problem(reason, hint="give a folder that can be written with -o")
        self.close()
        raise UsageError(problem)

    def write(self, rows: Sequence[Row]) -> None:
        """Make rows of any jobs durable. Raises OSError."""
        by_job: dict[str, list[Row]] = {}
        for row in rows:
            by_job.setdefault(row["job"], []).append(row)
        for name, group in by_job.items():
            self._sinks[name].write(group)

    def close(self) -> dict[str, OSError]:
        """Put all rows in their places. Errors by job: its rows are in its part file then."""
        errors = {}
        for name, sink in self._sinks.items():
            try:
                sink.close()
            except OSError as error:
                errors[name] = error
        return errors

    def part(self, name: str) -> str:
        """Where the rows of a job are until they are put in their place."""
        sink = self._sinks[name]
        return str(sink.part) if isinstance(sink, RowFile) else "-"


def _open_locked(path: Path) -> FileIO:
    """Open `path` for appending, as the only one. Another run may replace the file between its opening and its lock."""
    while True:
        file = path.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        except BlockingIOError:
            file.close()
            raise HeldByAnotherRunError(f"{path.with_suffix('')} is being written by another run") from None
        except OSError:
            file.close()
            raise
        file.close()


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file but for a torn last one, which a kill -9 or a power cut leaves: its row did not count yet."""
    with path.open("rb") as file:
        yield from (line for line in file if line.endswith(b"\n"))


def _write_all(file: FileIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
