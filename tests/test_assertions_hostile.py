"""Hostile jobs and replies: whatever they hold, each assertion ends soon, and with a verdict or what hinders it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_assertions import BOMBS, ODD, REFUSED

from runner.assertions import Answer, UnjudgedError, evaluate, fault_of, python_code, python_worker
from runner.assertions.pattern_syntax import translated
from runner.cases.file_variables import file_variables
from runner.errors import Place
from runner.records import Assertion


def test_whatever_a_job_or_a_reply_holds_ends_soon_and_with_a_verdict_or_what_hinders_it() -> None:
    program = Path(__file__).with_name("hostile_assertions.py")
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    told = {line["name"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, f"after {list(told)[-1:]}: {done.stderr}"
    outcomes = {name: line["outcome"] for name, line in told.items()}
    known = ("judged: ", "unjudged: ", "refused: ")
    assert {name: outcome for name, outcome in outcomes.items() if not outcome.startswith(known)} == {}
    assert {name: line["length"] for name, line in told.items() if line["length"] > 900} == {}
    assert {name: outcomes[name] for name in BOMBS if "took longer than" not in outcomes[name]} == {}
    assert {name: outcomes[name] for name in ODD if outcomes[name].startswith("refused")} == {}
    refused = {name: outcomes[f"refused: {name}"] for name in REFUSED}
    assert {name: outcome for name, outcome in refused.items() if not outcome.startswith("refused")} == {}


@pytest.mark.filterwarnings("ignore:Possible nested set:FutureWarning")
@pytest.mark.parametrize(
    ("pattern", "written", "size"),
    [
        ("a{2}(?:b{3}c){4}", "a{2}(?:b{3}c){4}", 2 + 4 * 5),
        ("(?:a|b){0,9}", "(?:a|b){0,9}", 4),
        ("(?:a{3,}){2,}", "(?:a{3,}){2,}", 2 * 4),
        ("a{e}{2}", r"a\{e}{2}", 5),
        ("a{,3}b{,}", "a{,3}b{,}", 2),
        (r"\{{2}", r"\{{2}", 2),
        (r"\N{DIGIT ONE}{3}", r"\N{DIGIT ONE}{3}", 3),
        ("[[:alpha:]]", r"[\[:alpha:]]", 11),
        (r"[]\][(]{2}", r"[]\]\[(]{2}", 2 * 7),
        (r"(?#(\)()a", "(?#)a", 1),
        ("(?x)a {3} # (\\\n(\n(?-x: #)", "(?x)a {3} #\n(?-x: #)", 6),
        ("(?x:\xa0 a)#", "(?x:\\\xa0 a)#", 4),
    ],
)
def test_patterns_are_written_for_regex_and_counted_with_what_they_repeat(
    pattern: str, written: str, size: int
) -> None:
    assert translated(pattern) == (written, size)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("[[:alpha:]]", "x:]", ":]"),
        ("(?x)a\xa0b", "ab a\xa0b", "a\xa0b"),
        ("(?x)a # \\\n b\n c", "ac", "ac"),
        ("(?#\\))a", "a", "a"),
    ],
)
def test_sets_blanks_and_remarks_mean_what_they_mean_to_re(pattern: str, text: str, found: str) -> None:
    verdict = evaluate(
        Assertion(type="regex", place=Place("job.yaml", 7, 5), value=pattern, negated=True), Answer(output=text)
    )
    assert (verdict["actual"] or "").startswith(f"'{found}' matches")


def test_a_text_that_looks_like_json_is_not_read_as_json_by_a_path() -> None:
    assertion = Assertion(type="json-path", place=Place("job.yaml", 7, 5), value="$[0]")
    assert not evaluate(assertion, Answer(output=json.dumps("[1]")))["passed"]


def test_every_part_of_a_set_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("job.yaml", 7, 5)
    slow = Assertion(type="python", place=place, value="import time\ntime.sleep(1.2)\nreturn True")
    quick = Assertion(type="regex", place=place, value="x")
    monkeypatch.setattr("runner.assertions.time_limit.SECONDS", 1.0)
    both = Assertion(type="assert-set", place=place, assertions=(slow, quick))
    assert evaluate(both, Answer(output="x"))["passed"]


# --- python ----------------------------------------------------------------------------------------------------------


def test_what_runs_nothing_imports_nothing_either(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text("open('ran', 'w')\nfrom helper import get_assert\n")
    (tmp_path / "helper.py").write_text("open('ran', 'w')\n")
    job = write_job(
        "prompt: Hi\nassert: [{type: python, value: checks.py}, {type: python, value: \"open('ran', 'w')\"}]"
    )
    for arguments in (["validate"], ["render"], ["--local", "--allow-python", "--dry-run"]):
        assert bedrock_run(*arguments, job).returncode == 0
    assert not (tmp_path / "ran").exists()


def test_code_is_read_from_files_of_the_jobs_folder_only(tmp_path: Path) -> None:
    folder, outside = tmp_path / "job", tmp_path / "outside.py"
    folder.mkdir()
    outside.write_text("def get_assert(output, context): ...\n")
    (folder / "link.py").symlink_to(outside)
    (folder / "loop.py").symlink_to("loop.py")
    (folder / "device.py").symlink_to("/dev/zero")
    (folder / "folder.py").mkdir()
    os.mkfifo(folder / "pipe.py")

    def problem(name: str) -> str:
        place = Place(str(folder / "job.yaml"), 7, 5)
        fault = fault_of(Assertion(type="python", place=place, value=name))
        return fault.message if fault else ""

    assert "outside the job file's folder" in problem("link.py")
    assert "outside the job file's folder" in problem("device.py")
    assert "loop.py" in problem("loop.py")
    assert problem("folder.py") == "folder.py cannot be read: it is no regular file"
    assert problem("pipe.py") == "pipe.py cannot be read: it is no regular file"  # reading it would never end


def test_code_that_fails_as_pytest_does_is_an_error() -> None:
    assertion = Assertion(type="python", place=Place("job.yaml", 7, 5), value="import pytest\npytest.fail('no')")
    with pytest.raises(UnjudgedError, match="Failed: no"):
        evaluate(assertion, Answer(output=""))


def test_code_that_never_ends_is_an_error_and_the_next_one_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.assertions.python_worker.SECONDS", 0.2)
    for code in ("while True: pass", "while True: print('x')"):
        with pytest.raises(UnjudgedError, match=r"the code took longer than 0\.2s"):
            judged_by(code)
    monkeypatch.undo()
    assert judged_by("True")


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("print('begun')\nimport os\nos._exit(0)", "exit code 0"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGRTMIN + 1)", r"signal \d+"),
        ("import os\nos.system('sleep 40 >/dev/null 2>&1 &')\nos._exit(3)", "exit code 3"),
        ("import os\nos.closerange(3, 100)\nwhile True: pass", "it closed what connects it to the run"),
    ],
)
def test_code_that_ends_its_process_is_an_error_and_the_next_one_is_judged(
    code: str, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnjudgedError, match=f"the code ended its process \\({ending}\\)"):
        judged_by(code)
    assert capsys.readouterr().err == ("begun\n" if "begun" in code else "")
    assert judged_by("True")


def test_a_process_that_code_forks_does_not_answer_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert not judged_by("import os\nchild = os.fork()\nprint('é')\nif child: os.waitpid(child, 0)\nreturn child == 0")
    assert not judged_by("False")
    assert capsys.readouterr().err == "é\n"


def test_code_that_cannot_have_a_process_is_an_error() -> None:
    worker = python_worker.Worker()
    asked = python_code.Question(code="True", where=None, output="", context={}, threshold=None)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(python_code.UnusableError, match="no process for the code could be started"):
            worker.ask(asked)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert worker.ask(asked).holds
    worker.close()


def test_code_in_a_folder_that_is_gone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UnjudgedError, match="the folder of the run is not there any more"):
        judged_by("True")


def test_code_runs_in_the_folder_of_the_run_and_keeps_out_of_its_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert judged_by(f"import os\nos.system('echo said')\nreturn os.getcwd() == {str(tmp_path)!r}")
    assert capfd.readouterr().out == ""


def test_what_is_looked_up_of_a_file_is_looked_up_for_code_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345")
    variables = {"file": file_variables({"path": "a.txt"}, tmp_path)}
    assert judged_by("context['vars']['file']['bytes'] == 5", variables)
    with pytest.raises(UnjudgedError, match="line 1: RefusedError: "):
        judged_by("context['vars']['file']['width']", variables)


def judged_by(code: str, variables: dict[str, Any] | None = None) -> bool:
    assertion = Assertion(type="python", place=Place("job.yaml", 7, 5), value=code)
    return evaluate(assertion, Answer(output="", vars=variables or {}))["passed"]
