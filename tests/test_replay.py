"""`--replay`: CI without an AWS account judges the rows that were committed, and leaves every file as it is."""

from __future__ import annotations

import json
import os
import subprocess
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree as ET

import pytest

from runner.console import Outcomes, stop_lines
from runner.errors import ExitCode
from runner.results.lines import to_line
from runner.results.row_file import RowFile
from runner.results.row_reader import RowReader
from runner.running.summary import Summary, Tally
from runner.stop import StopReason

if TYPE_CHECKING:
    from runner.records import Row

JOB = """\
model: anthropic.claude-3-5-sonnet-20241022-v2:0
prompt: Say {{ word }}.
cases: [{vars: {word: one}}, {vars: {word: two}}, {vars: {word: three}}]
"""
RUBRIC = "assert: [{type: llm-rubric, value: it counts, model: amazon.nova-lite-v1:0}]\n"
REPLIES = """\
- {match: <rubric-, reply: '{"reason": "It does.", "pass": true, "score": 1}'}
- {match: '', reply: 'one, two'}
"""


class Replays:
    """A job whose rows were committed in the folder `rows`, and what replays it."""

    def __init__(self, run: Any, server: Any, folder: Path, untouched: Any, committed: dict[str, bytes]) -> None:
        self._run = run
        self._untouched = untouched
        self._committed = committed
        self._server = server
        self.folder = folder
        self.file = folder / "rows" / "job.jsonl"

    def write(self, job: str, name: str = "job.yaml") -> None:
        (self.folder / name).write_text(job)

    def commit(self, job: str = JOB) -> None:
        """Have the rows of a job, made with real calls."""
        self.write(job)
        if job not in self._committed:
            done = self._run("-o", "rows", "job.yaml", env=self._server.env)
            assert done.returncode == 0, done.stderr
            self._committed[job] = self.file.read_bytes()
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_bytes(self._committed[job])

    def run(self, *arguments: str | Path, expect: int) -> subprocess.CompletedProcess[str]:
        """Replay where everything can be reached, and see that nothing was called and no file was touched."""
        calls = len(self._server.log)
        with self._untouched(self.file.parent):
            done: subprocess.CompletedProcess[str] = self._run(
                "--replay", "-o", "rows", "job.yaml", *arguments, env=self._server.env
            )
        assert done.returncode == expect, done.stderr
        assert len(self._server.log) == calls
        return done

    def __call__(self, *arguments: str | Path, expect: int = 0) -> str:
        """What a replay says."""
        return self.run(*arguments, expect=expect).stderr

    def summary(self, *, expect: int = 0) -> dict[str, Any]:
        described: dict[str, Any] = json.loads(self.run("--json", expect=expect).stdout)
        return described


@pytest.fixture(scope="module")
def committed() -> dict[str, bytes]:
    """Rows by the text of their job, so that each job is run once."""
    return {}


@pytest.fixture
def replay(bedrock_run: Any, bedrock: Any, tmp_path: Path, untouched: Any, committed: dict[str, bytes]) -> Replays:
    return Replays(bedrock_run, bedrock(REPLIES), tmp_path, untouched, committed)


# --- verdicts --------------------------------------------------------------------------------------------------------


def test_what_did_not_change_passes_without_an_account(replay: Replays, bedrock_run: Any, untouched: Any) -> None:
    replay.commit()
    told = replay()
    assert "3 kept from earlier runs, nothing was called" in told
    assert told.splitlines()[-1] == "replayed: rows/job.jsonl"
    with untouched(replay.folder):
        assert bedrock_run("--replay", "-o", "rows", "job.yaml").returncode == 0


def test_an_assertion_that_changed_is_judged_anew_in_all_that_the_run_prints(replay: Replays) -> None:
    replay.commit(JOB + "assert: [{type: contains, value: one}]\n")
    replay.write(JOB + "assert: [{type: contains, value: four}]\n")
    told = replay("--report-junit", "junit.xml", expect=1)
    assert told.count("FAILED job [") == 6, "a block each, and a line each at the end"
    assert len(list(ET.parse(replay.folder / "junit.xml").iter("failure"))) == 3
    assert replay.summary(expect=1)["total"]["failed"] == 3
    assert {json.loads(line)["status"] for line in replay.file.read_text().splitlines()} == {"passed"}
    replay.write(JOB + "assert: [{type: contains, value: two}]\n")
    assert "3 passed" in replay()


def test_a_case_that_is_new_or_asks_something_else_is_an_error_that_names_it(replay: Replays) -> None:
    replay.commit()
    replay.write(JOB.replace("two", "zwei").replace("}]", "}, {id: new, vars: {word: four}}]"))
    told = replay(expect=3)
    for case in ("2", "new"):
        assert f"ERROR  job [{case}]: no_row: no earlier row answers this case" in told
    assert "2 kept from earlier runs, 2 without a row" in told
    replay.write(JOB)
    assert "3 kept" in replay()


def test_a_dry_run_tells_what_a_replay_would_do_and_not_what_calls_would_cost(replay: Replays) -> None:
    replay.commit(JOB + RUBRIC)
    assert "job: 3 cases (3 kept from earlier runs), nothing to call\n" in replay("--dry-run", "--max-cost", "0.000001")
    sings = RUBRIC.strip().replace("counts", "sings")
    replay.write(JOB.replace("two", "zwei").replace("three}}", f"three}}, {sings}}}"))
    found = json.loads(replay.run("--dry-run", "--json", expect=3).stdout)
    counted = {name: found["total"][name] for name in ("cases", "kept", "faults", "calls", "worst_case_cost_usd")}
    assert counted == {"cases": 3, "kept": 1, "faults": 2, "calls": 0, "worst_case_cost_usd": 0}
    changed, unjudged = "no earlier row answers this case: what it asks has changed", "no model has judged its reply"
    faults = {each["case"]: each["message"] for each in found["jobs"][0]["cannot_be_asked"]}
    assert faults == {"2": changed, "3": unjudged}
    told = replay("--dry-run", "-v", expect=3)
    assert "2 cases cannot be judged and will be in error:\n" in told
    assert f"    {changed} (case 2)\n" in told
    assert "2 errors" in replay(expect=3), "as foretold"


def test_a_budget_without_a_price_keeps_nobody_from_a_replay(replay: Replays) -> None:
    replay.commit()
    replay.write(JOB.replace("claude-3-5", "claude-of-no-price") + "max_cost: 1\n")
    for options in ([], ["--dry-run"]):
        assert "what it asks has changed" in replay(*options, expect=3)


def test_a_case_whose_row_may_be_torn_is_not_called_new(replay: Replays) -> None:
    replay.commit()
    *whole, last = replay.file.read_bytes().splitlines(keepends=True)
    replay.file.write_bytes(b"".join(whole) + last[:40])
    assert "the case is new, or its row is among the lines that can't be read" in replay(expect=3)


def test_a_case_without_a_row_was_not_called(replay: Replays) -> None:
    replay.write("id,n\na,5\n", "rows.csv")
    replay.commit("model: amazon.nova-lite-v1:0\nprompt: 'Say {{ 10 // (n | int) }}'\ncases: rows.csv\n")
    assert replay.summary()["total"]["without_row"] == 0
    replay.write("id,n\na,5\nnew,2\ncannot be rendered,0\n", "rows.csv")
    found = replay.summary(expect=3)
    for tally in (found["total"], found["jobs"][0]):
        counted = {name: tally[name] for name in ("kept", "called", "without_row", "errors", "calls")}
        assert counted == {"kept": 1, "called": 0, "without_row": 2, "errors": 2, "calls": 0}


def test_a_run_that_calls_counts_no_case_as_without_a_row(replay: Replays, bedrock_run: Any) -> None:
    replay.write(JOB)
    total = json.loads(bedrock_run("--local", "--json", "job.yaml").stdout)["total"]
    assert (total["called"], total["without_row"]) == (3, 0)


def test_what_no_model_has_judged_is_an_error(replay: Replays) -> None:
    replay.commit(JOB + RUBRIC)
    assert "3 passed" in replay()
    replay.write(JOB + RUBRIC.replace("it counts", "it sings"))
    assert "no model has judged this reply" in replay(expect=3)


def test_rows_on_standard_output_are_none_to_replay(replay: Replays) -> None:
    replay.write(JOB)
    assert "--replay has no rows with -o -" in replay("-o", "-", expect=2)


def test_a_replay_that_was_interrupted_begins_anew() -> None:
    stopped = StopReason(exit_code=ExitCode.INTERRUPTED, message="interrupted")
    *_, told = stop_lines(Summary(jobs={}, total=Tally(cases=3), replay=True, stopped=stopped), Outcomes())
    assert told == "3 cases were not reached; a replay keeps nothing, so the same command begins anew"


# --- files -----------------------------------------------------------------------------------------------------------


def test_without_rows_it_says_where_it_looked_and_makes_no_folder(replay: Replays) -> None:
    replay.write(JOB)
    told = replay(expect=3)
    assert "note: rows/job.jsonl has no row that could be replayed; was it committed" in told
    assert "replayed: " not in told
    assert "rows: " not in told
    assert "called" not in told
    assert not replay.file.parent.exists()


def test_of_several_jobs_those_that_have_rows_are_told(replay: Replays) -> None:
    replay.commit()
    replay.write(JOB, "other.yaml")
    told = replay("other.yaml", expect=3)
    assert "note: rows/other.jsonl has no row" in told
    assert [line for line in told.splitlines() if line.startswith(("replayed", "rows"))] == [
        "replayed: rows/job.jsonl (3 passed)"
    ]


@pytest.fixture
def read_only(replay: Replays) -> Iterator[Replays]:
    replay.commit()
    folder = replay.file.parent
    mounted = False
    replay.file.chmod(0o400)
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # as it is for root
        if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
            pytest.skip("root may write anywhere, and can't mount here")
        mounted = True
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    yield replay
    if mounted:
        subprocess.run(["umount", folder], check=True)
    folder.chmod(0o700)


def test_rows_that_cannot_be_written_are_replayed(read_only: Replays) -> None:
    assert "3 passed" in read_only()
    read_only.write(JOB + "assert: [{type: contains, value: four}]\n")
    assert "3 failed" in read_only(expect=1)


def test_a_damaged_line_is_told_by_its_number_and_left_where_it_is(replay: Replays) -> None:
    replay.commit()
    first, second, third = replay.file.read_bytes().splitlines(keepends=True)
    replay.file.write_bytes(first + second[:50] + b"\n" + b"<<<<<<< HEAD\n" + third)
    told = replay(expect=3)
    assert "note: rows/job.jsonl: lines 2, 3 can't be read as rows (left out)" in told
    assert "2 kept from earlier runs, 1 without a row" in told


@pytest.mark.parametrize("torn", [b'{"schema": "bedr', b"\0" * 20, b"tail"], ids=["row", "never filled", "not ours"])
def test_a_torn_last_line_is_told_and_left_as_it_is(replay: Replays, torn: bytes) -> None:
    replay.commit()
    replay.file.write_bytes(replay.file.read_bytes() + torn)
    told = replay()
    assert "note: rows/job.jsonl: line 4 can't be read as a row (left out)" in told
    assert "3 kept" in told


EDITORS: dict[str, Callable[[bytes], bytes]] = {
    "BOM": lambda text: BOM_UTF8 + text,
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "BOM and CRLF": lambda text: BOM_UTF8 + text.replace(b"\n", b"\r\n"),
    "no line end": lambda text: text.removesuffix(b"\n"),
    "blank lines": lambda text: b"\n" + text.replace(b"\n", b"\n \n"),
    "backwards": lambda text: b"".join(reversed(text.splitlines(keepends=True))),
}


@pytest.mark.parametrize("edit", EDITORS.values(), ids=EDITORS)
def test_a_file_as_editors_and_git_leave_it_is_replayed(replay: Replays, edit: Callable[[bytes], bytes]) -> None:
    replay.commit()
    replay.file.write_bytes(edit(replay.file.read_bytes()))
    told = replay()
    assert "3 kept" in told
    assert "can't be read" not in told


@pytest.mark.parametrize("option", ["--replay", "--dry-run"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_refused(
    replay: Replays, bedrock_run: Any, make: Callable[[Path], None], option: str
) -> None:
    replay.write(JOB)
    replay.file.parent.mkdir()
    make(replay.file)
    done = bedrock_run(option, "-o", "rows", "job.yaml")
    assert done.returncode == 2
    assert "rows can't be read from rows/job.jsonl: " in done.stderr


# --- another run -----------------------------------------------------------------------------------------------------


def test_a_run_that_writes_the_file_is_not_disturbed(replay: Replays, bedrock_run: Any) -> None:
    replay.commit()
    lines = replay.file.read_bytes().splitlines(keepends=True)
    replay.file.write_bytes(b"".join(lines[:2]))
    writer = RowFile(replay.file)
    assert bedrock_run("-o", "rows", "job.yaml").returncode == 2, "a second writer would be"
    assert "2 kept from earlier runs, 1 without a row" in replay(expect=3)
    writer.append(json.loads(lines[2]))
    writer.sync()
    assert "3 kept" in replay()
    writer.close(complete=False)
    assert replay.file.read_bytes() == b"".join(lines)
    assert [path.name for path in replay.file.parent.iterdir()] == ["job.jsonl"]


def test_rows_are_read_on_after_another_run_has_replaced_the_file(replay: Replays) -> None:
    replay.commit()
    rows = [cast("Row", json.loads(line)) for line in replay.file.read_bytes().splitlines()]
    replay.file.write_bytes(b"".join(map(to_line, reversed(rows))))
    reader = RowReader(replay.file)
    before = replay.file.stat().st_ino
    RowFile(replay.file).close(complete=False)
    assert replay.file.stat().st_ino != before
    for row in rows:
        taken = reader.earlier.take(row["key"], row["case"], row["repeat"])
        assert taken is not None
        assert taken.row == row
    reader.release()
