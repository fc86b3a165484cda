from __future__ import annotations

import csv
import datetime as dt
import decimal
import gzip
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner import datasets
from runner.datasets import Survey, csv_rows, json_rows
from runner.datasets.files import DataError, DataRow, DataSource, format_of
from runner.errors import Place, Problem

NAMED_AT = Place("job.yaml", 3, 8, "cases: rows.csv")


def source_of(path: Path, delimiter: str | None = None) -> DataSource:
    kind = format_of(path.name)
    return DataSource(file=path, shown=path.name, named_at=NAMED_AT, format=kind, delimiter=delimiter)


def write(folder: Path, content: str | bytes, name: str = "rows.csv") -> DataSource:
    path = folder / name
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    return source_of(path)


def read(source: DataSource) -> list[DataRow]:
    """The rows of a file that has no problems; the survey and the rows say the same of it."""
    survey = datasets.survey(source)
    assert survey.problems == ()
    rows = list(datasets.rows(source))
    assert survey.rows == len(rows)
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    assert set(survey.columns) == {name for row in rows for name in row.values}
    return rows


def values(source: DataSource) -> list[dict[str, Any]]:
    return [dict(row.values) for row in read(source)]


def told(survey: Survey) -> list[str]:
    return [f"{problem.place} {problem.message}" for problem in survey.problems]


def problems(source: DataSource) -> list[str]:
    """What is refused, and each time with a row that cannot be had either."""
    found = told(datasets.survey(source))
    assert found
    return found


def only_problem(source: DataSource) -> Problem:
    (problem,) = datasets.survey(source).problems
    return problem


# --- CSV that is read right ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("a,b\n1,2\n", [("1", "2")], id="plain"),
        pytest.param("a,b\n1,2", [("1", "2")], id="no line end at the end"),
        pytest.param("a,b\r\n1,2\r\n3,4\r\n", [("1", "2"), ("3", "4")], id="CRLF"),
        pytest.param("a,b\r1,2\r3,4\r", [("1", "2"), ("3", "4")], id="CR alone"),
        pytest.param("a,b\r\n1,2\n3,4\r5,6", [("1", "2"), ("3", "4"), ("5", "6")], id="line ends of all kinds"),
        pytest.param("\ufeffa,b\n1,2\n", [("1", "2")], id="BOM"),
        pytest.param('\ufeff"a",b\n1,2\n', [("1", "2")], id="BOM before a quote"),
        pytest.param("\ufeff\ufeffa,b\n1,2\n", [("1", "2")], id="BOM twice"),
        pytest.param("a;b\n1,5;2\n", [("1,5", "2")], id="semicolons"),
        pytest.param("a\tb\n1,5\t2\n", [("1,5", "2")], id="tabs"),
        pytest.param("a|b\n1,5|2\n", [("1,5", "2")], id="vertical bars"),
        pytest.param('"a"|"b"\n1|2\n', [("1", "2")], id="quoted header"),
        pytest.param("sep=;\na;b\n1;2\n", [("1", "2")], id="sep= of Excel"),
        pytest.param("SEP=\t\r\na\tb\r\n1\t2\r\n", [("1", "2")], id="sep= a tab"),
        pytest.param("sep=,\r\n\r\na,b\r\n1;x,2\r\n", [("1;x", "2")], id="sep= and a blank line"),
        pytest.param("sep=#\na#b\n1#2\n", [("1", "2")], id="sep= anything"),
        pytest.param(" a , b \n1,2\n", [("1", "2")], id="white space around names"),
        pytest.param("\n\n  \na,b\n\n1,2\n\n  \n3,4\n\n", [("1", "2"), ("3", "4")], id="blank lines"),
        pytest.param("a,b,,\n1,2,,\n3,4,,\n", [("1", "2"), ("3", "4")], id="commas at the end, as Excel writes"),
        pytest.param("a,,b\n1,,2\n", [("1", "2")], id="an empty column in the middle"),
        pytest.param("a,b\n,\n1,2\n", [("", ""), ("1", "2")], id="a row of empty cells is a row"),
        pytest.param('a,b\n"1\n2\r\n3\r4",5\n', [("1\n2\r\n3\r4", "5")], id="quoted line ends of all kinds"),
        pytest.param('a,b\n"say ""hi""",""""\n', [('say "hi"', '"')], id="doubled quotes"),
        pytest.param('a,b\n5" nail,x "y" z\n', [('5" nail', 'x "y" z')], id="quotes inside an unquoted cell"),
        pytest.param('a,b\n "x", y"\n', [(' "x"', ' y"')], id="a quote after a space"),
        pytest.param('a,b\n"",\n', [("", "")], id="empty and quoted empty"),
        pytest.param("a,b\n007, padded \n1e5,NULL\nTRUE,=1+1\n",
                     [("007", " padded "), ("1e5", "NULL"), ("TRUE", "=1+1")], id="values stay text"),
        pytest.param("a,b\n{{ x }},{% raw %}\n", [("{{ x }}", "{% raw %}")], id="templates are text"),
        pytest.param("a,b\n\u2028x,\x85\x0b\x0c\x1cy\n", [("\u2028x", "\x85\x0b\x0c\x1cy")], id="no line ends"),
        pytest.param("a,b\n\\,x\\\n", [("\\", "x\\")], id="backslashes"),
        pytest.param("a,b\n'x,y'\n", [("'x", "y'")], id="single quotes"),
        pytest.param("a,b\n日本,é\U0001f600\n", [("日本", "é\U0001f600")], id="not ASCII"),
        pytest.param("a,b\n#1,2\n", [("#1", "2")], id="no comments"),
    ],
)  # fmt: skip
def test_csv_is_read_as_excel_reads_it(content: str, expected: list[tuple[str, str]], tmp_path: Path) -> None:
    assert values(write(tmp_path, content)) == [{"a": a, "b": b} for a, b in expected]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_text_of_excel_is_read_right(encoding: str, tmp_path: Path) -> None:
    bom = "\ufeff" if encoding.endswith("e") else ""
    content = f'{bom}name\ttext\r\nZoë\t"a\r\nb"\r\n日本\tഅ\u0a0d\r\n'
    assert values(write(tmp_path, content.encode(encoding))) == [
        {"name": "Zoë", "text": "a\r\nb"},
        {"name": "日本", "text": "അ\u0a0d"},
    ]


def test_a_row_is_on_the_line_where_it_starts(tmp_path: Path) -> None:
    source = write(tmp_path, 'sep=,\n\nid,"b\nc"\n1,"x\ny\n\nz"\n\n2,"x"\r\n3,"\r"\r4,\n')
    assert [(row.number, row.line, row.id) for row in read(source)] == [
        (1, 5, "1"),
        (2, 10, "2"),
        (3, 11, "3"),
        (4, 13, "4"),
    ]
    assert datasets.survey(source).columns == ("id", "b\nc")


def test_a_file_with_one_column_has_no_delimiter_and_an_empty_cell_is_quoted(tmp_path: Path) -> None:
    assert values(write(tmp_path, 'First Name\nAnn\n\n""\nBo;b\n"a,b"\n')) == [
        {"First Name": name} for name in ("Ann", "", "Bo;b", "a,b")
    ]


def test_tsv_is_tabs_alone_and_a_said_delimiter_wins(tmp_path: Path) -> None:
    assert values(write(tmp_path, "a,b\tc\n1\t2\n", "rows.tsv")) == [{"a,b": "1", "c": "2"}]
    write(tmp_path, "a,b;c\n1;2\n")
    assert values(source_of(tmp_path / "rows.csv", delimiter=";")) == [{"a,b": "1", "c": "2"}]
    write(tmp_path, "sep=,\na,b;c\n1;2\n")
    assert values(source_of(tmp_path / "rows.csv", delimiter=";")) == [{"a,b": "1", "c": "2"}]


def test_delimiters_inside_quotes_of_the_header_are_not_counted(tmp_path: Path) -> None:
    assert values(write(tmp_path, '"a, b";"c\n,d"\n1,5;2\n')) == [{"a, b": "1,5", "c\n,d": "2"}]


def test_a_cell_of_5_mb_is_read(tmp_path: Path) -> None:
    big = 'x"y,z\n' * 833_334
    source = write(tmp_path, "id,text\n1,ab\n2,{}\n3,cd\n".format('"' + big.replace('"', '""') + '"'))
    found = read(source)
    assert [row.line for row in found] == [2, 3, 3 + 833_334 + 1]
    assert found[1].values["text"] == big


def test_what_pythons_csv_writes_comes_back(tmp_path: Path) -> None:
    chance = random.Random(7)
    alphabet = ['"', ",", ";", "\n", "\r", "\r\n", " ", "a", "é", "\u2028", "'", "\\", "\x00"[:0]]
    for _ in range(200):
        width = chance.randint(1, 4)
        rows = [["".join(chance.choices(alphabet, k=chance.randint(0, 6))) for _ in range(width)] for _ in range(5)]
        written = io.StringIO(newline="")
        writer = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator=chance.choice(["\n", "\r\n", "\r"]))
        names = [f"c{number}" for number in range(width)]
        writer.writerows([names, *rows])
        assert values(write(tmp_path, written.getvalue())) == [dict(zip(names, row, strict=True)) for row in rows]


def test_real_files_are_read_like_numpy_reads_them_or_refused_by_line() -> None:
    folder = Path(np.__file__).parent
    files = sorted([*folder.rglob("*.csv")])
    assert files
    for path in files:
        survey = datasets.survey(source_of(path))
        lines = path.read_text().splitlines()
        assert survey.rows + 1 == sum(1 for line in lines if line.strip()) or all(
            problem.place and problem.place.line for problem in survey.problems
        )


# --- CSV that is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("a,b,c\n1,2\n1,2,3\n", ["rows.csv:2:4 this row has 2 cells, and the header has 3"], id="too few"),
        pytest.param("a,b\n1,2\n1,2,3\n", ["rows.csv:3:5 this row has 3 cells, and the header has 2"], id="too many"),
        pytest.param("a,b\n1,2,\n", ["rows.csv:2:5 this row has 3 cells, and the header has 2"], id="one more, empty"),
        pytest.param('a,b\n"x\ny",2,3\n4\n', ["rows.csv:2:1 this row has 3 cells, and the header has 2",
                                              "rows.csv:4:2 this row has 1 cell, and the header has 2"], id="lines"),
        pytest.param("a\n1,2\n", ["rows.csv:2:3 this row has 2 cells, and the header has 1"], id="one column"),
        pytest.param("a,,b\n1,,2\n3,x,4\n5,y,6\n",
                     ["rows.csv:1:3 column 2 has no name, and line 3 has `x` in it"], id="no name"),
        pytest.param(",,\n1,2,3\n", ["rows.csv:1:1 the header has no names"], id="no names"),
        pytest.param("a,b, a ,b\n1,2,3,4\n", ["rows.csv:1:5 columns 1 and 3 are both named `a`",
                                              "rows.csv:1:9 columns 2 and 4 are both named `b`"], id="duplicates"),
        pytest.param('a,b\n1,2\n3,"x\n5,6\n7,8\n',
                     ["rows.csv:3:3 the quote that opens here is never closed"], id="an unclosed quote"),
        pytest.param('a,b\n"x\ny","z\n5,6\n',
                     ["rows.csv:3:4 the quote that opens here is never closed"], id="unclosed further down its row"),
        pytest.param('a,b\n1,"x\n2,"y"\n3,4\n5,6,7\n',
                     ["rows.csv:2:3 the quote that opens here is closed only on line 3, where text follows it",
                      "rows.csv:5:5 this row has 3 cells, and the header has 2"], id="closed by another's quote"),
        pytest.param('a,b\n1,"x\n2,"y\n3,"z"\n4,"w\n',
                     ["rows.csv:2:3 the quote that opens here is closed only on line 3, where text follows it",
                      "rows.csv:3:3 the quote that opens here is closed only on line 4, where text follows it",
                      "rows.csv:5:3 the quote that opens here is never closed"], id="several unclosed quotes"),
        pytest.param('a,b\n"abc"def,2\n3,"4" \n5,6\n',
                     ["rows.csv:2:6 text follows the closing quote of a cell",
                      "rows.csv:3:6 text follows the closing quote of a cell"], id="text after a quote"),
        pytest.param('a,"b\n1,2\n', ["rows.csv:1:3 the quote that opens here is never closed"], id="in the header"),
        pytest.param('"a"b,c\n1,2\n', ["rows.csv:1:4 text follows the closing quote of a cell"], id="header and text"),
        pytest.param("a,b;c\n1,2\n", ["rows.csv:1:1 the header has more than one delimiter: comma and semicolon"],
                     id="ambiguous"),
        pytest.param("a,b\n1,\x002\n\x00,2\n", ["rows.csv:2:3 a NUL byte is in the file (the first one is here)"],
                     id="NUL"),
        pytest.param("", ["rows.csv the file is empty"], id="empty"),
        pytest.param("\ufeff", ["rows.csv the file is empty"], id="BOM alone"),
        pytest.param("\n\r\n  \n", ["rows.csv the file is empty"], id="blank lines alone"),
        pytest.param("sep=;\n", ["rows.csv the file is empty"], id="sep= alone"),
        pytest.param("a,b\n", ["rows.csv the file has no rows"], id="header alone"),
        pytest.param("a,b\n\n \n", ["rows.csv the file has no rows"], id="header and blank lines"),
    ],
)  # fmt: skip
def test_csv_that_is_wrong_is_refused_by_line(content: str, expected: list[str], tmp_path: Path) -> None:
    source = write(tmp_path, content)
    assert problems(source) == expected
    if "NUL" not in expected[0] and "no rows" not in expected[0]:
        with pytest.raises(DataError) as caught:
            list(datasets.rows(source))
        assert caught.value.problem.message in expected[0]


def test_a_problem_shows_the_line_that_it_is_on(tmp_path: Path) -> None:
    survey = datasets.survey(write(tmp_path, '\ufeffa,b,a\r\n1,"x\r\n2,3,4\r\n'))
    assert [problem.place for problem in survey.problems] == [
        Place("rows.csv", 1, 5, "a,b,a"),
        Place("rows.csv", 2, 3, '1,"x'),
    ]


def test_hints_say_what_is_most_likely(tmp_path: Path) -> None:
    assert "remove the space before the quote" in str(only_problem(write(tmp_path, 'a,b\n1, "x, y"\n')).hint)
    assert "has a comma in it in double quotes" in str(only_problem(write(tmp_path, "a\nHello, you\n")).hint)
    assert "delimiter" in str(only_problem(write(tmp_path, "a,b;c\n1,2\n")).hint)


def test_all_problems_are_told_up_to_a_hundred_and_the_rest_counted(tmp_path: Path) -> None:
    survey = datasets.survey(write(tmp_path, "a,b\n" + "1\n" * 1234))
    assert len(survey.problems) == 101
    assert survey.problems[-1].message == "1,134 more problems of this file are not shown"
    assert {problem.place and problem.place.line for problem in survey.problems[:100]} == set(range(2, 102))


def test_quotes_that_are_not_closed_take_time_in_proportion(tmp_path: Path) -> None:
    content = "a,b\n" + '1,"x\n' + "3,4\n" * 200_000
    assert problems(write(tmp_path, content)) == ["rows.csv:2:3 the quote that opens here is never closed"]
    many = datasets.survey(write(tmp_path, "a,b\n" + '1,"x""\n' * 20_000))
    assert many.problems[-1].message.endswith("more problems of this file are not shown")


def test_a_cell_beyond_the_limit_is_an_unclosed_quote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_CELL", 1000)
    found = problems(write(tmp_path, 'a,b\n1,"' + "x\n" * 2000 + '"\n'))
    assert (
        found[0] == "rows.csv:2:3 the cell that starts here has more than 1,000 characters: is its quote never closed?"
    )
    assert len(found) == 1 + 1  # and the quote that is left over opens a cell


@pytest.mark.parametrize(
    ("content", "line", "column", "hint"),
    [
        ("a,b\n1,2\nMenü,café\n".encode("cp1252"), 3, 4, "in which this reads `Menü`"),
        ("a,b\n1,2\nit\u2019s,x\n".encode("cp1252"), 3, 3, "in which this reads `it\u2019s`"),
        (b"a,b\n" + b"1,2\n" * 400_000 + b"x,\xe9", 400_002, 3, "iconv -f WINDOWS-1252 -t UTF-8 rows.csv"),
        (b"a,b\n\x81,\x8d\n", 2, 1, "iconv -f ITS-ENCODING"),
        (b"a,b\r1,2\r\xff,3\r", 3, 1, "Windows-1252"),
        (b"a,b\n\xc3\xa9,2\n\xe2\x82,3\n", 3, 1, "lines above this one are UTF-8"),
        (b"\xef\xbb\xbfa\xff,b\n1,2\n", 1, 2, "Windows-1252"),
    ],
)
def test_bytes_that_are_not_utf_8_are_refused_by_line_with_the_likely_encoding(
    content: bytes, line: int, column: int, hint: str, tmp_path: Path
) -> None:
    problem = only_problem(write(tmp_path, content))
    assert "not UTF-8" in problem.message
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == (line, column)
    assert hint in str(problem.hint)


def test_bytes_and_structure_are_told_together(tmp_path: Path) -> None:
    assert problems(write(tmp_path, b"id,b\n\xe9,2\n\xe8,2,3\n\0,1\n")) == [
        "rows.csv:2:1 the file is not UTF-8: byte 0xE9 (the first such one is here)",
        "rows.csv:3:5 this row has 3 cells, and the header has 2",
        "rows.csv:4:1 a NUL byte is in the file (the first one is here)",
    ]


def test_other_encodings_are_named(tmp_path: Path) -> None:
    assert "UTF-32" in only_problem(write(tmp_path, "a,b\n1,2\n".encode("utf-32"))).message
    assert "UTF-16LE" in only_problem(write(tmp_path, "a,b\n1,2\n".encode("utf-16-le"))).message
    assert "UTF-16BE" in only_problem(write(tmp_path, "a,b\n1,2\n".encode("utf-16-be"))).message
    cut = only_problem(write(tmp_path, "a,b\n1,2\n".encode("utf-16")[:-1]))
    assert "damaged or cut" in cut.message


# --- what is no data file --------------------------------------------------------------------------------------------


def workbook() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return content.getvalue()


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as written:
        written.writestr("rows.csv", "a,b\n1,2\n")
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "kind", "hint"),
    [
        (workbook(), "an Excel workbook", "CSV UTF-8"),
        (archive(), "a ZIP archive", "unpack"),
        (gzip.compress(b"a,b\n1,2\n"), "a gzip file", "unpack"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100), "an Excel workbook", "CSV UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html>", "a web page", "download"),
        (b"SQLite format 3\x00" + bytes(100), "an SQLite database", "export"),
    ],
)
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json", "rows.yaml", "rows.parquet"])
def test_files_of_other_kinds_are_called_what_they_are(
    content: bytes, kind: str, hint: str, name: str, tmp_path: Path
) -> None:
    problem = only_problem(write(tmp_path, content, name))
    assert kind in problem.message
    assert hint in str(problem.hint)


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.yaml", "rows.parquet"])
def test_a_folder_a_pipe_and_a_device_are_refused_without_waiting(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert "is a folder" in only_problem(source_of(tmp_path / name)).message
    pipe = tmp_path / f"pipe-{name}"
    os.mkfifo(pipe)
    assert "pipe" in only_problem(source_of(pipe)).message
    with pytest.raises(DataError):
        next(datasets.rows(source_of(pipe)))
    device = DataSource(file=Path("/dev/zero"), shown="zero", named_at=NAMED_AT, format="csv")
    assert "device" in only_problem(device).message


def test_a_missing_file_says_what_is_there_instead(tmp_path: Path) -> None:
    write(tmp_path, "a\n1\n", "questions.csv")
    problem = only_problem(source_of(tmp_path / "question.csv"))
    assert problem == Problem("there is no file question.csv", NAMED_AT, "did you mean `questions.csv`?")
    assert "there is no folder" in str(only_problem(source_of(tmp_path / "no" / "rows.csv")).hint)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, "a\n1\n")
    source.file.chmod(0)
    assert "cannot be read: Permission denied" in only_problem(source).message


def test_a_file_that_changed_after_the_survey_is_refused_at_its_row(tmp_path: Path) -> None:
    source = write(tmp_path, "a,b\n" + "1,2\n" * 100_000)
    rows = datasets.rows(source)
    assert next(rows).values == {"a": "1", "b": "2"}
    source.file.write_text("a,b\n" + "1,2,3\n" * 100_000)
    with pytest.raises(DataError, match="and the header has 2"):
        list(rows)
    source.file.write_bytes(b"a,b\n" + b"1,\xff\n" * 3)
    with pytest.raises(DataError, match="not UTF-8 any more"):
        list(datasets.rows(source))
    source.file.unlink()
    with pytest.raises(DataError, match="there is no file"):
        next(datasets.rows(source))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"), ("A.CSV", "csv"), ("a.b.tsv", "tsv"), ("a.jsonl", "jsonl"), ("a.ndjson", "jsonl"),
        ("x/a.json", "json"), ("a.yaml", "yaml"), ("a.yml", "yaml"), ("a.parquet", "parquet"),
    ],
)  # fmt: skip
def test_the_format_is_told_by_the_suffix(name: str, expected: str) -> None:
    assert format_of(name) == expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("a.txt", ".csv, .tsv, .jsonl, .ndjson, .json, .yaml, .yml, .parquet"), ("a", ".csv"), ("a.xlsx", "CSV UTF-8"),
     ("a.csv.gz", "unpack")],
)  # fmt: skip
def test_a_suffix_that_is_not_known_lists_those_that_are(name: str, hint: str) -> None:
    place = Place("job.yaml", 3, 8)
    with pytest.raises(DataError) as caught:
        format_of(name, place)
    assert caught.value.problem.place == place
    assert hint in str(caught.value.problem.hint)


# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids_are_the_text_of_the_column_id(tmp_path: Path) -> None:
    assert [row.id for row in read(write(tmp_path, " id ,a\n007,1\n7,2\n x ,3\n"))] == ["007", "7", " x "]
    assert [row.id for row in read(write(tmp_path, "ID,a\n1,1\n1,2\n"))] == [None, None]
    content = '{"id": 1}\n{"id": "b"}\n{"id": 2.5}\n{"id": 123456789012345678901}\n'
    assert [row.id for row in read(write(tmp_path, content, "r.jsonl"))] == ["1", "b", "2.5", "123456789012345678901"]


def test_every_wrong_id_is_told_with_both_lines_of_a_duplicate(tmp_path: Path) -> None:
    source = write(tmp_path, f'id,a\nx,"1\n2"\n,2\nx,3\n  ,4\n{"y" * 501},5\nx,6\nz,7\n{"w" * 500},8\n')
    assert problems(source) == [
        "rows.csv:4:1 the id is empty",
        "rows.csv:5:1 the id `x` is on line 2 already",
        "rows.csv:6:1 the id is empty",
        "rows.csv:7:1 the id has 501 characters",
        "rows.csv:8:1 the id `x` is on line 2 already",
    ]


def test_ids_of_json_are_text_or_numbers_that_every_row_has(tmp_path: Path) -> None:
    content = '{"a": 1}\n{"a": 2}\n{"id": "1"}\n{"id": 1}\n{"id": true}\n{"id": null}\n{"id": [1]}\n{"a": 3}\n'
    assert problems(write(tmp_path, content, "r.jsonl")) == [
        "r.jsonl:1:1 this row and the 1 row below it have no id, and others have one",
        "r.jsonl:4:1 the id `1` is on line 3 already",
        "r.jsonl:5:1 the id is the boolean true",
        "r.jsonl:6:1 the id is empty",
        "r.jsonl:7:1 the id is a list",
        "r.jsonl:8:1 this row has no id, and others have one",
    ]


def test_of_many_duplicates_the_first_hundred_are_told(tmp_path: Path) -> None:
    survey = datasets.survey(write(tmp_path, "id\n" + "".join(f"{number % 500}\n" for number in range(1500))))
    assert told(survey)[0] == "rows.csv:502:1 the id `0` is on line 2 already"
    assert survey.problems[-1].message == "900 more problems of this file are not shown"


# --- JSONL -----------------------------------------------------------------------------------------------------------


def test_jsonl_lines_end_at_line_feeds_alone(tmp_path: Path) -> None:
    content = '\ufeff{"a": "x\u2028y\u2029\x85"}\r\n\n \t\n{"a": "\ud800 \\ud800"}\n{"a": 1}'.replace("\ud800 ", "")
    source = write(tmp_path, content, "rows.jsonl")
    assert [(row.line, row.values["a"]) for row in read(source)] == [(1, "x\u2028y\u2029\x85"), (4, "\ud800"), (5, 1)]


def test_json_values_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = [
        {"a": 123456789012345678901234567890, "b": [1, {"c": None}], "é": "\U0001f600", "t": True, "f": 0.1},
        {"a": -0.0, "z": "\x00\x1f", "First Name": ""},
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    source = write(tmp_path, content, "rows.jsonl")
    assert values(source) == rows
    survey = datasets.survey(source)
    assert survey.columns == ("a", "b", "é", "t", "f", "z", "First Name")
    assert survey.in_every_row == {"a"}
    assert values(write(tmp_path, json.dumps(rows, indent=2), "rows.json")) == rows


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("x", "rows.jsonl:2:1 this is no JSON: expecting value"),
        ('{"a": 1,}', "rows.jsonl:2:9 this is no JSON: expecting property name enclosed in double quotes"),
        ("{'a': 1}", "rows.jsonl:2:2 this is no JSON: expecting property name enclosed in double quotes"),
        ('{"a": 1', "rows.jsonl:2:8 this is no JSON: expecting ',' delimiter"),
        ('{"a": "1', "rows.jsonl:2:7 this is no JSON: unterminated string starting at"),
        ('{"a": "\t"}', "rows.jsonl:2:8 this is no JSON: invalid control character at"),
        ('{"a": 1} {"a": 2}', "rows.jsonl:2:10 more text follows the value on this line"),
        ('{"a": 1}\r{"a": 2}', "rows.jsonl:2:10 more text follows the value on this line"),
        ('{"a": 1}\u2028', "rows.jsonl:2:9 more text follows the value on this line"),
        ("  [1]", "rows.jsonl:2:3 each line must be an object, and this is a list"),
        ("null", "rows.jsonl:2:1 each line must be an object, and this is nothing"),
        ('"a"', 'rows.jsonl:2:1 each line must be an object, and this is the string "a"'),
        ('{"a": 1, "b": "a", "a": 2}', "rows.jsonl:2:20 the key `a` is twice in this object"),
        ('{"a": {"b": 1, "\\u0062": 2}}', "rows.jsonl:2:16 the key `b` is twice in this object"),
        ('{"a": "NaN", "b": NaN}', "rows.jsonl:2:19 NaN is no JSON"),
        ('{"a": [-Infinity]}', "rows.jsonl:2:8 -Infinity is no JSON"),
        ('{"a": 1e400}', "rows.jsonl:2:7 the number 1e400 is too large to be held"),
        ('{"a": ' + "9" * 5000 + "}", "rows.jsonl:2:1 a number of more than 4,300 digits"),
        ("[" * 100_000, "rows.jsonl:2:1 lists or objects are nested too deeply"),
    ],
)
def test_a_line_that_is_no_json_object_is_refused_by_line_and_column(line: str, expected: str, tmp_path: Path) -> None:
    source = write(tmp_path, f'{{"a": 1}}\n{line}\n{{"a": 3}}\n', "rows.jsonl")
    assert problems(source) == [expected]
    rows = datasets.rows(source)
    assert next(rows).line == 1
    with pytest.raises(DataError):
        next(rows)


def test_all_wrong_lines_are_told(tmp_path: Path) -> None:
    assert len(problems(write(tmp_path, '{"a": 1}\nx\n{"a": 1}\ny\n[]\n{"a": NaN, "a": 1}\n', "r.jsonl"))) == 5


@pytest.mark.parametrize(
    ("content", "hint"),
    [('[{"a": 1},\n{"a": 2}]\n', "name it .json"), ("[\n", "name it .json"), ('[{"a": 1}]', "name it .json"),
     ('{\n  "a": 1\n}\n', "one line")],
)  # fmt: skip
def test_json_under_the_name_of_jsonl_is_told_once(content: str, hint: str, tmp_path: Path) -> None:
    assert hint in str(only_problem(write(tmp_path, content, "rows.jsonl")).hint)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.yaml"])
def test_an_empty_file_of_any_format_is_refused(name: str, tmp_path: Path) -> None:
    for content in ("", "\n\n"):
        assert len(problems(write(tmp_path, content, name))) == 1


# --- JSON, YAML and Parquet ------------------------------------------------------------------------------------------


def test_rows_of_a_json_list_are_on_their_lines(tmp_path: Path) -> None:
    source = write(tmp_path, '\ufeff[\n  {"a": 1}, {"a": "\\ud800"},\n\n  {\n"a": 3}\n]\n', "rows.json")
    assert [(row.line, row.values["a"]) for row in read(source)] == [(2, 1), (2, "\ud800"), (4, 3)]


@pytest.mark.parametrize(
    ("content", "expected", "hint"),
    [
        ('{"a": [1, 2], "b": [3, 4]}', ["1:1 the file must be a list of objects, and this is an object"], "[{"),
        ('{"rows": [{"a": 1}]}', ["1:1 the file must be a list of objects, and this is an object"], "`rows`"),
        ('{"a": 1}\n{"a": 2}\n', ["1:1 the file must be a list of objects, and this is an object"], ".jsonl"),
        ("3", ["1:1 the file must be a list of objects, and this is the number 3"], "[{"),
        ("[]", [" the file has no rows"], "case"),
        ('[\n{"a": 1},\n[2],\n{"b": 1, "b": NaN}\n]', ["3:1 each row must be an object, and this is a list",
                                                       "4:10 the key `b` is twice in this object",
                                                       "4:15 NaN is no JSON"], "[{"),
        ('[\n{"a": 1}\n{"a": 2}]', ["3:1 a comma is missing before this"], "missing"),
        ('[{"a": 1},\n]', ["2:1 a comma stands before the end of the list"], "remove"),
        ('[{"a": 1}\n', ["2:1 the list is not closed: the file ends here"], "cut"),
        ('[{"a": 1},\n', ["2:1 this is no JSON: expecting value"], "not complete"),
        ('[{"a": 1},\n{"a": x}]', ["2:7 this is no JSON: expecting value"], "JSON"),
        ('[{"id": 1}, {"id": 1}]', ["1:1 the id `1` is on line 1 already"], "its own"),
        ('[{"a": 1}]\n[{"a": 2}]', ["2:1 more text follows the end of the list"], "remove"),
    ],
)  # fmt: skip
def test_json_that_is_wrong_is_refused_by_line(content: str, expected: list[str], hint: str, tmp_path: Path) -> None:
    survey = datasets.survey(write(tmp_path, content, "rows.json"))
    assert [line.removeprefix("rows.json").removeprefix(":") for line in told(survey)] == expected
    assert hint in str(survey.problems[0].hint)


def test_json_that_is_too_large_for_memory_is_sent_to_jsonl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MAX_JSON", 10)
    assert ".jsonl" in str(only_problem(write(tmp_path, '[{"a": "long"}]', "rows.json")).hint)


def test_yaml_rows_mean_what_yaml_1_2_says_and_have_lines(tmp_path: Path) -> None:
    source = write(tmp_path, "- id: 1\n  a: no\n\n- id: 007\n  a: [1.5, null]\n", "rows.yml")
    assert [(row.line, row.id, dict(row.values)) for row in read(source)] == [
        (1, "1", {"id": 1, "a": "no"}),
        (4, "007", {"id": "007", "a": [1.5, None]}),
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a: 1\n", ["1:1 the file must be a list of mappings, but it is a mapping"]),
        ("- a: 1\n- 2\n- a: .inf\n", ["2:3 each row must be a mapping, and this is the number 2",
                                       "3:3 a number of this row is none that JSON can hold"]),
        ("- a: 1\n  a: 2\n", ["2:3 duplicate key `a`: line 1 has it already"]),
        ("- a: 'x\n", ["1:6 the quote ' that opens here is never closed"]),
        ("- id: a\n- id: a\n", ["2:1 the id `a` is on line 1 already"]),
        ("[]\n", [" the file has no rows"]),
    ],
)  # fmt: skip
def test_yaml_that_is_wrong_is_refused_by_line(content: str, expected: list[str], tmp_path: Path) -> None:
    survey = datasets.survey(write(tmp_path, content, "rows.yaml"))
    assert [line.removeprefix("rows.yaml").removeprefix(":") for line in told(survey)] == expected


def parquet(folder: Path, table: pa.Table) -> DataSource:
    pq.write_table(table, folder / "rows.parquet")
    return source_of(folder / "rows.parquet")


def test_parquet_values_are_plain_json(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "text": "007",
        "none": None,
        "flag": True,
        "real": 0.5,
        "price": decimal.Decimal("1.10"),
        "day": dt.date(2024, 1, 5),
        "at": dt.datetime(2024, 1, 5, 10, 0, tzinfo=dt.UTC),
        "list": [1, 2],
        "deep": {"on": dt.date(2024, 1, 5)},
    }
    table = pa.Table.from_pylist([row]).append_column("kind", pa.array(["x"]).dictionary_encode())
    source = parquet(tmp_path, table)
    found = read(source)
    assert [(row.id, row.line) for row in found] == [("7", 0)]
    plain = {
        **row,
        "price": "1.10",
        "day": "2024-01-05",
        "at": "2024-01-05T10:00:00+00:00",
        "deep": {"on": "2024-01-05"},
        "kind": "x",
    }
    assert found[0].values == plain
    json.dumps(found[0].values)


def test_parquet_that_is_wrong_is_refused_by_column_or_row(tmp_path: Path) -> None:
    nested = pa.array([{"b": b"x"}])
    table = pa.table({"a": pa.array([b"x"]), "n": nested, "d": pa.array([dt.timedelta(1)]), "ok": ["x"]})
    assert problems(parquet(tmp_path, table)) == [
        "rows.parquet column `a` holds binary, which JSON has no value for",
        "rows.parquet column `n` holds struct<b: binary>, which JSON has no value for",
        "rows.parquet column `d` holds duration[us], which JSON has no value for",
    ]
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert problems(parquet(tmp_path, twice)) == ["rows.parquet two columns are named `a`"]
    ids = pa.table({"id": ["x", "y", "x", None], "r": [1.0, 2.0, 3.0, 4.0]})
    assert problems(parquet(tmp_path, ids)) == [
        "rows.parquet row 4: the id is empty",
        "rows.parquet row 3: the id `x` is on row 1 already",
    ]
    real = pa.table({"r": [[1.0], [float("nan")]]})
    assert problems(parquet(tmp_path, real)) == ["rows.parquet row 2 has no finite number in column `r`"]
    assert problems(parquet(tmp_path, pa.table({"a": pa.array([], pa.string())}))) == [
        "rows.parquet the file has no rows"
    ]
    nanoseconds = pa.table({"a": pa.array([1], pa.timestamp("ns"))})
    assert "cannot be read as Parquet" in problems(parquet(tmp_path, nanoseconds))[0]
    assert "cannot be read as Parquet" in problems(write(tmp_path, "a,b\n1,2\n", "rows.parquet"))[0]
    assert "a Parquet file" in problems(write(tmp_path, b"PAR1\x15\x04\x15\x00PAR1"))[0]


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = parquet(tmp_path, pa.table({"a": [1]}))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert only_problem(source).hint == "install it: `pip install 'bedrock-run[parquet]'`"


# --- scale -----------------------------------------------------------------------------------------------------------

_MEASURED = """
import resource, sys
from pathlib import Path
from runner import datasets
from runner.datasets.files import DataSource, format_of
from runner.errors import Place
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
name = sys.argv[1]
source = DataSource(file=Path(name), shown=name, named_at=Place("job.yaml", 3, 8), format=format_of(name))
before = peak()
survey = datasets.survey(source)
assert not survey.problems, survey.problems
assert sum(1 for _ in datasets.rows(source)) == survey.rows
print(survey.rows, peak() - before)
"""


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl"])
@pytest.mark.parametrize("count", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_rows(name: str, count: int, tmp_path: Path) -> None:
    with (tmp_path / name).open("w") as file:
        if name == "rows.csv":
            file.write("id,question,answer,score\n")
            file.writelines(
                f"case-{number:07},What is {number} plus one,It is {number + 1},7\n" for number in range(count)
            )
        else:
            file.writelines(
                f'{{"id": "case-{number:07}", "question": "What is {number}?"}}\n' for number in range(count)
            )
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, tmp_path / name], capture_output=True, text=True, check=True, timeout=100
    )
    rows, megabytes = map(int, done.stdout.split())
    assert rows == count
    assert megabytes < 8 + 30 * count // 1_000_000
