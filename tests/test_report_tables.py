"""CSV and Parquet of rows: every value in its column and type, and no cell that a spreadsheet would compute."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from runner.records.row_facts import failed_assertions
from runner.report import tables
from runner.report.rows import Rows
from runner.running import summary as summaries

csv.field_size_limit(10_000_000)  # one hostile text is longer than Python's reader takes by itself


def read_csv(*files: Path) -> list[dict[str, str]]:
    rows = Rows(files)
    out = io.StringIO(newline="")
    tables.write_csv(out, rows, summaries.of_rows(rows))
    assert out.getvalue().startswith("\ufeff")
    out.getvalue().encode()
    return list(csv.DictReader(io.StringIO(out.getvalue()[1:], newline="")))


def read_parquet(*files: Path) -> pq.ParquetFile:
    rows = Rows(files)
    out = io.BytesIO()
    tables.write_parquet(out, rows, summaries.of_rows(rows))
    return pq.ParquetFile(io.BytesIO(out.getvalue()))


def test_the_csv_has_a_line_for_each_row(mixed_rows: Path) -> None:
    found = read_csv(mixed_rows)
    rows = list(Rows([mixed_rows]))
    assert len(found) == len(rows) == 24
    for line, row in zip(found, rows, strict=True):
        assert line["case"] == row["case"]
        assert line["repeat"] == str(row["repeat"])
        assert line["status"] == row["status"]
        assert line["matrix.tone"] == row["vars"]["tone"]
        assert line["vars.size"] == str(row["vars"].get("size", ""))
        assert line["tags"] == "smoke"
        assert line["attempts"] == "1"
        assert line["latency_ms"] == str("" if row["latency_ms"] is None else row["latency_ms"])
        assert line["failed_assertions"] == "; ".join(each["type"] for each in failed_assertions(row))
        assert line["request_id"] == row["attempts"][-1]["request_id"]
    refused = next(line for line in found if line["status"] == "error")
    assert refused["error_code"] == "invalid"
    assert refused["error_message"] == "ValidationException: too <b>bold</b>"
    assert refused["output"] == refused["cost_usd"] == refused["input_tokens"] == ""


def test_the_parquet_has_types(mixed_rows: Path) -> None:
    table = read_parquet(mixed_rows).read()
    types = {field.name: str(field.type) for field in table.schema}
    assert types["vars.size"] == "double", "3 and 2.5 are numbers"
    assert types["vars.ask"] == types["output"] == "string"
    assert types["input_tokens"] == types["latency_ms"] == types["attempts"] == "int64"
    assert types["cost_usd"] == "double"
    assert types["started_at"] == "timestamp[ms, tz=UTC]"
    assert types["tags"] == types["reasons"] == "list<element: string>"


def test_the_parquet_has_what_the_rows_say(mixed_rows: Path) -> None:
    found = read_parquet(mixed_rows).read().to_pylist()
    for line, row in zip(found, Rows([mixed_rows]), strict=True):
        assert line["output"] == row["output"]
        assert line["cost_usd"] == row["cost_usd"]
        assert line["tags"] == row["tags"]
        assert line["reasons"] == [each["reason"] for each in failed_assertions(row)]
        assert line["started_at"] == datetime.fromisoformat(row["started_at"]).astimezone(UTC)


def test_the_parquet_has_row_groups(mixed_rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_GROUP_ROWS", 10)
    file = read_parquet(mixed_rows)
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [10, 10, 4]


def test_long_replies_make_a_row_group_full(edited: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_GROUP_CHARACTERS", 5_000)
    file = read_parquet(edited(lambda row: {**row, "output": "x" * 3_000}))
    assert file.num_row_groups == 12


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None, 2], "int64"),
        ([1, 2.5], "double"),
        ([True, False], "bool"),
        ([None, None], "string"),
        ([1, "one"], "string"),
        ([True, 1], "string"),
        ([2**70, 1], "string"),
        ([{"a": 1}, [2]], "string"),
    ],
)
def test_a_variable_has_the_type_that_takes_all_of_its_values(edited: Any, values: list[Any], kind: str) -> None:
    left = iter(values)
    table = read_parquet(edited(lambda row: {**row, "vars": {"x": next(left)}}, slice(len(values)))).read()
    assert str(table.schema.field("vars.x").type) == kind


def test_nested_values_are_json(edited: Any) -> None:
    (found,) = read_csv(edited(lambda row: {**row, "vars": {"x": {"a": [1, "é"], "b.c": 2}, "y": {}}}, slice(1)))
    assert found["vars.x.a"] == '[1, "é"]'
    assert found['vars.x."b.c"'] == "2"
    assert found["vars.y"] == "{}"


def test_pictures_sidecars_and_repairs_have_columns_where_there_are_some(edited: Any) -> None:
    digest = "a" * 64
    sent = {"media_type": "image/jpeg", "width": 30, "height": 20, "changes": ["scaled down", "turned upright"]}
    whole = {"path": "b.png", "sha256": digest, "bytes": 1, "media_type": "image/png"}
    images = [whole, {**whole, "path": "a.jpg", "media_type": "image/jpeg", "sent": sent}]
    schema = {"schema": {"type": "object"}, "sent": "native"}

    def captioned(row: dict[str, Any]) -> dict[str, Any]:
        (message,) = row["request"]["messages"]
        request = {**row["request"], "messages": [{**message, "images": images}], "response_schema": schema}
        return {
            **row,
            "request": request,
            "sidecar": {"path": "b.txt", "sha256": digest},
            "replies": row["replies"] * 2,
        }

    (plain,) = read_csv(edited(dict, slice(1)))
    (found,) = read_csv(edited(captioned, slice(1)))
    assert {name: found[name] for name in found if name not in plain} == {
        "images": "b.png; a.jpg",
        "images.sha256": f"{digest}; {digest}",
        "images.sent": "as it is; 30 x 20 jpeg: scaled down, turned upright",
        "sidecar": "b.txt",
        "sidecar.sha256": digest,
        "repaired": "true",
    }


def test_no_cell_of_the_csv_is_a_formula(hostile: str, edited_hostile: Path) -> None:
    for line in read_csv(edited_hostile):
        for name, cell in line.items():
            assert not name.lstrip(" ").startswith(tuple("=+-@\t\r\n"))
            assert not cell.lstrip(" ").startswith(tuple("=+-@\t\r\n"))
            assert "\x00" not in cell
            assert "\x1b" not in cell


def test_text_is_text_and_numbers_are_numbers(edited: Any) -> None:
    file = edited(lambda row: {**row, "vars": {"number": -5, "text": "-5"}, "output": "a\x00b\ud800"}, slice(1))
    (found,) = read_csv(file)
    assert found["vars.number"] == "-5"
    assert found["vars.text"] == "'-5"
    assert found["output"] == r"a\x00b\ud800"


def test_the_parquet_keeps_every_text(hostile: str, edited_hostile: Path) -> None:
    whole = hostile.replace("\ud800", r"\ud800").replace("\udfff", r"\udfff")
    found = read_parquet(edited_hostile).read().to_pylist()
    assert {line["output"] for line in found if line["status"] != "error"} == {whole}
