"""Job files as tests of pytest: real sessions in processes of their own, against the emulator."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast
from xml.etree import ElementTree as ET

import pytest

from runner.cases import loading
from runner.console import case_lines, render_problems
from runner.errors import UsageError
from runner.records import Row

ROOT = Path(__file__).parents[1]
MODEL = "model: anthropic.claude-3-5-sonnet-20241022-v2:0\n"
JOB = """\
prompt: "Tell me about {{ topic }}"
tags: [smoke-test]
retry: {max_attempts: 1}
vars: {topic: nothing}
cases:
  - {id: squares, vars: {topic: squares}, assert: [{type: contains, value: squares}]}
  - {id: cubes, vars: {topic: cubes}, tags: [slow], assert: [{type: contains, value: squares}]}
  - {id: broken, vars: {topic: broken}}
"""
REPLIES = "- {match: broken, fault: throttle}\n"
INI = """\
[pytest]
bedrock_jobs = prompts/*.y*ml
addopts = --strict-markers --strict-config
filterwarnings = error
"""


class Session(NamedTuple):
    """A session of pytest that has ended, and how many calls it has made."""

    code: int
    out: str
    calls: int

    def outcomes(self) -> dict[str, str]:
        """By test, as -rA tells them."""
        found = re.findall(r"^(PASSED|FAILED|ERROR|XFAIL) (\S+::.*?)(?: - .*)?$", self.out, flags=re.MULTILINE)
        return {test: outcome for outcome, test in found}


class Project:
    """A folder with job files, in which sessions are run. Without `server` there is no AWS account."""

    def __init__(self, folder: Path, plugin: Path) -> None:
        self.folder = folder
        self.server: Any = None
        self._plugin = plugin
        self.write("pytest.ini", INI)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def job(self, text: str = JOB, name: str = "tutor") -> Path:
        return self.write(f"prompts/{name}.yaml", MODEL + textwrap.dedent(text))

    def environment(self, *plugins: str) -> dict[str, str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "CI", "BUILD_"))}
        paths = [str(self._plugin), *filter(None, [env.get("PYTHONPATH")])]
        only = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(plugins), "COLUMNS": "200"}
        return {**env, **only, "PYTHONPATH": os.pathsep.join(paths), **(self.server.env if self.server else {})}

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> Session:
        before = len(self.server.log) if self.server else 0
        plugins = ["-p", "xdist"] if "-n" in args else []
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "bedrock_run", *plugins, "-rA", *args],
            cwd=self.folder,
            env={**self.environment(), **(env or {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Session(done.returncode, done.stdout + done.stderr, len(self.server.log) - before if self.server else 0)

    def rows(self, name: str = "tutor", folder: str = "outputs") -> list[dict[str, Any]]:
        lines = (self.folder / folder / f"{name}.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the entry point of pyproject.toml is found as if the package were installed, which it need not be here."""
    folder = tmp_path_factory.mktemp("plugin")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    points = "\n".join(f"{name} = {value}" for name, value in project["entry-points"]["pytest11"].items())
    info = folder / "bedrock_run-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bedrock-run\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{points}\n")
    return folder


@pytest.fixture
def offline(tmp_path: Path, plugin: Path) -> Project:
    return Project(tmp_path, plugin)


@pytest.fixture
def project(offline: Project, bedrock: Any) -> Project:
    offline.server = bedrock(REPLIES)
    return offline


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_a_case_passes_fails_or_is_in_error_and_a_second_session_calls_only_what_failed_to_answer(
    project: Project, bedrock: Any
) -> None:
    project.server = bedrock(
        f"{REPLIES}- {{match: often, reply: 'no', times: 1}}\n- {{match: rare, reply: 'no', times: 2}}\n"
    )
    project.job()
    cases = "cases: [{id: often, vars: {x: often}}, {id: rare, vars: {x: rare}}]"
    often = f"prompt: '{{{{ x }}}}'\nrepeat: 3\nmin_pass: 2\n{cases}\nassert: [{{type: contains, value: model}}]"
    project.job(often, name="repeated")
    project.job("prompt: Hello", name="single")
    project.write(
        "conftest.py",
        """
        def pytest_collection_finish(session):
            for item in session.items:
                print("at", item.name, *item.location[:2])
        """,
    )
    first = project.run("prompts", "--junitxml=junit.xml", "-o", "junit_logging=system-out", env={"CI": "1"})
    assert first.code == 1
    assert first.calls == 3 + 6 + 1
    assert first.outcomes() == {
        "prompts/repeated.yaml::often": "PASSED",
        "prompts/repeated.yaml::rare": "FAILED",
        "prompts/single.yaml::single": "PASSED",
        "prompts/tutor.yaml::squares": "PASSED",
        "prompts/tutor.yaml::cubes": "FAILED",
        "prompts/tutor.yaml::broken": "ERROR",
    }
    assert "6 cases (10 with repetitions): 3 passed, 2 failed, 1 error" in first.out
    assert "bedrock-run: running 6 cases (10 with repetitions) of 3 jobs together\n" in first.out
    assert "ERROR at setup of tutor [broken]" in first.out
    assert re.findall(r"^at (.*)$", first.out, flags=re.MULTILINE) == [
        "often prompts/repeated.yaml 4",
        "rare prompts/repeated.yaml 4",
        "single prompts/single.yaml 0",
        "squares prompts/tutor.yaml 6",
        "cubes prompts/tutor.yaml 7",
        "broken prompts/tutor.yaml 8",
    ]
    *_, summary = first.out.split("short test summary info")
    got = "got 'Local emulator, no model was called. You asked: \"Tell me about"
    assert f"\nFAILED prompts/tutor.yaml::cubes - {got}" in summary
    assert "\nFAILED prompts/repeated.yaml::rare - 2 of 3 repetitions failed, 2 must pass: got '" in summary
    assert "\nERROR prompts/tutor.yaml::broken - throttled: ThrottlingException: Too many requests" in summary
    assert len(re.findall("FAILED|ERROR", first.out.partition("= bedrock-run =")[2])) == 3, "each is told of once"
    assert len(summary.strip().splitlines()) == 1 + 6 + 1, "a line each, also in CI"

    second = project.run("prompts", "--tb=line", "--show-capture=no")
    assert second.outcomes() == first.outcomes()
    assert second.calls == 1, "the row in error is called again, the others are kept"
    assert [row["case"] for row in project.rows()] == ["squares", "cubes", "broken"]
    assert f"\n{project.folder}/prompts/tutor.yaml:8: got 'Local" in second.out

    rare = [row for row in project.rows("repeated") if row["case"] == "rare"]
    cubes = project.rows()[1]
    rows = {"tutor [cubes]": [cubes], "repeated [rare]": rare}
    blocks = [case_lines(name, cast("list[Row]", of_case)) for name, of_case in rows.items()]
    assert blocks[0][0] == "FAILED tutor [cubes] (prompts/tutor.yaml:8)"
    assert all("\n".join(block) in first.out for block in blocks), "the text is the command's"

    found = {case.get("name"): case for case in ET.parse(project.folder / "junit.xml").iter("testcase")}
    for name, kind in (("cubes", "failure"), ("broken", "error")):
        (part,) = [part for part in found[name] if part.tag in {"failure", "error"}]
        assert part.tag == kind
        assert f"tutor [{name}]" in (part.text or "")
        assert "\n" not in part.get("message", "\n")
    known = {each.get("name"): each.get("value") for each in found["cubes"].iter("property")}
    assert known["model"] == "anthropic.claude-3-5-sonnet-20241022-v2:0"
    assert float(known["cost_usd"] or 0) == cubes["cost_usd"]
    assert int(known["output_tokens"] or 0) == cubes["usage"]["output_tokens"]
    assert known["request_id"] == cubes["attempts"][0]["request_id"]
    assert cubes["output"] in (found["cubes"].findtext("system-out") or "")


def test_thresholds_are_a_test_of_their_own_which_all_cases_of_the_job_decide(project: Project) -> None:
    project.job("prompt: Hello\nthresholds: {output_tokens: '< 1', cost: '< 1', pass_rate: '== 100%'}", name="broken")
    cases = "[{id: thresholds, vars: {x: bad}}, {id: right, vars: {x: good}}]"
    assertion = "assert: [{type: contains, value: good}]"
    project.job(f"prompt: '{{{{ x }}}}'\ncases: {cases}\n{assertion}\nthresholds: {{pass_rate: '>= 0.5'}}", name="held")
    some = "cases: [{id: a, vars: {x: bad}}, {id: b, vars: {x: good}}]"
    project.job(f"prompt: '{{{{ x }}}}'\n{some}\n{assertion}\nthresholds: {{pass_rate: '>= 0.5'}}", name="part")
    done = project.run("--deselect=prompts/part.yaml::b", "--junitxml=junit.xml")
    assert done.code == 1
    assert done.outcomes() == {
        "prompts/broken.yaml::broken": "PASSED",
        "prompts/broken.yaml::thresholds": "FAILED",
        "prompts/held.yaml::thresholds": "XFAIL",
        "prompts/held.yaml::right": "PASSED",
        "prompts/held.yaml::thresholds_": "PASSED",
        "prompts/part.yaml::a": "FAILED",
    }
    assert re.search(r"^SKIPPED .*not judged: 1 of the 2 cases of part were selected$", done.out, flags=re.MULTILINE)
    told = r"output_tokens is \d+, wanted < 1"
    assert re.search(rf"^BROKEN broken \(prompts/broken.yaml:3\): {told}$", done.out, flags=re.MULTILINE)
    assert re.search(rf"^FAILED prompts/broken.yaml::thresholds - {told}$", done.out, flags=re.MULTILINE)
    assert "its job's pass_rate allows it" in done.out
    assert "held, thresholds:" in done.out
    assert "part, thresholds:" not in done.out
    assert 'name="cost" value="$0.' in (project.folder / "junit.xml").read_text()

    again = project.run("--lf", "-x", "--bedrock-fresh")
    assert again.outcomes() == {"prompts/broken.yaml::thresholds": "FAILED"}
    assert "stopping after 1 failures" in again.out
    assert again.calls == 2, "all that failed is called, and what the thresholds judge"


def test_what_concerns_the_account_is_told_once_in_full(offline: Project) -> None:
    offline.job(f"{JOB}thresholds: {{pass_rate: '> 0.5'}}")
    offline.write("test_python.py", "def test_it(bedrock_job):\n    bedrock_job({'model': 'a.b', 'prompt': 'x'})\n")
    done = offline.run()
    assert set(done.outcomes().values()) == {"ERROR", "FAILED"}
    assert done.code == 1
    assert "--bedrock-local needs none" in done.out, "options have pytest's names"
    why = "stopped: credentials: no AWS credentials were found"
    assert done.out.count(f"\nERROR  tutor [cubes]: not run; {why}\n") == 1
    assert f"\nERROR prompts/tutor.yaml::cubes - not run; {why}\n" in done.out
    assert f": not judged: not every case has its row; {why}\n" in done.out
    assert f"ERROR  test_python.test_it: {why}\nhint: run `aws configure`" in done.out
    assert done.out.count("hint: run `aws configure`") == 2, "once for the jobs, once for the test in Python"


def test_no_reply_is_a_command_to_ci(project: Project, bedrock: Any) -> None:
    reply = "##[group]a\n::error::b\n  ::add-mask::c"
    project.server = bedrock(f"- {json.dumps({'match': '', 'reply': reply})}\n")
    project.job("prompt: Hello\nassert: [{type: equals, value: x}]")
    test = "bedrock_job('prompts/tutor.yaml').assert_passed()"
    project.write("test_python.py", f"def test_it(bedrock_job):\n    {test}\n")
    done = project.run("--tb=long", env={"GITHUB_ACTIONS": "true"})
    assert list(done.outcomes().values()) == ["FAILED", "FAILED"]
    assert done.out.count("\n\\x3a:error::b\n  \\x3a:add-mask::c\n") == 2, "people can read it"
    assert not re.search(r"^\s*::|##\[", done.out, flags=re.MULTILINE)


# --- what is selected ------------------------------------------------------------------------------------------------


def test_only_selected_cases_are_called_together_and_a_replay_calls_nothing(project: Project, bedrock: Any) -> None:
    project.server = bedrock(latency=0.7)
    project.job(f"{JOB}thresholds: {{pass_rate: '> 0.3'}}")
    project.job("prompt: Hello", name="other")
    rows = ("-o", "bedrock_output=kept")
    first = project.run("-k", "squares or cubes", *rows)
    assert list(first.outcomes()) == ["prompts/tutor.yaml::squares", "prompts/tutor.yaml::cubes"]
    assert first.calls == 2
    assert [path.name for path in (project.folder / "kept").glob("*.jsonl")] == ["tutor.jsonl"]
    squares, cubes = project.rows(folder="kept")
    assert max(squares["started_at"], cubes["started_at"]) < min(squares["finished_at"], cubes["finished_at"])

    project.server = None
    done = project.run("--bedrock-replay", "prompts/tutor.yaml", *rows)
    assert done.outcomes() == {
        "prompts/tutor.yaml::squares": "PASSED",
        "prompts/tutor.yaml::cubes": "FAILED",
        "prompts/tutor.yaml::broken": "ERROR",
    }
    assert "\n    no_row: no earlier row answers this case: the case is new\n" in done.out
    assert "run it without --bedrock-replay" in done.out
    assert "not judged: not every case has its row" in done.out


def test_a_case_that_is_skipped_or_only_planned_is_not_called(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest

        def pytest_collection_modifyitems(items):
            for item in items:
                if item.get_closest_marker("slow"):
                    item.add_marker(pytest.mark.skip(reason="too slow"))
        """,
    )
    project.job()
    project.job("prompt: Hi\ncases: [{tags: [slow]}, {tags: [slow]}]\nthresholds: {cost: '< 1'}", name="all-slow")
    assert project.run("--setup-plan").calls == 0
    done = project.run()
    assert set(done.outcomes().values()) == {"PASSED", "ERROR"}
    assert "not judged: 0 of the 2 cases of all-slow were selected" in done.out
    assert done.calls == 2
    assert {row["case"] for row in project.rows()} == {"squares", "broken"}


def test_ids_and_tags_of_any_kind_make_usable_names(project: Project) -> None:
    ids = ["std::vector", "[a] b::c", "two\nlines", "größe 漢字", "\u202eevil", "\x1b[31mred"]
    cases = [{"id": each, "tags": ["skip", "needs review", "_private", "and"]} for each in ids]
    project.job(f"prompt: Say\ncases: {json.dumps(cases)}\nassert: [{{type: contains, value: Say}}]")
    project.job("prompt: Hello", name="untagged")
    done = project.run("-m", "needs_review and private and and_ and skip_", "--junitxml=junit.xml")
    assert done.outcomes() == {
        f"prompts/tutor.yaml::{name}": "PASSED"
        for name in ("std: :vector", "(a) b: :c", "two\\nlines", "größe 漢字", "\\u202eevil", "\\x1b(31mred")
    }
    assert done.calls == 6
    assert "\x1b[31mred" not in done.out
    ET.parse(project.folder / "junit.xml")
    chosen = [f"prompts/tutor.yaml::{name}" for name in ("(a) b: :c", "std: :vector", "größe 漢字")]
    listed = project.run("--co", "-q", *chosen, "-k", "b::c or größe").out
    assert [line for line in listed.splitlines() if "::" in line] == [chosen[0], chosen[2]]


def test_what_failed_of_a_matrix_is_found_again(project: Project) -> None:
    matrix = "matrix: {tone: [dry, warm]}\nassert: [{type: contains, value: Be dry}]"
    cases = "cases: [{id: closure, vars: {x: 1}}, {id: 'three [x=1]', vars: {x: 2}}]"
    project.job(f"prompt: 'Be {{{{ tone }}}}. {{{{ x }}}}'\n{matrix}\n{cases}")
    failed = ["prompts/tutor.yaml::closure [tone=warm]", "prompts/tutor.yaml::three [x=1] [tone=warm]"]
    assert list(project.run("--sw").outcomes()) == ["prompts/tutor.yaml::closure [tone=dry]", failed[0]]
    assert set(project.run("--sw-skip").outcomes()) == {*failed, "prompts/tutor.yaml::three [x=1] [tone=dry]"}
    again = project.run("--lf")
    assert list(again.outcomes()) == failed
    assert "FAILED tutor: closure [tone=warm] (prompts/tutor.yaml:" in again.out, "called as the command calls it"


def test_the_name_of_a_case_that_has_only_variants_is_answered_with_theirs(offline: Project) -> None:
    offline.job("prompt: '{{ x }}{{ y }}'\nmatrix: {x: [1, 2]}\nvars: {y: 0}\ncases: [{id: closure}, {id: other}]")
    done = offline.run("prompts/tutor.yaml::closure", "prompts/tutor.yaml::unknown", "prompts/tutor.yaml::other [x=1]")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    variants = "'prompts/tutor.yaml::closure [x=1]' 'prompts/tutor.yaml::closure [x=2]'"
    assert (
        f"ERROR: prompts/tutor.yaml::closure has 2 variants: {variants} (name those, or choose with -k)\n" in done.out
    )
    assert done.out.count("variants") == 1


# --- how they are run ------------------------------------------------------------------------------------------------


def test_under_xdist_each_case_is_called_once(project: Project) -> None:
    project.job()
    numbers = "prompt: '{{ n }}'\ncases: [{vars: {n: 1}}, {vars: {n: 2}}, {vars: {n: 3}}]"
    project.job(f"{numbers}\nthresholds: {{pass_rate: '== 100%', cost: '> 5'}}", name="numbers")
    done = project.run("-n", "2", "--junitxml=junit.xml")
    assert done.calls == 6
    assert sorted(done.outcomes().values()) == ["ERROR", "FAILED", "FAILED", *["PASSED"] * 4]
    assert "\nFAILED prompts/numbers.yaml::thresholds - cost is $0.0" in done.out
    assert "\nFAILED prompts/tutor.yaml::cubes - got 'Local" in done.out
    assert "6 cases: 4 passed, 1 failed, 1 error" in done.out, "the summary comes from the worker that made the calls"
    known = [each.get("name") for each in ET.parse(project.folder / "junit.xml").iter("property")]
    assert known.count("request_id") == 6


def test_a_replay_calls_nothing_and_misses_what_has_no_row(project: Project, untouched: Any) -> None:
    project.job()
    project.run("-k", "not broken")
    project.server = None
    with untouched(project.folder / "outputs"):
        done = project.run("--bedrock-replay")
    assert done.outcomes() == {
        "prompts/tutor.yaml::squares": "PASSED",
        "prompts/tutor.yaml::cubes": "FAILED",
        "prompts/tutor.yaml::broken": "ERROR",
    }
    assert "    no_row: no earlier row answers this case" in done.out
    assert "run it without --bedrock-replay" in done.out
    assert "replayed: outputs/tutor.jsonl" in done.out
    project.job(JOB.replace("value: squares", "value: circles"))
    with untouched(project.folder / "outputs"):
        assert project.run("--bedrock-replay", "-k", "squares").outcomes() == {"prompts/tutor.yaml::squares": "FAILED"}


def test_a_replay_without_rows_makes_no_folder(offline: Project) -> None:
    offline.job()
    done = offline.run("--bedrock-replay")
    assert list(done.outcomes().values()) == ["ERROR"] * 3
    assert done.out.count("run it without --bedrock-replay") == 1, "a hint is given once"
    assert not (offline.folder / "outputs").exists()


def test_the_local_emulator_needs_no_account_and_can_be_scripted_and_code_runs_if_allowed(offline: Project) -> None:
    offline.job()
    offline.job("prompt: x\nassert: [{type: python, value: \"output == 'squares'\"}]", name="code")
    offline.job("prompt: x\nthresholds: {cost: '> 0.01'}", name="priced")
    offline.write("replies.yaml", "- {match: '', reply: squares}\n")
    offline.write("prices.yaml", f"{MODEL.removeprefix('model: ').strip()}: {{input: 9000, output: 9000}}\n")
    emulator = ("--bedrock-local", "--bedrock-replies=replies.yaml", "--bedrock-allow-python")
    done = offline.run(*emulator, "--bedrock-output=elsewhere", "-o", "bedrock_prices=prices.yaml")
    assert set(done.outcomes().values()) == {"PASSED"}
    assert len(done.outcomes()) == 3 + 1 + 2
    assert (offline.folder / "elsewhere" / "tutor.jsonl").exists()
    assert not (offline.folder / "outputs").exists()


def test_options_that_make_no_sense_are_told_together(offline: Project) -> None:
    done = offline.run("--bedrock-replay", "--bedrock-fresh", "--bedrock-replies=nowhere.yaml")
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert all(told in done.out for told in ("leave one out", "add --bedrock-local", "there is no file nowhere.yaml"))


XDIST = pytest.param(["-p", "xdist", "-n", "2"], marks=pytest.mark.slow, id="xdist")  # it gives its workers seconds


@pytest.mark.parametrize("workers", [pytest.param([], id="one process"), XDIST])
def test_ctrl_c_stops_the_calls_in_order_keeps_the_rows_and_ends_pytest(workers: list[str], project: Project) -> None:
    cases = "[{vars: {x: quick}}, {vars: {x: stuck}}, {vars: {x: late}}]"
    project.job(f"prompt: '{{{{ x }}}}'\nmax_concurrency: 1\ncases: {cases}")
    project.job("prompt: stuck\nthresholds: {p95_latency: '< 1h'}", name="judged")
    assert project.run("prompts/tutor.yaml::1").calls == 1
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = project.environment() | {
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": f"http://127.0.0.1:{silent.getsockname()[1]}"
        }
        with subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "bedrock_run", *workers],
            cwd=project.folder,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a group of its own, which Ctrl-C reaches as a whole
        ) as process:
            (of_one, _), (of_other, _) = silent.accept(), silent.accept()
            with of_one, of_other:
                os.killpg(process.pid, signal.SIGINT)
                assert process.stdout is not None
                if not workers:
                    assert any("interrupted: stopping" in line for line in process.stdout)
                    os.killpg(process.pid, signal.SIGINT)
                out = process.communicate(timeout=60)[0]
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in out
    assert "INTERNALERROR" not in out
    assert "BROKEN" not in out, "a run that was stopped judges nothing"
    assert "stopped: interrupted" in out
    assert "the same command goes on, and calls none that has its row" in out
    kept, *cut = project.rows()
    assert (kept["case"], kept["status"]) == ("1", "passed")
    assert {row["status"] for row in cut} <= {"error"}


# --- what is collected -----------------------------------------------------------------------------------------------


def test_wrong_job_files_are_told_as_the_command_tells_them(offline: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    offline.job("prompt: Hello {{ name }}\ninference: {maxTokens: 5}", name="wrong")
    offline.job("prompt: Hello --local\nassert: [{type: python, value: 'True'}]", name="code")
    offline.job("name: same\nprompt: Hello", name="one")
    offline.job("name: same\nprompt: Hello", name="two")
    offline.write("prompts/broken.yaml", "model: [")
    done = offline.run()
    assert done.code == pytest.ExitCode.INTERRUPTED, "errors of collection"
    assert "Traceback" not in done.out
    assert "ERROR collecting prompts/wrong.yaml" in done.out
    assert "\nERROR prompts/wrong.yaml - line 3: unknown key `maxTokens` in `inference`" in done.out
    monkeypatch.chdir(offline.folder)
    names = ("wrong", "code", "one", "two", "broken")
    with pytest.raises(UsageError) as wrong:
        loading.load([Path(f"prompts/{name}.yaml") for name in names])
    assert len(wrong.value.problems) >= 4
    for problem in wrong.value.problems:
        told = render_problems([problem]).replace("the option --allow", "the option --bedrock-allow")
        assert told in done.out


def test_a_pattern_that_matches_no_file_is_a_warning_and_an_error_where_warnings_are(offline: Project) -> None:
    offline.job()
    offline.write("pytest.ini", "[pytest]\nbedrock_jobs = prompts/*.yaml promtps/*.yaml prompts")
    done = offline.run("-q", "--co")
    assert done.code == pytest.ExitCode.OK
    told = "bedrock_jobs: no job file matches promtps/*.yaml prompts\n"
    assert f"JobsNotFoundWarning: {told}" in done.out
    strict = offline.run("-W", "error")
    assert strict.code == pytest.ExitCode.USAGE_ERROR
    assert strict.out.startswith(f"ERROR: {told}")
    assert "JobsNotFound" not in offline.run("--co", "-W", "ignore::runner.pytest_plugin.JobsNotFoundWarning").out


def test_a_project_that_names_no_jobs_is_left_alone(offline: Project) -> None:
    offline.write("pytest.ini", "[pytest]\nfilterwarnings = error")
    offline.job("no: job")
    offline.write("test_plain.py", "import sys\ndef test_plain():\n    assert 'yaml' not in sys.modules\n")
    done = offline.run()
    assert done.outcomes() == {"test_plain.py::test_plain": "PASSED"}
    assert "bedrock-run" not in done.out.replace("bedrock-run-0", "")


def test_the_plugin_is_found_by_itself_and_can_be_turned_off(offline: Project) -> None:
    offline.job()
    autoload = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""}
    off = offline.run("-p", "no:bedrock_run", "-o", "addopts=", "-W", "default", env=autoload)
    assert off.code == pytest.ExitCode.NO_TESTS_COLLECTED
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--co", "-q"],
        cwd=offline.folder,
        env={**offline.environment(), **autoload},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "prompts/tutor.yaml::squares" in listed.stdout


def test_nothing_heavy_is_imported_before_it_is_needed(offline: Project) -> None:
    offline.job()
    offline.write(
        "conftest.py",
        """
        import sys

        def told(when):
            heavy = "aiohttp asyncio boto3 botocore jinja2 orjson PIL rich runner.running.run yaml"
            print(when, *(name for name in heavy.split() if name in sys.modules), ".")

        def pytest_sessionstart():
            told("loaded")

        def pytest_collection_finish():
            told("collected")
        """,
    )
    out = offline.run("--co", "-s").out
    assert "loaded .\n" in out
    assert re.search(r"\ncollected [a-z2 ]*yaml \.\n", out)
    assert not re.search(r"\ncollected .*(aiohttp|boto3|botocore|PIL|rich|runner\.run)\b", out)


# --- tests in Python -------------------------------------------------------------------------------------------------


def test_a_test_in_python_runs_a_file_or_a_dict(project: Project) -> None:
    project.write("pytest.ini", INI.replace("bedrock_jobs = prompts/*.y*ml\n", ""))
    project.job()
    project.write("tests/rows.csv", "topic\ncats\ndogs\n")
    project.write(
        "tests/test_prompts.py",
        """
        import asyncio, gc, resource, signal
        from pathlib import Path

        import pytest

        NOVA = {
            "model": "amazon.nova-lite-v1:0", "prompt": "Tell me about {{ topic }}", "retry": {"max_attempts": 1}
        }

        def test_file(bedrock_job):
            result = bedrock_job("prompts/tutor.yaml", topic="squares")
            assert result.passed
            assert [case.id for case in result.cases] == ["squares", "cubes", "broken"]
            assert result.cost_usd > 0
            result.assert_passed()

        @pytest.mark.parametrize("topic", ["a/b", "c d"])
        def test_dict(bedrock_job, topic):
            for word in (topic, "more"):
                assert word in bedrock_job(NOVA, topic=word).output

        def test_rows(bedrock_job, tmp_path, monkeypatch):
            monkeypatch.chdir(tmp_path)
            result = bedrock_job({**NOVA, "cases": "rows.csv", "assert": [{"type": "contains", "value": "cats"}]})
            assert not result.passed
            assert [row["status"] for row in result.rows] == ["passed", "failed"]
            result.assert_passed()

        def test_thresholds(bedrock_job):
            wanted = {"cost": "< 1", "input_tokens": "< 1"}
            result = bedrock_job({**NOVA, "thresholds": wanted}, topic="x")
            assert not result.passed
            assert [verdict.held for verdict in result.thresholds] == [True, False]
            result.assert_passed()

        def test_enough(bedrock_job):
            wanted = {"thresholds": {"pass_rate": ">= 0.5"}, "assert": [{"type": "contains", "value": "cats"}]}
            bedrock_job({**NOVA, "cases": "rows.csv", **wanted}).assert_passed()

        def test_code(bedrock_job):
            bedrock_job({**NOVA, "assert": [{"type": "python", "value": "True"}]}, topic="x")

        def test_error(bedrock_job):
            bedrock_job(NOVA, topic="broken").output

        def test_wrong(bedrock_job):
            bedrock_job({"modle": "m.n", "prompt": "x"})

        def test_absent(bedrock_job):
            bedrock_job("nope.yaml")

        def test_misspelt(bedrock_job):
            bedrock_job(NOVA | {"vars": {"topic": ""}}, topik=1)

        def process():
            signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
            loop = asyncio.get_event_loop_policy().get_event_loop()
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)
            return Path.cwd(), signals, loop, limit, gc.get_freeze_count(), gc.get_threshold()

        def test_process(bedrock_job):
            asyncio.set_event_loop(loop := asyncio.new_event_loop())
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            before = process()
            bedrock_job(NOVA, topic="x")
            assert process() == before
            loop.close()

        async def call(bedrock_job):
            bedrock_job(NOVA, topic="x")

        def test_loop(bedrock_job):
            asyncio.run(call(bedrock_job))
        """,
    )
    done = project.run()
    failed = {"test_rows", "test_error", "test_wrong", "test_misspelt", "test_loop", "test_thresholds", "test_code"}
    failed |= {"test_absent"}
    tests = {name.partition("::")[2]: outcome for name, outcome in done.outcomes().items()}
    assert {name for name, outcome in tests.items() if outcome == "FAILED"} == failed
    assert {name for name, outcome in tests.items() if outcome == "PASSED"} == {
        "test_file", "test_dict[a/b]", "test_dict[c d]", "test_process", "test_enough",
    }  # fmt: skip
    assert "FAILED tests.test_prompts.test_rows [2] (tests/test_prompts.py::test_rows:" in done.out
    assert "FAILED tests/test_prompts.py::test_rows - got 'Local" in done.out
    assert re.search(r"\nBROKEN tests.test_prompts.test_thresholds \(.*: input_tokens is \d+, wanted < 1\n", done.out)
    assert "if you trust it, add the option --bedrock-allow-python" in done.out
    assert "ERROR  tests.test_prompts.test_error [1]" in done.out
    assert "throttled: ThrottlingException" in done.out
    assert 'tests/test_prompts.py::test_wrong:3:3: unknown key `modle`\n     3 |   "modle": "m.n"' in done.out
    assert "FAILED tests/test_prompts.py::test_absent - tests/nope.yaml: there is no such file\n" in done.out
    assert "no job uses the variable `topik`; did you mean `topic`?" in done.out
    assert "await asyncio.to_thread(bedrock_job, ...)" in done.out
    assert "During handling" not in done.out
    assert done.calls == 3 + 4 + 2 + 1 + 2 + 1 + 1
    again = project.run("-k", "not process and not loop")
    assert again.outcomes().items() <= done.outcomes().items()
    assert again.calls == 1, "each has kept its rows, but for the error"


def test_a_test_in_python_tells_only_of_what_failed_and_not_of_everything(project: Project, bedrock: Any) -> None:
    project.write("pytest.ini", "[pytest]\nfilterwarnings = error")
    project.server = bedrock("- {match: bad, reply: 'no', times: 1}\n- {match: '', reply: 'yes'}\n")
    names = ["bad", *(f"good {number}" for number in range(20))]
    job = {"model": "amazon.nova-lite-v1:0", "prompt": "{{ x }}", "repeat": 3, "max_concurrency": 1}
    job["cases"] = [{"id": name, "vars": {"x": name}} for name in names]
    project.write(
        "test_python.py",
        f"""
        def run(bedrock_job, value):
            bedrock_job({{**{job}, "assert": [{{"type": "contains", "value": value}}]}}).assert_passed()

        def test_one(bedrock_job):
            run(bedrock_job, "yes")

        def test_many(bedrock_job):
            run(bedrock_job, "sure")
        """,
    )
    one = project.run("-k", "one", "--tb=short", "-r", "N").out
    assert "1 of 3 repetitions failed, 3 must pass" in one
    assert re.findall(r"^(repetition .*|--- .*)$", one, flags=re.MULTILINE) == [
        "--- test_python.test_one [bad]",
        "repetition 1 of 3: failed",
    ]
    many = project.run("-k", "many", "--tb=short", "-r", "N").out
    assert many.count("FAILED test_python.test_many [") == 10
    assert "\nand 11 more cases that did not pass; their rows tell why\n" in many
    assert "\n--- and 11 more cases, of which the rows tell\n" in many
