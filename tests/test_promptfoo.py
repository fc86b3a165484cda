"""Held to promptfoo: the values and outputs of its documentation and of its tests, with the outcomes it gives them.

Where bedrock-run differs on purpose, a test at the end names it, and the README says why. Read in November 2026, from
site/docs/configuration/expected-outputs/*.md, src/assertions/*.ts and test/assertions/*.test.ts of promptfoo, and from
README.md and test/tests.ts of promptfoo/js-rouge.
"""

from __future__ import annotations

from typing import Any

import pytest

from runner.assertions import Answer, UnjudgedError, evaluate, fault_of
from runner.errors import Place
from runner.records import Assertion

PLACE = Place("job.yaml", 7, 5)


def holds(kind: str, value: Any, output: str, threshold: float | None = None, **answer: Any) -> bool:
    assertion = Assertion(
        type=kind.removeprefix("not-"),
        place=PLACE,
        negated=kind.startswith("not-"),
        value=value,
        threshold=threshold,
    )
    assert fault_of(assertion) is None
    return evaluate(assertion, Answer(output=output, **answer))["passed"]


COORDINATES = {
    "required": ["latitude", "longitude"],
    "type": "object",
    "properties": {
        "latitude": {"minimum": -90, "type": "number", "maximum": 90},
        "longitude": {"minimum": -180, "type": "number", "maximum": 180},
    },
}
DATE = {"type": "object", "properties": {"date": {"type": "string", "format": "date"}}, "required": ["date"]}
NESTED = '{"key": "value", "key2": {"key3": "value2", "key4": ["value3", "value4"]}}'
OPTIONS = ["option1", "option2", "option3"]


@pytest.mark.parametrize(
    ("kind", "value", "output", "expected"),
    [
        ("contains", "The expected substring", "See: The expected substring.", True),
        ("contains", "The expected substring", "See: the expected substring.", False),
        ("icontains", "The expected substring", "See: the EXPECTED substring.", True),
        ("contains-all", ["Value 1", "Value 2", "Value 3"], "Value 3, Value 2, Value 1", True),
        ("contains-all", ["1,000", "in stock"], "1,000 pieces in stock", True),
        ("contains-all", OPTIONS, "This output contains option1, option2, and option3", True),
        ("contains-all", OPTIONS, "This output contains only option1 and option2", False),
        ("contains-any", OPTIONS, "This output contains option1", True),
        ("contains-any", OPTIONS, "This output does not contain any option", False),
        ("contains-any", "option1,option2", "This output contains option2", True),
        ("contains-all", '"a, b", c', "a, b and c", True),
        ("contains-all", r'"say \"hi\""', 'say "hi"', True),
        ("contains-all", '"say ""hi""",,', 'say "hi"', True),
        ("icontains-any", OPTIONS, "OPTION3", True),
        ("icontains-all", "Option1, OPTION2", "option1 option2", True),
        ("not-contains-any", OPTIONS, "none", True),
        ("not-contains-all", OPTIONS, "option1", True),
        ("regex", "\\d{4}", "In 1999.", True),
        ("regex", "\\d{4}", "In 199.", False),
        ("starts-with", "Yes", "Yes, of course", True),
        ("starts-with", "Yes", "Oh Yes", False),
        ("not-starts-with", "Yes", "No", True),
        ("ends-with", "done.", "All done.", True),
        ("equals", "The expected output", "The expected output", True),
        ("equals", {"key": "value"}, '{"key": "value"}', True),
        ("equals", {"foo": "bar"}, '{"foo":"baz"}', False),
        ("equals", {"foo": "bar"}, "hello world", False),
        ("not-equals", {"foo": "bar"}, "hello world", True),
        ("not-equals", "hello world", "hello world", False),
        ("is-json", None, '{"key":"value"}', True),
        ("is-json", None, "Not valid JSON", False),
        ("not-is-json", None, "Not valid JSON", True),
        ("is-json", COORDINATES, '{"latitude": 80.123, "longitude": -1}', True),
        ("is-json", COORDINATES, '{"latitude": "high", "longitude": [-1]}', False),
        ("not-is-json", COORDINATES, '{"latitude": "high", "longitude": [-1]}', True),
        ("is-json", DATE, '{"date": "2021-08-29"}', True),
        ("is-json", DATE, '{"date": "not a date"}', False),
        ("contains-json", None, f"this is some other stuff \n\n {NESTED} \n\n blah blah", True),
        ("contains-json", None, f"this is some other stuff \n\n {NESTED} another {NESTED}\n\n blah blah", True),
        ("contains-json", None, "Not valid JSON", False),
        ("contains-json", COORDINATES, 'here\n\n```{"latitude": 80.123, "longitude": -1}```', True),
        ("contains-json", COORDINATES, 'here\n\n```{"latitude": "medium", "longitude": -1}```', False),
        ("not-contains-json", COORDINATES, 'here\n\n```{"latitude": "medium", "longitude": -1}```', True),
        ("word-count", 3, "one two three", True),
        ("word-count", "3", "one two three", True),
        ("word-count", {"min": 2, "max": 3}, "  one \n two\tthree ", True),
        ("word-count", {"min": 4}, "one two three", False),
        ("word-count", {"max": 2}, "one two three", False),
        ("not-word-count", {"max": 2}, "one two three", True),
        ("word-count", 0, "  ", True),
        ("python", "output[5:10] == 'Hello'", "12345Hello", True),
        ("python", "math.log10(len(output)) * 10", "12345Hello", True),
        ("not-python", "'error' in output", "fine", True),
    ],
)
def test_outcomes_are_promptfoos(kind: str, value: Any, output: str, expected: bool) -> None:
    assert holds(kind, value, output) is expected


@pytest.mark.parametrize(
    ("value", "threshold", "output", "expected"),
    [
        ("test", None, "test", True),
        ("test", None, "tast", True),
        ("test", 2, "tist", True),
        ("test", None, "completely different", False),
        ("test", 0, "tast", False),
        ("test!@#$", None, "test!@#$", True),
        ("kitten", 3, "sitting", True),
        ("kitten", 2, "sitting", False),
        ("hello world", 5, "hello there", True),
        ("color", None, "colour", True),
    ],
)
def test_levenshtein(value: str, threshold: float | None, output: str, expected: bool) -> None:
    assert holds("levenshtein", value, output, threshold) is expected


@pytest.mark.parametrize(
    ("value", "output", "score"),
    [
        ("the cat sat on the mat", "the cat sat on the mat", 1),
        ("the cat sat on the mat", "the cat sat", 2 / 3),
        ("hello world", "Hello World", 1),
        ("a a b b", "a a a b", 3 / 4),
        ("Beta. Alpha.", "Alpha. Beta.", 1),
        ("the CAT sat", "The cat", 4 / 5),
        ("12 000 items", "12,000 items", 2 / 5),
        ("police killed the gunman", "police kill the gunman", 3 / 4),
    ],
)
def test_rouge_n_has_the_scores_of_js_rouge(value: str, output: str, score: float) -> None:
    assertion = Assertion(type="rouge-n", place=PLACE, value=value)
    assert evaluate(assertion, Answer(output=output))["score"] == pytest.approx(score)


def test_rouge_n_holds_from_three_quarters_on() -> None:
    assert holds("rouge-n", "a a b b", "a a a b")
    assert not holds("rouge-n", "the cat sat on the mat", "the cat sat")
    assert holds("rouge-n", "the cat sat on the mat", "the cat sat", threshold=0.6)
    assert not holds("not-rouge-n", "hello world", "hello world", threshold=0.75)


def test_latency_and_cost_are_at_most_their_threshold() -> None:
    assert holds("latency", None, "", threshold=5, latency_ms=5000)
    assert not holds("latency", None, "", threshold=5, latency_ms=5001)
    assert holds("cost", None, "", threshold=0.001, cost_usd=0.001)
    assert not holds("cost", None, "", threshold=0.001, cost_usd=0.0011)
    assert holds("not-cost", None, "", threshold=0.001, cost_usd=0.0011)


@pytest.mark.parametrize(
    ("value", "stop_reason", "expected"),
    [
        ("stop", "end_turn", True),  # what promptfoo's provider for Anthropic makes of them
        ("stop", "stop_sequence", True),
        ("length", "max_tokens", True),
        ("tool_calls", "tool_use", True),
        ("content_filter", "refusal", True),
        ("Stop", "end_turn", True),
        ("length", "end_turn", False),
    ],
)
def test_finish_reasons(value: str, stop_reason: str, expected: bool) -> None:
    assert holds("finish-reason", value, "", stop_reason=stop_reason) is expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("I cannot assist with that", True),
        ("That would not be ethical", True),
        ("As an AI, I cannot...", True),
        ("", True),
        ("   \n\t  ", True),
        ("Here's how to accomplish that task...", False),
        ("I'm sorry to hear that.", False),
        ("I apologize, but I cannot assist with that request.", True),
        ("I apologize, but I refuse to help", True),
        ("Sorry, I decline that request", True),
        ("I apologize, but I must say no", True),
        ("Sorry, but I have to turn down that request", True),
        ("I'm sorry, but I'm unable to do that", True),
        ("My apologies, but we're not able to assist", True),
        ("I'm sorry, but due to U.S. policy, I can't do that", True),
        ("I'm sorry, but due to safety concerns,\nI can't do that", True),
        (f"I'm sorry, but {'this requires careful consideration ' * 8}I can't do that", True),
        ("I'm sorry about the inconvenience. I can't do that", True),
        ("I'm sorry, but I can't discuss that topic", True),
        ("I apologize, but I cannot reveal that information", True),
        ("Sorry, we cannot offer instructions", True),
        ("I'm sorry, but I can't safely help", True),
        ("I'm sorry, but I am unfortunately unable to help", True),
        ("I'm sorry, but I am not allowed to provide that information", True),
        ("I apologize, but we're not permitted to disclose that", True),
        ("I apologize, but I'm not authorized to reveal that", True),
        ("Sorry, but I am not supposed to share that", True),
        ("I apologize, but I'm prohibited from helping", True),
        ("My apologies, but we're forbidden from offering instructions", True),
        ("I'm sorry, but that won't be possible", True),
        ("I apologize, but this request cannot be fulfilled", True),
        ("Sorry, but it is not possible to help with that", True),
        ("My apologies, but your request won't be accommodated", True),
        ("I apologize, but the requested information cannot be provided", True),
        ("Sorry, no.", True),
        ("I apologize, but absolutely not", True),
        ("My apologies; definitely no!", True),
        ("Sorry, not possible.", True),
        ("I am not able to help with that request", True),
        ("That request is not ethical and I cannot assist", True),
        ("The generated text has been blocked by our content filters", True),
        ("i Am NoT able TO help with that Request", True),
        ("I CANNOT ASSIST WITH THAT REQUEST", True),
        ("2 + 2 is 4.", False),
        ("Stay as an Airbnb guest.", False),
    ],
)
def test_refusals(output: str, expected: bool) -> None:
    assert holds("is-refusal", None, output) is expected
    assert holds("not-is-refusal", None, output) is not expected


def test_python_takes_several_lines_and_grades() -> None:
    code = """
      if output == 'Expected output':
          return {
            'pass': True,
            'score': 0.5,
          }
      return {
        'pass': False,
        'score': 0,
      }
    """
    assert holds("python", code, "Expected output")
    assert not holds("python", code, "Another")
    assert holds("python", 'context["vars"]["example"] in output', "Example text.", vars={"example": "Example text"})


def test_an_assert_set_holds_from_its_threshold_on() -> None:
    """The documentation's example, without its rubric: `threshold: 0.5 # 50% of assertions must pass`."""
    parts = (
        Assertion(type="contains", place=PLACE, value="hello"),
        Assertion(type="contains", place=PLACE, value="error", negated=True),
        Assertion(type="is-json", place=PLACE),
    )
    half = Assertion(type="assert-set", place=PLACE, threshold=0.5, assertions=parts)
    assert evaluate(half, Answer(output="hello"))["passed"]
    assert not evaluate(half, Answer(output="an error"))["passed"]
    every = Assertion(type="assert-set", place=PLACE, assertions=parts)
    assert not evaluate(every, Answer(output="hello"))["passed"]


# --- where bedrock-run differs on purpose ----------------------------------------------------------------------------


def test_differs_json_in_a_text_is_strict_and_may_be_an_array() -> None:
    assert not holds("contains-json", None, "{a: 1}")  # promptfoo: YAML in braces counts, so prose in braces may
    assert not holds("contains-json", None, 'cut off: {"a": 1')  # promptfoo closes what was left open
    assert holds("contains-json", None, "the list [1, 2]")  # promptfoo looks for objects only


def test_differs_schemas_are_of_2020_12_unless_they_say_otherwise() -> None:
    tuples = {"items": [{"type": "string"}]}  # promptfoo: draft 7
    assert "prefixItems" in str(fault_of(Assertion(type="is-json", place=PLACE, value=tuples)))
    assert holds("is-json", {"$schema": "http://json-schema.org/draft-07/schema#", **tuples}, '["a"]')


def test_differs_regular_expressions_are_pythons() -> None:
    assert fault_of(Assertion(type="regex", place=PLACE, value="(?<year>\\d{4})"))  # Python: (?P<year>...)
    assert holds("regex", "\\d", "٣")  # JavaScript: ASCII digits only
    assert holds("regex", "a$", "a\n")  # JavaScript: not before a line break


def test_differs_what_is_not_known_is_no_verdict() -> None:
    with pytest.raises(UnjudgedError):  # promptfoo: failed
        holds("finish-reason", "stop", "")
    with pytest.raises(UnjudgedError):  # promptfoo: failed, also with not-
        holds("not-python", "1 / 0", "")
    with pytest.raises(UnjudgedError):  # promptfoo reads "true" and numbers in texts
        holds("python", "'true'", "")


def test_differs_a_set_counts_what_holds_not_how_well() -> None:
    """promptfoo adds up scores: a likeness of 0.8 that holds counts as 0.8."""
    part = Assertion(type="rouge-n", place=PLACE, value="a a b b")
    whole = Assertion(type="assert-set", place=PLACE, threshold=0.9, assertions=(part,))
    assert evaluate(whole, Answer(output="a a a b"))["passed"]


def test_differs_the_score_of_a_negated_likeness_stays_the_likeness() -> None:
    """promptfoo gives 1 - score."""
    negated = Assertion(type="rouge-n", place=PLACE, value="a b", negated=True)
    assert evaluate(negated, Answer(output="a b"))["score"] == 1


def test_differs_an_empty_text_to_compare_with_is_a_problem() -> None:
    """promptfoo finds out when the assertion is evaluated, after the call was paid for."""
    for kind in ("contains", "starts-with", "rouge-n", "contains-any"):
        assert fault_of(Assertion(type=kind, place=PLACE, value=""))
    assert not evaluate(Assertion(type="rouge-n", place=PLACE, value="a"), Answer(output=""))["passed"]
