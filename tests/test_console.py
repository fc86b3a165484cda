"""What reaches a terminal is text, whatever a model or a file says."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from runner.console import (
    Outcomes,
    case_lines,
    duration,
    failure_lines,
    full_name,
    money,
    no_command,
    one_line,
    plain,
    render_problems,
    spent,
)
from runner.errors import Place, Problem


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\x0db"),
        ("bell\x07", "bell\\x07"),
        ("\u202eevil", "\\u202eevil"),
        ("\ud800", "\\ud800"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("é 😀", "é 😀"),
    ],
)
def test_control_codes_are_spelled_out(hostile: str, shown: str) -> None:
    assert plain(hostile) == shown


def test_nothing_that_controls_gets_through() -> None:
    for code in range(0x110000):
        shown = plain(chr(code))
        if unicodedata.category(chr(code)) in {"Cc", "Cs"} and chr(code) not in "\n\t":
            assert shown.isascii(), hex(code)


def test_a_problem_is_drawn_with_its_line_a_caret_and_a_hint() -> None:
    place = Place("job.yaml", 3, 5, "ab: {cd: 1}")
    assert render_problems([Problem("unknown key `cd`", place, "did you mean `ce`?")]).splitlines() == [
        "job.yaml:3:5: unknown key `cd`",
        "     3 | ab: {cd: 1}",
        "       |     ^",
        "    hint: did you mean `ce`?",
    ]


def test_the_caret_stands_under_its_character_after_wide_ones_and_tabs() -> None:
    lines = render_problems([Problem("x", Place("j", 1, 4, "日本\tx: 1"))]).splitlines()
    assert lines[2].index("^") - lines[1].index("日") == 5  # two wide characters and a tab drawn as one space


def test_a_long_line_is_cut_around_the_place() -> None:
    lines = render_problems([Problem("x", Place("j", 1, 5001, "a" * 5000 + "Z" + "b" * 5000))]).splitlines()
    assert len(lines[1]) < 120
    assert lines[1][lines[2].index("^")] == "Z"


def test_a_problem_without_a_place_stands_alone() -> None:
    assert render_problems([Problem("no case matches", hint="there are none")]) == (
        "error: no case matches\n    hint: there are none"
    )


def test_problems_with_a_place_stand_apart_and_those_without_together() -> None:
    here = Place("j", 0, 0)
    told = render_problems([Problem("a", hint="h"), Problem("b"), Problem("c", here), Problem("d", here), Problem("e")])
    assert told == "error: a\n    hint: h\nerror: b\n\nj: c\n\nj: d\n\nerror: e"


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0, "$0.00"), (0.0000042, "$0.000004"), (0.0123, "$0.0123"), (12, "$12.00"), (1234.5, "$1,234.50")],
)
def test_money(usd: float, shown: str) -> None:
    assert money(usd) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m 01s"), (3725, "1h 02m 05s")])
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


# --- what CI reads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["##[error]forged", "##vso[task.complete]", "##teamcity[x]"])
def test_what_ci_would_take_for_a_command_in_a_line_is_spelled_out(command: str) -> None:
    assert one_line(f"got '{command}'") == f"got '#\\x23{command.removeprefix('##')}'"


def test_two_hashes_are_nothing_special_elsewhere() -> None:
    assert one_line("## A heading [x]") == "## A heading [x]"


# --- blocks about cases that did not pass ----------------------------------------------------------------------------


def in_cells(text: str) -> str:
    """With something behind each character that takes two cells of a terminal."""
    return "".join(char + "\0" * (unicodedata.east_asian_width(char) == "W") for char in text)


def verdict(kind: str, value: Any = None, *, line: int = 5, threshold: float | None = None, **more: Any) -> Any:
    made = {"type": kind, "passed": False, "reason": "expected E: A", "expected": "E", "actual": "A", "score": None}
    return {**made, "value": value, "threshold": threshold, "line": line, **more}


def row(*verdicts: Any, output: str | None = "the reply", error: Any = None, **more: Any) -> Any:
    status = "error" if error else "failed" if any(not each["passed"] for each in verdicts) else "passed"
    source = {"path": "prompts/tutor.yaml", "line": 9, "row": None}
    made = {"status": status, "output": output, "error": error, "assertions": list(verdicts)}
    return {
        **made,
        "attempts": [{"code": None}],
        "job": "tone",
        "case": "rude",
        "judgements": [],
        "parsed": None,
        "sidecar": None,
        "source": source,
        "repeat": 0,
        "repeats": 1,
        "min_pass": 1,
        **more,
    }


def error(code: str, message: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": None, "request_id": None, **more}


def test_a_failed_assertion_is_told_as_written_with_what_was_expected_and_found() -> None:
    failed = verdict("contains", "**2", expected="output to contain '**2'", actual="got 'A list'", line=12)
    assert failure_lines("tutor [squares]", row(failed)) == [
        "FAILED tutor [squares] (prompts/tutor.yaml:12)",
        '    {type: contains, value: "**2"}',
        "    expected: output to contain '**2'",
        "    actual:   got 'A list'",
    ]


def test_of_several_failed_assertions_each_has_its_line_in_one_block() -> None:
    failed = [verdict("not-regex", "a+", line=3), verdict("latency", threshold=0.5, line=4), verdict("is-json", line=3)]
    passed = verdict("contains", "x", passed=True, actual=None)
    assert failure_lines("tutor", row(passed, *failed)) == [
        "FAILED tutor (prompts/tutor.yaml:3)",
        '    {type: not-regex, value: "a+"}',
        "    expected: E",
        "    actual:   A",
        "    {type: latency, threshold: 500ms}  (line 4)",
        "    expected: E",
        "    actual:   A",
        "    {type: is-json}",
        "    expected: E",
        "    actual:   A",
    ]


def test_a_case_that_passed_has_no_block() -> None:
    assert failure_lines("tutor", row(verdict("contains", "x", passed=True))) == []


def test_a_call_that_failed_is_told_with_its_attempts_its_request_id_and_the_hint() -> None:
    failed = error("throttled", "ThrottlingException: slow down", hint="wait", request_id="abc-1")
    assert failure_lines("tutor [a]", row(output=None, error=failed, attempts=[{}] * 8)) == [
        "ERROR  tutor [a] (prompts/tutor.yaml:9)",
        "    throttled: ThrottlingException: slow down",
        "    8 attempts, the last with request id abc-1",
        "    hint: wait",
    ]


def test_an_assertion_that_could_not_be_evaluated_is_an_error_beside_those_that_failed() -> None:
    crashed = error("assertion", "python (line 7) could not be evaluated: it took too long")
    assert failure_lines("tutor", row(verdict("regex", "b", line=6), error=crashed)) == [
        "ERROR  tutor (prompts/tutor.yaml:9)",
        "    assertion: python (line 7) could not be evaluated: it took too long",
        '    {type: regex, value: "b"}  (line 6)',
        "    expected: E",
        "    actual:   A",
    ]


def test_where_a_case_comes_from_and_which_repetition_it_is_is_told() -> None:
    source = {"path": "job.yaml", "line": 2, "row": "rows.csv:17"}
    lines = failure_lines("job [x] #2", row(verdict("regex"), source=source, repeat=1, repeats=5, min_pass=4))
    assert lines[0] == "FAILED job [x] #2 (job.yaml:5)"
    assert lines[-2:] == ["    case: rows.csv:17", "    repetition 2 of 5; 4 must pass (min_pass)"]


@pytest.mark.parametrize(
    ("expected", "output", "marked", "told"),
    [
        ("The quick fox", "The quack fox", "ick fox'", "differs from character 7 on"),
        ("The fox", "The fox jumps", "'", "the reply goes on here"),
        ("The fox jumps", "The fox", " jumps'", "the reply ends here"),
        ("日本語x", "日本語y", "x'", "differs from character 4 on"),
        ("a\nb\tc", "a\nb\td", "c'", "differs from character 5 on"),
        ("a" * 999_999 + "b", "a" * 999_999 + "c", "b'", "differs from character 1,000,000 on"),
        ("a" * 50 + "b" * 999_999, "a" * 50 + "c", "b" * 37 + "…", "differs from character 51 on"),
    ],
)
def test_the_first_difference_is_marked(expected: str, output: str, marked: str, told: str) -> None:
    _, _, wanted, found, mark = failure_lines("job", row(verdict("equals", expected), output=output))
    caret = mark.index("^")
    assert in_cells(wanted)[caret:] == marked
    assert in_cells(wanted)[14:caret] == in_cells(found)[14:caret]
    assert mark[caret:] == f"^ {told}"
    assert wanted.startswith("    expected: ")
    assert found.startswith("    actual:   ")
    assert all(len(line) <= 80 for line in (wanted, found))


def test_texts_that_differ_from_the_start_on_are_told_without_a_mark() -> None:
    assert failure_lines("job", row(verdict("equals", "x"), output="y"))[2:] == ["    expected: E", "    actual:   A"]


def test_a_judge_that_was_not_asked_made_no_attempt() -> None:
    missing = error("no_row", "no model has judged this reply")
    assert failure_lines("tutor", row(error=missing))[1:] == ["    no_row: no model has judged this reply"]
    asked = [{"error": None, "attempts": [{}] * 3}, {"error": missing, "attempts": [{}] * 2}]
    assert failure_lines("tutor", row(error=missing, judgements=asked))[2:] == ["    2 attempts"]


def test_a_long_output_is_quoted_once_in_a_block() -> None:
    quote = f"'{'long ' * 40}'…"
    failed = [
        verdict("is-json", actual=f"it is no JSON: Expecting value at line 1, column 1, in {quote}"),
        verdict("json-path", "$.a", actual=f"it is no JSON: Expecting value at line 1, column 1, in {quote}"),
        verdict("contains", "a", actual=f"got {quote}"),
        verdict("contains-all", ["y"], actual=f"missing: 'y'; got {quote}"),
        verdict("icontains-all", ["y"], actual=f"missing: 'y'; got {quote}"),
        verdict("regex", "b", actual="got 'short'"),
        verdict("regex", "c", actual="got 'short'"),
    ]
    told = failure_lines("tutor", row(*failed, output="long " * 60))
    actual = [line[14:] for line in told if line.startswith("    actual:   ")]
    assert actual == [
        f"it is no JSON: Expecting value at line 1, column 1, in {quote}",
        "it is no JSON: Expecting value at line 1, column 1, in … (quoted above)",
        "got … (quoted above)",
        "missing: 'y'; got … (quoted above)",
        "missing: 'y'; got … (quoted above)",
        "got 'short'",
        "got 'short'",
    ]


# --- cases that are run several times --------------------------------------------------------------------------------


def repetitions(*rows: Any, min_pass: int = 2) -> list[Any]:
    return [{**each, "repeat": number, "repeats": 3, "min_pass": min_pass} for number, each in enumerate(rows)]


PASSED = row(verdict("contains", "x", passed=True, actual=None))
DOWN = row(output=None, error=error("throttled", "slow down", hint="wait"), attempts=[])
CUT = row(output=None, error=error("stopped", "the run was stopped"))


def test_what_repetitions_have_in_common_is_told_once() -> None:
    rows = repetitions(*(row(verdict("regex", "b", actual=f"got {n}"), verdict("is-json", line=7)) for n in (1, 2, 1)))
    assert case_lines("tone [rude]", rows) == [
        "FAILED tone [rude] (prompts/tutor.yaml:5)  3 of 3 repetitions failed, 2 must pass",
        '    3 of 3 times: {type: regex, value: "b"}',
        "    expected: E",
        "    actual:   got 1",
        "    actual:   got 2",
        "    3 of 3 times: {type: is-json}  (line 7)",
        "    expected: E",
        "    actual:   A",
    ]


def test_of_many_different_findings_the_first_three_are_told() -> None:
    rows: Any = [{**row(verdict("regex", "b", actual=f"got {n}")), "repeats": 9, "min_pass": 9} for n in range(9)]
    lines = case_lines("tone [rude]", rows)
    assert lines[3:] == [*(f"    actual:   got {n}" for n in range(3)), "    and in other ways, which their rows tell"]


def test_a_case_that_passed_in_the_end_has_no_block() -> None:
    assert case_lines("tone [rude]", repetitions(PASSED, row(verdict("regex", "b")), PASSED)) == []


def test_a_case_of_one_repetition_is_told_as_its_row() -> None:
    failed = row(verdict("regex", "b"))
    assert case_lines("tone [rude]", [failed]) == failure_lines("tone [rude]", failed)


def test_errors_and_failures_of_a_case_are_told_together_with_each_hint_once() -> None:
    assert case_lines("tone [rude]", repetitions(row(verdict("regex", "b")), DOWN, DOWN)) == [
        "ERROR  tone [rude] (prompts/tutor.yaml:5)  2 of 3 repetitions in error, 1 failed, 2 must pass",
        '    1 of 3 times: {type: regex, value: "b"}',
        "    expected: E",
        "    actual:   A",
        "    2 of 3 times: throttled: slow down",
        "    hint: wait",
    ]


def test_a_case_is_told_of_when_its_last_repetition_has_finished() -> None:
    outcomes = Outcomes()
    first, second, third = repetitions(row(verdict("regex", "b")), PASSED, row(verdict("regex", "b")))
    assert [list(outcomes.lines("tone [rude]", each)) for each in (third, first)] == [[], []]
    assert next(iter(outcomes.lines("tone [rude]", second))) == (
        "FAILED tone [rude] (prompts/tutor.yaml:5)  2 of 3 repetitions failed, 2 must pass"
    )
    assert list(outcomes.rest()) == []


def test_what_is_known_of_a_case_that_was_not_finished_is_told_at_the_end() -> None:
    outcomes = Outcomes()
    failed = row(verdict("regex", "b"))
    for case, rows in {"a": (failed, CUT), "b": (failed, failed), "c": (PASSED, CUT), "d": (CUT,)}.items():
        for each in repetitions(*rows):
            of_case: Any = {**each, "case": case}
            assert list(outcomes.lines(f"tone [{case}]", of_case)) == []
    assert [line for line in outcomes.rest() if not line.startswith("    ")] == [
        "ERROR  tone [a] (prompts/tutor.yaml:5)  1 of 3 repetitions failed, 2 not run, 2 must pass",
        "FAILED tone [b] (prompts/tutor.yaml:5)  2 of 3 repetitions failed, 1 not run, 2 must pass",
    ]
    assert list(outcomes.rest()) == []


def test_an_error_that_several_cases_share_is_told_once_unless_all_is_wanted() -> None:
    rows = [row(output=None, error=error("invalid", message), attempts=[]) for message in ("no", "no", "other", "no")]
    for told, blocks in ((100, ["a", "c"]), (None, list("abcd"))):
        outcomes = Outcomes(told=told)
        lines = [line for name, each in zip("abcd", rows, strict=True) for line in outcomes.lines(name, each)]
        assert [line.split()[1] for line in lines if line.startswith("ERROR")] == blocks
    beside_a_failure = row(verdict("regex", "b"), error=error("invalid", "no"))
    outcomes = Outcomes()
    assert all(list(outcomes.lines("tutor", each)) for each in (rows[0], beside_a_failure)), "there is more to tell"


def test_passes_are_told_where_that_is_wanted() -> None:
    outcomes = Outcomes()
    rows = repetitions(PASSED, row(verdict("regex", "b")), PASSED)
    told = [line for each in rows for line in outcomes.lines("tone [rude]", each, passed=True)]
    assert told == ["passed tone [rude]: 2 of 3 repetitions"]
    assert list(outcomes.lines("tutor", PASSED, passed=True)) == ["passed tutor"]
    assert list(outcomes.lines("tutor", PASSED)) == []


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("angry", "tone [angry]"),
        ("angry [tone=dry, n=1]", "tone: angry [tone=dry, n=1]"),
        ("tone=dry", "tone [tone=dry]"),
        ("a [b]", "tone: a [b]"),
        ("a\nb", "tone [a\\nb]"),
    ],
)
def test_a_name_has_the_id_as_it_is(case: str, name: str) -> None:
    assert full_name("tone", case) == name


@pytest.mark.parametrize(
    ("usd", "unpriced", "shown"),
    [(0.5, 0, "$0.5000"), (0.5, 2, "$0.5000 + unknown"), (None, 2, "not known"), (None, 0, "-")],
)
def test_a_sum_that_lacks_something_says_so(usd: float | None, unpriced: int, shown: str) -> None:
    assert spent(usd, unpriced=unpriced) == shown


@pytest.mark.parametrize(
    "hostile",
    [
        "\x1b[2J\x1b]0;title\a",
        "a\n::error::forged",
        "\r::stop-commands::x",
        "##[error]forged",
        "\u202egnp",
        "\ud800",
        "x" * 1_000_000,
    ],
)
def test_no_reply_forges_a_line_or_a_command_or_is_shown_whole(hostile: str) -> None:
    failed = [
        verdict("equals", "a" + hostile, expected=hostile, actual=hostile),
        verdict("contains", hostile, actual=hostile),
    ]
    blocks = [
        failure_lines("job", row(*failed, output="a" + hostile[::-1])),
        failure_lines("job", row(error=error("invalid", hostile, hint=hostile, request_id=hostile), output=None)),
        failure_lines(
            "job", row(verdict("is-json", {"x": [hostile]}), source={"path": hostile, "line": 1, "row": hostile})
        ),
        case_lines("job", repetitions(*[row(*failed, error=error("invalid", hostile, hint=hostile))] * 3)),
    ]
    for line in (line for block in blocks for line in block):
        assert line == plain(line)
        assert "\n" not in line
        assert "##[" not in line
        assert line.startswith(("FAILED job (", "ERROR  job (", "    "))
        assert not line.lstrip().startswith("::")
        assert len(line) <= 500


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("::error::x", r"\x3a:error::x"),
        (" \t::set-output name=a::b", " \t\\x3a:set-output name=a::b"),
        ("one\n::two::", "one\n\\x3a:two::"),
        ("a ##[add-mask]b", r"a #\x23[add-mask]b"),
        ("a ##vso[task.x]b", r"a #\x23vso[task.x]b"),
        ("std::vector, ## [a](b), #[x]", "std::vector, ## [a](b), #[x]"),
    ],
)
def test_no_line_is_a_command_of_ci(line: str, shown: str) -> None:
    assert no_command(line) == shown
