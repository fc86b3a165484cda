"""The rows of earlier runs for `--replay` and `--dry-run`, which look at them and change nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from runner.results.checking import NewerRowError
from runner.results.earlier import Earlier, EarlierRow
from runner.results.files import refuse_irregular

if TYPE_CHECKING:
    from pathlib import Path

    from runner.records import Row


class RowReader:
    """`outputs/NAME.jsonl`, for a look at it: no file is made, locked, mended or written, and new rows go nowhere.

    A run may write the file meanwhile. It only adds lines, which do not count here, until it puts another file into the
    place of this one, which then is still read to its end.
    """

    def __init__(self, path: Path, *, accept_local: bool = False) -> None:
        """A file that is not there has no rows. Raises OSError if it can't be read, or NewerRowError."""
        self._file = _opened(path)
        try:
            self.earlier = Earlier(self._file, path=path, accept_local=accept_local)
        except (OSError, NewerRowError):
            self._file.close()
            raise
        self.notices: list[str] = []
        self._path = path
        self._note(self.earlier.damage())

    def append(self, row: Row) -> None:
        pass

    def save(self, row: Row) -> bool:  # noqa: ARG002 - the protocol
        return True

    def sync(self) -> None:
        pass

    def revise(self, earlier: EarlierRow, row: Row) -> None:
        pass

    def renew(self, earlier: EarlierRow, row: Row) -> None:
        pass

    def end(self) -> None:
        pass

    def close(self, *, complete: bool) -> None:  # noqa: ARG002 - whatever the run covered
        self._note(self.earlier.late_damage())
        self.release()

    def release(self) -> None:
        self._file.close()

    def _note(self, damage: str | None) -> None:
        if damage is not None:
            self.notices.append(f"{self._path}: {damage} (left out)")


def _opened(path: Path) -> BinaryIO:
    refuse_irregular(path)
    try:
        return path.open("rb")
    except FileNotFoundError:
        return io.BytesIO()
