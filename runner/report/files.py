"""The files of reports: each is written whole or not at all, and that one could not be written is told, not raised."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.report.beside import Beside

STDOUT = Path("-")
_TEXT = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}  # \ud800 has no place in UTF-8


def write(  # noqa: PLR0913 - by name: how it is written
    name: str,
    path: Path,
    make: Callable[[IO[Any]], None],
    *,
    beside: Beside | None = None,
    binary: bool = False,
    verbose: bool = False,
) -> str | None:
    """Write the report that `make` writes into an open file, with pictures in the folder `beside` it if that is given.

    What went wrong with it; None if nothing did.
    """

    def whole() -> None:
        with beside.settled() if beside else nullcontext(), _opened(path, binary=binary) as out:
            make(out)

    return failure(f"the {name} report ({path})", whole, verbose=verbose)


def failure(what: str, make: Callable[[], None], *, verbose: bool = False) -> str | None:
    """Make a report. What went wrong with it, of a bug with `verbose` its traceback too; None if nothing did."""
    try:
        make()
    except OSError as error:
        return f"{what} could not be written: {error.strerror or error}"
    except Exception as error:
        bug = f"{what} could not be made: {type(error).__name__}: {error}; this is a bug in bedrock-run"
        return f"{bug}\n{traceback.format_exc()}" if verbose else f"{bug} (-v tells more)"
    return None


def may_be_replaced(path: Path) -> bool:
    """Whether a report is or becomes a file: not on standard output or in a pipe."""
    return path != STDOUT and (path.is_file() or not path.exists())


@contextmanager
def _opened(path: Path, *, binary: bool) -> Iterator[IO[Any]]:
    """A file that takes the place of the one at `path` when it is whole. What is no file, as a pipe, is written to."""
    how: dict[str, Any] = {"mode": "wb"} if binary else {"mode": "w", **_TEXT}
    if path == STDOUT:
        if sys.stdout is None:
            raise OSError("there is no standard output")
        with suppress(BrokenPipeError), os.fdopen(os.dup(sys.stdout.fileno()), **how) as out:  # as of `| head`
            yield out
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if not may_be_replaced(path):
        with path.open(**how) as out:
            yield out
        return
    target = Path(os.path.realpath(path))  # a link stays one
    draft = target.with_name(f".{target.name}.{os.getpid()}.draft")
    try:
        with draft.open(**how) as out:
            yield out
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
