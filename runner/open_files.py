"""How many files and connections this process may have open."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def make_room(more: int) -> int:
    """How many files may be opened beside those that are open; the soft limit is raised, as far as the system allows,
    until it is `more`.
    """
    try:
        import resource
    except ImportError:  # not on Windows, where sockets are no files
        return more
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count() + more
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return more if soft == resource.RLIM_INFINITY else min(more, soft - count())


@contextmanager
def limit_restored() -> Iterator[None]:
    """Let the soft limit afterwards be what it was before."""
    try:
        import resource
    except ImportError:  # not on Windows
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def count() -> int:
    """How many files are open, as far as the system tells."""
    try:
        return sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        return 0


def hint(error: OSError) -> str | None:
    """What to do if `error` says that too many files are open; None if it says something else."""
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "raise the limit of open files (ulimit -n), or give fewer jobs at once"
    return None
