"""One writer: who is second is told who is first, and nothing that died stands in the way."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.results.locks import HeldByAnotherRunError, Lock

if TYPE_CHECKING:
    from collections.abc import Iterator

HOLD = """
import pathlib, sys
from runner.results.locks import Lock
lock = Lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder_of(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        yield holder
        holder.kill()


def test_a_second_process_is_refused_at_once_and_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "tutor.jsonl"
    with holder_of(path) as holder, pytest.raises(HeldByAnotherRunError) as refused:
        Lock(path)
    since = r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    who = rf"process {holder.pid} on {re.escape(os.uname().nodename)}, {since}"
    assert re.fullmatch(rf"{re.escape(str(path))} is being written by another run \({who}\)", str(refused.value))


def test_the_lock_dies_with_its_holder_and_what_it_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "tutor.jsonl"
    with holder_of(path) as holder:
        holder.kill()
        holder.wait()
        assert (tmp_path / ".tutor.jsonl.lock").exists()
        lock = Lock(path)
        text = (tmp_path / ".tutor.jsonl.lock").read_text()
        assert text.startswith(f"process {os.getpid()} on ")
        assert text.count("process") == 1
        lock.release()


def test_a_clean_end_leaves_nothing_behind(tmp_path: Path) -> None:
    Lock(tmp_path / "tutor.jsonl").release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"process 1\x1b[2J", b"x" * 1000])
def test_a_holder_that_cannot_be_read_is_not_named(tmp_path: Path, text: bytes) -> None:
    lock = Lock(tmp_path / "tutor.jsonl")
    (tmp_path / ".tutor.jsonl.lock").write_bytes(text)
    with pytest.raises(HeldByAnotherRunError, match=r"tutor\.jsonl is being written by another run$"):
        Lock(tmp_path / "tutor.jsonl")
    lock.release()


def test_a_lock_that_is_released_between_our_opening_and_our_lock_is_not_taken_for_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Lock(tmp_path / "tutor.jsonl")
    real_flock = fcntl.flock

    def slow_flock(file: Any, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", real_flock)
        first.release()
        real_flock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow_flock)
    second = Lock(tmp_path / "tutor.jsonl")
    with pytest.raises(HeldByAnotherRunError):
        Lock(tmp_path / "tutor.jsonl")
    second.release()


def test_a_lock_file_that_is_another_s_by_now_is_left_to_it(tmp_path: Path) -> None:
    first = Lock(tmp_path / "tutor.jsonl")
    (tmp_path / ".tutor.jsonl.lock").unlink()
    second = Lock(tmp_path / "tutor.jsonl")
    first.release()
    with pytest.raises(HeldByAnotherRunError):
        Lock(tmp_path / "tutor.jsonl")
    second.release()


def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".job.jsonl.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Lock(tmp_path / "job.jsonl")
    assert victim.read_text() == "precious"
