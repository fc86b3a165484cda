"""What the cases of a job come to, or those of one variant of it: counts, cost, tokens and latencies."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.records import Row, Status


@dataclass(slots=True)
class Latencies:
    """Milliseconds of some replies. What is kept is how often each number came: never more than there are replies,
    mostly far less, and in any order.
    """

    _times: Counter[int] = field(default_factory=Counter)

    def add(self, milliseconds: int) -> None:
        self._times[milliseconds] += 1

    def update(self, others: Latencies) -> None:
        self._times.update(others._times)

    def percentile(self, percent: int) -> int | None:
        """By nearest rank: the least of them that this many percent do not exceed; None if there are none."""
        rank = ceil(self._times.total() * percent / 100)
        for milliseconds in sorted(self._times):
            rank -= self._times[milliseconds]
            if rank <= 0:
                return milliseconds
        return None


@dataclass(slots=True, kw_only=True)
class Figures:
    """Running totals of cases, each counted once however often it is repeated; of kept and called ones alike."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    cost_usd: float | None = None  # of the replies, and of their judges, whose price is known
    unpriced: int = 0  # rows with replies and no known price
    input_tokens: int = 0
    output_tokens: int = 0
    uncounted: int = 0  # rows with replies whose tokens are not known
    latencies: Latencies = field(default_factory=Latencies)
    first_tokens: Latencies = field(default_factory=Latencies)  # of streamed replies

    @property
    def cases(self) -> int:
        return self.passed + self.failed + self.errors

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def add(self, row: Row) -> None:
        """Count what a row took and cost. What became of its case is for `move`."""
        if row["replies"]:
            self.unpriced += row["cost_usd"] is None
            self.uncounted += row["usage"] is None
        for cost in (row["cost_usd"], *(judgement["cost_usd"] for judgement in row["judgements"])):
            if cost is not None:
                self.cost_usd = (self.cost_usd or 0.0) + cost
        if row["usage"] is not None:
            self.input_tokens += row["usage"]["input_tokens"]
            self.output_tokens += row["usage"]["output_tokens"]
        if row["output"] is not None and row["latency_ms"] is not None:
            self.latencies.add(row["latency_ms"])
        if row["output"] is not None and row["first_token_ms"] is not None:
            self.first_tokens.add(row["first_token_ms"])

    def move(self, before: Status | None, after: Status) -> None:
        """Count a case for what it is now, in place of what its other repetitions made of it."""
        self._count(before, -1)
        self._count(after, 1)

    def _count(self, status: Status | None, number: int) -> None:
        match status:
            case "passed":
                self.passed += number
            case "failed":
                self.failed += number
            case "error":
                self.errors += number

    def update(self, others: Figures) -> None:
        """Take in the totals of other cases."""
        self.passed += others.passed
        self.failed += others.failed
        self.errors += others.errors
        if others.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + others.cost_usd
        self.unpriced += others.unpriced
        self.input_tokens += others.input_tokens
        self.output_tokens += others.output_tokens
        self.uncounted += others.uncounted
        self.latencies.update(others.latencies)
        self.first_tokens.update(others.first_tokens)
