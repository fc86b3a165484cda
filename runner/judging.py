"""A reply -> its verdicts. What a model must judge is asked as any call is: in turn, tried again, kept in the row."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from runner import assertions, estimate, questions
from runner.assertions import Answer, UnjudgedError
from runner.errors import CallError, FailureCode, StoppedError
from runner.records import JudgementRecord, Usage, error_record, usage_record
from runner.retry import call_with_retries
from runner.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from runner.answer import Calls
    from runner.models import Models
    from runner.questions import Question
    from runner.records import Assertion, AttemptRecord, Case, Reply, Row, VerdictRecord


class Judge:
    """Judges replies. `where` gives the region and the endpoint that a case's calls go to."""

    def __init__(
        self,
        *,
        calls: Calls,
        where: Callable[[Case], tuple[str, str]],
        models: Models,
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._calls = calls
        self._where = where
        self._models = models
        self._sleep = sleep

    def unasked(self, case: Case, row: Row) -> list[Question]:
        """What must be asked about a reply before it can be judged."""
        return unasked(case, row, local=self._where(case)[1] == "local")

    async def judge(self, case: Case, row: Row, *, calling: bool = True) -> Row:
        """The row with the case's verdicts, after the calls that these take. When the run stops before an answer has
        come the row is in error; the next run goes on with its reply. Not `calling`, what has not been asked is an
        error too.
        """
        asked = self.unasked(case, row) if calling else []
        if asked:
            made = await _all(self._ask(case, question) for question in asked)
            keys = {judgement["key"] for judgement in made}
            kept = [judgement for judgement in row["judgements"] if judgement["key"] not in keys]
            row = {**row, "judgements": [*kept, *made]}
        if any(assertion.type == "python" for assertion in assertions.flat(case.assertions)):
            try:  # whatever it does, the calls of others go on
                return await in_daemon_thread(partial(evaluated, case, row))
            except asyncio.CancelledError:
                return unjudged(row)
        return evaluated(case, row)

    async def _ask(self, case: Case, question: Question) -> JudgementRecord:
        attempts: list[AttemptRecord] = []
        replies: list[Reply] = []
        found, error = None, None
        try:
            for call in question.cases:
                replies += [await self._call(call, attempts)]
            found = questions.finding(question.assertion, [reply.text for reply in replies])
        except CallError as failed:
            error = failed
        except UnjudgedError as failed:
            error = CallError(FailureCode.ASSERTION, failed.message, hint=failed.hint)
        except (StoppedError, asyncio.CancelledError):
            error = CallError(FailureCode.STOPPED, "the run was stopped before it was judged")
        usages = [reply.usage for reply in replies if reply.usage is not None]
        costs = [self._models.cost(question.model, reply.usage) for reply in replies]
        return JudgementRecord(
            type=question.assertion.type,
            key=question.key,
            model=question.model,
            endpoint=self._where(case)[1],
            score=found.score if found else None,
            passed=found.passed if found else None,
            reason=found.reason if found else None,
            usage=usage_record(sum(usages, Usage())) if usages else None,
            cost_usd=None if None in costs else round(sum(cost for cost in costs if cost is not None), 9),
            latency_ms=sum(reply.latency_ms for reply in replies),
            attempts=attempts,
            error=error_record(error) if error else None,
        )

    async def _call(self, case: Case, attempts: list[AttemptRecord]) -> Reply:
        messages = case.request.messages
        return await call_with_retries(
            partial(self._calls.call, case, messages, on_text=None),
            admit=partial(self._calls.admit, case, messages, follows=True),
            settings=case.job.retry,
            attempts=attempts,
            sleep=self._sleep,
        )


def unasked(case: Case, row: Row, *, local: bool) -> list[Question]:
    """What no judgement of a row answers. The word of the local emulator counts in `local` runs only."""
    known = {
        judgement["key"]
        for judgement in row["judgements"]
        if judgement["error"] is None and (local or judgement["endpoint"] != "local")
    }
    asked = questions.questions(case, row["output"] or "")
    return [question for question in asked if question.key not in known]


async def _all(asking: Iterable[Coroutine[Any, Any, JudgementRecord]]) -> list[JudgementRecord]:
    """What comes of all of them. If this is cancelled so are they, and each says what became of it."""
    tasks = [asyncio.create_task(each) for each in asking]
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return [task.result() for task in tasks]


def unjudged(row: Row) -> Row:
    """A row whose reply has come, as it is until its assertions are evaluated."""
    error = CallError(FailureCode.STOPPED, "the run was stopped before the reply was judged")
    return {**row, "status": "error", "error": error_record(error)}


def evaluated(case: Case, row: Row) -> Row:
    """A row with the verdicts of the case as it is now; in error if one could not be reached. Nothing is called."""
    assert row["output"] is not None, "only a reply can be judged"
    answer = Answer(
        output=row["output"],
        latency_ms=row["latency_ms"] or 0,
        first_token_ms=row["first_token_ms"],
        cost_usd=row["cost_usd"],
        stop_reason=row["stop_reason"],
        vars=case.vars,
        judgement=_finder(case, row),
    )
    verdicts: list[VerdictRecord] = []
    errors = []
    for assertion in case.assertions:
        try:
            verdicts.append(assertions.evaluate(assertion, answer))
        except UnjudgedError as error:
            told = f"{assertion.name} (line {assertion.place.line}) could not be evaluated: {error.message}"
            errors.append(CallError(error.code, told, hint=error.hint))
    passed = all(verdict["passed"] for verdict in verdicts)
    return {
        **row,
        "status": "error" if errors else "passed" if passed else "failed",
        "assertions": verdicts,
        "error": error_record(errors[0]) if errors else None,
    }


def _finder(case: Case, row: Row) -> Callable[[Assertion], JudgementRecord | None]:
    """Finds what was said about the reply of a row for an assertion."""
    found = {judgement["key"]: judgement for judgement in row["judgements"]}
    return lambda assertion: found.get(questions.key(case.job, assertion, row["output"] or ""))


def worst_case(case: Case) -> Iterator[tuple[str, Usage]]:
    """The model of each call that judging the reply of a case may take, and the most that the call may use."""
    longest = "x" * (case.request.inference.max_tokens * estimate.CHARACTERS_PER_TOKEN)
    return most_used(questions.questions(case, longest))


def most_used(asked: Iterable[Question]) -> Iterator[tuple[str, Usage]]:
    """The model of each call that questions take, and the most that the call may use."""
    for question in asked:
        for call in question.cases:
            yield question.model, estimate.call(call.request, call.request.messages)
