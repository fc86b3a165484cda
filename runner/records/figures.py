"""What cases come to, those of a job or of one variant of it: counts, tokens, cost and latencies.

Whatever tells of a run takes its figures from here, so that all of them tell the same.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from runner.records import Usage, paid_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.records import Paid, Row, Status
    from runner.report.rows import CaseResult


def verdict_of_case(*, passed: int, failed: int, errors: int, repeats: int, min_pass: int) -> Status:
    """What the repetitions of a case that have finished make of it.

    `error` if one of them is; `failed` if more of them are than `min_pass` allows. It is an error too as long as
    repetitions are missing that have to decide, as after a run that was stopped.
    """
    if errors:
        return "error"
    if failed > repeats - min_pass:
        return "failed"
    return "passed" if passed >= min_pass else "error"


@dataclass(slots=True)
class Distribution:
    """Numbers in any order, as the milliseconds of some replies. What is kept is how often each of them came: never
    more than there are, and mostly far less.
    """

    _counts: Counter[float] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        self._counts[value] += 1

    def update(self, others: Distribution) -> None:
        self._counts.update(others._counts)

    def __len__(self) -> int:
        return self._counts.total()

    def __iter__(self) -> Iterator[tuple[float, int]]:
        """Each number, the least first, and how often it came."""
        return iter(sorted(self._counts.items()))

    @property
    def highest(self) -> float | None:
        return max(self._counts, default=None)

    def percentile(self, percent: int) -> float | None:
        """By nearest rank: the least of them that this many percent do not exceed; None if there are none."""
        rank = ceil(len(self) * percent / 100)
        for value, count in self:
            rank -= count
            if rank <= 0:
                return value
        return None


@dataclass(slots=True, kw_only=True)
class Spending:
    """Running totals of what rows took, by their replies and by the judges of these."""

    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None  # of what has a known price
    unpriced: int = 0  # rows of which something has none
    unpriced_models: dict[str, None] = field(default_factory=dict)  # that have no known price
    uncounted: int = 0  # rows of which the tokens are not all known

    def spend(self, paid: Iterable[Paid]) -> None:
        """Count what was paid for one row."""
        paid = tuple(paid)
        self.unpriced += any(each.cost_usd is None for each in paid)
        self.uncounted += any(each.usage is None for each in paid)
        for each in paid:
            if each.usage is not None:
                self.usage += Usage(**each.usage)
                if each.cost_usd is None:
                    self.unpriced_models[each.model] = None
            if each.cost_usd is not None:
                self.cost_usd = (self.cost_usd or 0.0) + each.cost_usd


@dataclass(slots=True, kw_only=True)
class Figures(Spending):
    """Running totals of cases, each counted once however often it is repeated; of kept and called ones alike."""

    passed: int = 0
    failed: int = 0
    errors: int = 0
    latencies: Distribution = field(default_factory=Distribution)  # milliseconds, of whole answers
    first_tokens: Distribution = field(default_factory=Distribution)  # milliseconds, of streamed replies

    @property
    def cases(self) -> int:
        return self.passed + self.failed + self.errors

    @property
    def tokens(self) -> int:
        return self.usage.input_tokens + self.usage.output_tokens

    def add(self, row: Row) -> None:
        """Count what a row took and cost. What became of its case is for `move`."""
        self.spend(paid_for(row))
        if row["output"] is not None and row["latency_ms"] is not None:
            self.latencies.add(row["latency_ms"])
        if row["output"] is not None and row["first_token_ms"] is not None:
            self.first_tokens.add(row["first_token_ms"])

    def move(self, before: Status | None, after: Status) -> None:
        """Count a case for what it is now, in place of what its other repetitions made of it."""
        self._count(before, -1)
        self._count(after, 1)

    def add_case(self, case: CaseResult) -> None:
        """Count a case with all its rows."""
        for row in case.rows:
            self.add(row)
        self.move(None, case.status)

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
        self.usage += others.usage
        if others.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + others.cost_usd
        self.unpriced += others.unpriced
        self.unpriced_models |= others.unpriced_models
        self.uncounted += others.uncounted
        self.latencies.update(others.latencies)
        self.first_tokens.update(others.first_tokens)
