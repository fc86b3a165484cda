"""What a run came to, as figures that can stand beside those of another run."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.console import money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.report.rows import CaseResult


@dataclass(slots=True, kw_only=True)
class Figures:
    """Of one side, or of a job or a variant there. Verdicts are counted by case, everything else by row."""

    cases: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    cost_usd: float | None = None  # of the rows whose price is known
    unpriced: int = 0  # rows with usage, but no known price
    input_tokens: int = 0
    output_tokens: int = 0
    latencies: array[int] = field(default_factory=lambda: array("q"))  # milliseconds, as below
    first_tokens: array[int] = field(default_factory=lambda: array("q"))

    def add(self, case: CaseResult) -> None:
        status = case.status
        self.cases += 1
        self.passed += status == "passed"
        self.failed += status == "failed"
        self.errors += status == "error"
        for row in case.rows:
            if row["usage"] is not None:
                self.input_tokens += row["usage"]["input_tokens"]
                self.output_tokens += row["usage"]["output_tokens"]
                self.unpriced += row["cost_usd"] is None
            if row["cost_usd"] is not None:
                self.cost_usd = (self.cost_usd or 0.0) + row["cost_usd"]
            if row["latency_ms"] is not None:
                self.latencies.append(row["latency_ms"])
            if row["first_token_ms"] is not None:
                self.first_tokens.append(row["first_token_ms"])

    @property
    def pass_rate(self) -> float | None:
        """From 0 to 1; a case in error has not passed. None without cases."""
        return self.passed / self.cases if self.cases else None

    @property
    def latency_p50_ms(self) -> int | None:
        return percentile(self.latencies, 50)

    @property
    def latency_p95_ms(self) -> int | None:
        return percentile(self.latencies, 95)

    @property
    def first_token_p50_ms(self) -> int | None:
        return percentile(self.first_tokens, 50)

    def to_json(self) -> dict[str, Any]:
        cost = None if self.cost_usd is None else round(self.cost_usd, 9)
        return {**{name: getattr(self, name) for name in _MEASURES}, "cost_usd": cost, "unpriced_rows": self.unpriced}


def percentile(values: Sequence[int], percent: int) -> int | None:
    """The smallest of the values that so many of them do not exceed; None if there are none."""
    return sorted(values)[ceil(len(values) * percent / 100) - 1] if values else None


class Measure(NamedTuple):
    """A line of the table of two sides, as people read it. A value that is not known is `-`."""

    name: str
    old: str
    new: str
    difference: str
    percent: str


def measures(old: Figures, new: Figures) -> Iterator[Measure]:
    """The two sides, a line for each figure that at least one side has."""
    for name, write in _MEASURES.items():
        before, after = getattr(old, name), getattr(new, name)
        if before is None and after is None:
            continue
        is_rate = name == "pass_rate"  # which is a percentage itself
        yield Measure(
            name=_NAMES.get(name, name.replace("_", " ")),
            old="-" if before is None else write(before),
            new="-" if after is None else write(after),
            difference=_points(before, after) if is_rate else _difference(before, after, write),
            percent="" if is_rate else _percent(before, after),
        )


class Group(NamedTuple):
    """The figures of a job, or of one variant of its matrix. None where a side does not have it."""

    job: str
    variant: str  # empty for the job itself
    old: Figures | None
    new: Figures | None


GROUP_COLUMNS = ("passed", "cost", "latency p95")


def group_cells(group: Group) -> list[str]:
    """`3/4 → 4/4` for each of the columns; one value where both sides have it."""
    sides = zip(_cells(group.old), _cells(group.new), strict=True)
    return [old if old == new else f"{old} → {new}" for old, new in sides]


def _cells(figures: Figures | None) -> list[str]:
    if figures is None:
        return ["-"] * len(GROUP_COLUMNS)
    cost, latency = figures.cost_usd, figures.latency_p95_ms
    return [
        f"{figures.passed:,}/{figures.cases:,}",
        "-" if cost is None else money(cost),
        "-" if latency is None else _time(latency),
    ]


def _count(value: float) -> str:
    return f"{value:,}"


def _time(milliseconds: float) -> str:
    return f"{milliseconds:,} ms" if milliseconds < 1000 else f"{milliseconds / 1000:,.2f} s"


def _rate(value: float) -> str:
    return f"{value:.1%}"


_MEASURES: dict[str, Callable[[float], str]] = {
    "cases": _count,
    "passed": _count,
    "failed": _count,
    "errors": _count,
    "pass_rate": _rate,
    "cost_usd": money,
    "input_tokens": _count,
    "output_tokens": _count,
    "latency_p50_ms": _time,
    "latency_p95_ms": _time,
    "first_token_p50_ms": _time,
}
_NAMES = {
    "cost_usd": "cost",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "first_token_p50_ms": "first token p50",
}


def _difference(old: float | None, new: float | None, write: Callable[[float], str]) -> str:
    if old is None or new is None:
        return ""
    return "=" if old == new else f"{'+' if new > old else '-'}{write(abs(new - old))}"


def _points(old: float | None, new: float | None) -> str:
    if old is None or new is None:
        return ""
    return "=" if old == new else f"{(new - old) * 100:+.1f} points"


def _percent(old: float | None, new: float | None) -> str:
    """Empty where there is nothing to say: without a change, and from nothing to something."""
    return f"{(new - old) / old:+.1%}" if old and new is not None and old != new else ""
