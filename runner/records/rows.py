"""What came back: a reply, and the row, which is the published result (schemas/result.schema.json)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.errors import CallError
    from runner.records.jobs import Api

Status = Literal["passed", "failed", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the service counted them. Input excludes what was read from or written to the cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole reply of the model. Times are milliseconds from the start of the attempt that brought it.

    `usage` is None where the service gave no counts (a raw body of some models).
    """

    text: str
    stop_reason: str | None
    usage: Usage | None
    latency_ms: int = 0
    first_token_ms: int | None = None
    request_id: str | None = None


class AttemptRecord(TypedDict):
    """One attempt, as the row keeps it. `code` and `message` are None for the one that succeeded."""

    started_at: str
    latency_ms: int
    waited_ms: int
    code: str | None
    message: str | None
    request_id: str | None
    possibly_billed: bool


class VerdictRecord(TypedDict):
    """An assertion and what came of it. `type` is as written, with its `not-`.

    `reason` is one sentence made of `expected` and `actual`, which are given apart for reports that show them so.
    `actual` is None where the assertion holds and nothing needs explaining. `assertions` are the verdicts on the parts
    of a set.
    """

    type: str
    passed: bool
    reason: str
    expected: str
    actual: str | None
    score: float | None  # from 0 to 1, of types that measure likeness and of sets; what the code of `python` says
    value: Any
    threshold: float | None
    line: int
    assertions: NotRequired[list[VerdictRecord]]


class ReplyRecord(TypedDict):
    text: str
    stop_reason: str | None
    usage: dict[str, int] | None
    latency_ms: int
    first_token_ms: int | None
    request_id: str | None


class ErrorRecord(TypedDict):
    code: str
    message: str
    hint: str | None
    http_status: int | None
    request_id: str | None
    retryable: bool


class JudgementRecord(TypedDict):
    """What a model said about a reply: a judge's verdict, or how alike two embeddings are. `key` is what was asked."""

    type: str
    key: str
    model: str
    endpoint: str
    score: float | None
    passed: bool | None
    reason: str | None
    usage: dict[str, int] | None
    cost_usd: float | None
    latency_ms: int
    attempts: list[AttemptRecord]
    error: ErrorRecord | None
    current: bool  # whether an assertion of the case, as it is now, asks for it


class SourceRecord(TypedDict):
    """Where a case is declared: the job file as it was given, and `row` as `rows.csv:17` if it comes from a file."""

    path: str
    line: int
    row: str | None


class SidecarRecord(TypedDict):
    """A file that a run wrote beside the input of a case. `path` is from the job's folder, or absolute; `former` are
    those that earlier runs wrote under other names, as far as they are still there.
    """

    path: str
    sha256: str
    former: NotRequired[list[SidecarRecord]]


class Row(TypedDict):
    """One line of outputs/NAME.jsonl, described for others by schemas/result.schema.json."""

    schema: str
    job: str
    case: str
    index: int
    repeat: int
    key: str
    status: Status
    model: str
    region: str
    api: Api
    stream: bool
    endpoint: str
    vars: dict[str, Any]
    request: dict[str, Any]
    output: str | None
    replies: list[ReplyRecord]
    stop_reason: str | None
    usage: dict[str, int] | None
    cost_usd: float | None
    latency_ms: int | None
    first_token_ms: int | None
    attempts: list[AttemptRecord]
    assertions: list[VerdictRecord]
    error: ErrorRecord | None
    started_at: str
    finished_at: str
    version: str
    matrix: dict[str, Any] | None
    tags: list[str]
    source: SourceRecord
    repeats: int
    min_pass: int
    judgements: list[JudgementRecord]
    parsed: Any  # the reply as a JSON value, if it holds to the job's response_schema
    sidecar: SidecarRecord | None


class Paid(NamedTuple):
    """What calls took, a reply's or a judge's. None where the service counted no tokens, or no price (USD) is known."""

    model: str
    usage: dict[str, int] | None
    cost_usd: float | None


def paid_for_replies(row: Row) -> list[Paid]:
    return [Paid(row["model"], row["usage"], row["cost_usd"])] if row["replies"] else []


def paid_for_judgements(judgements: Iterable[JudgementRecord]) -> list[Paid]:
    found = [Paid(judgement["model"], judgement["usage"], judgement["cost_usd"]) for judgement in judgements]
    return [paid for paid in found if paid.usage is not None or paid.cost_usd is None]  # the others called nothing


def paid_for(row: Row) -> list[Paid]:
    """For the replies of a row and for what its judges say now, whenever it was paid: not for former rubrics."""
    current = [judgement for judgement in row["judgements"] if judgement["current"]]
    return [*paid_for_replies(row), *paid_for_judgements(current)]


@dataclass(frozen=True, slots=True)
class Made:
    """What one run did for a row: all that is in it or, where an `earlier` row had replies, what came on top of it."""

    row: Row
    earlier: Row | None = None

    @property
    def kept(self) -> bool:
        """Whether an earlier row answers the case."""
        return self.earlier is not None and self.earlier["output"] is not None

    @property
    def continued(self) -> bool:
        """Whether an earlier row had but the first replies of the conversation."""
        return self.earlier is not None and self.earlier["output"] is None

    @property
    def judgements(self) -> list[JudgementRecord]:
        """What this run asked about the reply."""
        judgements = self.row["judgements"]
        if not judgements or not self.earlier:
            return judgements
        known = [(judgement["key"], judgement["attempts"]) for judgement in self.earlier["judgements"]]
        return [each for each in judgements if (each["key"], each["attempts"]) not in known]

    @property
    def attempts_at_reply(self) -> list[AttemptRecord]:
        """The attempts that it made for the reply: of a kept one, for its repair; of one begun, for its other turns."""
        return self.row["attempts"][len(self.earlier["attempts"]) if self.earlier else 0 :]

    @property
    def calls(self) -> list[list[AttemptRecord]]:
        """The attempts that it made: for the reply, and for each judgement."""
        own = [self.attempts_at_reply] if self.attempts_at_reply or not self.earlier else []
        return [*own, *(judgement["attempts"] for judgement in self.judgements)]

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The attempts at calls that it made."""
        return [attempt for attempts in self.calls for attempt in attempts]

    @property
    def paid(self) -> list[Paid]:
        """What it called, for replies and for their judges."""
        return [*self._paid_for_replies(), *paid_for_judgements(self.judgements)]

    def _paid_for_replies(self) -> list[Paid]:
        if self.earlier is None:
            return paid_for_replies(self.row)
        more = self.row["replies"][len(self.earlier["replies"]) :]  # than there were
        usages = [usage_of(reply["usage"]) for reply in more if reply["usage"]]
        before, after = self.earlier["cost_usd"], self.row["cost_usd"]
        cost = None if before is None or after is None else round(after - before, 9)
        usage = usage_record(sum(usages, Usage())) if usages else None
        return [Paid(self.row["model"], usage, cost)] if more else []

    @property
    def call_failed(self) -> bool:
        """Whether it is without a reply, its repair or a judge's word, because a call failed."""
        attempts = self.attempts_at_reply
        unrepaired = bool(attempts) and attempts[-1]["code"] is not None
        return self.row["output"] is None or unrepaired or any(judgement["error"] for judgement in self.judgements)


def reply_record(reply: Reply) -> ReplyRecord:
    return ReplyRecord(
        text=reply.text,
        stop_reason=reply.stop_reason,
        usage=usage_record(reply.usage),
        latency_ms=reply.latency_ms,
        first_token_ms=reply.first_token_ms,
        request_id=reply.request_id,
    )


def reply_of(record: ReplyRecord) -> Reply:
    """The reply that a row tells."""
    return Reply(
        text=record["text"],
        stop_reason=record["stop_reason"],
        usage=usage_of(record["usage"]) if record["usage"] else None,
        latency_ms=record["latency_ms"],
        first_token_ms=record["first_token_ms"],
        request_id=record["request_id"],
    )


def usage_record(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
    }


def usage_of(record: Mapping[str, int]) -> Usage:
    """The usage that a row tells; what a later version may have counted besides is left out."""
    return Usage(
        input_tokens=record["input_tokens"],
        output_tokens=record["output_tokens"],
        cache_read_tokens=record["cache_read_tokens"],
        cache_write_tokens=record["cache_write_tokens"],
    )


def error_record(error: CallError) -> ErrorRecord:
    return ErrorRecord(
        code=error.code.value,
        message=error.message,
        hint=error.hint,
        http_status=error.http_status,
        request_id=error.request_id,
        retryable=error.code.retryable,
    )
