"""Pacing, on a clock of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from runner.limits import Bucket, Limiter
from runner.records import Rate, Usage


class Clock:
    """Time that passes only by sleeping. Sleepers are woken in the order of their time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def starts(rate: Rate, calls: int, *, tokens: int = 0, used: int | None = None) -> list[float]:
    """When each of `calls` calls, made one after another and taking no time, may start."""
    clock = Clock()
    times: list[float] = []

    async def run() -> None:
        limiter = Limiter(in_flight=asyncio.Semaphore(4), rate=rate, clock=clock, sleep=clock.sleep)
        for _ in range(calls):
            async with limiter.slot(tokens) as slot:
                times.append(clock.now)
                slot.settle(None if used is None else Usage(output_tokens=used))

    asyncio.run(run())
    return times


def test_without_quotas_calls_start_at_once() -> None:
    assert starts(Rate(), 100) == [0.0] * 100


def test_requests_are_spread_over_the_minute() -> None:
    times = starts(Rate(requests_per_minute=60), 61)
    assert times == pytest.approx(list(range(61)))


@pytest.mark.parametrize("per_minute", [7, 60, 3000])
def test_no_minute_has_more_requests_than_the_quota_and_one_seconds_worth(per_minute: int) -> None:
    times = starts(Rate(requests_per_minute=per_minute), per_minute * 3)
    for start in times:
        in_minute = sum(1 for time in times if start <= time < start + 60)
        assert in_minute <= per_minute + max(1, per_minute // 60)


def test_tokens_are_reserved_and_a_large_call_leaves_a_debt() -> None:
    # 6,000 tokens a minute are 100 a second: after the first call the bucket is 400 short, which takes 5 s to fill
    assert starts(Rate(tokens_per_minute=6000), 3, tokens=500) == pytest.approx([0.0, 5.0, 10.0])


def test_tokens_that_were_not_used_are_given_back() -> None:
    assert starts(Rate(tokens_per_minute=6000), 3, tokens=500, used=100) == pytest.approx([0.0, 1.0, 2.0])


def test_a_bucket_never_holds_more_than_one_second() -> None:
    clock = Clock()
    bucket = Bucket(600, clock)
    clock.now = 1000
    bucket.take(10)
    assert bucket.wait_for(1) == pytest.approx(0.1)


def test_only_so_many_calls_are_in_flight() -> None:
    most = asyncio.run(_most_in_flight(lambda limiter: limiter.slot(0)))
    assert most == 4


async def _most_in_flight(enter: Callable[[Limiter], Any]) -> int:
    clock = Clock()
    limiter = Limiter(in_flight=asyncio.Semaphore(4), rate=Rate(), clock=clock, sleep=clock.sleep)
    now = most = 0

    async def call() -> None:
        nonlocal now, most
        async with enter(limiter):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    calls: list[Coroutine[Any, Any, None]] = [call() for _ in range(20)]
    await asyncio.gather(*calls)
    return most
