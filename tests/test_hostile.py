"""A hundred hostile replies through everything that shows a reply: each arrives whole in the row, and does nothing."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hostile import HOSTILE
from lxml import etree

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[bytes]]:
    """The reports of a run in which each reply is hostile, and fails its assertion."""
    folder = tmp_path_factory.mktemp("hostile")
    cases = [{"id": f"h{number}", "vars": {"n": f"h{number}."}} for number in range(len(HOSTILE))]
    job = {
        "model": "amazon.nova-lite-v1:0",
        "prompt": "{{ n }}",
        "cases": cases,
        "assert": [{"type": "equals", "value": "?"}],
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    entries = [{"match": f"^h{number}\\.$", "reply": reply} for number, reply in enumerate(HOSTILE)]
    (folder / "replies.yaml").write_text(json.dumps(entries))
    assert run(folder, "--local", "--replies", "replies.yaml", "-q", "job.yaml").returncode == 1
    make_whole(folder / "outputs" / "job.jsonl")
    reports = ["--report-junit", "junit.xml", "--report-html", "report.html", "--report-markdown", "report.md"]
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "step.md"), "GITHUB_WORKSPACE": str(folder)}
    done = run(folder, "--replay", "-v", *reports, "job.yaml", **github)
    return folder, done


def run(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GITHUB_"))}
    command = [sys.executable, "-m", "runner", *arguments]
    return subprocess.run(command, cwd=folder, env=env | more, capture_output=True, timeout=100, check=False)


def make_whole(path: Path) -> None:
    """No model writes a megabyte, so the emulator has cut that reply; but rows may hold one."""
    lines = [json.loads(line) for line in path.read_text().split("\n") if line]
    for row, reply in zip(lines, HOSTILE, strict=True):
        row["output"] = reply if len(reply) == 1_000_000 else row["output"]
    path.write_text("".join(json.dumps(row) + "\n" for row in lines))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outputs" / "job.jsonl").read_text().split("\n") if line]


def test_every_reply_is_whole_in_its_row(told: Any) -> None:
    folder, done = told
    assert done.returncode == 1, done.stderr[-2000:]
    assert [row["output"] for row in rows(folder)] == HOSTILE


def test_the_log_has_no_control_character_no_forged_line_and_no_command(told: Any) -> None:
    _, done = told
    text = done.stderr.decode()
    assert not CONTROLS.search(text)
    assert max(map(len, text.split("\n"))) < 2000
    assert "##[" not in text
    assert "##vso" not in text
    annotations = [line for line in text.split("\n") if line.lstrip().startswith("::")]
    assert all(re.match(r"::(error|notice) (file=job\.yaml,line=\d+,)?title=", line) for line in annotations)
    assert 0 < len(annotations) <= 11
    blocks = re.findall(r"^FAILED job \[h\d+\] \(job\.yaml:\d+\)$", text, flags=re.MULTILINE)
    assert len(blocks) == len(HOSTILE)


def test_junit_is_well_formed_and_has_a_failure_for_each(told: Any) -> None:
    folder, _ = told
    suite = etree.parse(folder / "junit.xml", etree.XMLParser(huge_tree=True, resolve_entities=False))
    assert [case.get("name") for case in suite.iter("testcase")] == [f"h{number}" for number in range(len(HOSTILE))]
    assert len(list(suite.iter("failure"))) == len(HOSTILE)


def test_markdown_has_no_markup_of_a_reply(told: Any) -> None:
    folder, _ = told
    for name in ("report.md", "step.md"):
        text = (folder / name).read_text()
        assert len(text) < 65_536
        assert not CONTROLS.search(text)
        outside = re.sub(r"^(`{3,})[^\n]*\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
        outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", outside)
        assert outside.count("<details>") == outside.count("</details>")
        tags = set(re.findall(r"<[^>]*>", outside))
        assert tags <= {"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>", "<br>"}, tags


def test_the_html_page_holds_replies_as_data_only(told: Any) -> None:
    folder, _ = told
    page = (folder / "report.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert len(json.loads(data)["cases"]) == len(HOSTILE)
    assert not CONTROLS.search(page)


def test_no_cell_of_the_csv_is_a_formula(told: Any) -> None:
    folder, _ = told
    assert run(folder, "report", "outputs/job.jsonl", "--csv", "rows.csv").returncode == 0
    with (folder / "rows.csv").open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(10_000_000)
        table = list(csv.DictReader(file))
    assert len(table) == len(HOSTILE)
    assert not [cell for row in table for cell in row.values() if re.match(r"\s*[=+@]|\s*-(?!\d+(\.\d+)?$)", cell)]


def test_a_comparison_and_pytest_take_no_harm(told: Any) -> None:
    folder, _ = told
    done = run(folder, "diff", "outputs", "outputs", "--report-markdown", "d.md", "--report-html", "d.html", "-v")
    assert done.returncode == 0, done.stderr
    (folder / "pytest.ini").write_text("[pytest]\nbedrock_jobs = job.yaml\n")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "runner.pytest_plugin", "--bedrock-replay", "--junitxml", "p.xml"]
    tests = subprocess.run(
        [*command, "job.yaml"],
        cwd=folder,
        env=env | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        timeout=100,
        check=False,
    )
    text = tests.stdout.decode() + tests.stderr.decode()
    assert tests.returncode == 1, text[-2000:]
    assert f"{len(HOSTILE)} failed" in text
    assert not CONTROLS.search(text)
    assert len(list(etree.parse(folder / "p.xml").iter("failure"))) == len(HOSTILE)


def test_no_json_on_standard_output_is_a_command_and_it_says_the_same(tmp_path: Path) -> None:
    said = "##[error]a ##vso[b]c ###[d] ## [e"
    job = {"model": "amazon.nova-lite-v1:0", "prompt": said, "cases": [{"id": said}], "assert": [{"type": "is-json"}]}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    rows = run(tmp_path, "--local", "-o", "-", "job.yaml").stdout.decode()
    request = run(tmp_path, "render", "job.yaml").stdout.decode()
    summary = run(tmp_path, "--local", "--json", "job.yaml").stdout.decode()
    for text in (rows, request, summary):
        assert not re.search(r"##\w*\[", text), text
    assert json.loads(rows)["case"] == said
    assert json.loads(request)["body"]["messages"][0]["content"][0]["text"] == said
    assert json.loads(summary)["jobs"][0]["failed_case_ids"] == [said]
