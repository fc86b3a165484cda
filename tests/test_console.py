"""What reaches a terminal is text, whatever a model or a file says."""

from __future__ import annotations

import unicodedata

import pytest

from runner.console import duration, money, plain, render_problems
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


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0, "$0.00"), (0.0000042, "$0.000004"), (0.0123, "$0.0123"), (12, "$12.00"), (1234.5, "$1,234.50")],
)
def test_money(usd: float, shown: str) -> None:
    assert money(usd) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(0.04, "0.0s"), (59.9, "59.9s"), (61, "1m 01s"), (3725, "1h 02m 05s")])
def test_duration(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
