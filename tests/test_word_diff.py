"""What was taken out of a text and what was put in: true to both texts, readable, and never slow."""

from __future__ import annotations

import random

import pytest

from runner.comparing.word_diff import Bounds, Piece, differences, shortened

MARKS = {"same": "{}", "removed": "[-{}-]", "added": "{{+{}+}}", "left out": "…({})…"}


def marked(pieces: list[Piece]) -> str:
    return "".join(MARKS[kind].format(text) for kind, text in pieces)


def sides(pieces: list[Piece]) -> tuple[str, str]:
    old = "".join(text for kind, text in pieces if kind != "added")
    new = "".join(text for kind, text in pieces if kind != "removed")
    return old, new


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "", ""),
        ("a", "a", "a"),
        ("", "a", "{+a+}"),
        ("a", "", "[-a-]"),
        ("The cat sat.", "The dog sat.", "The [-cat-]{+dog+} sat."),
        ("It is so", "It is not so", "It is {+not +}so"),
        ("a big cat runs", "a small dog runs", "a [-big cat-]{+small dog+} runs"),
        ("1,000 times 3.14.", "1,001 times 3.15.", "[-1,000-]{+1,001+} times [-3.14-]{+3.15+}."),
        ("a, b", "a b", "a[-,-] b"),
        ("今日は天気がいいです", "今日は天気が悪いです", "今日は天気が[-い-]{+悪+}いです"),
        ("one\ntwo", "one\n\ntwo", "one[-\n-]{+\n\n+}two"),
    ],
)
def test_differences_are_told_by_words(old: str, new: str, expected: str) -> None:
    assert marked(differences(old, new)) == expected


def test_both_texts_can_be_read_from_the_pieces() -> None:
    chance = random.Random(4)
    for _ in range(300):
        old, new = ("".join(chance.choices("ab .\n", k=chance.randrange(30))) for _ in "12")
        assert sides(differences(old, new)) == (old, new)


def words(count: int, *, seed: int, line: int) -> str:
    chance = random.Random(seed)
    return "".join(f"w{chance.randrange(3000)}" + ("\n" if n % line == 0 else " ") for n in range(count))


@pytest.mark.parametrize("line", [1, 20, 10**9], ids=["short lines", "lines", "one line"])
def test_what_is_too_long_is_compared_by_lines_or_replaced(line: int) -> None:
    old, new = words(40_000, seed=1, line=line), words(40_000, seed=2, line=line)
    pieces = differences(old, new)
    assert sides(pieces) == (old, new)
    assert sum(len(piece.text) for piece in shortened(pieces)) < 2_000


def test_a_word_in_a_megabyte_is_found() -> None:
    old = words(180_000, seed=1, line=20)
    lines = old.split("\n")
    new = "\n".join([*lines[:10], "first " + lines[10], *lines[11:8_000], lines[8_000] + " last", *lines[8_001:]])
    assert [piece for piece in differences(old, new) if piece.kind != "same"] == [
        Piece("added", "first "),
        Piece("added", " last"),
    ]


def test_what_is_the_same_is_left_out_but_for_its_edges() -> None:
    same = " ".join(map(str, range(30)))
    pieces = shortened(differences(f"a {same} b {same}", f"c {same} d {same}"), Bounds(context=2))
    assert marked(list(pieces)) == "[-a-]{+c+} 0 1 …(26 words)…28 29 [-b-]{+d+} 0 1 …(28 words)…"


def test_long_pieces_and_many_changes_are_cut() -> None:
    pieces = shortened(
        [Piece("removed", "x" * 1000), Piece("added", "y"), Piece("added", "z")], Bounds(longest=10, changes=2)
    )
    assert marked(list(pieces)) == "[-xxxxx-]…(990 characters)…[-xxxxx-]{+y+}…(1 more change)…"
