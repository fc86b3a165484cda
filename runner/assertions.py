"""Assertions: (what was asserted, what came back) -> a verdict with a reason a person can act on. Pure functions."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import FailureCode
from runner.records import VerdictRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.records import Assertion, AssertionSpec, JudgementRecord

_Any = TypeVar("_Any", "Assertion", "AssertionSpec")
_EXCERPT = 200  # characters of a value or an output that a reason shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What assertions judge: the text of the last reply, what its calls took, and the case's variables."""

    output: str
    latency_ms: int = 0
    first_token_ms: int | None = None  # None where the reply was not streamed
    cost_usd: float | None = None  # None where the price is not known
    stop_reason: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    judgement: Callable[[Assertion], JudgementRecord | None] = lambda _: None  # what a model has said for an assertion


class UnjudgedError(Exception):
    """An assertion could not be evaluated, so there is no verdict. `message` says why, `hint` what to do."""

    def __init__(self, message: str, *, hint: str | None = None, code: FailureCode = FailureCode.ASSERTION) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


def evaluate(assertion: Assertion, answer: Answer) -> VerdictRecord:
    """Judge one answer. The reason says what was expected and what was found. Raises UnjudgedError."""
    holds, found = _CHECKS[assertion.type](assertion, answer)
    passed = holds != assertion.negated
    expectation = _EXPECTATIONS[assertion.type](assertion)
    expected = f"output not {expectation}" if assertion.negated else f"output {expectation}"
    actual = None if passed else found()
    return VerdictRecord(
        type=assertion.name,
        passed=passed,
        reason=f"expected {expected}: {'holds' if passed else actual}",
        expected=expected,
        actual=actual,
        score=None,
        value=assertion.value,
        threshold=assertion.threshold,
        line=assertion.place.line,
    )


def flat(assertions: Sequence[_Any]) -> Iterator[_Any]:
    """The assertions and the parts of sets."""
    for assertion in assertions:
        yield assertion
        yield from assertion.parts


def problem_with(assertion: Assertion) -> str | None:
    """Why a rendered assertion can't be evaluated at all, or None. Known before anything is sent."""
    return pattern_problem(_value(assertion)) if assertion.type == "regex" else None


def pattern_problem(pattern: str) -> str | None:
    """Why `pattern` is not a regular expression, or None if it is one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what may mean something else in a later Python
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{excerpt(pattern)} is not a regular expression: {error}"
    return None


def excerpt(text: str, around: int = 0) -> str:
    """`text` quoted, cut to what a person wants to read; `around` is the offset that must be in view."""
    start = max(0, min(around - _EXCERPT // 4, len(text) - _EXCERPT))
    cut = text[start : start + _EXCERPT].replace("\n", "\\n").replace("\r", "\\r")
    return f"{'…' if start else ''}'{cut}'{'…' if start + _EXCERPT < len(text) else ''}"


# Whether what was asserted holds, and what says what was found instead, if that is wanted: mostly it is not.
_Finding = tuple[bool, "Callable[[], str]"]


def _contains(assertion: Assertion, answer: Answer) -> _Finding:
    at = answer.output.find(_value(assertion))
    return at >= 0, lambda: f"got {excerpt(answer.output, max(at, 0))}"


def _equals(assertion: Assertion, answer: Answer) -> _Finding:
    expected, output = _value(assertion), answer.output

    def found() -> str:
        if expected == output:
            return f"got {excerpt(output)}"
        differs = next((i for i, (a, b) in enumerate(zip(expected, output, strict=False)) if a != b), None)
        at = min(len(expected), len(output)) if differs is None else differs
        return f"got {excerpt(output, at)}" + (f", which differs from character {at + 1} on" if at else "")

    return expected == output, found


def _regex(assertion: Assertion, answer: Answer) -> _Finding:
    match = re.search(_value(assertion), answer.output)
    if match is None:
        return False, lambda: f"got {excerpt(answer.output)}"
    return True, lambda: f"{excerpt(match.group())} matches at character {match.start() + 1}"


def _latency(assertion: Assertion, answer: Answer) -> _Finding:
    assert assertion.threshold is not None
    return answer.latency_ms <= assertion.threshold * 1000, lambda: f"took {answer.latency_ms / 1000:.3g}s"


_CHECKS: dict[str, Callable[[Assertion, Answer], _Finding]] = {
    "contains": _contains,
    "equals": _equals,
    "regex": _regex,
    "latency": _latency,
}

_EXPECTATIONS: dict[str, Callable[[Assertion], str]] = {
    "contains": lambda assertion: f"to contain {excerpt(_value(assertion))}",
    "equals": lambda assertion: f"to equal {excerpt(_value(assertion))}",
    "regex": lambda assertion: f"to match {excerpt(_value(assertion))}",
    "latency": lambda assertion: f"within {assertion.threshold:g}s",
}


def _value(assertion: Assertion) -> str:
    assert isinstance(assertion.value, str), "the schema asks a text of every type but latency"
    return assertion.value
