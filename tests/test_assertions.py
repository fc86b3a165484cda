"""Verdicts and the reasons they give."""

from __future__ import annotations

from typing import Any

import pytest

from runner.assertions import Answer, evaluate, problem_with
from runner.errors import Place
from runner.records import Assertion

PLACE = Place("job.yaml", 7, 5)


def judged(kind: str, output: str = "", *, latency_ms: int = 0, **fields: Any) -> tuple[bool, str]:
    negated = kind.startswith("not-")
    assertion = Assertion(type=kind.removeprefix("not-"), place=PLACE, negated=negated, **fields)
    verdict = evaluate(assertion, Answer(output=output, latency_ms=latency_ms))
    assert verdict["type"] == kind
    assert verdict["line"] == 7
    return verdict["passed"], verdict["reason"]


@pytest.mark.parametrize(
    ("kind", "value", "output", "holds"),
    [
        ("contains", "b", "abc", True),
        ("contains", "B", "abc", False),
        ("contains", "", "abc", True),
        ("equals", "abc", "abc", True),
        ("equals", "abc", "abc\n", False),
        ("regex", "^b", "a\nb", False),
        ("regex", "(?m)^b", "a\nb", True),
        ("regex", "b.", "abc", True),
    ],
)
def test_each_type_and_its_opposite(kind: str, value: str, output: str, holds: bool) -> None:
    assert judged(kind, output, value=value)[0] is holds
    assert judged(f"not-{kind}", output, value=value)[0] is not holds


@pytest.mark.parametrize(("latency_ms", "holds"), [(1999, True), (2000, True), (2001, False)])
def test_latency_is_within_its_threshold(latency_ms: int, holds: bool) -> None:
    assert judged("latency", latency_ms=latency_ms, threshold=2.0)[0] is holds
    assert judged("not-latency", latency_ms=latency_ms, threshold=2.0)[0] is not holds


def test_reasons_say_what_was_expected_and_what_came() -> None:
    assert judged("contains", "no", value="yes")[1] == "expected output to contain 'yes': got 'no'"
    assert judged("not-contains", "a yes", value="yes")[1] == "expected output not to contain 'yes': got 'a yes'"
    assert judged("equals", "abX", value="abc")[1].endswith("got 'abX', which differs from character 3 on")
    assert judged("not-regex", "say yes", value="y.s")[1].endswith("'yes' matches at character 5")
    assert judged("equals", "X", value="abc")[1].endswith("got 'X'")
    assert judged("regex", "a\nb", value=r"\bc")[1] == r"expected output to match '\bc': got 'a\nb'"
    assert judged("latency", latency_ms=2500, threshold=2.0)[1] == "expected output within 2s: took 2.5s"


def test_a_long_output_is_cut_around_the_place_that_matters() -> None:
    output = "x" * 5000 + "Z" + "x" * 5000
    reason = judged("equals", output, value="x" * 10_001)[1]
    assert "Z" in reason.partition(": got ")[2]
    assert len(reason) < 600


def test_a_wrong_regular_expression_is_known_beforehand() -> None:
    wrong = problem_with(Assertion(type="regex", place=PLACE, value="(a"))
    assert wrong is not None
    assert "'(a'" in wrong
    assert problem_with(Assertion(type="regex", place=PLACE, value="a")) is None
    assert problem_with(Assertion(type="contains", place=PLACE, value="(a")) is None
