"""How many calls a lane may have in flight and when the next may start, learned from what becomes of them.

Two figures rule: `limit`, the calls in flight, and the pace, starts per second. Nobody tells the account's quota, nor
how it is kept: a token bucket that holds a second's or a minute's worth, or windows that open and close.

- *Ramp.* Until the first throttle the limit grows by one for each call that succeeds while others wait, so it doubles
  per latency. But where twice the calls in flight brought hardly more replies per second, the service or this machine
  is full: the limit goes back, and it is tried again half a minute later. Starts are spread over the latency, so that
  one or two calls meet the quota first, and not fifty. Throttles are answered fast: a call that is in flight for longer
  than they take counts as granted, so that a model that needs a minute is not ramped up by the minute.
- *Search.* The first throttle says that the quota is met, but not how large it is, since the bucket was full at the
  start. So the pace falls to a quarter of what was sent, and doubles every half second until the next throttle.
- *Hold.* At each throttle a bucket is empty. So what was granted between two of them, by the time between them, is the
  rate that the account grants, whatever its size. The pace is that rate and an excess, which begins at almost nothing
  and doubles every second or so while the pace is what holds calls back: a throttle in some hundred calls is the price
  of knowing, and a quota that has grown or halved is found within seconds. Until two throttles have enough calls
  between them, more are awaited.
- *Quiet.* When nothing is granted any more (throttles in a row, or many faults of new calls too: an outage, a window
  that has closed)
  one call at a time probes, every 5 s at most, with jitter, and the first that is granted brings the old pace back;
  after a long silence of throttles it is searched anew, but warily, since the quota may be another by now.
- Faults change neither figure. Throttles bring the limit down to twice what is in flight, which leaves it room and
  bounds what a service that no longer answers can swallow.

A start that comes late may be made up for by 0.1 s worth of calls, no more: after a long stop there is no burst.
Times are seconds of a monotonic clock, and are handed in, as is chance: here nothing waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_LIMIT: Final = 20  # calls in flight to begin with
_PATIENCE = 1.0  # seconds after which a call counts as granted, while it is not known how fast throttles are answered
_UNKNOWN_LATENCY = 0.5  # seconds, until the first reply
_EAGER_SPREAD = 0.1  # seconds over which calls start whose number the user gave
_CUT = 4.0  # by this the pace falls at the first throttle
_ENOUGH = 8  # calls, granted or throttled, before two throttles tell a rate
_SEARCH_DOUBLES = 0.5  # seconds
_WARY_SEARCH_DOUBLES = 4.0  # seconds, after a long silence
_LONG_QUIET = 3.0  # seconds, and so many starts at the old pace
_LONG_QUIET_STARTS = 20
_HOLD_DOUBLES = 1.0  # seconds, and at least so many starts as follows, lest a small quota be pressed too hard
_HOLD_STARTS = 16
_SEARCH_STARTS = 4
_LEAST_EXCESS = 0.0005
_MOST_EXCESS = 3.0
_DOUBT = 1.15  # a pace beyond this multiple of the measured rate means that the measure is rough
_SMALL_PACE = 2.0  # starts per second
_CREDIT = 0.1  # seconds of lateness that may be made up for
_FAULTS = 10  # in a row, before a lane goes quiet
_FAULTY_SECONDS = 3.0  # and for so long: retries alone get over what is shorter
_THROTTLES = 4  # in a row, at a pace that was cut already
_SHORTEST_PROBE, _LONGEST_PROBE = 0.5, 5.0  # seconds between probes
_FIRST_CHECK = 80  # calls in flight, from which on it is looked whether more of them bring more replies
_WORTH = 1.25  # by which the replies per second should rise at least when the limit doubles
_CHECK_PAUSE = 30.0  # seconds until a ramp that was full is tried again
_LOOKAHEAD = 0.05  # seconds of starts for which cases should be ready


class Start:
    """One start of a call: which of its lane's, when, and whether it is known by now to have been granted or not."""

    __slots__ = ("known", "number", "time")

    def __init__(self, number: int, time: float) -> None:
        self.number = number
        self.time = time
        self.known = False


class Pacer:
    """The limit and the pace of one lane. `limit` calls may be in flight at first, `ceiling` at most.

    `eager`: the user gave the number, so it is used at once. Every start must be told about again, once it is over, by
    `succeeded`, `throttled`, `failed` or `abandoned`. `wanted` there says whether calls wait.
    """

    def __init__(self, *, limit: int, ceiling: int, eager: bool, uniform: Callable[[float, float], float]) -> None:
        self.in_flight = 0
        self._limit = float(limit)
        self._ceiling = ceiling
        self._eager = eager
        self._uniform = uniform
        self._latency: float | None = None
        self._patience = _PATIENCE
        self._started = 0
        self._next_at = float("-inf")
        self._replies = 0  # since the last check of the ramp, which was at `_checked_limit` and found `_reply_rate`
        self._checked_at = float("-inf")
        self._checked_limit = float("inf")
        self._reply_rate = 0.0
        self._full_until = float("-inf")
        self._base: float | None = None  # starts per second; None in the ramp, where the limit is the pace
        self._searching = False
        self._excess = 0.0
        self._doubles = _SEARCH_DOUBLES
        # The throttle since which is counted, and what was refused since: of all, and of those sent at this pace.
        self._since = Start(0, float("-inf"))
        self._lost = 0
        self._refused = 0
        self._outdated = 0  # starts up to this number were made before the pace or the silence of now
        self._faults = 0  # since the last success
        self._faulty_since = 0.0
        self._quiet: str | None = None  # "throttled" or "faulty"
        self._quiet_since = 0.0
        self._probe_gap = _SHORTEST_PROBE

    # --- what may start ----------------------------------------------------------------------------------------------

    @property
    def limit(self) -> int:
        """So many calls may be in flight now."""
        return int(self._limit)

    @property
    def quiet(self) -> bool:
        """Whether single calls probe, since nothing is granted."""
        return self._quiet is not None

    @property
    def pace(self) -> float:
        """Starts per second, when not quiet."""
        if self._base is not None:
            return self._base * (1 + self._excess)
        if self._eager and self._latency is None:
            return self._limit / _EAGER_SPREAD
        return 2 * self._limit / self._round_trip

    @property
    def full(self) -> bool:
        """Whether only something that becomes of a call, and not time alone, lets another start."""
        if self.in_flight >= self._limit:
            return True
        return self._quiet is not None and self._started > self._outdated  # a probe is under way

    def ready_at(self, weight: float) -> float:
        """The time at which a call may start; one of `weight` 2 leaves twice the gap before it."""
        return self._next_at if weight == 1 else self._next_at + (weight - 1) / self.pace

    def ripe_at(self, start: Start) -> float:
        """When it will count as granted if nothing has been heard of it."""
        return start.time + self._patience

    def lookahead(self) -> float:
        """So many cases should be ready to start."""
        soon = _LOOKAHEAD * self.pace
        return max(2.0, soon if self._base is not None else min(soon, self._limit - self.in_flight))

    def start(self, now: float) -> Start:
        """A call starts now, `ready_at` having come."""
        gap = 1 / self.pace
        if self._grows and now - self._next_at < _CREDIT / 2:
            self._grow(gap)  # it is the pace that held it back
        self._next_at = max(self._next_at, now - _CREDIT) + gap
        self.in_flight += 1
        self._started += 1
        return Start(self._started, now)

    @property
    def _grows(self) -> bool:
        """Not where all calls fail: there no throttle would tell that the pace is too high."""
        return self._base is not None and self._quiet is None and self._faults < _FAULTS

    def _grow(self, gap: float) -> None:
        assert self._base is not None
        if self._searching:
            self._base *= 2.0 ** (gap / max(self._doubles, _SEARCH_STARTS * gap))
        else:
            growth = 2.0 ** (gap / max(self._doubles, _HOLD_STARTS * gap))
            self._excess = min(_MOST_EXCESS, self._excess * growth)

    # --- what became of it -------------------------------------------------------------------------------------------

    def ripened(self, start: Start, now: float, *, wanted: bool) -> None:
        """The call has been in flight since `ripe_at`, so it was not throttled, though it may yet fail."""
        if self._quiet == "throttled" and start.number > self._outdated:
            self._speak(start, now)
        self._grant(start, by=2 * wanted)  # its place is not free again, as that of a reply would be

    def succeeded(self, start: Start, now: float, *, wanted: bool) -> None:
        latency = now - start.time
        self._latency = latency if self._latency is None else self._latency + (latency - self._latency) / 16
        self._faults = 0
        if self._quiet is not None and start.number > self._outdated:
            self._speak(start, now)
        self._replies += 1
        self._grant(start, by=1 * wanted * (now >= self._full_until))
        self._check_ramp(now)
        self.in_flight -= 1

    def throttled(self, start: Start, now: float) -> None:
        start.known = True
        took = now - start.time
        self._patience = min(self._patience, max(0.1, 4 * took)) if took < _PATIENCE / 4 else _PATIENCE
        if start.number > self._since.number:
            self._lost += 1
        if start.number > self._outdated:
            self._refused += 1
            if self._quiet is not None:
                self._listen(now)
                self._count_from(start)
            else:
                self._limit = max(min(FIRST_LIMIT, self._limit), min(self._limit, 2.0 * self.in_flight))
                self._slow_down(start, now)
        self.in_flight -= 1

    def failed(self, start: Start, now: float, *, outage: bool) -> None:
        """A fault that says nothing of quotas. `outage`: it seems to be the service that fails, and not a few cases.

        With more in flight than failed so far, it may still be an odd one.
        """
        start.known = True
        self._faults += 1
        if self._faults == 1:
            self._faulty_since = now
        if self._quiet is not None:
            if self._quiet == "faulty" and not outage:
                self._speak(start, now)
            elif start.number > self._outdated:
                self._listen(now)
        elif outage and self._all_fail(now):
            self._fall_quiet("faulty", now)
        self.in_flight -= 1

    def _all_fail(self, now: float) -> bool:
        many = self._faults >= max(_FAULTS, self.in_flight / 2)
        return many and now - self._faulty_since >= _FAULTY_SECONDS

    def abandoned(self, start: Start) -> None:
        """It ended in a way that tells nothing: it was cut, or never sent."""
        start.known = True
        if start.number > self._outdated:
            self._outdated = self._started  # if it was a probe, another may start
        self.in_flight -= 1

    def _check_ramp(self, now: float) -> None:
        """Each time that the limit has doubled: has it brought more replies?"""
        if self._base is not None or self._eager:
            return
        if self._checked_limit > self._limit:  # the ramp begins, or begins anew
            if self._limit >= _FIRST_CHECK:
                self._begin_check(now)
        elif self._limit >= 2 * self._checked_limit and now > self._checked_at:
            rate = self._replies / (now - self._checked_at)
            if rate < _WORTH * self._reply_rate:
                self._limit = self._checked_limit
                self._full_until = now + _CHECK_PAUSE
            else:
                self._reply_rate = rate
            self._begin_check(now)

    def _begin_check(self, now: float) -> None:
        self._checked_at, self._checked_limit, self._replies = now, self._limit, 0

    def _grant(self, start: Start, *, by: int) -> None:
        if start.known:
            return
        start.known = True
        if self._base is None or self.in_flight + self.pace >= self._limit:  # a second's starts are to fit in
            self._limit = min(float(self._ceiling), self._limit + by)

    # --- throttles ---------------------------------------------------------------------------------------------------

    def _slow_down(self, start: Start, now: float) -> None:
        granted = start.number - self._since.number - self._lost
        if self._base is None:
            self._base = self.in_flight / self._round_trip / _CUT
            self._searching = True
        elif granted > 0 and granted + self._refused >= _ENOUGH:
            self._hold(granted / (start.time - self._since.time), over=start.time - self._since.time)
        elif granted <= 0 and self._refused >= _THROTTLES:
            self._fall_quiet("throttled", now)
            self._count_from(start)
            return
        else:
            return
        # A single refusal is made up for soon; after several the new pace begins with a gap.
        low, high = (0.0, 0.25) if self._refused == 1 and not self._searching else (0.5, 1.0)
        self._outdated = self._started
        self._next_at = now + self._uniform(low, high) / self.pace
        self._count_from(start)

    def _hold(self, measured: float, *, over: float) -> None:
        pace, rough = self.pace, self._refused > 1
        if self._excess > 0.1 and not self._searching and not rough:
            # A small bucket overflowed before the pace had grown so far: half-way to what was sent is nearer.
            assert self._base is not None
            measured = max(measured, self._base * (1 + self._excess / 2))
        elif rough and pace < _SMALL_PACE:
            # A bucket of one call refuses every other one at the slightest excess.
            measured = (measured + min(pace, 2 * measured)) / 2
        self._base = measured
        self._searching = False
        self._excess = max(_LEAST_EXCESS, min(0.1, (pace / measured - _DOUBT) / 16))
        self._doubles = max(_HOLD_DOUBLES, over / 8)  # throttles that are far apart are best left so

    def _count_from(self, start: Start) -> None:
        self._since = start
        self._lost = self._refused = 0

    # --- silence -----------------------------------------------------------------------------------------------------

    def _fall_quiet(self, why: str, now: float) -> None:
        self._quiet = why
        self._quiet_since = now
        self._probe_gap = _SHORTEST_PROBE / 2
        self._listen(now)

    def _listen(self, now: float) -> None:
        """Wait before the next probe, longer each time."""
        self._outdated = self._started
        self._probe_gap = min(_LONGEST_PROBE, 2 * self._probe_gap)
        self._next_at = now + self._uniform(0.5, 1.0) * self._probe_gap

    def _speak(self, start: Start, now: float) -> None:
        """Go on as before. If faults were the reason, the time that was lost must not count as a time of grants."""
        if self._quiet == "faulty":
            self._count_from(start)
        if self._base is None:
            self._limit = min(self._limit, float(FIRST_LIMIT))
        elif self._quiet == "throttled" and now - self._quiet_since > max(_LONG_QUIET, _LONG_QUIET_STARTS / self._base):
            self._searching, self._excess, self._doubles = True, 0.0, _WARY_SEARCH_DOUBLES
        self._quiet = None
        self._faults = 0
        self._outdated = self._started
        self._next_at = now

    @property
    def _round_trip(self) -> float:
        """Seconds over which a limit's worth of calls is spread."""
        return min(self._latency or _UNKNOWN_LATENCY, _PATIENCE)
