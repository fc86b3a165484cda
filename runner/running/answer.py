"""One case -> one row: the conversation, its attempts, its verdicts and its price."""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import dataclass
from functools import partial
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, Protocol

from runner import __version__
from runner.bedrock import structured
from runner.calling.retry import call_with_retries
from runner.errors import CallError, FailureCode, StoppedError
from runner.judging.judge import Judge
from runner.paths import shown
from runner.records import (
    Image,
    Message,
    Row,
    S3Object,
    SourceRecord,
    Usage,
    error_record,
    exchanges,
    reply_of,
    reply_record,
    usage_record,
)
from runner.running import worst_case
from runner.running.repairing import Repairer, breach
from runner.times import now, timestamp

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from runner.calling.limits import Slot
    from runner.calling.retry import RetryNotice
    from runner.errors import Problem
    from runner.models import Models
    from runner.records import AttemptRecord, Case, DiskFile, Reply, Request

ROW_SCHEMA = "bedrock-run/result/1"


class Calls(Protocol):
    """Makes calls, and says when each may begin."""

    def admit(
        self, case: Case, messages: Sequence[Message], *, follows: bool = False
    ) -> AbstractAsyncContextManager[Slot]:
        """Wait for the turn of a call; it is held as long as the context. `follows`: the case has called before."""

    async def call(
        self, case: Case, messages: Sequence[Message], attempt: int, *, on_text: Callable[[str], None] | None
    ) -> Reply:
        """Make one attempt: the model's whole reply, or CallError."""


class Watcher(Protocol):
    """Is told what happens to a case while it happens. Only the console cares."""

    def asked(self, case: Case, messages: Sequence[Message]) -> None:
        """These messages are about to be sent, after those before."""

    def heard(self, case: Case, text: str) -> None:
        """A piece of a streamed reply has come."""

    def replied(self, case: Case, reply: Reply) -> None:
        """A whole reply has come."""

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        """An attempt failed and will be made again; what was heard of it does not count."""


class Answerer:
    """Turns cases into rows by making calls. `where` gives the region and the endpoint that a case goes to; `save`
    keeps a row that is not yet whole, for the case that this process is killed, and says whether it could.
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
        self.judge = Judge(calls=calls, where=where, models=models, watcher=watcher, sleep=sleep, save=save)
        self._repairer = Repairer(calls=calls, models=models, watcher=watcher, sleep=sleep, save=save)
        self._calls = calls
        self._where = where
        self._models = models
        self._watcher = watcher
        self._sleep = sleep
        self._save = save

    async def answer(self, case: Case, *, begun: Row | None = None) -> Row:
        """The row of one case, whatever becomes of it. `begun` is an earlier row with the first replies.

        When the run stops before anything was paid for there is none, and StoppedError or CancelledError goes through:
        so the case stays pending. What concerns the account stops the run. Replies that have come are kept, and
        attempts that may be on the bill.
        """
        if case.fault is not None:
            return self._unasked(case, CallError(FailureCode.INPUT, case.fault.message, hint=case.fault.hint))
        said = _begin(begun)
        error: CallError | None = None
        try:
            await self._converse(case, said)
        except CallError as failed:
            if failed.code.concerns_account and not said.is_paid:
                raise StoppedError from failed
            error = failed
        except (StoppedError, CancelledError):
            if not said.is_paid:
                raise
            error = said.stopped()
        row = self._row(case, said, error=error)
        return row if error else await self.finish(case, row)

    def is_finished(self, case: Case, row: Row) -> bool:
        """Whether the row of a reply can be judged without calls."""
        return breach(case, row) is None and not self.judge.unasked(case, row)

    def worst_case(self, case: Case, row: Row) -> Iterator[tuple[str, Usage]]:
        """The model of each call that the row of a reply still takes, and the most that the call may use."""
        return worst_case.of_kept(case, row, local=self._where(case)[1] == "local")

    async def finish(self, case: Case, row: Row) -> Row:
        """The row of a reply that has just come, or is kept: repaired if it must be, and judged."""
        row = await self._repairer.repair(case, row)
        return row if row["status"] == "error" else await self.judge.judge(case, row)

    async def replay(self, case: Case, *, missing: Problem) -> Row:
        """The row of a case that no earlier row answers, where nothing may be called; `missing` says why."""
        if case.fault is not None:
            return await self.answer(case)
        return self._unasked(case, CallError(FailureCode.NO_ROW, missing.message, hint=missing.hint))

    def _unasked(self, case: Case, error: CallError) -> Row:
        return self._row(case, _begin(None), error=error)

    async def _converse(self, case: Case, said: _Said) -> None:
        history: list[Message] = []
        for number, messages in enumerate(exchanges(case.request)):
            if number:
                history.append(_as_turn(said.replies[number - 1], number=number))
            history.extend(messages)
            self._watcher.asked(case, messages)
            if number == len(said.replies):
                if said.is_paid and not self._save(self._row(case, said, error=said.stopped())):
                    raise StoppedError  # nobody should be paid for going on from a reply that can't be kept
                said.replies.append(await self._call(case, tuple(history), said.attempts))
            self._watcher.replied(case, said.replies[number])

    async def _call(self, case: Case, messages: Sequence[Message], attempts: list[AttemptRecord]) -> Reply:
        on_text = partial(self._watcher.heard, case) if case.job.stream else None
        return await call_with_retries(
            partial(self._calls.call, case, messages, on_text=on_text),
            admit=partial(self._calls.admit, case, messages),
            settings=case.job.retry,
            attempts=attempts,
            sleep=self._sleep,
            on_retry=partial(self._watcher.retrying, case),
        )

    def _row(self, case: Case, said: _Said, *, error: CallError | None) -> Row:
        job, replies = case.job, said.replies
        region, endpoint = self._where(case)
        last = replies[-1] if replies and error is None else None
        latency_ms = sum(reply.latency_ms for reply in replies)
        return Row(
            schema=ROW_SCHEMA,
            job=job.name,
            case=case.id,
            index=case.index,
            repeat=case.repeat,
            key=case.key,
            status="passed" if error is None else "error",  # until its assertions are evaluated
            model=job.model,
            region=region,
            api=job.api,
            stream=job.stream,
            endpoint=endpoint,
            vars=dict(case.vars),
            request=describe_request(case.request),
            output=None if last is None else last.text,
            replies=[reply_record(reply) for reply in replies],
            stop_reason=None if last is None else last.stop_reason,
            usage=usage_record(_total([reply.usage for reply in replies])),
            cost_usd=self._cost(job.model, said),
            latency_ms=latency_ms if replies else None,
            first_token_ms=None if last is None else last.first_token_ms,
            attempts=[*said.attempts],
            assertions=[],
            error=None if error is None else error_record(error),
            started_at=said.started_at,
            finished_at=timestamp(now()),
            version=__version__,
            matrix=None if case.matrix is None else dict(case.matrix),
            tags=sorted(case.tags),
            source=_source(case),
            repeats=job.repeat,
            min_pass=job.min_pass,
            judgements=[],
            parsed=None,
            sidecar=None,
        )

    def _cost(self, model: str, said: _Said) -> float | None:
        costs = [said.begun["cost_usd"]] if said.begun else []  # at the prices of then
        costs += [self._models.cost(model, reply.usage) for reply in said.new_replies]
        known = [cost for cost in costs if cost is not None]
        return round(sum(known), 9) if costs and len(known) == len(costs) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What has come of a conversation so far: the first of it in an earlier run, if that has `begun` it."""

    begun: Row | None
    started_at: str
    replies: list[Reply]
    attempts: list[AttemptRecord]

    @property
    def new_replies(self) -> Sequence[Reply]:
        """Those of this run."""
        return self.replies[len(self.begun["replies"]) if self.begun else 0 :]

    @property
    def is_paid(self) -> bool:
        """Whether this run has got a reply, or made an attempt that may be on the bill."""
        attempts = self.attempts[len(self.begun["attempts"]) if self.begun else 0 :]
        return bool(self.new_replies) or any(attempt["possibly_billed"] for attempt in attempts)

    def stopped(self) -> CallError:
        got = f"after reply {len(self.replies)} of the conversation" if self.replies else "before a reply had come"
        return CallError(FailureCode.STOPPED, f"the run was stopped {got}")


def _begin(begun: Row | None) -> _Said:
    if begun is None:
        return _Said(begun=None, started_at=timestamp(now()), replies=[], attempts=[])
    replies = [reply_of(record) for record in begun["replies"]]
    return _Said(begun=begun, started_at=begun["started_at"], replies=replies, attempts=[*begun["attempts"]])


def adopted(case: Case, row: Row) -> Row:
    """An earlier row as it is for the case now: its place in the job may have changed. It is to be judged anew."""
    return {
        **row,
        "job": case.job.name,
        "case": case.id,
        "index": case.index,
        "repeat": case.repeat,
        "status": "passed",  # until it is
        "error": None,
        "vars": dict(case.vars),
        "request": _as_sent(describe_request(case.request), row["request"]),
        "matrix": None if case.matrix is None else dict(case.matrix),
        "tags": sorted(case.tags),
        "source": _source(case),
        "repeats": case.job.repeat,
        "min_pass": case.job.min_pass,
    }


def _as_sent(described: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """What was asked, or a message of it, as it is described now; but how it was sent is told by the `earlier` one."""
    kept = dict(described)
    if "images" in kept:
        pairs = zip(kept["images"], chain(earlier.get("images", ()), repeat({})), strict=False)
        kept["images"] = [_image_as_sent(image, before) for image, before in pairs]
    if "messages" in kept:
        pairs = zip(kept["messages"], chain(earlier.get("messages", ()), repeat({})), strict=False)
        kept["messages"] = [_as_sent(message, before) for message, before in pairs]
    if "response_schema" in kept and "response_schema" in earlier:
        kept["response_schema"] = {**kept["response_schema"], "sent": earlier["response_schema"]["sent"]}
    return kept


def _image_as_sent(image: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """Without `sent` where it was sent as it is."""
    if image["sha256"] is None or image["sha256"] != earlier.get("sha256"):
        return image
    as_it_is = {name: value for name, value in image.items() if name != "sent"}
    return {**as_it_is, "sent": earlier["sent"]} if "sent" in earlier else as_it_is


def _source(case: Case) -> SourceRecord:
    return SourceRecord(path=shown(case.job.path), line=case.line, row=case.origin or None)


def describe_request(request: Request) -> dict[str, Any]:
    """What was asked, as the row keeps it: files as path, hash, size and type, never their bytes."""
    if request.body is not None:
        images = [_describe_file(image) for image in request.images]
        return {"body": request.body, "images": images} if images else {"body": request.body}
    inference = request.inference
    described: dict[str, Any] = {
        "system": request.system,
        "messages": [_describe_message(message) for message in request.messages],
        "inference": {
            "max_tokens": inference.max_tokens,
            "temperature": inference.temperature,
            "top_p": inference.top_p,
            "top_k": inference.top_k,
            "stop": list(inference.stop),
        },
    }
    if request.extra:
        described["extra"] = dict(request.extra)
    if request.response_schema is not None:
        described["response_schema"] = structured.described(request.response_schema)
    return described


def _describe_message(message: Message) -> dict[str, Any]:
    described: dict[str, Any] = {"role": message.role, "text": message.text}
    if message.images:
        described["images"] = [_describe_file(image) for image in message.images]
    if message.documents:
        described["documents"] = [{**_describe_file(each.content), "name": each.name} for each in message.documents]
    if message.video:
        described["video"] = _describe_file(message.video)
    return described


def _describe_file(file: Image | DiskFile | S3Object) -> dict[str, Any]:
    """Of an object in S3 neither hash nor size is known."""
    digest, size = (None, None) if isinstance(file, S3Object) else (file.sha256, file.bytes)
    described = {"path": file.path, "sha256": digest, "bytes": size, "media_type": file.media_type}
    if not isinstance(file, Image) or file.fit is None:
        return described
    fit = file.fit
    sent = {"media_type": fit.media_type, "width": fit.width, "height": fit.height, "changes": list(fit.changes)}
    return {**described, "sent": sent}


def _as_turn(reply: Reply, *, number: int) -> Message:
    if not reply.text.strip():
        raise CallError(
            FailureCode.INVALID,
            f"reply {number} of the conversation has no text (stop reason {reply.stop_reason}), so it can't go on",
            hint="Bedrock refuses an empty assistant turn; ask for text in the turn before",
        )
    return Message(role="assistant", text=reply.text)


def _total(usages: Sequence[Usage | None]) -> Usage | None:
    known = [usage for usage in usages if usage is not None]
    return sum(known, Usage()) if known else None
