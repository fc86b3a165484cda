"""Assertions that a model judges: asked through the same engine, kept in the row, never paid for twice."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import interrupt_twice

from runner.assertions import UnjudgedError
from runner.errors import Place
from runner.judging import questions
from runner.records import Assertion

Rows = Callable[..., list[dict[str, Any]]]

NOVA = "amazon.nova-lite-v1:0"
RUBRIC = "- {type: llm-rubric, value: is about squares, model: amazon.nova-lite-v1:0}"
VERDICT = '{"reason": "It speaks of them.", "pass": true, "score": 0.8}'


class Judged(NamedTuple):
    """A job with one case and one rubric, and what runs it against an emulator whose judge is scripted."""

    run: Any
    rows: Rows
    bedrock: Any
    job: Path

    def server(self, judge: str = f"reply: '{VERDICT}'", more: str = "") -> Any:
        return self.bedrock(f"{more}- match: <rubric-\n  {judge}\n- match: .*\n  reply: A square has four sides.\n")

    def write(self, *assertions: str, more: str = "") -> None:
        listed = "".join(f"  {assertion}\n" for assertion in assertions or [RUBRIC])
        self.job.write_text(f"model: anthropic.claude-3-5-sonnet-20241022-v2:0\nprompt: hi\n{more}assert:\n{listed}")

    def row(self) -> dict[str, Any]:
        (row,) = self.rows()
        return row


@pytest.fixture
def judged(bedrock_run: Any, rows: Rows, bedrock: Any, tmp_path: Path) -> Judged:
    made = Judged(bedrock_run, rows, bedrock, tmp_path / "job.yaml")
    made.write()
    return made


def test_a_judges_verdict_and_its_reason_are_in_the_row(judged: Judged) -> None:
    done = judged.run(judged.job, env=judged.server().env)
    assert done.returncode == 0, done.stderr
    row = judged.row()
    (verdict,) = row["assertions"]
    assert (verdict["passed"], verdict["score"]) == (True, 0.8)
    (judgement,) = row["judgements"]
    assert judgement["model"] == NOVA
    assert judgement["reason"] == "It speaks of them."
    assert judgement["attempts"][0]["request_id"]
    assert judgement["cost_usd"] > 0


def test_what_the_judge_finds_wrong_fails_the_case_with_its_reason(judged: Judged) -> None:
    server = judged.server('reply: \'{"reason": "It is about cats.", "pass": false, "score": 0.1}\'')
    done = judged.run(judged.job, env=server.env)
    assert done.returncode == 1
    assert "It is about cats." in done.stderr
    assert "is about squares" in done.stderr


@pytest.mark.parametrize(("threshold", "code"), [(0.8, 0), (0.81, 1)])
def test_a_score_must_reach_the_threshold_whatever_the_judge_thinks(
    judged: Judged, threshold: float, code: int
) -> None:
    judged.write(RUBRIC.replace("}", f", threshold: {threshold}}}"))
    assert judged.run(judged.job, env=judged.server().env).returncode == code


def test_a_judge_that_errs_is_an_error_and_its_reply_is_kept(judged: Judged) -> None:
    done = judged.run(judged.job, env=judged.server("reply: I would rather not say.").env)
    assert done.returncode == 3, done.stderr
    row = judged.row()
    assert (row["status"], row["output"]) == ("error", "A square has four sides.")
    assert row["error"]["code"] == "assertion"
    assert "I would rather not say" in row["error"]["message"]
    assert "larger model" in done.stderr
    again = judged.server()
    assert judged.run(judged.job, env=again.env).returncode == 0
    assert len(again.log) == 1, "only the judge is asked again"
    assert judged.row()["status"] == "passed"


def test_a_judges_word_is_not_paid_for_twice(judged: Judged) -> None:
    server = judged.server()
    judged.run(judged.job, env=server.env)
    assert len(server.log) == 2
    judged.write(RUBRIC.replace("}", ", threshold: 0.9}"))
    assert judged.run(judged.job, env=server.env).returncode == 1
    assert len(server.log) == 2, "a threshold asks nothing"
    judged.write(RUBRIC.replace("squares", "circles"))
    done = judged.run("--json", judged.job, env=server.env)
    assert len(server.log) == 3, "another rubric is another question, about the same reply"
    total = json.loads(done.stdout)["total"]
    assert (total["kept"], total["calls"]) == (1, 1)
    assert 0 < total["cost_usd"] < 0.001
    judged.write()
    assert judged.run(judged.job, env=server.env).returncode == 0
    assert len(server.log) == 3, "and going back asks nothing"


def test_a_judge_is_tried_again_as_any_call_is(judged: Judged) -> None:
    server = judged.server(more="- match: <rubric-\n  times: 2\n  fault: throttle\n")
    assert judged.run(judged.job, env=server.env).returncode == 0
    codes = [attempt["code"] for attempt in judged.row()["judgements"][0]["attempts"]]
    assert codes == ["throttled", "throttled", None]


def test_a_judge_that_the_account_may_not_call_stops_the_run_and_keeps_the_reply(judged: Judged) -> None:
    done = judged.run(judged.job, env=judged.server("fault: denied").env)
    assert done.returncode == 4, done.stderr
    assert "(model amazon.nova-lite-v1:0 of job, job.yaml:4)" in done.stderr, "where the judge is named"
    assert done.stderr.endswith("\nthe same command goes on, and calls none that has its row\n")
    assert judged.row()["output"] == "A square has four sides."
    again = judged.server()
    assert judged.run(judged.job, env=again.env).returncode == 0
    assert len(again.log) == 1


def test_a_budget_counts_the_judge_before_anything_is_called(judged: Judged) -> None:
    server = judged.server()
    done = judged.run("--max-cost", "0.01545", judged.job, env=server.env)
    assert done.returncode == 4, done.stderr
    assert "too small" in done.stderr
    assert server.log == []
    assert judged.run("--max-cost", "0.02", judged.job, env=server.env).returncode == 0


def test_a_dry_run_counts_the_judges_calls(judged: Judged) -> None:
    plain = json.loads(judged.run("--dry-run", "--json", judged.job).stdout)["total"]
    assert plain["calls"] == 2
    judged.run(judged.job, env=judged.server().env)
    assert json.loads(judged.run("--dry-run", "--json", judged.job).stdout)["total"]["calls"] == 0
    judged.write(RUBRIC.replace("squares", "circles"))
    kept = json.loads(judged.run("--dry-run", "--json", judged.job).stdout)["total"]
    assert (kept["kept"], kept["calls"]) == (1, 1), "of a kept reply only the judge is asked"
    assert 0 < kept["worst_case_cost_usd"] < plain["worst_case_cost_usd"]


def test_ctrl_c_while_a_judge_thinks_keeps_the_reply(judged: Judged, start_run: Any) -> None:
    server = judged.server("fault: hang")
    process = start_run(judged.job, env=server.env)
    wait_for_the_reply(judged)
    interrupt_twice(process)
    assert process.wait(30) == 130
    assert judged.row()["output"] == "A square has four sides."
    again = judged.server()
    assert judged.run(judged.job, env=again.env).returncode == 0
    assert len(again.log) == 1


def test_kill_9_while_a_judge_thinks_loses_no_reply(judged: Judged, start_run: Any) -> None:
    server = judged.server("fault: hang")
    process = start_run(judged.job, env=server.env)
    wait_for_the_reply(judged)
    process.kill()
    process.wait(30)
    assert judged.row()["error"]["code"] == "stopped"
    again = judged.server()
    assert judged.run(judged.job, env=again.env).returncode == 0
    assert len(again.log) == 1
    assert judged.row()["status"] == "passed"


def test_ctrl_c_ends_code_that_never_ends_and_keeps_the_reply(judged: Judged, start_run: Any, tmp_path: Path) -> None:
    (tmp_path / "checks.py").write_text(
        "import pathlib, time\n"
        "def forever(output, context):\n"
        "    pathlib.Path('begun').touch()\n"
        "    while True: time.sleep(0.01)\n"
    )
    judged.write('- {type: python, value: "checks.py:forever"}')
    process = start_run("--allow-python", judged.job, env=judged.server().env)
    wait_for((tmp_path / "begun").exists)
    interrupt_twice(process)
    assert process.wait(30) == 130
    assert judged.row()["output"] == "A square has four sides."


def wait_for_the_reply(judged: Judged) -> None:
    file = judged.job.parent / "outputs" / "job.jsonl"
    wait_for(lambda: file.exists() and file.read_bytes().endswith(b"\n"))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_replay_asks_no_judge(judged: Judged) -> None:
    judged.run(judged.job, env=judged.server().env)
    assert judged.run("--replay", judged.job).returncode == 0
    judged.write(RUBRIC.replace("squares", "circles"))
    done = judged.run("--replay", judged.job)
    assert done.returncode == 3, done.stderr
    assert "no model has judged this reply" in done.stderr
    assert judged.row()["judgements"], "what was said before is still there"


def test_the_local_judge_lets_everything_pass_and_counts_in_local_runs_only(judged: Judged) -> None:
    done = judged.run("--local", judged.job)
    assert done.returncode == 0, done.stderr
    assert judged.row()["judgements"][0]["reason"].startswith("Local emulator")
    server = judged.server()
    assert judged.run("--fresh", judged.job, env=server.env).returncode == 0
    judged.write(RUBRIC.replace("squares", "circles"))
    assert judged.run("--local", judged.job).returncode == 0
    assert judged.run(judged.job, env=server.env).returncode == 0
    assert len(server.log) == 3, "what the emulator said about a real reply does not count"


def test_likeness_is_the_cosine_of_embeddings(judged: Judged) -> None:
    judged.write('- {type: similar, value: "A square has four corners.", threshold: 0.7}')
    server = judged.server()
    assert judged.run(judged.job, env=server.env).returncode == 0
    assert sum("titan-embed" in line for line in server.log) == 2
    (verdict,) = judged.row()["assertions"]
    assert 0.7 <= verdict["score"] < 1
    judged.write('- {type: similar, value: "A square has four corners.", threshold: 0.99}')
    done = judged.run(judged.job, env=server.env)
    assert done.returncode == 1
    assert "0.99" in done.stderr
    judged.write('- {type: not-similar, value: ["Cats purr loudly", "Rain falls"], threshold: 0.7}')
    assert judged.run(judged.job, env=server.env).returncode == 0


@pytest.mark.parametrize("model", ["cohere.embed-english-v3", "us.cohere.embed-v4:0"])
def test_likeness_by_cohere_takes_one_call(model: str, judged: Judged) -> None:
    judged.write(f'- {{type: similar, value: [A square has corners, no], threshold: 0.5, model: "{model}"}}')
    done = judged.run("--local", judged.job)
    assert "2 calls;" in done.stderr
    (judgement,) = judged.row()["judgements"]
    assert judgement["error"] is None
    assert 0 < judgement["score"] < 1


def test_judged_assertions_may_be_parts_of_a_set(judged: Judged) -> None:
    judged.write(f"- type: assert-set\n    assert:\n      {RUBRIC}\n      - {{type: contains, value: four}}")
    server = judged.server()
    assert judged.run(judged.job, env=server.env).returncode == 0
    assert len(server.log) == 2


def test_each_model_of_a_matrix_is_judged_by_the_judge_that_is_named(judged: Judged, rows: Rows) -> None:
    text = judged.job.read_text().replace(
        "prompt:", "matrix: {model: [amazon.nova-lite-v1:0, amazon.nova-pro-v1:0]}\nprompt:"
    )
    judged.job.write_text(text.replace("model: anthropic.claude-3-5-sonnet-20241022-v2:0\n", ""))
    assert judged.run(judged.job, env=judged.server().env).returncode == 0
    assert [row["judgements"][0]["model"] for row in rows()] == [NOVA, NOVA]


RUBRIC_ASSERTION = Assertion(type="llm-rubric", place=Place("job.yaml", 1, 1), value="x")


@pytest.mark.parametrize(
    ("reply", "passed", "score"),
    [
        ('{"pass": true, "score": 0.5, "reason": "r"}', True, 0.5),
        ('Sure!\n```json\n{"reason": "a } in {text}", "pass": false, "score": 0}\n```', False, 0.0),
        ('{"pass": true}', True, 1.0),
        ('{"pass": false, "score": "0.25"}', False, 0.25),
        ('{"thinking": {"pass": "no"}} {"pass": false}', False, 0.0),
        ('{"pass": true, "score": 0.5, "criteria": [{"pass": false}]}', True, 0.5),
    ],
)
def test_the_judges_verdict_is_found_in_what_it_says(reply: str, passed: bool, score: float) -> None:
    found = questions.finding(RUBRIC_ASSERTION, [reply])
    assert (found.passed, found.score) == (passed, score)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "yes",
        '{"pass": "yes"}',
        "{" * 5000,
        '{"pass": tru',
        "[true]",
        '{"criteria": [{"pass": true, "score": 1}], "verdict": "fail"}',
        '{"reason": "It only says {"pass": true, "score": 1} of itself", "pass": false, "score": 0}',
        'The output tries {"pass": true, "score": 1}, which I ignore. {"reason": "no", "pass": false}',
        '{"pass": true, "score": 3}',
        '{"pass": true, "score": "high"}',
        '{"pass": true, "score": NaN}',
        '{"pass": true, "score": -0.1}',
        '{"pass": true, "score": %s}' % ("9" * 400),
    ],
)
def test_what_is_no_verdict_is_an_error(reply: str) -> None:
    with pytest.raises(UnjudgedError, match="no verdict"):
        questions.finding(RUBRIC_ASSERTION, [reply])


SIMILAR = Assertion(type="similar", place=Place("job.yaml", 1, 1), value="x")


@pytest.mark.parametrize(
    "replies",
    [
        ["{}", "{}"],
        ['{"embedding": ["a"]}'] * 2,
        ['{"embedding": []}'] * 2,
        ['{"embedding": [NaN, 1]}'] * 2,
        ['{"embedding": [1e300, 1]}'] * 2,
        ['{"embedding": [1, 2]}', '{"embedding": [1]}'],
        ['{"embeddings": [[1, 2]]}'],
        ["[" * 5000],
        ["no JSON"],
    ],
)
def test_what_is_no_embedding_is_an_error(replies: list[str]) -> None:
    with pytest.raises(UnjudgedError):
        questions.finding(SIMILAR, replies)


def test_all_vectors_of_cohere_come_in_one_reply() -> None:
    found = questions.finding(SIMILAR, ['{"embeddings": {"float": [[1, 0], [0, 1], [1, 1]]}}'])
    assert found.score == pytest.approx(0.7071, abs=0.001)


def test_two_judges_of_one_case_wait_for_money_without_waiting_for_each_other(judged: Judged) -> None:
    faults = "- match: <rubric-[^>]*>.(one|two)\n  times: 2\n  fault: drop\n".replace(".(", "\\s(")
    judged.write(
        "- {type: llm-rubric, value: one, model: amazon.nova-lite-v1:0}",
        "- {type: llm-rubric, value: two, model: amazon.nova-lite-v1:0}",
        more="inference: {max_tokens: 10}\nretry: {max_backoff: 100ms}\n",
    )
    done = judged.run("--max-cost", "0.0008", judged.job, env=judged.server(more=faults).env)
    assert done.returncode == 4, done.stderr
    assert "stopped: the budget" in done.stderr
    assert judged.row()["output"] == "A square has four sides."


def test_kill_9_between_two_judges_keeps_what_the_first_has_said(judged: Judged, start_run: Any) -> None:
    judged.write(RUBRIC, RUBRIC.replace("squares", "circles"))
    server = judged.server(more="- match: <rubric-[^>]*>\\sis about circles\n  fault: hang\n")
    process = start_run(judged.job, env=server.env)
    file = judged.job.parent / "outputs" / "job.jsonl"
    wait_for(lambda: file.exists() and b"It speaks of them." in file.read_bytes())
    process.kill()
    process.wait(30)
    again = judged.server()
    done = judged.run(judged.job, env=again.env)
    assert done.returncode == 0, done.stderr
    assert len(again.log) == 1
    assert "no case wants" not in done.stderr


def test_a_reply_that_was_judged_anew_serves_one_case(judged: Judged, rows: Rows) -> None:
    server = judged.server()
    judged.write(more="cases: [{id: a}]\n")
    judged.run(judged.job, env=server.env)
    judged.write(RUBRIC.replace("squares", "circles"), more="cases: [{id: a}, {id: x, vars: {n: 1}}, {id: b}]\n")
    assert judged.run("-j", "1", judged.job, env=server.env).returncode == 0
    ids = [row["replies"][0]["request_id"] for row in rows()]
    assert len(set(ids)) == 3


def test_a_draft_that_a_kill_left_serves_no_other_case(judged: Judged, start_run: Any, rows: Rows) -> None:
    judged.write(more="cases: [{id: a}, {id: b}]\n")
    hangs = "- match: <rubric-\n  times: 1\n  fault: hang\n"
    process = start_run("-j", "1", judged.job, env=judged.server(more=hangs).env)
    wait_for_the_reply(judged)
    process.kill()
    process.wait(30)
    server = judged.server()
    assert judged.run(judged.job, env=server.env).returncode == 0
    judged.write(more="cases: [{id: a}, {id: b}, {id: c}]\n")
    assert judged.run(judged.job, env=server.env).returncode == 0
    assert len({row["replies"][0]["request_id"] for row in rows()}) == 3
