"""Cases -> rows: workers answer, one writer makes rows durable, and a stop ends it all in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import ExitCode, StoppedError, UsageError
from runner.stop import StopReason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from runner.records import Case, Row
    from runner.stop import Stop


@dataclass(frozen=True, slots=True)
class Work:
    """The cases of one job, each made when it is asked for, and how many of them may be in progress at once."""

    cases: Iterator[Case]
    concurrency: int


class Engine:
    """Runs works together.

    `answer` makes a row of a case; `write`, called in a thread, makes rows durable; then `finished` is told of each.
    """

    def __init__(
        self,
        *,
        answer: Callable[[Case], Awaitable[Row]],
        write: Callable[[Sequence[Row]], None],
        finished: Callable[[Case, Row], None],
        stop: Stop,
        grace: float,
    ) -> None:
        self._answer = answer
        self._write = write
        self._finished = finished
        self._stop = stop
        self._grace = grace
        self._rows: asyncio.Queue[tuple[Case, Row] | None] = asyncio.Queue(maxsize=1000)
        self._bug: Exception | None = None
        self.lost_calls = 0  # attempts whose rows could not be written

    async def run(self, works: Sequence[Work]) -> None:
        """Run to the end or to a stop. Every row that came is on disk by then."""
        writer = asyncio.create_task(self._write_rows())
        workers = [asyncio.create_task(self._work(work.cases)) for work in works for _ in range(work.concurrency)]
        try:
            await self._until_done(workers)
        finally:
            await self._rows.put(None)
            await writer
            if self._bug is not None:
                raise self._bug

    async def _until_done(self, workers: Sequence[asyncio.Task[None]]) -> None:
        all_done = asyncio.ensure_future(asyncio.wait(workers))
        await _first(all_done, self._stop.requested())
        if not all_done.done():
            await self._let_calls_end(all_done)
        for worker in workers:
            worker.cancel()
        await all_done

    async def _let_calls_end(self, all_done: asyncio.Future[Any]) -> None:
        """Let the calls in flight finish; if the stop cuts them, only for a moment."""
        await _first(all_done, self._stop.cutting())
        if not all_done.done():
            await _first(all_done, self._stop.at_once(), timeout=self._grace)

    async def _work(self, cases: Iterator[Case]) -> None:
        try:
            for case in cases:
                if self._stop.reason is not None:
                    return
                await self._rows.put((case, await self._answer(case)))
        except StoppedError:
            return
        except UsageError as error:  # the files were in order before the first call
            self._stop.request(_changed_meanwhile(error))
        except Exception as error:
            self._stop_for_bug(error)

    async def _write_rows(self) -> None:
        """Write rows in groups, as many as came while the last group was being synced."""
        ended = False
        while not ended:
            group = [await self._rows.get()]
            while not self._rows.empty():
                group.append(self._rows.get_nowait())
            ended = group[-1] is None
            answered = [item for item in group if item is not None]
            if answered:
                await self._keep(answered)

    async def _keep(self, answered: Sequence[tuple[Case, Row]]) -> None:
        try:
            await asyncio.to_thread(self._write, [row for _, row in answered])
        except OSError as error:
            self.lost_calls += sum(len(row["attempts"]) for _, row in answered)
            self._stop.request(cannot_write(error))
            return
        except Exception as error:  # the queue must still be emptied, or the workers would wait for ever
            self._stop_for_bug(error)
            return
        try:
            for case, row in answered:
                self._finished(case, row)
        except Exception as error:
            self._stop_for_bug(error)

    def _stop_for_bug(self, error: Exception) -> None:
        self._bug = self._bug or error
        self._stop.request(StopReason(exit_code=ExitCode.BUG, message=f"{type(error).__name__}: {error}"))


def cannot_write(error: OSError) -> StopReason:
    """The stop for rows that can't be kept: to go on would pay for replies and lose them."""
    if isinstance(error, BrokenPipeError):
        return StopReason(exit_code=ExitCode.STOPPED, message="the reader of standard output has gone")
    where = f" to {error.filename}" if error.filename else ""
    return StopReason(
        exit_code=ExitCode.STOPPED,
        message=f"rows can't be written{where}: {error.strerror or error}",
        hint="make room or mend the folder, then run the same command again",
    )


def _changed_meanwhile(error: UsageError) -> StopReason:
    problem = error.problems[0]
    place = f"{problem.place}: " if problem.place else ""
    return StopReason(
        exit_code=ExitCode.STOPPED,
        message=f"a file changed during the run: {place}{problem.message}",
        hint=problem.hint,
    )


async def _first(all_done: asyncio.Future[Any], other: Awaitable[None], *, timeout: float | None = None) -> None:
    """Wait until either is done or `timeout` seconds have passed, and cancel `other`."""
    waiting: asyncio.Future[Any] = asyncio.ensure_future(other)
    await asyncio.wait([all_done, waiting], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
