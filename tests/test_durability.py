"""Rows that were paid for are on disk and stay there, whatever becomes of the disk, the files and the process."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

Rows = Callable[..., list[dict[str, Any]]]

LARGE = "us.anthropic.claude-opus-4-6-v1"  # writes up to 128,000 tokens
JOB = f"model: {LARGE}\ninference: {{max_tokens: 128000}}\nprompt: 'number {{{{ n }}}}.'\ncases: rows.csv\n"


class Runs(NamedTuple):
    """A job of many cases, and what runs it."""

    run: Any
    start: Any
    rows: Rows
    folder: Path

    def write(self, cases: int) -> None:
        (self.folder / "job.yaml").write_text(JOB)
        (self.folder / "rows.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(cases)))

    @property
    def file(self) -> Path:
        return self.folder / "outputs" / "job.jsonl"

    def goes_on(self, server: Any, *, cases: int, calls: int) -> None:
        """The same command makes so many calls, then every case has one row, in order; and once more it makes none."""
        for expected in (calls, 0):
            before = len(server.log)
            done = self.run("job.yaml", env=server.env)
            assert done.returncode == 0, done.stderr
            assert len(server.log) - before == expected
        assert [row["index"] for row in self.rows()] == list(range(cases))
        assert {row["status"] for row in self.rows()} == {"passed"}


@pytest.fixture
def runs(bedrock_run: Any, start_run: Any, rows: Rows, tmp_path: Path) -> Runs:
    return Runs(bedrock_run, start_run, rows, tmp_path)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def wait_until(process: subprocess.Popen[str], condition: Callable[[], object]) -> None:
    """Wait until something is so, or the process has ended."""
    wait_for(lambda: condition() or process.poll() is not None)


def more_than(count: int, log: list[str]) -> bool:
    return len(log) > count


def whole_rows(file: Path) -> list[str]:
    """The cases of the whole lines of a file. Each of them must be readable."""
    data = file.read_bytes() if file.exists() else b""
    return [json.loads(line)["case"] for line in data.split(b"\n")[:-1]]


# --- disks -----------------------------------------------------------------------------------------------------------

THREE_KB = f"- {{match: '', reply: '{'x' * 3000}'}}\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """`outputs` is a disk of 200 KB."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", folder], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_stops_the_run_and_loses_no_row(small_disk: Path, runs: Runs, bedrock: Any) -> None:
    runs.write(100)
    server = bedrock(THREE_KB, latency=0.01)
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 4
    assert done.stderr.count("rows can't be written to outputs/job.jsonl: No space left on device") == 1
    stored = whole_rows(runs.file)
    assert f"{len(stored)} passed" in done.stderr
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    runs.goes_on(server, cases=100, calls=100 - len(stored))


def test_a_disk_without_room_to_put_rows_in_order_keeps_them(small_disk: Path, runs: Runs, bedrock: Any) -> None:
    runs.write(20)
    server = bedrock(f"- {{match: 'number 0[.]', reply: late, latency: 500ms}}\n{THREE_KB}")
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert sorted(path.name for path in small_disk.iterdir()) == ["job.jsonl"]
    subprocess.run(["mount", "-o", "remount,size=9m", small_disk], check=True)
    runs.goes_on(server, cases=20, calls=0)


def test_a_disk_that_is_read_only_is_told_before_anything_is_sent(small_disk: Path, runs: Runs, bedrock: Any) -> None:
    runs.write(3)
    server = bedrock()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 2
    assert "rows can't be written to outputs/job.jsonl: Read-only file system" in done.stderr
    assert server.log == []


def test_a_limit_of_file_size_stops_the_run_and_loses_no_row(runs: Runs, bedrock: Any) -> None:
    runs.write(100)
    server = bedrock(THREE_KB, latency=0.01)
    process = runs.start(
        "job.yaml", env=server.env, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    )
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert told.count("rows can't be written to outputs/job.jsonl: File too large") == 1
    runs.goes_on(server, cases=100, calls=100 - len(whole_rows(runs.file)))


@pytest.mark.parametrize("synced", [2, 3, 5])
def test_a_sync_that_fails_stops_the_run_and_loses_no_row(synced: int, runs: Runs, bedrock: Any) -> None:
    runs.write(60)
    server = bedrock(latency=0.01)
    patch = (
        "import errno, os; real, calls = os.fsync, []\n"
        "def fsync(file):\n"
        "    calls.append(file)\n"
        f"    if len(calls) > {synced}: raise OSError(errno.EIO, os.strerror(errno.EIO))\n"
        "    real(file)\n"
        "os.fsync = fsync\n"
    )
    process = runs.start("job.yaml", env=server.env, patch=patch)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert told.count("rows can't be written to outputs/job.jsonl: Input/output error") == 1
    stored = whole_rows(runs.file)
    assert len(stored) == len(set(stored)) == len(server.log), "what was handed to the system may well be on disk"
    runs.goes_on(server, cases=60, calls=60 - len(stored))


# --- somebody else's hands -------------------------------------------------------------------------------------------


def cut_in_half(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def replace(file: Path) -> None:
    other = file.with_name("other")
    other.write_text("somebody else's\n")
    other.replace(file)


@pytest.mark.parametrize(
    "harm", [lambda file: shutil.rmtree(file.parent), Path.unlink, replace], ids=["folder", "file", "replaced"]
)
def test_rows_that_are_removed_during_the_run_come_back(harm: Callable[[Path], None], runs: Runs, bedrock: Any) -> None:
    runs.write(200)
    server = bedrock(latency=0.02)
    process = runs.start("-j", "4", "job.yaml", env=server.env)
    wait_for(lambda: len(server.log) > 30)
    harm(runs.file)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert "another program has changed or removed the file" in told
    stored = whole_rows(runs.file)
    assert len(stored) == len(server.log) < 100
    runs.goes_on(server, cases=200, calls=200 - len(stored))


@pytest.mark.parametrize("harm", [cut_in_half, lambda file: os.truncate(file, 0)], ids=["half", "all"])
def test_after_rows_are_cut_off_during_the_run_only_these_are_called_again(
    harm: Callable[[Path], None], runs: Runs, bedrock: Any
) -> None:
    runs.write(200)
    server = bedrock(latency=0.02)
    process = runs.start("-j", "4", "job.yaml", env=server.env)
    wait_for(lambda: len(server.log) > 30)
    harm(runs.file)
    assert process.wait(60) == 4
    assert len(server.log) < 100
    lines = runs.file.read_bytes().split(b"\n")[:-1]
    readable = sum(line.endswith(b"}") and line.startswith(b"{") for line in lines)
    assert len(lines) - readable <= 1
    runs.goes_on(server, cases=200, calls=200 - readable)


# --- kill -9 ---------------------------------------------------------------------------------------------------------

REPLIES = "".join(
    f"- {{match: 'number {number}[.]', reply: '{'x' * (300 * 10 ** (number % 4))} {number}'}}\n" for number in range(80)
)


@pytest.mark.parametrize(
    ("concurrency", "kills"),
    [(64, 5), *(pytest.param(limit, 50, marks=pytest.mark.slow) for limit in (1, 4, 64, None))],
)
@pytest.mark.timeout(600)
def test_a_killed_run_loses_nothing_that_it_has_counted(
    concurrency: int | None, kills: int, runs: Runs, bedrock: Any
) -> None:
    """Replies have from 300 bytes to 300 KB. A row counts when -v has told that it passed."""
    runs.write(80)
    server = bedrock(REPLIES, latency=0.03)
    chance = random.Random(concurrency)
    limit = [] if concurrency is None else ["-j", str(concurrency)]
    done = seen = 0
    while done < kills or not seen:
        shutil.rmtree(runs.file.parent, ignore_errors=True)
        before, killed, counted = len(server.log), 0, set[str]()
        for _ in range(5):
            wanted = len(server.log) + chance.randrange(40)
            process = runs.start("-v", *limit, "job.yaml", env=server.env)
            wait_until(process, partial(more_than, wanted, server.log))
            process.kill()
            told = process.communicate()[1]
            time.sleep(0.2)  # the server tells of the calls that were cut
            killed += process.returncode == -signal.SIGKILL
            counted |= set(re.findall(r"^passed\s+job \[(\d+)\]", told, re.MULTILINE | re.IGNORECASE))
            stored = whole_rows(runs.file)
            assert max(Counter(stored).values(), default=1) == 1
            assert counted <= set(stored)
            if concurrency is not None:
                assert len(server.log) - before <= len(stored) + killed * concurrency
        done += 5
        seen += len(counted)
        runs.goes_on(server, cases=80, calls=80 - len(stored))
        assert all(row["output"].endswith(f" {row['index']}") for row in runs.rows())


@pytest.mark.parametrize("count", [300, pytest.param(5_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_while_it_puts_rows_in_order_loses_none(count: int, runs: Runs, bedrock: Any) -> None:
    runs.write(count)
    server = bedrock("- {match: '', reply: fine}\n")
    runs.run("-q", "job.yaml", env=server.env)
    ordered = runs.file.read_bytes()
    lines = ordered.splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    draft = runs.file.with_name("job.jsonl.ordered")
    patch = "import os, time; real = os.fsync\ndef fsync(file):\n    real(file); time.sleep(0.2)\nos.fsync = fsync"
    for wait in (0.0, 0.1, 0.3, 0.5):
        runs.file.write_bytes(b"".join(lines))
        process = runs.start("-q", "job.yaml", env=server.env, patch=patch)
        wait_until(process, draft.exists)
        time.sleep(wait)
        process.kill()
        process.wait()
        assert sorted(runs.file.read_bytes().splitlines(keepends=True)) == sorted(lines)
    runs.goes_on(server, cases=count, calls=0)
    assert runs.file.read_bytes() == ordered
    assert [path.name for path in runs.file.parent.iterdir()] == ["job.jsonl"]


# --- names -----------------------------------------------------------------------------------------------------------


def test_files_with_odd_names_and_folders_with_odd_names_have_their_rows(
    runs: Runs, bedrock: Any, tmp_path: Path, rows: Rows
) -> None:
    names = [b"a b.txt", b"new\nline.txt", b"\xff\xfe.txt", b"[x].txt"]
    (tmp_path / "d").mkdir()
    for name in names:
        (tmp_path / "d" / os.fsdecode(name)).write_text("x")
    (tmp_path / "job.yaml").write_text(f"model: {LARGE}\nprompt: '{{{{ file.name }}}}'\ncases: {{glob: 'd/*'}}\n")
    server = bedrock("- {match: '', reply: fine}\n")
    for calls in (4, 0):
        before = len(server.log)
        done = runs.run("-o", "out put/\u00e4 \u65e5", "job.yaml", env=server.env)
        assert done.returncode == 0, done.stderr
        assert len(server.log) - before == calls
    found = rows("job", "out put/\u00e4 \u65e5")
    assert {os.fsencode(row["vars"]["file"]["name"]) for row in found} == set(names)
