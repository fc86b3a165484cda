"""Lanes against simulated services: every kind of quota, changes, faults, outages; in virtual time, with seeded chance.

The real lane, pacer and retry layer run on an event loop whose clock jumps from one event to the next. The table of all
scenarios: `python tests/test_limits_simulation.py`.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import selectors
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import pytest

from runner.calling.limits import LAST_PATIENCE, Lane, Places
from runner.calling.pacing import FIRST_LIMIT, Pacer
from runner.calling.retry import call_with_retries
from runner.errors import CallError, FailureCode
from runner.records import Rate, Reply, RetrySettings, Usage

# --- virtual time ----------------------------------------------------------------------------------------------------


class _NoWaiting(selectors.DefaultSelector):
    """Instead of waiting, it moves the clock."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for ever"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.waiting = _NoWaiting()
        super().__init__(self.waiting)

    def time(self) -> float:
        return self.waiting.now


# --- quotas as a service may keep them -------------------------------------------------------------------------------


class Limiter(Protocol):
    def take(self, now: float, amount: float) -> bool: ...

    def give_back(self, amount: float) -> None: ...


class NoLimit:
    def take(self, now: float, amount: float) -> bool:
        return True

    def give_back(self, amount: float) -> None:
        pass


@dataclass
class TokenBucket(NoLimit):
    """Refills at `rate` per second, which may change with time, and holds so many `seconds` of it, at least 1."""

    rate: Callable[[float], float]
    seconds: float
    level: float = math.inf
    at: float = 0.0

    def take(self, now: float, amount: float) -> bool:
        rate = self.rate(now)
        self.level = min(max(1.0, rate * self.seconds), self.level + (now - self.at) * rate)
        self.at = now
        if self.level < amount - 1e-9:
            return False
        self.level -= amount
        return True

    def give_back(self, amount: float) -> None:
        self.level += amount


@dataclass
class FixedWindow(NoLimit):
    count: int
    seconds: float
    phase: float = 0.37
    window: int = -1
    used: int = 0

    def take(self, now: float, amount: float) -> bool:
        window = math.floor(now / self.seconds + self.phase)
        if window != self.window:
            self.window, self.used = window, 0
        self.used += 1
        return self.used <= self.count


@dataclass
class SlidingWindow(NoLimit):
    count: int
    seconds: float
    taken: deque[float] = field(default_factory=deque)

    def take(self, now: float, amount: float) -> bool:
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) >= self.count:
            return False
        self.taken.append(now)
        return True


def bucket(rate: float, seconds: float) -> Callable[[], Limiter]:
    return lambda: TokenBucket(lambda _: rate, seconds)


# --- scenarios -------------------------------------------------------------------------------------------------------


NO_RATE = Rate()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is asked of which service. Times are seconds, from the start.

    `most_wall` (a multiple of `ideal`, the time that a client would need who knew the quota) and `most_throttled` (a
    share of the calls) are what the lane is held to. `tokens` gives what a case reserves and what it is charged. Cases
    that are `bad` never succeed.
    """

    name: str
    cases: int
    ideal: float
    limiter: Callable[[], Limiter] = NoLimit
    latency: Callable[[random.Random], float] = lambda _: 0.5
    round_trip: float = 0.04
    outage: tuple[float, float] = (0.0, 0.0)
    outage_is: FailureCode = FailureCode.NETWORK
    faults: float = 0.0
    bad: Container[int] = ()
    tokens: Callable[[int], tuple[int, int]] | None = None
    runs: int = 1
    in_flight: int | None = None
    rate: Rate = NO_RATE
    most_wall: float = 1.05
    most_throttled: float = 0.02
    slow: bool = False


@dataclass
class Outcome:
    wall: float = 0.0
    good_wall: float = 0.0  # until the last reply came
    lost: int = 0
    calls: int = 0
    throttled: int = 0
    in_outage: int = 0
    most_in_flight: int = 0
    hopeless: list[tuple[CallError, float, int]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)  # when calls were sent, from the start of the run
    ledger: list[tuple[float, float, int, int]] = field(default_factory=list)  # sent, over, reserved, charged


class Service:
    """Answers refusals at once and replies after their latency."""

    def __init__(self, scenario: Scenario, rng: random.Random, outcome: Outcome) -> None:
        self.scenario = scenario
        self.rng = rng
        self.outcome = outcome
        self.limiter = scenario.limiter()
        self.in_flight = 0

    async def call(self, number: int) -> Reply:
        self.in_flight += 1
        self.outcome.most_in_flight = max(self.outcome.most_in_flight, self.in_flight)
        try:
            return await self._call(number)
        finally:
            self.in_flight -= 1

    async def _call(self, number: int) -> Reply:
        scenario, outcome, clock = self.scenario, self.outcome, asyncio.get_running_loop().time
        began = clock()
        reserved, charged = scenario.tokens(number) if scenario.tokens else (1, 1)
        outcome.starts.append(began - 1000)
        await asyncio.sleep(scenario.round_trip / 2 * self.rng.uniform(0.8, 1.2))
        outcome.calls += 1
        if scenario.outage[0] <= clock() - 1000 < scenario.outage[1]:
            outcome.in_outage += 1
            await self._refuse(scenario.outage_is, "down")
        if number in scenario.bad or self.rng.random() < scenario.faults:
            await self._refuse(FailureCode.TRANSIENT, "a fault")
        if not self.limiter.take(clock(), reserved):
            outcome.throttled += 1
            what = "tokens" if scenario.tokens else "requests"
            await self._refuse(FailureCode.THROTTLED, f"ThrottlingException: Too many {what}, please wait")
        await asyncio.sleep(max(0.0, began + scenario.latency(self.rng) - clock()))
        self.limiter.give_back(reserved - charged)
        outcome.ledger.append((began, clock(), reserved, charged))
        outcome.good_wall = clock() - 1000
        return Reply(text="", stop_reason="end_turn", usage=Usage(input_tokens=charged))

    async def _refuse(self, code: FailureCode, message: str) -> None:
        await asyncio.sleep(self.scenario.round_trip / 2)
        raise CallError(code, message)


def simulate(scenario: Scenario, seed: int = 1) -> Outcome:
    rng = random.Random(seed)
    outcome = Outcome()

    async def main() -> None:
        service = Service(scenario, rng, outcome)
        await asyncio.gather(*(_run(scenario, service, rng, outcome, after=7.3 * run) for run in range(scenario.runs)))

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    return outcome


async def _run(scenario: Scenario, service: Service, rng: random.Random, outcome: Outcome, *, after: float) -> None:
    """What the engine does: begin cases as there is room for them, until all are done."""
    await asyncio.sleep(after)
    loop = asyncio.get_running_loop()
    places = Places(scenario.in_flight or 4000)
    eager = scenario.in_flight is not None
    lane = Lane(
        places=places,
        pacer=Pacer(limit=scenario.in_flight or FIRST_LIMIT, ceiling=places.count, eager=eager, uniform=rng.uniform),
        rate=scenario.rate,
        burndown=1,
        loop=loop,
        on_hopeless=lambda *told: outcome.hopeless.append(told),
    )

    async def case(number: int) -> None:
        reserved = scenario.tokens(number)[0] if scenario.tokens else 0
        try:
            await call_with_retries(
                lambda _: service.call(number),
                admit=lambda: lane.turn(reserved=reserved, begun=False),
                settings=RetrySettings(),
                attempts=[],
                uniform=rng.uniform,
            )
        except CallError:
            outcome.lost += 1
        finally:
            lane.left()

    cases = set()
    for number in range(scenario.cases):
        await lane.room()
        task = loop.create_task(case(number))
        cases.add(task)
        task.add_done_callback(cases.discard)
    while cases:
        await asyncio.wait(cases)
    outcome.wall = max(outcome.wall, loop.time() - 1000)


def constant(seconds: float) -> Callable[[random.Random], float]:
    return lambda _: seconds


def lognormal(median: float, sigma: float) -> Callable[[random.Random], float]:
    return lambda rng: median * math.exp(rng.gauss(0, sigma))


def _in_places(cases: int, places: int, latency: Callable[[random.Random], float], *, ramp: bool) -> float:
    """The time that `cases` take in so many places, from the first limit on, one more for each reply, if `ramp`."""
    rng, now, limit = random.Random(1), 0.0, FIRST_LIMIT if ramp else places
    ends: list[float] = []
    while cases or ends:
        while cases and len(ends) < limit:
            heapq.heappush(ends, now + latency(rng))
            cases -= 1
        now = heapq.heappop(ends)
        limit = min(places, limit + 1)
    return now


def _even(cases: int, rate: float, burst: float, latency: float) -> float:
    return max(0.0, cases - max(1.0, burst)) / rate + latency


def _mixed(number: int) -> tuple[int, int]:
    """One call in ten is large: what it reserves, and what it is charged."""
    return (24_096, 20_300) if number % 10 == 0 else (1_524, 700)


_LATENCY = lognormal(0.8, 0.5)
STEADY = Scenario(name="3,000 rpm, bucket of 1 s", cases=1500, ideal=_even(1500, 50, 50, 0.5), limiter=bucket(50, 1))

SCENARIOS = [
    STEADY,
    *(
        Scenario(
            name=f"{STEADY.name}, latency {latency} s",
            cases=1500,
            ideal=_even(1500, 50, 50, latency),
            limiter=bucket(50, 1),
            latency=constant(latency),
            slow=latency in {2, 10},
        )
        for latency in (0.2, 2, 10, 60)
    ),
    Scenario(
        # The first calls can't know, and a bucket that holds a single token loses what is not taken at once.
        name="4 rpm, bucket of 1 s",
        cases=60,
        ideal=59 * 15 + 0.5,
        limiter=bucket(4 / 60, 1),
        most_wall=1.25,
        most_throttled=0.6,
    ),
    Scenario(
        name="60 rpm, bucket of 1 s",
        cases=600,
        ideal=_even(600, 1, 1, 0.5),
        limiter=bucket(1, 1),
        most_wall=1.2,
        most_throttled=0.08,
    ),
    Scenario(name="600 rpm, bucket of 1 s", cases=1500, ideal=_even(1500, 10, 10, 0.5), limiter=bucket(10, 1)),
    Scenario(
        name="60,000 rpm, bucket of 1 s",
        cases=60_000,
        ideal=_even(60_000, 1000, 1000, 0.5),
        limiter=bucket(1000, 1),
        most_wall=1.08,
        slow=True,
    ),
    Scenario(
        name="3,000 rpm, bucket of 10 s", cases=3000, ideal=_even(3000, 50, 500, 0.5), limiter=bucket(50, 10),
        most_throttled=0.03,
    ),
    Scenario(name="3,000 rpm, bucket of 60 s", cases=6000, ideal=_even(6000, 50, 3000, 0.5), limiter=bucket(50, 60)),
    Scenario(
        name="3,000 rpm, fixed window of 1 s", cases=3000, ideal=60, limiter=lambda: FixedWindow(50, 1), most_wall=1.1
    ),
    Scenario(
        name="3,000 rpm, fixed window of 60 s", cases=9000, ideal=118.3, limiter=lambda: FixedWindow(3000, 60),
        most_wall=1.2, most_throttled=0.025,
    ),
    Scenario(
        # The ideal sends the whole minute's quota at once, each minute; an even pace needs 180 s.
        name="3,000 rpm, sliding window of 60 s", cases=9000, ideal=120.5, limiter=lambda: SlidingWindow(3000, 60),
        most_wall=1.5, most_throttled=0.025,
    ),
    Scenario(
        name="quota halves after 20 s",
        cases=2000,
        ideal=20 + (2000 - 1050) / 25,
        limiter=lambda: TokenBucket(lambda now: 50 if now < 1020 else 25, 1),
    ),
    Scenario(
        name="quota doubles after 20 s",
        cases=4000,
        ideal=20 + (4000 - 1050) / 100,
        limiter=lambda: TokenBucket(lambda now: 50 if now < 1020 else 100, 1),
        most_wall=1.1,
    ),
    Scenario(
        name="two runs share a quota", cases=1500, runs=2, ideal=_even(3000, 50, 50, 0.5), limiter=bucket(50, 1),
        most_wall=1.1, most_throttled=0.04,
    ),
    Scenario(
        name="no quota: an ideal ramp", cases=2000, latency=_LATENCY, ideal=_in_places(2000, 4000, _LATENCY, ramp=True)
    ),
    Scenario(
        name="no quota, -j 256", cases=2000, latency=_LATENCY, in_flight=256,
        ideal=_in_places(2000, 256, _LATENCY, ramp=False),
    ),
    *(
        Scenario(
            name=f"outage of 60 s ({code.value})", cases=1500, ideal=60 + STEADY.ideal, limiter=bucket(50, 1),
            outage=(10, 70), outage_is=code, most_wall=1.1,
        )
        for code in (FailureCode.NETWORK, FailureCode.THROTTLED)
    ),
    *(
        Scenario(
            name=f"outage of 60 s ({code.value}), -j 1", cases=20, in_flight=1, ideal=70,
            outage=(3, 63), outage_is=code, most_wall=1.15,
        )
        for code in (FailureCode.NETWORK, FailureCode.THROTTLED)
    ),
    Scenario(
        name="1 call in 10 fails", cases=1500, ideal=STEADY.ideal, limiter=bucket(50, 1), faults=0.1,
        most_wall=1.15, most_throttled=0.03,
    ),
    Scenario(
        # The rate that is granted falls for half a minute, while reservations fill the bucket.
        name="token quota, bucket of 60 s", cases=3000, ideal=(3000 * 1300 - 600_000) / 10_000 + 2,
        limiter=bucket(10_000, 60), latency=lambda _: 2, tokens=lambda _: (5096, 1300), most_throttled=0.03,
    ),
    Scenario(
        name="token quota, mixed sizes, bucket of 5 s", cases=2000,
        ideal=(sum(_mixed(number)[1] for number in range(2000)) - 100_000) / 20_000 + 2,
        limiter=bucket(20_000, 5), latency=lambda _: 2, tokens=_mixed, most_throttled=0.045,
    ),
    Scenario(
        name="token quota, mixed sizes, bucket of 60 s", cases=4000,
        ideal=(sum(_mixed(number)[1] for number in range(4000)) - 1_200_000) / 20_000 + 2,
        limiter=bucket(20_000, 60), latency=lambda _: 2, tokens=_mixed, most_throttled=0.04, slow=True,
    ),
    Scenario(
        name="rpm 3,000 given, sliding window", cases=6500, ideal=6500 / 50 + 0.5, rate=Rate(requests_per_minute=3000),
        limiter=lambda: SlidingWindow(3000, 60), most_throttled=0,
    ),
    Scenario(
        # What calls in flight have reserved and will not use is kept free for them.
        name="tpm 600,000 given, bucket of 60 s", cases=1500, ideal=1500 * 1300 / 10_000 + 2,
        rate=Rate(tokens_per_minute=600_000),
        limiter=bucket(10_000, 60), latency=lambda _: 2, tokens=lambda _: (5096, 1300), most_wall=1.12,
        most_throttled=0,
    ),
]  # fmt: skip


def _parameter(scenario: Scenario) -> Any:
    return pytest.param(scenario, id=scenario.name, marks=[pytest.mark.slow] if scenario.slow else [])


@pytest.mark.parametrize("scenario", [_parameter(scenario) for scenario in SCENARIOS])
def test_the_quota_is_used_and_throttles_are_rare(scenario: Scenario) -> None:
    outcome = simulate(scenario)
    outages = outcome.in_outage if scenario.outage_is is FailureCode.THROTTLED else 0
    assert outcome.lost == 0
    assert outcome.wall <= scenario.most_wall * scenario.ideal
    assert outcome.throttled - outages <= scenario.most_throttled * outcome.calls
    assert outcome.hopeless == []


@pytest.mark.parametrize("seed", range(5))
def test_the_first_throttles_are_few_and_met_whatever_chance_brings(seed: int) -> None:
    outcome = simulate(STEADY, seed)
    assert outcome.wall <= 1.02 * STEADY.ideal
    assert outcome.throttled <= 0.015 * outcome.calls


@pytest.mark.parametrize("code", [FailureCode.NETWORK, FailureCode.TRANSIENT, FailureCode.THROTTLED])
def test_an_outage_is_probed_by_single_calls_and_ends_without_a_burst(code: FailureCode) -> None:
    outcome = simulate(Scenario(name="", cases=1500, ideal=0, limiter=bucket(50, 1), outage=(10, 70), outage_is=code))
    quiet = [time for time in outcome.starts if 20 <= time < 70]
    assert 8 <= len(quiet) <= 30
    assert all(later - earlier > 1 for earlier, later in pairwise(quiet))
    after = [time for time in outcome.starts if 70 <= time < 90]
    assert max(sum(start <= time < start + 0.1 for time in after) for start in after) <= 12
    assert outcome.lost == 0


def test_two_thousand_calls_are_in_flight_at_once() -> None:
    slow = Scenario(name="", cases=2000, ideal=0, latency=lambda _: 120.0)
    assert simulate(slow).most_in_flight == 2000


def test_no_minute_has_more_requests_than_were_allowed() -> None:
    rate = Rate(requests_per_minute=600)
    starts = simulate(Scenario(name="", cases=1500, ideal=0, rate=rate)).starts
    assert all(later - earlier > 60 for earlier, later in zip(starts, starts[600:], strict=False))
    assert starts[-1] < 152


def test_no_minute_has_more_tokens_than_were_allowed_be_they_reserved_or_charged() -> None:
    rate = Rate(tokens_per_minute=600_000)
    ledger = simulate(Scenario(name="", cases=1500, ideal=0, rate=rate, tokens=_mixed, latency=constant(3))).ledger
    most = 0
    for now, *_ in ledger[::10]:
        minute = [call for call in ledger if now - 60 < call[0] <= now]
        most = max(most, sum(charged if over <= now else reserved for _, over, reserved, charged in minute))
    assert 550_000 < most <= 600_000


def test_a_service_that_never_comes_back_is_told_and_a_slow_one_is_not() -> None:
    gone = simulate(Scenario(name="", cases=1500, ideal=0, outage=(2, 10_000)))
    error, seconds, attempts = gone.hopeless[0]
    assert error.code is FailureCode.NETWORK
    assert 180 <= seconds <= 200
    assert attempts >= 5
    assert simulate(Scenario(name="", cases=30, ideal=0, latency=lambda _: 400.0, faults=0.2)).hopeless == []


_OWN_BACKOFF = 90.0  # seconds: the most that a case waits between its attempts, all together


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(
            name="10 of 1,500 at once", cases=1500, ideal=_even(1500, 50, 50, 0.5), limiter=bucket(50, 1),
            bad=range(300, 310),
        ),
        Scenario(
            name="1 in 10", cases=1500, ideal=_even(1500, 50, 50, 0.5), limiter=bucket(50, 1), bad=range(0, 1500, 10),
        ),
        Scenario(
            name="6 of 300, -j 20", cases=300, in_flight=20, ideal=30, latency=constant(2), bad=range(40, 46),
        ),
        Scenario(name="20 of 500", cases=500, ideal=10, limiter=bucket(50, 1), bad=range(0, 500, 25)),
        Scenario(
            name="12 of 100, -j 1", cases=100, in_flight=1, ideal=50, bad=range(3, 99, 8),
            most_wall=1.3,  # all the attempts take the one place
        ),
    ],
    ids=lambda scenario: scenario.name,
)  # fmt: skip
def test_bad_cases_hold_up_no_others_and_end_with_their_own_retries(scenario: Scenario) -> None:
    outcome = simulate(scenario)
    assert outcome.good_wall <= scenario.most_wall * scenario.ideal
    assert outcome.wall <= outcome.good_wall + _OWN_BACKOFF
    assert outcome.lost == sum(number in scenario.bad for number in range(scenario.cases))
    assert outcome.hopeless == []


def test_where_the_last_cases_are_all_bad_they_end_by_themselves() -> None:
    """Nobody can tell that from an outage, so they are spared their attempts at first."""
    outcome = simulate(Scenario(name="", cases=500, ideal=0, limiter=bucket(50, 1), bad=range(480, 500)))
    assert outcome.lost == 20
    assert outcome.wall <= outcome.good_wall + LAST_PATIENCE + _OWN_BACKOFF
    assert outcome.hopeless == []


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(name="quick", cases=500, ideal=0, limiter=bucket(50, 1), outage=(8.5, 68.5)),
        # Replies to calls that were sent before it still come when others fail.
        Scenario(name="-j 20", cases=300, ideal=0, in_flight=20, latency=constant(2), outage=(28.1, 88.1)),
    ],
    ids=lambda scenario: scenario.name,
)
def test_an_outage_of_a_minute_at_the_end_of_a_run_costs_no_row(scenario: Scenario) -> None:
    outcome = simulate(scenario)
    assert outcome.in_outage
    assert (outcome.lost, outcome.hopeless) == (0, [])


def main() -> None:
    print(f"{'scenario':<46}{'wall':>9}{'ideal':>9}{'ratio':>7}{'throttled':>11}{'lost':>6}{'in flight':>11}")
    for scenario in SCENARIOS:
        outcome = simulate(scenario)
        print(
            f"{scenario.name:<46}{outcome.wall:9.1f}{scenario.ideal:9.1f}{outcome.wall / scenario.ideal:7.3f}"
            f"{outcome.throttled / outcome.calls:11.2%}{outcome.lost:6}{outcome.most_in_flight:11}",
            flush=True,
        )


if __name__ == "__main__":
    main()
