"""The limits of a run: what is shared, what is reserved, what a stop does. The calls themselves are stand-ins."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from runner.bedrock.client import Bedrock
from runner.calling.calls import LimitedCalls, most_in_flight
from runner.cases import loading
from runner.cases.plan import CaseList
from runner.cases.rendering import Renderer
from runner.errors import CallError, ExitCode, FailureCode, StoppedError
from runner.records import Case, Job, Message, Rate, Reply, Usage
from runner.stop import Stop, StopReason

REPLY = Reply(text="hi", stop_reason="end_turn", usage=None)


class FakeBedrock:
    """One region, and calls that do as told."""

    def __init__(self) -> None:
        self.error: CallError | None = None
        self.most = self.now = 0

    def region_for(self, job_region: str | None) -> str:
        return job_region or "us-east-1"

    async def call(self, *_: Any, **__: Any) -> Reply:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0)
            if self.error is not None:
                raise self.error
            return REPLY
        finally:
            self.now -= 1


def case_of(job: Job) -> Case:
    (case,) = map(Renderer(job).case, CaseList(job))
    return case


@pytest.fixture
def job(write_job: Any) -> Job:
    path: Path = write_job("system: be brief and kind\nprompt: hello there")
    (cases,) = loading.load([path])
    return cases.job


def limited(bedrock: FakeBedrock, *jobs: Job, stop: Stop, in_flight: int | None = 8) -> LimitedCalls:
    return LimitedCalls(cast("Bedrock", bedrock), jobs, in_flight=in_flight, stop=stop)


def test_jobs_of_one_model_and_region_share_its_quota(job: Job) -> None:
    slow = replace(job, rate=Rate(requests_per_minute=60))
    elsewhere = replace(slow, region="eu-west-1")

    async def main() -> list[str]:
        calls = limited(FakeBedrock(), job, slow, elsewhere, stop=Stop())
        outcomes = []
        for which in (slow, job, elsewhere):
            case = case_of(which)
            try:
                async with asyncio.timeout(0.05), calls.admit(case, case.request.messages):
                    outcomes.append("at once")
            except TimeoutError:
                outcomes.append("waits")
        return outcomes

    assert asyncio.run(main()) == ["at once", "waits", "at once"]


def test_the_reservation_counts_system_messages_and_the_longest_reply(job: Job) -> None:
    paced = replace(job, rate=Rate(tokens_per_minute=1_000_000))

    async def main() -> int:
        case = case_of(paced)
        async with limited(FakeBedrock(), paced, stop=Stop()).admit(case, case.request.messages) as slot:
            return slot.reserved

    assert asyncio.run(main()) == len("be brief and kind") // 4 + 1 + len("hello there") // 4 + 1 + 1024


def test_a_job_without_a_quota_counts_towards_that_of_another_with_its_model(job: Job) -> None:
    paced = replace(job, rate=Rate(tokens_per_minute=1_000_000))

    async def main() -> int:
        case = case_of(job)
        async with limited(FakeBedrock(), job, paced, stop=Stop()).admit(case, case.request.messages) as slot:
            return slot.reserved

    assert asyncio.run(main()) > 1024


def test_no_more_calls_than_allowed_are_in_flight(job: Job) -> None:
    bedrock = FakeBedrock()

    async def one(calls: LimitedCalls, case: Case) -> None:
        async with calls.admit(case, case.request.messages):
            await calls.call(case, case.request.messages, 1, on_text=None)

    async def main() -> None:
        calls = limited(bedrock, job, stop=Stop(), in_flight=3)
        await asyncio.gather(*(one(calls, case_of(job)) for _ in range(20)))

    asyncio.run(main())
    assert bedrock.most == 3


def test_what_concerns_the_account_stops_the_run_before_the_next_call(job: Job) -> None:
    async def main() -> None:
        stop, bedrock = Stop(), FakeBedrock()
        bedrock.error = CallError(FailureCode.DENIED, "no")
        calls = limited(bedrock, job, stop=stop)
        with pytest.raises(CallError):
            await calls.call(case_of(job), (), 1, on_text=None)
        assert stop.reason is not None
        with pytest.raises(StoppedError):
            await calls.call(case_of(job), (), 1, on_text=None)

    asyncio.run(main())


def test_a_later_call_of_a_case_counts_as_begun(job: Job) -> None:
    case = case_of(job)
    first = case.request.messages

    async def main() -> list[bool]:
        calls = limited(FakeBedrock(), job, stop=Stop())
        later = (*first, Message(role="assistant", text="a"), Message(role="user", text="b"))
        return [calls.admit(case, messages).goes_first for messages in (first, later)]

    assert asyncio.run(main()) == [False, True]


def test_a_stop_sends_away_who_waits_for_a_turn_or_for_room(job: Job) -> None:
    async def main() -> None:
        stop, case = Stop(), case_of(job)
        calls = limited(FakeBedrock(), job, stop=stop, in_flight=1)

        async def wait_for_turn() -> None:
            async with calls.admit(case, case.request.messages):
                pytest.fail("a stopped run makes no call")

        async def wait_for_room() -> None:
            while True:
                await calls.room(case)

        async with calls.admit(case, case.request.messages):
            waiting = [asyncio.ensure_future(wait_for_turn()), asyncio.ensure_future(wait_for_room())]
            await asyncio.sleep(0.01)
            stop.request(StopReason(exit_code=ExitCode.STOPPED, message="enough"))
            for waiter in waiting:
                with pytest.raises(StoppedError):
                    await waiter
        with pytest.raises(StoppedError):
            await calls.room(case)

    asyncio.run(main())


def test_where_nothing_succeeds_any_more_the_run_stops_and_says_how_to_go_on(job: Job) -> None:
    async def main() -> Stop:
        stop, case = Stop(), case_of(job)
        calls = limited(FakeBedrock(), job, stop=stop)
        calls._lane(job)._on_hopeless(CallError(FailureCode.NETWORK, "no route to host", hint="check"), 190.0, 31)
        with pytest.raises(StoppedError):
            await calls.room(case)
        return stop

    reason = asyncio.run(main()).reason
    assert reason is not None
    assert reason.exit_code is ExitCode.STOPPED
    assert reason.message == (
        f"no call to {job.model} in us-east-1 has succeeded for 3 minutes: 31 attempts failed, the last with network: "
        "no route to host"
    )
    assert reason.hint == ("check; rows so far are kept: when the service answers again, run the same command again")


def test_output_of_a_model_burns_down_as_the_table_says(job: Job) -> None:
    paced = replace(job, model="anthropic.claude-opus-4-8", rate=Rate(tokens_per_minute=16_000))

    async def main() -> str:
        case = case_of(paced)
        calls = limited(FakeBedrock(), paced, stop=Stop())
        async with calls.admit(case, case.request.messages) as slot:
            slot.settle(replace(REPLY, usage=Usage(output_tokens=1024)))
        try:
            async with asyncio.timeout(0.05), calls.admit(case, case.request.messages):
                return "at once"
        except TimeoutError:
            return "waits"  # 15 times 1,024 are taken, which leaves no room for another 1,024

    assert asyncio.run(main()) == "waits"


def test_without_a_number_as_many_are_in_flight_as_files_may_be_open() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        raised = most_in_flight()
        assert raised == 4000 if hard < 0 or hard >= 5000 else 1 <= raised < hard - 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_files_that_are_open_already_leave_fewer_connections() -> None:
    code = (
        "import os, resource; from runner.calling.calls import most_in_flight;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400)); before = most_in_flight();"
        "held = [os.dup(0) for _ in range(100)]; print(before - most_in_flight())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 150, "a job with two files may come to need a third"
