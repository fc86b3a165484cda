"""Lanes, turn by turn, on a loop whose clock we hold. What comes of it all is in test_limits_simulation.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runner.calling.limits import Lane, Places, Slot
from runner.calling.pacing import Pacer, Start
from runner.calling.quotas import MINUTE, Quota
from runner.errors import CallError, FailureCode, NoRequestError, StoppedError, refused_for_tokens
from runner.records import Rate, Reply, Usage

REPLY = Reply(text="", stop_reason="end_turn", usage=None)
TOO_MANY_TOKENS = CallError(FailureCode.THROTTLED, "ThrottlingException: Too many tokens, please wait")
TOO_MANY_REQUESTS = CallError(FailureCode.THROTTLED, "ThrottlingException: Too many requests, please wait")


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when `run` says so, or by nothing being left to do before the next timer."""

    now = 100.0

    def __init__(self) -> None:
        super().__init__()
        real = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None = None) -> Any:
            assert timeout is not None, "everything waits for ever"
            self.now += timeout
            return real(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def started() -> Any:
        return await main()

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(started())


def lane_of(
    *,
    places: Places | None = None,
    limit: int = 4,
    rate: Rate = Rate(),  # noqa: B008 - frozen
    burndown: float = 1,
    hopeless: Callable[..., None] = lambda *_: None,
) -> Lane:
    """A lane that starts its calls as fast as its limit allows."""
    return Lane(
        places=places or Places(1000),
        pacer=Pacer(limit=limit, ceiling=1000, eager=True, uniform=lambda low, high: high),
        rate=rate,
        burndown=burndown,
        loop=asyncio.get_running_loop(),
        on_hopeless=hopeless,
    )


async def call(lane: Lane, *, seconds: float = 1.0, outcome: Reply | CallError = REPLY, begun: bool = False) -> float:
    """Make one call and say when it started."""
    async with lane.turn(reserved=0, begun=begun) as slot:
        start = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        slot.settle(outcome)
    return start


# --- order and places ------------------------------------------------------------------------------------------------


def test_what_has_begun_goes_first_and_equals_in_their_order() -> None:
    order: list[str] = []

    async def one(lane: Lane, name: str, *, begun: bool) -> None:
        async with lane.turn(reserved=0, begun=begun) as slot:
            order.append(name)
            await asyncio.sleep(1)
            slot.settle(CallError(FailureCode.TRANSIENT, "x"))  # so that the limit does not grow

    async def main() -> None:
        lane = lane_of(limit=1)
        names = [("first", False), ("new 1", False), ("new 2", False), ("later turn 1", True), ("later turn 2", True)]
        await asyncio.gather(*(one(lane, name, begun=begun) for name, begun in names))

    run(main)
    assert order == ["first", "later turn 1", "later turn 2", "new 1", "new 2"]


def test_a_second_attempt_goes_before_new_calls() -> None:
    order: list[str] = []

    async def retried(lane: Lane) -> None:
        turn = lane.turn(reserved=0, begun=False)
        for number in range(2):
            async with turn as slot:
                order.append(f"attempt {number + 1}")
                await asyncio.sleep(1)
                slot.settle(CallError(FailureCode.TRANSIENT, "x"))

    async def main() -> None:
        lane = lane_of(limit=1)
        others = [call(lane, outcome=CallError(FailureCode.TRANSIENT, "x")) for _ in range(3)]
        await asyncio.gather(retried(lane), *others)
        order.append("others")

    run(main)
    assert order == ["attempt 1", "attempt 2", "others"]


def test_a_lane_that_waits_for_its_pace_holds_no_shared_place() -> None:
    async def main() -> list[float]:
        places = Places(1)
        slow = lane_of(places=places, rate=Rate(requests_per_minute=1))
        fast = lane_of(places=places)
        await call(slow, seconds=0)
        waiting = asyncio.ensure_future(call(slow))
        starts = [await call(fast, seconds=0.5) for _ in range(10)]
        assert not waiting.done()
        await waiting
        return starts

    starts = run(main)
    assert starts[-1] - starts[0] < 6


def test_lanes_share_the_places_fairly() -> None:
    async def main() -> list[str]:
        places = Places(1)
        order: list[str] = []

        async def one(lane: Lane, name: str) -> None:
            await call(lane)
            order.append(name)

        lanes = {"a": lane_of(places=places), "b": lane_of(places=places)}
        await asyncio.gather(*(one(lane, name) for name, lane in lanes.items() for _ in range(4)))
        return order

    assert "".join(run(main)) == "aabababb"


def test_a_cancelled_call_leaves_its_place_to_others() -> None:
    async def main() -> float:
        lane = lane_of(limit=1)
        running = asyncio.ensure_future(call(lane, seconds=1000))
        waiting = asyncio.ensure_future(call(lane))
        await asyncio.sleep(1)
        waiting.cancel()
        running.cancel()
        await asyncio.gather(waiting, running, return_exceptions=True)
        return await call(lane)

    assert run(main) < 110


def test_a_call_that_is_cancelled_as_its_turn_comes_leaves_its_place_too() -> None:
    async def main() -> None:
        lane = lane_of(limit=1)
        task = asyncio.ensure_future(call(lane))
        await asyncio.sleep(0)  # its turn has come, but it has not heard
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(call(lane), 10)

    run(main)


def test_closing_sends_away_who_waits() -> None:
    async def main() -> None:
        lane = lane_of(limit=1)
        running = asyncio.ensure_future(call(lane))
        waiting = [asyncio.ensure_future(call(lane)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert not lane._has_room()
        door = asyncio.ensure_future(lane.room())
        await asyncio.sleep(0.1)
        lane.close()
        for waiter in (*waiting, door):
            with pytest.raises(StoppedError):
                await waiter
        await running
        with pytest.raises(StoppedError):
            await call(lane)
        with pytest.raises(StoppedError):
            await lane.room()

    run(main)


# --- limit and pace --------------------------------------------------------------------------------------------------


def test_the_limit_grows_while_it_holds_calls_back_and_only_then() -> None:
    async def main() -> tuple[int, int]:
        wanted, idle = lane_of(limit=4), lane_of(limit=4)
        await asyncio.gather(*(call(wanted) for _ in range(40)))
        for _ in range(40):
            await call(idle)
        return wanted._pacer.limit, idle._pacer.limit

    grown, unchanged = run(main)
    assert 20 < grown < 40
    assert unchanged == 4


def test_faults_change_neither_limit_nor_pace_and_throttles_do() -> None:
    async def main() -> list[tuple[int, float]]:
        after = []
        for code in (None, FailureCode.TRANSIENT, FailureCode.TIMEOUT, FailureCode.THROTTLED):
            lane = lane_of(limit=100)
            outcome = REPLY if code is None else CallError(code, "x")
            await call(lane)
            await call(lane, outcome=outcome)
            after.append((lane._pacer.limit, lane._pacer.pace))
        return after

    succeeded, transient, timeout, throttled = run(main)
    assert succeeded == transient == timeout
    assert throttled[0] < succeeded[0]
    assert throttled[1] < succeeded[1]


def test_after_a_long_stop_of_the_process_there_is_no_burst() -> None:
    async def main() -> int:
        lane = lane_of(limit=1000, rate=Rate(requests_per_minute=600))
        tasks = [asyncio.ensure_future(call(lane, seconds=0.01)) for _ in range(2000)]
        await asyncio.sleep(10)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop)
        stopped_at = loop.now = loop.now + 3600
        await asyncio.sleep(1)
        starts = [task.result() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return sum(start >= stopped_at for start in starts)

    assert 9 <= run(main) <= 13


def test_a_call_refused_for_its_tokens_takes_longer_gaps() -> None:
    slot = Slot(0)
    weights = []
    for _ in range(7):
        slot.settle(TOO_MANY_TOKENS)
        weights.append(slot.weight)
    assert weights == [1, 2, 4, 8, 16, 16, 16]


def test_refusals_for_tokens_are_told_from_others() -> None:
    assert refused_for_tokens(TOO_MANY_TOKENS.code, TOO_MANY_TOKENS.message)
    assert not refused_for_tokens(TOO_MANY_REQUESTS.code, TOO_MANY_REQUESTS.message)
    assert not refused_for_tokens(FailureCode.QUOTA, "Too many tokens per day")
    assert not refused_for_tokens(None, None)


# --- cases -----------------------------------------------------------------------------------------------------------


async def begin_failing_cases(lane: Lane, *, seconds: float, checkpoints: tuple[float, ...]) -> list[int]:
    """How many cases have begun at the checkpoints (in seconds), where each fails and then sleeps for ever."""
    tasks: list[asyncio.Future[Any]] = []

    async def engine() -> None:
        while True:
            await lane.room()
            failing = call(lane, seconds=seconds, outcome=CallError(FailureCode.NETWORK, "x"))
            tasks.append(asyncio.ensure_future(failing))

    running = asyncio.ensure_future(engine())
    loop = asyncio.get_running_loop()
    began, begun = loop.time(), []
    for checkpoint in checkpoints:
        await asyncio.sleep(began + checkpoint - loop.time())
        begun.append(len(tasks))
    for task in (running, *tasks):
        task.cancel()
    await asyncio.gather(running, *tasks, return_exceptions=True)
    return begun


def test_cases_begin_only_as_there_is_room() -> None:
    """One case in flight per place, and a few that are ready; in an outage one for each probe."""
    at_once, until_quiet, later = run(
        lambda: begin_failing_cases(lane_of(limit=3), seconds=0.5, checkpoints=(0.4, 4, 60.4))
    )
    assert 4 <= at_once <= 6
    assert until_quiet <= 26
    assert 10 <= later - until_quiet <= 20


def test_an_outage_does_not_begin_thousands_of_cases() -> None:
    (begun,) = run(lambda: begin_failing_cases(lane_of(limit=400), seconds=0.05, checkpoints=(60,)))
    assert 400 < begun <= 3 * 400  # twice the limit asleep, and those in flight or ready


# --- hopeless --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "seconds", "told"),
    [(30, 1, True), (300, 1, False), (30, 200, False)],
    ids=["nothing succeeds", "few attempts", "all are slow"],
)
def test_a_lane_says_when_there_is_no_hope(every: float, seconds: float, told: bool) -> None:
    told_of: list[Any] = []

    async def main() -> None:
        lane = lane_of(limit=50, hopeless=lambda *about: told_of.append(about))
        waiting = asyncio.ensure_future(call(lane, seconds=5000)) if seconds > 100 else None
        for _ in range(3 if every > 100 else 8):
            await call(lane, outcome=CallError(FailureCode.NETWORK, "gone"))
            await asyncio.sleep(every)
        if waiting:
            await waiting

    run(main)
    assert bool(told_of) is told
    if told:
        error, after, attempts = told_of[0]
        assert (error.message, attempts >= 5, 180 <= after < 230) == ("gone", True, True)


def test_last_cases_that_ask_for_patience_are_not_taken_for_a_service_without_hope() -> None:
    told_of: list[Any] = []

    async def bad(lane: Lane) -> None:
        turn = lane.turn(reserved=0, begun=False)
        for _ in range(5):
            async with turn as slot:
                slot.settle(CallError(FailureCode.TRANSIENT, "x"))
            await asyncio.sleep(60)

    async def main() -> None:
        lane = lane_of(hopeless=lambda *about: told_of.append(about))
        await asyncio.gather(*(bad(lane) for _ in range(4)))

    run(main)
    assert told_of == []


# --- quotas that were given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [7, 60, 3000])
def test_no_minute_has_more_than_the_quota(per_minute: int) -> None:
    quota, now, times = Quota(per_minute), 0.0, []
    for _ in range(per_minute * 3):
        now = max(now, quota.ready_at(1, now))
        quota.take(1, now)
        times.append(now)
    assert all(sum(start <= time < start + 60 for time in times) <= per_minute for start in times[:: per_minute // 7])
    assert times[-1] <= 3 * MINUTE


def test_tokens_are_reserved_and_what_was_not_used_is_given_back() -> None:
    quota = Quota(6000)
    takings = [quota.take(2000, 0.0) for _ in range(3)]
    assert quota.ready_at(2000, 1.0) >= 60
    for taking in takings:
        quota.settle(taking, 100, 2.0)
    assert quota.ready_at(2000, 2.0) < 10


def test_output_that_burns_down_faster_is_charged_beyond_what_was_reserved() -> None:
    async def main() -> float:
        lane = lane_of(rate=Rate(tokens_per_minute=6000), burndown=5)
        async with lane.turn(reserved=1000, begun=False) as slot:
            slot.settle(Reply(text="", stop_reason=None, usage=Usage(input_tokens=500, output_tokens=1000)))
        began = asyncio.get_running_loop().time()
        async with lane.turn(reserved=1000, begun=False):
            return asyncio.get_running_loop().time() - began

    assert run(main) == pytest.approx(MINUTE, abs=0.1)  # 5,500 are taken, and another 1,000 do not fit


def test_a_call_larger_than_the_quota_waits_until_nothing_is_taken() -> None:
    quota = Quota(100)
    assert quota.ready_at(500, 0.0) <= 0.0
    quota.take(500, 0.0)
    assert quota.ready_at(1, 1.0) >= MINUTE


def test_a_refused_call_has_taken_no_tokens() -> None:
    async def main() -> float:
        lane = lane_of(rate=Rate(tokens_per_minute=6000))
        turn = lane.turn(reserved=6000, begun=False)
        async with turn as slot:
            slot.settle(TOO_MANY_REQUESTS)
        async with turn:
            return asyncio.get_running_loop().time()

    assert run(main) < 110


def test_what_no_request_could_be_made_of_takes_nothing_of_the_quotas() -> None:
    async def main() -> float:
        lane = lane_of(rate=Rate(requests_per_minute=1, tokens_per_minute=6000))
        for _ in range(5):
            async with lane.turn(reserved=6000, begun=False) as slot:
                slot.settle(NoRequestError(FailureCode.INPUT, "the image is damaged"))
        return asyncio.get_running_loop().time()

    assert run(main) < 110


def test_a_ramp_ends_where_more_calls_in_flight_bring_no_more_replies() -> None:
    pacer = Pacer(limit=20, ceiling=4000, eager=False, uniform=lambda low, high: (low + high) / 2)
    now, in_flight, most = 0.0, list[Start](), 0
    for _ in range(20_000):  # a service that answers 200 calls a second, however many wait
        while not pacer.full:
            in_flight.append(pacer.start(now))
        most = max(most, len(in_flight))
        now += 0.005
        pacer.succeeded(in_flight.pop(0), now, wanted=True)
    assert 80 <= most <= 640
    assert pacer.limit <= 320
