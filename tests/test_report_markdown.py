"""Markdown reports: what they say of real rows, and that nothing in a reply is markup."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from runner.errors import ExitCode
from runner.report import markdown
from runner.report.rows import Rows
from runner.running import summary as summaries
from runner.running.summary import Summary
from runner.stop import StopReason

# The tags that the report itself writes, each by itself; whatever else is HTML came from somewhere else.
OUR_HTML = re.compile(
    r"<details>\n<summary>(✅|❌|⚠️|🟡)( <code>[^<>]*</code>)+( tolerated)?</summary>\n|</details>\n",
)


def summary_of(rows: Rows) -> Summary:
    return summaries.of_rows(rows)


def report(*files: Path) -> str:
    rows = Rows(files)
    out = io.StringIO()
    markdown.write(out, rows, summary_of(rows))
    return out.getvalue()


def tokens(text: str) -> Iterator[Token]:
    """Everything that a reader of Markdown finds in the text."""
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        yield token
        yield from token.children or ()


def table(text: str, first: str) -> list[list[str]]:
    """The lines of the table whose first column has this head."""
    lines = text[text.index(f"| {first} |") :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if not line.startswith("| ---")]


def test_the_first_line_is_the_verdict(mixed_rows: Path, edited: Any) -> None:
    assert report(mixed_rows).splitlines()[0] == "## ⚠️ bedrock-run: 5 failed, 2 in error, of 12 cases"
    assert report(edited(dict, slice(4))).splitlines()[0] == "## ✅ bedrock-run: all passed, of 2 cases"


def test_the_jobs_stand_in_a_table(mixed_rows: Path) -> None:
    _, line = table(report(mixed_rows), "job")
    assert line[:5] == ["`mixed`", "12", "5", "5", "2"]
    assert re.fullmatch(r"0\.\d+", line[5])
    assert all(re.fullmatch(r"\d+ms|\d\.\d+s", latency) for latency in line[8:])


def test_the_variants_of_a_matrix_stand_side_by_side(mixed_rows: Path) -> None:
    text = report(mixed_rows)
    assert [line[:5] for line in table(text, "variant")[1:]] == [
        ["`tone=dry`", "6", "3", "2", "1"],
        ["`tone=warm`", "6", "2", "3", "1"],
    ]
    assert "1 case in which the variants differ:" in text
    head, line = table(text, "case")
    assert head == ["case", "`tone=dry`", "`tone=warm`"]
    assert line == ["`differs`", "✅ passed", "❌ failed"]


@pytest.mark.usefixtures("at_the_job")
def test_a_failure_tells_the_assertion_its_line_and_the_request(mixed_rows: Path) -> None:
    (found,) = re.findall(r"<details>\n<summary>[^\n]*>differs \[.*?</details>", report(mixed_rows), re.DOTALL)
    assert "<summary>❌ <code>mixed</code> <code>differs [tone=warm]</code> <code>contains</code></summary>" in found
    assert "Repetition 2 of 2:\n\n- `contains` at `job.yaml:16`\n" in found
    assert "  - expected: `output to contain 'Paris'`\n  - actual: `got 'London.'`\n- request id: `" in found
    assert "```text\nLondon.\n```" in found


@pytest.mark.usefixtures("at_the_job")
def test_an_error_tells_its_message_and_its_request(mixed_rows: Path) -> None:
    text = report(mixed_rows)
    assert "- `invalid` at `job.yaml:12`, after 1 attempt\n  - message: `ValidationException: too <b>bold</b>`" in text


def test_a_run_that_was_stopped_says_so_first(edited: Any) -> None:
    rows = Rows([edited(dict, slice(4))])
    summary = summary_of(rows)
    summary.total.cases += 6
    summary.jobs["mixed"].tally.cases += 6  # three cases, twice each
    summary.stopped = StopReason(exit_code=ExitCode.STOPPED, message="the `budget` is spent")
    out = io.StringIO()
    markdown.write(out, rows, summary)
    assert out.getvalue().startswith(
        "## ⚠️ bedrock-run: 3 not reached, of 5 cases\n\nThe run stopped early: ``the `budget` is spent``\n"
    )
    head, line = table(out.getvalue(), "job")
    assert (head[1], line[1], head[5], line[5]) == ("cases", "5", "not reached", "3")


def test_it_stays_below_the_limit_and_says_what_is_left_out(edited: Any, mixed_rows: Path, tmp_path: Path) -> None:
    lines = edited(lambda row: {**row, "output": "y" * 3000}).read_bytes().splitlines(keepends=True)
    many = tmp_path / "many.jsonl"
    many.write_bytes(
        b"".join(
            line.replace(b'"case":"', b'"case":"%d ' % copy).replace(b'"index":', b'"index":%d' % (copy + 1))
            for copy in range(50)
            for line in lines
        )
    )
    text = report(many)
    assert 50_000 < len(text) <= 60_000
    told = text.count("<details>")
    (left_out,) = re.findall(r"\n(\d+) more cases left out, to stay below GitHub's limits", text)
    assert told + int(left_out) == 350
    assert "\n### 350 cases did not pass\n" in text


def test_a_table_that_is_too_long_is_cut(edited: Any, tmp_path: Path) -> None:
    lines = edited(lambda row: row, slice(8, 12)).read_bytes()
    many = tmp_path / "many.jsonl"
    many.write_bytes(
        b"".join(
            lines.replace(b"differs", b"differs %d" % copy).replace(b'"index":', b'"index":%d' % (copy + 1))
            for copy in range(900)
        )
    )
    text = report(many)
    assert len(text) <= 60_000
    assert re.search(r"\n\d+ lines of this table left out", text)
    assert text.count("<details>") > 10


def test_every_hostile_text_stays_text(hostile: str, edited_hostile: Path) -> None:
    text = report(edited_hostile)
    folds = ""
    for token in tokens(text):
        assert token.type not in {"link_open", "image", "html_inline", "em_open", "strong_open", "s_open", "hr"}
        if token.type == "html_block":
            assert OUR_HTML.fullmatch(token.content), token.content
            folds += ")" if token.content.startswith("</") else "("
        if token.type == "text":
            assert not re.search(r"[@#$<>\[\]~*\\|]|https?:|www\.", token.content), token.content
        if token.type == "heading_open":
            assert token.tag in {"h2", "h3"}
        if token.type == "fence":
            assert token.info == "text"
    assert folds == "()" * (len(folds) // 2) != ""
    assert not re.search(r"^\s*::|##\w*\[", text, re.MULTILINE)
    assert all(ord(character) >= 32 or character in "\n\t" for character in text)


def test_every_table_keeps_its_columns(hostile: str, edited_hostile: Path) -> None:
    rows: list[int] = []
    for token in tokens(report(edited_hostile)):
        if token.type == "tr_open":
            rows.append(0)
        if token.type in {"td_open", "th_open"}:
            rows[-1] += 1
    assert set(rows) == {10, 3}, "the totals, and the cases with their two variants"


def test_code_that_is_all_backticks_is_shown_whole(edited: Any) -> None:
    text = report(edited(lambda row: {**row, "output": "`" * 7 + "\n```"}, slice(4, 5)))
    (block,) = (token.content for token in tokens(text) if token.type == "fence")
    assert block == "`" * 7 + "\n```\n"


def test_failures_that_a_threshold_tolerates_are_marked_and_the_verdict_is_that_of_the_exit_code(
    tolerant: Any, mixed_rows: Path
) -> None:
    text = (tolerant.folder / "r.md").read_text()
    assert text.startswith("## ✅ bedrock-run: 1 failed as pass_rate allows, of 2 cases\n")
    assert "<summary>🟡 <code>job</code> <code>bad</code> <code>contains</code> tolerated</summary>" in text
    assert "tolerated" not in report(mixed_rows)


def test_paths_are_those_of_the_repository(tolerant: Any) -> None:
    for name in ("r.md", "step.md"):
        assert "- `contains` at `prompts/job.yaml:5`\n" in (tolerant.folder / name).read_text()
