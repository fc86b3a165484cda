"""The rows that reports are made of: their order, what belongs to one case, and what became of it."""

from __future__ import annotations

from codecs import BOM_UTF8
from pathlib import Path
from typing import Any

import pytest
from made_rows import ERROR, made_row

from runner.records.row_facts import request_id, took_s
from runner.report.rows import Rows
from runner.results.lines import to_line


def test_rows_come_in_the_order_of_the_cases(mixed_rows: Path, edited: Any) -> None:
    backwards = edited(dict, slice(None, None, -1))
    assert list(Rows([backwards], away=True)) == list(Rows([mixed_rows], away=True))


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_damages_no_row(mixed_rows: Path, tmp_path: Path, line_end: bytes) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(BOM_UTF8 + mixed_rows.read_bytes().replace(b"\n", line_end))
    rows = Rows([file], away=True)
    assert rows.notices == []
    assert list(rows) == list(Rows([mixed_rows], away=True))


def test_cases_of_one_position_stay_apart(edited: Any) -> None:
    def alternating(row: dict[str, Any]) -> dict[str, Any]:
        return {**row, "case": "ab"[row["index"]], "index": 0}

    found = Rows([edited(alternating, slice(4))])
    assert [(case.id, len(case.rows)) for case in found.cases()] == [("a", 2), ("b", 2)]


def test_the_cases_of_one_job_can_be_asked_for(mixed_rows: Path, edited: Any) -> None:
    rows = Rows([edited(lambda row: {**row, "job": "first"}, slice(2)), mixed_rows])
    assert rows.jobs == ["first", "mixed"]
    assert [len(list(rows.cases(name))) for name in ("first", "mixed", "absent")] == [1, 12, 0]
    assert len(list(rows.cases())) == 13


@pytest.mark.parametrize(
    ("statuses", "min_pass", "verdict"),
    [
        (["passed", "passed", "passed"], 3, "passed"),
        (["passed", "failed", "passed"], 3, "failed"),
        (["passed", "failed", "passed"], 2, "passed"),
        (["passed", "failed", "error"], 1, "error"),
        (["passed", "passed"], 2, "passed"),
        (["passed", "passed"], 3, "error"),
        (["failed"], 3, "failed"),
        (["failed"], 2, "error"),
    ],
)
def test_a_case_of_three_repetitions(edited: Any, statuses: list[str], min_pass: int, verdict: str) -> None:
    left = iter(enumerate(statuses))

    def repeated(row: dict[str, Any]) -> dict[str, Any]:
        repeat, status = next(left)
        asked = {"case": "x", "index": 0, "repeat": repeat, "repeats": 3, "min_pass": min_pass}
        verdicts = [{**verdict, "passed": status == "passed"} for verdict in row["assertions"]]
        return {**row, **asked, "status": status, "assertions": verdicts, "error": ERROR if status == "error" else None}

    (case,) = Rows([edited(repeated, slice(len(statuses)))]).cases()
    assert case.status == verdict
    assert case.missing == 3 - len(statuses)


def test_rows_of_earlier_versions_are_read(edited: Any, mixed_rows: Path) -> None:
    later = {"matrix", "tags", "source", "repeats", "min_pass"}

    def earlier(row: dict[str, Any]) -> dict[str, Any]:
        told = ("type", "passed", "reason", "value", "threshold", "line")
        verdicts = [{key: each[key] for key in told} for each in row["assertions"]]
        return {**{key: value for key, value in row.items() if key not in later}, "assertions": verdicts}

    found = list(Rows([edited(earlier, slice(4, 5))]))
    assert found[0]["source"] == {"path": "mixed.yaml", "line": 1, "row": None}
    assert found[0]["assertions"][0]["expected"] == ""
    assert found[0]["repeats"] == 1


def test_an_error_says_what_its_attempts_took(mixed_rows: Path) -> None:
    (row, *_) = (row for row in Rows([mixed_rows]) if row["status"] == "error")
    assert took_s(row) == row["attempts"][0]["latency_ms"] / 1000
    assert request_id(row) == row["attempts"][0]["request_id"] is not None


def test_the_job_file_of_a_row_is_named_from_here_if_it_lies_around_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "album" / "outputs" / "job.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_bytes(to_line(made_row(source={"path": "in/job.yaml", "line": 1, "row": None})))
    monkeypatch.chdir(rows.parent)
    assert [row["source"]["path"] for row in Rows([rows])] == ["in/job.yaml"]  # it has gone
    (tmp_path / "album" / "in").mkdir()
    (tmp_path / "album" / "in" / "job.yaml").touch()
    for folder, path in {"album": "in/job.yaml", "album/in": "job.yaml", ".": "album/in/job.yaml"}.items():
        monkeypatch.chdir(tmp_path / folder)
        assert [row["source"]["path"] for row in Rows([rows])] == [path]
