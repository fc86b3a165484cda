"""The files that a job attaches: found, read when they are sent, and known by their content."""

from __future__ import annotations

import os
import stat
import time
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Never

from runner import paths
from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

_HEAD = 64
_CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system counts in 2 seconds
_NO_FOLDERS = tuple(Path(folder) for folder in ("/proc", "/sys", "/dev"))  # their files are no documents of anyone's


class MediaError(Exception):
    """A file cannot be used: what is wrong with it, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Found(NamedTuple):
    """A regular file that a job may read, as it was when it was found."""

    path: str  # as the job wrote it
    file: Path  # links followed
    bytes: int
    mtime_ns: int
    inode: int
    ctime_ns: int


class Content(NamedTuple):
    """What is known of a file's content: its first 64 bytes, and the SHA-256 of all.

    A file that still has this `stamp` still has this content. None where the file was written so shortly before it was
    read that it could be written again without a clock showing it.
    """

    head: bytes
    sha256: str
    stamp: tuple[int, ...] | None


def find(path: str, root: Path, *, allow_dirs: Sequence[Path] = (), what: str = "image") -> Found:
    """The file that a job in folder `root` calls `path`; `what` it is to be. Raises MediaError.

    It must be a regular file with something in it, inside `root` or one of `allow_dirs`, symbolic links followed.
    """
    file = _resolve(path, root, allow_dirs=allow_dirs, what=what)
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        refuse_unreadable(path, file, error, what=what)
    if not stat.S_ISREG(status.st_mode) or any(file.is_relative_to(folder) for folder in _NO_FOLDERS):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise MediaError(f"{path!r} is {kind}, not a file", f"name the {what} file itself")
    if status.st_size == 0:
        raise MediaError(f"the {what} {path!r} is empty")
    return Found(path, file, status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)


def content(found: Found, *, what: str = "image") -> Content:
    """What the file has in it. One that looks as before is not read again. Raises MediaError if it can't be read."""
    try:
        return _content(found.file, found.bytes, found.mtime_ns, found.inode, found.ctime_ns)
    except OSError as error:
        refuse_unreadable(found.path, found.file, error, what=what)


def open_regular(file: Path) -> BufferedReader:
    """The file, open for reading. OSError if it is no regular file by now: one that is a pipe would never end."""
    stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(None, "it is no regular file any more")


def read(path: str, file: Path, *, digest: str, stamp: tuple[int, ...] | None = None, what: str = "image") -> bytes:
    """The content of a file that a request names. Raises CallError (input) if it can't be read or has changed."""
    with unchanged(path, file, digest=digest, stamp=stamp, what=what) as stream:
        return stream.read()


@contextmanager
def unchanged(
    path: str, file: Path, *, digest: str, stamp: tuple[int, ...] | None = None, what: str = "image"
) -> Iterator[BufferedReader]:
    """A file that a request names, open for reading. Raises CallError (input) if it can't be read or has changed.

    It is as it was if its `stamp` is; else its content is hashed and compared with `digest`.
    """
    try:
        with open_regular(file) as stream:
            before = _stamp(os.fstat(stream.fileno()))
            same = before == stamp or file_digest(stream, "sha256").hexdigest() == digest
            stream.seek(0)
            if same:
                yield stream
                same = _stamp(os.fstat(stream.fileno())) == before
    except OSError as error:
        raise CallError(
            FailureCode.INPUT,
            f"the {what} {path!r} can no longer be read: {error.strerror}",
            hint="put the file back and run the same command again",
        ) from error
    if not same:
        raise CallError(
            FailureCode.INPUT,
            f"the {what} {path!r} has changed since the run began",
            hint="run the same command again: what changed is called anew",
        )


def refuse_unreadable(path: str, file: Path, error: Exception, *, what: str) -> Never:
    """Raise a MediaError that says why a file can't be read."""
    if isinstance(error, FileNotFoundError):
        raise MediaError(f"there is no {what} {path!r}", f"paths start at the job file's folder: {file}") from error
    reason = error.strerror if isinstance(error, OSError) else error
    raise MediaError(f"the {what} {path!r} cannot be read: {reason}") from error


def _resolve(path: str, root: Path, *, allow_dirs: Sequence[Path], what: str) -> Path:
    article = "an" if what[0] in "aeiou" else "a"
    scheme, separator, _ = path.partition("://")
    if separator and scheme.isalnum():
        hint = "download it next to the job file and name it"
        raise MediaError(f"{path!r} is a URL; {article} {what} must be a file", hint)
    try:
        file = paths.resolved(path, root)
    except ValueError as error:  # a NUL byte, a loop of links
        raise MediaError(f"{path!r} is not a usable path: {error}") from error
    if not paths.is_allowed(file, (root, *allow_dirs)):
        raise MediaError(
            f"the {what} {path!r} lies outside the job file's folder",
            f"move it there, or allow its folder with --allow-dir {file.parent}",
        )
    return file


@lru_cache(maxsize=4096)
def _content(file: Path, *looks: int) -> Content:  # noqa: ARG001 - part of the key
    """The content of a file, kept as long as the file looks the same."""
    with open_regular(file) as stream:
        status = os.fstat(stream.fileno())
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_NS
        head = stream.read(_HEAD)
        stream.seek(0)
        digest = file_digest(stream, "sha256").hexdigest()
    return Content(head, digest, _stamp(status) if settled else None)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
