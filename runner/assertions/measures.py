"""Types that compare a number of the answer with a bound: word-count, latency, first-token-latency, cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, threshold_of
from runner.assertions.wording import counted, excerpt

if TYPE_CHECKING:
    from runner.records import Assertion

# --- word-count ------------------------------------------------------------------------------------------------------

_MOST_WORDS: Final = 1_000_000_000  # as in the schema, which sees no numbers that templates give


def _word_count(assertion: Assertion, answer: Answer) -> Finding:
    least, most = _bounds(assertion)
    words = len(answer.output.split())
    holds = (least is None or words >= least) and (most is None or words <= most)
    return Finding(holds, lambda: f"it has {words:,}: {excerpt(answer.output)}")


def _bounds(assertion: Assertion) -> tuple[int | None, int | None]:
    """The least and the most words. Raises ValueError for a text that is no whole number."""
    value = assertion.value
    if isinstance(value, dict):
        return _whole(value.get("min")), _whole(value.get("max"))
    return _whole(value), _whole(value)


def _whole(value: Any) -> int | None:
    """Templates give texts."""
    return None if value is None else int(value)


def _expected_words(assertion: Assertion) -> str:
    match _bounds(assertion):
        case int(least), None:
            return f"to have at least {counted(least, 'word')}"
        case None, int(most):
            return f"to have at most {counted(most, 'word')}"
        case least, most if least == most:
            return f"to have {counted(least or 0, 'word')}"
        case least, most:
            return f"to have {least:,} to {most:,} words"


def _fault_of_bounds(assertion: Assertion) -> Fault | None:
    try:
        least, most = _bounds(assertion)
    except ValueError:
        return Fault(f"`{assertion.name}` takes whole numbers, not {excerpt(str(assertion.value))}")
    if not all(0 <= bound <= _MOST_WORDS for bound in (least, most) if bound is not None):
        return Fault(f"`{assertion.name}` takes whole numbers from 0 to {_MOST_WORDS:,}")
    if least is not None and most is not None and least > most:
        return Fault(f"`min` is {least:,} and `max` is {most:,}: no text has so many words")
    return None


# --- latencies -------------------------------------------------------------------------------------------------------


def _latency(assertion: Assertion, answer: Answer) -> Finding:
    assert assertion.threshold is not None
    return Finding(answer.latency_ms <= assertion.threshold * 1000, lambda: f"took {answer.latency_ms / 1000:.3g}s")


def _first_token_latency(assertion: Assertion, answer: Answer) -> Finding:
    first_token_ms = answer.first_token_ms
    if first_token_ms is None:
        raise UnjudgedError(
            "the reply was not streamed, so nobody knows when its first text came",
            hint="set `stream: true`, and call the case again with --fresh",
        )
    return Finding(
        first_token_ms <= threshold_of(assertion) * 1000,
        lambda: f"the first text came after {first_token_ms / 1000:.3g}s",
    )


# --- cost ------------------------------------------------------------------------------------------------------------


def _cost(assertion: Assertion, answer: Answer) -> Finding:
    cost = answer.cost_usd
    if cost is None:
        raise UnjudgedError(
            "the price of the model is not known, or the service gave no token counts",
            hint="give its prices with --prices FILE",
        )
    return Finding(cost <= threshold_of(assertion), lambda: f"it cost {_dollars(cost)}")


def _dollars(amount: float) -> str:
    return f"${amount:.9f}".rstrip("0").rstrip(".")


KINDS = {
    "word-count": Kind(
        check=_word_count,
        expectation=_expected_words,
        fault=_fault_of_bounds,
        advice="write a number, or `{min: 20, max: 100}`",
    ),
    "latency": Kind(check=_latency, expectation=lambda assertion: f"within {assertion.threshold:g}s"),
    "first-token-latency": Kind(
        check=_first_token_latency, expectation=lambda assertion: f"to begin within {threshold_of(assertion):g}s"
    ),
    "cost": Kind(check=_cost, expectation=lambda assertion: f"to cost at most {_dollars(threshold_of(assertion))}"),
}
