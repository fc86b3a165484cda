"""What the charts of the HTML report show: distributions and sums, as positions and labels for the template to draw.

Lengths are in the units of the drawing, which is `WIDTH` wide. Everything is known before the first byte of the page
is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor, log10
from typing import TYPE_CHECKING, NamedTuple

from runner.console import latency, money
from runner.records.figures import Distribution
from runner.records.row_facts import cost_of
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.records import Row
    from runner.records.figures import Figures
    from runner.running.summary import Summary

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
class Spread:
    """How cost and tokens are spread over rows."""

    costs: Distribution = field(default_factory=Distribution)  # USD, of rows whose price is known
    tokens_in: Distribution = field(default_factory=Distribution)
    tokens_out: Distribution = field(default_factory=Distribution)

    def add(self, row: Row) -> None:
        cost = cost_of(row)
        if cost is not None:
            self.costs.add(cost)
        if row["usage"] is not None:
            self.tokens_in.add(row["usage"]["input_tokens"])
            self.tokens_out.add(row["usage"]["output_tokens"])


class Group(NamedTuple):
    """The figures of a job, or of one variant of it."""

    job: str
    variant: str
    figures: Figures


def _groups(summary: Summary) -> list[Group]:
    return [
        Group(job.name, label.removeprefix("model="), figures)  # that a model is one need not be said
        for job in summary.jobs.values()
        for label, figures in (job.variants or {"": job.figures}).items()
    ]


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


def drawings(summary: Summary, spread: Spread) -> Iterator[Histogram | Bars]:
    """The charts that say something about a run: by job and variant if there are several, else by case."""
    groups = _groups(summary)
    if latencies := summary.figures.latencies:
        yield _histogram(latencies, _latency(latencies))
    if len(groups) > 1:
        labels = _labels(groups)
        yield from _latency_bars(groups, labels)
        yield from _cost_bars(groups, labels)
        yield from _token_bars(groups, labels)
        return
    if spread.costs.highest:
        yield _histogram(spread.costs, _COST)
    if spread.tokens_out:
        yield _histogram(spread.tokens_in, _TOKENS_IN)
        yield _histogram(spread.tokens_out, _TOKENS_OUT)


def _latency(values: Distribution) -> _Measure:
    unit, per_unit = ("seconds", 1000.0) if (values.highest or 0) >= 2000 else ("milliseconds", 1.0)
    return _Measure(title="Latency", of="answer", unit=unit, per_unit=per_unit, finest=1.0, shown=latency)


def _count(value: float) -> str:
    return f"{value:,.0f}"


_COST = _Measure(title="Cost", of="case", unit="US dollars", shown=money)
_TOKENS_IN = _Measure(title="Tokens in", of="case", unit="", finest=1.0, shown=_count)
_TOKENS_OUT = _Measure(title="Tokens out", of="case", unit="", finest=1.0, shown=_count)


class _Bins(NamedTuple):
    """How many values lie in each span of `step`; if there are some `beyond`, the last one counts these."""

    step: float
    counts: list[int]
    beyond: bool

    @property
    def end(self) -> float:
        """Where the spans of `step` end."""
        return (len(self.counts) - self.beyond) * self.step

    def x(self, value: float) -> float:
        return _LEFT + min(value / self.step, len(self.counts)) * self.width

    @property
    def width(self) -> float:
        """Of a bar, with what is left free beside it."""
        return (WIDTH - _LEFT - _RIGHT) / len(self.counts)

    def told(self, number: int, measure: _Measure) -> str:
        """What a bar stands for, in words."""
        start, end = measure.shown(number * self.step), measure.shown((number + 1) * self.step)
        is_rest = self.beyond and number == len(self.counts) - 1
        return f"{start} {'or more' if is_rest else f'to {end}'}: {plural(self.counts[number], measure.of)}"


def _bins(values: Distribution, measure: _Measure) -> _Bins:
    most, highest = values.percentile(95) or 0.0, values.highest or 0.0
    end = highest if highest <= 2.5 * most else 1.5 * most
    step = max(measure.finest, _round_up(end / measure.per_unit / _BINS) * measure.per_unit)
    spans = floor(end / step) + 1
    beyond = highest >= spans * step
    counts = [0] * (spans + beyond)
    for value, count in values:
        counts[min(int(value / step), len(counts) - 1)] += count
    return _Bins(step, counts, beyond)


def _histogram(values: Distribution, measure: _Measure) -> Histogram:
    """How many of `values` lie where. A few far above the others share the last bar, which says so."""
    shown = measure.shown
    half, most, highest = values.percentile(50) or 0.0, values.percentile(95) or 0.0, values.highest or 0.0
    bins = _bins(values, measure)
    y_step = max(1.0, _round_up(max(bins.counts) / 3))
    top = ceil(max(bins.counts) / y_step) * y_step

    def y(count: float) -> float:
        return _TOP + _PLOT * (1 - count / top)

    return Histogram(
        title=measure.title,
        summary=f"{plural(len(values), measure.of)}, half of them up to {shown(half)}, 95 percent up to {shown(most)}, "
        f"the highest {shown(highest)}",
        axis=", ".join(filter(None, (measure.title.lower(), measure.unit))),
        bars=tuple(
            Rect(
                x=bins.x(number * bins.step) + 0.5,
                y=y(count),
                width=max(1.0, bins.width - 1),
                height=_PLOT * count / top,
                told=bins.told(number, measure),
            )
            for number, count in enumerate(bins.counts)
            if count
        ),
        x_ticks=tuple(_x_ticks(bins, measure)),
        y_ticks=tuple(Tick(at=y(count), label=_count(count)) for count in _steps(y_step, top)),
        marks=tuple(
            Mark(at=bins.x(value), y=y_, label=f"{name} {shown(value)}", ends=bins.x(value) > WIDTH * 0.6)
            for value, name, y_ in ((half, "p50", _TOP - 22.0), (most, "p95", _TOP - 8.0))
        ),
    )


def _x_ticks(bins: _Bins, measure: _Measure) -> Iterator[Tick]:
    factor = measure.per_unit
    for at in _steps(_round_up(bins.end / factor / 5) * factor, bins.end):
        if not bins.beyond or bins.x(at) < bins.x(bins.end) - 34:  # where the label of the last bar begins
            yield Tick(at=bins.x(at), label=_number(at / factor))
    if bins.beyond:
        yield Tick(at=bins.x(bins.end + bins.step / 2), label="more")


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
        half, most = (group.figures.latencies.percentile(percent) for percent in (50, 95))
        if half is not None and most is not None:
            halves, mosts = latency(half), latency(most)
            found.append(_Bar(label, f"{halves}, {mosts}", ((half, halves), (most - half, mosts))))
    yield from _bars("Latency by job and variant", found, legend=("p50", "up to p95"))


def _cost_bars(groups: Sequence[Group], labels: Sequence[str]) -> Iterator[Bars]:
    found = []
    for group, label in zip(groups, labels, strict=True):
        cost = group.figures.cost_usd
        if cost is not None:
            found.append(_Bar(label, money(cost), ((cost, money(cost)),)))
    yield from _bars("Cost by job and variant", found)


def _token_bars(groups: Sequence[Group], labels: Sequence[str]) -> Iterator[Bars]:
    found = []
    for group, label in zip(groups, labels, strict=True):
        usage = group.figures.usage
        if group.figures.tokens:
            parts = [(total, _count(total)) for total in (usage.input_tokens, usage.output_tokens)]
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


def _number(value: float) -> str:
    """With as many places as it needs, and no exponent."""
    return f"{value:,.9f}".rstrip("0").rstrip(".")


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 and 10 times a power of ten: what people count in."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** floor(log10(value))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= value * 0.999_999)


def _steps(step: float, end: float) -> list[float]:
    return [step * number for number in range(floor(end / step + 1e-9) + 1)]
