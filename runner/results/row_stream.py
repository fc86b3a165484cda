"""Rows to a stream such as standard output, in the order of the cases as far as they have come."""

from __future__ import annotations

import io
import os
from collections import deque
from typing import TYPE_CHECKING

from runner.console import no_command_in_json
from runner.results.earlier import Earlier, EarlierRow
from runner.results.lines import to_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.records import Row


class RowStream:
    """`-o -`: rows to a stream such as standard output, in the order of the cases as far as they have come.

    `positions` are (index, repeat) of the rows to come, in order. There are no earlier rows.
    """

    def __init__(self, descriptor: int, positions: Iterable[tuple[int, int]]) -> None:
        """`descriptor` and no buffered file: such a file would be locked at the program's end by a write that hangs."""
        self.earlier = Earlier(io.BytesIO())
        self.notices: list[str] = []
        self._descriptor = descriptor
        self._positions = iter(positions)
        self._next = next(self._positions, None)
        self._waiting: dict[tuple[int, int], bytes] = {}  # until all before them have come
        self._ready: deque[tuple[tuple[int, int], bytes]] = deque()  # the first may be written in part

    def append(self, row: Row) -> None:
        self._waiting[row["index"], row["repeat"]] = no_command_in_json(to_line(row).decode()).encode()
        while self._next in self._waiting:
            self._ready.append((self._next, self._waiting.pop(self._next)))
            self._next = next(self._positions, None)

    def save(self, row: Row) -> bool:  # noqa: ARG002 - the protocol
        """A stream keeps nothing, and loses nothing by it."""
        return True

    def sync(self) -> None:
        """Write what is ready. It may take as long as the reader of a pipe likes, which is why a thread does it."""
        while self._ready:
            rest = memoryview(self._ready[0][1])
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            self._ready.popleft()

    def has_written(self, row: Row) -> bool:
        """Whether an appended row was written whole."""
        position = row["index"], row["repeat"]
        return position not in self._waiting and all(position != each for each, _ in self._ready)

    def revise(self, earlier: EarlierRow, row: Row) -> None:
        raise AssertionError(f"a stream has no earlier row {earlier.number} to put {row['case']} in its place")

    def renew(self, earlier: EarlierRow, row: Row) -> None:
        raise AssertionError(f"a stream has no earlier row {earlier.number} to renew for {row['case']}")

    def end(self) -> None:
        """Give what there is, though rows between are missing."""
        self._ready.extend((position, self._waiting[position]) for position in sorted(self._waiting))
        self._waiting.clear()

    def close(self, *, complete: bool) -> None:
        pass

    def release(self) -> None:
        pass
