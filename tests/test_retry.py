from __future__ import annotations

import asyncio
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.calling.limits import Slot
from runner.calling.retry import RetryNotice, backoff, call_with_retries
from runner.errors import CallError, FailureCode, NoRequestError
from runner.records import AttemptRecord, Reply, RetrySettings

if TYPE_CHECKING:
    from collections.abc import Callable

REPLY = Reply(text="Hi", stop_reason="end_turn", usage=None, request_id="req-ok")
START = datetime(2026, 11, 22, 17, 20, 3, 4_000, tzinfo=UTC)


def at_once() -> nullcontext[Slot]:
    return nullcontext(Slot(0))


def highest(low: float, high: float) -> float:
    assert low == 0
    return high


class World:
    """A clock that only moves when someone sleeps or an attempt takes its 10 ms, and a service that does as told."""

    def __init__(self, *outcomes: Reply | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.time = 100.0
        self.slept: list[float] = []
        self.numbers: list[int] = []
        self.notices: list[RetryNotice] = []
        self.attempts: list[AttemptRecord] = []

    async def attempt(self, number: int) -> Reply:
        self.numbers.append(number)
        self.time += 0.01
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def call(self, settings: RetrySettings = RetrySettings(), **changes: Any) -> Reply:  # noqa: B008 - frozen
        return asyncio.run(
            call_with_retries(
                self.attempt,
                admit=at_once,
                settings=settings,
                attempts=self.attempts,
                on_retry=self.notices.append,
                sleep=changes.get("sleep", self.sleep),
                uniform=highest,
                now=lambda: START + timedelta(seconds=self.time - 100),
                monotonic=lambda: self.time,
            )
        )


def error(code: FailureCode, **about: Any) -> CallError:
    return CallError(code, f"it was {code}", **about)


def test_a_call_that_succeeds_at_once() -> None:
    world = World(REPLY)
    assert world.call() is REPLY
    assert world.slept == []
    assert world.attempts == [
        {
            "started_at": "2026-11-22T17:20:03.004Z",
            "latency_ms": 10,
            "waited_ms": 0,
            "code": None,
            "message": None,
            "request_id": "req-ok",
            "possibly_billed": False,
        }
    ]


def test_every_attempt_is_recorded() -> None:
    world = World(
        error(FailureCode.THROTTLED, request_id="req-1"), error(FailureCode.TIMEOUT, possibly_billed=True), REPLY
    )
    assert world.call() is REPLY
    assert world.numbers == [1, 2, 3]
    assert world.slept == [0.25, 0.75]
    assert [(a["code"], a["waited_ms"], a["request_id"], a["possibly_billed"]) for a in world.attempts] == [
        ("throttled", 0, "req-1", False),
        ("timeout", 250, None, True),
        (None, 750, "req-ok", False),
    ]
    assert world.attempts[0]["message"] == "it was throttled"
    assert world.attempts[2]["started_at"] == "2026-11-22T17:20:04.024Z"
    assert [(n.attempt, n.max_attempts, n.wait, n.error.code) for n in world.notices] == [
        (1, 8, 0.25, FailureCode.THROTTLED),
        (2, 8, 0.75, FailureCode.TIMEOUT),
    ]


@pytest.mark.parametrize("code", FailureCode)
def test_only_what_may_pass_is_tried_again(code: FailureCode) -> None:
    failure = error(code)
    world = World(failure)
    with pytest.raises(CallError) as caught:
        world.call(RetrySettings(max_attempts=3))
    assert caught.value is failure
    assert len(world.attempts) == (3 if code.retryable else 1)
    assert len(world.slept) == len(world.notices) == len(world.attempts) - 1


def test_one_attempt_means_no_retry() -> None:
    world = World(error(FailureCode.THROTTLED))
    with pytest.raises(CallError):
        world.call(RetrySettings(max_attempts=1))
    assert world.slept == []


def test_a_bug_is_not_tried_again() -> None:
    world = World(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        world.call()
    assert world.numbers == [1]
    assert world.attempts == []


def test_what_no_request_could_be_made_of_was_not_tried() -> None:
    world = World(NoRequestError(FailureCode.INPUT, "the image is damaged"))
    with pytest.raises(NoRequestError):
        world.call()
    assert world.attempts == []


def test_cancelling_ends_an_attempt_and_a_wait() -> None:
    async def cancelled(call: Callable[[asyncio.Event], Any]) -> None:
        begun = asyncio.Event()
        task = asyncio.ensure_future(call(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def waiting(begun: asyncio.Event) -> Any:
        async def forever(_: float) -> Reply:
            begun.set()
            await asyncio.sleep(60)
            return REPLY

        return forever

    async def run() -> None:
        settings = RetrySettings()
        await cancelled(lambda begun: call_with_retries(waiting(begun), admit=at_once, settings=settings, attempts=[]))
        failing = World(error(FailureCode.TRANSIENT)).attempt
        await cancelled(
            lambda begun: call_with_retries(
                failing, admit=at_once, settings=settings, attempts=[], sleep=waiting(begun)
            )
        )

    asyncio.run(run())


def test_each_attempt_has_its_turn_and_tells_what_became_of_it() -> None:
    told: list[Any] = []

    class Told(Slot):
        def settle(self, outcome: Reply | CallError) -> None:
            told.append(outcome)

    class Turns:
        async def __aenter__(self) -> Slot:
            told.append("turn")
            return Told(0)

        async def __aexit__(self, *_: object) -> None:
            told.append("left")

    failure = error(FailureCode.THROTTLED)
    world = World(failure, REPLY)

    async def sleep(_: float) -> None:
        told.append("asleep")

    asyncio.run(call_with_retries(world.attempt, admit=Turns, settings=RetrySettings(), attempts=[], sleep=sleep))
    assert told == ["turn", failure, "left", "asleep", "turn", REPLY, "left"]


def test_calls_side_by_side_do_not_mix() -> None:
    async def run() -> list[list[AttemptRecord]]:
        async def attempt(number: int) -> Reply:
            await asyncio.sleep(0)
            if number < 3:
                raise error(FailureCode.TRANSIENT)
            return REPLY

        async def no_sleep(seconds: float) -> None:
            await asyncio.sleep(0)

        lists: list[list[AttemptRecord]] = [[] for _ in range(20)]
        await asyncio.gather(
            *(
                call_with_retries(attempt, admit=at_once, settings=RetrySettings(), attempts=attempts, sleep=no_sleep)
                for attempts in lists
            )
        )
        return lists

    assert all([a["code"] for a in attempts] == ["transient", "transient", None] for attempts in asyncio.run(run()))


@pytest.mark.parametrize(
    ("code", "attempt", "retry_after", "wait"),
    [
        (FailureCode.THROTTLED, 1, None, 0.25),
        (FailureCode.THROTTLED, 2, None, 0.75),
        (FailureCode.THROTTLED, 5, None, 20.25),
        (FailureCode.THROTTLED, 6, None, 30.0),
        (FailureCode.THROTTLED, 10_000, None, 30.0),
        (FailureCode.TRANSIENT, 1, None, 0.25),
        (FailureCode.TIMEOUT, 3, None, 2.25),
        (FailureCode.NETWORK, 4, None, 6.75),
        (FailureCode.INCOMPLETE, 20, None, 30.0),
        (FailureCode.TRANSIENT, 1, 7.0, 7.25),
        (FailureCode.THROTTLED, 1, 60.0, 60.25),
        (FailureCode.THROTTLED, 1, 86_400.0, 300.25),
        (FailureCode.THROTTLED, 1, 0.0, 0.25),
    ],
)
def test_the_longest_wait(code: FailureCode, attempt: int, retry_after: float | None, wait: float) -> None:
    failure = error(code, retry_after=retry_after)
    assert backoff(failure, attempt=attempt, max_backoff=30, uniform=highest) == wait
    shortest = backoff(failure, attempt=attempt, max_backoff=30, uniform=lambda low, high: low)
    assert shortest == min(retry_after or 0, 300)
