"""Types that a model judges: similar and llm-rubric. What it said was asked before, see runner/judging/."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.assertions.kinds import Answer, Finding, Kind, UnjudgedError, text_of, threshold_of
from runner.assertions.likeness import two_digits
from runner.assertions.wording import excerpt, listing, shortened
from runner.errors import NO_ROW_HINT, FailureCode

if TYPE_CHECKING:
    from runner.records import Assertion, JudgementRecord

_SIMILARITY = 0.75  # promptfoo's default


def _judgement(assertion: Assertion, answer: Answer) -> JudgementRecord:
    judgement = answer.judgement(assertion)
    if judgement is None:  # of a replay, which asks nobody
        raise UnjudgedError("no model has judged this reply", hint=NO_ROW_HINT, code=FailureCode.NO_ROW)
    error = judgement["error"]
    if error is not None:
        message = f"{judgement['model']}: {error['message']}"
        raise UnjudgedError(message, hint=error["hint"], code=FailureCode(error["code"]), call=error)
    return judgement


def _similar(assertion: Assertion, answer: Answer) -> Finding:
    score = _judgement(assertion, answer)["score"] or 0.0
    return Finding(
        score >= threshold_of(assertion, _SIMILARITY),
        lambda: f"it is alike to {two_digits(score)}: got {excerpt(answer.output)}",
        score,
    )


def _expected_likeness(assertion: Assertion) -> str:
    value = assertion.value
    text = excerpt(value) if isinstance(value, str) else f"any of {listing(value)}"
    return f"to be similar to {text} (at least {threshold_of(assertion, _SIMILARITY):g})"


def _rubric(assertion: Assertion, answer: Answer) -> Finding:
    judgement = _judgement(assertion, answer)
    score = judgement["score"] or 0.0
    holds = judgement["passed"] is True and score >= threshold_of(assertion, 0.0)

    def found() -> str:
        reason = f": {shortened(judgement['reason'])}" if judgement["reason"] else ""
        verdict = "yes" if judgement["passed"] else "no"
        return f"{judgement['model']} says {verdict} ({two_digits(score)}){reason}; got {excerpt(answer.output)}"

    return Finding(holds, found, score)


def _expected_verdict(assertion: Assertion) -> str:
    least = "" if assertion.threshold is None else f" (at least {assertion.threshold:g})"
    return f"to satisfy the rubric {excerpt(text_of(assertion))}{least}"


KINDS = {
    "similar": Kind(check=_similar, expectation=_expected_likeness),
    "llm-rubric": Kind(check=_rubric, expectation=_expected_verdict),
}
