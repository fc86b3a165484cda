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
from runner.assertions.kinds import Answer, Fault, Kind, UnjudgedError, flat
from runner.assertions.patterns import pattern_problem
from runner.assertions.structured_reply import ended_early
from runner.assertions.wording import excerpt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.records import Assertion, VerdictRecord

__all__ = [
    "Answer",
    "Fault",
    "UnjudgedError",
    "ended_early",
    "evaluate",
    "evaluate_and_parse",
    "excerpt",
    "fault_of",
    "flat",
    "pattern_problem",
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


def fault_of(assertion: Assertion) -> Fault | None:
    """Why a rendered assertion can't be evaluated at all, and what to do, or None. Known before anything is sent."""
    kind = _KINDS[assertion.type]
    try:
        fault = kind.fault(assertion)
    except RecursionError:
        fault = Fault(f"the value of `{assertion.name}` is JSON that is nested too deeply")
    return fault and fault._replace(hint=fault.hint or kind.advice)


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
