"""The lanes in which calls wait for their turn: one for each model and region, since quotas are for these.

`Lane.serve` is the one place that starts calls. It runs whenever a call comes or ends, and when the pace says so. A
lane that waits for its pace or for a quota holds none of the places in flight that all lanes share.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from runner.calling.quotas import Quota
from runner.errors import CallError, FailureCode, NoRequestError, StoppedError, refused_for_tokens

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runner.calling.pacing import Pacer, Start
    from runner.calling.quotas import Taking
    from runner.records import Rate, Reply, Usage

HOPELESS_AFTER: Final = 180.0  # seconds in which nothing succeeded
_HOPELESS_FAILURES: Final = 5  # and so many attempts failed
_MOST_WEIGHT: Final = 16.0
_MOST_AWAY: Final = 256  # cases between their attempts, or twice the limit
_SIGNS: Final = 3  # first attempts that must have failed before the service, and not the cases, is taken to fail
_SURE_SIGNS: Final = 32  # so many, and it matters no more whether there are cases left to begin
LAST_PATIENCE: Final = 90.0  # seconds for which that is believed where no case is left that could show it


class Places:
    """The calls that may be in flight in all lanes together; lanes that wait for a place get it in their order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._waiting: dict[Lane, None] = {}

    def take(self, lane: Lane) -> bool:
        """Take a place. If there is none, the lane is served when there is."""
        if not self._free:
            self._waiting[lane] = None
            return False
        self._free -= 1
        return True

    def give_back(self) -> None:
        self._free += 1
        while self._free and self._waiting:
            lane = next(iter(self._waiting))
            del self._waiting[lane]
            lane.serve()


class Slot:
    """One call: the tokens that it reserves, and what became of its attempts."""

    __slots__ = ("attempts", "outcome", "reserved", "too_large")

    def __init__(self, reserved: int) -> None:
        self.reserved = reserved
        self.attempts = 0
        self.outcome: Reply | CallError | None = None
        self.too_large = 0  # attempts that were refused for their tokens

    def settle(self, outcome: Reply | CallError) -> None:
        """Tell what became of the attempt. One that was cut is not settled."""
        self.outcome = outcome
        if isinstance(outcome, CallError) and refused_for_tokens(outcome.code, outcome.message):
            self.too_large += 1

    @property
    def weight(self) -> float:
        """How many gaps it takes before it. A large call needs a bucket that has filled, and small ones keep it empty,
        so after its second refusal it waits for longer, at the head of the queue.
        """
        return min(_MOST_WEIGHT, 2.0 ** (self.too_large - 1)) if self.too_large > 1 else 1.0


class Turn:
    """One call's turns in a lane: entered for each attempt, it waits for a turn and holds it until it is left."""

    __slots__ = ("_begun", "_lane", "called", "slot", "start", "takings")

    def __init__(self, lane: Lane, slot: Slot, *, begun: bool) -> None:
        self._lane = lane
        self._begun = begun
        self.slot = slot
        self.called: asyncio.Future[None] | None = None
        self.start: Start | None = None
        self.takings: list[tuple[Quota, Taking]] = []

    @property
    def goes_first(self) -> bool:
        """A case that has begun goes before those that have not."""
        return self._begun or self.slot.attempts > 0

    async def __aenter__(self) -> Slot:
        await self._lane.enter(self)
        return self.slot

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._lane.leave(self)


class Lane:
    """Admits the calls to one model in one region, at the limit and pace of `pacer` and within the quotas of `rate`.

    `burndown` is how much a token of output counts. `on_hopeless` is told when nothing has succeeded for so long that
    nothing will: the last error, for how many seconds, and the attempts that failed in them.
    """

    def __init__(  # noqa: PLR0913 - what a lane stands on, by name
        self,
        *,
        places: Places,
        pacer: Pacer,
        rate: Rate,
        burndown: float,
        loop: asyncio.AbstractEventLoop,
        on_hopeless: Callable[[CallError, float, int], None],
    ) -> None:
        self._places = places
        self._pacer = pacer
        self._requests = Quota(rate.requests_per_minute) if rate.requests_per_minute else None
        self._tokens = Quota(rate.tokens_per_minute) if rate.tokens_per_minute else None
        self._burndown = burndown
        self._loop = loop
        self._on_hopeless = on_hopeless
        self._begun: deque[Turn] = deque()
        self._new: deque[Turn] = deque()
        self._in_flight: dict[Start, None] = {}  # oldest first
        self._unripe: deque[Start] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._cases = 0  # begun and not yet over
        self._coming = 0  # of these, on their way to their first call
        self._doors: deque[asyncio.Future[None]] = deque()  # where new cases wait
        self._failures = 0  # since the last success
        self._new_failed: list[Start] = []  # first attempts that failed, and nothing that started later succeeded
        self._failing_since = 0.0
        self._closed = False

    @property
    def counts_tokens(self) -> bool:
        """Whether there is a token quota, so that calls must say what they reserve."""
        return self._tokens is not None

    # --- cases -------------------------------------------------------------------------------------------------------

    async def room(self) -> None:
        """Wait until another case should begin, and count it as begun until `left`. StoppedError once closed.

        There is room when so few cases are ready that the pipe might run dry. Cases that sleep before their next
        attempt are not ready: they have a bound of their own, so that a few bad cases don't keep others from beginning,
        and an outage does not begin all the cases there are.
        """
        while not self._closed and not self._has_room():
            door = self._loop.create_future()
            self._doors.append(door)
            await door
        if self._closed:
            raise StoppedError
        self._cases += 1
        self._coming += 1

    def left(self) -> None:
        """A case that had found `room` is over."""
        self._cases -= 1
        self._open_doors()

    def _has_room(self) -> bool:
        new = self._coming + len(self._new)
        ready = new + len(self._begun)
        away = self._cases - len(self._in_flight) - ready  # between attempts or turns, or until their row is on disk
        most_away = max(_MOST_AWAY, 2 * self._pacer.limit)
        if self._pacer.quiet:  # a new case probes: it shows most, and those that failed may just be bad
            return not new and ready + away < most_away
        return ready < self._pacer.lookahead() and away < most_away

    def _open_doors(self) -> None:
        """Let one case in; when it has come to its call the next is let in, or at the next end of a call."""
        while self._doors and self._has_room():
            door = self._doors.popleft()
            if not door.done():
                door.set_result(None)
                return

    # --- calls -------------------------------------------------------------------------------------------------------

    def turn(self, *, reserved: int, begun: bool) -> Turn:
        """The turns of a call that reserves so many tokens. `begun`: an earlier call of its case has been made."""
        return Turn(self, Slot(reserved), begun=begun)

    def close(self) -> None:
        """Start nothing more: who waits gets StoppedError."""
        self._closed = True
        for turn in (*self._begun, *self._new):
            assert turn.called is not None
            if not turn.called.done():
                turn.called.set_exception(StoppedError())
        for door in self._doors:
            if not door.done():
                door.set_result(None)

    async def enter(self, turn: Turn) -> None:
        """Wait for the turn of an attempt."""
        if self._closed:
            raise StoppedError
        if self._coming and not turn.goes_first:
            self._coming -= 1
        turn.slot.outcome = None
        turn.called = self._loop.create_future()
        (self._begun if turn.goes_first else self._new).append(turn)
        self.serve()
        try:
            await turn.called
        except asyncio.CancelledError:
            if not turn.called.cancelled():  # it was called at the same moment
                self.leave(turn)
            raise

    def leave(self, turn: Turn) -> None:
        """The attempt is over: learn from what became of it, and make room."""
        start, outcome, now = turn.start, turn.slot.outcome, self._loop.time()
        assert start is not None
        del self._in_flight[start]
        for quota, taking in turn.takings:
            quota.settle(taking, self._charge(outcome, taking) if quota is self._tokens else _requests(outcome), now)
        turn.takings.clear()
        self._learn(start, turn.slot, now)
        self._places.give_back()
        self.serve()

    def serve(self) -> None:
        """Start the calls that may start now, and see to it that the next is started when it may."""
        now = self._loop.time()
        self._ripen(now)
        while not self._closed and (queue := self._next_queue()) is not None:
            if self._pacer.full:
                if self._unripe:
                    self._wake(self._pacer.ripe_at(self._unripe[0]), now)
                break
            turn = queue[0]
            at = self._ready_at(turn.slot, now)
            if at > now:
                self._wake(at, now)
                break
            if not self._places.take(self):
                break
            queue.popleft()
            self._start(turn, now)
        self._open_doors()

    def _next_queue(self) -> deque[Turn] | None:
        """The queue whose head is next. In a quiet lane the probes are made by whoever has made the fewest attempts."""
        for queue in (self._begun, self._new):
            while queue and queue[0].called is not None and queue[0].called.done():  # cancelled meanwhile
                queue.popleft()
        if self._pacer.quiet:
            if not self._new and self._begun:
                fewest = min(range(len(self._begun)), key=lambda index: self._begun[index].slot.attempts)
                self._begun.rotate(-fewest)
            return self._new or self._begun or None
        return self._begun or self._new or None

    def _ready_at(self, slot: Slot, now: float) -> float:
        at = self._pacer.ready_at(slot.weight)
        if self._requests is not None:
            at = max(at, self._requests.ready_at(1, now))
        if self._tokens is not None:
            at = max(at, self._tokens.ready_at(slot.reserved, now))
        return at

    def _start(self, turn: Turn, now: float) -> None:
        turn.start = start = self._pacer.start(now)
        turn.slot.attempts += 1
        if self._requests is not None:
            turn.takings.append((self._requests, self._requests.take(1, now)))
        if self._tokens is not None:
            turn.takings.append((self._tokens, self._tokens.take(turn.slot.reserved, now)))
        self._in_flight[start] = None
        self._unripe.append(start)
        assert turn.called is not None
        turn.called.set_result(None)

    def _wake(self, at: float, now: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self._loop.call_later(at - now, self._woken)

    def _woken(self) -> None:
        self._timer = None
        self.serve()

    # --- what became of calls ----------------------------------------------------------------------------------------

    @property
    def _wanted(self) -> bool:
        return bool(self._begun or self._new or self._doors)

    def _ripen(self, now: float) -> None:
        unripe, pacer = self._unripe, self._pacer
        while unripe and (unripe[0].known or pacer.ripe_at(unripe[0]) <= now):
            start = unripe.popleft()
            if not start.known:
                pacer.ripened(start, now, wanted=self._wanted)

    def _charge(self, outcome: Reply | CallError | None, taking: Taking) -> float:
        """The tokens that count in the end. A call that was refused has taken none; of others it is not known."""
        if isinstance(outcome, CallError):
            return 0 if outcome.code in _UNCHARGED or not _requests(outcome) else taking.amount
        usage: Usage | None = None if outcome is None else outcome.usage
        if usage is None:
            return taking.amount
        return usage.input_tokens + usage.cache_write_tokens + usage.output_tokens * self._burndown

    def _learn(self, start: Start, slot: Slot, now: float) -> None:
        outcome = slot.outcome
        if outcome is None or isinstance(outcome, NoRequestError):
            self._pacer.abandoned(start)
        elif not isinstance(outcome, CallError) or not outcome.code.retryable:  # an answer, if not a good one
            self._failures = 0
            if self._new_failed:
                self._new_failed = [failed for failed in self._new_failed if failed.number > start.number]
            self._pacer.succeeded(start, now, wanted=self._wanted)
        else:
            self._count_failure(start, slot, now)
            if outcome.code is FailureCode.THROTTLED:
                self._pacer.throttled(start, now)
            else:
                self._pacer.failed(start, now, outage=self._seems_down(now))
            if self._is_hopeless(slot, now):
                self._on_hopeless(outcome, now - self._failing_since, self._failures)

    def _count_failure(self, start: Start, slot: Slot, now: float) -> None:
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        if slot.attempts == 1:
            self._new_failed.append(start)

    @property
    def _more_to_begin(self) -> bool:
        return bool(self._new or self._doors)

    @property
    def _is_sure(self) -> bool:
        """Whether what was seen can hardly be the doing of a few bad cases at the end of a job."""
        return self._more_to_begin or len(self._new_failed) >= _SURE_SIGNS

    def _seems_down(self, now: float) -> bool:
        """Whether it is the service that fails, and not a few bad cases: those fail again and again, new ones don't.

        Where none is left to begin nobody can tell for sure. Then what is left is spared its attempts for as long as
        most outages last, and after that ends as its own retries have it.
        """
        if len(self._new_failed) < _SIGNS and not self._pacer.quiet:
            return False
        return self._is_sure or now - self._failing_since < LAST_PATIENCE

    def _is_hopeless(self, slot: Slot, now: float) -> bool:
        """Whether to begin more cases, of which this may be one, makes no sense."""
        if now - self._failing_since < HOPELESS_AFTER or self._failures < _HOPELESS_FAILURES:
            return False
        if len(self._new_failed) < _SIGNS or not (self._is_sure or slot.attempts == 1):
            return False
        oldest = next(iter(self._in_flight), None)
        return oldest is None or oldest.time >= self._failing_since  # else there is a slow call that may yet succeed


def _requests(outcome: Reply | CallError | None) -> int:
    """How many requests an attempt was."""
    return 0 if isinstance(outcome, NoRequestError) else 1


_UNCHARGED = frozenset({FailureCode.THROTTLED, FailureCode.NETWORK})
