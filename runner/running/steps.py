"""What the engine of a run does with cases, by calling or by replaying rows, and with the rows that come of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runner.cases.resume import Begun, Kept, no_row
from runner.running import worst_case
from runner.running.answer import adopted

if TYPE_CHECKING:
    from runner.calling.calls import LimitedCalls
    from runner.cases.sidecar import Sidecars
    from runner.records import Case, Row
    from runner.results import Outputs
    from runner.running.answer import Answerer
    from runner.running.engine import Finished
    from runner.running.guard import Guard

_MOST_JUDGED = 1000  # kept replies whose judges are asked at once


class Calling:
    """How cases are run: begun when there is room and money for them."""

    def __init__(self, answerer: Answerer, guard: Guard, calls: LimitedCalls, sidecars: Sidecars) -> None:
        self._answerer = answerer
        self._sidecars = sidecars
        self._guard = guard
        self._calls = calls
        self._judged = asyncio.Semaphore(_MOST_JUDGED)

    async def keep(self, kept: Kept) -> Row | None:
        if isinstance(kept, Begun):
            return None
        row = adopted(kept.case, kept.earlier.row)
        if not self._answerer.is_finished(kept.case, row):
            return None
        row = await self._sidecars.described(kept.case, await self._answerer.judge.evaluate(kept.case, row), kept=True)
        return None if self._sidecars.awaits(row) else row

    async def admit(self, item: Case | Kept) -> None:
        if isinstance(item, Begun):
            await self._calls.room(item.case)
            await self._guard.admit(item.case, calls=worst_case.of_new(item.case, replies=item.replies))
        elif isinstance(item, Kept):
            await self._judged.acquire()
            await self._guard.admit(item.case, calls=self._answerer.worst_case(item.case, item.earlier.row))
        elif item.fault is None:
            await self._calls.room(item)
            await self._guard.admit(item)  # last: who waits for room must not hold money that others wait for

    async def answer(self, item: Case | Kept) -> Row:
        if isinstance(item, Begun):
            return await self._call(item.case, begun=item.earlier.row)
        return await (self._finish(item) if isinstance(item, Kept) else self._call(item))

    async def _call(self, case: Case, *, begun: Row | None = None) -> Row:
        async def described() -> Row:
            return await self._sidecars.described(case, await self._answerer.answer(case, begun=begun))

        try:
            return await self._guard.answer(case, described, earlier=begun)
        finally:
            if case.fault is None:
                self._calls.left(case)

    async def _finish(self, kept: Kept) -> Row:
        case, earlier = kept.case, kept.earlier.row

        async def described() -> Row:
            row = await self._answerer.finish(case, adopted(case, earlier))
            return await self._sidecars.described(case, row, kept=True)

        try:
            return await self._guard.answer(case, described, earlier=earlier)
        finally:
            self._judged.release()


class Replay:
    """How cases are run with --replay: what no earlier row answers is an error."""

    def __init__(self, answerer: Answerer, outputs: Outputs) -> None:
        self._answerer = answerer
        self._outputs = outputs

    async def keep(self, kept: Kept) -> Row:
        return await self._answerer.judge.evaluate(kept.case, adopted(kept.case, kept.earlier.row))

    async def admit(self, item: Case | Kept) -> None:
        """Nothing is called, so there is nothing to wait for."""

    async def answer(self, item: Case | Kept) -> Row:
        assert not isinstance(item, Kept), "a replay settles what is kept without calls"
        return await self._answerer.replay(item, missing=no_row(item, self._outputs.earlier(item.job.name)))


class Store:
    """The row files, as the engine sees them: earlier rows stay where they are, unless something about them changed.
    Sidecars follow their rows.
    """

    def __init__(self, outputs: Outputs, sidecars: Sidecars) -> None:
        self._outputs = outputs
        self._sidecars = sidecars
        self.end = outputs.end
        self.has_written = outputs.has_written

    def append(self, item: Finished) -> None:
        if item.earlier is None:
            self._outputs.append(item.row)
        elif item.made.judgements or item.made.attempts or self._is_to_be_written(item):  # the first two were paid for
            self._outputs.renew(item.earlier, item.row)
        elif item.row != item.earlier.row or not item.earlier.as_stored:
            self._outputs.revise(item.earlier, item.row)
        self._sidecars.take(item.row)

    def sync(self) -> None:
        """Make rows durable, and then write their sidecars, which are no reason to raise."""
        count = self._sidecars.ready  # those whose rows come meanwhile are for the next sync
        try:
            self._outputs.sync()
        except BaseException:
            self._sidecars.forget(count)
            raise
        self._sidecars.write(count)

    @staticmethod
    def _is_to_be_written(item: Finished) -> bool:
        """Whether a sidecar is to hold something else from now on, of which no row on disk tells."""
        assert item.earlier is not None
        described = item.row["sidecar"]
        return described is not None and described != item.earlier.row["sidecar"] and item.row["status"] == "passed"
