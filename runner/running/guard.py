"""What ends a run early: a budget, too many failures, a run in which nothing succeeds, no connection at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import console
from runner.errors import CallError, ExitCode, FailureCode, Problem, UsageError
from runner.jobs.job import jobs_of
from runner.judging.questions import judging_jobs
from runner.records import Made
from runner.running import worst_case
from runner.stop import StopReason
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from runner.calling.calls import LimitedCalls
    from runner.calling.limits import Slot, Turn
    from runner.models import Models
    from runner.records import Case, Job, Message, Row, Usage
    from runner.stop import Stop

HOPELESS_ERRORS = 100  # cases in a row whose calls failed, with none between them that succeeded


class Budget:
    """USD that may be spent. What is under way is held at the most that it may cost, until it is known."""

    def __init__(self, limit: float, name: str) -> None:
        self.limit = limit
        self.name = name
        self.spent = 0.0
        self.held = 0.0
        self.holders = 0  # cases
        self.stuck = 0  # of them, those that wait for more before they can end

    def has_room_for(self, cost: float) -> bool:
        return not cost or self.spent + self.held + cost <= self.limit  # replies may have cost more than was estimated

    def hold(self, amount: float) -> None:
        self.held += amount
        self.holders += 1

    def release(self, amount: float) -> None:
        self.holders -= 1
        self.held = self.held - amount if self.holders else 0.0  # without what rounding leaves


@dataclass(slots=True)
class _Hold:
    """What a case that has begun takes of its budgets, in USD."""

    worst: list[float]  # that each of its calls may cost; none where only the sidecar of a kept case is missing
    amount: float | None = None  # held for the calls to come; None while it waits for room
    lost: float = 0.0  # counted as spent for attempts that may be on the bill without a reply
    waiting: int = 0  # calls of it that wait for room

    @property
    def worst_call(self) -> float:
        """The most that one of its calls may cost."""
        return max(self.worst, default=0.0)


class Guard:
    """Watches what begins and what comes of it, and stops the run when it must not go on."""

    def __init__(
        self,
        stop: Stop,
        *,
        models: Models,
        max_cost: float | None,
        max_cost_of_jobs: Mapping[str, float],
        max_failures: int | None,
    ) -> None:
        """`max_cost` is for the whole run, `max_cost_of_jobs` by name of the job; both in USD."""
        self._stop = stop
        self._models = models
        self._budget_of_run = [] if max_cost is None else [Budget(max_cost, "--max-cost")]
        self._budgets_of_jobs = {
            name: [Budget(limit, f"max_cost of {name}")] for name, limit in max_cost_of_jobs.items()
        }
        self._max_failures = max_failures
        self._holds: dict[tuple[str, int, int], _Hold] = {}  # by name of the job, index and repeat
        self._freed = asyncio.Event()
        stop.when_requested(self._freed.set)
        self._failed = 0
        self._errors_in_a_row = 0
        self._connected = False  # whether any connection could ever be made

    async def admit(self, case: Case, *, calls: Iterable[tuple[str, Usage]] | None = None) -> None:
        """Wait until the case can be paid for, whatever it and what is under way may cost. StoppedError if it never
        can. `calls`: those that it still takes, as `worst_case.of_kept` tells them; all that a new case takes if None.
        """
        if self._budgets(case):
            worst = self._costs(worst_case.of_new(case) if calls is None else calls)
            await self._hold(case, self._holds.setdefault(_name(case), _Hold(worst)))

    async def admit_again(self, case: Case) -> None:
        """Wait until a case that was admitted can be paid for once more, as an attempt of it may be on the bill."""
        hold = self._holds.get(_name(case))
        if hold is None:
            return
        lost, budgets = hold.worst_call, self._budgets(case)
        self._count_stuck(hold, budgets, 1)
        try:
            await self._room(budgets, lost)
        finally:
            self._count_stuck(hold, budgets, -1)
        hold.lost += lost
        for budget in budgets:
            budget.spent += lost

    async def answer(self, case: Case, answer: Callable[[], Awaitable[Row]], *, earlier: Row | None = None) -> Row:
        """The row of a case that was admitted, which `answer` makes; `earlier` is what it had of replies before."""
        made = None
        try:
            row = await answer()
            made = Made(row, earlier)
        finally:
            self._settle(case, made)
        for reason in self._reasons_to_stop(made):
            self._stop.request(reason)
        return row

    async def _hold(self, case: Case, hold: _Hold) -> None:
        """Hold the most that a case may cost, when there is room for it."""
        budgets, cost = self._budgets(case), sum(hold.worst)
        await self._room(budgets, cost)
        for budget in budgets:
            budget.hold(cost)
        hold.amount = cost

    async def _room(self, budgets: Sequence[Budget], cost: float) -> None:
        """Wait until the budgets have room for `cost`. StoppedError where no case is left that could make some."""
        while lacking := [budget for budget in budgets if not budget.has_room_for(cost)]:
            if any(budget.holders == budget.stuck for budget in lacking):
                self._stop.request(_no_room(lacking[0], cost))
            self._stop.check()
            self._freed.clear()
            await self._freed.wait()

    def _count_stuck(self, hold: _Hold, budgets: Sequence[Budget], change: int) -> None:
        """A case may have several calls that wait; it counts once."""
        before, hold.waiting = hold.waiting, hold.waiting + change
        for budget in budgets:
            budget.stuck += bool(hold.waiting) - bool(before)

    def _release(self, case: Case, hold: _Hold, *, spent: float) -> None:
        for budget in self._budgets(case):
            if hold.amount is not None:
                budget.release(hold.amount)
            budget.spent += spent
        hold.amount = None
        self._freed.set()

    def _budgets(self, case: Case) -> Sequence[Budget]:
        return (*self._budget_of_run, *self._budgets_of_jobs.get(case.job.name, ())) if case.fault is None else ()

    def _costs(self, calls: Iterable[tuple[str, Usage]]) -> list[float]:
        """What each call costs, in USD."""
        costs = [self._models.cost(model, usage) for model, usage in calls]
        assert None not in costs  # a run with a budget begins only where all prices are known
        return [cost for cost in costs if cost is not None]

    def _settle(self, case: Case, made: Made | None) -> None:
        hold = self._holds.pop(_name(case), None)
        if hold is None:
            return
        lost = sum(attempt["possibly_billed"] for attempt in made.attempts) if made else 0
        cost = sum(paid.cost_usd or 0.0 for paid in made.paid) if made else 0.0
        self._release(case, hold, spent=cost + lost * hold.worst_call - hold.lost)

    def _reasons_to_stop(self, made: Made) -> Iterator[StopReason]:
        row = made.row
        error = row["error"] if made.call_failed else None
        self._failed += row["status"] != "passed"
        if self._max_failures is not None and self._failed >= self._max_failures:
            yield _early(f"{plural(self._failed, 'case')} failed (--max-failures {self._max_failures})")
        if not made.attempts:  # nothing was sent, which says nothing about what is
            return
        self._connected |= any(attempt["code"] != FailureCode.NETWORK for attempt in made.attempts)
        self._errors_in_a_row = 0 if error is None else self._errors_in_a_row + 1
        if error is not None and not self._connected:
            yield _early(error["message"], hint=error["hint"])
        elif error is not None and self._errors_in_a_row >= HOPELESS_ERRORS:
            yield _early(
                f"{self._errors_in_a_row} cases in a row failed, the last with {error['code']}: {error['message']}",
                hint=error["hint"] or "mend the cause, then run the same command again: what was answered is kept",
            )


def check_budgets(jobs: Sequence[Job], *, max_cost: float | None, known: Models) -> None:
    """A budget can't be held for a model whose price is not known; better to say so than to run on."""
    unpriced = [
        Problem(
            f"no price is known for model {model}, so the budget can't be held",
            job.model_place,
            hint="give its price with --prices FILE, or run without --max-cost and max_cost",
        )
        for job in jobs
        for model in dict.fromkeys(each.model for each in (*jobs_of(job), *judging_jobs(job)))
        if (max_cost is not None or job.max_cost is not None) and known.find(model) is None
    ]
    if unpriced:
        raise UsageError(*unpriced)


class GuardedCalls:
    """Calls within a budget: after an attempt that may be on the bill, the next one waits for money too."""

    def __init__(self, calls: LimitedCalls, guard: Guard) -> None:
        self._admit = calls.admit
        self._guard = guard
        self.call = calls.call

    def admit(self, case: Case, messages: Sequence[Message], *, follows: bool = False) -> _GuardedTurn:
        """The turns of a call, entered for each attempt."""
        return _GuardedTurn(self._admit(case, messages, follows=follows), self._guard, case)


class _GuardedTurn:
    def __init__(self, turn: Turn, guard: Guard, case: Case) -> None:
        self._turn = turn
        self._guard = guard
        self._case = case
        self._may_be_billed = False  # the attempt before

    async def __aenter__(self) -> Slot:
        if self._may_be_billed:
            await self._guard.admit_again(self._case)
        return await self._turn.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._turn.__aexit__(kind, error, trace)
        self._may_be_billed = isinstance(error, CallError) and error.possibly_billed


def _name(case: Case) -> tuple[str, int, int]:
    return case.job.name, case.index, case.repeat


def _no_room(budget: Budget, cost: float) -> StopReason:
    limit, most = f"{console.money(budget.limit)} ({budget.name})", f"which may cost up to {console.money(cost)}"
    return StopReason(
        exit_code=ExitCode.STOPPED,
        message=f"the budget is spent: {console.money(budget.spent)} of {limit} leave nothing for the next case, {most}"
        if budget.spent
        else f"the budget of {limit} is too small for a case, {most}",
        hint="raise it and run the same command again; a lower max_tokens makes the most that a case may cost less",
    )


def _early(message: str, hint: str | None = None) -> StopReason:
    return StopReason(exit_code=ExitCode.STOPPED, message=message, hint=hint, moot_when_done=True)
