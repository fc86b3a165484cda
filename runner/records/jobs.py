"""What a job file says, as frozen values: the job with its turns, cases and settings."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.errors import Place

Api = Literal["invoke", "converse"]
Role = Literal["user", "assistant"]

LONGEST_SIDE = 8000  # pixels, of a picture that Bedrock takes


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
