"""`images:` of a job: how pictures are sent."""

from __future__ import annotations

from typing import Any

import pytest

from runner.jobs.job import load
from runner.records import LONGEST_SIDE, ImageSettings


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", ImageSettings()),
        ("images: {fit: off}", ImageSettings(fit=False)),
        ("images: {max_edge: 1024}", ImageSettings(max_edge=1024)),
        ("images: {fit: auto, max_edge: off}", ImageSettings(max_edge=LONGEST_SIDE)),
    ],
)
def test_they_are_read(written: str, meant: ImageSettings, write_job: Any) -> None:
    (job,), problems = load([write_job(f"prompt: x\n{written}")])
    assert not problems
    assert job.images == meant


@pytest.mark.parametrize(
    ("written", "problem", "hint"),
    [
        ("[a.png]", "`images` must be a mapping, not a list", "which, in a turn: `turns: [{user: {text:"),
        ("{fit: false}", "`images.fit` must be a text, not the boolean false", "write one of: auto, off"),
        ("{fit: on}", "`images.fit` cannot be `on`", "write one of: auto, off"),
        ("{max_edge: none}", "`none` is no size", "a number of pixels, as in `1024`, or `off`"),
        ("{max_edge: 9000}", "`images.max_edge` must be at most 8,000, not 9000", "write a number from 1"),
        ("{maxEdge: 9}", "unknown key `maxEdge` in `images`", "did you mean `max_edge`?"),
    ],
)
def test_what_is_wrong_with_them_is_told(written: str, problem: str, hint: str, write_job: Any) -> None:
    _, (found,) = load([write_job(f"prompt: x\nimages: {written}")])
    assert found.message == problem
    assert hint in (found.hint or "")
