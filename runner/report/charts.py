"""What the charts of the HTML report show: distributions and sums, as positions and labels for the template to draw.

Lengths are in the units of the drawing, which is `WIDTH` wide. Everything is known before the first byte of the page
is written, so it takes a pass over the rows of its own; it holds a few numbers for each.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.console import duration, money
from runner.records import matrix_label
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from runner.records import Row

WIDTH = 300.0
_LEFT, _RIGHT = 46.0, 12.0  # margins of a histogram
_TOP, _BOTTOM = 40.0, 40.0
_PLOT = 110.0  # height of what lies between
_BINS = 20
_BAR_ROW = 36.0  # height of a bar and its label
_BAR_WIDTH = WIDTH - 96.0  # of the longest bar: its value stands beside it
_MOST_BARS = 6
_LONGEST_LABEL = 42  # characters
_KINDS = ("one", "two")  # colours of the parts of a bar


# --- the numbers -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Group:
    """The figures of a job, or of one variant of it."""

    job: str
    variant: str
    latencies: array[float] = field(default_factory=lambda: array("d"))  # ms, of whole answers
    costs: array[float] = field(default_factory=lambda: array("d"))  # USD, of rows whose price is known
    tokens_in: array[float] = field(default_factory=lambda: array("d"))
    tokens_out: array[float] = field(default_factory=lambda: array("d"))

    def add(self, row: Row) -> None:
        if row["latency_ms"] is not None and row["output"] is not None:
            self.latencies.append(row["latency_ms"])
        if row["cost_usd"] is not None:
            self.costs.append(row["cost_usd"])
        if row["usage"] is not None:
            usage = row["usage"]
            self.tokens_in.append(usage["input_tokens"] + usage["cache_read_tokens"] + usage["cache_write_tokens"])
            self.tokens_out.append(usage["output_tokens"])


class Figures:
    """The figures of rows: by job and variant, in the order in which they come, and over all."""

    def __init__(self, rows: Iterable[Row]) -> None:
        groups: dict[tuple[str, str], Group] = {}
        self.local = 0  # rows of the emulator
        self.started_at = self.finished_at = ""
        for row in rows:
            name = (row["job"], _variant(row["matrix"] or {}))
            if name not in groups:
                groups[name] = Group(*name)
            groups[name].add(row)
            self.local += row["endpoint"] == "local"
            self.started_at = min(self.started_at or row["started_at"], row["started_at"])
            self.finished_at = max(self.finished_at, row["finished_at"])
        self.groups = list(groups.values())
        self.latencies = array("d", sorted(latency for group in self.groups for latency in group.latencies))


def _variant(matrix: Mapping[str, Any]) -> str:
    """The values of a matrix; that a model is one need not be said."""
    parts = ((name, matrix_label({name: value})) for name, value in matrix.items())
    return ", ".join(label.removeprefix("model=") if name == "model" else label for name, label in parts)


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest of `values` that at least so many percent of them do not exceed; None if there are none."""
    if not values:
        return None
    return sorted(values)[max(0, ceil(len(values) * percent / 100) - 1)]


# --- the drawings ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    x: float
    y: float
    width: float
    height: float
    told: str  # what it stands for, in words
    kind: str = "one"  # which colour: `one`, `two`


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A line across a histogram. Its label begins there, or ends there."""

    at: float
    y: float
    label: str
    ends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    title: str
    summary: str  # in words, for who can't see it
    axis: str
    height: float = _TOP + _PLOT + _BOTTOM
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    base: float = _TOP + _PLOT
    bars: tuple[Rect, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BarRow:
    label: str
    whole_label: str
    value: str
    y: float
    rects: tuple[Rect, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Horizontal bars, the longest first. `legend` names the kinds of parts where a bar has several."""

    title: str
    summary: str
    rows: tuple[BarRow, ...]
    height: float
    legend: tuple[tuple[str, str], ...] = ()
    left_out: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measure:
    """What a histogram counts, and how its values are told. The axis is in `unit`, which is so many of the values'."""

    title: str
    of: str
    unit: str
    per_unit: float = 1.0
    finest: float = 0.0  # bins narrower than that make no sense
    shown: Callable[[float], str]


def drawings(figures: Figures) -> Iterator[Histogram | Bars]:
    """The charts that say something about these figures: by job and variant if there are several, else by case."""
    groups = figures.groups
    if figures.latencies:
        yield _histogram(figures.latencies, _latency(figures.latencies))
    if len(groups) > 1:
        labels = _labels(groups)
        yield from _latency_bars(groups, labels)
        yield from _cost_bars(groups, labels)
        yield from _token_bars(groups, labels)
        return
    for group in groups:
        if any(group.costs):
            yield _histogram(group.costs, _COST)
        if group.tokens_out:
            yield _histogram(group.tokens_in, _TOKENS_IN)
            yield _histogram(group.tokens_out, _TOKENS_OUT)


def milliseconds(value: float) -> str:
    """`850 ms`, `1.2s`, `3m 05s`."""
    return f"{value:.0f} ms" if value < 1000 else duration(value / 1000)


def _latency(values: Sequence[float]) -> _Measure:
    unit, per_unit = ("seconds", 1000.0) if max(values) >= 2000 else ("milliseconds", 1.0)
    return _Measure(title="Latency", of="answer", unit=unit, per_unit=per_unit, finest=1.0, shown=milliseconds)


def _count(value: float) -> str:
    return f"{value:,.0f}"


_COST = _Measure(title="Cost", of="case", unit="US dollars", shown=money)
_TOKENS_IN = _Measure(title="Tokens in", of="case", unit="", finest=1.0, shown=_count)
_TOKENS_OUT = _Measure(title="Tokens out", of="case", unit="", finest=1.0, shown=_count)


def _histogram(values: Sequence[float], measure: _Measure) -> Histogram:
    """How many of `values` lie where. A few far above the others share the last bar, which says so."""
    shown, factor = measure.shown, measure.per_unit
    half, most = percentile(values, 50) or 0.0, percentile(values, 95) or 0.0
    end = max(values) if max(values) <= 2.5 * most else 1.5 * most
    step = max(measure.finest, _round_up(end / factor / _BINS) * factor)
    bins = floor(end / step) + 1
    beyond = max(values) >= bins * step
    counts = [0] * (bins + beyond)
    for value in values:
        counts[min(int(value / step), len(counts) - 1)] += 1
    width = (WIDTH - _LEFT - _RIGHT) / len(counts)
    y_step = max(1.0, _round_up(max(counts) / 3))
    top = ceil(max(counts) / y_step) * y_step

    def x(value: float) -> float:
        return _LEFT + min(value / step, len(counts)) * width

    def y(count: float) -> float:
        return _TOP + _PLOT * (1 - count / top)

    def told(number: int) -> str:
        span = f"{shown(number * step)} or more" if beyond and number == bins else None
        return (
            f"{span or f'{shown(number * step)} to {shown((number + 1) * step)}'}: {plural(counts[number], measure.of)}"
        )

    tick = _round_up(bins * step / factor / 5) * factor
    x_ticks = [Tick(at=x(at), label=f"{at / factor:,g}") for at in _steps(tick, bins * step)]
    if beyond:
        x_ticks = [each for each in x_ticks if each.at < x(bins * step) - 34]
        x_ticks.append(Tick(at=x((bins + 0.5) * step), label="more"))
    marks = [(half, "p50", _TOP - 22.0), (most, "p95", _TOP - 8.0)]
    return Histogram(
        title=measure.title,
        summary=f"{plural(len(values), measure.of)}, half of them up to {shown(half)}, 95 percent up to {shown(most)}, "
        f"the highest {shown(max(values))}",
        axis=", ".join(filter(None, (measure.title.lower(), measure.unit))),
        bars=tuple(
            Rect(x=x(n * step) + 0.5, y=y(count), width=max(1.0, width - 1), height=_PLOT * count / top, told=told(n))
            for n, count in enumerate(counts)
            if count
        ),
        x_ticks=tuple(x_ticks),
        y_ticks=tuple(Tick(at=y(count), label=f"{count:,.0f}") for count in _steps(y_step, top)),
        marks=tuple(
            Mark(at=x(at), y=y_, label=f"{label} {shown(at)}", ends=x(at) > WIDTH * 0.6) for at, label, y_ in marks
        ),
    )


class _Bar(NamedTuple):
    """A bar that is wanted: its parts are sizes, and what each stands for."""

    label: str
    value: str
    parts: tuple[tuple[float, str], ...]

    @property
    def size(self) -> float:
        return sum(size for size, _ in self.parts)


def _latency_bars(groups: Sequence[Group], labels: Sequence[str]) -> Iterator[Bars]:
    found = []
    for group, label in zip(groups, labels, strict=True):
        half, most = percentile(group.latencies, 50), percentile(group.latencies, 95)
        if half is not None and most is not None:
            halves, mosts = milliseconds(half), milliseconds(most)
            found.append(_Bar(label, f"{halves}, {mosts}", ((half, halves), (most - half, mosts))))
    yield from _bars("Latency by job and variant", found, legend=("p50", "up to p95"))


def _cost_bars(groups: Sequence[Group], labels: Sequence[str]) -> Iterator[Bars]:
    found = []
    for group, label in zip(groups, labels, strict=True):
        if group.costs:
            cost = sum(group.costs)
            found.append(_Bar(label, money(cost), ((cost, money(cost)),)))
    yield from _bars("Cost by job and variant", found)


def _token_bars(groups: Sequence[Group], labels: Sequence[str]) -> Iterator[Bars]:
    found = []
    for group, label in zip(groups, labels, strict=True):
        if group.tokens_in:
            parts = [(total, _count(total)) for total in (sum(group.tokens_in), sum(group.tokens_out))]
            found.append(_Bar(label, ", ".join(told for _, told in parts), tuple(parts)))
    yield from _bars("Tokens by job and variant", found, legend=("in", "out"))


def _bars(title: str, found: Sequence[_Bar], *, legend: tuple[str, ...] = ()) -> Iterator[Bars]:
    """The longest of the bars; nothing if none has a length."""
    longest = max((bar.size for bar in found), default=0)
    if not longest:
        return
    drawn = sorted(found, key=lambda bar: -bar.size)[:_MOST_BARS]
    left_out = len(found) - len(drawn)
    yield Bars(
        title=title,
        summary="; ".join(f"{bar.label}: {bar.value}" for bar in drawn),
        rows=tuple(
            BarRow(
                label=_middle_cut(bar.label),
                whole_label=bar.label,
                value=bar.value,
                y=number * _BAR_ROW + 12,
                rects=tuple(_rects(bar, _BAR_WIDTH / longest, number * _BAR_ROW + 17, legend or ("",))),
            )
            for number, bar in enumerate(drawn)
        ),
        height=len(drawn) * _BAR_ROW,
        legend=tuple(zip(_KINDS, legend, strict=False)),
        left_out=f"and {left_out:,} with less" if left_out else "",
    )


def _rects(bar: _Bar, scale: float, y: float, names: Sequence[str]) -> Iterator[Rect]:
    x = 0.0
    for kind, name, (size, told) in zip(_KINDS, names, bar.parts, strict=False):
        yield Rect(x=x, y=y, width=size * scale, height=10, told=f"{bar.label}: {told} {name}".strip(), kind=kind)
        x += size * scale


def _labels(groups: Sequence[Group]) -> list[str]:
    one_job = len({group.job for group in groups}) == 1
    return [
        group.variant if one_job and group.variant else ", ".join(filter(None, (group.job, group.variant)))
        for group in groups
    ]


def _middle_cut(label: str) -> str:
    """A label that fits: what tells variants apart is as often at its end as at its start."""
    half = _LONGEST_LABEL // 2
    return label if len(label) <= _LONGEST_LABEL else f"{label[:half]}…{label[-half + 1 :]}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten: what people count in."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** floor(log10(value))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= value * 0.999_999)


def _steps(step: float, end: float) -> list[float]:
    return [step * number for number in range(floor(end / step + 1e-9) + 1)]
