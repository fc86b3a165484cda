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
from typing import Any, NamedTuple
from xml.etree import ElementTree as ET

import pytest

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
bedrock_jobs = prompts/*.yaml prompts/*.yml
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
        found = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (\S+::.*?)(?: - .*)?$", self.out, flags=re.MULTILINE)
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
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        paths = [str(self._plugin), *filter(None, [env.get("PYTHONPATH")])]
        only = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": ",".join(plugins)}
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

    def listed(self, *args: str) -> list[str]:
        """The names of the cases that a session would run."""
        return [line.partition("::")[2] for line in self.run("--co", "-q", *args).out.splitlines() if "::" in line]

    def rows(self, name: str = "tutor") -> list[dict[str, Any]]:
        lines = (self.folder / "outputs" / f"{name}.jsonl").read_text().splitlines()
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
    project: Project, bedrock_run: Any
) -> None:
    project.job()
    first = project.run("prompts", "--junitxml=junit.xml", "-o", "junit_logging=system-out")
    assert first.code == 1
    assert first.calls == 3
    assert first.outcomes() == {
        "prompts/tutor.yaml::squares": "PASSED",
        "prompts/tutor.yaml::cubes": "FAILED",
        "prompts/tutor.yaml::broken": "ERROR",
    }
    assert "3 cases: 1 passed, 1 failed, 1 error" in first.out
    assert "ERROR at setup of tutor [broken]" in first.out

    second = project.run("prompts")
    assert second.outcomes() == first.outcomes()
    assert second.calls == 1, "the row in error is called again, the others are kept"
    assert [row["case"] for row in project.rows()] == ["squares", "cubes", "broken"]

    told = bedrock_run("--replay", "prompts/tutor.yaml").stderr
    failed = next(line for line in told.splitlines() if line.startswith("FAILED"))
    assert failed.startswith("FAILED tutor [cubes] (prompts/tutor.yaml:8)")
    assert failed in first.out.splitlines(), "the text is the command's"

    cases = {case.get("name"): case for case in ET.parse(project.folder / "junit.xml").iter("testcase")}
    for name, kind in (("cubes", "failure"), ("broken", "error")):
        (found,) = [part for part in cases[name] if part.tag in {"failure", "error"}]
        assert found.tag == kind
        assert f"tutor [{name}]" in (found.text or "")
    known = {each.get("name"): each.get("value") for each in cases["cubes"].iter("property")}
    assert known["model"] == "anthropic.claude-3-5-sonnet-20241022-v2:0"
    row = project.rows()[1]
    assert float(known["cost_usd"] or 0) == row["cost_usd"]
    assert int(known["output_tokens"] or 0) == row["usage"]["output_tokens"]
    assert known["request_id"] == row["attempts"][0]["request_id"]
    assert row["output"] in (cases["cubes"].findtext("system-out") or "")


def test_repetitions_are_one_test_that_passes_if_enough_of_them_pass(project: Project, bedrock: Any) -> None:
    project.server = bedrock("- {match: often, reply: 'no', times: 1}\n- {match: rare, reply: 'no', times: 2}\n")
    cases = "cases: [{id: often, vars: {x: often}}, {id: rare, vars: {x: rare}}]"
    project.job(f"prompt: '{{{{ x }}}}'\nrepeat: 3\nmin_pass: 2\n{cases}\nassert: [{{type: contains, value: model}}]")
    done = project.run()
    assert done.outcomes() == {"prompts/tutor.yaml::often": "PASSED", "prompts/tutor.yaml::rare": "FAILED"}
    assert done.calls == 6
    assert re.search(r"^FAILED tutor \[rare\] #\d \(prompts/tutor.yaml:6\)", done.out, flags=re.MULTILINE)


def test_what_concerns_the_account_is_told_once_in_full(offline: Project) -> None:
    offline.job()
    done = offline.run()
    assert set(done.outcomes().values()) == {"ERROR"}
    assert done.code == 1
    assert done.out.count("hint: run `aws configure`") == 1
    assert "--bedrock-local needs none" in done.out, "options have pytest's names"
    assert done.out.count("\nERROR  tutor [cubes]: not run; stopped: credentials: no AWS credentials were found\n") == 1


# --- what is selected ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [(["-k", "squares or broken"], {"squares", "broken"}), (["-m", "slow"], {"cubes"})],
    ids=["-k", "-m"],
)
def test_only_selected_cases_are_called(choice: list[str], chosen: set[str], project: Project) -> None:
    project.job()
    project.job("prompt: Hello", name="other")
    done = project.run(*choice)
    assert {name.partition("::")[2] for name in done.outcomes()} == chosen
    assert {row["case"] for row in project.rows()} == chosen
    assert done.calls == len(chosen)
    assert not (project.folder / "outputs" / "other.jsonl").exists()


def test_the_first_failure_can_end_a_session_and_the_last_ones_can_be_run_again(project: Project) -> None:
    project.job()
    stopped = project.run("-x")
    assert stopped.code == 1
    assert "stopping after 1 failures" in stopped.out
    assert list(stopped.outcomes().values()) == ["PASSED", "FAILED"]
    assert stopped.calls == 3, "all were called together"
    again = project.run("--lf")
    assert again.outcomes() == {"prompts/tutor.yaml::cubes": "FAILED"}
    assert again.calls == 0
    assert len(project.rows()) == 3, "the rows of the others stay"


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
    assert project.run("--setup-plan").calls == 0
    assert project.run("-k", "cubes").calls == 0
    done = project.run()
    assert "1 failed" not in done.out
    assert {row["case"] for row in project.rows()} == {"squares", "broken"}


def test_ids_and_tags_of_any_kind_make_usable_names(project: Project) -> None:
    ids = ["std::vector", "[a] b::c", "two\nlines", "größe 漢字", "\u202eevil", "\x1b[31mred"]
    cases = [{"id": each, "tags": ["skip", "needs review", "_private", "and"]} for each in ids]
    project.job(f"prompt: Say\ncases: {json.dumps(cases)}\nassert: [{{type: contains, value: Say}}]")
    assert project.listed() == [
        "std: :vector", "[a] b: :c", "two\\nlines", "größe 漢字", "\\u202eevil", "\\x1b[31mred",
    ]  # fmt: skip
    assert project.listed("-k", "std::vector or größe") == ["std: :vector", "größe 漢字"]
    assert project.listed("prompts/tutor.yaml::[a] b: :c") == ["[a] b: :c"]
    done = project.run("-m", "needs_review and private and and_ and skip_", "--junitxml=junit.xml")
    assert set(done.outcomes().values()) == {"PASSED"}
    assert len(done.outcomes()) == 6
    assert "\x1b[31mred" not in done.out
    ET.parse(project.folder / "junit.xml")


def test_a_single_case_has_the_name_of_its_job_and_a_test_knows_its_line(project: Project) -> None:
    project.job("prompt: Hello", name="single")
    project.job()
    project.write(
        "conftest.py",
        """
        def pytest_collection_finish(session):
            for item in session.items:
                print("at", item.name, *item.location[:2])
        """,
    )
    assert re.findall(r"^at (.*)$", project.run("--co").out, flags=re.MULTILINE) == [
        "single prompts/single.yaml 0",
        "squares prompts/tutor.yaml 6",
        "cubes prompts/tutor.yaml 7",
        "broken prompts/tutor.yaml 8",
    ]


# --- how they are run ------------------------------------------------------------------------------------------------


def test_calls_are_made_together(project: Project, bedrock: Any) -> None:
    project.server = bedrock(latency=0.7)
    project.job("prompt: '{{ n }}'\ncases: [{vars: {n: 1}}, {vars: {n: 2}}, {vars: {n: 3}}, {vars: {n: 4}}]")
    done = project.run("-v")
    assert len(done.outcomes()) == 4
    assert "bedrock-run: running 4 cases of 1 job together" in done.out
    started = sorted(row["started_at"] for row in project.rows())
    finished = sorted(row["finished_at"] for row in project.rows())
    assert started[-1] < finished[0]


def test_under_xdist_each_case_is_called_once(project: Project) -> None:
    project.job()
    project.job("prompt: '{{ n }}'\ncases: [{vars: {n: 1}}, {vars: {n: 2}}, {vars: {n: 3}}]", name="numbers")
    done = project.run("-n", "2", "--junitxml=junit.xml")
    assert done.calls == 6
    assert sorted(done.outcomes().values()) == ["ERROR", "FAILED", *["PASSED"] * 4]
    assert "6 cases: 4 passed, 1 failed, 1 error" in done.out, "the summary comes from the worker that made the calls"
    known = [each.get("name") for each in ET.parse(project.folder / "junit.xml").iter("property")]
    assert known.count("request_id") == 6


def test_a_replay_calls_nothing_and_misses_what_has_no_row(project: Project) -> None:
    project.job()
    project.run("-k", "not broken")
    project.server = None
    done = project.run("--bedrock-replay")
    assert done.outcomes() == {
        "prompts/tutor.yaml::squares": "PASSED",
        "prompts/tutor.yaml::cubes": "FAILED",
        "prompts/tutor.yaml::broken": "ERROR",
    }
    assert "ERROR  tutor [broken]: no_row: no earlier row answers this case" in done.out
    assert "run it without --bedrock-replay" in done.out


def test_the_local_emulator_needs_no_account_and_can_be_scripted(offline: Project) -> None:
    offline.job()
    offline.write("replies.yaml", "- {match: '', reply: squares}\n")
    done = offline.run("--bedrock-local", "--bedrock-replies=replies.yaml", "--bedrock-output=elsewhere")
    assert set(done.outcomes().values()) == {"PASSED"}
    assert (offline.folder / "elsewhere" / "tutor.jsonl").exists()
    assert not (offline.folder / "outputs").exists()
    changed = offline.run("--bedrock-local", "--bedrock-fresh", "-o", "bedrock_output=elsewhere")
    assert changed.outcomes()["prompts/tutor.yaml::cubes"] == "FAILED", "they were called again"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--bedrock-replay", "--bedrock-fresh"], "leave one out"),
        (["--bedrock-replies=replies.yaml"], "add --bedrock-local"),
        (["--bedrock-local", "--bedrock-replies=nowhere.yaml"], "there is no file nowhere.yaml"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(options: list[str], told: str, offline: Project) -> None:
    offline.write("replies.yaml", "[]")
    done = offline.run(*options)
    assert done.code == pytest.ExitCode.USAGE_ERROR
    assert told in done.out


XDIST = pytest.param(["-p", "xdist", "-n", "2"], marks=pytest.mark.slow, id="xdist")  # it gives its workers seconds


@pytest.mark.parametrize("workers", [pytest.param([], id="one process"), XDIST])
def test_ctrl_c_stops_the_calls_in_order_keeps_the_rows_and_ends_pytest(workers: list[str], project: Project) -> None:
    cases = "[{vars: {x: quick}}, {vars: {x: stuck}}, {vars: {x: late}}]"
    project.job(f"prompt: '{{{{ x }}}}'\nmax_concurrency: 1\ncases: {cases}")
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
            connection, _ = silent.accept()
            with connection:
                os.killpg(process.pid, signal.SIGINT)
                assert process.stdout is not None
                if not workers:
                    assert any("interrupted: stopping" in line for line in process.stdout)
                    os.killpg(process.pid, signal.SIGINT)
                out = process.communicate(timeout=60)[0]
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "Traceback" not in out
    assert "INTERNALERROR" not in out
    if not workers:
        assert "stopped: interrupted" in out
        assert "the same command goes on, and calls none that has its row" in out
    kept, *cut = project.rows()
    assert (kept["case"], kept["status"]) == ("1", "passed")
    assert {row["status"] for row in cut} <= {"error"}
    assert project.run().calls == 2, "what was cut, and what was not begun"


# --- what is collected -----------------------------------------------------------------------------------------------


def test_wrong_job_files_are_told_as_validate_tells_them(offline: Project, bedrock_run: Any) -> None:
    offline.job("prompt: Hello {{ name }}\ninference: {maxTokens: 5}", name="wrong")
    offline.job("name: same\nprompt: Hello", name="one")
    offline.job("name: same\nprompt: Hello", name="two")
    done = offline.run()
    assert done.code == pytest.ExitCode.INTERRUPTED, "errors of collection"
    assert "Traceback" not in done.out
    assert "ERROR collecting prompts/wrong.yaml" in done.out
    told = bedrock_run("validate", "prompts/wrong.yaml", "prompts/one.yaml", "prompts/two.yaml").stderr
    *problems, count = told.split("\n\n")
    assert count == "2 problems\n"
    assert all(problem in done.out for problem in problems), told


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
            heavy = "aiohttp asyncio boto3 botocore jinja2 orjson PIL rich runner.run yaml"
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
    project.write("pytest.ini", INI.replace("bedrock_jobs = prompts/*.yaml prompts/*.yml\n", ""))
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

        def test_error(bedrock_job):
            bedrock_job(NOVA, topic="broken").output

        def test_wrong(bedrock_job):
            bedrock_job({"modle": "m.n", "prompt": "x"})

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
    failed = {"test_rows", "test_error", "test_wrong", "test_misspelt", "test_loop"}
    tests = {name.partition("::")[2]: outcome for name, outcome in done.outcomes().items()}
    assert {name for name, outcome in tests.items() if outcome == "FAILED"} == failed
    assert {name for name, outcome in tests.items() if outcome == "PASSED"} == {
        "test_file", "test_dict[a/b]", "test_dict[c d]", "test_process",
    }  # fmt: skip
    assert "FAILED tests.test_prompts.test_rows [2] (tests/test_prompts.py::test_rows:" in done.out
    assert "ERROR  tests.test_prompts.test_error [1]" in done.out
    assert "throttled: ThrottlingException" in done.out
    assert 'tests/test_prompts.py::test_wrong:3:3: unknown key `modle`\n     3 |   "modle": "m.n"' in done.out
    assert "no job uses the variable `topik`; did you mean `topic`?" in done.out
    assert "await asyncio.to_thread(bedrock_job, ...)" in done.out
    assert "During handling" not in done.out
    assert done.calls == 3 + 4 + 2 + 1 + 1
    again = project.run()
    assert again.outcomes() == done.outcomes()
    assert again.calls == 1, "each has kept its rows, but for the error"


def test_a_test_in_python_fails_with_what_concerns_the_account(offline: Project) -> None:
    offline.write("test_prompts.py", "def test_it(bedrock_job):\n    bedrock_job({'model': 'a.b', 'prompt': 'x'})\n")
    done = offline.run()
    assert done.outcomes() == {"test_prompts.py::test_it": "FAILED"}
    assert "ERROR  test_prompts.test_it: stopped: credentials: no AWS credentials were found" in done.out
    assert "hint: run `aws configure`" in done.out
