"""One writer per file: a lock that names its holder and dies with its process."""

from __future__ import annotations

import fcntl
import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.times import now

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST_HOLDER = 300  # bytes: more than a process, a host and a time is not ours


class HeldByAnotherRunError(Exception):
    """Another process is writing the same file. The message says which."""


class Lock:
    """The right to write a file, taken at once or not at all. Raises HeldByAnotherRunError, OSError.

    It is a file of its own, `.NAME.lock`, because the file it guards is replaced by another when it is put in order.
    The kernel's lock on it ends with the process, however that ends; the text in it, which names the holder, is only
    for people. So a lock file that a killed run left behind is no obstacle.
    """

    def __init__(self, guarded: Path) -> None:
        self._path = guarded.with_name(f".{guarded.name}.lock")
        self._file = _open_locked(self._path, guarded)
        try:
            self._file.truncate(0)
            self._file.write(_this_process().encode())
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Remove the lock file, while it is still held, so that nobody can lock a file that is about to go."""
        with self._file, suppress(OSError):  # one that stays behind is no obstacle
            if is_at(self._file, self._path):
                self._path.unlink()


def _open_locked(path: Path, guarded: Path) -> io.FileIO:
    """Open the lock file as the only one. Its holder may remove it between our opening and our lock: then again."""
    while True:
        # Not through a link: it would empty whatever that leads to.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        file = io.FileIO(descriptor, "a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if is_at(file, path):
                return file
        except BlockingIOError:
            raise HeldByAnotherRunError(f"{guarded} is being written by another run{_holder(file)}") from None
        except OSError:
            file.close()
            raise
        file.close()


def _this_process() -> str:
    return f"process {os.getpid()} on {os.uname().nodename}, since {now().astimezone():%Y-%m-%d %H:%M:%S}"


def _holder(file: io.FileIO) -> str:
    """What the lock file says of its holder, in brackets; nothing where it does not say it yet."""
    with file, suppress(OSError, UnicodeDecodeError):
        file.seek(0)
        text = file.read(_LONGEST_HOLDER).decode()
        if text.startswith("process ") and text.isprintable():
            return f" ({text})"
    return ""


def is_at(file: io.FileIO, path: Path) -> bool:
    """Whether the open file is the one that stands at `path` now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
