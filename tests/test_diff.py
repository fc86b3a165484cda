"""Two runs compared: the real command, on rows that the emulator's scripted replies brought."""

from __future__ import annotations

import hashlib
import html
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from jsonschema import Draft202012Validator
from made_rows import ATTEMPT, ERROR
from markdown_it import MarkdownIt
from playwright.sync_api import Browser

from runner.comparing import Comparison, as_html, as_json, as_markdown, compare, text
from runner.comparing.changes import Change, Kind
from runner.comparing.given import Run as Given
from runner.comparing.measures import measures
from runner.comparing.text import lines
from runner.console import one_line
from runner.records import Usage
from runner.records.figures import Figures
from runner.report.rows import Rows
from runner.schema import load as load_schema

# --- whole commands --------------------------------------------------------------------------------------------------


class Version(NamedTuple):
    """A job file and the replies that its questions get."""

    job: str
    replies: str


class Run(Protocol):
    """Runs versions of jobs against the emulator, each by its name, with their rows in a folder."""

    def __call__(self, folder: str, *options: str, **versions: Version) -> None: ...


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_in(tmp_path)


def run_in(place: Path) -> Run:
    def run(folder: str, *options: str, **versions: Version) -> None:
        for name, version in versions.items():
            (place / f"{name}.yaml").write_text(textwrap.dedent(version.job))
            (place / "replies.yaml").write_text(textwrap.dedent(version.replies))
        jobs = [f"{name}.yaml" for name in versions]
        command = [
            sys.executable,
            "-m",
            "runner",
            "--local",
            "--replies",
            "replies.yaml",
            *jobs,
            "-o",
            folder,
            *options,
        ]
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode in {0, 1, 3}, done.stderr

    return run


OLD = Version(
    """
    model: amazon.nova-lite-v1:0
    retry: {max_attempts: 1}
    system: Be concise.
    prompt: Explain {{ topic }}.
    cases:
      - {id: squares, vars: {topic: squares}, assert: [{type: contains, value: x * x}]}
      - {id: cubes, vars: {topic: cubes}, assert: [{type: contains, value: x ** 3}]}
      - {id: lists, vars: {topic: lists}}
      - {id: sets, vars: {topic: sets}}
      - {id: roots, vars: {topic: roots}, assert: [{type: contains, value: sqrt}]}
      - {id: dicts, vars: {topic: dicts}}
    """,
    r"""
    - {match: squares, reply: "A square is x * x, as everybody knows who has been to school."}
    - {match: cubes, reply: No idea.}
    - {match: lists, reply: "Lists are ordered.\nThey are mutable."}
    - {match: sets, reply: Sets are unordered.}
    - {match: roots, reply: No.}
    - {match: dicts, reply: Dicts map.}
    """,
)
NEW = Version(
    OLD.job.replace("Be concise.", "Be brief.").replace("id: dicts", "id: maps").replace("topic: dicts", "topic: maps"),
    r"""
    - {match: squares, reply: "A square is x to the 2, as everybody knows who has been to school."}
    - {match: cubes, reply: x ** 3}
    - {match: lists, reply: "Lists are ordered.\nThey are not mutable."}
    - {match: sets, fault: internal}
    - {match: roots, reply: No.}
    - {match: maps, reply: Maps map.}
    """,
)


@pytest.fixture(scope="module")
def rows_of_two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    run_in(place)("old", suite=OLD)
    run_in(place)("new", suite=NEW)
    return place


@pytest.fixture
def two_runs(rows_of_two_runs: Path, tmp_path: Path) -> None:
    """Rows of the job above in the folders `old` and `new`."""
    for folder in ("old", "new"):
        shutil.copytree(rows_of_two_runs / folder, tmp_path / folder)


@pytest.mark.usefixtures("two_runs")
def test_a_person_reads_what_regressed_and_why(bedrock_run: Any) -> None:
    done = bedrock_run("diff", "old", "new")
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert re.match(
        r"OLD old/ \(6 cases, (\d{4}-\d\d-\d\d \d\d:\d\d UTC)\) → NEW new/ \(6 cases, (?!OLD)[^)]+\)\n\n +old", told
    )
    order = [
        "pass rate",
        "changed questions:\n5 cases of suite: system\n  | Be [-concise-]{+brief+}.\n",
        "newly failing: 1\nFAILED suite [squares]  suite.yaml:7\n",
        "expected output to contain 'x * x': got 'A square is x to the 2, as everybody",
        "(suite.yaml:7)\n  another question (system)\n",
        "  | A square is x [-* x-]{+to the 2+}, as everybody knows who has been to school.\n",
        "newly in error: 1\nERROR suite [sets]",
        "transient: InternalServerException",
        "newly passing: 1\nPASSED suite [cubes]",
        "changed output: 1\nCHANGED suite [lists]",
        "  | Lists are ordered.\n  | They are {+not +}mutable.\n",
        "still failing: 1 (suite [roots])",
        "added: 1 (suite [maps])",
        "removed: 1 (suite [dicts])",
    ]
    assert [text for text in order if text not in told] == []
    assert sorted(order, key=told.index) == order
    assert told.splitlines()[-1] == (
        "2 cases regressed: 1 newly failing, 1 newly in error, 1 newly passing, 1 changed output, 1 still failing, "
        "1 added, 1 removed; worse: suite [squares], suite [sets]"
    )


@pytest.mark.usefixtures("two_runs")
def test_exit_codes_and_quiet(bedrock_run: Any) -> None:
    regressed = bedrock_run("diff", "old", "new", "--fail-on-regression", "-q")
    assert regressed.returncode == 1
    assert "pass rate" not in regressed.stdout
    assert "changed output:" not in regressed.stdout
    assert regressed.stdout.splitlines()[-1].startswith("2 cases regressed: ")
    assert bedrock_run("diff", "old/suite.jsonl", "old", "--fail-on-regression").returncode == 0
    recovered = bedrock_run("diff", "new", "old", "--fail-on-regression", "--filter", "sets")
    assert recovered.returncode == 0
    assert recovered.stdout.splitlines()[-1] == "no regression: 1 recovered from error"
    nothing = bedrock_run("diff", "new", "old", "--filter", "absent*")
    assert nothing.returncode == 2
    assert "no case of OLD or NEW matches --filter absent*" in nothing.stderr


@pytest.mark.usefixtures("two_runs")
def test_the_json_is_as_its_schema_says_and_agrees_with_the_text(bedrock_run: Any) -> None:
    done = bedrock_run("diff", "old", "new", "--json")
    found = json.loads(done.stdout)
    schema = json.loads(bedrock_run("schema", "diff").stdout)
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(found)
    assert done.stderr.startswith("2 cases regressed: 1 newly failing")
    assert {kind: count for kind, count in found["counts"].items() if count} == {
        "newly_failing": 1, "newly_in_error": 1, "newly_passing": 1, "changed": 1, "still_failing": 1,
        "added": 1, "removed": 1,
    }  # fmt: skip
    assert found["totals"]["new"]["pass_rate"] == pytest.approx(3 / 6)
    (squares,) = (change for change in found["changes"] if change["case"] == "squares")
    assert squares["question_changed"] == ["system"]
    assert found["rewordings"] == [
        {
            "job": "suite", "part": "system", "cases": 5, "case": "squares", "varies": False,
            "pieces": [
                {"kind": kind, "text": text}
                for kind, text in (("same", "Be "), ("removed", "concise"), ("added", "brief"), ("same", "."))
            ],
        }
    ]  # fmt: skip
    assert (found["old"]["path"], found["lost_jobs"], found["nothing_matches"]) == ("old/", [], False)
    assert found["new"]["finished_at"] > found["old"]["finished_at"]
    assert [(broken["value"], broken["line"]) for broken in squares["broken"]] == [("x * x", 7)]
    assert (squares["old"]["status"], squares["new"]["status"]) == ("passed", "failed")


def test_repetitions_are_compared_as_a_whole(run: Run, bedrock_run: Any) -> None:
    job = """
        model: amazon.nova-lite-v1:0
        prompt: toss {{ n }}
        repeat: 5
        min_pass: 4
        cases: [{id: a, vars: {n: 1}}, {id: b, vars: {n: 2}}]
        assert: [{type: equals, value: heads}]
    """
    run(
        "old",
        suite=Version(job, "- {match: toss, reply: heads}"),
    )
    run(
        "new",
        suite=Version(
            job, "- {match: toss 1, reply: [heads, tails, tails, heads, tails]}\n- {match: .*, reply: heads}"
        ),
    )
    found = json.loads(bedrock_run("diff", "old", "new", "--json").stdout)
    assert (found["counts"]["newly_failing"], found["counts"]["same"]) == (1, 1)
    assert found["changes"][0]["broken"][0]["times"] == 3
    told = bedrock_run("diff", "old", "new").stdout
    assert "FAILED suite [a]  passes 5/5 → 2/5" in told
    assert "3 of 5 times: expected output to equal 'heads'" in told
    assert "one of 3 answers that differ:" in told


def test_a_matrix_is_compared_variant_by_variant(run: Run, bedrock_run: Any) -> None:
    job = "matrix: {model: [amazon.nova-lite-v1:0, amazon.nova-pro-v1:0]}\nprompt: x\n"
    job += "assert: [{type: equals, value: x}]\n"
    run("old", suite=Version(job, "- {match: x, reply: x}"))
    run("new", suite=Version(job, "- {match: x, model: '*pro*', reply: y}\n- {match: x, reply: x}"))
    told = bedrock_run("diff", "old", "new").stdout
    assert re.search(r"^suite +2/2 → 1/2 ", told, flags=re.MULTILINE)
    assert re.search(r"^  model=amazon.nova-lite-v1:0 +1/1 ", told, flags=re.MULTILINE)
    assert re.search(r"^  model=amazon.nova-pro-v1:0 +1/1 → 0/1 ", told, flags=re.MULTILINE)
    assert "FAILED suite [model=amazon.nova-pro-v1:0]" in told


def test_two_models_are_compared_though_every_question_differs(run: Run, bedrock_run: Any) -> None:
    run("old", suite=OLD)
    run("new", "--model", "amazon.nova-pro-v1:0", suite=OLD)
    found = json.loads(bedrock_run("diff", "old", "new", "--json").stdout)
    assert (found["counts"]["same"], found["counts"]["added"], found["counts"]["removed"]) == (4, 0, 0)
    assert {tuple(change["question_changed"]) for change in found["changes"]} == {("model",)}


def test_a_row_inserted_on_top_moves_nothing(run: Run, bedrock_run: Any, tmp_path: Path) -> None:
    job = """
        model: amazon.nova-lite-v1:0
        prompt: Say {{ word }}
        cases: words.csv
        assert: [{type: contains, value: "{{ word }}"}]
    """
    (tmp_path / "words.csv").write_text("word\nred\ngreen\nblue\n")
    run("old", suite=Version(job, "- {match: red, reply: crimson}"))
    (tmp_path / "words.csv").write_text("word\nblack\nred\ngreen\nblue\n")
    run("inserted", suite=Version(job, "- {match: red, reply: crimson}"))
    told = bedrock_run("diff", "old", "inserted").stdout
    assert "added: 1 (suite [1])" in told
    assert told.endswith("no regression: 1 still failing, 1 added, 2 the same\n")
    run("changed", suite=Version(job.replace("Say", "Please say"), "- {match: .*, reply: red}"))
    told = bedrock_run("diff", "old", "changed").stdout
    assert "PASSED suite [2], suite [1] before" in told
    assert "another question (turns)" in told
    assert "added: 1, 1 not passed (suite [1])" in told


def test_folders_are_compared_whole(run: Run, bedrock_run: Any, tmp_path: Path) -> None:
    one = Version("model: amazon.nova-lite-v1:0\nprompt: x\n", "- {match: .*, reply: x}")
    another = Version(one.job.replace("x\n", "y\n"), "- {match: .*, reply: y}")
    run("old", a=one, b=one)
    run("new", a=one, b=one, d=one)
    run("old", b=another)
    assert (tmp_path / "old" / "b.superseded.jsonl").exists()
    done = bedrock_run("diff", "old", "new", "--fail-on-regression")
    assert done.returncode == 0
    assert "note: only NEW has the job d\n" in done.stderr
    assert done.stdout.endswith("no regression: 1 changed output, 1 added, 1 the same\n")
    alone = bedrock_run("diff", "old/a.jsonl", "new/d.jsonl")
    assert "the job a of OLD is compared with the job d of NEW" in alone.stderr
    assert alone.stdout.endswith("no difference: 1 the same\n")
    itself = bedrock_run("diff", "new", "new/")
    assert itself.stderr == "note: OLD and NEW are the same rows\n"


def test_a_case_that_a_torn_line_may_have_told_of_is_no_success(side: Any, bedrock_run: Any, tmp_path: Path) -> None:
    side("old", {"case": "a"}, {"case": "b"})
    new = side("new", {"case": "a"}).rows.files[0]
    command = ("diff", tmp_path / "old.jsonl", new, "--fail-on-regression", "-q")
    assert bedrock_run(*command).returncode == 0  # as told by the run's exit code, if it was cut off
    new.write_text(new.read_text() + '{"schema": "bedrock-run/res')
    done = bedrock_run(*command)
    assert done.returncode == 3
    assert "not known, since NEW is not complete" in done.stdout
    assert "1 line is no row" in done.stderr


@pytest.mark.usefixtures("two_runs")
def test_a_job_that_new_lacks_is_no_success(run: Run, bedrock_run: Any, tmp_path: Path) -> None:
    run("old", lost=Version("model: amazon.nova-lite-v1:0\nprompt: x\ncases: [{id: a}]", "- {match: .*, reply: x}"))
    shutil.copy(tmp_path / "old" / "suite.jsonl", tmp_path / "suite.jsonl")
    command = ["diff", "old", "suite.jsonl", "--fail-on-regression", "--report-markdown", "d.md", "--html", "d.html"]
    done = bedrock_run(*command)
    assert done.returncode == 3
    told = "NEW has no row of 1 job that OLD has: lost"
    assert done.stdout.splitlines()[1] == told
    assert (
        done.stdout.splitlines()[-1]
        == "not known, since NEW has no rows of 1 job: 2 still failing, 1 removed, 4 the same"
    )
    assert told in Page((tmp_path / "d.html").read_text()).text
    assert told in Page(MarkdownIt().render((tmp_path / "d.md").read_text())).text
    assert bedrock_run(*command, "-q").stdout.startswith(told)
    assert json.loads(bedrock_run(*command, "--json").stdout)["lost_jobs"] == ["lost"]
    assert bedrock_run(*command, "--filter", "squares").returncode == 0, "the job has no such case"
    assert bedrock_run(*command, "--filter", "a").returncode == 3
    assert bedrock_run("diff", "old/suite.jsonl", "new", "--fail-on-regression", "--filter", "dicts").returncode == 0
    assert bedrock_run("diff", "old", "suite.jsonl").returncode == 0


@pytest.mark.usefixtures("two_runs")
def test_two_jobs_with_nothing_in_common_are_not_compared(run: Run, bedrock_run: Any, tmp_path: Path) -> None:
    run("other", other=Version("model: amazon.nova-lite-v1:0\nprompt: x\ncases: [{id: a}]", "- {match: .*, reply: x}"))
    command = ["diff", "old/suite.jsonl", "other/other.jsonl", "--fail-on-regression", "--markdown", "d.md"]
    done = bedrock_run(*command, "--html", "d.html")
    assert done.returncode == 3
    told = "no case of OLD (suite) is in NEW (other): they share no id, no question and no variables"
    assert done.stdout.splitlines()[1] == told
    assert done.stdout.splitlines()[-1] == "nothing to compare: 1 added, 6 removed"
    for told in (done.stdout, (tmp_path / "d.md").read_text(), (tmp_path / "d.html").read_text()):
        assert "pass rate" not in told
    found = json.loads(bedrock_run(*command, "--json").stdout)
    Draft202012Validator(load_schema("diff")).validate(found)
    assert (found["nothing_matches"], found["lost_jobs"]) == (True, ["suite"])


@pytest.mark.usefixtures("two_runs")
def test_where_old_has_no_rows_yet_every_case_is_added(bedrock_run: Any, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = bedrock_run("diff", "none", "new", "--fail-on-regression", "--markdown", "d.md", "--html", "d.html")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("OLD none/ (0 cases) → NEW new/ (6 cases, ")
    assert "added: 6, 3 not passed (suite [squares], " in done.stdout
    assert done.stdout.splitlines()[-1] == "OLD has no rows, every case is added: 6 added"
    assert "## ✅ bedrock-run diff: OLD has no rows" in (tmp_path / "d.md").read_text()
    found = json.loads(bedrock_run("diff", "none", "new", "--json").stdout)
    Draft202012Validator(load_schema("diff")).validate(found)
    assert found["old"] == {"path": "none/", "finished_at": None}
    (tmp_path / "none" / "cases.jsonl").write_text('{"id": 1}\n')
    assert "OLD has no rows: none" in bedrock_run("diff", "none", "new").stderr


def test_a_change_of_the_question_is_told_once_for_all_cases_that_share_it(run: Run, bedrock_run: Any) -> None:
    job = """
        model: amazon.nova-lite-v1:0
        system: Be {{ tone }}.
        inference: {temperature: 0}
        prompt: Explain {{ topic }} in Python.
        vars: {tone: kind}
        cases:
          - {id: a, vars: {topic: squares}}
          - {id: b, vars: {topic: cubes}}
          - {id: c, vars: {topic: sets, tone: stern}}
    """
    changed = job.replace("in Python", "in plain Python").replace("nova-lite", "nova-pro").replace("e: 0", "e: 0.5")
    replies = "- {match: .*, reply: the same}"
    run("old", suite=Version(job, replies))
    run("new", suite=Version(changed.replace("kind", "short"), replies))
    told = bedrock_run("diff", "old", "new").stdout
    assert (
        textwrap.dedent("""
        changed questions:
        3 cases of suite: model
          | amazon.nova-[-lite-]{+pro+}-v1:0
        3 cases of suite, as in a: turns
          | user: Explain squares in {+plain +}Python.
        3 cases of suite: inference
          | max_tokens: 1024
          | temperature: [-0.0-]{+0.5+}
        2 cases of suite: system
          | Be [-kind-]{+short+}.
    """)
        in told
    ), told
    assert told.splitlines()[-1] == "no difference: 3 the same"


def test_of_many_changed_questions_some_are_told_and_the_rest_counted(
    side: Any, row: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asking(write: Callable[[int], str]) -> list[dict[str, Any]]:
        texts = {f"c{number}": write(number) for number in range(30)}
        requests = {case: {**row["request"], "messages": [{"role": "user", "text": texts[case]}]} for case in texts}
        keys = {case: hashlib.sha256(text.encode()).hexdigest() for case, text in texts.items()}
        return [{"case": case, "key": keys[case], "request": requests[case]} for case in texts]

    old, alike = side("old", *asking(lambda n: f"{n} is")), side("alike", *asking(lambda n: f"{n} was"))
    assert [(each.part, each.cases, each.varies) for each in compare(old, alike).rewordings] == [("turns", 30, True)]
    each_otherwise = side("new", *asking(lambda n: f"{n} was{n}"))
    assert "and 20 other changes (-v tells of more)" in lines(compare(old, each_otherwise))
    monkeypatch.setattr("runner.comparing._MOST_ASKED", 12)
    assert "18 more cases may ask otherwise too" in lines(compare(old, each_otherwise), verbose=True)


def test_rows_can_come_from_a_pipe(run: Run, bedrock_run: Any, tmp_path: Path) -> None:
    run("old", suite=OLD)
    rows = (tmp_path / "old" / "suite.jsonl").read_text()
    done = bedrock_run("diff", "-", "old", stdin=rows + "no row\n")
    assert done.stdout.endswith("no regression: 2 still failing, 4 the same\n")
    assert "note: OLD: standard input: 1 line is no row, and left out\n" in done.stderr


def test_what_cannot_be_read_is_told_at_once(run: Run, bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    job = write_job("prompt: x")
    done = bedrock_run("diff", job, "nowhere/a.jsonl")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: OLD is a job file: {job}\n"
        "    hint: give a file of rows such as outputs/NAME.jsonl, or a folder of them, which running the job writes\n"
        "error: NEW does not exist: nowhere/a.jsonl\n"
        "    hint: a run writes its rows to outputs/NAME.jsonl, or below -o DIR\n"
        "\n"
        "2 problems\n"
    )
    (tmp_path / "empty").mkdir()
    done = bedrock_run("diff", "empty", "empty")
    assert done.returncode == 2
    assert "NEW has no row files" in done.stderr
    run("rows", suite=OLD)
    assert "did you mean rows/suite.jsonl?" in bedrock_run("diff", "rows", "rows/suit.jsonl").stderr
    assert "an empty folder stands for no earlier run" in bedrock_run("diff", "nowhere", "rows").stderr
    done = bedrock_run("diff", "rows", "rows", "--markdown", "rows/suite.jsonl")
    assert done.returncode == 2
    assert "the markdown report would overwrite rows that are compared: rows/suite.jsonl" in done.stderr


def test_an_incomplete_run_does_not_pass_for_a_good_one(run: Run, bedrock_run: Any) -> None:
    run("old", suite=OLD)
    run("new", "--filter", "[!c]*", suite=OLD)
    done = bedrock_run("diff", "old", "new", "--fail-on-regression")
    assert done.returncode == 3
    assert "note: NEW: 1 case of suite has no row" in done.stderr
    assert done.stdout.splitlines()[-1].startswith("not known, since NEW is not complete: ")
    assert bedrock_run("diff", "old", "new", "--fail-on-regression", "--filter", "[!c]*").returncode == 0


@pytest.mark.usefixtures("two_runs")
def test_a_report_that_cannot_be_written_is_told(bedrock_run: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bedrock_run("diff", "old", "new", "--report-html", "file/a.html", "--report-markdown", "d.md")
    assert done.returncode == 4
    assert "note: the html report (file/a.html) could not be written: " in done.stderr
    assert (tmp_path / "d.md").read_text().startswith("## ❌ bedrock-run diff: 2 cases regressed\n\nOLD `old/ (")


@pytest.mark.usefixtures("two_runs")
def test_a_report_on_standard_output_stands_there_alone(bedrock_run: Any) -> None:
    done = bedrock_run("diff", "old", "new", "--markdown", "-")
    assert done.stdout.startswith("## ❌ bedrock-run diff: 2 cases regressed\n")
    assert done.stdout.endswith("removed: 1 (`suite [dicts]`)\n")
    assert done.stderr.startswith("2 cases regressed: ")
    both = bedrock_run("diff", "old", "new", "--html", "-", "--json")
    assert both.returncode == 2
    assert "--json and a report can't both go to standard output" in both.stderr


@pytest.mark.usefixtures("two_runs")
def test_a_report_that_would_overwrite_what_is_compared_is_refused(bedrock_run: Any, tmp_path: Path) -> None:
    before = (tmp_path / "old" / "suite.jsonl").read_text()
    done = bedrock_run("diff", "old/suite.jsonl", "new", "--report-html", "old/../old/suite.jsonl")
    assert done.returncode == 2
    assert "error: the html report would overwrite rows that are compared: " in done.stderr
    assert (tmp_path / "old" / "suite.jsonl").read_text() == before


@pytest.mark.usefixtures("two_runs")
def test_a_terminal_gets_colours_and_a_closed_pipe_no_trouble(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "diff", "old", "new", "--fail-on-regression"]
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        while chunk := _read(ours):
            seen += chunk
    os.close(ours)
    assert b"\x1b[31m\x1b[9m* x\x1b[0m\x1b[32mto the 2\x1b[0m" in seen
    assert process.returncode == 1
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
    env["PYTHONIOENCODING"] = "ascii"
    assert subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=False).returncode == 1


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux: all other ends are closed
        return b""


# --- hostile outputs -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def row(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A row as a run writes it, to make others of."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "suite.yaml").write_text("model: amazon.nova-lite-v1:0\nprompt: x\nassert: [{type: equals, value: x}]\n")
    subprocess.run([sys.executable, "-m", "runner", "--local", "suite.yaml"], cwd=folder, check=False)
    found: dict[str, Any] = json.loads((folder / "outputs" / "suite.jsonl").read_text())
    return found


@pytest.fixture
def side(row: dict[str, Any], tmp_path: Path) -> Callable[..., Given]:
    """Rows of these cases: each is the row of a run with other values in some fields."""

    def side(name: str, *cases: dict[str, Any]) -> Given:
        def whole(index: int, case: dict[str, Any]) -> str:
            common = {**row, "index": index, **_of_status(case.get("status", "passed"), row)}
            return json.dumps({**common, **case})

        lines = [whole(index, case) for index, case in enumerate(cases)]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines))
        return Given(path.name, Rows([path]))

    return side


def _of_status(status: str, row: dict[str, Any]) -> dict[str, Any]:
    """The fields of `row` that a status has a say in."""
    verdicts = [{**verdict, "passed": status == "passed"} for verdict in row["assertions"]]
    return {"status": status, "assertions": verdicts, "error": ERROR if status == "error" else None}


@pytest.fixture
def compared(side: Any, row: dict[str, Any], hostile: str) -> Comparison:
    """Two runs in which everything that a model or a job may say is hostile; names hold only its beginning."""
    name = hostile[:1000]
    failed = {**row["assertions"][0], "passed": False, "expected": hostile, "actual": hostile, "reason": hostile}
    error = {**ERROR, "message": hostile, "hint": hostile}
    source = {"path": name, "line": 1, "row": name}
    common = {"job": f"suite {name}", "source": source, "matrix": {"tone": name}}

    def case(which: str, **changes: Any) -> dict[str, Any]:
        return {**common, "case": f"{name}{which}", **changes}

    old = side("old", case("failing"), case("erring"), case("changed", output=f"a {hostile} b"), case("gone"))
    new = side(
        "new",
        case("failing", status="failed", assertions=[failed], output=hostile),
        case("erring", status="error", error=error, output=None),
        case("changed", output=f"{hostile} {hostile} c"),
        case("new", key=key(1)),
    )
    return compare(old, new)


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.outside_code = ""
        self._within: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text += data
        if not {"code", "pre", "style"} & set(self._within):
            self.outside_code += data


DANGEROUS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\ud800-\udfff]")


def test_a_hostile_text_is_harmless_on_a_terminal_and_in_json(compared: Comparison, hostile: str) -> None:
    told = list(text.lines(compared, verbose=True))
    assert not DANGEROUS.search("".join(told))
    assert sum(line.startswith("FAILED ") for line in told) == 1
    object_ = "".join(as_json.text(compared))
    assert object_.isascii()
    Draft202012Validator(load_schema("diff")).validate(json.loads(object_))
    (failing,) = (change for change in json.loads(object_)["changes"] if change["kind"] == "newly_failing")
    assert failing["new"]["repetitions"][0]["output"] == hostile


def test_a_hostile_text_is_no_markup_in_html(compared: Comparison) -> None:
    out = io.StringIO()
    as_html.write(out, compared)
    page = Page(out.getvalue())
    assert set(page.tags) <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "div", "table", "thead", "tbody", "tr", "th",
        "td", "details", "summary", "b", "span", "dl", "dt", "dd", "pre", "del", "ins", "i", "header", "main", "br",
    }  # fmt: skip
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class", "open"}
    assert not DANGEROUS.search(out.getvalue())
    assert "default-src 'none'; style-src 'sha256-" in html.unescape(out.getvalue())


def test_the_page_fits_a_phone_and_is_dark_where_its_reader_wants_that(
    side: Any, bedrock_run: Any, browser: Browser, tmp_path: Path
) -> None:
    def variant(name: str, **values: Any) -> dict[str, Any]:
        case = {"case": f"a [model={name}]", "matrix": {"model": name}, "job": f"job-{name}"}
        return {**case, "cost_usd": 1_234_567.5, "latency_ms": 3_456_789, "first_token_ms": 65_432, **values}

    names = ["us.anthropic.claude-haiku-4-5-20251001-v1:0", "n" * 200]
    side("old", *map(variant, names))
    side("new", *(variant(name, cost_usd=0.000123, latency_ms=2_345_678, output="x" * 300) for name in names))
    assert bedrock_run("diff", "old.jsonl", "new.jsonl", "--html", "d.html").returncode == 0
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    page.goto((tmp_path / "d.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for table in page.locator("table").all():
        assert table.evaluate("(element) => element.scrollWidth <= element.clientWidth")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert [sum(map(int, re.findall(r"\d+", colour))) > 384 for colour in (dark, light)] == [False, True]
    context.close()


def test_a_hostile_text_is_no_markup_in_markdown(compared: Comparison, hostile: str) -> None:
    out = io.StringIO()
    as_markdown.write(out, compared)
    written = out.getvalue()
    rendered = MarkdownIt("commonmark").enable("table").render(written)
    page = Page(rendered)
    assert set(page.tags) <= {
        "h2", "h3", "p", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "del", "ins", "i", "br", "ul",
        "li", "details", "summary",
    }  # fmt: skip
    assert page.attributes == set()
    assert not DANGEROUS.search(written)
    assert not re.search(r"^\s*::|##\w*\[", written, re.MULTILINE)
    assert not re.search(r"[@#<>\[\]~*\\|]|https?:|www\.|evil", page.outside_code)
    if len(hostile) < 300:  # longer ones are cut
        assert one_line(hostile).split() == [] or one_line(hostile).strip() in page.text
    assert {row.count("<t") for row in re.findall("<tr>.*?</tr>", rendered, flags=re.DOTALL)} <= {1 + 5, 1 + 4}


def test_markdown_stays_below_what_a_comment_may_have(side: Any, bedrock_run: Any, tmp_path: Path) -> None:
    cases = [{"case": f"{'c' * 300}{n}", "matrix": {"n": n}} for n in range(600)]
    side("old", *cases)
    side(
        "new",
        *({**case, "output": "<" * 5000, "status": "passed" if n % 2 else "failed"} for n, case in enumerate(cases)),
    )
    assert bedrock_run("diff", "old.jsonl", "new.jsonl", "--report-markdown", "d.md").returncode == 0
    text = (tmp_path / "d.md").read_text()
    assert 30_000 < len(text) < 60_000
    assert "lines of this table left out" in text
    assert text.count(" more left out, for want of room") == 2
    assert text.count("<details>") == text.count("</details>") == 1
    assert text.count("<pre>") == text.count("</pre>")


# --- which case is which, and what became of it ----------------------------------------------------------------------


def both(comparison: Comparison) -> dict[str, str]:
    """The cases that differ and are on both sides: the new id, and the old one."""
    return {change.new.id: change.old.id for kind in Kind for change in comparison.changes(kind)}


def only(comparison: Comparison, kind: Kind) -> Change:
    (change,) = comparison.changes(kind)
    return change


def key(number: int) -> str:
    return f"{number:064x}"


def test_a_name_decides_before_a_key(side: Any) -> None:
    old = side("old", {"case": "a", "key": key(1), "output": "1"}, {"case": "b", "key": key(2), "output": "2"})
    new = side("new", {"case": "a", "key": key(2), "output": "3"}, {"case": "b", "key": key(3), "output": "4"})
    assert both(compare(old, new)) == {"a": "a", "b": "b"}


def test_a_renamed_case_is_found_by_its_key(side: Any) -> None:
    old = side("old", {"case": "a", "key": key(1)}, {"case": "b", "key": key(2)})
    new = side("new", {"case": "a", "key": key(1)}, {"case": "c", "key": key(2), "output": "other"})
    comparison = compare(old, new)
    assert both(comparison) == {"c": "b"}
    assert only(comparison, Kind.CHANGED).cause == "the same question, another answer"


def test_a_key_decides_before_a_position(side: Any) -> None:
    old = side("old", {"case": "1", "key": key(1)}, {"case": "2", "key": key(2)})
    new = side("new", *({"case": str(n + 1), "key": key(k), "output": "other"} for n, k in enumerate((9, 1, 2))))
    comparison = compare(old, new)
    assert both(comparison) == {"2": "1", "3": "2"}
    assert [case.id for case in comparison.added] == ["1"]


def test_cases_that_ask_the_same_are_paired_in_their_order(side: Any) -> None:
    old = side("old", *({"case": str(n), "key": key(1), "output": f"old {n}"} for n in (1, 2)))
    new = side(
        "new", *({"case": str(n), "key": key(k), "output": f"new {n}"} for n, k in ((1, 8), (2, 9), (3, 1), (4, 1)))
    )
    comparison = compare(old, new)
    assert both(comparison) == {"3": "1", "4": "2"}
    assert [case.id for case in comparison.added] == ["1", "2"]


def test_another_model_in_the_matrix_is_compared_with_the_one_it_replaces(side: Any) -> None:
    def variant(model: str, number: int) -> dict[str, Any]:
        return {
            "case": f"a [model={model}]",
            "matrix": {"model": model},
            "model": model,
            "key": key(number),
            "output": model,
        }

    comparison = compare(side("old", variant("x", 1), variant("y", 2)), side("new", variant("x", 1), variant("z", 3)))
    assert both(comparison) == {"a [model=z]": "a [model=y]"}
    ambiguous = compare(side("old", variant("y", 2)), side("new", variant("v", 4), variant("z", 3)))
    assert (len(ambiguous.added), len(ambiguous.removed)) == (2, 1)


def test_runs_of_one_job_with_nothing_in_common_are_not_compared(side: Any) -> None:
    comparison = compare(side("old", {"case": "a", "key": key(1)}), side("new", {"case": "b", "key": key(2)}))
    assert comparison.nothing_matches
    assert comparison.incomplete


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("passed", "failed", Kind.NEWLY_FAILING),
        ("error", "failed", Kind.NEWLY_FAILING),
        ("passed", "error", Kind.NEWLY_IN_ERROR),
        ("failed", "error", Kind.NEWLY_IN_ERROR),
        ("failed", "failed", Kind.STILL_FAILING),
        ("error", "error", Kind.STILL_IN_ERROR),
        ("failed", "passed", Kind.NEWLY_PASSING),
        ("error", "passed", Kind.RECOVERED),
        ("passed", "passed", Kind.CHANGED),
    ],
)
def test_every_pair_of_verdicts_has_its_kind(side: Any, old: str, new: str, kind: Kind) -> None:
    comparison = compare(side("old", {"status": old}), side("new", {"status": new, "output": "other"}))
    assert comparison.count(kind) == 1
    assert bool(comparison.regressions) == (kind in {Kind.NEWLY_FAILING, Kind.NEWLY_IN_ERROR})


def test_what_made_a_case_fail_is_told(side: Any, row: dict[str, Any]) -> None:
    verdict = row["assertions"][0]
    latency = {**verdict, "type": "latency", "value": None, "threshold": 1.0}

    def failing(**changes: Any) -> Change:
        old = side("old", {"assertions": [verdict | {"passed": True}, latency | {"passed": True}]})
        return only(compare(old, side("new", {"status": "failed", **changes})), Kind.NEWLY_FAILING)

    slow = failing(assertions=[verdict | {"passed": True}, latency | {"passed": False}])
    assert slow.cause == "the same question, answer and assertions: only what was measured differs"
    assert [broken.verdict["type"] for broken in slow.broken] == ["latency"]
    lost = only(compare(side("old", {}), side("new", {"status": "error", "output": None})), Kind.NEWLY_IN_ERROR)
    assert lost.cause == "the same question"
    stricter = failing(assertions=[verdict | {"passed": False, "value": "y"}])
    assert stricter.cause == "the same question and answer, other assertions"
    answered = failing(assertions=[verdict | {"passed": False}, latency | {"passed": True}], output="y")
    assert answered.cause == "the same question, another answer"
    request = {**row["request"], "inference": {**row["request"]["inference"], "temperature": 1.0}}
    asked = failing(assertions=[verdict | {"passed": False}], request=request, model="x.y", vars={"a": 1})
    assert asked.cause == "another question (model, inference, vars), the same answer"
    assert failing(vars={"a": 1}, assertions=[latency | {"passed": False}]).question == ()


def test_of_a_case_that_still_fails_only_what_fails_now_is_told(side: Any, row: dict[str, Any]) -> None:
    before = [row["assertions"][0] | {"type": name, "passed": name == "latency"} for name in ("equals", "latency")]
    now = [verdict | {"passed": False} for verdict in before]
    old, new = (
        side("old", {"status": "failed", "assertions": before}),
        side("new", {"status": "failed", "assertions": now}),
    )
    assert [broken.verdict["type"] for broken in only(compare(old, new), Kind.STILL_FAILING).broken] == ["latency"]


def test_what_judges_cost_counts(side: Any) -> None:
    usage = {"input_tokens": 7, "output_tokens": 3, "cache_read_tokens": 0, "cache_write_tokens": 0}
    said = {"score": None, "passed": True, "reason": "yes", "usage": usage, "cost_usd": 0.5, "latency_ms": 1}
    asked = {"type": "llm-rubric", "key": "0", "model": "m", "endpoint": "local", "attempts": [ATTEMPT]}
    judgement = {**asked, **said, "error": None, "current": True}
    old, new = (
        side("old", {"cost_usd": 0.25}),
        side("new", {"cost_usd": 0.25, "output": "x", "judgements": [judgement]}),
    )
    found = json.loads("".join(as_json.text(compare(old, new))))
    assert [found["totals"][name]["cost_usd"] for name in ("old", "new")] == [0.25, 0.75]
    assert found["changes"][0]["new"]["repetitions"][0]["cost_usd"] == 0.75


def test_fewer_passing_repetitions_are_a_change(side: Any) -> None:
    repeats = {"repeats": 2, "min_pass": 1}
    passing = [{**repeats, "repeat": n, "index": 0} for n in (0, 1)]
    comparison = compare(side("old", *passing), side("new", passing[0], {**passing[1], "status": "failed"}))
    assert only(comparison, Kind.CHANGED).passes == "2/2 → 1/2"


def test_the_order_of_the_outputs_of_repetitions_does_not_matter(side: Any) -> None:
    def tossed(*outputs: str) -> list[dict[str, Any]]:
        return [{"repeats": 2, "repeat": n, "index": 0, "output": output} for n, output in enumerate(outputs)]

    assert compare(side("old", *tossed("a", "b")), side("new", *tossed("b", "a"))).identical
    (answers,) = only(compare(side("old", *tossed("a", "b")), side("new", *tossed("c", "a"))), Kind.CHANGED).answers
    assert answers == ("b", "c")


def test_rows_of_earlier_versions_are_compared(side: Any, row: dict[str, Any], tmp_path: Path) -> None:
    later = ("matrix", "tags", "source", "repeats", "min_pass")
    earlier = {name: value for name, value in row.items() if name not in later}
    (tmp_path / "old.jsonl").write_text(json.dumps({**earlier, **_of_status("passed", row)}) + "\n")
    assert compare(Given("old.jsonl", Rows([tmp_path / "old.jsonl"])), side("new", {})).identical


def test_a_change_in_percent_is_told_where_it_says_something() -> None:
    def figures(*, passed: int, failed: int, tokens: int, milliseconds: int) -> Figures:
        made = Figures(passed=passed, failed=failed, cost_usd=tokens / 1e6)
        made.usage = Usage(input_tokens=tokens, output_tokens=1)
        made.latencies.add(milliseconds)
        return made

    old = figures(passed=40, failed=1, tokens=1000, milliseconds=3)
    new = figures(passed=30, failed=4, tokens=2501, milliseconds=90)
    assert {measure.name: (measure.difference, measure.percent) for measure in measures(old, new)} == {
        "cases": ("-7", "-17%"),
        "passed": ("-10", "-25%"),
        "failed": ("+3", ""),
        "errors": ("=", ""),
        "pass rate": ("-9.3 points", ""),
        "cost": ("+$0.0015", "+150%"),
        "input tokens": ("+1,501", "+150%"),
        "output tokens": ("=", ""),
        "latency p50": ("+87ms", ""),
        "latency p95": ("+87ms", ""),
    }
    slow = figures(passed=40, failed=0, tokens=1001, milliseconds=999)
    slower = figures(passed=40, failed=10, tokens=1000, milliseconds=1300)
    told = {measure.name: measure[1:] for measure in measures(slow, slower)}
    assert told["latency p50"] == ("999ms", "1.3s", "+301ms", "+30%")
    assert told["pass rate"] == ("100%", "80%", "-20 points", "")
    assert told["input tokens"] == ("1,001", "1,000", "-1", "")
