"""How many calls may be under way, and how fast they may start. Clock and sleep are passed in."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from runner.records import Rate, Usage


_ROUNDING = 1e-6  # of a token: less than this is missing only because floats are rounded


class Bucket:
    """A token bucket that refills at `per_minute` and holds one second's worth, so that starts are spread evenly.

    A taking larger than the bucket waits for it to be full and leaves it in debt; the next waits until that is paid.
    """

    def __init__(self, per_minute: float, clock: Callable[[], float]) -> None:
        self._rate = per_minute / 60
        self._capacity = max(self._rate, 1.0)
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def wait_for(self, amount: float) -> float:
        """Seconds until `amount` may be taken; 0 if now."""
        self._refill()
        missing = min(amount, self._capacity) - self._level
        return missing / self._rate if missing > _ROUNDING else 0.0

    def take(self, amount: float) -> None:
        self._refill()
        self._level -= amount

    def give_back(self, amount: float) -> None:
        self._refill()
        self._level = min(self._capacity, self._level + amount)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now


class Slot:
    """One call's share of the quotas: `reserved` tokens, until it is known how many were used."""

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.used = reserved

    def settle(self, usage: Usage | None) -> None:
        """The call is over and used so many tokens."""
        if usage is not None:
            self.used = usage.input_tokens + usage.cache_write_tokens + usage.output_tokens


class Limiter:
    """Admits the calls to one model in one region: as many at once as `in_flight` allows, at the pace of the quotas.

    First come, first served, so that a large call is not held up by small ones. Tokens are reserved as Bedrock does,
    input + max_tokens at the start, and the rest given back at the end.
    """

    def __init__(
        self,
        *,
        in_flight: asyncio.Semaphore,
        rate: Rate,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._queue = asyncio.Lock()
        self._in_flight = in_flight
        self._requests = Bucket(rate.requests_per_minute, clock) if rate.requests_per_minute else None
        self._tokens = Bucket(rate.tokens_per_minute, clock) if rate.tokens_per_minute else None
        self._sleep = sleep

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a token quota, so that calls must say what they reserve."""
        return self._tokens is not None

    @asynccontextmanager
    async def slot(self, reserved_tokens: int) -> AsyncIterator[Slot]:
        """Wait for a turn, and hold it until the call is over."""
        slot = Slot(reserved_tokens)
        await self._admit(reserved_tokens)
        try:
            yield slot
        finally:
            self._in_flight.release()
            if self._tokens is not None:
                self._tokens.give_back(slot.reserved - slot.used)

    async def _admit(self, reserved_tokens: int) -> None:
        async with self._queue:
            await self._in_flight.acquire()
            try:
                await self._take(self._requests, 1)
                await self._take(self._tokens, reserved_tokens)
            except BaseException:
                self._in_flight.release()
                raise

    async def _take(self, bucket: Bucket | None, amount: int) -> None:
        if bucket is None:
            return
        while (wait := bucket.wait_for(amount)) > 0:
            await self._sleep(wait)
        bucket.take(amount)
