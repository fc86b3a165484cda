"""Verdicts of every type and the reasons they give; what cannot be judged; and what a hostile output costs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from runner import schema
from runner.assertions import Answer, UnjudgedError, evaluate, excerpt, fault_of, time_limit
from runner.assertions.jsons import values_in
from runner.assertions.likeness import two_digits
from runner.errors import Place
from runner.records import Assertion, VerdictRecord

PLACE = Place("job.yaml", 7, 5)


def asserting(kind: str, **fields: Any) -> Assertion:
    return Assertion(
        **{"type": kind.removeprefix("not-"), "place": PLACE, "negated": kind.startswith("not-"), **fields}
    )


def verdict_on(kind: str, output: str = "", *, answer: dict[str, Any] | None = None, **fields: Any) -> VerdictRecord:
    return evaluate(asserting(kind, **fields), Answer(output=output, **(answer or {})))


def judged(kind: str, output: str = "", *, latency_ms: int = 0, **fields: Any) -> tuple[bool, str]:
    verdict = verdict_on(kind, output, answer={"latency_ms": latency_ms}, **fields)
    assert verdict["type"] == kind
    assert verdict["line"] == 7
    return verdict["passed"], verdict["reason"]


def found(kind: str, output: str = "", *, answer: dict[str, Any] | None = None, **fields: Any) -> str:
    """What a verdict says that fails."""
    verdict = verdict_on(kind, output, answer=answer, **fields)
    assert not verdict["passed"]
    assert verdict["reason"] == f"expected {verdict['expected']}: {verdict['actual']}"
    return verdict["actual"] or ""


def unjudged(kind: str, output: str = "", *, answer: dict[str, Any] | None = None, **fields: Any) -> UnjudgedError:
    with pytest.raises(UnjudgedError) as caught:
        verdict_on(kind, output, answer=answer, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "value", "output", "holds"),
    [
        ("contains", "b", "abc", True),
        ("contains", "B", "abc", False),
        ("contains", "", "abc", True),
        ("icontains", "B", "abc", True),
        ("icontains", "ß", "STRASSE", False),
        ("equals", "abc", "abc", True),
        ("equals", "abc", "abc\n", False),
        ("equals", 42, "42", True),
        ("equals", 2.0, "2", True),
        ("equals", True, "true", True),
        ("equals", None, "null", True),
        ("equals", {"a": [1, 2.0]}, '{ "a": [1.0, 2] }', True),
        ("equals", {"a": 1}, '{"a": true}', False),
        ("equals", {"a": 1}, '{"a": 1, "b": 2}', False),
        ("equals", [1, 2], "[2, 1]", False),
        ("equals", {"a": 1}, "a: 1", False),
        ("starts-with", "ab", "abc", True),
        ("starts-with", "ab", " abc", False),
        ("ends-with", "bc", "abc", True),
        ("ends-with", "bc", "abc\n", False),
        ("contains-any", ["x", "b"], "abc", True),
        ("contains-any", ["x", "B"], "abc", False),
        ("contains-any", '["x", "b, \\"c"]', 'ab, "cd', True),
        ("contains-any", "[a], [b", "x[b", True),
        ("contains-any", "x, b", "abc", True),
        ("contains-any", 'x, "b, c"', "ab, cd", True),
        ("icontains-any", ["x", "B"], "abc", True),
        ("contains-all", ["a", "b"], "abc", True),
        ("contains-all", ["a", "x"], "abc", False),
        ("icontains-all", "A, B", "abc", True),
        ("regex", "^b", "a\nb", False),
        ("regex", "(?m)^b", "a\nb", True),
        ("regex", "b.", "abc", True),
        ("is-json", None, "[1]", True),
        ("is-json", None, " 1 ", True),
        ("is-json", None, "{'a': 1}", False),
        ("is-json", None, "[NaN]", False),
        ("is-json", None, "\ufeff1", False),
        ("is-json", {"type": "object"}, "[1]", False),
        ("is-json", {"type": "array"}, "[1]", True),
        ("is-json", '{"type": "array"}', "[1]", True),
        ("is-json", False, "[1]", False),
        ("contains-json", None, "look: [1]!", True),
        ("contains-json", None, "look: {a}!", False),
        ("contains-json", {"required": ["b"]}, 'first {"a": 1}, then {"b": 1}', True),
        ("contains-json", {"required": ["c"]}, 'first {"a": 1}, then {"b": 1}', False),
        ("json-path", "$.a[0]", '{"a": [null]}', True),
        ("json-path", "$.a[1]", '{"a": [null]}', False),
        ("json-path", {"path": "$.a", "value": 1}, '{"a": 1.0}', True),
        ("json-path", {"path": "$.a", "value": "1"}, '{"a": 1}', True),
        ("json-path", {"path": "$.a", "value": 1}, '{"a": "1"}', False),
        ("json-path", {"path": "$.a", "value": None}, '{"a": null}', True),
        ("json-path", {"path": "$..a", "value": 2}, '{"a": 1, "b": {"a": 2}}', True),
        ("json-path", {"path": "$[?@.a > 1].b", "value": "x"}, '[{"a": 1, "b": "y"}, {"a": 2, "b": "x"}]', True),
        ("json-path", "$", "no JSON", False),
        ("word-count", 3, " a  b\nc ", True),
        ("word-count", "3", "a b c", True),
        ("word-count", {"min": 4}, "a b c", False),
        ("word-count", {"max": 2}, "a b c", False),
        ("word-count", {"min": 3, "max": 3}, "a b c", True),
        ("word-count", 0, "", True),
        ("levenshtein", "kitten", "sitting", True),
        ("levenshtein", "kitten", "something else", False),
        ("rouge-n", "the cat sat on the mat", "The cat sat on the mat", True),
        ("rouge-n", "the cat sat on the mat", "the cat sat", False),
        ("is-refusal", None, "I can\u2019t help with that.", True),
        ("is-refusal", None, "Here it is.", False),
        ("is-refusal", None, " \n", True),
        ("python", "output == 'abc'", "abc", True),
        ("python", "output == 'abc'", "x", False),
    ],
)
def test_each_type_and_its_opposite(kind: str, value: Any, output: str, holds: bool) -> None:
    assert judged(kind, output, value=value)[0] is holds
    assert judged(f"not-{kind}", output, value=value)[0] is not holds


def test_every_type_of_the_schema_is_known() -> None:
    for name in schema.load("job")["$defs"]["assertion"]["properties"]["type"]["enum"]:
        assert fault_of(asserting(name, value="$", threshold=1.0)) is None or "file" not in name


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


def test_reasons_about_several_texts_name_those_that_matter() -> None:
    assert found("contains-all", "a", value=["a", "b", "c"]) == "missing: 'b', 'c'; got 'a'"
    assert found("not-contains-any", "so red", value=["blue", "red"]) == "'red' is in 'so red'"
    assert found("starts-with", "Yea, fine", value="Yes") == "got 'Yea', which differs from character 3 on"
    assert found("ends-with", "x" * 500 + "end", value="END").endswith("xend'")
    many = verdict_on("contains-any", "", value=[f"word {n}" for n in range(100)])
    assert many["expected"].endswith("'word 3' and 96 more")


def test_reasons_about_json_point_at_what_is_wrong() -> None:
    assert found("equals", '{"a": {"b/c": [1, 2]}}', value={"a": {"b/c": [1, 3]}}) == "at /a/b~1c/1: expected 3, got 2"
    assert found("equals", '{"a": 1}', value={"b": 1}) == 'at the top: "b" is missing'
    assert found("equals", "[1]", value=[]) == "at the top: expected 0 items, got 1"
    assert "at line 2, column 3" in found("is-json", "{\n  a}")
    assert "NaN is not JSON" in found("is-json", "[NaN]")
    wanted = {"properties": {"at": {"type": "array", "items": {"type": "number"}}}, "required": ["at", "name"]}
    assert (
        found("is-json", '{"at": [1, "x"], "name": 1}', value=wanted) == 'at /at/1: "x" does not fit `type: "number"`'
    )
    assert found("is-json", '{"at": []}', value=wanted) == "at the top: 'name' is a required property"
    assert found("is-json", '{"b": 1}', value={"additionalProperties": False}) == (
        'at the top: "b": not among the properties'
    )
    assert found("is-json", '{"b": 1}', value={"properties": {"b": False}}) == (
        "at /b: nothing may be there, and there is 1"
    )
    assert found("contains-json", '{"a": 1} and {"b": 2}', value={"required": ["c"]}) == (
        "at the top: 'c' is a required property (and 1 more do not fit)"
    )
    assert found("contains-json", "none") == "no object or array is in 'none'"
    assert found("json-path", '{"a": {"b": 1}}', value={"path": "$.a", "value": {"b": 2}}) == (
        'there is {"b": 1}, which differs at /b: expected 2, got 1'
    )
    assert found("json-path", '{"a": 1}', value="$.b") == "nothing is there in '{\"a\": 1}'"
    assert found("not-json-path", '{"a": 1}', value="$.a") == "there is 1"


def test_reasons_about_measures_tell_the_number() -> None:
    assert judged("word-count", "a b", value={"min": 3, "max": 9})[1] == (
        "expected output to have 3 to 9 words: it has 2: 'a b'"
    )
    assert found("cost", answer={"cost_usd": 0.0021}, threshold=0.001) == "it cost $0.0021"
    assert found("first-token-latency", answer={"first_token_ms": 2500}, threshold=1.0) == (
        "the first text came after 2.5s"
    )
    assert found("levenshtein", "sitting", value="kitten", threshold=2.0) == "it is 3 edits away: got 'sitting'"
    assert "it has 0.66; without 'the', 'on', 'mat'" in found("rouge-n", "the cat sat", value="the cat sat on the mat")


@pytest.mark.parametrize(
    ("score", "told"), [(0.0, "0"), (0.749, "0.74"), (0.29, "0.29"), (0.009, "0.009"), (-0.0123, "-0.012"), (1.0, "1")]
)
def test_of_a_likeness_two_digits_are_told_that_tell_something(score: float, told: str) -> None:
    assert two_digits(score) == told


def test_likeness_has_a_score() -> None:
    assert verdict_on("levenshtein", "sitting", value="kitten")["score"] == pytest.approx(1 - 3 / 7)
    assert verdict_on("not-rouge-n", "the cat sat", value="the cat sat on the mat")["score"] == pytest.approx(2 / 3)
    assert verdict_on("contains", "a", value="a")["score"] is None


def test_rouge_is_what_the_reference_implementation_finds() -> None:
    """The numbers are those of rouge-score 0.1.2 (rouge1, F-measure) for these texts."""
    for expected, output, score in [
        ("the quick brown fox jumps over the lazy dog", "the quick brown dog jumps on the log", 12 / 17),
        ("a b c d", "d c b a", 1.0),
        ("a a a b", "a a b b", 0.75),
        ("one two three", "four five", 0.0),
        ("The Cat", "the cat", 1.0),
    ]:
        assert verdict_on("rouge-n", output, value=expected)["score"] == pytest.approx(score)


@pytest.mark.parametrize(
    ("value", "stop_reason", "holds"),
    [
        ("stop", "end_turn", True),
        ("stop", "stop_sequence", True),
        ("STOP", "end_turn", True),
        ("length", "max_tokens", True),
        ("max_tokens", "max_tokens", True),
        ("end_turn", "stop_sequence", False),
        ("content_filter", "guardrail_intervened", True),
        ("content_filter", "content_filtered", True),
        ("tool_calls", "tool_use", True),
        ("stop", "max_tokens", False),
        ("FINISH", "FINISH", True),
    ],
)
def test_finish_reasons_are_bedrocks_words_or_promptfoos(value: str, stop_reason: str, holds: bool) -> None:
    verdict = verdict_on("finish-reason", value=value, answer={"stop_reason": stop_reason})
    assert verdict["passed"] is holds
    assert holds or f"it ended with '{stop_reason}'" in verdict["reason"]


def test_what_the_answer_does_not_tell_is_not_judged() -> None:
    assert "was not streamed" in unjudged("first-token-latency", threshold=1.0).message
    assert "stream: true" in (unjudged("first-token-latency", threshold=1.0).hint or "")
    assert "price" in unjudged("not-cost", threshold=1.0).message
    assert "no stop reason" in unjudged("finish-reason", value="stop").message
    assert unjudged("llm-rubric", value="polite").message == "no model has judged this reply"
    assert unjudged("similar", value=["polite"]).message == "no model has judged this reply"


def test_a_refusal_is_also_what_the_service_calls_one() -> None:
    for reason in ("refusal", "guardrail_intervened", "content_filtered"):
        assert verdict_on("is-refusal", "Blocked.", answer={"stop_reason": reason})["passed"]
    assert not verdict_on("is-refusal", "Fine.", answer={"stop_reason": "end_turn"})["passed"]
    assert found("not-is-refusal", "Well. I can't help with that.") == "it says 'I can't help'"


def test_a_long_output_is_cut_around_the_place_that_matters() -> None:
    output = "x" * 5000 + "Z" + "x" * 5000
    reason = judged("equals", output, value="x" * 10_001)[1]
    assert "Z" in reason.partition(": got ")[2]
    assert len(reason) < 600


# --- sets ------------------------------------------------------------------------------------------------------------


def a_set(threshold: float | None, *parts: tuple[str, float]) -> VerdictRecord:
    assertions = tuple(asserting("contains", value=value, weight=weight) for value, weight in parts)
    return verdict_on("assert-set", "abc", assertions=assertions, threshold=threshold)


def test_all_of_a_set_must_hold_unless_a_share_suffices() -> None:
    assert a_set(None, ("a", 1), ("b", 1))["passed"]
    assert not a_set(None, ("a", 1), ("z", 1))["passed"]
    assert a_set(0.5, ("a", 1), ("z", 1))["passed"]
    assert not a_set(0.5, ("a", 1), ("z", 2))["passed"]
    assert a_set(0.8, *[("a", 0.3)] * 4, ("z", 0.3))["passed"]  # as floats, four fifths of the weight are less than 0.8


def test_a_set_tells_its_parts_and_the_first_that_failed() -> None:
    verdict = a_set(0.5, ("a", 1), ("z", 3))
    assert verdict["score"] == 0.25
    assert [part["passed"] for part in verdict["assertions"]] == [True, False]
    assert verdict["actual"] == (
        "1 of 2 hold (0.25 of the weight); contains (line 7) failed: expected output to contain 'z': got 'abc'"
    )
    assert "assertions" not in verdict_on("contains", "a", value="a")


def test_a_set_with_a_part_that_cannot_be_judged_is_not_judged() -> None:
    parts = (asserting("contains", value="z"), asserting("not-cost", threshold=1.0))
    error = unjudged("assert-set", assertions=parts)
    assert error.message.startswith("its `not-cost` (line 7) could not be evaluated: the price")
    assert "--prices" in (error.hint or "")


# --- python ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "threshold", "holds", "score"),
    [
        ("len(output)", None, True, 3),
        ("len(output) - 3", None, False, 0),
        ("len(output) / 10", 0.3, True, 0.3),
        ("len(output) / 10", 0.31, False, 0.3),
        ("{'pass': True, 'score': 0.2, 'reason': 'x'}", None, True, 0.2),
        ("{'pass': True, 'score': 0.2, 'reason': 'x'}", 0.5, False, 0.2),
        ("{'pass_': False}", None, False, None),
        ("math.sqrt(len(json.loads('[1]'))) == 1 and re.match('a', output) is not None", None, True, None),
        ("\n  x = context['vars']['n']\n  return x in output\n", None, True, None),
        ("return '''a\n   b''' == 'a' + chr(10) + '   b'", None, True, None),
        ("(output\n == 'abc')\n", None, True, None),
    ],
)
def test_python_returns_a_bool_a_number_or_a_grade(
    code: str, threshold: float | None, holds: bool, score: float | None
) -> None:
    verdict = verdict_on("python", "abc", value=code, threshold=threshold, answer={"vars": {"n": "b"}})
    assert verdict["passed"] is holds
    assert verdict["score"] == (None if score is None else pytest.approx(score))


def test_reasons_of_python_are_its_own() -> None:
    assert found("python", value="{'pass': False, 'reason': 'too\\nshort'}") == "too\\nshort"
    assert found("python", value="output == 'a'") == "it returned False"
    assert found("python", "abc", value="len(output)", threshold=4.0) == "it returned 3, and the threshold is 4"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\n\nreturn missing", "the code, line 3: NameError: name 'missing' is not defined"),
        ("context['vars']['nope']", "the code, line 1: KeyError: 'nope'"),
        ("import sys\nsys.exit('bye')", "the code, line 2: SystemExit: bye"),
        ("'yes'", "the code returned 'yes'"),
        ("float('nan')", "the code returned nan"),
        ("x = 1", "the code returned None"),
        ("{'score': 1}", "the code returned {'score': 1}"),
        ("raise ValueError('x' * 10_000)", "the code, line 1: ValueError: xxx"),
    ],
)
def test_code_that_fails_is_not_judged(code: str, message: str) -> None:
    error = unjudged("python", value=code)
    assert error.message.startswith(message)
    assert len(error.message) < 300
    assert error.hint


def test_code_cannot_change_the_variables_and_does_not_write_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = {"list": [1]}
    assert verdict_on(
        "python", value="context['vars']['list'].clear()\nprint('seen')\nreturn True", answer={"vars": variables}
    )
    assert variables == {"list": [1]}
    assert capsys.readouterr() == ("", "seen\n")


def test_code_may_stand_in_a_file_of_the_jobs_folder(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("LIMIT = 2\n")
    (tmp_path / "checks.py").write_text(
        "from helper import LIMIT\n\ndef get_assert(output, context):\n    return len(output) > LIMIT\n\n"
        "def fails(output, context):\n    return 1 / 0\n"
    )
    place = Place(str(tmp_path / "job.yaml"), 7, 5)
    for value in ("checks.py", "file://checks.py", "file://./checks.py:get_assert", "checks.py:get_assert"):
        assert fault_of(asserting("python", value=value, place=place)) is None
        assert verdict_on("python", "abc", value=value, place=place)["passed"]
    assert unjudged("python", value="checks.py:fails", place=place).message == (
        "checks.py, line 7: ZeroDivisionError: division by zero"
    )


def test_files_of_code_are_checked_without_running_them(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "job.yaml"), 7, 5)
    (tmp_path / "checks.py").write_text("raise SystemExit\ndef a(o, c): ...\n")
    (tmp_path / "broken.py").write_text("def a(\n")

    def problem(value: str) -> str:
        fault = fault_of(asserting("python", value=value, place=place))
        return fault.message if fault else ""

    assert problem("checks.py:a") == ""
    assert problem("checks.py:b") == "checks.py has no function `b`: it has `a`"
    assert "broken.py is not Python" in problem("broken.py:a")
    assert "there is no file none.py" in problem("none.py")
    assert "outside" in problem("../checks.py")
    assert "outside" in problem("/checks.py")


# --- what is known beforehand ----------------------------------------------------------------------------------------


def test_a_wrong_regular_expression_is_known_beforehand() -> None:
    wrong = fault_of(Assertion(type="regex", place=PLACE, value="(a"))
    assert wrong is not None
    assert "'(a'" in wrong.message
    assert fault_of(Assertion(type="regex", place=PLACE, value="a")) is None
    assert fault_of(Assertion(type="contains", place=PLACE, value="(a")) is None


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("contains", "", "is empty"),
        ("contains-all", " , ", "has no texts"),
        ("contains-all", ["a", ""], "an empty text"),
        ("contains-any", '"a" b', "a comma is missing"),
        ("contains-any", '["a", 1.5]', """1.5 is no text, in the list '["a", 1.5]'"""),
        ("contains-any", "[]", "has no texts"),
        ("regex", "(?<name>a)", "is not a regular expression"),
        ("is-json", {"type": "text"}, "wrong at /type"),
        ("is-json", "{", "is no JSON"),
        ("is-json", {"items": [{}]}, "prefixItems"),
        ("is-json", {"pattern": "(a"}, "wrong at /pattern"),
        ("contains-json", {"$ref": "#/$defs/x"}, "refers to '#/$defs/x', which is not in it"),
        ("contains-json", {"properties": {"a": {"$ref": "https://example.com/a"}}}, "nothing is fetched"),
        ("contains-json", {"$ref": "file:///etc/hosts"}, "nothing is fetched"),
        ("is-json", {"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "additionalProperties"),
        ("json-path", "a.b", "does not start with `$`"),
        ("json-path", {"path": "$["}, "is not a JSONPath"),
        ("json-path", "$[?@.a =~ /(a+)+$/]", "is not a JSONPath"),
        ("json-path", "$[?" + "(" * 5000 + "@.a", "is not a JSONPath"),
        ("word-count", "some", "takes whole numbers"),
        ("word-count", {"min": 3, "max": "2"}, "no text has so many words"),
        ("rouge-n", " ", "has no words"),
        ("finish-reason", "end-turn", "did you mean `end_turn`?"),
        ("python", "return return", "is not Python"),
    ],
)
def test_what_cannot_work_is_known_beforehand(kind: str, value: Any, message: str) -> None:
    for name in (kind, f"not-{kind}"):
        fault = fault_of(asserting(name, value=value))
        assert fault is not None
        assert message in f"{fault.message}; {fault.hint}"


@pytest.mark.parametrize(
    "value",
    [
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}},
        {"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]},
        {"$id": "https://e.org/s", "$ref": "other", "$defs": {"o": {"$id": "other", "type": "string"}}},
        {"const": {"$ref": "https://example.com"}},
        {"properties": {"$ref": {"type": "string"}}},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
        True,
    ],
)
def test_schemas_may_refer_to_what_they_have(value: Any) -> None:
    assert fault_of(asserting("is-json", value=value)) is None
    verdict_on("is-json", "{}", value=value)


def test_nothing_is_fetched_even_if_a_reference_was_not_seen_beforehand() -> None:
    hidden = {"properties": {"enum": {"$ref": "https://example.com/a"}}}
    error = unjudged("is-json", '{"enum": 1}', value=hidden)
    assert "https://example.com/a" in error.message


def test_patterns_mean_what_they_mean_to_re() -> None:
    for pattern, text in [("a{e}", "a{e}"), ("a{,2}b", "aab"), ("{}", "{}"), (r"\N{DIGIT ONE}", "1"), ("[{]e}", "{e}")]:
        assert judged("regex", text, value=pattern)[0], pattern
    assert not judged("regex", "b", value="(?:a){e}")[0]  # to `regex` this is a fuzzy match


# --- what a hostile output costs -------------------------------------------------------------------------------------

MEGABYTE = 1_000_000
EVIL = "^(a|aa)+$"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    ("kind", "value", "output"),
    [
        ("regex", EVIL, "a" * 60 + "b"),
        ("is-json", {"items": {"pattern": EVIL}}, json.dumps(["a" * 60 + "b"] * 1000)),
        ("is-json", {"patternProperties": {EVIL: {}}}, json.dumps({"a" * 60 + "b": 1})),
        ("is-json", {"additionalProperties": False, "patternProperties": {EVIL: {}}}, json.dumps({"a" * 60 + "b": 1})),
        ("is-json", {"$schema": DRAFT_7, "pattern": EVIL}, json.dumps("a" * 60 + "b")),
        ("is-json", {"$defs": {"a": {"$schema": DRAFT_7, "pattern": EVIL}}, "$ref": "#/$defs/a"}, f'"{"a" * 60}b"'),
        ("json-path", f"$[?search(@, '{EVIL}')]", json.dumps(["a" * 60 + "b"] * 1000)),
        ("json-path", f"$[?match(@, '{EVIL}')]", json.dumps(["a" * 60 + "b"] * 1000)),
    ],
)  # fmt: skip
def test_no_pattern_hangs(kind: str, value: Any, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "SECONDS", 0.05)
    error = unjudged(kind, output, value=value)
    assert "took longer than 0.05s" in error.message
    assert error.hint


@pytest.mark.parametrize("unclosed", ["[1,", '{"a":', "[", '{"[": [{"a": "]", "b":'])
@pytest.mark.parametrize("times", [900, 4000])
def test_brackets_that_are_never_closed_are_no_json_however_many_they_are(unclosed: str, times: int) -> None:
    assert found("is-json", unclosed * times).startswith("it is no JSON: ")
    assert found("contains-json", unclosed * times).startswith("no object or array is in ")
    assert verdict_on("contains-json", unclosed * times + '{"b": 1}', value={"required": ["b"]})["passed"]


@pytest.mark.parametrize("kind", ["is-json", "contains-json"])
def test_whole_json_that_is_deeper_than_python_is_not_judged(kind: str) -> None:
    assert unjudged(kind, "[" * 4000 + "]" * 4000).message == "the output is JSON that is nested too deeply"


@pytest.mark.parametrize(
    ("kind", "value", "output"),
    [
        ("contains-json", None, "[" * MEGABYTE),
        ("contains-json", None, "{" * MEGABYTE),
        ("contains-json", None, '["' * (MEGABYTE // 2)),
        ("contains-json", None, '{"a":' * (MEGABYTE // 5)),
        ("contains-json", None, ("[1" + ",1" * 500) * (MEGABYTE // 1002)),
        ("contains-json", None, "[1, NaN, " * (MEGABYTE // 9)),
        ("contains-json", None, '["' + "x" * MEGABYTE),
        ("is-json", None, "[" * MEGABYTE + "]" * MEGABYTE),
        ("is-json", None, "9" * MEGABYTE),
        ("is-json", {"multipleOf": 0.1}, "1e999"),
        ("is-json", {"uniqueItems": True}, json.dumps([{"n": n} for n in range(MEGABYTE // 14)])),
        ("is-json", {"contains": {}, "unevaluatedItems": False}, "[" + ",".join("1" * (MEGABYTE // 2)) + "]"),
        ("is-json", {"type": "object"}, json.dumps("x" * MEGABYTE)),
        ("is-json", {"items": {"$ref": "#"}, "type": "array"}, "[" * 900 + "]" * 900),
        ("is-json", {"$ref": "#"}, "1"),
        ("equals", [[]], "[" * 900 + "]" * 900),
        ("json-path", "$..a", "[" * 900 + "]" * 900),
        ("levenshtein", "ba" * (MEGABYTE // 2), "ab" * (MEGABYTE // 2)),
        ("levenshtein", "x" * 100, "ab" * (MEGABYTE // 2)),
        ("rouge-n", "ab cd", "ab cd " * (MEGABYTE // 6)),
        ("word-count", 3, "a " * (MEGABYTE // 2)),
        ("is-refusal", None, "i am " * (MEGABYTE // 5)),
        ("is-refusal", None, "sorry " * (MEGABYTE // 6)),
        ("icontains-all", ["y" * 1000, "xxy"], "x" * MEGABYTE),
        ("equals", "x" * MEGABYTE, "x" * (MEGABYTE - 1)),
    ],
)
def test_a_large_or_deep_output_costs_little_and_breaks_nothing(kind: str, value: Any, output: str) -> None:
    """Either way round there is a short verdict or none. What takes quadratic time takes longer than a test may."""
    for name in (kind, f"not-{kind}"):
        assert all(len(text) < 800 for text in told_of(name, output, value))


def told_of(kind: str, output: str, value: Any) -> list[str]:
    try:
        verdict = verdict_on(kind, output, value=value)
    except UnjudgedError as error:
        return [error.message]
    return [verdict["reason"], verdict["expected"], verdict["actual"] or ""]


def test_edits_between_large_texts_are_not_counted_where_that_takes_too_long() -> None:
    error = unjudged("levenshtein", "ab" * MEGABYTE, value="xy" * MEGABYTE, threshold=1e6)
    assert "too long" in error.message


def test_json_is_found_wherever_a_window_ends() -> None:
    chance = random.Random(1)
    for _ in range(300):
        value = {"k": "é[" * chance.randint(0, 900), "n": [chance.random(), None, True, '\\"{'] * chance.randint(0, 60)}
        text = f"{'x' * chance.randint(0, 40)}[ not this {{ {json.dumps(value)} and {{}} []"
        assert list(values_in(text)) == [value, {}, []]


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\u202e", "\ud800", "</script>", "]]>", "\x00", "=cmd|' /C calc'!A0"])
def test_outputs_are_data_whatever_they_hold(hostile: str) -> None:
    for kind, value in [("contains", "x"), ("equals", "x"), ("is-json", None), ("contains-all", ["x"]), ("regex", "x")]:
        assert "\n" not in found(kind, f"{hostile}\n{hostile}", value=value)
    assert hostile in found("equals", hostile, value="x")


def test_excerpts_are_cut_on_both_sides() -> None:
    text = "a" * 500 + "b" + "c" * 500
    shown = excerpt(text, 500)
    assert shown.startswith("…'a")
    assert "b" in shown
    assert shown.endswith("c'…")
    assert excerpt("a\r\nb") == "'a\\r\\nb'"


# --- what is imported ------------------------------------------------------------------------------------------------

IMPORTS = """
    import sys; from pathlib import Path
    from runner.cases import loading
    loading.load([Path(sys.argv[1])])
    print([name for name in ("regex", "jsonschema", "referencing", "jsonpath", "rapidfuzz") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("entry", "imported"),
    [
        ("{type: contains, value: x}", "[]"),
        ("{type: is-json}", "[]"),
        ("{type: rouge-n, value: x}", "[]"),
        ("{type: levenshtein, value: x}", "[]"),
        ("{type: regex, value: x}", "['regex']"),
    ],
)
def test_libraries_are_imported_where_they_are_needed(entry: str, imported: str, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text(f"model: amazon.nova-lite-v1:0\nprompt: Hi\nassert: [{entry}]\n")
    command = [sys.executable, "-c", textwrap.dedent(IMPORTS), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == imported
