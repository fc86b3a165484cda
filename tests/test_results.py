"""Rows on disk: appended and synced, mended, put in order, replaced in one step; nothing that was paid for is lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from made_rows import ATTEMPT, made_row

from runner import open_files
from runner.errors import UsageError
from runner.results import Outputs
from runner.results.lines import to_line
from runner.results.locks import HeldByAnotherRunError
from runner.results.ordering import ordered
from runner.results.row_file import RowFile
from runner.results.row_stream import RowStream

if TYPE_CHECKING:
    from runner.records import Row


def row(index: int, **fields: Any) -> Row:
    key = hashlib.sha256(str(index).encode()).hexdigest()
    return made_row(**{"case": f"c{index}", "index": index, "key": key, "output": f"reply {index}", **fields})


def error(index: int, *, billed: bool = False, **fields: Any) -> Row:
    attempts = [{**ATTEMPT, "code": "transient", "possibly_billed": billed}]
    return row(index, **{"status": "error", "output": None, "replies": [], "attempts": attempts, **fields})


def changed(index: int, **fields: Any) -> Row:
    """The row of a case whose prompt was edited."""
    return row(index, **{"key": "0" * 64, **fields})


def write(sink: RowFile | RowStream | Outputs, rows: Sequence[Row]) -> None:
    for each in rows:
        sink.append(each)
    sink.sync()


def read(path: Path) -> list[dict[str, Any]]:
    assert path.read_bytes()[-1:] in {b"", b"\n"}, "the last line is torn"
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def indexes(path: Path) -> list[int]:
    return [entry["index"] for entry in read(path)]


def store(path: Path, *rows: Row | bytes) -> None:
    path.write_bytes(b"".join(line if isinstance(line, bytes) else to_line(line) for line in rows))


def take(file: RowFile, *indexes: int) -> None:
    for index in indexes:
        wanted = row(index)
        assert file.earlier.take(wanted["key"], wanted["case"], 0) is not None


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    """`outputs/job.jsonl`, not yet there; at the end of the test no file of our own making may lie beside it."""
    path = tmp_path / "outputs" / "job.jsonl"
    path.parent.mkdir()
    yield path
    allowed = {"job.jsonl", "job.superseded.jsonl", "job.damaged"}
    assert {entry.name for entry in path.parent.iterdir()} <= allowed


# --- a run on its own ------------------------------------------------------------------------------------------------


def test_rows_come_out_in_the_order_of_the_cases_and_their_repeats(path: Path) -> None:
    file = RowFile(path)
    write(file, [row(2), row(0, repeat=1)])
    write(file, [row(3)])
    write(file, [row(0), row(1)])
    file.close(complete=True)
    assert [(entry["index"], entry["repeat"]) for entry in read(path)] == [(0, 0), (0, 1), (1, 0), (2, 0), (3, 0)]


def test_rows_are_on_disk_behind_the_old_ones_when_write_returns(path: Path) -> None:
    store(path, row(0))
    file = RowFile(path)
    write(file, [row(2), row(1)])
    assert indexes(path) == [0, 2, 1]
    file.close(complete=False)
    assert indexes(path) == [0, 1, 2]


def test_a_run_without_rows_leaves_no_file(path: Path) -> None:
    RowFile(path).close(complete=False)
    assert not path.exists()


def test_folders_that_are_missing_are_made(path: Path) -> None:
    file = RowFile(path.parent / "new" / "folder" / "job.jsonl")
    write(file, [row(0)])
    file.close(complete=True)
    assert indexes(path.parent / "new" / "folder" / "job.jsonl") == [0]
    shutil.rmtree(path.parent / "new")


def test_large_rows_are_put_in_order_too(path: Path) -> None:
    file = RowFile(path)
    for index in (1, 0):
        write(file, [row(index, output=str(index) * 5_000_000)])
    file.close(complete=True)
    assert [entry["output"][0] for entry in read(path)] == ["0", "1"]


def test_the_order_of_many_rows_is_stable() -> None:
    chance = random.Random(1)
    positions = [chance.randrange(50_000) for _ in range(200_000)]
    numbers = array("I", range(0, 200_000, 2))
    assert list(ordered(numbers, positions)) == sorted(numbers, key=positions.__getitem__)


def test_the_file_keeps_its_mode_when_it_is_put_in_order(path: Path) -> None:
    store(path, row(1), row(0))
    path.chmod(0o640)
    RowFile(path).close(complete=False)
    assert indexes(path) == [0, 1]
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link_and_the_file_it_names_is_put_in_order(path: Path) -> None:
    target = path.parent / "elsewhere" / "rows.jsonl"
    target.parent.mkdir()
    store(target, row(1), row(0))
    path.symlink_to(target)
    file = RowFile(path)
    with pytest.raises(HeldByAnotherRunError):
        RowFile(target)
    file.close(complete=False)
    assert path.is_symlink()
    assert indexes(target) == [0, 1]
    shutil.rmtree(target.parent)


def test_rows_survive_the_deletion_of_their_file_during_the_run(path: Path) -> None:
    store(path, row(0))
    file = RowFile(path)
    write(file, [row(1)])
    shutil.rmtree(path.parent)
    file.append(row(2))
    with pytest.raises(OSError, match="another program has changed or removed the file"):
        file.sync()
    file.close(complete=False)
    assert indexes(path) == [0, 1, 2]


def test_a_file_that_took_the_place_of_the_rows_is_moved_aside(path: Path) -> None:
    store(path, row(0))
    file = RowFile(path)
    path.unlink()
    path.write_text("somebody else's")
    file.append(row(1))
    with pytest.raises(OSError, match="another program"):
        file.sync()
    file.close(complete=False)
    assert indexes(path) == [0, 1]
    foreign = path.with_name("job.foreign")
    assert foreign.read_text() == "somebody else's"
    foreign.unlink()


@pytest.mark.parametrize(("cut_at", "left"), [(0, [1]), (-5, [1])], ids=["whole", "within a line"])
def test_rows_that_come_after_another_program_cut_the_file_are_whole_lines(
    cut_at: int, left: list[int], path: Path
) -> None:
    store(path, row(0))
    file = RowFile(path)
    os.truncate(path, cut_at % path.stat().st_size)
    file.append(row(1))
    with pytest.raises(OSError, match="another program"):
        file.sync()
    file.close(complete=True)
    *torn, last = path.read_bytes().splitlines()
    assert len(torn) == (cut_at < 0)
    assert json.loads(last)["index"] == 1
    file = RowFile(path)
    file.close(complete=False)
    assert indexes(path) == left


# --- runs after runs -------------------------------------------------------------------------------------------------


def test_what_is_kept_stays_and_a_second_run_does_not_touch_the_file(path: Path) -> None:
    store(path, row(0), error(1), row(2))
    file = RowFile(path)
    take(file, 2, 0)
    write(file, [row(1)])
    file.close(complete=True)
    assert indexes(path) == [0, 1, 2]
    assert not file.superseded.exists()
    before = path.read_bytes(), path.stat()
    file = RowFile(path)
    take(file, 1, 0, 2)
    file.close(complete=True)
    assert path.read_bytes() == before[0]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before[1].st_ino, before[1].st_mtime_ns)


def test_a_revised_row_takes_the_place_of_the_old_one_only_when_the_run_ends(path: Path) -> None:
    store(path, row(0), row(1), row(2))
    file = RowFile(path)
    take(file, 1)
    for old, new in ((0, 3), (2, 0)):
        found = file.earlier.take_any(row(old)["key"])
        assert found is not None
        file.revise(found, cast("Row", {**found.row, "index": new, "case": f"c{new}"}))
    write(file, [row(2, key="1" * 64)])
    assert [entry["case"] for entry in read(path)] == ["c0", "c1", "c2", "c2"]
    file.close(complete=True)
    assert [(entry["case"], entry["output"]) for entry in read(path)] == [
        ("c0", "reply 2"),
        ("c1", "reply 1"),
        ("c2", "reply 2"),
        ("c3", "reply 0"),
    ]
    assert not file.superseded.exists()


def test_a_row_inserted_on_top_moves_the_others_down(path: Path) -> None:
    store(path, *(row(number) for number in range(100)))
    file = RowFile(path)
    for number in range(100):
        found = file.earlier.take_any(row(number)["key"])
        assert found is not None
        file.revise(found, cast("Row", {**found.row, "index": number + 1, "case": f"c{number + 1}"}))
    write(file, [row(0, key="1" * 64, output="new")])
    file.close(complete=True)
    assert [entry["output"] for entry in read(path)] == ["new", *(f"reply {number}" for number in range(100))]
    assert [entry["case"] for entry in read(path)] == [f"c{number}" for number in range(101)]


def test_a_complete_run_moves_aside_what_the_job_no_longer_has(path: Path) -> None:
    store(path, row(0), row(1), error(2), error(3), error(4, billed=True), row(5))
    file = RowFile(path)
    take(file, 0)
    write(file, [changed(1), row(2)])
    file.close(complete=True)
    assert read(path) == [row(0), changed(1), row(2)]
    assert read(file.superseded) == [row(1), error(3), error(4, billed=True), row(5)]
    assert file.set_aside == 4


def test_a_run_of_some_cases_leaves_the_others_where_they_are(path: Path) -> None:
    store(path, row(0), row(1), error(2), error(3), row(4), error(5, billed=True))
    file = RowFile(path)
    take(file, 0)
    write(file, [error(4, key="0" * 64), row(5), changed(1), row(2)])
    file.close(complete=False)
    expected = [row(0), row(1), changed(1), row(2), error(3), row(4), error(4, key="0" * 64), row(5)]
    assert read(path) == expected, "what was paid for stays, since a case that did not run may want it"
    assert read(file.superseded) == [error(5, billed=True)]


def test_superseded_rows_gather(path: Path) -> None:
    store(path, row(0))
    for generation in range(3):
        file = RowFile(path)
        write(file, [row(0, key=f"{generation:064x}")])
        file.close(complete=True)
    assert [entry["key"] for entry in read(file.superseded)] == [row(0)["key"], f"{0:064x}", f"{1:064x}"]


def test_rows_that_a_killed_run_tore_while_it_moved_them_aside_do_not_spoil_the_next(path: Path) -> None:
    store(path, row(0), row(1))
    store(path.with_name("job.superseded.jsonl"), row(9), to_line(row(0))[:30])
    file = RowFile(path)
    file.close(complete=True)
    assert read(file.superseded) == [row(9), row(0), row(1)]
    assert path.read_bytes() == b""


# --- damage ----------------------------------------------------------------------------------------------------------

LAST = to_line(row(7, output="é😀 " * 40))


@pytest.mark.parametrize("filling", [b"", b"\0" * 5000], ids=["cut", "NULs"])
@pytest.mark.parametrize("length", sorted({*range(1, 12), *range(12, len(LAST) - 1, len(LAST) // 16), len(LAST) - 2}))
def test_a_torn_last_row_is_cut_off(path: Path, length: int, filling: bytes) -> None:
    store(path, row(0), row(1), LAST[:length] + filling)
    file = RowFile(path)
    lost = length + len(filling)
    assert file.notices == [
        f"{path}: the last line was torn; {lost:,} bytes of it were cut off, and its case counts as not done"
    ]
    assert indexes(path) == [0, 1]
    take(file, 0, 1)
    write(file, [row(2)])
    file.close(complete=True)
    assert read(path) == [row(0), row(1), row(2)]


def test_half_a_character_is_a_torn_row_too(path: Path) -> None:
    for length in range(LAST.index("😀".encode()) + 1, LAST.index("😀".encode()) + 4):
        store(path, row(0), LAST[:length])
        file = RowFile(path)
        assert len(file.notices) == 1
        file.close(complete=False)
        assert read(path) == [row(0)]


@pytest.mark.parametrize("torn", [b"\0", b"\0" * 200_000, LAST[:-1] + b"\0\0\0"], ids=["NUL", "NULs", "row and NULs"])
def test_space_that_was_never_filled_is_cut_off(path: Path, torn: bytes) -> None:
    store(path, row(0), torn)
    RowFile(path).close(complete=False)
    assert read(path) == [row(0)]
    assert not path.with_name("job.damaged").exists()


@pytest.mark.parametrize("before", [(), (row(0),)], ids=["alone", "after another"])
@pytest.mark.parametrize("end", [b"", b"\r"], ids=["nothing", "CR"])
def test_a_last_row_that_lacks_only_its_line_end_is_kept(path: Path, before: tuple[Row, ...], end: bytes) -> None:
    store(path, *before, to_line(row(1))[:-1] + end)
    file = RowFile(path)
    assert file.notices == [f"{path}: the last line lacked its line end, which was added"]
    take(file, 1)
    file.close(complete=False)
    assert read(path) == [*before, row(1)]


@pytest.mark.parametrize(
    "text",
    [b"a note", b'{"not": "a row"}', b"reply 1}", to_line(row(1)).replace(b"\n", b"\r") + to_line(row(2))[:-1]],
    ids=["text", "other JSON", "the end of a row", "lines that end with CR alone"],
)
def test_a_last_line_that_is_not_ours_is_kept_as_it_is(path: Path, text: bytes) -> None:
    store(path, row(0), text)
    file = RowFile(path)
    assert len(file.notices) == 2
    file.close(complete=False)
    assert read(path) == [row(0)]
    assert file.damaged.read_bytes() == text + b"\n"


def test_damage_in_the_middle_is_told_by_line_and_kept_byte_for_byte(path: Path) -> None:
    damage = [
        b"\0\0\0\n",
        to_line(row(8))[:40] + to_line(row(9)),
        b"\xff\xfe\n",
        b'{"a": 1}\r\n',
        b"]\n",
        b"x\n",
        b"y\n",
    ]
    store(path, row(0), *damage[:1], b"\n", row(1), *damage[1:], row(2))
    file = RowFile(path)
    told = f"{path}: lines 2, 5, 6, 7, 8 and 2 more can't be read as rows, and will be moved to {file.damaged}"
    assert file.notices == [f"{told} when the run ends"]
    take(file, 0, 1, 2)
    write(file, [row(3)])
    file.close(complete=True)
    assert read(path) == [row(0), row(1), row(2), row(3)]
    assert file.damaged.read_bytes() == b"".join(damage)
    file = RowFile(path)
    assert file.notices == []
    file.close(complete=False)
    assert file.damaged.read_bytes() == b"".join(damage)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n \n\n",
        b"\xef\xbb\xbf" + to_line(row(0)) + to_line(row(1)),
        (to_line(row(0)) + to_line(row(1))).replace(b"\n", b"\r\n"),
        b"\n" + to_line(row(0)) + b"\r\n" + to_line(row(1)) + b"\n",
    ],
    ids=["empty", "blank lines", "BOM", "CRLF", "blank lines between"],
)
def test_a_file_as_editors_leave_it_is_read_and_tidied(path: Path, text: bytes) -> None:
    path.write_bytes(text)
    file = RowFile(path)
    assert file.notices == []
    expected = [row(0), row(1)] if text.strip() else []
    take(file, *(entry["index"] for entry in expected))
    write(file, [row(2)])
    file.close(complete=True)
    assert path.read_bytes() == b"".join(map(to_line, [*expected, row(2)]))


# --- disks -----------------------------------------------------------------------------------------------------------

WRITE_BEYOND_THE_LIMIT = """
import json, pathlib, resource, sys
from runner.results.row_file import RowFile
file = RowFile(pathlib.Path(sys.argv[1]))
small, large = json.loads(sys.argv[2])
file.append(small)
file.sync()
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
try:
    file.append(large)
    file.sync()
except OSError as error:
    print(error.strerror, error.filename)
file.append({**small, "index": 2, "case": "c2"})
file.sync()
file.close(complete=False)
"""


def test_a_file_size_limit_is_an_error_not_a_loss(path: Path) -> None:
    rows = json.dumps([row(3), row(1, output="x" * 10_000)])
    command = [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(path), rows]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"File too large {path}\n"
    assert indexes(path) == [2, 3], "no torn line is left between them"


@pytest.fixture
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of 256 kB in the place of `outputs`."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path.parent)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", str(path.parent)], check=True)


def test_a_full_disk_is_an_error_not_a_loss(small_disk: Path) -> None:
    file = RowFile(small_disk)
    write(file, [row(1), row(0)])
    with pytest.raises(OSError, match="No space left") as full:
        write(file, [row(2), row(3, output="x" * 300_000)])
    assert full.value.filename == str(small_disk)
    write(file, [row(4)])
    file.close(complete=False)
    assert indexes(small_disk) == [0, 1, 2, 4]
    file = RowFile(small_disk)
    take(file, 0, 1, 2, 4)
    file.release()


@pytest.mark.parametrize("has_some_aside", [False, True])
def test_a_disk_too_full_to_put_rows_in_order_leaves_them_as_they_came_and_moves_none(
    small_disk: Path, has_some_aside: bool
) -> None:
    aside = small_disk.with_name("job.superseded.jsonl")
    if has_some_aside:
        store(aside, row(9))
    store(small_disk, row(5, output="x" * 60_000))
    file = RowFile(small_disk)
    write(file, [changed(5, output="x" * 80_000), row(1, output="x" * 10_000)])
    with pytest.raises(OSError, match="No space left"):
        file.close(complete=True)
    assert [entry["index"] for entry in read(small_disk)] == [5, 5, 1]
    assert aside.exists() == has_some_aside
    assert not has_some_aside or read(aside) == [row(9)]
    assert not small_disk.with_name("job.jsonl.ordered").exists()


def test_a_read_only_disk_is_refused_before_anything_is_sent(small_disk: Path) -> None:
    store(small_disk, row(0))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk.parent)], check=True)
    with pytest.raises(UsageError, match=r"rows can't be written to .*job\.jsonl: Read-only file system"):
        Outputs(small_disk.parent, {"job": []})


def test_a_read_only_folder_is_refused_before_anything_is_sent(path: Path) -> None:
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("root may write anywhere")
        with pytest.raises(UsageError, match=r"rows can't be written to .*job\.jsonl: Permission denied"):
            Outputs(path.parent, {"job": []})
    finally:
        path.parent.chmod(0o700)


def test_rows_whose_sync_failed_are_not_thrown_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails to sync can't be had for a test, so this one is made up."""
    file = RowFile(path)
    with monkeypatch.context() as patched:

        def fail(_: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match=r"Input/output error: .*job\.jsonl"):
            write(file, [row(1)])
    write(file, [row(0)])
    file.close(complete=False)
    assert indexes(path) == [0, 1]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(path: Path, make: Any) -> None:
    make(path)
    with pytest.raises(UsageError, match=r"rows can't be written to .*job\.jsonl"):
        Outputs(path.parent, {"job": []})


# --- all jobs of a run -----------------------------------------------------------------------------------------------


def test_each_job_has_its_file_and_only_complete_ones_put_rows_aside(path: Path) -> None:
    for name in ("one", "two"):
        store(path.with_name(f"{name}.jsonl"), row(0, job=name), row(1, job=name), b"damage\n")
    outputs = Outputs(path.parent, {"one": [], "two": []})
    assert len(outputs.notices()) == 2
    for name in ("one", "two"):
        found = outputs.earlier(name).take(row(0)["key"], "c0", 0)
        assert found is not None
        outputs.revise(found, row(0, job=name, output="judged again"))
    write(outputs, [row(3, job="two"), row(2, job="one"), row(2, job="two")])
    assert outputs.close(complete={"two"}) == {}
    assert indexes(path.with_name("one.jsonl")) == [0, 1, 2]
    assert indexes(path.with_name("two.jsonl")) == [0, 2, 3]
    assert read(path.with_name("one.jsonl"))[0]["output"] == "judged again"
    assert outputs.set_aside() == {str(path.with_name("two.superseded.jsonl")): 1}
    for entry in path.parent.iterdir():
        entry.unlink()


def test_a_job_that_cannot_be_opened_leaves_the_others_as_they_are(path: Path) -> None:
    store(path, row(1), b"damage\n", row(0))
    before = path.read_bytes()
    held = RowFile(path.with_name("held.jsonl"))
    with pytest.raises(UsageError, match=rf"held\.jsonl is being written by another run \(process {os.getpid()} on "):
        Outputs(path.parent, {"job": [], "held": []})
    held.release()
    RowFile(path).release()
    assert path.read_bytes() == before


def test_an_error_at_the_end_is_told_by_job_and_the_other_jobs_are_put_in_order(path: Path) -> None:
    outputs = Outputs(path.parent, {"job": [], "lost/job": []})
    write(outputs, [row(1), row(0), row(1, job="lost/job"), row(0, job="lost/job")])
    shutil.rmtree(path.parent / "lost")
    (path.parent / "lost").write_text("no folder")
    errors = outputs.close()
    assert list(errors) == ["lost/job"]
    assert errors["lost/job"].errno == errno.ENOTDIR
    assert indexes(path) == [0, 1]
    (path.parent / "lost").unlink()


def test_a_stream_keeps_the_order_of_the_cases_as_they_come(path: Path) -> None:
    with path.open("wb") as stream:
        rows = RowStream(stream.fileno(), [(1, 0), (1, 1), (4, 0), (6, 0)])
        write(rows, [row(4), row(1, repeat=1)])
        assert path.read_bytes() == b""
        write(rows, [row(1)])
    assert indexes(path) == [1, 1, 4]


def test_a_stream_gives_what_it_has_when_the_run_was_stopped(path: Path) -> None:
    with path.open("wb") as stream:
        rows = RowStream(stream.fileno(), [(1, 0), (4, 0), (6, 0)])
        write(rows, [row(6), row(4)])
        rows.end()
        rows.sync()
    assert indexes(path) == [4, 6]


def test_a_stream_knows_which_rows_its_reader_got_before_it_went() -> None:
    reader, writer = os.pipe()
    rows = RowStream(writer, [(index, 0) for index in range(5)])
    long = row(1, output="x" * 1_000_000)  # more than a pipe holds
    for each in (row(0), long, row(2), row(4)):
        rows.append(each)

    def read_a_part() -> None:
        got = 0
        while got < 100_000:
            got += len(os.read(reader, 10_000))
        os.close(reader)

    reading = threading.Thread(target=read_a_part)
    reading.start()
    with pytest.raises(BrokenPipeError):
        rows.sync()
    reading.join()
    os.close(writer)
    assert [rows.has_written(each) for each in (row(0), long, row(2), row(4))] == [True, False, False, False]


def test_a_row_file_takes_two_descriptors_and_a_third_when_a_row_is_revised(path: Path) -> None:
    store(path, row(0), row(1))
    before = open_files.count()
    file = RowFile(path)
    assert open_files.count() == before + 2
    taken = file.earlier.take(row(0)["key"], "c0", 0)
    assert taken is not None
    file.revise(taken, row(0, output="judged again"))
    assert open_files.count() == before + 3
    file.close(complete=False)
    assert open_files.count() == before
    assert [entry["output"] for entry in read(path)] == ["judged again", "reply 1"]


def test_too_many_open_files_are_told_with_what_to_do(path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files.count() + 4, hard))
        with pytest.raises(UsageError) as caught:
            Outputs(path.parent, {f"j{number}": [] for number in range(10)})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "Too many open files" in caught.value.problems[0].message
    assert caught.value.problems[0].hint == "raise the limit of open files (ulimit -n), or give fewer jobs at once"
    for entry in path.parent.iterdir():
        entry.unlink()


# --- kills -----------------------------------------------------------------------------------------------------------

# Runs a job again and again, each time with another prompt, and says what is on disk as soon as it is.
RUN_FOR_EVER = """
import itertools, json, os, pathlib, random, sys
from runner.results.row_file import RowFile
path, seed, template = pathlib.Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
chance = random.Random(seed)
os.write(1, b"ready\\n")
for generation in itertools.count(1000 * seed):
    file = RowFile(path)
    assert file.notices == [] or "torn" in file.notices[0], file.notices
    cases = list(range(40))
    chance.shuffle(cases)
    while cases:
        group = [
            {**template, "index": at, "case": f"c{at}", "key": f"{generation:032x}{at:032x}",
             "output": "x" * chance.choice([300] * 10 + [3000] * 5 + [300000])}
            for at in (cases.pop() for _ in range(chance.randint(1, min(4, len(cases)))))
        ]
        for row in group:
            file.append(row)
        file.sync()
        os.write(1, "".join(row["key"] + "\\n" for row in group).encode())
    file.close(complete=chance.random() < 0.8)
"""


def rows_reported_by_a_killed_run(path: Path, seed: int) -> set[str]:
    command = [sys.executable, "-c", RUN_FOR_EVER, str(path), str(seed), json.dumps(row(0))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        assert run.stdout.readline() == "ready\n"
        time.sleep(random.Random(seed).uniform(0, 0.1))
        run.kill()
        reported, trouble = run.stdout.read(), run.stderr.read()
    assert trouble == ""
    return {line for line in reported.split("\n")[:-1] if line}


def check_kills(path: Path, kills: int) -> None:
    reported: set[str] = set()
    for seed in range(1, kills + 1):
        reported |= rows_reported_by_a_killed_run(path, seed)
        RowFile(path).close(complete=False)
        files = [file for file in (path, path.with_name("job.superseded.jsonl")) if file.exists()]
        kept = [entry["key"] for entry in read(path)] if path.exists() else []
        assert len(set(kept)) == len(kept), "a row stands in the file twice"
        assert reported <= {entry["key"] for file in files for entry in read(file)}
        for file in files:
            if file != path:
                file.unlink()  # or the checks would take longer than the runs
        reported &= set(kept)
    assert not path.with_name("job.damaged").exists()


def test_nothing_that_counted_is_lost_when_a_run_is_killed(path: Path) -> None:
    check_kills(path, kills=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_that_counted_is_lost_in_many_kills(path: Path) -> None:
    check_kills(path, kills=200)


KILLED_BEFORE_THE_REPLACEMENT = """
import json, os, pathlib, signal, sys
from runner.results.row_file import RowFile
file = RowFile(pathlib.Path(sys.argv[1]))
file.append(json.loads(sys.argv[2]))
file.sync()
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
file.close(complete=True)
"""


def test_a_kill_between_moving_rows_aside_and_replacing_the_file_loses_none(path: Path) -> None:
    store(path, row(1), row(0))
    command = [sys.executable, "-c", KILLED_BEFORE_THE_REPLACEMENT, str(path), json.dumps(changed(0))]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert path.with_name("job.jsonl.ordered").exists()
    file = RowFile(path)
    assert not path.with_name("job.jsonl.ordered").exists()
    assert read(path) == [row(1), row(0), changed(0)]
    assert read(file.superseded) == [row(1), row(0)]
    take(file, 1)
    assert file.earlier.take("0" * 64, "c0", 0) is not None
    file.close(complete=True)
    assert read(path) == [changed(0), row(1)]


@pytest.mark.parametrize("read_only", [False, True])
def test_rows_of_a_newer_version_are_refused_and_stay(path: Path, *, read_only: bool) -> None:
    rows = to_line(made_row()) + to_line(made_row(case="b", schema="bedrock-run/result/12"))
    path.write_bytes(rows)
    with pytest.raises(UsageError, match="written by a newer bedrock-run") as raised:
        Outputs(path.parent, {path.stem: []}, read_only=read_only)
    assert raised.value.problems[0].hint == "update bedrock-run, or give another folder with -o"
    assert path.read_bytes() == rows
