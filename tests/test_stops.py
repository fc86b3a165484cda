"""Runs that end early: what was answered is kept, the exit code says why, and the same command goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import interrupt_twice

from runner.emulator import Settings, running

Rows = Callable[..., list[dict[str, Any]]]

JOB = "prompt: 'number {{ n }}.'\ncases: rows.csv\n"
WORST_CASE = 3 * 3e-6 + 1024 * 15e-6  # USD that a call of this job may cost


class Runs(NamedTuple):
    """A job of many cases, and what runs it."""

    run: Any
    start: Any
    rows: Rows
    folder: Path

    def write(self, cases: int, text: str = "", name: str = "job.yaml") -> None:
        (self.folder / name).write_text(f"model: anthropic.claude-3-5-sonnet-20241022-v2:0\n{text}{JOB}")
        (self.folder / "rows.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(cases)))

    def goes_on(self, server: Any, *, cases: int, done: int) -> None:
        """The same command calls only what has no good row, and then every case has one, in order."""
        before = len(server.log)
        result = self.run("job.yaml", env=server.env)
        assert result.returncode == 0, result.stderr
        assert len(server.log) - before == cases - done
        assert [row["index"] for row in self.rows()] == list(range(cases))
        assert {row["status"] for row in self.rows()} == {"passed"}


@pytest.fixture
def runs(bedrock_run: Any, start_run: Any, rows: Rows, tmp_path: Path) -> Runs:
    return Runs(bedrock_run, start_run, rows, tmp_path)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def good(rows: list[dict[str, Any]]) -> int:
    return sum(row["status"] == "passed" for row in rows)


# --- money and failures ----------------------------------------------------------------------------------------------


def worst_bill(rows: list[dict[str, Any]]) -> float:
    """USD on the bill, if every attempt that may have been billed was, at its most."""
    lost = sum(attempt["possibly_billed"] for row in rows for attempt in row["attempts"])
    return float(sum(row["cost_usd"] or 0 for row in rows) + lost * WORST_CASE)


@pytest.mark.parametrize(
    ("faults", "calls"),
    [
        ("- {match: '', fault: drop}\n", 16),  # the budget pays for 16 replies that are lost
        ("- {match: '[13579][.]', fault: drop, times: 8}\n", 60),
        ("- {match: '', reply: short, latency: 20ms}\n", 100),
    ],
    ids=["every reply is lost", "some are lost", "none is lost"],
)
def test_a_budget_is_never_exceeded_whatever_is_lost(faults: str, calls: int, runs: Runs, bedrock: Any) -> None:
    runs.write(400, "max_cost: 0.25\nretry: {max_backoff: 10ms}\n")
    server = bedrock(faults)
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 4 or "short" in faults
    assert worst_bill(runs.rows()) <= 0.25
    assert len(server.log) >= calls


def test_a_budget_that_is_raised_goes_on(runs: Runs, bedrock: Any) -> None:
    runs.write(100)
    server = bedrock(latency=0.01)
    done = runs.run("--max-cost", "0.03", "job.yaml", env=server.env)
    assert done.returncode == 4
    assert "the budget is spent" in done.stderr
    runs.goes_on(server, cases=100, done=good(runs.rows()))


def test_budgets_of_jobs_and_of_the_run_hold_together(runs: Runs, bedrock: Any) -> None:
    runs.write(100, "max_cost: 0.03\n", "a.yaml")
    runs.write(100, "vars: {other: 1}\n", "b.yaml")
    server = bedrock(latency=0.01)
    assert runs.run("--max-cost", "1", "a.yaml", "b.yaml", env=server.env).returncode == 4
    assert 0 < worst_bill(runs.rows("a")) <= 0.03
    assert good(runs.rows("b")) > good(runs.rows("a"))


def test_a_run_in_which_nothing_succeeds_any_more_stops(runs: Runs, bedrock: Any) -> None:
    runs.write(400)
    server = bedrock(
        "- {match: '', reply: fine, times: 30}\n- {match: '', status: 400, error: ValidationException, message: no}\n"
    )
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 4
    assert "cases in a row failed, the last with invalid: ValidationException: no" in done.stderr
    assert len(server.log) < 300
    assert good(runs.rows()) == 30
    runs.goes_on(bedrock(), cases=400, done=30)


def test_a_server_that_has_gone_stops_the_run_and_leaves_the_cases_pending(runs: Runs, bedrock: Any) -> None:
    runs.write(200)
    server = bedrock("- {match: '', reply: fine, times: 30}\n- {match: '', fault: unavailable}\n")
    patch = "import runner.calling.limits; runner.calling.limits.HOPELESS_AFTER = 1.0"
    process = runs.start("job.yaml", env=server.env, patch=patch)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert "no call to anthropic.claude-3-5-sonnet-20241022-v2:0 in us-east-1 has succeeded for" in told
    assert [row["status"] for row in runs.rows()] == ["passed"] * 30
    assert "170 cases were not reached; the same command goes on" in told
    runs.goes_on(bedrock(), cases=200, done=30)


def test_a_quota_for_the_day_that_is_used_up_stops_the_run(runs: Runs, bedrock: Any) -> None:
    runs.write(200)
    server = bedrock("- {match: '', reply: fine, times: 30}\n- {match: '', fault: tokens-per-day}\n")
    done = runs.run("job.yaml", env=server.env)
    assert done.returncode == 4
    assert "quota: ThrottlingException: Too many tokens per day" in done.stderr
    assert "wait for the quota to refill" in done.stderr
    assert [row["status"] for row in runs.rows()] == ["passed"] * 30
    runs.goes_on(bedrock(), cases=200, done=30)


def test_a_model_that_cannot_be_called_is_named_with_its_line(runs: Runs, bedrock: Any) -> None:
    unknown = "error: ValidationException, status: 400, message: The provided model identifier is invalid."
    server = bedrock(f"- {{match: '', model: amazon.nova-pro*, {unknown}}}\n")
    for job, more in (("one", ""), ("other", "  - amazon.nova-pro-v1:0\n")):
        text = f"matrix:\n model:\n  - amazon.nova-lite-v1:0\n{more}prompt: hello\n"
        (runs.folder / f"{job}.yaml").write_text(text)
    done = runs.run("one.yaml", "other.yaml", "--json", env={**server.env, "GITHUB_ACTIONS": "true"})
    assert done.returncode == 4, done.stderr
    about = "(model amazon.nova-pro-v1:0 of other, other.yaml:4)"
    stopped = json.loads(done.stdout)["stopped"]["message"]
    assert stopped == f"not_found: ValidationException: The provided model identifier is invalid. {about}"
    assert f"\nstopped: {stopped}\n" in done.stderr
    assert f"::error file=other.yaml,line=4,title=bedrock-run::the run stopped: {stopped}\n" in done.stderr


def test_a_needlessly_large_max_tokens_is_told_with_the_figure_that_would_do(runs: Runs, bedrock: Any) -> None:
    runs.write(30, "inference: {max_tokens: 4000}\n")
    server = bedrock("- {match: '', reply: a reply of some words}\n", latency=0.2, tokens_per_minute=120_000, burst=5)
    done = runs.run("--json", "job.yaml", env=server.env, stdin="")
    assert done.returncode == 0
    assert "`max_tokens: 50` would do" in done.stderr
    assert json.loads(done.stdout)["total"]["sufficient_max_tokens"] == 50


# --- signals ---------------------------------------------------------------------------------------------------------

ORDERING_TAKES_LONG = """
import os, time
fsync = os.fsync
def slow_fsync(descriptor):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith(".ordered"):
        open("now", "w").close()
        time.sleep(30)
    fsync(descriptor)
os.fsync = slow_fsync
"""
SHORT_GRACE = "import runner.running.run; runner.running.run._GRACE = 0.5"
SURVEY_TAKES_LONG = """
import time, runner.cases.loading
def load(*_, **__):
    open("now", "w").close()
    time.sleep(30)
runner.cases.loading.load = load
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to know which file is synced")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
@pytest.mark.parametrize("moment", [SURVEY_TAKES_LONG, ORDERING_TAKES_LONG], ids=["survey", "ordering"])
def test_a_signal_before_the_first_call_and_after_the_last(
    number: signal.Signals, moment: str, runs: Runs, bedrock: Any
) -> None:
    runs.write(20)
    server = bedrock("- {match: 'number 0[.]', reply: late, latency: 300ms}\n- {match: '', reply: fine}\n")
    process = runs.start("job.yaml", env=server.env, patch=moment)
    wait_for((runs.folder / "now").exists)
    process.send_signal(number)
    told = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + number
    assert len(told.strip().splitlines()) == 1, told
    runs.goes_on(server, cases=20, done=len(server.log))


SYNC_HANGS = """
import os, threading, pathlib
def hang(descriptor):
    if os.readlink(f"/proc/self/fd/{descriptor}").endswith("job.jsonl"):
        pathlib.Path("now").touch()
        threading.Event().wait()
os.fsync = hang
"""


@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["once", "twice"])
@pytest.mark.parametrize("latency", ["1ms", "300ms"], ids=["in order", "the first comes last"])
def test_a_reader_that_pauses_does_not_keep_a_run_from_being_stopped(
    numbers: list[signal.Signals], latency: str, runs: Runs, bedrock: Any
) -> None:
    runs.write(60)
    server = bedrock(
        f"- {{match: 'number 0[.]', reply: x, latency: {latency}}}\n- {{match: '', reply: {'y' * 9000}}}\n"
    )
    process = runs.start("-o", "-", "job.yaml", env=server.env, patch=SHORT_GRACE, stdout=subprocess.PIPE)
    wait_for(lambda: len(server.log) == 60)
    time.sleep(0.5)  # so that the pipe is full; should it not be yet, it soon will be
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.1)
    process.wait(20)  # nothing of what it wrote is read before its end
    told = process.stderr.read()
    assert process.returncode == 128 + numbers[0]
    assert "rows could not be written to standard output, since its reader took no more" in told
    assert "Traceback" not in told
    assert "Fatal" not in told


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to know which file is synced")
def test_a_disk_that_hangs_does_not_keep_a_second_interrupt_from_ending_the_run(runs: Runs, bedrock: Any) -> None:
    runs.write(20)
    server = bedrock()
    process = runs.start("job.yaml", env=server.env, patch=SYNC_HANGS)
    wait_for((runs.folder / "now").exists)
    wait_for(lambda: len(server.log) == 20)
    interrupt_twice(process)
    told = process.communicate(timeout=20)[1]
    assert process.returncode == 130
    assert "rows in outputs could not be made durable, since its disk does not answer" in told
    runs.goes_on(server, cases=20, done=len(runs.rows()))


@pytest.mark.parametrize("fault", ["", "- {match: 'number [1-9]', fault: unavailable}\n"], ids=["quota", "outage"])
def test_an_interrupt_ends_what_waits_at_once(fault: str, runs: Runs, bedrock: Any) -> None:
    runs.write(20)
    server = bedrock(fault)
    process = runs.start(*(() if fault else ("--rpm", "1")), "job.yaml", env=server.env)
    wait_for(lambda: len(server.log) >= (10 if fault else 1))
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert time.monotonic() - began < 4.5, "the moment for calls in flight is 5 s, and there are none"
    assert process.returncode == 130
    assert "19 cases were not reached; the same command goes on" in told
    runs.goes_on(bedrock(), cases=20, done=1)


def test_a_run_that_was_suspended_goes_on_without_a_loss(runs: Runs, bedrock: Any) -> None:
    runs.write(150, "timeout: 1s\n")
    server = bedrock(latency=0.1)
    process = runs.start("-j", "10", "job.yaml", env=server.env)
    wait_for(lambda: len(server.log) > 20)
    process.send_signal(signal.SIGSTOP)
    time.sleep(1.5)
    suspended_at = len(server.log)
    process.send_signal(signal.SIGCONT)
    assert process.wait(60) == 0
    assert good(runs.rows()) == 150
    assert suspended_at < 150
    assert len(server.log) <= 150 + 10, "what may be called again was in flight"


@pytest.mark.parametrize("shift", [86_400, -86_400])
def test_pacing_does_not_heed_a_wall_clock_that_jumps(shift: int, runs: Runs) -> None:
    runs.write(40)
    log: list[str] = []
    patch = (
        "import time; real, began = time.time, time.time()\n"
        f"time.time = lambda: real() + ({shift} if real() - began > 0.8 else 0)"
    )
    with running(Settings(log=log.append)) as url:  # which checks no signature, since it depends on the time
        env = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url}
        process = runs.start("--rpm", "1200", "job.yaml", env=env, patch=patch)
        assert process.wait(60) == 0
    assert len(log) == 40
    assert all(0 <= row["latency_ms"] < 60_000 for row in runs.rows())


# --- files of cases that change --------------------------------------------------------------------------------------


PADDING = "x" * 200  # so that the file is longer than what is read of it at once


@pytest.mark.parametrize(
    "content",
    [
        lambda before: before + b"400,more\n",
        lambda before: before[:3000] + b"\xff\xfe\xfd" * 30_000,
        lambda _: b"n,padding\n",
    ],
    ids=["longer", "garbage", "shorter"],
)
def test_a_file_of_cases_that_changes_meanwhile_is_told_and_costs_nothing(
    content: Callable[[bytes], bytes], runs: Runs, bedrock: Any
) -> None:
    runs.write(0)
    file = runs.folder / "rows.csv"
    file.write_text("n,padding\n" + "".join(f"{number},{PADDING}\n" for number in range(400)))
    before = file.read_bytes()
    server = bedrock(latency=0.02)
    process = runs.start("-j", "4", "job.yaml", env=server.env)
    wait_for(lambda: len(server.log) > 5)
    file.write_bytes(content(before))
    stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 4, stderr
    assert "a file changed during the run" in stderr
    answered = runs.rows()
    assert good(answered) == len(server.log)
    file.write_bytes(before)
    runs.goes_on(server, cases=400, done=min(400, len(answered)))


# --- long ------------------------------------------------------------------------------------------------------------


@contextmanager
def server_at(port: int, log: list[str]) -> Iterator[int]:
    with running(Settings(port=port, log=log.append, latency=0.05)) as url:
        yield int(url.rpartition(":")[2])


@pytest.mark.slow
def test_after_an_outage_of_a_minute_every_row_succeeds(runs: Runs) -> None:
    runs.write(1000)
    log: list[str] = []
    with server_at(0, log) as port:
        env = {
            "AWS_ACCESS_KEY_ID": "A",
            "AWS_SECRET_ACCESS_KEY": "B",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://127.0.0.1:{port}",
        }
        process = runs.start("-j", "10", "job.yaml", env=env)
        wait_for(lambda: len(log) > 100)
    time.sleep(60)
    with server_at(port, log):
        told = process.communicate(timeout=100)[1]
    assert process.returncode == 0, told
    assert good(runs.rows()) == 1000
    assert len(log) <= 1000 + 20
