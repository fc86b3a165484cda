"""Requests and tokens per minute, kept as Bedrock keeps them: reserved at the start of a call, settled at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.emulator.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable


class Bucket:
    """Holds `burst` seconds' worth (and at least 1), starts full, refills evenly. Settling may leave it below zero."""

    def __init__(self, per_minute: float, *, burst: float, now: float) -> None:
        self.level = self._capacity = max(1.0, per_minute * burst / 60)
        self._per_minute = per_minute
        self._at = now

    def has(self, amount: float) -> bool:
        """Whether so much may be taken. More than a burst needs a full bucket; more than a minute's worth is never."""
        return self.level >= (min(amount, self._capacity) if amount <= self._per_minute else amount)

    def refill(self, now: float) -> None:
        self.level = min(self._capacity, self.level + (now - self._at) * self._per_minute / 60)
        self._at = now


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call has taken in advance: its input, and `max_tokens` of output."""

    tokens: Bucket | None
    amount: int

    def settle(self, *, input_tokens: int, output_tokens: int, burndown: int) -> None:
        """Give back what was reserved and take what was used: output counts `burndown` times."""
        if self.tokens is not None:
            self.tokens.level += self.amount - (input_tokens + output_tokens * burndown)

    def cancel(self) -> None:
        """The call came to nothing: give everything back."""
        self.settle(input_tokens=0, output_tokens=0, burndown=1)


class Quotas:
    """The quotas of an account. Each key (a model or profile, and a region) has its own. `clock` gives seconds.

    `burst` is how many seconds' worth of a quota may be used at once.
    """

    def __init__(
        self,
        *,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float],
        burst: float = 60,
    ) -> None:
        self._requests_per_minute = requests_per_minute
        self._tokens_per_minute = tokens_per_minute
        self._clock = clock
        self._burst = burst
        self._requests: dict[str, Bucket] = {}
        self._tokens: dict[str, Bucket] = {}

    def reserve(self, key: str, *, input_tokens: int, max_tokens: int) -> Reservation:
        """Take one request and `input_tokens + max_tokens`; raises ThrottlingException, having taken nothing."""
        requests = self._bucket(self._requests, key, self._requests_per_minute)
        tokens = self._bucket(self._tokens, key, self._tokens_per_minute)
        amount = input_tokens + max_tokens
        if requests is not None and not requests.has(1):
            raise AwsError("ThrottlingException", "Too many requests, please wait before trying again.")
        if tokens is not None and not tokens.has(amount):
            raise AwsError("ThrottlingException", "Too many tokens, please wait before trying again.")
        if requests is not None:
            requests.level -= 1
        if tokens is not None:
            tokens.level -= amount
        return Reservation(tokens, amount)

    def _bucket(self, buckets: dict[str, Bucket], key: str, per_minute: float | None) -> Bucket | None:
        if per_minute is None:
            return None
        now = self._clock()
        bucket = buckets.get(key)
        if bucket is None:
            bucket = buckets[key] = Bucket(per_minute, burst=self._burst, now=now)
        bucket.refill(now)
        return bucket
