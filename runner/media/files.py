"""The files that a job attaches: found, read when they are sent, and known by their content."""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Never

from runner import paths
from runner.errors import FailureCode, NoRequestError
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from io import BufferedReader

_CLOCK_NS = 2_000_000_000  # the coarsest clock of a file system counts in 2 seconds
_OF_THE_SYSTEM = (Path("/proc"), Path("/sys"))  # where what is no file looks like one
_DATA_URI = re.compile(r"data:[^,/]*(/[^,/]*)?,", re.IGNORECASE)
_LONGEST_TOLD = 250  # characters of a path: what is longer is mostly the content of a file in its place


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
    device: int


class Content(NamedTuple):
    """What is known of a file's content: its SHA-256.

    A file that still has this `stamp` still has this content. None where the file was written so shortly before it was
    read that it could be written again without a clock showing it.
    """

    sha256: str
    stamp: tuple[int, ...] | None


def find(path: str, root: Path, *, allow_dirs: Sequence[Path] = (), what: str = "image") -> Found:
    """The file that a job in folder `root` calls `path`; `what` it is to be. Raises MediaError.

    It must be a regular file with something in it, inside `root` or one of `allow_dirs`, symbolic links followed.
    """
    file = locate(path, root, allow_dirs=allow_dirs, what=what)
    try:
        status = file.stat()
    except FileNotFoundError as error:
        if not (root / path).is_symlink():
            refuse_unreadable(path, file, error, what=what)
        message = f"the {what} {path!r} is a link to a file that is not there"
        raise MediaError(message, "remove the link, or mend it") from error
    except (OSError, ValueError) as error:
        refuse_unreadable(path, file, error, what=what)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise MediaError(f"{path!r} is {kind}, not a file", f"name the {what} file itself")
    if any(file.is_relative_to(folder) for folder in _OF_THE_SYSTEM):
        raise MediaError(
            f"{path!r} shows how the system is doing, and is no file to send", f"name the {what} file itself"
        )
    if status.st_size == 0:
        raise MediaError(f"the {what} {path!r} is empty")
    return Found(
        path, file, status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns, device=status.st_dev
    )


def locate(path: str, root: Path, *, allow_dirs: Sequence[Path] = (), what: str = "image") -> Path:
    """Where a job in folder `root` has what it calls `path`, links followed. Raises MediaError for what is no path, and
    for one that leads out of `root` and `allow_dirs`. Nothing says that something is there.
    """
    article = "an" if what[0] in "aeiou" else "a"
    scheme, separator, _ = path.partition("://")
    if separator and scheme.isalnum():
        hint = "download it next to the job file and name it"
        raise MediaError(f"{_told(path)!r} is a URL; {article} {what} must be a file", hint)
    if _DATA_URI.match(path):
        hint = "decode it into a file next to the job file and name that"
        raise MediaError(f"{_told(path)!r} is a data: URI; {article} {what} must be a file", hint)
    try:
        file = paths.resolved(path, root)
    except ValueError as error:  # a NUL byte, a loop of links
        raise MediaError(f"{_told(path)!r} is not a usable path: {_told(str(error))}") from error
    if not paths.is_allowed(file, (root, *allow_dirs)):
        raise MediaError(
            f"the {what} {_told(path)!r} lies outside the job file's folder",
            f"move it there, or allow its folder with --allow-dir {shlex.quote(_told(str(file.parent)))}",
        )
    return file


def content(found: Found, *, what: str = "image") -> Content:
    """What the file has in it. One that looks as before is not read again. Raises MediaError if it can't be read."""
    try:
        return _content(found._replace(path=""))
    except OSError as error:
        refuse_unreadable(found.path, found.file, error, what=what)


def open_regular(file: Path) -> BufferedReader:
    """The file, open for reading. OSError if it is no regular file by now: one that is a pipe would never end."""
    stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW), "rb")
    if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return stream
    stream.close()
    raise OSError(None, "it is no regular file any more")


def open_found(found: Found) -> BufferedReader:
    """The file that was found, open for reading. OSError if another is in its place by now, perhaps one elsewhere."""
    stream = open_regular(found.file)
    status = os.fstat(stream.fileno())
    if (status.st_dev, status.st_ino) == (found.device, found.inode):
        return stream
    stream.close()
    raise OSError(None, "another file was put in its place")


def read(path: str, file: Path, *, digest: str, stamp: tuple[int, ...] | None = None, what: str = "image") -> bytes:
    """The content of a file that a request names. Raises NoRequestError if it can't be read or has changed."""
    with unchanged(path, file, digest=digest, stamp=stamp, what=what) as stream:
        return stream.read()


@contextmanager
def unchanged(
    path: str, file: Path, *, digest: str, stamp: tuple[int, ...] | None = None, what: str = "image"
) -> Iterator[BufferedReader]:
    """A file that a request names, open for reading. Raises NoRequestError if it can't be read or has changed.

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
        raise NoRequestError(
            FailureCode.INPUT,
            f"the {what} {path!r} can no longer be read: {error.strerror}",
            hint="put the file back and run the same command again",
        ) from error
    if not same:
        raise NoRequestError(
            FailureCode.INPUT,
            f"the {what} {path!r} has changed since the run began",
            hint="run the same command again: what changed is called anew",
        )


def refuse_unreadable(path: str, file: Path, error: Exception, *, what: str) -> Never:
    """Raise a MediaError that says why a file can't be read."""
    if isinstance(error, FileNotFoundError):
        hint = f"paths start at the job file's folder: {_told(str(file))}"
        raise MediaError(f"there is no {what} {_told(path)!r}", hint) from error
    reason = error.strerror if isinstance(error, OSError) else error
    raise MediaError(f"the {what} {_told(path)!r} cannot be read: {reason}") from error


def _told(path: str) -> str:
    return path if len(path) <= _LONGEST_TOLD else shorten(path, _LONGEST_TOLD)


@lru_cache(maxsize=4096)
def _content(found: Found) -> Content:
    """The content of a file, kept as long as the file looks the same."""
    with open_found(found) as stream:
        status = os.fstat(stream.fileno())
        settled = time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _CLOCK_NS
        digest = file_digest(stream, "sha256").hexdigest()
    return Content(digest, _stamp(status) if settled else None)


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
