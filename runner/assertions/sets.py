"""assert-set: several assertions, of which all must hold, or as many as a threshold says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.assertions.kinds import Answer, Finding, Kind, UnjudgedError
from runner.assertions.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.records import Assertion, VerdictRecord

_ROUNDING = 1e-9  # four of five weights of 0.3 are not quite 0.8


def kind(evaluate: Callable[[Assertion, Answer], VerdictRecord]) -> Kind:
    """The type; `evaluate` judges its parts."""

    def check(assertion: Assertion, answer: Answer) -> Finding:
        parts = [_part(part, answer) for part in assertion.assertions]
        weights = [part.weight for part in assertion.assertions]
        held = sum(weight for weight, part in zip(weights, parts, strict=True) if part["passed"])
        share = held / sum(weights)
        threshold = 1.0 if assertion.threshold is None else assertion.threshold
        return Finding(share >= threshold - _ROUNDING, lambda: _found(parts, share), share, parts)

    def _part(part: Assertion, answer: Answer) -> VerdictRecord:
        try:
            return evaluate(part, answer)
        except UnjudgedError as error:
            message = f"its `{part.name}` (line {part.place.line}) could not be evaluated: {error.message}"
            raise UnjudgedError(message, hint=error.hint, code=error.code, call=error.call) from None

    return Kind(check=check, expectation=_expected)


def _expected(assertion: Assertion) -> str:
    number = len(assertion.assertions)
    if assertion.threshold is None:
        return f"to satisfy all of {number} assertions"
    return f"to satisfy at least {assertion.threshold:.4g} of the weight of {number} assertions"


def _found(parts: list[VerdictRecord], share: float) -> str:
    """The share that holds, and why the first of the others does not."""
    failed = [part for part in parts if not part["passed"]]
    told = f"{len(parts) - len(failed)} of {len(parts)} hold ({share:.4g} of the weight)"
    if not failed:
        return told
    first = failed[0]
    return f"{told}; {first['type']} (line {first['line']}) failed: {shortened(first['reason'])}"
