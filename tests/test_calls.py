"""The limits of a run: what is shared, what is reserved, what a stop does. The calls themselves are stand-ins."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from runner import cases
from runner.bedrock import Bedrock
from runner.calls import LimitedCalls
from runner.errors import CallError, FailureCode, StoppedError
from runner.records import Case, Job, Rate, Reply
from runner.stop import Stop

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
    (case,) = cases.Renderer(job).cases(cases.EVERYTHING)
    return case


@pytest.fixture
def job(write_job: Any) -> Job:
    path: Path = write_job("system: be brief and kind\nprompt: hello there")
    ((job,), _) = cases.load([path])
    return job


def limited(bedrock: FakeBedrock, *jobs: Job, stop: Stop, in_flight: int = 8) -> LimitedCalls:
    return LimitedCalls(cast("Bedrock", bedrock), jobs, in_flight=in_flight, stop=stop)


def test_jobs_of_one_model_and_region_share_its_quota(job: Job) -> None:
    slow = replace(job, rate=Rate(requests_per_minute=60))
    elsewhere = replace(slow, region="eu-west-1")

    async def main() -> list[str]:
        stop = Stop()
        waits: list[float] = []

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            raise StoppedError

        stop.sleep = sleep  # type: ignore[method-assign]
        calls = limited(FakeBedrock(), job, slow, elsewhere, stop=stop)
        outcomes = []
        for which in (slow, job, elsewhere):
            case = case_of(which)
            try:
                async with calls.admit(case, case.request.messages):
                    outcomes.append("at once")
            except StoppedError:
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
