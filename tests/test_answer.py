"""One case -> one row, when the run stops in the middle. Calls are stand-ins."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from runner import models
from runner.assertions import time_limit
from runner.calling.limits import Slot
from runner.cases import loading
from runner.cases.rendering import Renderer
from runner.console import Console
from runner.errors import CallError, FailureCode, StoppedError
from runner.records import Case, Reply, Row, Usage
from runner.running.answer import Answerer, adopted


class Calls:
    """Answers with what it is given, in order."""

    def __init__(self, *outcomes: Reply | BaseException) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[int] = []

    def admit(self, case: Case, messages: Any, *, follows: bool = False) -> Any:
        return nullcontext(Slot(0))

    async def call(self, case: Case, messages: Any, attempt: int, *, on_text: Any) -> Reply:
        self.asked.append(len(messages))
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def reply(text: str) -> Reply:
    return Reply(text=text, stop_reason="end_turn", usage=Usage(input_tokens=10, output_tokens=5), latency_ms=7)


def cases_of(write_job: Any, text: str) -> list[Case]:
    (cases,) = loading.load([write_job(text)])
    return [*map(Renderer(cases.job).case, cases)]


def row_of(write_job: Any, text: str, *outcomes: Reply | BaseException) -> Row:
    (case,) = cases_of(write_job, text)
    answerer = Answerer(
        calls=Calls(*outcomes),
        where=lambda case: ("us-east-1", "local"),
        models=models.load(),
        watcher=Console(),
        sleep=asyncio.sleep,
        save=lambda row: True,
    )
    return asyncio.run(answerer.answer(case))


THREE_TURNS = "turns: [{user: one}, {user: two}, {user: three}]\nassert: [{type: contains, value: x}]"


def test_usage_cost_and_latency_are_of_all_replies_and_the_output_of_the_last(write_job: Any) -> None:
    row = row_of(write_job, THREE_TURNS, reply("a"), reply("b"), reply("xyz"))
    assert row["status"] == "passed"
    assert row["output"] == "xyz"
    assert row["usage"] == {
        "input_tokens": 30,
        "output_tokens": 15,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
    }
    assert row["cost_usd"] == pytest.approx((30 * 3 + 15 * 15) / 1e6)
    assert row["latency_ms"] == 21


@pytest.mark.parametrize("stop", [StoppedError(), asyncio.CancelledError()], ids=["before a call", "in a call"])
def test_paid_replies_are_kept_when_the_run_stops_in_a_conversation(stop: BaseException, write_job: Any) -> None:
    row = row_of(write_job, THREE_TURNS, reply("a"), reply("b"), stop)
    assert row["status"] == "error"
    assert row["error"] is not None
    assert row["error"]["code"] == "stopped"
    assert [kept["text"] for kept in row["replies"]] == ["a", "b"]
    assert row["cost_usd"] == pytest.approx((20 * 3 + 10 * 15) / 1e6)
    assert row["assertions"] == []


def test_a_case_without_a_reply_stays_pending_when_the_run_stops(write_job: Any) -> None:
    with pytest.raises(StoppedError):
        row_of(write_job, THREE_TURNS, StoppedError())


def test_a_call_that_is_cut_is_kept_as_an_attempt_that_may_be_billed(write_job: Any) -> None:
    row = row_of(write_job, "prompt: x", asyncio.CancelledError())
    assert row["error"] is not None
    assert row["error"]["code"] == "stopped"
    assert [(attempt["code"], attempt["possibly_billed"]) for attempt in row["attempts"]] == [("stopped", True)]


def test_attempts_that_may_be_billed_are_kept_when_the_run_stops_in_backoff(write_job: Any) -> None:
    job = "retry: {max_backoff: 1ms}\nprompt: x"
    billed = CallError(FailureCode.TRANSIENT, "500", possibly_billed=True)
    row = row_of(write_job, job, billed, StoppedError())
    assert [attempt["code"] for attempt in row["attempts"]] == ["transient"]
    with pytest.raises(StoppedError):
        row_of(write_job, job, CallError(FailureCode.THROTTLED, "429"), StoppedError())


def test_a_failure_of_a_later_turn_is_the_rows_error(write_job: Any) -> None:
    row = row_of(write_job, THREE_TURNS, reply("a"), CallError(FailureCode.INVALID, "no", http_status=400))
    assert row["error"] is not None
    assert (row["error"]["code"], row["error"]["http_status"]) == ("invalid", 400)
    assert row["output"] is None
    assert [attempt["code"] for attempt in row["attempts"]] == [None, "invalid"]


def test_a_kept_row_goes_on_telling_how_it_was_sent(write_job: Any, tmp_path: Path) -> None:
    for name, size in {"large.png": (3000, 2000), "larger.png": (4000, 4000)}.items():
        PIL.Image.new("L", size).save(tmp_path / name)
    claude = "model: us.anthropic.claude-haiku-4-5-20251001-v1:0\nresponse_schema: {type: object}"
    job = f"{claude}\nturns: [{{user: {{text: x, images: [large.png, larger.png, large.png]}}}}]"
    row = row_of(write_job, job, reply("{}"))
    (case,) = cases_of(write_job, job)
    assert adopted(case, row)["request"] == row["request"]
    images = row["request"]["messages"][0]["images"]
    images[0]["sent"]["changes"] = ["in the words of an earlier version"]
    del images[1]["sent"]
    images[2]["sha256"] = "0" * 64
    row["request"]["response_schema"]["sent"] = "native"
    kept = adopted(case, row)["request"]
    assert kept["messages"][0]["images"][:2] == images[:2]
    assert kept["messages"][0]["images"][2]["sha256"] == images[0]["sha256"], "of another image it says nothing"
    assert kept["response_schema"] == {"schema": {"type": "object"}, "sent": "native"}


def test_a_reply_is_held_against_its_schema_once(write_job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = count()
    monkeypatch.setattr(time_limit, "monotonic", lambda: next(looks) * 0.0)
    began = []
    for number, repair in enumerate(("false", "false", "true", "true")):  # the first loads the schema too
        began.append(next(looks))
        job = f"prompt: x\nresponse_schema: {{type: object}}\nresponse_repair: {repair}"
        row = row_of(write_job, job, reply(f'It is {{"a": {number}}}.'))
        assert row["parsed"] == {"a": number}
    assert 1 < began[2] - began[1] == began[3] - began[2], "the clock is looked at as often without a repair"


def test_an_unknown_price_is_null_even_if_tokens_are_known(write_job: Any) -> None:
    row = row_of(write_job, "model: acme.new-v1\nprompt: x", reply("a"))
    assert row["cost_usd"] is None
    assert row["usage"] is not None
