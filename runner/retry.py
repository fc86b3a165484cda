"""The one retry layer: which failure is tried again, and when. Every attempt is recorded."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import tenacity

from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

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
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    monotonic: Callable[[], float] = time.monotonic,
) -> Reply:
    """Call `attempt(number)`, number from 1, until it gives a reply or it makes no sense to go on.

    Each attempt waits for its turn in `admit()` first, which is no part of its time. Appends every attempt to
    `attempts`, the last one too. Raises the last CallError. Any other exception is not ours to
    judge and goes through at once.
    """
    call = _Call(
        attempt,
        admit=admit,
        settings=settings,
        attempts=attempts,
        on_retry=on_retry,
        uniform=uniform,
        now=now,
        monotonic=monotonic,
    )
    retrying = tenacity.AsyncRetrying(
        sleep=sleep,
        stop=tenacity.stop_after_attempt(settings.max_attempts),
        wait=call.wait,
        retry=_IF_RETRYABLE,
        before_sleep=call.announce,
        reraise=True,
    )
    return await retrying(call.attempt)


_IF_RETRYABLE = tenacity.retry_if_exception(lambda error: isinstance(error, CallError) and error.code.retryable)


class _Call:
    """One call and its attempts so far, in the shape that tenacity asks for."""

    def __init__(  # noqa: PLR0913 - the arguments of call_with_retries
        self,
        attempt: Callable[[int], Awaitable[Reply]],
        *,
        admit: Callable[[], AbstractAsyncContextManager[Slot]],
        settings: RetrySettings,
        attempts: list[AttemptRecord],
        on_retry: Callable[[RetryNotice], None] | None,
        uniform: Callable[[float, float], float],
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._attempt = attempt
        self._admit = admit
        self._settings = settings
        self._attempts = attempts
        self._on_retry = on_retry
        self._uniform = uniform
        self._now = now
        self._monotonic = monotonic
        self._number = 0
        self._waited = 0.0

    async def attempt(self) -> Reply:
        async with self._admit() as slot:
            self._number += 1
            started_at, start = self._now(), self._monotonic()
            try:
                reply = await self._attempt(self._number)
            except CallError as error:
                self._record(started_at, start, error)
                raise
            self._record(started_at, start, reply)
            slot.settle(reply.usage)
            return reply

    def _record(self, started_at: datetime, start: float, outcome: Reply | CallError) -> None:
        error = outcome if isinstance(outcome, CallError) else None
        self._attempts.append(
            {
                "started_at": _iso(started_at),
                "latency_ms": round((self._monotonic() - start) * 1000),
                "waited_ms": round(self._waited * 1000),
                "code": error.code.value if error else None,
                "message": error.message if error else None,
                "request_id": outcome.request_id,
                # A reply's usage says what it cost; this is about what may have been paid without one.
                "possibly_billed": error is not None and error.possibly_billed,
            }
        )

    def wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds until the next attempt."""
        self._waited = backoff(
            _error_of(state), attempt=self._number, max_backoff=self._settings.max_backoff, uniform=self._uniform
        )
        return self._waited

    def announce(self, state: tenacity.RetryCallState) -> None:
        if self._on_retry:
            notice = RetryNotice(
                attempt=self._number,
                max_attempts=self._settings.max_attempts,
                wait=self._waited,
                error=_error_of(state),
            )
            self._on_retry(notice)


def _error_of(state: tenacity.RetryCallState) -> CallError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, CallError)  # nothing else is retried
    return error


def _iso(moment: datetime) -> str:
    """UTC with milliseconds: 2026-11-22T17:20:03.123Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
