"""What a run came to, as values: cases and repetitions, variants, thresholds, and the object that `--json` prints."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator

from runner import schema
from runner.console import Outcomes, report_lines, stop_lines, summary_lines
from runner.errors import ExitCode, Place
from runner.records import Threshold
from runner.report.rows import Rows
from runner.running import summary
from runner.running.summary_json import describe
from runner.stop import StopReason

SUMMARY = Draft202012Validator(schema.load("summary"))
USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0}
REPLY = {
    "text": "x",
    "stop_reason": None,
    "usage": USAGE,
    "latency_ms": 100,
    "first_token_ms": None,
    "request_id": None,
}


def row(status: str, *, index: int = 0, repeat: int = 0, repeats: int = 1, min_pass: int = 1, **more: Any) -> Any:
    verdict = {"type": "equals", "passed": False, "line": 3, "reason": "expected a: got b"}
    verdict |= {"expected": "a", "actual": "got b", "score": None, "value": "a", "threshold": None}
    failed = [verdict] if status == "failed" else []
    error = {"code": "throttled", "message": "slow down", "hint": None, "http_status": 429, "request_id": None}
    in_error = status == "error"
    made = {"schema": "bedrock-run/result/1", "job": "job", "case": f"c{index}", "index": index, "repeat": repeat}
    made |= {"key": "0" * 64, "status": status, "request": {"body": {}}, "version": "0.1", "api": "invoke"}
    made |= {"model": "a-model", "region": "us-east-1", "stream": False, "vars": {}, "tags": []}
    made |= {"started_at": "2026-01-02T03:04:05.678Z", "finished_at": "2026-01-02T03:04:06.678Z"}
    made |= {"matrix": None, "endpoint": "local", "attempts": [], "stop_reason": None}
    made |= {"replies": [] if in_error else [REPLY]}
    made |= {"assertions": failed, "error": {**error, "retryable": True} if in_error else None}
    made |= {"output": None if in_error else "x", "first_token_ms": None}
    made |= {"usage": None if in_error else USAGE, "cost_usd": None if in_error else 0.5, "latency_ms": 100 + index}
    made |= {
        "source": {"path": "job.yaml", "line": 1, "row": None},
        "repeats": repeats,
        "min_pass": min_pass,
        "judgements": [],
        "parsed": None,
    }
    return {**made, **more}


def error(code: str, message: str) -> dict[str, Any]:
    return {"code": code, "message": message, "hint": None, "http_status": 400, "request_id": None, "retryable": False}


CUT = error("stopped", "the run was stopped before a reply had come")
DENIED = error("denied", "AccessDeniedException: no")


def summed_up(*rows: Any) -> summary.Summary:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_text("".join(f"{json.dumps(each)}\n" for each in rows))
        found = summary.of_rows(Rows([path]))
    SUMMARY.validate(describe(found))
    return found


def of(*rows: Any) -> summary.JobSummary:
    return summed_up(*rows).jobs["job"]


def repeated(*statuses: str, min_pass: int) -> summary.JobSummary:
    return of(*(row(each, repeat=n, repeats=len(statuses), min_pass=min_pass) for n, each in enumerate(statuses)))


@pytest.mark.parametrize(
    ("statuses", "min_pass", "counts"),
    [
        (["passed", "failed", "passed"], 2, (1, 0, 0)),
        (["failed", "passed", "failed"], 2, (0, 1, 0)),
        (["failed", "failed", "error"], 2, (0, 0, 1)),
        (["error", "failed", "failed"], 1, (0, 0, 1)),
        (["failed"] * 3, 1, (0, 1, 0)),
        (["passed"] * 10_000, 10_000, (1, 0, 0)),
    ],
)
def test_repetitions_make_one_case(statuses: list[str], min_pass: int, counts: tuple[int, int, int]) -> None:
    job = repeated(*statuses, min_pass=min_pass)
    figures = job.figures
    assert (figures.passed, figures.failed, figures.errors) == counts
    assert (len(job.failed), len(job.in_error)) == counts[1:]
    assert job.tally.done == len(statuses)


def test_cases_agree_with_what_reports_make_of_the_same_rows(
    bedrock_run: Any, bedrock: Any, write_job: Any, tmp_path: Any
) -> None:
    job = write_job(
        """
        prompt: "{{ n }} {{ tone }}"
        matrix: {tone: [dry, warm]}
        repeat: 3
        min_pass: 2
        cases: [{vars: {n: good}}, {vars: {n: once}}, {vars: {n: twice}}, {vars: {n: refused}}]
        assert: [{type: not-equals, value: bad}]
        """
    )
    replies = "- {match: once, reply: bad, times: 1}\n- {match: twice, reply: bad, times: 4}\n"
    replies += "- {match: refused, status: 400, error: ValidationException, message: no}\n- {match: '', reply: fine}\n"
    done = bedrock_run("--json", "-j", "1", job, env=bedrock(replies).env)
    told = json.loads(done.stdout)["jobs"][0]
    rows = Rows([tmp_path / "outputs" / "job.jsonl"])
    cases = list(rows.cases())
    statuses = [case.status for case in cases]
    assert {"passed", "failed", "error"} == set(statuses)
    assert (told["passed_cases"], told["failed_cases"], told["error_cases"]) == tuple(
        statuses.count(cast("Any", status)) for status in ("passed", "failed", "error")
    )
    assert told["failed_case_ids"] == [case.id for case in cases if case.status == "failed"]
    assert told["error_case_ids"] == [case.id for case in cases if case.status == "error"]
    assert [each["variant"] for each in told["variants"]] == ["tone=dry", "tone=warm"]
    later = summary.of_rows(rows)
    same = [
        "passed_cases",
        "failed_cases",
        "error_cases",
        "failed_case_ids",
        "error_case_ids",
        "variants",
        "latency_ms",
    ]
    (again,) = describe(later)["jobs"]
    assert {name: again[name] for name in same} == {name: told[name] for name in same}
    assert later.exit_code == done.returncode == 3


def test_what_a_report_tells_later_is_what_the_run_told(
    bedrock_run: Any, write_job: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = write_job(
        """
        prompt: "case {{ n }}."
        matrix: {tone: [dry, warm]}
        vars: {x: "{{ tone }}"}
        system: "{{ tone }}"
        cases: [{vars: {n: 1}}, {vars: {n: 2}}]
        assert: [{type: not-contains, value: "2."}]
        """
    )
    done = bedrock_run("-j", "1", "--local", job)
    monkeypatch.chdir(tmp_path)
    rows = Rows([Path("outputs/job.jsonl")])
    lines = list(report_lines(rows, summary.of_rows(rows)))
    told = done.stderr.splitlines()
    different = [line for line in lines if line not in told]
    assert different == ["4 cases: 2 passed, 2 failed"], "rows do not tell how long the run took"


def test_rows_of_bedrock_do_not_tell_which_prices_their_runs_had(mixed_rows: Path, edited: Any) -> None:
    sent = edited(lambda row: {**row, "endpoint": "https://bedrock-runtime.us-east-1.amazonaws.com"})
    later = summary.of_rows(Rows([sent]))
    assert any(re.search(r"out; \$0[.]\d+ at the prices of their runs$", line) for line in summary_lines(later))
    of_unknown = edited(lambda row: {**row, "cost_usd": None, "endpoint": "https://x"})
    told = list(summary_lines(summary.of_rows(Rows([of_unknown]))))
    assert told[1].endswith("cost not known: no price for amazon.nova-lite-v1:0"), "report has no option --prices"


def test_variants_have_their_own_figures() -> None:
    dry, warm = {"tone": "dry"}, {"tone": "warm"}
    rows = [row("passed", index=n, matrix=dry) for n in range(3)]
    job = of(*rows, row("failed", index=3, matrix=warm), row("error", index=4, matrix=warm, latency_ms=None))
    assert list(job.variants) == ["tone=dry", "tone=warm"]
    one, other = job.variants.values()
    assert (one.cases, one.passed, one.cost_usd, one.tokens) == (3, 3, 1.5, 45)
    assert (one.latencies.percentile(50), one.latencies.percentile(95)) == (101, 102)
    assert (other.cases, other.failed, other.errors, other.unpriced) == (2, 1, 1, 0)
    assert (job.figures.cases, job.figures.cost_usd, job.figures.latencies.percentile(99)) == (5, 2.0, 103)


def test_the_time_of_a_conversation_that_was_not_finished_is_no_latency() -> None:
    unfinished = row("error", index=1, latency_ms=9000, replies=[REPLY], usage=USAGE, cost_usd=0.25)
    figures = of(row("passed"), unfinished).figures
    assert figures.latencies.percentile(99) == 100
    assert (figures.cost_usd, figures.tokens) == (0.75, 30)  # which it has cost all the same


def test_the_first_hundred_cases_that_did_not_pass_are_named() -> None:
    job = of(*(row("failed" if n % 2 else "error", index=n) for n in range(500)))
    told = describe(summary.Summary(jobs={"job": job}))["jobs"][0]
    assert told["failed_case_ids"] == [f"c{n}" for n in range(1, 200, 2)]
    assert told["error_case_ids"] == [f"c{n}" for n in range(0, 200, 2)]
    assert (told["failed_cases"], told["error_cases"]) == (250, 250)


@pytest.mark.parametrize("stopped", [CUT, DENIED], ids=["cut", "denied"])
def test_where_a_case_met_the_stop_nothing_is_judged(stopped: dict[str, Any]) -> None:
    found = summed_up(row("passed"), row("error", index=1, error=stopped))
    place = Place("job.yaml", 2, 1)
    found.jobs["job"].wanted = (Threshold(name="pass_rate", comparison=">", limit=0.9, wanted="> 0.9", place=place),)
    assert found.jobs["job"].thresholds == []
    assert not found.jobs["job"].has_failed
    assert describe(found)["jobs"][0]["thresholds"] is None
    assert any(line.startswith("note: the thresholds of job were not judged: ") for line in summary_lines(found))


def test_cases_that_were_cut_are_counted_with_their_cause_and_the_same_command_goes_on() -> None:
    found = summed_up(
        row("passed"),
        row("error", index=1, error=CUT),
        row("error", index=2, error=DENIED),
        row("error", index=0, repeat=0, repeats=2, error=CUT, job="other"),
        row("error", index=0, repeat=1, repeats=2, job="other"),
        row("passed", index=1, repeats=2, min_pass=2, job="other"),
    )
    lines = list(summary_lines(found))
    assert lines[0] == "5 cases (6 with repetitions): 1 passed, 4 errors (2 stopped in flight)", (
        "one lacks a repetition"
    )
    assert [line for line in lines if line.startswith("ERROR")] == [
        "ERROR  job [c2]: denied: AccessDeniedException: no",
        "ERROR  other [c0]: throttled: slow down",
    ]
    assert describe(found)["total"]["cut_cases"] == 2
    found.stopped = StopReason(exit_code=ExitCode.INTERRUPTED, message="interrupted")
    (told,) = list(stop_lines(found, Outcomes()))[1:]
    assert told == "2 repetitions were stopped in flight; the same command goes on, and calls none that has its row"


def test_cases_in_error_by_one_cause_are_told_in_one_line_with_their_names() -> None:
    rows = [row("error", index=n) for n in range(500)] + [row("error", index=n, error=DENIED) for n in (500, 501)]
    lines = list(summary_lines(summed_up(*rows), width=80))
    at = lines.index("ERROR  500 cases: throttled: slow down")
    assert lines[at + 1].startswith("       job [c0], job [c1], job [c2], ")
    assert lines[at + 1].endswith(f" and {500 - lines[at + 1].count('job')} more")
    assert len(lines[at + 1]) <= 80
    assert not any(line.startswith("ERROR  job") for line in lines)
    assert "and 2 more cases that did not pass" in lines, "the first hundred are named"


def test_rows_alone_tell_of_no_thresholds_and_miss_no_case() -> None:
    found = summed_up(row("passed"), row("failed", index=1))
    assert found.jobs["job"].thresholds == []
    assert found.exit_code == ExitCode.ASSERTION_FAILED


def test_the_schema_of_the_summary_describes_every_key() -> None:
    root = schema.load("summary")
    Draft202012Validator.check_schema(root)

    def walk(node: dict[str, Any], path: str) -> None:
        for name, child in node.get("properties", {}).items():
            assert "type" in child or "$ref" in child or "const" in child or "enum" in child or "oneOf" in child, path
            walk(child, f"{path}/{name}")
        if "properties" in node:
            assert set(node["required"]) == set(node["properties"]), path
            assert "additionalProperties" in node or "unevaluatedProperties" in node or path == "tally", path

    for name, child in {"": root, **root["$defs"]}.items():
        walk(child, name)


@pytest.mark.parametrize("change", [{"jobs": []}, {"exit_code": 2}, {"new": 1}, {"total": {}}, {"schema": "other"}])
def test_the_schema_refuses_what_is_no_summary(change: dict[str, Any]) -> None:
    told = describe(summed_up(row("passed")))
    SUMMARY.validate(told)
    assert not SUMMARY.is_valid({**told, **change})
    told["jobs"][0]["more"] = 1
    assert not SUMMARY.is_valid(told)


def test_of_entries_that_no_call_got_to_it_is_told_that_kept_rows_make_none() -> None:
    made = summed_up(row("passed"))
    made.unused_replies = ["replies.yaml:1: no call got to the entry `match: sad`"]
    kept = "note: 1 case was kept and so not called, whatever the replies file says now; --fresh calls every case again"
    assert kept not in list(summary_lines(made))
    made.total.kept = 1
    assert kept in list(summary_lines(made))


@pytest.mark.parametrize(
    ("calls", "repairs", "told"),
    [
        (0, 0, "nothing was called"),
        (3, 0, "only judges were called"),
        (3, 3, "only repairs were asked for"),
        (3, 1, "only repairs were asked for and judges called"),
    ],
)
def test_what_was_called_for_kept_replies_is_told(calls: int, repairs: int, told: str) -> None:
    made = summed_up(row("passed"))
    made.total.kept, made.total.calls, made.total.repairs = 1, calls, repairs
    assert f"1 kept from earlier runs, {told}" in list(summary_lines(made))
