"""What every type of assertion is made of: what it judges, how it checks, and how it words what it found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from runner.errors import FailureCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.records import Assertion, AssertionSpec, ErrorRecord, JudgementRecord, VerdictRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What assertions judge: the text of the last reply, what its calls took, and the case's variables."""

    output: str
    latency_ms: int = 0
    first_token_ms: int | None = None  # None where the reply was not streamed
    cost_usd: float | None = None  # None where the price is not known
    stop_reason: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    judgement: Callable[[Assertion], JudgementRecord | None] = lambda _: None  # what a model has said for an assertion


class UnjudgedError(Exception):
    """An assertion could not be evaluated, so there is no verdict. `message` says why, `hint` what to do.

    `call` is what became of the call that a judge needed, where that is the reason.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        code: FailureCode = FailureCode.ASSERTION,
        call: ErrorRecord | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code
        self.call = call


class Fault(NamedTuple):
    """Why an assertion can't be evaluated at all. `steps` lead to where in its value that is, as far as it is known;
    `hint` says what to do, if more can be said than the type's advice.
    """

    message: str
    steps: tuple[str | int, ...] = ()
    hint: str | None = None


class Finding(NamedTuple):
    """Whether what was asserted holds, and what says what was found instead, if that is wanted: mostly it is not."""

    holds: bool
    found: Callable[[], str]
    score: float | None = None  # of types that measure; from 0 to 1 for likeness
    parts: list[VerdictRecord] | None = None  # of a set
    value: Any = None  # of a reply that holds to the job's `response_schema`: what it is as JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One type of assertion.

    `expectation` follows `output` or `output not`. `fault` is what can be told of a rendered assertion before there is
    an answer, and `advice` what to do about it.
    """

    check: Callable[[Assertion, Answer], Finding]
    expectation: Callable[[Assertion], str]
    fault: Callable[[Assertion], Fault | None] = lambda _: None
    advice: str | None = None


def text_of(assertion: Assertion) -> str:
    """The value of a type that takes a text."""
    assert isinstance(assertion.value, str), f"the schema asks a text of {assertion.type}"
    return assertion.value


def threshold_of(assertion: Assertion, default: float | None = None) -> float:
    threshold = default if assertion.threshold is None else assertion.threshold
    assert threshold is not None, f"the schema asks a threshold of {assertion.type}"
    return threshold


_Asserted = TypeVar("_Asserted", "Assertion", "AssertionSpec")


def flat(assertions: Sequence[_Asserted]) -> Iterator[_Asserted]:
    """The assertions, and those within sets."""
    for assertion in assertions:
        yield assertion
        yield from assertion.assertions
