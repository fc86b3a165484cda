"""The frozen values that cross a boundary between modules, and the row that is the published result."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.errors import CallError, Place, Problem

Api = Literal["invoke", "converse"]
Role = Literal["user", "assistant"]
Status = Literal["passed", "failed", "error"]
Colours = Literal["grey", "palette", "rgb", "cmyk"]

LONGEST_SIDE = 8000  # pixels, of a picture that Bedrock takes


# --- what a job file says --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Text:
    """A string of a job file that is a Jinja template, and the place where it is written."""

    value: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn of a conversation as written: templates, not yet rendered. What it attaches is given by path."""

    role: Role
    text: Text
    images: tuple[Text, ...] = ()
    documents: tuple[Text, ...] = ()
    video: Text | None = None

    @property
    def attached(self) -> tuple[Text, ...]:
        """The paths of everything that goes with the text."""
        return (*self.images, *self.documents, *([self.video] if self.video else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionSpec:
    """One entry of `assert:`. `type` has no `not-`; `negated` says whether it was written with one.

    `value` is a JSON value whose strings are `Text`; None where none is given. The code of `python` is a plain string:
    it is no template.
    """

    type: str
    place: Place
    negated: bool = False
    value: Any = None
    threshold: float | None = None  # seconds for latencies, USD for cost, else as the type says
    model: str | None = None  # that judges, for types that a model judges
    weight: float = 1.0  # within a set
    assertions: tuple[AssertionSpec, ...] = ()  # of a set


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSpec:
    """One entry of `cases:`, or one row of a file. `id` is None where the position is to serve."""

    place: Place
    id: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    assertions: tuple[AssertionSpec, ...] = ()
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseGlob:
    """`cases: {glob: ...}`: each file that matches is a case."""

    pattern: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """`cases: {file: ...}`: each row of the file is a case. `delimiter` None: found from its header."""

    path: str  # as the job file wrote it
    place: Place
    delimiter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """Sampling settings. `max_tokens` always has a value, since an unset one reserves the model's maximum."""

    max_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How pictures are sent: `fit` says whether one that Bedrock does not take as it is is made to fit, or refused.

    `max_edge` is what its longer side is scaled down to, in pixels; None: what the model would shrink it to anyway.
    """

    fit: bool = True
    max_edge: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySettings:
    """`max_attempts` counts the first try too; `max_backoff` is in seconds."""

    max_attempts: int = 8
    max_backoff: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """The account's quotas for one model and region, per minute; None where they are not known."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """`sidecar:`: a file beside the input of each case. `text` None: the reply as it came."""

    path: Text
    text: Text | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseSchema:
    """`response_schema:`, the JSON Schema that the last reply must hold to, and `response_repair:`.

    It is sent as structured output or, where that is not possible, asked for in the prompt; then `why_in_prompt` says
    why. `text` is the schema as JSON.
    """

    schema: Mapping[str, Any]
    text: str
    place: Place
    why_in_prompt: str | None = None
    repair: bool = False

    @property
    def sent(self) -> Literal["native", "prompt"]:
        return "native" if self.why_in_prompt is None else "prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One entry of `thresholds:`: what a figure of the whole job must come to."""

    name: str
    comparison: str  # <, <=, >, >= or ==
    limit: float  # a share of 1, seconds, USD or a count, as the name says
    wanted: str  # as written: `< 8s`
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One combination of the values of a job's matrix, and the job with these values."""

    values: Mapping[str, Any]
    job: Job

    @property
    def label(self) -> str:
        """`model=amazon.nova-lite-v1:0, temperature=0`; it tells the cases of the variants apart."""
        return matrix_label(self.values)


def matrix_label(values: Mapping[str, Any]) -> str:
    """The values of a matrix as people read them."""
    return ", ".join(f"{name}={_as_label(value)}" for name, value in values.items())


def _as_label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job file as one value. Exactly one of `turns` and `body` is given.

    `body` is a JSON value whose strings are `Text`. `api` is resolved: never `auto`. `variants` is empty without a
    matrix; a variant's own job has none, and its `vars` hold the variant's variables.
    """

    path: Path
    place: Place  # of its `name`, or the start of the file: for problems that concern the whole job
    model_place: Place
    name: str
    description: str
    tags: frozenset[str]
    model: str
    region: str | None
    api: Api
    stream: bool
    inference: Inference
    vars: Mapping[str, Any]
    system: Text | None
    turns: tuple[Turn, ...]
    body: Any
    extra: Mapping[str, Any]
    cases: tuple[CaseSpec, ...] | CaseFile | CaseGlob  # an empty list: the job is one case
    assertions: tuple[AssertionSpec, ...]
    rate: Rate
    max_concurrency: int | None
    retry: RetrySettings
    timeout: float  # seconds, for one attempt, from connecting to the last byte read
    max_cost: float | None  # USD
    images: ImageSettings = field(default_factory=ImageSettings)
    fixed_vars: Mapping[str, Any] = field(default_factory=dict)  # of matrix and command line: they win over a case's
    variants: tuple[Variant, ...] = ()
    matrix_place: Place | None = None
    repeat: int = 1
    min_pass: int = 1  # how many repetitions of a case must pass
    thresholds: tuple[Threshold, ...] = ()
    sidecar: Sidecar | None = None
    response_schema: ResponseSchema | None = None


# --- what is asked ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What is sent instead of an image as it is. `changes` says in words what is done to it, for people."""

    media_type: str  # image/png, image/jpeg or image/webp
    width: int
    height: int
    changes: tuple[str, ...]
    asks_the_same: bool = False  # the model would have seen just this picture: it shrinks what is larger itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image on disk. Its bytes are read when they are sent; `sha256` says which bytes were meant.

    All but the digest is known from its header alone. It is sent as it is unless there is a `fit`.
    """

    path: str  # as the job file wrote it
    file: Path  # resolved
    sha256: str  # empty where it was only looked at
    bytes: int
    media_type: str  # by content: image/png, jpeg, gif, webp, bmp, tiff, avif or heic
    width: int  # in pixels, upright
    height: int
    orientation: int = 1  # as EXIF counts, 1 to 8: how it has to be turned
    colours: Colours = "rgb"
    bits: int = 8  # of a channel
    transparent: bool = False
    several: bool = False  # an animation, or pages
    progressive: bool = False  # a JPEG that can't be decoded piece by piece
    stamp: tuple[int, ...] | None = None  # what its file looked like; None where that can't tell if it has changed
    fit: Fit | None = None

    @property
    def sent_type(self) -> str:
        """The media type of what is sent: image/png, image/jpeg, image/gif or image/webp."""
        return self.fit.media_type if self.fit else self.media_type


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFile:
    """A document or a video on disk. Its bytes are read when they are sent; `sha256` says which bytes were meant."""

    path: str  # as the job file wrote it
    file: Path  # resolved
    sha256: str
    bytes: int
    media_type: str  # by its suffix, to which its content holds
    tokens: int  # an estimate
    stamp: tuple[int, ...] | None = None  # what it looked like; None where that can't tell if it has changed

    @property
    def sent_type(self) -> str:
        """The media type of what is sent."""
        return self.media_type


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """An object in S3, which the model fetches by itself: here nothing is known of it but its name."""

    path: str  # s3://bucket/key, as the job file wrote it
    media_type: str  # by the suffix of its key


Video = DiskFile | S3Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document and the name that the model is told: a neutral one, since what it is told may sway it."""

    name: str
    content: DiskFile | S3Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Role
    text: str
    images: tuple[Image | S3Object, ...] = ()
    documents: tuple[Document, ...] = ()
    video: Video | None = None

    @property
    def attached(self) -> tuple[Image | DiskFile | S3Object, ...]:
        """Everything that goes with the text, in the order in which it is sent."""
        documents = (document.content for document in self.documents)
        return (*documents, *self.images, *([self.video] if self.video else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked, rendered, whatever API carries it. `messages` are the scripted turns; where a user message follows
    a user message the model answers in between. With `body`, a raw InvokeModel body, there are no messages; in it the
    markers of `images` stand for their content (see runner/body_images.py).
    """

    system: str | None = None
    messages: tuple[Message, ...] = ()
    inference: Inference = Inference()
    extra: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    images: tuple[Image, ...] = ()
    response_schema: ResponseSchema | None = None  # of the last reply


def exchanges(request: Request) -> Iterator[tuple[Message, ...]]:
    """The messages to add before each call. A user message after a user message begins a new call; a raw body is one
    call with none.
    """
    pending: list[Message] = []
    for message in request.messages:
        if pending and pending[-1].role == "user" == message.role:
            yield tuple(pending)
            pending = []
        pending.append(message)
    yield tuple(pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An assertion of one case, rendered: `value` is a JSON value, or None where none is given."""

    type: str
    place: Place
    negated: bool = False
    value: Any = None
    threshold: float | None = None
    model: str | None = None
    weight: float = 1.0
    assertions: tuple[Assertion, ...] = ()

    @property
    def name(self) -> str:
        """Its type as written."""
        return f"not-{self.type}" if self.negated else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarFile:
    """The sidecar of one case. `variables` are those of the template `text`, beside what is known of the reply."""

    path: str  # as rows have it: from the job's folder, or absolute if it lies outside
    file: Path  # its folder's links followed, its own not
    place: Place  # of its template
    text: Text | None
    variables: Mapping[str, Any]
    ours: tuple[str, ...] = ()  # what earlier rows say that was written there, as SHA-256, the last row first


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, ready to be called; or with a `fault`, which says why it cannot be."""

    job: Job
    id: str
    index: int  # from 0, in the order of the job
    key: str
    vars: Mapping[str, Any]
    request: Request
    assertions: tuple[Assertion, ...]
    repeat: int = 0
    matrix: Mapping[str, Any] | None = None
    tags: frozenset[str] = frozenset()  # its job's too
    line: int = 1  # of the job file, where the case is declared
    origin: str = ""  # of its row, as `rows.csv:17`, if it comes from a file
    fault: Problem | None = None
    sidecar: SidecarFile | None = None


# --- what came back --------------------------------------------------------------------------------------------------


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
    """A file that a run wrote beside the input of a case. `path` is from the job's folder, or absolute."""

    path: str
    sha256: str


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
    """What one run did for a row: all that is in it or, where an `earlier` row was kept, what was asked about it."""

    row: Row
    earlier: Row | None = None

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
        """The attempts that it made for the reply: of a kept one, for its repair."""
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
        repairs = self.row["replies"][len(self.earlier["replies"]) :]  # of a kept reply
        usages = [usage_of(reply["usage"]) for reply in repairs if reply["usage"]]
        before, after = self.earlier["cost_usd"], self.row["cost_usd"]
        cost = None if before is None or after is None else round(after - before, 9)
        usage = usage_record(sum(usages, Usage())) if usages else None
        return [Paid(self.row["model"], usage, cost)] if repairs else []

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
