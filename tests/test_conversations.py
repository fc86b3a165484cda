"""A live conversation that was cut short goes on from the replies that it has: none of them is paid for twice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Bedrock, BedrockRun, OnTerminal, StartBedrock, StartRun, WriteJob, interrupt_twice
from test_answer import Calls, cases_of, reply
from test_earlier import earlier

from runner import models
from runner.cases.resume import Begun, with_begun
from runner.console import Console
from runner.errors import CallError, FailureCode, StoppedError
from runner.records import Case, Made, Row
from runner.running import worst_case
from runner.running.answer import Answerer

JOB = "turns: [{user: one}, {user: two}, {user: three}]\nretry: {max_attempts: 1}\n"
ANSWERS = [{"match": "", "turn": turn, "reply": f"reply {turn}"} for turn in (1, 2, 3)]
REFUSED = {"match": "", "turn": 3, "error": "ValidationException", "status": 400, "message": "no"}
EXPIRED = {"match": "", "turn": 3, "error": "ExpiredTokenException", "status": 403, "message": "expired"}


def answering(bedrock: StartBedrock, *first: dict[str, Any]) -> Bedrock:
    """An emulator that answers each turn; but what is `first` goes before."""
    return bedrock(json.dumps([*first, *ANSWERS]))


def texts(row: Any) -> list[str]:
    return [each["text"] for each in row["replies"]]


# --- with the command ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [interrupt_twice, subprocess.Popen.kill], ids=["ctrl-c", "kill -9"])
def test_a_conversation_that_is_cut_goes_on_from_its_last_reply(
    stop: Callable[[subprocess.Popen[str]], None],
    bedrock: StartBedrock,
    bedrock_run: BedrockRun,
    start_run: StartRun,
    write_job: WriteJob,
    rows: Any,
) -> None:
    server = answering(bedrock, {"match": "", "turn": 3, "fault": "hang"})
    job = write_job(JOB)
    process = start_run(job, env=server.env)
    kept = job.parent / "outputs" / "job.jsonl"
    deadline = time.monotonic() + 60
    while not kept.exists() or b"reply 2" not in kept.read_bytes():  # on disk before the third turn is asked
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stop(process)
    process.wait(timeout=60)
    cut = rows()[-1]
    assert (cut["status"], cut["output"], cut["error"]["code"]) == ("error", None, "stopped")
    assert cut["error"]["message"] == "the run was stopped after reply 2 of the conversation"

    again = answering(bedrock)
    told = json.loads(bedrock_run(job, "--dry-run", "--json").stdout)["total"]
    assert (told["kept"], told["begun"], told["calls"]) == (0, 1, 1)
    assert "1 case (1 begun in earlier runs), 1 call," in bedrock_run(job, "--dry-run").stderr
    done = bedrock_run(job, "--json", "--max-cost", str(told["worst_case_cost_usd"]), env=again.env)
    assert done.returncode == 0, done.stderr
    assert len(again.log) == 1
    (row,) = rows()
    assert texts(row) == ["reply 1", "reply 2", "reply 3"]
    assert row["started_at"] == cut["started_at"]
    assert row["attempts"][: len(cut["attempts"])] == cut["attempts"]
    assert row["usage"]["output_tokens"] == sum(each["usage"]["output_tokens"] for each in row["replies"])
    assert row["latency_ms"] == sum(each["latency_ms"] for each in row["replies"])
    total = json.loads(done.stdout)["total"]
    assert (total["kept"], total["called"], total["continued"], total["calls"]) == (0, 1, 1, 1)
    assert total["output_tokens"] == row["replies"][2]["usage"]["output_tokens"]
    assert total["cost_usd"] == pytest.approx(row["cost_usd"] - cut["cost_usd"])
    assert [path.name for path in kept.parent.iterdir()] == ["job.jsonl"]
    assert bedrock_run(job, env=again.env).returncode == 0
    assert len(again.log) == 1


def test_a_turn_that_failed_is_all_that_is_asked_again(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any, tmp_path: Path
) -> None:
    turns = "turns: [{user: '{{ n }}'}, {user: two}, {user: three}]\nretry: {max_attempts: 1}\n"
    job = write_job(f"{turns}cases: [{{vars: {{n: one}}}}, {{vars: {{n: eins}}}}]\n")
    assert bedrock_run(job, env=answering(bedrock, {**REFUSED, "times": 1}).env).returncode == 3
    dear = [{**row, "cost_usd": 1.0} for row in rows()]
    (tmp_path / "outputs" / "job.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in dear))

    names = ("un", "one", "eins", "uno")  # the first and the last are new
    write_job(f"{turns}cases: {json.dumps([{'vars': {'n': name}} for name in names])}\n")
    assert json.loads(bedrock_run(job, "--dry-run", "--json").stdout)["total"]["calls"] == 7
    server = answering(bedrock)
    done = bedrock_run(job, "-j", "1", "--max-cost", "0.5", env=server.env)
    assert done.returncode == 0, done.stderr  # what the earlier run paid is not on this one's budget
    assert "1 kept from earlier runs, 3 called (1 of them to go on with a conversation)" in done.stderr
    assert "7 calls; " in done.stderr
    assert len(server.log) == 7
    assert [(row["vars"]["n"], texts(row)[-1]) for row in rows()] == [(name, "reply 3") for name in names]


def test_a_run_that_cannot_go_on_leaves_what_there_is(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any, tmp_path: Path
) -> None:
    job = write_job(JOB)
    server = answering(bedrock, EXPIRED)
    assert bedrock_run(job, env=server.env).returncode == 4
    before = (tmp_path / "outputs" / "job.jsonl").read_bytes()
    assert texts(rows()[0]) == ["reply 1", "reply 2"]
    assert bedrock_run(job, env=server.env).returncode == 4
    assert bedrock_run(job, "--replay").returncode == 3
    assert "is too small" in bedrock_run(job, "--max-cost", "0.0000001", env=server.env).stderr
    assert (tmp_path / "outputs" / "job.jsonl").read_bytes() == before
    assert len(server.log) == 3 + 1


def test_what_has_begun_waits_until_its_case_can_be_asked(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any, tmp_path: Path
) -> None:
    job = write_job(f"{JOB}sidecar: told.txt\n")
    server = answering(bedrock, {**REFUSED, "times": 1})
    assert bedrock_run(job, env=server.env).returncode == 3
    (tmp_path / "told.txt").write_text("somebody's")
    assert bedrock_run(job, "--dry-run").returncode == 3
    assert "is there already" in bedrock_run(job, env=server.env).stderr
    (tmp_path / "told.txt").unlink()
    assert bedrock_run(job, env=server.env).returncode == 0
    assert texts(rows()[0]) == ["reply 1", "reply 2", "reply 3"]
    assert len(server.log) == 4
    assert len(rows()) == 1


def test_fresh_and_another_kind_of_endpoint_begin_anew(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any, tmp_path: Path
) -> None:
    job = write_job(JOB)
    (tmp_path / "replies.yaml").write_text(json.dumps([REFUSED, *ANSWERS]))
    assert bedrock_run("--local", "--replies", "replies.yaml", job).returncode == 3
    server = answering(bedrock, {**REFUSED, "times": 2})
    assert bedrock_run(job, env=server.env).returncode == 3
    assert bedrock_run("--fresh", job, env=server.env).returncode == 3
    assert len(server.log) == 6, "what a model says does not follow from what the emulator said"
    assert bedrock_run("--fresh", job, env=server.env).returncode == 0
    assert len(server.log) == 9
    assert texts(rows()[0])[0] == "reply 1"


def test_a_terminal_shows_the_conversation_from_its_beginning(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, on_terminal: OnTerminal
) -> None:
    job = write_job(JOB)
    server = answering(bedrock, {**REFUSED, "times": 1})
    assert bedrock_run(job, env=server.env).returncode == 3
    code, seen = on_terminal(job, env=server.env)
    assert code == 0
    assert [seen.count(f"reply {turn}") for turn in (1, 2, 3)] == [1, 1, 1]
    assert "1 called (1 of them to go on with a conversation)" in seen


# --- without it ------------------------------------------------------------------------------------------------------


class Asked(Calls):
    """Notes what it is asked, and whether the reply before was saved by then."""

    def __init__(self, *outcomes: Any) -> None:
        super().__init__(*outcomes)
        self.said: list[list[str]] = []
        self.saved: list[Row] = []
        self.can_save = True

    async def call(self, case: Case, messages: Any, attempt: int, *, on_text: Any) -> Any:
        self.said.append([message.text for message in messages])
        return await super().call(case, messages, attempt, on_text=on_text)

    def save(self, row: Row) -> bool:
        self.saved.append(row)
        return self.can_save


def answer(case: Case, calls: Asked, *, begun: Row | None = None) -> Row:
    answerer = Answerer(
        calls=calls,
        where=lambda case: ("us-east-1", "local"),
        models=models.load(),
        watcher=Console(),
        sleep=asyncio.sleep,
        save=calls.save,
    )
    return asyncio.run(answerer.answer(case, begun=begun))


NO = CallError(FailureCode.INVALID, "no")


def test_fixed_turns_of_the_assistant_stay_where_they_are(write_job: Any) -> None:
    (case,) = cases_of(write_job, "turns: [{user: a}, {user: b}, {assistant: c}, {user: d}, {user: e}, {assistant: f}]")
    begun = answer(case, Asked(reply("A"), reply("D"), NO))
    calls = Asked(reply("F"))
    row = answer(case, calls, begun=begun)
    assert calls.said == [["a", "A", "b", "c", "d", "D", "e", "f"]]
    assert row["output"] == "F"
    assert [each["text"] for each in row["replies"]] == ["A", "D", "F"]


def test_each_reply_is_saved_before_the_next_turn_and_if_it_cannot_be_nothing_more_is_asked(write_job: Any) -> None:
    (case,) = cases_of(write_job, JOB)
    calls = Asked(reply("a"), reply("b"), reply("c"))
    answer(case, calls)
    assert [len(row["replies"]) for row in calls.saved] == [1, 2]
    calls = Asked(reply("a"))
    calls.can_save = False
    row = answer(case, calls)
    assert row["error"] is not None
    assert (texts(row), row["error"]["code"]) == (["a"], "stopped")


def test_a_run_accounts_for_what_it_paid_and_the_row_for_all(write_job: Any) -> None:
    (case,) = cases_of(write_job, JOB)
    begun = answer(case, Asked(reply("a"), NO))
    begun["cost_usd"] = 1.0  # at other prices than today's
    row = answer(case, Asked(reply("b"), reply("c")), begun=begun)
    made = Made(row, begun)
    assert made.continued
    assert not made.kept
    assert not made.call_failed
    of_two = 2 * (10 * 3 + 5 * 15) / 1e6
    assert row["cost_usd"] == pytest.approx(1 + of_two)
    assert [paid.cost_usd for paid in made.paid] == [pytest.approx(of_two)]
    assert [paid.usage and paid.usage["input_tokens"] for paid in made.paid] == [20]
    assert row["usage"] is not None
    assert row["usage"]["input_tokens"] == 30
    assert len(made.attempts) == 2
    most = [*worst_case.of_new(case)]
    assert [*worst_case.of_new(case, replies=1)] == most[1:]
    assert len(most) == 3


def test_without_a_new_reply_nothing_new_is_told(write_job: Any) -> None:
    (case,) = cases_of(write_job, JOB)
    begun = answer(case, Asked(reply("a"), CallError(FailureCode.TIMEOUT, "late", possibly_billed=True)))
    with pytest.raises(StoppedError):
        answer(case, Asked(StoppedError()), begun=begun)


@pytest.mark.parametrize(
    ("replies", "goes_on"), [(["a"], True), (["a", "b"], True), (["a", " \n"], False), (["a", "b", "c"], False)]
)
def test_it_goes_on_where_turns_are_left_that_can_be_asked(replies: list[str], goes_on: bool, write_job: Any) -> None:
    (case,) = cases_of(write_job, JOB)
    row = answer(case, Asked(reply("a"), NO))
    row["endpoint"] = "https://bedrock"
    row["replies"] = [{**row["replies"][0], "text": text} for text in replies]
    (item,) = with_begun(iter([case]), earlier(row))
    assert isinstance(item, Begun) == goes_on
