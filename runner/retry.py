"""The one retry layer: which failure is tried again, and when. Every attempt is recorded."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tenacity

from runner import times
from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from runner.limits import Slot
    from runner.records import AttemptRecord, Reply, RetrySettings

THROTTLED_BASE = 1.0  # seconds: a quota refills slowly
OTHER_BASE = 0.25
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

    Full jitter under a ceiling that doubles up to `max_backoff`. What the server asks for comes first and the jitter on
    top, so that calls which were refused together do not come back together.
    """
    base = THROTTLED_BASE if error.code is FailureCode.THROTTLED else OTHER_BASE
    ceiling = min(max_backoff, base * 2.0 ** min(attempt - 1, 64))
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

    Each attempt waits for its turn in `admit()` first, which is no part of its time. Appends every attempt to
    `attempts`, the last one too. Raises the last CallError. Any other exception is not ours to judge and goes through
    at once.
    """
    number, waited = 0, 0.0

    async def once() -> Reply:
        nonlocal number
        async with admit() as slot:
            number += 1
            started_at, start = now(), monotonic()
            try:
                reply = await attempt(number)
            except CallError as error:
                attempts.append(_record(error, started_at, latency=monotonic() - start, waited=waited))
                raise
            attempts.append(_record(reply, started_at, latency=monotonic() - start, waited=waited))
            slot.settle(reply.usage)
            return reply

    def wait(state: tenacity.RetryCallState) -> float:
        nonlocal waited
        waited = backoff(_error_of(state), attempt=number, max_backoff=settings.max_backoff, uniform=uniform)
        return waited

    def announce(state: tenacity.RetryCallState) -> None:
        if on_retry:
            error = _error_of(state)
            on_retry(RetryNotice(attempt=number, max_attempts=settings.max_attempts, wait=waited, error=error))

    # Most calls need one attempt, and tenacity costs more than to sign it. So it is asked when the first has failed.
    try:
        return await once()
    except CallError as error:
        failed = [error]

    async def next_one() -> Reply:
        if failed:
            raise failed.pop()
        return await once()

    retrying = tenacity.AsyncRetrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(settings.max_attempts),
        wait=wait,
        retry=_IF_RETRYABLE,
        before_sleep=announce,
        reraise=True,
    )
    return await retrying(next_one)


_IF_RETRYABLE = tenacity.retry_if_exception(lambda error: isinstance(error, CallError) and error.code.retryable)


def _record(outcome: Reply | CallError, started_at: datetime, *, latency: float, waited: float) -> AttemptRecord:
    error = outcome if isinstance(outcome, CallError) else None
    return {
        "started_at": times.timestamp(started_at),
        "latency_ms": round(latency * 1000),
        "waited_ms": round(waited * 1000),
        "code": error.code.value if error else None,
        "message": error.message if error else None,
        "request_id": outcome.request_id,
        # A reply's usage says what it cost; this is about what may have been paid without one.
        "possibly_billed": error is not None and error.possibly_billed,
    }


def _error_of(state: tenacity.RetryCallState) -> CallError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)  # nothing else is retried
    return error
