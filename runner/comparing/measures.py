"""The figures of two runs beside each other, as people read them and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runner.console import latency, money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.figures import Figures


class Measure(NamedTuple):
    """A line of the table of two sides, as people read it. A value that is not known is `-`."""

    name: str
    old: str
    new: str
    difference: str
    percent: str


def measures(old: Figures, new: Figures) -> Iterator[Measure]:
    """The two sides, a line for each figure that at least one side has."""
    for name, (value, write) in _MEASURES.items():
        before, after = value(old), value(new)
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
    return [
        f"{figures.passed:,}/{figures.cases:,}",
        "-" if figures.cost_usd is None else money(figures.cost_usd),
        latency(figures.latencies.percentile(95)),
    ]


def to_json(figures: Figures) -> dict[str, Any]:
    """As schemas/diff.schema.json has them."""
    found = {name: value(figures) for name, (value, _) in _MEASURES.items()}
    cost = None if figures.cost_usd is None else round(figures.cost_usd, 9)
    return {**found, "cost_usd": cost, "unpriced_rows": figures.unpriced}


def _count(value: float) -> str:
    return f"{value:,}"


def _rate(value: float) -> str:
    return f"{value:.1%}"


def _pass_rate(figures: Figures) -> float | None:
    """From 0 to 1; a case in error has not passed. None without cases."""
    return figures.passed / figures.cases if figures.cases else None


# By name: what each is of the figures, and how it is written. None is what is not known.
_MEASURES: dict[str, tuple[Callable[[Figures], float | None], Callable[[float], str]]] = {
    "cases": (lambda figures: figures.cases, _count),
    "passed": (lambda figures: figures.passed, _count),
    "failed": (lambda figures: figures.failed, _count),
    "errors": (lambda figures: figures.errors, _count),
    "pass_rate": (_pass_rate, _rate),
    "cost_usd": (lambda figures: figures.cost_usd, money),
    "input_tokens": (lambda figures: figures.usage.input_tokens, _count),
    "output_tokens": (lambda figures: figures.usage.output_tokens, _count),
    "latency_p50_ms": (lambda figures: figures.latencies.percentile(50), latency),
    "latency_p95_ms": (lambda figures: figures.latencies.percentile(95), latency),
    "first_token_p50_ms": (lambda figures: figures.first_tokens.percentile(50), latency),
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
