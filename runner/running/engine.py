"""Cases -> rows: each case is begun when there is room for it, one writer makes rows durable, and a stop ends it all in
order.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from runner import open_files
from runner.cases.resume import Kept
from runner.errors import ExitCode, StoppedError, UsageError
from runner.records import Made
from runner.stop import StopReason
from runner.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from runner.records import Case, Row
    from runner.results.earlier import EarlierRow
    from runner.stop import Stop

_SYNC_SECONDS = 0.01  # from one sync to the next, while calls are under way
_LAST_SYNC_SECONDS = 1.0  # for the rows of calls that were cut
_SLICE = 0.01  # seconds that making cases may hold up the calls under way


@dataclass(frozen=True, slots=True)
class Work:
    """The cases of one job, to be called or kept, each made when it is asked for; and how many may be in progress.

    None among them is nothing but an occasion to let others run. `in_threads`: making one takes long (it reads images).
    """

    cases: Iterator[Case | Kept | None]
    concurrency: int | None = None
    in_threads: bool = False


class Finished(NamedTuple):
    """A case and its row. `earlier` is what answered it in an earlier run."""

    case: Case
    row: Row
    earlier: EarlierRow | None = None

    @property
    def made(self) -> Made:
        """What this run did for the row."""
        return Made(self.row, self.earlier.row if self.earlier else None)


class Steps(Protocol):
    """How a case is run: one that must be called, and one that is kept and whose reply must be judged."""

    async def keep(self, kept: Kept) -> Row | None:
        """The row of a kept case as it is judged now; None if that takes calls, for which it is to be admitted."""

    async def admit(self, item: Case | Kept) -> None:
        """Wait until the case may begin. StoppedError if it may not any more."""

    async def answer(self, item: Case | Kept) -> Row:
        """Make the row of a case that was admitted."""


class Store(Protocol):
    """Where rows go."""

    def append(self, item: Finished) -> None:
        """Take a row, so that it survives this process. Raises OSError."""

    def sync(self) -> None:
        """Make durable what was appended. Called in a thread. It may hang. Raises OSError."""

    def has_written(self, row: Row) -> bool:
        """After a `sync` that raised: whether a row got to where rows go all the same."""

    def end(self) -> None:
        """No more rows come: what waited for others is for the last sync."""


class Engine:
    """Runs works together.

    A case takes its `steps`. Rows go to the `store`, and when they are durable `finished` is told of each.
    """

    def __init__(
        self,
        *,
        steps: Steps,
        store: Store,
        finished: Callable[[Finished], None],
        stop: Stop,
        grace: float,
    ) -> None:
        self._steps = steps
        self._store = store
        self._finished = finished
        self._stop = stop
        self._grace = grace
        # What was handed to the store and is to be synced, each with who waits for that; None is the end.
        self._appended: asyncio.Queue[tuple[Finished, asyncio.Future[None]] | None] = asyncio.Queue()
        self._unanswered = 0  # cases in progress that have no row yet
        self._all_answered = asyncio.Event()
        self._bug: Exception | None = None
        self.lost_calls = 0  # attempts whose rows could not be written
        self.gave_up = False  # on a sync that hangs, and hangs still: the store must not be touched any more

    async def run(self, works: Sequence[Work]) -> None:
        """Run to the end or to a stop. Every row that came is on disk by then, unless this `gave_up`."""
        syncing = asyncio.create_task(self._sync_rows())
        feeders = [asyncio.create_task(self._feed(work)) for work in works]
        grace_over = asyncio.create_task(self._until_grace_is_over())
        try:
            await self._until_done(feeders, grace_over)
        finally:
            await self._until_synced(syncing, grace_over)
            grace_over.cancel()
            if self._bug is not None:
                raise self._bug

    async def _until_grace_is_over(self) -> None:
        """Wait for a stop that cuts calls, and the moment that it leaves them; a second one ends the moment."""
        await self._stop.cutting()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stop.at_once(), self._grace)

    async def _until_done(self, feeders: Sequence[asyncio.Task[None]], grace_over: asyncio.Task[None]) -> None:
        all_done = asyncio.ensure_future(asyncio.wait(feeders))
        await asyncio.wait([all_done, grace_over], return_when=asyncio.FIRST_COMPLETED)
        for feeder in feeders:
            feeder.cancel()
        await all_done

    async def _until_synced(self, syncing: asyncio.Task[None], grace_over: asyncio.Task[None]) -> None:
        """Let the last rows be synced. When calls are cut, a reader that pauses or a disk that hangs is left alone."""
        self._store.end()
        self._appended.put_nowait(None)
        await asyncio.wait([syncing, grace_over], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([syncing], timeout=_LAST_SYNC_SECONDS)
        if not syncing.done():
            self.gave_up = True
            syncing.cancel()
            await asyncio.wait([syncing])
            self._count_lost([entry[0] for entry in self._take_appended() if entry])
        elif not syncing.cancelled():
            syncing.result()

    async def _feed(self, work: Work) -> None:
        """Begin the cases of a job one after another, as there is room, and see all of them to their end."""
        under_way: set[asyncio.Task[None]] = set()
        try:
            await self._begin_all(work, under_way)
            await asyncio.gather(*under_way)
        finally:  # if this is cancelled, so are they
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way)

    async def _begin_all(self, work: Work, under_way: set[asyncio.Task[None]]) -> None:
        try:
            await self._begin(work, under_way)
        except StoppedError:
            return
        except UsageError as error:  # the file of its rows was in order before the first call
            self._stop.request(_changed_meanwhile(error))
        except Exception as error:
            self._stop_for_bug(error)

    async def _begin(self, work: Work, under_way: set[asyncio.Task[None]]) -> None:
        places = asyncio.Semaphore(work.concurrency) if work.concurrency else None

        def ended(task: asyncio.Task[None]) -> None:
            under_way.discard(task)
            if places:
                places.release()

        async for item in self._items(work):
            if isinstance(item, Kept) and await self._keep(item):
                continue
            if places:
                await places.acquire()
            await self._steps.admit(item)
            self._stop.check()
            task = asyncio.create_task(self._call(item))
            under_way.add(task)
            task.add_done_callback(ended)

    async def _items(self, work: Work) -> AsyncIterator[Case | Kept]:
        """What there is to do, without holding up the loop while it is found."""
        done = object()
        since = time.monotonic()
        while True:
            item = await asyncio.to_thread(next, work.cases, done) if work.in_threads else next(work.cases, done)
            if item is done:
                return
            if time.monotonic() - since > _SLICE:
                await asyncio.sleep(0)
                self._stop.check()
                since = time.monotonic()
            if item is not None:
                yield cast("Case | Kept", item)

    async def _keep(self, kept: Kept) -> bool:
        """Settle a kept case without a call; whether that was possible. Its row is on disk already: should its verdict
        or its place have changed, that can be found again.
        """
        row = await self._steps.keep(kept)
        if row is None:
            return False
        item = Finished(kept.case, row, kept.earlier)
        if self._append(item):
            self._finished(item)
        return True

    async def _call(self, case: Case | Kept) -> None:
        """Run a case until its row is durable: until then it counts as in progress."""
        self._unanswered += 1
        self._all_answered.clear()
        try:
            try:
                row = await self._steps.answer(case)
            finally:
                self._answered()
            item = Finished(case.case, row, case.earlier) if isinstance(case, Kept) else Finished(case, row)
            if self._append(item):
                durable = asyncio.get_running_loop().create_future()
                self._appended.put_nowait((item, durable))
                await durable
        except (StoppedError, asyncio.CancelledError):
            return
        except Exception as error:
            self._stop_for_bug(error)

    def _append(self, item: Finished) -> bool:
        """Hand a row to the store; whether it took it. If not, the run stops."""
        try:
            self._store.append(item)
        except OSError as error:
            self._lose([item], error)
            return False
        return True

    def _lose(self, items: Sequence[Finished], error: OSError) -> None:
        self._count_lost(items)
        self._stop.request(cannot_write(error))

    def _count_lost(self, items: Sequence[Finished]) -> None:
        self.lost_calls += sum(len(item.made.attempts) for item in items)

    async def _sync_rows(self) -> None:
        """Sync rows in groups, and tell of each row when it is durable."""
        synced_at = -_SYNC_SECONDS
        ended = False
        while not ended:
            group = [await self._appended.get()]
            await self._gather(synced_at + _SYNC_SECONDS - time.monotonic())
            group += self._take_appended()
            ended = group[-1] is None
            waiting = [item for item in group if item is not None]
            await self._sync([item for item, _ in waiting])
            synced_at = time.monotonic()
            for _, durable in waiting:
                if not durable.done():
                    durable.set_result(None)

    def _take_appended(self) -> list[tuple[Finished, asyncio.Future[None]] | None]:
        return [self._appended.get_nowait() for _ in range(self._appended.qsize())]

    async def _gather(self, seconds: float) -> None:
        """Let more rows come before the next sync; not for longer than there are calls that may bring some."""
        if seconds > 0 and self._unanswered:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), seconds)

    def _answered(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._all_answered.set()

    async def _sync(self, items: Sequence[Finished]) -> None:
        try:
            await in_daemon_thread(self._store.sync)
        except asyncio.CancelledError:  # it hangs
            self._count_lost(items)
            raise
        except OSError as error:
            self._lose([item for item in items if not self._store.has_written(item.row)], error)
            items = [item for item in items if self._store.has_written(item.row)]
        except Exception as error:  # the queue must still be emptied, or the cases would wait for ever
            self._stop_for_bug(error)
            return
        try:
            for item in items:
                self._finished(item)
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
        hint=open_files.hint(error) or "make room or mend the folder, then run the same command again",
    )


def _changed_meanwhile(error: UsageError) -> StopReason:
    problem = error.problems[0]
    place = f"{problem.place}: " if problem.place else ""
    return StopReason(
        exit_code=ExitCode.STOPPED,
        message=f"a file changed during the run: {place}{problem.message}",
        hint=problem.hint,
    )
