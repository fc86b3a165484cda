"""A reply -> its verdicts. What a model must judge is asked as any call is: in turn, tried again, kept in the row."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from runner import assertions, estimate
from runner.assertions import Answer, UnjudgedError
from runner.bedrock import structured
from runner.calling.retry import call_with_retries
from runner.errors import CallError, FailureCode, StoppedError
from runner.judging import questions
from runner.records import JudgementRecord, Usage, error_record, usage_record
from runner.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence

    from runner.judging.questions import Question
    from runner.models import Models
    from runner.records import Assertion, AttemptRecord, Case, ErrorRecord, Reply, Row, VerdictRecord
    from runner.running.answer import Calls, Watcher


class Judge:
    """Judges replies. `where` gives the region and the endpoint that a case's calls go to; `save` keeps a row that is
    not yet whole, for the case that this process is killed, and says whether it could.
    """

    def __init__(  # noqa: PLR0913 - what it works with, by name
        self,
        *,
        calls: Calls,
        where: Callable[[Case], tuple[str, str]],
        models: Models,
        watcher: Watcher,
        sleep: Callable[[float], Awaitable[None]],
        save: Callable[[Row], bool],
    ) -> None:
        self._watcher = watcher
        self._save = save
        self._calls = calls
        self._where = where
        self._models = models
        self._sleep = sleep

    def unasked(self, case: Case, row: Row) -> list[Question]:
        """What must be asked about a reply before it can be judged."""
        return unasked(case, row, local=self._where(case)[1] == "local")

    async def judge(self, case: Case, row: Row) -> Row:
        """The row of a reply that has just come, or is kept, with its verdicts, after the calls that these take. When
        the run stops before an answer has come the row is in error; the next run goes on with its reply.
        """
        asked = self.unasked(case, row)
        if (asked or _runs_code(case)) and not self._save(unjudged(row)):
            return unjudged(row)  # nobody should be paid for judging a reply that can't be kept
        made = await _all(
            [self._ask(case, question) for question in asked],
            so_far=lambda judgements: self._save(unjudged(_with(row, judgements))),
        )
        return await self.evaluate(case, _with(row, made) if made else row)

    async def evaluate(self, case: Case, row: Row) -> Row:
        """The row with the verdicts of the case as it is now. What has not been asked is an error."""
        if not case.assertions or not _runs_code(case):
            return evaluated(case, row)
        try:  # whatever it does, the calls of others go on
            return await in_daemon_thread(partial(evaluated, case, row))
        except asyncio.CancelledError:
            return unjudged(row)

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
            current=True,
        )

    async def _call(self, case: Case, attempts: list[AttemptRecord]) -> Reply:
        messages = case.request.messages
        return await call_with_retries(
            partial(self._calls.call, case, messages, on_text=None),
            admit=partial(self._calls.admit, case, messages, follows=True),
            settings=case.job.retry,
            attempts=attempts,
            sleep=self._sleep,
            on_retry=partial(self._watcher.retrying, case),
        )


def _runs_code(case: Case) -> bool:
    return any(assertion.type == "python" for assertion in assertions.flat(case.assertions))


def unasked(case: Case, row: Row, *, local: bool) -> list[Question]:
    """What no judgement of a row answers. The word of the local emulator counts in `local` runs only."""
    if not case.assertions:
        return []
    known = {
        judgement["key"]
        for judgement in row["judgements"]
        if judgement["error"] is None and (local or judgement["endpoint"] != "local")
    }
    asked = questions.questions(case, row["output"] or "")
    return [question for question in asked if question.key not in known]


def _with(row: Row, judgements: Sequence[JudgementRecord]) -> Row:
    """A row to which judgements are added; those that asked the same give way."""
    keys = {judgement["key"] for judgement in judgements}
    kept = [judgement for judgement in row["judgements"] if judgement["key"] not in keys]
    return {**row, "judgements": [*kept, *judgements]}


async def _all(
    asking: Sequence[Coroutine[Any, Any, JudgementRecord]], *, so_far: Callable[[list[JudgementRecord]], object]
) -> list[JudgementRecord]:
    """What comes of all of them; `so_far` hears of some while others are awaited. If this is cancelled so are they, and
    each says what became of it.
    """
    tasks = [asyncio.create_task(each) for each in asking]
    pending = set(tasks)
    try:
        while pending:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if pending:
                so_far([task.result() for task in tasks if task.done()])
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
    if not case.assertions:
        judgements = _marked(case, row)
        return {**row, "status": "passed", "assertions": [], "error": None, "judgements": judgements, "parsed": None}
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
    errors: list[ErrorRecord] = []
    parsed: Any = None
    for assertion in case.assertions:
        try:
            verdict, value = assertions.evaluate_and_parse(assertion, answer)
        except UnjudgedError as error:
            errors.append(_error_of(assertion, error))
        else:
            verdicts.append(verdict)
            parsed = value if assertion.type == structured.ASSERTION else parsed
    passed = all(verdict["passed"] for verdict in verdicts)
    return {
        **row,
        "status": "error" if errors else "passed" if passed else "failed",
        "assertions": verdicts,
        "error": errors[0] if errors else None,
        "judgements": _marked(case, row),
        "parsed": parsed,
    }


def _error_of(assertion: Assertion, error: UnjudgedError) -> ErrorRecord:
    told = f"{assertion.name} (line {assertion.place.line}) could not be evaluated: {error.message}"
    if error.call is not None:
        return {**error.call, "message": told}
    return error_record(CallError(error.code, told, hint=error.hint))


def _marked(case: Case, row: Row) -> list[JudgementRecord]:
    """The judgements of a row, with which of them the case asks for as it is now."""
    if not row["judgements"]:
        return []
    wanted = {question.key for question in questions.questions(case, row["output"] or "")}
    return [{**judgement, "current": judgement["key"] in wanted} for judgement in row["judgements"]]


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
            yield question.model, estimate.call(call.request, call.request.messages, model=question.model)
