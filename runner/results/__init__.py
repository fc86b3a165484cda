"""Rows on disk: whole lines appended and synced in groups, put in the order of the cases at the end, atomically."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol

from runner import open_files
from runner.errors import Problem, UsageError
from runner.results.checking import NewerRowError
from runner.results.locks import HeldByAnotherRunError
from runner.results.row_file import RowFile
from runner.results.row_reader import RowReader
from runner.results.row_stream import RowStream

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.records import Row
    from runner.results.earlier import Earlier, EarlierRow


class RowSink(Protocol):
    """Where the rows of one job go, and where those of earlier runs are found."""

    earlier: Earlier
    notices: list[str]  # what was found wrong with the file, a line each

    def append(self, row: Row) -> None:
        """Hand a row to the system, which keeps it whatever becomes of this process. Raises OSError."""

    def save(self, row: Row) -> bool:
        """Keep a row in case this process is killed before the row of the same place that is then appended. False if
        that is not possible.
        """

    def sync(self) -> None:
        """Make all rows durable that were appended. Raises OSError."""

    def revise(self, earlier: EarlierRow, row: Row) -> None:
        """Let `row` stand in the place of an earlier row that was taken and is still on disk. Raises OSError."""

    def renew(self, earlier: EarlierRow, row: Row) -> None:
        """Append a row that holds what an earlier one held which was taken, and more. Raises OSError."""

    def end(self) -> None:
        """No more rows come: what waited for others is for the last `sync`."""

    def close(self, *, complete: bool) -> None:
        """Put the rows in order, after the last `sync`. `complete`: the run covered the whole job and was not stopped.

        Raises OSError.
        """

    def release(self) -> None:
        """Let go of everything and leave all rows as they are."""


class Outputs:
    """The rows of all jobs of a run, by job name.

    `folder` is None for standard output. `read_only`: earlier rows are there to be looked at, and no row is kept.
    """

    def __init__(
        self,
        folder: Path | None,
        positions: Mapping[str, Iterable[tuple[int, int]]],
        *,
        accept_local: bool = False,
        read_only: bool = False,
    ) -> None:
        """`positions` are (index, repeat) of the rows to come, in order, by job: only a stream goes through them.

        Raises UsageError if rows could not be kept there or, `read_only`, not be read.
        """
        self._sinks: dict[str, RowSink] = {}
        with ExitStack() as opened:
            for name, of_rows in positions.items():
                if folder is None:
                    sink: RowSink = RowStream(sys.stdout.fileno(), of_rows)
                elif read_only:
                    sink = _reader(folder / f"{name}.jsonl", accept_local=accept_local)
                else:
                    sink = _file(folder / f"{name}.jsonl", accept_local=accept_local)
                opened.callback(sink.release)
                self._sinks[name] = sink
            opened.pop_all()  # now they are all open

    def earlier(self, name: str) -> Earlier:
        """The rows that earlier runs of a job left, each of which can serve one case."""
        return self._sinks[name].earlier

    def notices(self) -> list[str]:
        """What was found wrong with the row files, a line each."""
        return [notice for sink in self._sinks.values() for notice in sink.notices]

    def set_aside(self) -> dict[str, int]:
        """Files of superseded rows, and how many of them this run moved there."""
        return {str(file.superseded): file.set_aside for file in self._files() if file.set_aside}

    def replaced(self) -> dict[str, int]:
        """How many of those rows belong to cases that have newer ones, by the same files."""
        return {str(file.superseded): file.replaced for file in self._files() if file.replaced}

    def _files(self) -> Iterator[RowFile]:
        return (sink for sink in self._sinks.values() if isinstance(sink, RowFile))

    def append(self, row: Row) -> None:
        """Hand a row of any job to the system. Raises OSError."""
        self._sinks[row["job"]].append(row)

    def save(self, row: Row) -> bool:
        """Keep a row in case this process is killed before the row of the same place that is then appended. False if
        that is not possible.
        """
        return self._sinks[row["job"]].save(row)

    def sync(self) -> None:
        """Make all rows durable that were appended. May be called in another thread. Raises OSError."""
        for sink in self._sinks.values():
            sink.sync()

    def has_written(self, row: Row) -> bool:
        """After a `sync` that raised: whether an appended row has reached its reader all the same; of files: no."""
        sink = self._sinks.get(row["job"])
        return isinstance(sink, RowStream) and sink.has_written(row)

    def revise(self, earlier: EarlierRow, row: Row) -> None:
        """Let `row` stand in the place of an earlier row that was taken for its job. Raises OSError."""
        self._sinks[row["job"]].revise(earlier, row)

    def renew(self, earlier: EarlierRow, row: Row) -> None:
        """Append a row that holds what an earlier one of its job held which was taken, and more. Raises OSError."""
        self._sinks[row["job"]].renew(earlier, row)

    def end(self) -> None:
        """No more rows come: what waited for others is for the last `sync`."""
        for sink in self._sinks.values():
            sink.end()

    def close(self, *, complete: Collection[str] = ()) -> dict[str, OSError]:
        """Put all rows in order; `complete` are the jobs that the run covered whole, without a filter or a stop.

        Errors by job: its rows are all in its file then, but as they came.
        """
        errors = {}
        for name, sink in self._sinks.items():
            try:
                sink.close(complete=name in complete)
            except OSError as error:
                errors[name] = error
        return errors

    def abandon(self) -> None:
        """Touch the rows no more, since a `sync` hangs: what was appended is with the system. `close` does nothing."""
        self._sinks = {}  # not emptied: the thread that hangs goes through it


@contextmanager
def earlier_rows(path: Path, *, accept_local: bool) -> Iterator[Earlier]:
    """The rows of a file, if there is one, for a look at them. Raises UsageError if it can't be read."""
    reader = _reader(path, accept_local=accept_local)
    try:
        yield reader.earlier
    finally:
        reader.release()


def _file(path: Path, *, accept_local: bool) -> RowFile:
    try:
        return RowFile(path, accept_local=accept_local)
    except HeldByAnotherRunError as error:
        problem = Problem(str(error), hint="wait for it to end, or give another folder with -o")
    except NewerRowError as error:
        problem = _of_newer_version(path, error)
    except OSError as error:
        reason = f"rows can't be written to {path}: {error.strerror}"
        problem = Problem(reason, hint=open_files.hint(error) or "give a folder that can be written with -o")
    raise UsageError(problem)


def _reader(path: Path, *, accept_local: bool) -> RowReader:
    try:
        return RowReader(path, accept_local=accept_local)
    except NewerRowError as error:
        problem = _of_newer_version(path, error)
    except OSError as error:
        reason = f"rows can't be read from {path}: {error.strerror}"
        problem = Problem(reason, hint=open_files.hint(error) or "give the folder of the rows with -o")
    raise UsageError(problem)


def _of_newer_version(path: Path, error: NewerRowError) -> Problem:
    return Problem(f"{path} has rows that were {error}", hint="update bedrock-run, or give another folder with -o")
