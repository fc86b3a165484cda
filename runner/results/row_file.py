"""`outputs/NAME.jsonl`: rows appended and synced, put in the order of the cases at the end by an atomic replacement."""

from __future__ import annotations

import errno
import io
import os
import stat
import tempfile
from array import array
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from runner.results.earlier import Earlier, EarlierRow, Fate, position_of
from runner.results.files import refuse_irregular, superseded
from runner.results.lines import to_line
from runner.results.locks import Lock, is_at
from runner.results.ordering import in_order, ordered
from runner.results.repair import mend_end

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from io import FileIO

    from runner.records import Row

_BUFFER = 1 << 18  # bytes read and copied at once


class RowFile:
    """`outputs/NAME.jsonl`, while one run adds to it.

    Rows are appended, so that they are there after a kill -9 and the same command goes on. When the run ends the file
    is put in the order of the cases, by one atomic replacement, and left untouched if nothing would change. Replies
    are paid for: earlier rows that are not wanted any more are moved to NAME.superseded.jsonl, and lines that are no
    rows to NAME.damaged; they are on disk there before they leave the file. (A kill between the two steps leaves them
    in both.) One run at a time: see Lock. Should a program that knows nothing of the lock change, replace or remove the
    file, the next sync raises, and the rows of this run are in the file when it is closed.

    Everything but `sync` belongs to one thread.
    """

    def __init__(self, path: Path, *, accept_local: bool = False) -> None:
        """Lock, repair and index the file; make it, and its folder, if there is none.

        Raises HeldByAnotherRunError, NewerRowError, or OSError if it can't be read and written.
        """
        self.path = Path(os.path.realpath(path)) if path.is_symlink() else path  # not the link is replaced
        self.superseded = superseded(self.path)
        self.damaged = self.path.with_name(f"{self.path.stem}.damaged")
        self._foreign = self.path.with_name(f"{self.path.stem}.foreign")
        self.set_aside = 0  # rows that were moved to `superseded`
        self.replaced = 0  # of these, the rows of cases that have newer ones
        self.notices: list[str] = []  # what was found wrong with the file, a line each
        self._ordered = self.path.with_name(f"{self.path.name}.ordered")
        _make_folder(self.path.parent)
        with ExitStack() as held:
            held.callback(Lock(self.path).release)
            self._open(held, accept_local=accept_local)
            self._held = held.pop_all()

    def _open(self, held: ExitStack, *, accept_local: bool) -> None:
        refuse_irregular(self.path)
        self._ordered.unlink(missing_ok=True)  # of a run that was killed while it ordered
        for moved_to in filter(Path.exists, (self.superseded, self.damaged)):
            with _open_to_write(moved_to) as file:
                mend_end(file)  # what a killed run tore there is still whole in the row file
        self._is_new = not self.path.exists()
        self._file = held.enter_context(_open_to_write(self.path))
        if self._is_new:
            _sync_folder(self.path)
        self._note(mend_end(self._file))
        self._drafts_end = 0
        self._end = self._synced = os.fstat(self._file.fileno()).st_size
        # It shares the file's descriptor, of which each job should hold few: what is written names its place by itself.
        self._file.seek(0)
        self._lines = held.enter_context(io.BufferedReader(self._file, _BUFFER))
        self.earlier = Earlier(self._lines, path=self.path, accept_local=accept_local)
        self._revised = bytearray(len(self.earlier.positions))
        self._was_changed = False  # by another program, which no lock can keep from it
        self._positions = array("Q")  # of the rows of this run
        self._offsets = array("Q")
        self._saved: dict[int, int] = {}  # by position: the numbers of rows that are not yet whole
        self._replaced: set[int] = set()  # the numbers of such rows that became whole
        if damage := self.earlier.damage():
            self._note(f"{damage}, and will be moved to {self.damaged} when the run ends")

    @cached_property
    def _drafts(self) -> BinaryIO:
        """Lines that are to stand in the place of earlier ones: opened when there is one. Raises OSError."""
        drafts = tempfile.TemporaryFile(dir=self.path.parent, buffering=_BUFFER)  # noqa: SIM115 - `_held` closes it
        return cast("BinaryIO", self._held.enter_context(drafts))

    def save(self, row: Row) -> bool:
        try:
            self.append(row)
        except OSError:  # the row itself will tell of it, when it is appended
            return False
        self._saved[position_of(row)] = len(self._positions) - 1
        return True

    def append(self, row: Row) -> None:
        """After an OSError the file ends with a whole line, as it does after a kill -9 at any moment but this."""
        line = to_line(row)
        try:
            self._heed_changes()
            _append(self._file.fileno(), line, self._end)
        except OSError as error:
            error.filename = str(self.path)
            raise
        position = position_of(row)
        if position in self._saved:
            self._replaced.add(self._saved.pop(position))
        self._positions.append(position)
        self._offsets.append(self._end)
        self._end += len(line)
        self.earlier.give_way_to(row, called=True)

    def sync(self) -> None:
        """May be called in another thread. After an OSError the lines stay, since they may well be on disk: nothing is
        paid twice that a next run can read. It is one too if another program has changed, replaced or removed the file.
        """
        synced = self._end
        if synced == self._synced:
            return
        try:
            os.fsync(self._file.fileno())
            self._refuse_changes()
        except OSError as error:
            error.filename = str(self.path)
            raise
        self._synced = synced

    def revise(self, earlier: EarlierRow, row: Row) -> None:
        """The new line is kept in a file without a name until the rows are put in order. It needs no sync: the old line
        is on disk, and what changed can be made again.
        """
        line = to_line(row)
        try:
            _append(self._drafts.fileno(), line, self._drafts_end)
        except OSError as error:
            error.filename = str(self.path)
            raise
        self.earlier.positions[earlier.number] = position_of(row)
        self.earlier.offsets[earlier.number] = self._drafts_end
        self._revised[earlier.number] = True
        self._drafts_end += len(line)
        self.earlier.give_way_to(row, called=False)

    def renew(self, earlier: EarlierRow, row: Row) -> None:
        self.append(row)
        self.earlier.renew(earlier)

    def end(self) -> None:
        pass

    def close(self, *, complete: bool) -> None:
        """After an OSError all rows are in the file, in the order in which they came, and none was moved aside. So they
        are if another program has changed the file; if one has removed or replaced it, it is put back.
        """
        try:
            if not self._was_changed:
                self._make_way()
                self._put_in_order(complete=complete)
        except OSError as error:
            error.filename = str(self.path)
            raise
        finally:
            self.release()

    def release(self) -> None:
        if self._is_new and self._end == 0:
            self.path.unlink(missing_ok=True)
        self._held.close()

    def _heed_changes(self) -> None:
        """If another program has cut or lengthened the file, go on where it ends now: rows are lines of their own."""
        size = os.fstat(self._file.fileno()).st_size
        if size == self._end:
            return
        self._was_changed = True
        self._end, self._synced = size, -1  # the next sync is to tell of it
        if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
            _append(self._file.fileno(), b"\n", size)
            self._end += 1

    def _refuse_changes(self) -> None:
        """To go on would pay for replies that the next run does not find."""
        if self._was_changed or not is_at(self._file, self.path):
            raise OSError(errno.ESTALE, "another program has changed or removed the file")

    def _make_way(self) -> None:
        """If another program has put a file into the place of ours, move that to NAME.foreign."""
        if is_at(self._file, self.path):
            return
        _make_folder(self.path.parent)
        if self.path.exists():
            self.path.replace(self._foreign)

    def _put_in_order(self, *, complete: bool) -> None:
        of: dict[Fate, array[int]] = {fate: array("I") for fate in Fate}
        for number, fate in enumerate(self.earlier.fates(complete=complete)):
            of[fate].append(number)
        count = len(self.earlier.positions)
        positions = self.earlier.positions + self._positions
        own = (number for number in range(len(self._positions)) if number not in self._replaced)
        staying = of[Fate.STAYS] + array("I", (count + number for number in own))
        whole = not self._replaced and len(of[Fate.STAYS]) == count
        untouched = whole and self.earlier.tidy and not any(self._revised)
        if untouched and in_order(staying, positions) and is_at(self._file, self.path):
            return
        with (
            self._moved_to(self.superseded, sorted((*of[Fate.SUPERSEDED], *of[Fate.REPLACED]))),
            self._moved_to(self.damaged, of[Fate.DAMAGED]),
        ):
            self._write_ordered(ordered(staying, positions))
        self._ordered.replace(self.path)
        _sync_folder(self.path)
        self.replaced = len(of[Fate.REPLACED])
        self.set_aside = self.replaced + len(of[Fate.SUPERSEDED])
        if damage := self.earlier.late_damage():
            self._note(f"{damage}, and went to {self.damaged}")

    @contextmanager
    def _moved_to(self, target: Path, numbers: Sequence[int]) -> Iterator[None]:
        """Append lines to another file, on disk before the block begins; taken away again if the block fails."""
        if not numbers:
            yield
            return
        with _open_to_write(target) as file:
            start = end = os.fstat(file.fileno()).st_size
            try:
                for line in map(self._line, numbers):
                    _append(file.fileno(), line, end)
                    end += len(line)
                os.fsync(file.fileno())
                _sync_folder(target)
                yield
            except BaseException:
                file.truncate(start)
                if start == 0:
                    target.unlink()
                raise

    def _write_ordered(self, numbers: Iterable[int]) -> None:
        """Write these lines, on disk, to the file that is to replace the row file."""
        try:
            with self._ordered.open("wb", buffering=_BUFFER) as target:
                os.fchmod(target.fileno(), stat.S_IMODE(os.fstat(self._file.fileno()).st_mode))
                for number in numbers:
                    target.write(self._line(number).rstrip(b"\r\n") + b"\n")
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            self._ordered.unlink(missing_ok=True)
            raise

    def _line(self, number: int) -> bytes:
        """A line as it is on disk. The lines of earlier runs are numbered first, then those of this one."""
        own = number - len(self.earlier.positions)
        source = self._drafts if own < 0 and self._revised[number] else self._lines
        source.seek(self._offsets[own] if own >= 0 else self.earlier.offsets[number])
        return source.readline()

    def _note(self, notice: str | None) -> None:
        if notice is not None:
            self.notices.append(f"{self.path}: {notice}")


def _open_to_write(path: Path) -> FileIO:
    """Open for reading and writing, made if need be, never emptied, and not through a link."""
    return io.FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "r+")


def _append(descriptor: int, data: bytes, end: int) -> None:
    """Write all of `data` where the file ends; if that fails, leave nothing of it. Raises OSError."""
    rest, at = memoryview(data), end
    try:
        while rest:
            written = os.pwrite(descriptor, rest, at)
            rest, at = rest[written:], at + written
    except OSError:
        with suppress(OSError):  # what may be left is overwritten by the next line, or mended by the next run
            os.ftruncate(descriptor, end)
        raise


def _make_folder(folder: Path) -> None:
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder)


def _sync_folder(path: Path) -> None:
    """Make it durable that `path` stands in its folder."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
