"""What can go wrong, as values: each with its place, its cause and the next step; and the exit codes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """The exit codes of every command. A run that is not complete never exits 0."""

    OK = 0
    ASSERTION_FAILED = 1
    USAGE = 2
    INCOMPLETE = 3
    STOPPED = 4
    BUG = 70
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True)
class Place:
    """A position in a text file. `line` and `column` count from 1; `source` is the whole line, for the excerpt.

    Line 0 is the file itself, such as one that is not there.
    """

    path: str
    line: int
    column: int
    source: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with what the user gave: what, where, and what to do about it."""

    message: str
    place: Place | None = None
    hint: str | None = None


class UsageError(Exception):
    """The command line or a job file is wrong; nothing was sent. Carries every problem that was found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = problems


class SignalledError(SystemExit):
    """SIGTERM or SIGHUP has come. Not an Exception, and one that event loops let through."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(int(exit_code))
        self.message = message
        self.exit_code = exit_code


class FailureCode(StrEnum):
    """The one vocabulary for calls that failed, whatever AWS, the network or the stream called it."""

    THROTTLED = "throttled"  # the account's request or token rate
    QUOTA = "quota"  # a quota that waiting seconds will not lift: tokens per day, a resource quota
    TRANSIENT = "transient"  # the service or the model failed, and may not fail next time
    TIMEOUT = "timeout"  # no whole reply within the deadline, ours or the model's
    NETWORK = "network"  # no connection could be made; nothing was sent
    INCOMPLETE = "incomplete"  # a reply came that was cut short or damaged
    INVALID = "invalid"  # the request is wrong; it would fail again
    INPUT = "input"  # what the case needs (an image, say) could not be read or changed meanwhile
    DENIED = "denied"  # the account may not do this
    CREDENTIALS = "credentials"  # none, expired or not accepted
    NOT_FOUND = "not_found"  # the model cannot be called by this id here
    STOPPED = "stopped"  # the run ended in the middle of the case
    ASSERTION = "assertion"  # the reply came, and an assertion about it crashed or took too long
    NO_ROW = "no_row"  # --replay, and no earlier row answers the case

    @property
    def retryable(self) -> bool:
        return self in _RETRYABLE

    @property
    def concerns_account(self) -> bool:
        """Whether every other call would fail alike, so that the run should stop."""
        return self in _ACCOUNT


_RETRYABLE = frozenset(
    {
        FailureCode.THROTTLED,
        FailureCode.TRANSIENT,
        FailureCode.TIMEOUT,
        FailureCode.NETWORK,
        FailureCode.INCOMPLETE,
        FailureCode.STOPPED,
    }
)
_ACCOUNT = frozenset({FailureCode.QUOTA, FailureCode.DENIED, FailureCode.CREDENTIALS, FailureCode.NOT_FOUND})


def refused_for_tokens(code: str | None, message: str | None) -> bool:
    """Whether an attempt was throttled because of its tokens, which a smaller max_tokens may mend."""
    return code == FailureCode.THROTTLED and "token" in (message or "").lower()


class StoppedError(Exception):
    """Raised in place of waiting or calling while the run is stopping; the case stays pending."""


NO_ROW_HINT = "run it without --replay, and keep its row with the others"


class CallError(Exception):
    """One attempt at a call failed.

    `message` is AWS's own text, led by its name for the error (`ThrottlingException: Too many requests...`), or ours.
    `hint` says what to do. `retry_after` is the server's wish in seconds. `possibly_billed` is true when the model may
    have generated before the failure.
    """

    def __init__(  # noqa: PLR0913 - one field each; all by name
        self,
        code: FailureCode,
        message: str,
        *,
        hint: str | None = None,
        http_status: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        possibly_billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.http_status = http_status
        self.request_id = request_id
        self.retry_after = retry_after
        self.possibly_billed = possibly_billed


class NoRequestError(CallError):
    """No request could be made of a case, since a file that it needs is damaged or has gone. So nothing was tried."""
