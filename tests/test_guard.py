"""What stops a run: budgets that count what is under way at its worst, failures, and that nothing succeeds."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_rows import ATTEMPT, REPLY, made_row

from runner import models
from runner.cases.loading import load
from runner.cases.plan import CaseList
from runner.cases.rendering import Renderer
from runner.errors import ExitCode, StoppedError
from runner.records import Case, Made, Row
from runner.running.guard import HOPELESS_ERRORS, Budget, Guard
from runner.stop import Stop

COST = 0.015  # USD, of a thousand tokens of output; the question adds next to nothing


@pytest.fixture
def case(write_job: Any) -> Case:
    (cases,) = load([write_job("name: j\ninference: {max_tokens: 1000}\nprompt: x\nmax_cost: 0.05")])
    (made,) = map(Renderer(cases.job).case, CaseList(cases.job))
    return made


def row(status: str = "passed", *, cost: float | None = 0.001, code: str | None = None, billed: int = 0) -> Row:
    attempts = [{"code": code, "possibly_billed": False}, *[{"code": "timeout", "possibly_billed": True}] * billed]
    error = {"code": code, "message": "no", "hint": None} if status == "error" else None
    replies = [] if error else [REPLY]
    output = None if error else "reply"
    return made_row(status, cost_usd=cost, attempts=attempts, error=error, replies=replies, output=output)


class Calls:
    """Cases in progress, each of which is given its row by the test."""

    def __init__(self) -> None:
        self.pending: list[asyncio.Future[Row]] = []

    async def answer(self) -> Row:
        self.pending.append(asyncio.get_running_loop().create_future())
        return await self.pending[-1]

    async def end(self, made: Row | BaseException) -> None:
        future = self.pending.pop(0)
        if isinstance(made, BaseException):
            future.set_exception(made)
        else:
            future.set_result(made)
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def guard(stop: Stop, **bounds: Any) -> Guard:
    given: dict[str, Any] = {"max_cost": None, "max_cost_of_jobs": {}, "max_failures": None} | bounds
    return Guard(stop, models=models.load(), **given)


async def begin(watch: Guard, calls: Calls, case: Case, tasks: list[asyncio.Task[Row]]) -> None:
    """Begin another case like this one."""
    another = replace(case, index=len(tasks))
    await watch.admit(another)
    tasks.append(asyncio.ensure_future(watch.answer(another, calls.answer)))
    await settled()


@pytest.mark.parametrize("bounds", [{"max_cost": 0.05}, {"max_cost_of_jobs": {"j": 0.05}}], ids=["run", "job"])
def test_what_is_under_way_counts_at_its_worst_and_then_at_what_it_cost(bounds: dict[str, Any], case: Case) -> None:
    async def main() -> None:
        stop, calls, tasks = Stop(), Calls(), list[asyncio.Task[Row]]()
        watch = guard(stop, **bounds)
        for _ in range(3):  # 0.045 at worst
            await begin(watch, calls, case, tasks)
        fourth = asyncio.ensure_future(begin(watch, calls, case, tasks))
        await settled()
        assert len(calls.pending) == 3
        await calls.end(row(cost=0.001))
        assert len(calls.pending) == 3, "what the first did not cost is room for a fourth"
        await fourth
        for _ in range(3):
            await calls.end(row(cost=0.0149))
        with pytest.raises(StoppedError):
            await watch.admit(replace(case, index=99))
        assert stop.reason is not None
        assert stop.reason.exit_code is ExitCode.STOPPED
        assert "the budget is spent: $0.0457 of $0.0500" in stop.reason.message
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_an_attempt_that_may_be_on_the_bill_counts_as_if_it_were(case: Case) -> None:
    async def main() -> None:
        stop, calls, tasks = Stop(), Calls(), list[asyncio.Task[Row]]()
        watch = guard(stop, max_cost=0.05)
        await begin(watch, calls, case, tasks)
        await calls.end(row(cost=0.01, billed=2))
        with pytest.raises(StoppedError):
            await watch.admit(replace(case, index=99))
        await asyncio.gather(*tasks)

    asyncio.run(main())


def test_a_case_that_has_no_row_gives_back_what_was_held_for_it(case: Case) -> None:
    async def main() -> None:
        stop, calls, tasks = Stop(), Calls(), list[asyncio.Task[Row]]()
        watch = guard(stop, max_cost=0.016)
        await begin(watch, calls, case, tasks)
        await calls.end(StoppedError())
        await watch.admit(replace(case, index=99))
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())


def test_failures_count_whatever_their_kind(case: Case) -> None:
    assert reason([row("failed"), row("error", code="invalid")], case, max_failures=3) is None
    assert reason([row("failed")] * 3, case, max_failures=3) == "3 cases failed (--max-failures 3)"


def test_a_run_in_which_nothing_succeeds_any_more_stops(case: Case) -> None:
    wrong = row("error", code="invalid")
    assert reason([row(), *[wrong] * (HOPELESS_ERRORS - 1), row(), *[wrong] * (HOPELESS_ERRORS - 1)], case) is None
    told = reason([row(), *[wrong] * HOPELESS_ERRORS], case)
    assert told == f"{HOPELESS_ERRORS} cases in a row failed, the last with invalid: no"


def test_cases_of_which_no_request_could_be_made_say_nothing_about_calls(case: Case) -> None:
    unasked: Row = {**row("error", code="input"), "attempts": []}
    assert reason([unasked] * 2 * HOPELESS_ERRORS, case) is None
    assert reason([unasked, row("error", code="network")], case) == "no"


def test_a_repair_that_failed_in_an_earlier_run_is_no_failure_of_this_one() -> None:
    attempts = [ATTEMPT, {**ATTEMPT, "code": "invalid"}]
    earlier = made_row("error", attempts=attempts)
    assert not Made(made_row("error", attempts=attempts), earlier).call_failed
    assert Made(made_row("error", attempts=[*attempts, attempts[1]]), earlier).call_failed
    assert Made(earlier).call_failed


def test_without_any_connection_the_first_failure_stops_the_run(case: Case) -> None:
    assert reason([row("error", code="network")], case) == "no"
    assert reason([row(), row("error", code="network")], case) is None


def reason(rows: list[Row], case: Case, **bounds: Any) -> str | None:
    """Why the run stops when its cases come to this, one after another."""

    async def main() -> str | None:
        stop, given = Stop(), iter(rows)

        async def answer() -> Row:
            return next(given)

        watch = guard(stop, **bounds)
        for _ in rows:
            await watch.answer(case, answer)
        return stop.reason.message if stop.reason else None

    return asyncio.run(main())


@pytest.mark.parametrize(
    "more", ["", "response_schema: {type: object}\nresponse_repair: true"], ids=["plain", "schema"]
)
def test_a_kept_case_that_only_lacks_its_sidecar_needs_no_money(
    more: str, bedrock_run: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.in").write_text("a")
    cases = 'cases: {glob: "*.in"}\nsidecar: "{{ file.stem }}.out"'
    job = write_job(f'model: amazon.nova-lite-v1:0\nprompt: "{{{{ file.name }}}}"\n{cases}\n{more}')
    assert bedrock_run("--local", job).returncode == 0
    (tmp_path / "a.out").unlink()
    done = bedrock_run("--local", "--max-cost", "0.000000001", job)
    assert done.returncode == 0, done.stderr
    assert "nothing was called" in done.stderr
    assert (tmp_path / "a.out").exists()


def test_what_costs_nothing_has_room_in_a_budget_that_is_spent() -> None:
    budget = Budget(1.0, "--max-cost")
    budget.spent = 1.1
    assert budget.has_room_for(0)
    assert not budget.has_room_for(0.001)
