"""The figures of two runs beside each other, as people read them and as JSON."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.console import latency, money

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.records.figures import Figures


class Measure(NamedTuple):
    """A line of the table of two sides, as people read it. A value that is not known is `-`."""

    name: str
    old: str
    new: str
    difference: str
    percent: str


def measures(old: Figures, new: Figures) -> Iterator[Measure]:
    """The two sides, a line for each figure that at least one side has."""
    for name, figure in _FIGURES.items():
        before, after = figure.value(old), figure.value(new)
        if before is None and after is None:
            continue
        difference = _points if name == "pass_rate" else _difference
        yield Measure(
            name=_NAMES.get(name, name.replace("_", " ")),
            old="-" if before is None else figure.write(before),
            new="-" if after is None else figure.write(after),
            difference="" if before is None or after is None else difference(before, after, figure.write),
            percent="" if before is None or after is None else _percent(before, after, least=figure.least_of_percent),
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
    found = {name: figure.value(figures) for name, figure in _FIGURES.items()}
    cost = None if figures.cost_usd is None else round(figures.cost_usd, 9)
    return {**found, "cost_usd": cost, "unpriced_rows": figures.unpriced}


def _count(value: float) -> str:
    return f"{value:,}"


def _rate(value: float) -> str:
    return f"{value:.1%}".replace(".0%", "%")


def _pass_rate(figures: Figures) -> float | None:
    """From 0 to 1; a case in error has not passed. None without cases."""
    return figures.passed / figures.cases if figures.cases else None


class _Figure(NamedTuple):
    """One of the figures: what it is of them all, None where it is not known; how it is written; and from which value
    on a change in percent says anything, since of few cases and of short times chance makes the most.
    """

    value: Callable[[Figures], float | None]
    write: Callable[[float], str]
    least_of_percent: float


_FEW = 20
_SHORT_MS = 100
_FIGURES = {
    "cases": _Figure(lambda figures: figures.cases, _count, _FEW),
    "passed": _Figure(lambda figures: figures.passed, _count, _FEW),
    "failed": _Figure(lambda figures: figures.failed, _count, _FEW),
    "errors": _Figure(lambda figures: figures.errors, _count, _FEW),
    "pass_rate": _Figure(_pass_rate, _rate, inf),  # which is a percentage itself
    "cost_usd": _Figure(lambda figures: figures.cost_usd, money, 0),
    "input_tokens": _Figure(lambda figures: figures.usage.input_tokens, _count, _FEW),
    "output_tokens": _Figure(lambda figures: figures.usage.output_tokens, _count, _FEW),
    "latency_p50_ms": _Figure(lambda figures: figures.latencies.percentile(50), latency, _SHORT_MS),
    "latency_p95_ms": _Figure(lambda figures: figures.latencies.percentile(95), latency, _SHORT_MS),
    "first_token_p50_ms": _Figure(lambda figures: figures.first_tokens.percentile(50), latency, _SHORT_MS),
}
_NAMES = {
    "cost_usd": "cost",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "first_token_p50_ms": "first token p50",
}


def _difference(old: float, new: float, write: Callable[[float], str]) -> str:
    return "=" if old == new else f"{'+' if new > old else '-'}{write(abs(new - old))}"


def _points(old: float, new: float, _write: Callable[[float], str]) -> str:
    return "=" if old == new else f"{(new - old) * 100:+.1f}".removesuffix(".0") + " points"


def _percent(old: float, new: float, *, least: float) -> str:
    """In whole percent; empty where that says nothing."""
    if not old or old < least:
        return ""
    percent = round((new - old) / old * 100)
    return f"{percent:+,}%" if percent else ""
