"""What a run came to is in its exit code, whoever is or is not there to read the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from runner import schema

SUMMARY = Draft202012Validator(schema.load("summary"))

JOB = """
model: anthropic.claude-3-5-sonnet-20241022-v2:0
prompt: 'case {{ n }}.'
cases: [{vars: {n: 1}}, {vars: {n: 2}}, {vars: {n: 3}}]
"""
PASSES = JOB + "assert: [{type: contains, value: good}]\n"
FAILS = JOB + "assert: [{type: contains, value: better}]\n"
BREAKS = PASSES + "thresholds: {p95_latency: <= 0s}\n"
FORGIVES = JOB + "assert: [{type: not-equals, value: good 3}]\nthresholds: {pass_rate: '> 60%'}\n"
ERRS = PASSES.replace("n: 2", "n: refused")

REPLIES = """
- {match: refused, status: 400, error: ValidationException, message: no}
- {match: denied, fault: denied}
- {match: flaky, reply: bad, times: 1}
- {match: slow, reply: good, latency: 30s}
- {match: case 3, reply: good 3}
- {match: '', reply: good}
"""
UNJUDGED = """
import runner.assertions
def evaluate(*_):
    raise runner.assertions.UnjudgedError("it took too long")
runner.assertions.evaluate_and_parse = evaluate
"""
NO_GRACE = "import runner.running.run; runner.running.run._GRACE = 0.1"
BUG = "import runner.running.run; runner.running.run.plan_of = None"
KEY = "AWS_ACCESS_KEY_ID"


class Run(NamedTuple):
    """A run and the exit code that it must have. `patch` is Python that the process runs first."""

    code: int
    jobs: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    patch: str = ""
    signal: signal.Signals | None = None  # sent when the first call has come
    without: str = ""  # a variable of the environment
    earlier: str = ""  # a job of the same name that was run before


RUNS = {
    "passed": Run(0, (PASSES,)),
    "failed": Run(1, (FAILS,)),
    "threshold broken": Run(1, (BREAKS,)),
    "threshold broken and failed": Run(1, (BREAKS.replace("good", "better"),)),
    "failed as far as pass_rate allows": Run(0, (FORGIVES,)),
    "failed more than pass_rate allows": Run(1, (FORGIVES.replace("60%", "70%"),)),
    "failed as far as min_pass allows": Run(0, (PASSES.replace("n: 2", "n: flaky") + "repeat: 2\nmin_pass: 1\n",)),
    "error": Run(3, (ERRS,)),
    "error and failed": Run(3, (ERRS.replace("good", "better"),)),
    "error and threshold broken": Run(3, (ERRS + "thresholds: {error_rate: < 1%}\n",)),
    "error as far as error_rate allows": Run(3, (ERRS + "thresholds: {error_rate: < 50%}\n",)),
    "assertion in error": Run(3, (PASSES,), patch=UNJUDGED),
    "replayed": Run(0, (PASSES,), ("--replay",), earlier=PASSES),
    "replayed and failed": Run(1, (FAILS,), ("--replay",), earlier=PASSES),
    "replayed without a row": Run(3, (ERRS,), ("--replay",), earlier=PASSES),
    "replayed without any row": Run(3, (PASSES,), ("--replay",)),
    "no credentials": Run(4, (PASSES,), without=KEY),
    "access denied": Run(4, (FAILS.replace("n: 3", "n: denied"),), ("-j", "1")),
    "budget": Run(4, (FAILS,), ("--max-cost", "0.001")),
    "budget of the job": Run(4, (PASSES + "max_cost: 0.00001\n",)),
    "max-failures": Run(4, (ERRS.replace("n: 1", "n: refused"),), ("--max-failures", "1", "-j", "1")),
    "interrupted": Run(130, (FAILS.replace("n: 2", "n: slow"),), patch=NO_GRACE, signal=signal.SIGINT),
    "terminated": Run(143, (ERRS.replace("n: 3", "n: slow"),), patch=NO_GRACE, signal=signal.SIGTERM),
    "hung up": Run(129, (PASSES.replace("n: 3", "n: slow"),), patch=NO_GRACE, signal=signal.SIGHUP),
    "wrong option": Run(2, (PASSES,), ("--nonsense",)),
    "options that exclude each other": Run(2, (PASSES,), ("--fresh", "--replay")),
    "wrong job": Run(2, (PASSES, "prompt: x\n")),
    "wrong threshold": Run(2, (PASSES + "thresholds: {pass_rate: '> 1'}\n",)),
    "nothing selected": Run(2, (PASSES,), ("--filter", "none")),
    "bug": Run(70, (PASSES,), patch=BUG),
    "jobs: passed, failed": Run(1, (PASSES, FAILS)),
    "jobs: threshold broken, passed": Run(1, (BREAKS, PASSES)),
    "jobs: failed, error": Run(3, (FAILS, ERRS)),
    "jobs: failed as far as allowed, failed": Run(1, (FORGIVES, FAILS)),
    "jobs: error, access denied": Run(4, (ERRS, PASSES.replace("n: 1", "n: denied"))),
}
WAYS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "-q": ("-q",),
    "-v": ("-v",),
    "--json": ("--json",),
    "-o -": ("-o", "-"),
    "--json -q": ("--json", "-q"),
    "stderr closed": (),
    "reader of stderr gone": (),
    "reader of stdout gone": ("--json",),
}
_EVERY_WAY = {"passed", "threshold broken", "error", "access denied", "wrong option"}  # of the others only with -m slow


def combinations() -> Iterator[Any]:
    for (name, run), way in product(RUNS.items(), WAYS):
        if way == "-o -" and "--replay" in run.arguments:
            continue  # which exclude each other
        marks = [] if way == "--json" or name in _EVERY_WAY else [pytest.mark.slow]
        yield pytest.param(run, way, id=f"{name}; {way}", marks=marks)


def start(run: Run, way: str, folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    paths = []
    for number, text in enumerate(run.jobs, start=1):
        (folder / f"job{number}.yaml").write_text(text)
        paths.append(f"job{number}.yaml")
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    gone, nobody_reads = os.pipe()
    os.close(gone)
    if way.startswith("reader of "):
        streams[way.split()[2]] = nobody_reads
    patch = f"import os; os.close(2)\n{run.patch}" if way == "stderr closed" else run.patch
    module = f"{patch}\nimport runpy; runpy.run_module('runner', run_name='__main__', alter_sys=True)"
    command = [sys.executable, *(["-c", module] if patch else ["-m", "runner"])]
    process = subprocess.Popen(
        [*command, *run.arguments, *WAYS[way], *paths], cwd=folder, env=env, text=True, **streams
    )
    os.close(nobody_reads)
    return process


@pytest.mark.parametrize(("run", "way"), list(combinations()))
def test_every_outcome_has_its_exit_code(run: Run, way: str, bedrock: Any, tmp_path: Path, bedrock_run: Any) -> None:
    server = bedrock(REPLIES)
    env = {name: value for name, value in {**os.environ, **server.env}.items() if name != run.without}
    if run.earlier:
        (tmp_path / "job1.yaml").write_text(run.earlier)
        assert bedrock_run("job1.yaml", env=server.env).returncode == 0
    process = start(run, way, tmp_path, env)
    if run.signal is not None:
        deadline = time.monotonic() + 60
        while len(server.log) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(run.signal)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == run.code, told
    assert run.code == 70 or "Traceback" not in (told or "")
    if way.startswith("--json"):
        assert (printed != "") == (run.code not in {2, 70})  # where there was a run
        if printed:
            summary = json.loads(printed)
            SUMMARY.validate(summary)
            assert summary["exit_code"] == run.code
    if way == "plain":
        assert printed == ""
    if "-q" in way and run == RUNS["passed"]:
        assert told == ""


@pytest.mark.parametrize("name", ["passed", "threshold broken", "error", "access denied", "wrong job"])
def test_on_a_terminal_the_exit_code_is_the_same(name: str, bedrock: Any, tmp_path: Path, on_terminal: Any) -> None:
    run = RUNS[name]
    for number, text in enumerate(run.jobs, start=1):
        (tmp_path / f"job{number}.yaml").write_text(text)
    paths = [f"job{number}.yaml" for number in range(1, len(run.jobs) + 1)]
    assert on_terminal(*run.arguments, *paths, env=bedrock(REPLIES).env)[0] == run.code
