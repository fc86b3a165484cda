"""`thresholds:` of a job file: what its figures must come to. Read, found wrong in plain words, and judged."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from runner import times
from runner.errors import Place
from runner.paths import shown
from runner.records import Threshold
from runner.words import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.records.figures import Figures

Kind = Literal["share", "seconds", "dollars", "count"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdVerdict:
    """A threshold and what came of it. `found` says why where there is no figure, and then it does not hold."""

    name: str
    wanted: str  # as `< 8s`
    found: str  # as `9.31s`
    held: bool
    path: str  # of the job file
    line: int

    @property
    def told(self) -> str:
        return f"{self.name} is {self.found}, wanted {self.wanted}"

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


# --- reading ---------------------------------------------------------------------------------------------------------

_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
}
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_WRITTEN = re.compile(r"(?P<operator><=|>=|==|<|>) *(?P<amount>.+)")
_AMOUNTS: Final[Mapping[Kind, re.Pattern[str]]] = {
    "share": re.compile(rf"({_NUMBER}) ?(%?)"),
    "seconds": re.compile(rf"({_NUMBER}) ?(ms|s|m|h)"),
    "dollars": re.compile(rf"\$? ?({_NUMBER})"),
    "count": re.compile(rf"({_NUMBER})"),
}
_MOST: Final[Mapping[Kind, float]] = {"share": 1, "seconds": math.inf, "dollars": math.inf, "count": math.inf}


def parse(name: str, value: object, place: Place) -> Threshold | None:
    """One entry of `thresholds:`; None if it is not one as the schema wants it."""
    written = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if written is None or name not in _MEASURES:
        return None
    amount = _AMOUNTS[_MEASURES[name].kind].fullmatch(written["amount"])
    if amount is None:
        return None
    return Threshold(
        name=name,
        comparison=written["operator"],
        limit=_limit(*amount.groups()),
        wanted=f"{written['operator']} {written['amount']}",
        place=place,
    )


def _limit(number: str, unit: str = "") -> float:
    """The nearest float to what is written, as that of a division is: so that 0.7% and 7 of 1000 are the same."""
    match unit:
        case "":
            return float(number)
        case "%":
            return round(float(number) / 100, 12)
        case _:
            return round(times.seconds(number + unit), 9)


# --- what is wrong with one ------------------------------------------------------------------------------------------


def explain(name: str, value: Any) -> tuple[str, str]:
    """What is wrong with the value of a threshold that does not fit the schema, and what to write."""
    kind, example = _MEASURES[name].kind, _MEASURES[name].example
    path = f"`thresholds.{name}`"
    if value is None or value == "":
        return f"{path} has no value", f'write `"{example}"`, say'
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    found = re.fullmatch(r"\s*(?P<operator>[<>=≤≥!~]*)\s*(?P<amount>[^<>=≤≥!~]*?)\s*", text)
    amount = _as_amount(found["amount"], kind) if found else None
    if found is None or amount is None:
        return f"{path} is no comparison with {_NOUNS[kind]}", f'write `"{example}"`, say'
    meant = {"=>": ">=", "≥": ">=", "=<": "<=", "≤": "<=", "=": "==", "===": "=="}.get(found["operator"])
    comparison = found["operator"] if found["operator"] in _COMPARISONS else meant or example.split()[0]
    hint = _advice(name, f"{comparison} {amount}")
    if not found["operator"]:
        return f"{path} does not say how to compare: {shorten(text)}", hint
    if comparison != found["operator"]:
        return f"{path} cannot compare with `{found['operator']}`", f"{hint}; what can: {', '.join(_COMPARISONS)}"
    if kind == "seconds":
        return f"{path} needs a duration with its unit, not {shorten(found['amount'])}", hint
    return f"{path} is no comparison with {_NOUNS[kind]}", hint


_NOWHERE: Final = Place("", 0, 0)  # of what nobody has written


def _advice(name: str, likely: str) -> str:
    """To write what was likely meant, or what stands for it where that would be refused in its turn."""
    threshold = parse(name, likely, _NOWHERE)
    assert threshold is not None, f"{likely} is written as the schema wants it"
    refused = futile(threshold) or ambiguous(threshold)
    return refused[1] if refused else f'write `"{likely}"`'


_NOUNS: Final[Mapping[Kind, str]] = {
    "share": "a share, as `0.95` or `95%`",
    "seconds": "a duration, as `8s`",
    "dollars": "US dollars, as `5`",
    "count": "a number",
}


def _as_amount(text: str, kind: Kind) -> str | None:
    """What was most likely meant, as it must be written."""
    if _AMOUNTS[kind].fullmatch(text):
        return text
    number = re.search(_NUMBER, text.replace(",", ""))
    if number is None:
        return None
    amount = float(number[0])
    match kind:
        case "seconds":
            return number[0] + ("ms" if amount >= 1000 else "s")
        case "share":
            return number[0] + ("%" if amount >= 1 or "cent" in text or "pct" in text else "")
        case _:
            return number[0]


def futile(threshold: Threshold) -> tuple[str, str] | None:
    """What is wrong with a threshold that decides nothing, whatever comes, and what to write; None if it does."""
    always = _always(threshold)
    if always is None:
        return None
    of_what = "from 0 to 1, or 0% to 100%" if _MEASURES[threshold.name].kind == "share" else "never less than 0"
    message = f"`{threshold.name} {threshold.wanted}` {'always holds' if always else 'can never hold'}: it is {of_what}"
    percent = parse(threshold.name, f"{threshold.wanted}%", threshold.place) if threshold.limit > 1 else None
    if percent is not None and _always(percent) is None:
        return message, f'did you mean `"{percent.wanted}"`?'
    return message, f'write `"{_MEASURES[threshold.name].example}"`, say'


def _always(threshold: Threshold) -> bool | None:
    """What a threshold comes to whatever the figure is; None if it depends on it."""
    most, limit = _MOST[_MEASURES[threshold.name].kind], threshold.limit
    # A figure that grows makes no comparison true and then false again, but for `==`.
    lowest, highest = (_COMPARISONS[threshold.comparison](figure, limit) for figure in (0, most))
    possible = 0 <= limit <= most if threshold.comparison == "==" else lowest or highest
    return None if possible and not (lowest and highest) else possible


def ambiguous(threshold: Threshold) -> tuple[str, str] | None:
    """What is wrong with a share of plain `1`, and what to write: it is all of them, though many mean 1%."""
    if _MEASURES[threshold.name].kind != "share" or threshold.limit != 1 or "%" in threshold.wanted:
        return None
    message = f"`{threshold.name} {threshold.wanted}` compares with all of them, not with 1%"
    likely, other = ("100%", "1%") if threshold.name == "pass_rate" else ("1%", "100%")
    return message, f'write `"{threshold.comparison} {likely}"`; if {other} is meant, write that'


# --- judging ---------------------------------------------------------------------------------------------------------


def judge(threshold: Threshold, figures: Figures) -> ThresholdVerdict:
    """Compare with what the cases of the job came to."""
    measure = _MEASURES[threshold.name]
    try:
        figure = measure.of(figures)
    except _UnknownError as why:
        found, held = f"not known: {why}", False
    else:
        found = _SHOWN[measure.kind](figure)
        if measure.kind == "share":  # which may be rounded
            found += f" ({round(figure * figures.cases):,} of {plural(figures.cases, 'case')})"
        held = _COMPARISONS[threshold.comparison](figure, threshold.limit)
    return ThresholdVerdict(
        name=threshold.name,
        wanted=threshold.wanted,
        found=found,
        held=held,
        path=shown(Path(threshold.place.path)),
        line=threshold.place.line,
    )


class _UnknownError(Exception):
    """There is no such figure, and why."""


def _share(count: int, figures: Figures) -> float:
    if not figures.cases:
        raise _UnknownError("there is no case")
    return count / figures.cases


def _cost(figures: Figures) -> float:
    if figures.unpriced:
        raise _UnknownError(f"no price for {plural(figures.unpriced, 'reply', 'replies')} (--prices FILE gives one)")
    return round(figures.cost_usd or 0.0, 9)


def _tokens(count: int, figures: Figures) -> float:
    if figures.uncounted:
        raise _UnknownError(f"the service counted no tokens of {plural(figures.uncounted, 'reply', 'replies')}")
    return count


def _latency(percent: int) -> Callable[[Figures], float]:
    def seconds(figures: Figures) -> float:
        found = figures.latencies.percentile(percent)
        if found is None:
            raise _UnknownError("there is no reply")
        return found / 1000

    return seconds


def _first_token_latency(percent: int) -> Callable[[Figures], float]:
    def seconds(figures: Figures) -> float:
        found = figures.first_tokens.percentile(percent)
        if found is None:
            raise _UnknownError("no reply was streamed (`stream: true`)")
        return found / 1000

    return seconds


class _Measure(NamedTuple):
    kind: Kind
    example: str
    of: Callable[[Figures], float]


_MEASURES: Final[Mapping[str, _Measure]] = {
    "pass_rate": _Measure("share", ">= 0.95", lambda figures: _share(figures.passed, figures)),
    "error_rate": _Measure("share", "< 1%", lambda figures: _share(figures.errors, figures)),
    "p50_latency": _Measure("seconds", "< 3s", _latency(50)),
    "p95_latency": _Measure("seconds", "< 8s", _latency(95)),
    "p99_latency": _Measure("seconds", "< 20s", _latency(99)),
    "p50_first_token_latency": _Measure("seconds", "< 500ms", _first_token_latency(50)),
    "p95_first_token_latency": _Measure("seconds", "< 2s", _first_token_latency(95)),
    "cost": _Measure("dollars", "< 5", _cost),
    "cost_per_case": _Measure("dollars", "< 0.01", lambda figures: _share(1, figures) * _cost(figures)),
    "input_tokens": _Measure("count", "< 100000", lambda figures: _tokens(figures.usage.input_tokens, figures)),
    "output_tokens": _Measure("count", "< 100000", lambda figures: _tokens(figures.usage.output_tokens, figures)),
}


def _trimmed(number: str, *, places: int = 0) -> str:
    """Without zeros at the end, of which `places` stay."""
    whole, _, rest = number.partition(".")
    rest = rest.rstrip("0").ljust(places, "0")
    return f"{whole}.{rest}" if rest else whole


# With all their digits: what is wanted and what is found must not look the same where they differ.
_SHOWN: Final[Mapping[Kind, Callable[[float], str]]] = {
    "share": lambda share: f"{_trimmed(f'{share * 100:.2f}')}%",
    "seconds": lambda time: f"{time * 1000:.0f}ms" if time < 1 else f"{_trimmed(f'{time:,.3f}')}s",
    "dollars": lambda usd: f"${_trimmed(f'{usd:,.9f}', places=2)}",
    "count": lambda count: f"{count:,.0f}",
}
