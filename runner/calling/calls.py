"""Bedrock's calls within the limits of a run: so many at once, at the pace of the quotas, none once it is stopping."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from runner import estimate, models, open_files
from runner.calling.limits import Lane, Places
from runner.calling.pacing import FIRST_LIMIT, Pacer
from runner.errors import CallError, ExitCode
from runner.records import Rate, exchanges
from runner.stop import StopReason, account_stop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runner.bedrock.client import Bedrock
    from runner.calling.limits import Turn
    from runner.records import Case, Job, Message, Reply
    from runner.stop import Stop

_MOST_IN_FLIGHT = 4000  # where the user gives no number and the system allows more
_OTHER_FILES = 100  # files that are opened beside connections


class LimitedCalls:
    """The calls of a run, at most `in_flight` of them at once; None for as many as prove useful.

    Jobs that call the same model in the same region share its quotas, as they do at AWS. The engine asks for `room`
    before it begins a case and tells when it has `left`. Made and used within a running event loop.
    """

    def __init__(
        self,
        bedrock: Bedrock,
        jobs: Iterable[Job],
        *,
        in_flight: int | None,
        stop: Stop,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._bedrock = bedrock
        self._stop = stop
        self._uniform = uniform
        self._chosen = in_flight
        self._places = Places(most_in_flight() if in_flight is None else in_flight)
        self._jobs: dict[_Key, list[Job]] = {}
        for job in jobs:
            self._jobs.setdefault(self._key(job), []).append(job)
        self._lanes: dict[_Key, Lane] = {}
        stop.when_requested(self._close)

    async def room(self, case: Case) -> None:
        """Wait until `case` should begin: when few others wait for their turn. StoppedError if the run is stopping."""
        self._stop.check()
        await self._lane(case.job).room()

    def left(self, case: Case) -> None:
        """A case that had found `room` is over, whatever came of it."""
        self._lane(case.job).left()

    def admit(self, case: Case, messages: Sequence[Message], *, follows: bool = False) -> Turn:
        """The turns of a call: entered for each attempt, they wait for one and hold it. Entering raises StoppedError
        if the run is stopping. `follows`: it is about the reply of an earlier call.
        """
        lane = self._lane(case.job)
        return lane.turn(
            reserved=_reservation(case, messages) if lane.counts_tokens else 0,
            begun=follows or len(messages) > len(next(exchanges(case.request))),
        )

    async def call(
        self, case: Case, messages: Sequence[Message], attempt: int, *, on_text: Callable[[str], None] | None
    ) -> Reply:
        """Make one attempt: the model's whole reply, or CallError; StoppedError if the run is stopping."""
        self._stop.check()
        try:
            return await self._bedrock.call(
                case, messages, attempt=attempt, max_attempts=case.job.retry.max_attempts, on_text=on_text
            )
        except CallError as error:
            if error.code.concerns_account:  # at once, before another case begins
                self._stop.request(account_stop(error, case.job))
            raise

    def _key(self, job: Job) -> _Key:
        return job.model, self._bedrock.region_for(job.region)

    def _lane(self, job: Job) -> Lane:
        key = self._key(job)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = self._new_lane(key, self._jobs.get(key, [job]))
        return lane

    def _new_lane(self, key: _Key, jobs: Sequence[Job]) -> Lane:
        rate = Rate(
            requests_per_minute=_least(job.rate.requests_per_minute for job in jobs),
            tokens_per_minute=_least(job.rate.tokens_per_minute for job in jobs),
        )
        facts = models.load().find(key[0])
        return Lane(
            places=self._places,
            pacer=Pacer(
                limit=min(FIRST_LIMIT, self._places.count) if self._chosen is None else self._chosen,
                ceiling=self._places.count,
                eager=self._chosen is not None,
                uniform=self._uniform,
            ),
            rate=rate,
            burndown=1 if facts is None else facts.burndown,
            loop=asyncio.get_running_loop(),
            on_hopeless=partial(self._give_up, key),
        )

    def _close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    def _give_up(self, key: _Key, error: CallError, seconds: float, attempts: int) -> None:
        model, region = key
        again = "rows so far are kept: when the service answers again, run the same command again"
        self._stop.request(
            StopReason(
                exit_code=ExitCode.STOPPED,
                message=f"no call to {model} in {region} has succeeded for {seconds / 60:.0f} minutes: {attempts} "
                f"attempts failed, the last with {error.code.value}: {error.message}",
                hint=f"{error.hint}; {again}" if error.hint else again,
            )
        )


_Key = tuple[str, str]  # model and region: what a quota is for


def most_in_flight() -> int:
    """How many connections this process may open. Raises its soft limit of open files as far as the system allows."""
    others = _OTHER_FILES + open_files.count() // 2  # a job has two row files open, and may come to need a third
    return max(1, open_files.make_room(_MOST_IN_FLIGHT + others) - others)


def _least(quotas: Iterable[float | None]) -> float | None:
    return min((quota for quota in quotas if quota is not None), default=None)


def _reservation(case: Case, messages: Sequence[Message]) -> int:
    """The tokens that Bedrock sets aside when the call starts: its input and max_tokens."""
    usage = estimate.call(case.request, messages, model=case.job.model)
    return usage.input_tokens + usage.output_tokens
