"""The one retry layer: which failure is tried again, and when. Every attempt is recorded."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tenacity

from runner import times
from runner.errors import CallError, FailureCode, NoRequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from runner.calling.limits import Slot
    from runner.records import AttemptRecord, Reply, RetrySettings

# Seconds. It is short for throttled calls too: the lane holds the pace, whatever the number of those who wait.
FIRST_BACKOFF = 0.25
LONGEST_HINT = 300.0  # seconds: the most that a server may ask for


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNotice:
    """An attempt failed and another follows in `wait` seconds. `attempt` is the one that failed, from 1."""

    attempt: int
    max_attempts: int
    wait: float
    error: CallError


def backoff(
    error: CallError, *, attempt: int, max_backoff: float, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds to wait after attempt number `attempt` (from 1) failed with `error`.

    Full jitter under a ceiling that triples up to `max_backoff`: the first wait is short, and yet 8 attempts span a
    minute. What the server asks for comes first and the jitter on top, so that calls which were refused together do not
    come back together.
    """
    ceiling = min(max_backoff, FIRST_BACKOFF * 3.0 ** min(attempt - 1, 64))
    return min(error.retry_after or 0.0, LONGEST_HINT) + uniform(0.0, ceiling)


async def call_with_retries(  # noqa: PLR0913 - clock and chance are handed in, by name, so that tests can hold them
    attempt: Callable[[int], Awaitable[Reply]],
    *,
    admit: Callable[[], AbstractAsyncContextManager[Slot]],
    settings: RetrySettings,
    attempts: list[AttemptRecord],
    on_retry: Callable[[RetryNotice], None] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
    now: Callable[[], datetime] = times.now,
    monotonic: Callable[[], float] = time.monotonic,
) -> Reply:
    """Call `attempt(number)`, number from 1, until it gives a reply or it makes no sense to go on.

    `admit()` gives the turns of the call: each attempt enters them and waits, which is no part of its time, and leaves
    them before it sleeps. Appends every attempt to `attempts`, the last one too; where no request could be made there
    was none. Raises the last CallError. Any other exception is not ours to judge and goes through at once.
    """
    call = _Call(
        attempt=attempt,
        turns=admit(),
        max_attempts=settings.max_attempts,
        max_backoff=settings.max_backoff,
        attempts=attempts,
        on_retry=on_retry,
        uniform=uniform,
        now=now,
        monotonic=monotonic,
    )
    # Most calls need one attempt, and tenacity costs more than to sign it. So it is asked when the first has failed.
    try:
        return await call.once()
    except CallError as error:
        call.first_failure = error
    retrying = tenacity.AsyncRetrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(settings.max_attempts),
        wait=call.wait,
        retry=_IF_RETRYABLE,
        before_sleep=call.announce,
        reraise=True,
    )
    return await retrying(call.again)


@dataclass(slots=True, kw_only=True)
class _Call:
    """One call and its attempts so far, in the shape that tenacity asks for."""

    attempt: Callable[[int], Awaitable[Reply]]
    turns: AbstractAsyncContextManager[Slot]
    max_attempts: int
    max_backoff: float
    attempts: list[AttemptRecord]
    on_retry: Callable[[RetryNotice], None] | None
    uniform: Callable[[float, float], float]
    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    number: int = 0
    waited: float = 0.0
    first_failure: CallError | None = None

    async def once(self) -> Reply:
        """Make the next attempt and record it."""
        async with self.turns as slot:
            self.number += 1
            started_at, start = self.now(), self.monotonic()
            try:
                reply = await self.attempt(self.number)
            except CallError as error:
                if not isinstance(error, NoRequestError):
                    self._record(error, started_at, start)
                slot.settle(error)
                raise
            except asyncio.CancelledError:
                cut = CallError(FailureCode.STOPPED, "cut, because the run was stopped", possibly_billed=True)
                self._record(cut, started_at, start)
                raise
            self._record(reply, started_at, start)
            slot.settle(reply)
            return reply

    async def again(self) -> Reply:
        """What tenacity repeats: first the failure that is known already, then new attempts."""
        if self.first_failure is not None:
            failure, self.first_failure = self.first_failure, None
            raise failure
        return await self.once()

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt."""
        self.waited = backoff(_error_of(state), attempt=self.number, max_backoff=self.max_backoff, uniform=self.uniform)
        return self.waited

    def announce(self, state: tenacity.RetryCallState) -> None:
        if self.on_retry:
            self.on_retry(
                RetryNotice(
                    attempt=self.number, max_attempts=self.max_attempts, wait=self.waited, error=_error_of(state)
                )
            )

    def _record(self, outcome: Reply | CallError, started_at: datetime, start: float) -> None:
        error = outcome if isinstance(outcome, CallError) else None
        self.attempts.append(
            {
                "started_at": times.timestamp(started_at),
                "latency_ms": round((self.monotonic() - start) * 1000),
                "waited_ms": round(self.waited * 1000),
                "code": error.code.value if error else None,
                "message": error.message if error else None,
                "request_id": outcome.request_id,
                # A reply's usage says what it cost; this is about what may have been paid without one.
                "possibly_billed": error is not None and error.possibly_billed,
            }
        )


_IF_RETRYABLE = tenacity.retry_if_exception(lambda error: isinstance(error, CallError) and error.code.retryable)


def _error_of(state: tenacity.RetryCallState) -> CallError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)  # nothing else is retried
    return error
