"""Rows on disk: whole, in order, replaced in one step, readable by anything that reads lines."""

from __future__ import annotations

import fcntl
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.results import HeldByAnotherRunError, RowFile, RowStream, to_line

if TYPE_CHECKING:
    from runner.records import Row


def row(index: int, **fields: Any) -> Row:
    answered = {"case": f"c{index}", "repeat": 0, "index": index, "replies": [{}], "output": f"reply {index}"}
    return cast("Row", {**answered, **fields})


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_come_out_in_the_order_of_the_cases(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "job.jsonl")
    file.write([row(2), row(0)])
    file.write([row(3)])
    file.write([row(1)])
    file.close()
    assert [entry["index"] for entry in read(tmp_path / "job.jsonl")] == [0, 1, 2, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["job.jsonl"]


def test_rows_are_on_disk_when_write_returns_and_the_old_ones_stay_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    path.write_text('{"old": true}\n')
    file = RowFile(path)
    file.write([row(0)])
    assert read(tmp_path / "job.jsonl.part") == [row(0)]
    assert read(path) == [{"old": True}]
    file.close()
    assert read(path) == [row(0)]


def test_a_run_without_rows_leaves_the_old_ones_alone(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    path.write_text('{"old": true}\n')
    RowFile(path).close()
    assert read(path) == [{"old": True}]
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.jsonl"]


def test_large_rows_are_put_in_order_too(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "job.jsonl")
    for index in (1, 0):
        file.write([row(index, output=str(index) * 5_000_000)])
    file.close()
    assert [entry["output"][0] for entry in read(tmp_path / "job.jsonl")] == ["0", "1"]


@pytest.mark.parametrize(
    "text",
    ["plain", "\u2028 \u2029 \x85 is no line end", "\x00", "lone \ud800 surrogate", "😀 é", "a\r\nb", '"\\'],
    ids=repr,
)
def test_any_text_is_read_back_as_it_came_from_one_line(text: str) -> None:
    line = to_line(row(0, output=text))
    assert json.loads(line)["output"] == text
    assert len(line.decode().splitlines()) == 1


def test_readable_text_stays_readable() -> None:
    assert "é 😀".encode() in to_line(row(0, output="é 😀"))


def test_a_second_run_is_refused_and_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            """
import sys, pathlib
from runner.results import RowFile
file = RowFile(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
""",
            str(tmp_path / "job.jsonl"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HeldByAnotherRunError, match=r"job\.jsonl"):
            RowFile(tmp_path / "job.jsonl")
        holder.kill()
    RowFile(tmp_path / "job.jsonl").close()


WRITE_BEYOND_THE_LIMIT = """
import pathlib, resource, signal, sys
from runner.results import RowFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = RowFile(pathlib.Path(sys.argv[1]))
ROW = {"case": "c", "repeat": 0, "replies": []}
file.write([{"index": 0, **ROW}])
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    file.write([{"index": 1, "output": "x" * 10_000, **ROW}])
except OSError as error:
    print(error.strerror)
file.close()
"""


def test_a_full_disk_is_an_error_not_a_loss(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    command = [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert [entry["index"] for entry in read(path)] == [0], "the row before is kept, and no torn line after it"


def test_a_stream_keeps_the_order_of_the_cases_as_they_come() -> None:
    stream = io.BytesIO()
    rows = RowStream(stream, iter([1, 4, 6]))
    rows.write([row(4)])
    assert stream.getvalue() == b""
    rows.write([row(1)])
    assert [json.loads(line)["index"] for line in stream.getvalue().splitlines()] == [1, 4]


def test_a_stream_gives_what_it_has_when_the_run_was_stopped() -> None:
    stream = io.BytesIO()
    rows = RowStream(stream, iter([1, 4, 6]))
    rows.write([row(6), row(4)])
    rows.close()
    assert [json.loads(line)["index"] for line in stream.getvalue().splitlines()] == [4, 6]


def write_rows(path: Path, *rows: Row) -> RowFile:
    file = RowFile(path)
    file.write(list(rows))
    file.close()
    return file


def test_paid_rows_that_nothing_replaces_are_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    write_rows(path, row(0), row(1), row(2))
    file = write_rows(path, row(1), row(2, replies=[], output=None), row(3))
    assert file.set_aside == 2
    assert [entry["index"] for entry in read(path)] == [1, 2, 3]
    assert read(tmp_path / "job.superseded.jsonl") == [row(0), row(2)]


def test_rows_without_replies_were_not_paid_for_and_need_no_keeping(tmp_path: Path) -> None:
    path = tmp_path / "job.jsonl"
    write_rows(path, row(0, replies=[]), row(1))
    assert write_rows(path, row(1)).set_aside == 0
    assert not (tmp_path / "job.superseded.jsonl").exists()


def test_rows_of_a_killed_run_are_moved_aside_without_the_torn_one(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "job.jsonl.part").write_text('{"index": 7}\n{"index": 8, "torn')
        file = RowFile(tmp_path / "job.jsonl")
        assert file.set_aside == 1
        file.close()
    assert read(tmp_path / "job.superseded.jsonl") == [{"index": 7}, {"index": 7}]


def test_a_part_file_that_another_run_finishes_meanwhile_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RowFile(tmp_path / "job.jsonl")
    first.write([row(0)])
    real_flock = fcntl.flock

    def slow_flock(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real_flock)
        first.close()  # between our opening and our lock
        real_flock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow_flock)
    second = RowFile(tmp_path / "job.jsonl")
    assert read(tmp_path / "job.jsonl") == [row(0)]
    second.write([row(5)])
    second.close()
    assert read(tmp_path / "job.jsonl") == [row(5)]


def test_a_folder_in_the_place_of_the_rows_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "job.jsonl").mkdir()
    with pytest.raises(IsADirectoryError):
        RowFile(tmp_path / "job.jsonl")
