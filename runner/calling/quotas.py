"""Quotas that the user gave: never exceeded in any minute, and spread over it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# Seconds: a little more than a minute, since calls do not reach the service quite as evenly as they leave.
MINUTE = 60.25
_BURST = 0.1  # seconds' worth that may start at once, after the process was held up


@dataclass(slots=True)
class Taking:
    """What one call took at `time`: the whole reservation until it is settled, then what was charged."""

    time: float
    amount: float
    expected: float  # what the pace has counted for it


class Quota:
    """At most `per_minute` requests or tokens in any minute.

    The sum over the last minute is kept to the reservations, strictly. The pace goes by what calls are expected to be
    charged, learned as the share of their reservations, or a large max_tokens would slow down calls that use little.
    """

    def __init__(self, per_minute: float) -> None:
        self._per_minute = per_minute
        self._rate = per_minute / MINUTE
        self._takings: deque[Taking] = deque()
        self._sum = 0.0
        self._share = 1.0
        self._next_at = float("-inf")

    def ready_at(self, amount: float, now: float) -> float:
        """When `amount` may be taken, if none is given back before. More than the quota waits for all of it."""
        self._forget(now)
        over = self._sum + amount - self._per_minute
        if over <= 0 or not self._takings:
            return self._next_at
        freed = 0.0
        for taking in self._takings:
            freed += taking.amount
            if freed >= over:
                break
        return max(self._next_at, taking.time + MINUTE)

    def take(self, amount: float, now: float) -> Taking:
        taking = Taking(now, amount, amount * self._share)
        self._takings.append(taking)
        self._sum += amount
        self._pace(taking.expected, now)
        return taking

    def settle(self, taking: Taking, charged: float, now: float) -> None:
        """The call is over. It may have been charged more than it reserved, if output burns down faster than 1."""
        self._forget(now)
        if taking.time > now - MINUTE:
            self._sum += charged - taking.amount
        if charged:
            self._share += (charged / taking.amount - self._share) / 8
        self._pace(charged - taking.expected, now)
        taking.amount = charged

    def _pace(self, amount: float, now: float) -> None:
        self._next_at = max(self._next_at, now - _BURST) + amount / self._rate

    def _forget(self, now: float) -> None:
        takings = self._takings
        while takings and takings[0].time <= now - MINUTE:
            self._sum -= takings.popleft().amount
