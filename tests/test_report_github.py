"""GitHub annotations and the summary of a step, read as GitHub's runner reads them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.console import one_line
from runner.report import github
from runner.report.rows import Rows
from runner.running import summary as summaries

COMMANDS = {
    "set-env", "set-output", "save-state", "add-mask", "add-path", "add-matcher", "remove-matcher", "debug", "warning",
    "error", "notice", "group", "endgroup", "echo", "stop-commands",
}  # fmt: skip


class Command(NamedTuple):
    name: str
    properties: dict[str, str]
    message: str


def commands(output: str) -> Iterator[Command]:
    """What the runner takes for commands: `::name ...::` at the start of a line, `##[name ...]` anywhere."""
    for line in re.split(r"\r\n|\r|\n", output):
        new = re.match(r"\s*::([\w-]+)(?: (.*?))?::(.*)", line)
        old = re.search(r"##\[([\w-]+)(?: ([^\]]*))?\](.*)", line)
        for found, separator in ((new, ","), (old, ";")):
            if found and found[1] in COMMANDS:
                pairs = (pair.partition("=") for pair in (found[2] or "").split(separator) if pair)
                properties = {name: unescaped(value) for name, _, value in pairs}
                yield Command(found[1], properties, unescaped(found[3]))
                break


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def annotated(*files: Path) -> list[Command]:
    rows = Rows(files)
    out = io.StringIO()
    github.write(out, rows, summaries.of_rows(rows))
    found = list(commands(out.getvalue()))
    assert len(found) == out.getvalue().count("\n"), "every line is one command"
    return found


def test_each_line_of_the_job_with_failures_gets_an_annotation(mixed_rows: Path) -> None:
    found = {annotation.properties["line"]: annotation for annotation in annotated(mixed_rows)}
    assert {line: annotation.properties["title"] for line, annotation in found.items()} == {
        "16": "contains failed in 5 cases",
        "17": "not-contains failed in 2 cases",
        "12": "invalid in 2 cases",
    }
    assert {annotation.name for annotation in found.values()} == {"error"}
    assert found["12"].properties["file"].endswith("job.yaml")
    assert found["17"].message.splitlines() == [
        f"mixed: wrong [tone={tone}]: expected output not to contain 'Rome': got 'London, not Rome.'"
        for tone in ("dry", "warm")
    ]


def test_a_line_at_which_many_cases_fail_names_the_first_of_them(edited: Any) -> None:
    found = annotated(edited(lambda row: {**row, "case": f"{row['case']} {row['repeat']}", "repeats": 1}))
    (many,) = (annotation for annotation in found if annotation.properties["line"] == "16")
    assert many.properties["title"] == "contains failed in 12 cases"
    assert len(many.message.splitlines()) == 6
    assert many.message.endswith("\nand 7 more")


@pytest.mark.parametrize("folder", [".", "outputs", ".."])
def test_paths_are_those_of_the_repository(mixed_rows: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    root = mixed_rows.parents[1]
    monkeypatch.chdir(root / folder)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(root))
    assert {annotation.properties["file"] for annotation in annotated(mixed_rows)} == {"job.yaml"}


def test_no_more_than_github_shows_and_a_notice_of_the_others(edited: Any) -> None:
    def spread(row: dict[str, Any]) -> dict[str, Any]:
        verdicts = [{**each, "line": 20 + row["index"] * 2 + row["repeat"]} for each in row["assertions"]]
        return {**row, "assertions": verdicts}

    found = annotated(edited(spread))
    assert [annotation.name for annotation in found] == ["error"] * 10 + ["notice"]
    assert re.match(r"\d more lines of job files with failures", found[-1].message)


def test_nothing_failed_and_nothing_is_annotated(edited: Any) -> None:
    assert annotated(edited(dict, slice(4))) == []


def test_a_hostile_text_gives_no_command_of_its_own(hostile: str, edited_hostile: Path) -> None:
    for annotation in annotated(edited_hostile):
        assert annotation.name == "error"
        assert set(annotation.properties) == {"file", "line", "title"}
        assert len(annotation.message) <= 4096
        if len(hostile) < 70:  # longer ones are cut
            assert one_line(hostile) in annotation.message


def test_a_run_on_github_annotates_by_itself_and_no_reply_gives_a_command(
    bedrock_run: Any, write_job: Any, tmp_path: Path
) -> None:
    reply = r"\n::set-output name=a::b\n::add-mask::c ##[error]d"
    (tmp_path / "replies.yaml").write_text(f'- {{match: ask, reply: "{reply}"}}\n')
    job = write_job("prompt: ask\nassert:\n  - {type: contains, value: Paris}")
    (tmp_path / "summary.md").write_text("before\n")
    on_github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }
    done = bedrock_run("--local", "--replies", "replies.yaml", "-v", job, env=on_github)
    assert done.returncode == 1
    (found,) = commands(done.stderr + done.stdout)
    assert found.properties == {"file": "job.yaml", "line": "4", "title": "contains failed"}
    assert found.message.startswith("job [1]: expected output to contain 'Paris': got '")
    written = (tmp_path / "summary.md").read_text()
    assert written.startswith("before\n## ❌ bedrock-run: 1 failed, of 1 case\n")
    assert list(commands(written)) == []


def test_elsewhere_nothing_is_annotated(bedrock_run: Any, write_job: Any) -> None:
    job = write_job("prompt: ask\nassert: [{type: contains, value: Paris}]")
    assert "::error" not in bedrock_run("--local", job).stderr


def test_a_summary_that_github_would_not_show_is_not_written(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    job = write_job("prompt: ask")
    full = tmp_path / "summary.md"
    full.write_text("x" * 1_048_570)
    done = bedrock_run("--local", job, env={"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(full)})
    assert done.returncode == 0
    assert "note: GitHub's step summary could not be written: with what the step has written" in done.stderr
    assert full.stat().st_size == 1_048_570


def test_rows_on_disk_are_annotated_when_asked(bedrock_run: Any, mixed_rows: Path) -> None:
    done = bedrock_run("report", mixed_rows, "--github")
    assert done.returncode == 0
    assert len(list(commands(done.stderr))) == 3
    assert done.stdout == ""


def test_a_problem_of_a_job_file_gives_no_command(bedrock_run: Any, write_job: Any) -> None:
    job = write_job('prompt: x\n"##[error]a": 1\n::warning::b: 2')
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert list(commands(done.stderr)) == []
    assert "#\\x23[error]a" in done.stderr


def test_a_failure_that_a_threshold_tolerates_is_a_warning(tolerant: Any) -> None:
    (found,) = commands(tolerant.done.stderr)
    assert (found.name, found.properties["file"]) == ("warning", "prompts/job.yaml")
