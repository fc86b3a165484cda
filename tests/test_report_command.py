"""`bedrock-run report`, the reports of `run`, and what happens where one can't be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from runner.report.rows import Rows, Spool, spool

FAILING = "prompt: x\nassert: [{type: contains, value: never}]"


def test_without_an_option_it_prints_a_summary(bedrock_run: Any, mixed_rows: Path) -> None:
    done = bedrock_run("report", mixed_rows)
    assert done.returncode == 0, "a report does not judge"
    assert done.stderr.startswith("12 cases (24 with repetitions): 5 passed, 5 failed, 2 errors\n")
    assert done.stdout == ""


def test_every_format_is_written(bedrock_run: Any, mixed_rows: Path, tmp_path: Path) -> None:
    formats = {"--junit": "j.xml", "--markdown": "m.md", "--csv": "c.csv", "--parquet": "new/folder/p.parquet"}
    done = bedrock_run("report", mixed_rows, *(word for pair in formats.items() for word in pair))
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(done.stderr.splitlines()) == sorted(f"report: {name}" for name in formats.values())
    assert all((tmp_path / name).stat().st_size > 1000 for name in formats.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "j.xml", "m.md", "new"]


@pytest.mark.parametrize(("option", "start"), [("--junit", "<?xml"), ("--report-markdown", "## "), ("--csv", "\ufeff")])
def test_a_report_may_go_to_standard_output(bedrock_run: Any, mixed_rows: Path, option: str, start: str) -> None:
    done = bedrock_run("report", mixed_rows, option, "-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(start)


def test_that_nobody_reads_on_is_no_failure(mixed_rows: Path, edited: Any) -> None:
    long = edited(lambda row: {**row, "output": "x" * 9_000})
    command = f"{sys.executable} -m runner report {long} --junit - | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.splitlines() == ['<?xml version="1.0" encoding="UTF-8"?>', "0"]
    assert done.stderr == ""


def test_several_files_are_one_report_and_the_last_row_of_a_case_counts(
    bedrock_run: Any, mixed_rows: Path, edited: Any, tmp_path: Path
) -> None:
    mended = edited(lambda row: {**row, "status": "passed", "assertions": [], "output": "Paris"}, slice(4, 8))
    done = bedrock_run("report", mixed_rows, mended, "--junit", "j.xml")
    assert done.returncode == 0
    note = f"note: {mended}: 4 rows of cases that earlier files have too; the last counts\n"
    assert done.stderr == note + "report: j.xml\n"
    (suite,) = etree.parse(tmp_path / "j.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("12", "3")


def test_lines_that_are_no_rows_are_told_and_left_out(bedrock_run: Any, edited: Any) -> None:
    file = edited(dict)
    bad = ["nonsense", "[]", '{"job": "x"}', "{}", '"text"', "null", "1", file.read_text().splitlines()[0][:500]]
    first = json.loads(file.read_text().splitlines()[0])
    wrong: list[dict[str, Any]] = [
        {"index": "1"},
        {"job": 3},
        {"assertions": [1]},
        {"started_at": "soon"},
        {"status": []},
        {"vars": None},
    ]
    bad += [json.dumps({**first, **change}) for change in wrong]
    file.write_text("\n".join([*bad, "", file.read_text()]))
    done = bedrock_run("report", file, "--junit", "-", "--parquet", "p.parquet")
    assert (done.returncode, done.stderr) == (
        0,
        f"note: {file}: {len(bad)} lines are no rows, and left out\nreport: p.parquet\n",
    )


def test_superseded_rows_are_left_out_unless_only_they_are_named(bedrock_run: Any, edited: Any, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    edited(dict).rename(tmp_path / "outputs" / "mixed.jsonl")
    passed = edited(lambda row: {**row, "status": "passed", "assertions": []}, slice(4, 8))
    passed.rename(tmp_path / "outputs" / "mixed.superseded.jsonl")
    files = ["outputs/mixed.jsonl", "outputs/mixed.superseded.jsonl"]
    done = bedrock_run("report", *files)
    told, counts, *_ = done.stderr.splitlines()
    assert told.startswith("note: outputs/mixed.superseded.jsonl is left out: no case wants its rows any more")
    assert counts == "12 cases (24 with repetitions): 5 passed, 5 failed, 2 errors"
    assert bedrock_run("report", files[1]).stderr.startswith("2 cases (4 with repetitions): 2 passed\n")


def test_a_folder_stands_for_the_rows_in_it(bedrock_run: Any, mixed_rows: Path, edited: Any, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    edited(lambda row: {**row, "job": "other"}, slice(4)).rename(tmp_path / "outputs" / "other.jsonl")
    (tmp_path / "outputs" / "other.superseded.jsonl").write_text("no row")
    (tmp_path / "outputs" / "notes.txt").write_text("no row")
    done = bedrock_run("report", "outputs", mixed_rows, "outputs/other.jsonl")
    assert done.returncode == 0
    assert done.stderr.startswith("14 cases (28 with repetitions): ")


def test_everything_wrong_with_the_command_line_is_told_at_once(
    bedrock_run: Any, mixed_rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = bedrock_run("report", "empty", "absent.jsonl", mixed_rows, "--csv", mixed_rows, "--parquet", "-")
    assert done.returncode == 2
    assert "error: there is no NAME.jsonl in empty\n    hint: rows are written to outputs/" in done.stderr
    assert "error: there is no file absent.jsonl" in done.stderr
    assert f"error: the csv report would overwrite rows: {mixed_rows}" in done.stderr
    assert "error: --parquet - would write what is no text" in done.stderr
    assert mixed_rows.stat().st_size > 1000


def test_two_reports_cannot_share_a_file(bedrock_run: Any, mixed_rows: Path, tmp_path: Path) -> None:
    (tmp_path / "link.xml").symlink_to("one.xml")
    done = bedrock_run("report", mixed_rows, "--junit", "one.xml", "--markdown", "link.xml")
    assert done.returncode == 2
    assert "error: the markdown report would overwrite the junit report: link.xml" in done.stderr
    done = bedrock_run("report", mixed_rows, "--junit", "-", "--markdown", "-")
    assert "would overwrite the junit report: standard output" in done.stderr


def test_no_rows_are_an_error(bedrock_run: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    done = bedrock_run("report", "empty.jsonl", "--junit", "j.xml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: empty.jsonl has no rows\n    hint: ")
    assert not (tmp_path / "j.xml").exists()


def test_rows_of_a_newer_version_are_told_as_such(bedrock_run: Any, edited: Any, mixed_rows: Path) -> None:
    newer = edited(lambda row: {**row, "schema": "bedrock-run/result/2"})
    why = "written by a newer bedrock-run (bedrock-run/result/2; this one reads bedrock-run/result/1)"
    done = bedrock_run("report", newer)
    assert done.returncode == 2
    assert f"error: {newer} has only rows that were {why}\n    hint: update bedrock-run\n" in done.stderr
    assert f"NEW has only rows that were {why}" in bedrock_run("diff", mixed_rows, newer).stderr


def test_parquet_without_pyarrow_says_what_to_install(start_run: Any, mixed_rows: Path) -> None:
    without = "import sys; sys.modules['pyarrow'] = None"
    run = start_run("report", mixed_rows, "--parquet", "p.parquet", env={}, patch=without)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 2
    assert "needs pyarrow, which is not installed\n    hint: install it: `pip install 'bedrock-run[parquet]'`" in told


def test_a_report_that_cannot_be_written_is_told_and_the_others_are_made(
    bedrock_run: Any, mixed_rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    done = bedrock_run("report", mixed_rows, "--junit", "folder", "--markdown", "folder/m.md")
    assert (done.returncode, done.stderr) == (
        4,
        "report: folder/m.md\nerror: the junit report (folder) could not be written: Is a directory\n",
    )
    assert (tmp_path / "folder" / "m.md").exists()


def test_a_report_takes_the_place_of_the_old_one_when_it_is_whole(start_run: Any, edited: Any, tmp_path: Path) -> None:
    (tmp_path / "j.xml").write_text("the old one")
    cut = "import runner.report.junit as j\ndef fail(case): raise OSError('no room')\nj.took_s = fail"
    run = start_run("report", edited(dict), "--junit", "j.xml", env={}, patch=cut)
    assert "error: the junit report (j.xml) could not be written: no room" in run.communicate(timeout=60)[1]
    assert run.returncode == 4
    assert (tmp_path / "j.xml").read_text() == "the old one"
    assert not list(tmp_path.glob(".*"))


def test_a_report_that_is_a_link_stays_one(bedrock_run: Any, mixed_rows: Path, tmp_path: Path) -> None:
    (tmp_path / "link.xml").symlink_to("real.xml")
    assert bedrock_run("report", mixed_rows, "--junit", "link.xml").returncode == 0
    assert (tmp_path / "link.xml").is_symlink()
    assert (tmp_path / "real.xml").exists()


def test_what_is_no_file_is_written_to(bedrock_run: Any, mixed_rows: Path) -> None:
    assert bedrock_run("report", mixed_rows, "--junit", "/dev/null").returncode == 0
    assert Path("/dev/null").is_char_device()


def test_a_run_writes_the_reports_that_its_rows_give_later(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    job = write_job(FAILING)
    done = bedrock_run("--local", job, "--report-junit", "live.xml", "--report-markdown", "live.md")
    assert done.returncode == 1
    bedrock_run("report", "outputs/job.jsonl", "--junit", "later.xml", "--markdown", "later.md")
    assert (tmp_path / "live.xml").read_text() == (tmp_path / "later.xml").read_text()
    assert (tmp_path / "live.md").read_text() == (tmp_path / "later.md").read_text()


def test_a_run_without_files_of_rows_has_reports_too(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    done = bedrock_run("--local", "-o", "-", "--report-junit", "j.xml", write_job(FAILING))
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "failed"
    (suite,) = etree.parse(tmp_path / "j.xml").getroot()
    assert suite.get("failures") == "1"


def test_kept_rows_are_in_the_report_as_they_are_judged_now(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    bedrock_run("--local", write_job("prompt: x"))
    done = bedrock_run("--replay", write_job(FAILING), "--report-junit", "j.xml")
    assert done.returncode == 1
    (suite,) = etree.parse(tmp_path / "j.xml").getroot()
    assert suite.get("failures") == "1"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--report-junit", "job.yaml"], "the junit report would overwrite the job file: job.yaml"),
        (["--report-markdown", "./x/../cases.csv"], "would overwrite the cases of job"),
        (["--report-junit", "outputs/job.jsonl"], "would overwrite the rows of job"),
        (
            ["--report-html", "forgotten.yaml"],
            "report would be the file forgotten.yaml, which is named as data is",
        ),
        (["--report-junit", "-", "--json"], "would overwrite the summary: standard output"),
        (["--report-markdown", "-", "-o", "-"], "would overwrite the rows: standard output"),
    ],
)
def test_a_report_that_would_overwrite_something_is_refused_before_anything_is_sent(
    arguments: list[str], what: str, bedrock_run: Any, bedrock: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "cases.csv").write_text("id,name\n1,a\n")
    job = write_job("prompt: x\ncases: cases.csv")
    before = job.read_text()
    serving = bedrock()
    done = bedrock_run(job, *arguments, env=serving.env)
    assert done.returncode == 2
    assert what in done.stderr
    assert serving.log == []
    assert job.read_text() == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_takes_no_files_does_not_change_the_result(
    bedrock_run: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    done = bedrock_run("--local", write_job("prompt: x"), "--report-junit", "closed/j.xml")
    assert done.returncode == 0
    assert "note: the junit report (closed/j.xml) could not be written: Permission denied" in done.stderr


def test_a_path_that_is_a_folder_does_not_change_the_result(bedrock_run: Any, write_job: Any, rows: Any) -> None:
    done = bedrock_run("--local", write_job(FAILING), "--report-junit", "outputs", "--report-markdown", "/proc/no/m")
    assert done.returncode == 1
    assert "note: the junit report (outputs) could not be written: Is a directory" in done.stderr
    assert "note: the markdown report (/proc/no/m) could not be written: " in done.stderr
    assert len(rows()) == 1


def test_a_bug_in_a_report_does_not_change_the_result(start_run: Any, write_job: Any, rows: Any) -> None:
    bug = "import runner.report.junit as j\ndef fail(case): raise KeyError('oops')\nj.took_s = fail"
    job = write_job(FAILING)
    run = start_run("--local", job, "--report-junit", "j.xml", env={}, patch=bug)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    line = "note: the junit report (j.xml) could not be made: KeyError: 'oops'; this is a bug in bedrock-run"
    assert told.endswith(f"{line} (-v tells more)\n")
    assert len(rows()) == 1
    run = start_run("--local", "-v", job, "--report-junit", "j.xml", env={}, patch=bug)
    assert f"{line}\nTraceback (most recent call last)" in run.communicate(timeout=60)[1]


def test_a_run_that_has_no_folder_for_its_reports_goes_on(start_run: Any, write_job: Any, rows: Any) -> None:
    nowhere = "import tempfile; tempfile.tempdir = '/proc/nowhere'"
    run = start_run("--local", write_job(FAILING), "--report-junit", "j.xml", env={}, patch=nowhere)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 1
    assert "note: no report was written, since their rows could not be kept in /proc/nowhere: " in told
    assert len(rows()) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_told_when_the_rows_are_wanted(mixed_rows: Path) -> None:
    full = Spool(Path("/dev/full"))
    for row in Rows([mixed_rows]):
        full.add(row)
    with pytest.raises(OSError, match="No space left"):
        full.rows()
    full.close()


def test_a_spool_gives_back_what_it_was_given(mixed_rows: Path) -> None:
    with spool() as spooled:
        for row in Rows([mixed_rows]):
            spooled.add(row)
        found = spooled.rows()
        assert list(found) == list(Rows([mixed_rows]))
    assert not found.files[0].exists()


def test_a_run_says_where_its_reports_went(bedrock_run: Any, write_job: Any) -> None:
    wanted = (
        "--local",
        "--report-junit",
        "out/junit.xml",
        "--report-markdown",
        "-",
        "--report-html",
        "/proc/no/h.html",
    )
    done = bedrock_run(*wanted, write_job("prompt: x"))
    assert [line for line in done.stderr.splitlines() if line.startswith("report")] == ["report: out/junit.xml"]
    assert bedrock_run(*wanted[:3], "-q", write_job("prompt: x")).stderr == ""
