"""Whatever tells of a run tells the same: rows, terminal, JSON, JUnit, HTML, Markdown, CSV, pytest, exit code."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import suite_of_200

Verdicts = dict[str, str]


class Suite(NamedTuple):
    """The suite of 200, run once with every report."""

    folder: Path
    expected: Verdicts
    exit_code: int
    stdout: str
    stderr: str

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    folder = tmp_path_factory.mktemp("suite")
    expected = suite_of_200.write(folder)
    reports = ["--report-junit", "junit.xml", "--report-html", "report.html", "--report-markdown", "report.md"]
    local = ["--local", "--replies", "replies.yaml"]
    done = command(folder, *local, "--allow-python", "--json", "-v", *reports, "job.yaml")
    command(folder, "report", "outputs/job.jsonl", "--csv", "rows.csv")
    return Suite(folder, expected, done.returncode, done.stdout, done.stderr)


def command(folder: Path, *arguments: str, module: str = "runner") -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GITHUB_", "PYTEST_"))}
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the plugin may be installed, and is named
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


def test_each_case_gets_the_verdict_that_is_known(suite: Suite) -> None:
    assert len(suite.expected) == 200
    assert of_rows(suite) == suite.expected
    assert suite.exit_code == 1


def of_rows(suite: Suite) -> Verdicts:
    rows = [json.loads(line) for line in suite.text("outputs/job.jsonl").splitlines()]
    return {row["case"]: row["status"] for row in rows}


def of_terminal(suite: Suite) -> Verdicts:
    told = suite.stderr.partition("\n200 cases: ")[0]
    found = re.findall(r"^(passed|FAILED|ERROR) +job \[([^\]]+)\]", told, flags=re.MULTILINE)
    return {case: status.lower() for status, case in found}


def of_junit(suite: Suite) -> Verdicts:
    cases = ET.fromstring(suite.text("junit.xml")).iter("testcase")
    kinds = {"failure": "failed", "error": "error"}
    return {
        str(case.get("name")): next((kinds[part.tag] for part in case if part.tag in kinds), "passed") for case in cases
    }


def of_html(suite: Suite) -> Verdicts:
    page = suite.text("report.html")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return {case["id"]: case["status"] for case in json.loads(data)["cases"]}


def of_csv(suite: Suite) -> Verdicts:
    with (suite.folder / "rows.csv").open(encoding="utf-8-sig", newline="") as file:
        return {row["case"]: row["status"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("verdicts", [of_terminal, of_junit, of_html, of_csv])
def test_what_tells_of_the_run_says_what_the_rows_say(suite: Suite, verdicts: Callable[[Suite], Verdicts]) -> None:
    assert verdicts(suite) == suite.expected


def test_the_counts_agree(suite: Suite) -> None:
    counts = Counter(suite.expected.values())
    total = json.loads(suite.stdout)["total"]
    assert (total["passed"], total["failed"], total["errors"]) == (counts["passed"], counts["failed"], 0)
    assert "200 cases: 100 passed, 100 failed" in suite.stderr
    (junit,) = ET.fromstring(suite.text("junit.xml")).iter("testsuite")
    assert (junit.get("tests"), junit.get("failures"), junit.get("errors")) == ("200", "100", "0")
    markdown = suite.text("report.md")
    assert "| `job` | 200 | 100 | 100 | 0 |" in markdown
    named = set(re.findall(r"<summary>. <code>job</code> <code>([^<]+)</code>", markdown))
    assert named <= {case for case, status in suite.expected.items() if status == "failed"}
    assert len(named) == 100 or "left out" in markdown


def test_a_report_made_later_and_a_comparison_with_itself_say_the_same(suite: Suite) -> None:
    assert command(suite.folder, "report", "outputs/job.jsonl", "--junit", "later.xml").returncode == 0
    later = Suite(suite.folder, suite.expected, 1, "", "")
    assert of_junit(later._replace(folder=with_name(suite.folder, "later.xml", "junit.xml"))) == suite.expected
    done = command(suite.folder, "diff", "outputs", "outputs", "--fail-on-regression", "--json")
    assert done.returncode == 0, done.stderr


def with_name(folder: Path, name: str, wanted: str) -> Path:
    other = folder / "later"
    other.mkdir()
    (other / wanted).write_bytes((folder / name).read_bytes())
    return other


def test_a_replay_says_the_same(suite: Suite) -> None:
    done = command(suite.folder, "--replay", "--allow-python", "-v", "job.yaml")
    assert done.returncode == 1
    failed = {case: status for case, status in suite.expected.items() if status == "failed"}
    assert of_terminal(suite._replace(stderr=done.stderr)) == failed


def test_pytest_says_the_same(suite: Suite) -> None:
    (suite.folder / "pytest.ini").write_text("[pytest]\nbedrock_jobs = job.yaml\n")
    options = ["--bedrock-replay", "--bedrock-allow-python", "--junitxml", "pytest.xml", "-q", "--tb=no"]
    done = command(suite.folder, "-p", "runner.pytest_plugin", *options, "job.yaml", module="pytest")
    assert done.returncode == 1, done.stdout + done.stderr
    found = ET.fromstring(suite.text("pytest.xml")).iter("testcase")
    verdicts = {str(case.get("name")): "failed" if case.find("failure") is not None else "passed" for case in found}
    assert verdicts == suite.expected
