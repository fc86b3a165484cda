"""Bedrock's calls within the limits of a run: so many at once, at the pace of the quotas, none once it is stopping."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from runner.errors import CallError
from runner.limits import Limiter
from runner.records import Rate
from runner.stop import account_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

    from runner.bedrock import Bedrock
    from runner.limits import Slot
    from runner.records import Case, Job, Message, Reply
    from runner.stop import Stop


class LimitedCalls:
    """The calls of a run, at most `in_flight` of them at once.

    Jobs that call the same model in the same region share its quotas, as they do at AWS.
    """

    def __init__(self, bedrock: Bedrock, jobs: Iterable[Job], *, in_flight: int, stop: Stop) -> None:
        self._bedrock = bedrock
        self._stop = stop
        self._in_flight = asyncio.Semaphore(in_flight)
        self._lanes = {lane: self._limiter(together) for lane, together in _lanes(bedrock, jobs).items()}

    def admit(self, case: Case, messages: Sequence[Message]) -> AbstractAsyncContextManager[Slot]:
        """Wait for the turn of a call; it is held as long as the context."""
        lane = self._lanes[_lane(self._bedrock, case.job)]
        return lane.slot(_reservation(case, messages) if lane.counts_tokens else 0)

    async def call(
        self, case: Case, messages: Sequence[Message], attempt: int, *, on_text: Callable[[str], None] | None
    ) -> Reply:
        """Make one attempt: the model's whole reply, or CallError; StoppedError if the run is stopping."""
        self._stop.check()
        try:
            return await self._bedrock.call(
                case, messages, attempt=attempt, max_attempts=case.job.retry.max_attempts, on_text=on_text
            )
        except CallError as error:
            if error.code.concerns_account:  # at once, before another case begins
                self._stop.request(account_stop(error))
            raise

    def _limiter(self, jobs: Sequence[Job]) -> Limiter:
        rate = Rate(
            requests_per_minute=_least(job.rate.requests_per_minute for job in jobs),
            tokens_per_minute=_least(job.rate.tokens_per_minute for job in jobs),
        )
        return Limiter(in_flight=self._in_flight, rate=rate, clock=time.monotonic, sleep=self._stop.sleep)


_Lane = tuple[str, str]  # model and region: what a quota is for


def _lane(bedrock: Bedrock, job: Job) -> _Lane:
    return job.model, bedrock.region_for(job.region)


def _lanes(bedrock: Bedrock, jobs: Iterable[Job]) -> dict[_Lane, list[Job]]:
    lanes: dict[_Lane, list[Job]] = {}
    for job in jobs:
        lanes.setdefault(_lane(bedrock, job), []).append(job)
    return lanes


def _least(quotas: Iterable[float | None]) -> float | None:
    return min((quota for quota in quotas if quota is not None), default=None)


def _reservation(case: Case, messages: Sequence[Message]) -> int:
    """The tokens that Bedrock sets aside when the call starts: its input and max_tokens."""
    from runner import estimate  # it looks at images, which takes Pillow

    usage = estimate.call(case.request, messages)
    return usage.input_tokens + usage.output_tokens
