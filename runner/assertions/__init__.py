"""Assertions: (what was asserted, what came back) -> a verdict with a reason a person can act on.

Each module has the types of one family, each type as a `Kind`: how it checks, and how it words what it found. All are
pure functions, except that `python` has the code of the job run, in a process of its own. Libraries are imported where
a type needs one. Except for `python` no check takes much longer than to read the output, see time_limit.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.assertions import (
    endings,
    jsons,
    judged,
    likeness,
    measures,
    patterns,
    python,
    sets,
    structured_reply,
    texts,
)
from runner.assertions.kinds import Answer, Kind, UnjudgedError, flat
from runner.assertions.patterns import pattern_problem
from runner.assertions.structured_reply import ended_early
from runner.assertions.wording import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.records import Assertion, VerdictRecord

__all__ = [
    "Answer",
    "UnjudgedError",
    "advice",
    "ended_early",
    "evaluate",
    "evaluate_and_parse",
    "excerpt",
    "flat",
    "pattern_problem",
    "problem_with",
]


def evaluate(assertion: Assertion, answer: Answer) -> VerdictRecord:
    """Judge one answer. The reason says what was expected and what was found. Raises UnjudgedError."""
    return evaluate_and_parse(assertion, answer)[0]


def evaluate_and_parse(assertion: Assertion, answer: Answer) -> tuple[VerdictRecord, Any]:
    """As `evaluate`, with the answer as a JSON value where it holds to the job's `response_schema`; else with None."""
    kind = _KINDS[assertion.type]
    try:
        holds, found, score, parts, value = kind.check(assertion, answer)
        passed = holds != assertion.negated
        actual = None if passed else found()
    except RecursionError:
        raise UnjudgedError("the output is JSON that is nested too deeply") from None
    except MemoryError:
        raise UnjudgedError("it takes more memory than there is") from None
    expectation = kind.expectation(assertion)
    expected = f"output not {expectation}" if assertion.negated else f"output {expectation}"
    verdict: VerdictRecord = {  # a literal takes a third of the time that a call of VerdictRecord does
        "type": assertion.name,
        "passed": passed,
        "reason": f"expected {expected}: {'holds' if passed else actual}",
        "expected": expected,
        "actual": actual,
        "score": score,
        "value": assertion.value,
        "threshold": assertion.threshold,
        "line": assertion.place.line,
    }
    if parts is not None:
        verdict["assertions"] = parts
    return verdict, value


def problem_with(assertion: Assertion) -> str | None:
    """Why a rendered assertion can't be evaluated at all, or None. Known before anything is sent."""
    try:
        return _KINDS[assertion.type].problem(assertion)
    except RecursionError:
        return f"the value of `{assertion.name}` is JSON that is nested too deeply"


def advice(assertion: Assertion) -> str | None:
    """What to do where there is a problem with an assertion."""
    return _KINDS[assertion.type].advice


_KINDS: Final[Mapping[str, Kind]] = {
    **texts.KINDS,
    **patterns.KINDS,
    **jsons.KINDS,
    **structured_reply.KINDS,
    **likeness.KINDS,
    **measures.KINDS,
    **endings.KINDS,
    **python.KINDS,
    **judged.KINDS,
    "assert-set": sets.kind(evaluate),
}
