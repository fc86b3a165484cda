"""A reply that does not hold to the job's `response_schema` -> one more turn: what was wrong, and the JSON alone."""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial
from typing import TYPE_CHECKING

from runner import assertions
from runner.assertions import Answer, UnjudgedError
from runner.bedrock import structured
from runner.calling.retry import call_with_retries
from runner.errors import CallError, FailureCode, StoppedError
from runner.records import (
    Message,
    error_record,
    exchanges,
    reply_record,
    usage_of,
    usage_record,
)
from runner.times import now, timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from runner.models import Models
    from runner.records import AttemptRecord, Case, Reply, Row, VerdictRecord
    from runner.running.answer import Calls, Watcher


def breach(case: Case, row: Row) -> VerdictRecord | None:
    """The verdict for which the last reply of a row is to be repaired; None where it holds, and where that is not
    wanted, was done before, or would end as the reply did: cut at max_tokens, or refused.
    """
    wanted, output = case.request.response_schema, row["output"] or ""
    if wanted is None or not wanted.repair or not output.strip():
        return None
    answer = Answer(output=output, stop_reason=row["stop_reason"])
    if len(row["replies"]) > len(list(exchanges(case.request))) or assertions.ended_early(answer):
        return None
    try:
        verdict = assertions.evaluate(structured.assertion(wanted), answer)
    except UnjudgedError:  # which the row will tell
        return None
    return None if verdict["passed"] else verdict


class Repairer:
    """Has replies repaired. `save` keeps a row that is not yet whole, for the case that this process is killed, and
    says whether it could.
    """

    def __init__(
        self,
        *,
        calls: Calls,
        models: Models,
        watcher: Watcher,
        sleep: Callable[[float], Awaitable[None]],
        save: Callable[[Row], bool],
    ) -> None:
        self._calls = calls
        self._models = models
        self._watcher = watcher
        self._sleep = sleep
        self._save = save

    async def repair(self, case: Case, row: Row) -> Row:
        """The row of a reply that has just come, or is kept, with one more reply if it needs one. It is in error if
        that did not come, with the verdict on the reply that did; the next run goes on with it.
        """
        wrong = breach(case, row)
        if wrong is None:
            return row
        row = {**row, "assertions": [wrong]}
        asked = structured.repair_turn(wrong["actual"] or "")
        stopped = _in_error(row, CallError(FailureCode.STOPPED, "the run was stopped before the reply was repaired"))
        if not self._save(stopped):
            return stopped  # nobody should be paid for repairing a reply that can't be kept
        attempts: list[AttemptRecord] = []
        try:
            reply = await self._call(case, (*_conversation(case, row), asked), attempts)
        except CallError as error:
            return _with_attempts(_unrepaired(row, error), attempts)
        except (StoppedError, CancelledError):
            return _with_attempts(stopped, attempts)
        self._watcher.replied(case, reply)
        return _with_attempts(self._with_reply(case, row, reply), attempts)

    async def _call(self, case: Case, messages: Sequence[Message], attempts: list[AttemptRecord]) -> Reply:
        self._watcher.asked(case, messages[-1:])
        on_text = partial(self._watcher.heard, case) if case.job.stream else None
        return await call_with_retries(
            partial(self._calls.call, case, messages, on_text=on_text),
            admit=partial(self._calls.admit, case, messages, follows=True),
            settings=case.job.retry,
            attempts=attempts,
            sleep=self._sleep,
            on_retry=partial(self._watcher.retrying, case),
        )

    def _with_reply(self, case: Case, row: Row, reply: Reply) -> Row:
        usages = [usage_of(row["usage"])] if row["usage"] else []
        usages += [reply.usage] if reply.usage else []
        cost, before = self._models.cost(case.job.model, reply.usage), row["cost_usd"]
        return {
            **row,
            "output": reply.text,
            "replies": [*row["replies"], reply_record(reply)],
            "stop_reason": reply.stop_reason,
            "usage": usage_record(sum(usages[1:], usages[0])) if usages else None,
            "cost_usd": None if cost is None or before is None else round(before + cost, 9),
            "latency_ms": (row["latency_ms"] or 0) + reply.latency_ms,
            "first_token_ms": reply.first_token_ms,
            "finished_at": timestamp(now()),
            "assertions": [],  # those before were of the reply before
        }


def _conversation(case: Case, row: Row) -> Iterator[Message]:
    """What was said, the replies too."""
    for messages, reply in zip(exchanges(case.request), row["replies"], strict=True):
        yield from messages
        yield Message(role="assistant", text=reply["text"])


def _in_error(row: Row, error: CallError) -> Row:
    return {**row, "status": "error", "error": error_record(error)}


def _unrepaired(row: Row, error: CallError) -> Row:
    told = f"the reply could not be repaired: {error.message}; it is kept"
    return {**row, "status": "error", "error": {**error_record(error), "message": told}}


def _with_attempts(row: Row, attempts: list[AttemptRecord]) -> Row:
    return {**row, "attempts": [*row["attempts"], *attempts]}
