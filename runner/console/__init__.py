"""What a person sees on standard error: problems, failures as they come, the summary. Plain lines, no control codes.

terminal.py draws the same events on a terminal. The modules of this package make the lines; here is who says them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.console.estimates import dry_run_lines
from runner.console.failures import (
    MOST_TOLD,
    Outcomes,
    call_name,
    case_lines,
    case_name,
    failure_lines,
    failure_of_case,
    full_name,
)
from runner.console.problems import render_problems
from runner.console.summaries import (
    broken_line,
    broken_lines,
    number_of_cases,
    progress,
    report_lines,
    stop_lines,
    summary_lines,
    tolerance_lines,
)
from runner.console.text import (
    cut,
    duration,
    latency,
    money,
    no_command,
    no_command_in_json,
    one_line,
    plain,
    spent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runner.calling.retry import RetryNotice
    from runner.console.failures import Told
    from runner.errors import FailureCode
    from runner.records import Case, Message, Reply, Row
    from runner.running.summary import Summary
    from runner.stop import StopReason

__all__ = [
    "Console",
    "Outcomes",
    "Patient",
    "Plain",
    "Quiet",
    "broken_line",
    "call_name",
    "case_lines",
    "case_name",
    "cut",
    "dry_run_lines",
    "duration",
    "emit",
    "failure_lines",
    "failure_of_case",
    "full_name",
    "latency",
    "money",
    "no_command",
    "no_command_in_json",
    "number_of_cases",
    "on_terminal",
    "one_line",
    "plain",
    "progress",
    "render_problems",
    "report_lines",
    "retry_line",
    "say",
    "spent",
    "stop_lines",
    "summary_lines",
]

_PROGRESS_SECONDS = 30.0  # between lines of progress where there is no terminal


class Console:
    """Everything that a run tells a person. This one says nothing; others say what they must."""

    def begin(self) -> None:
        """The first case is about to start."""

    def asked(self, case: Case, messages: Sequence[Message]) -> None:
        """These messages are about to be sent, after those before."""

    def heard(self, case: Case, text: str) -> None:
        """A piece of a streamed reply has come."""

    def replied(self, case: Case, reply: Reply) -> None:
        """A whole reply has come."""

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        """An attempt failed and will be made again; what was heard of it does not count."""

    def finished(self, case: Case, row: Row) -> None:
        """The row is on disk."""

    def kept(self, case: Case, row: Row) -> None:
        """An earlier row answers the case; its assertions were evaluated again."""

    def stopping(self, reason: StopReason, grace: float) -> None:
        """A signal has come; calls in flight have `grace` seconds."""

    def close(self) -> None:
        """Nothing more happens to any case: leave the screen sane, whatever comes next."""

    def end(self, summary: Summary) -> None:
        """All is done."""


class Quiet(Console):
    """`-q`: only what failed, a line each, and why a run stopped. A failure that the job's pass_rate may allow is told
    in the end, when that is known.
    """

    def __init__(self) -> None:
        self._outcomes = Outcomes(short=True)
        self._held: list[tuple[str, Told]] = []  # by name of the job

    def finished(self, case: Case, row: Row) -> None:
        told = self._outcomes.add(case_name(case), row)
        if told is None or told.passed:
            return
        if told.failed and any(threshold.name == "pass_rate" for threshold in case.job.thresholds):
            self._held += [(case.job.name, told)] if len(self._held) < MOST_TOLD else []
        else:
            _say_all(self._outcomes.tell(told))

    kept = finished

    def end(self, summary: Summary) -> None:
        for job, told in self._held:
            _say_all(self._outcomes.tell(told.allowed() if job in summary.tolerant_jobs else told))
        _say_all(self._outcomes.rest())
        _say_all((*broken_lines(summary), *tolerance_lines(summary), *stop_lines(summary, self._outcomes)))


class Plain(Console):
    """For pipes and CI: a block for each case that failed or erred, progress now and then, a summary."""

    def __init__(self, summary: Summary, *, verbose: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._outcomes = Outcomes(told=None if verbose else MOST_TOLD)
        self._summary = summary
        self._verbose = verbose
        self._clock = clock
        self._told_at = clock()
        self._told_of: set[FailureCode] = set()

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        first = notice.error.code not in self._told_of
        self._told_of.add(notice.error.code)
        if self._verbose:
            say(f"retry  {call_name(case)}: {retry_line(notice)}")
        elif first:
            say(f"retry  {call_name(case)}: {retry_line(notice)} (-v tells of every one)")
        self._tell_progress(f"; still trying, the last failure was {notice.error.code.value}: {notice.error.message}")

    def finished(self, case: Case, row: Row) -> None:
        self._tell(case, row, passed=self._verbose)
        self._tell_progress()

    def kept(self, case: Case, row: Row) -> None:
        self._tell(case, row)

    def _tell(self, case: Case, row: Row, *, passed: bool = False) -> None:
        _say_all(self._outcomes.lines(case_name(case), row, passed=passed))

    def _tell_progress(self, more: str = "") -> None:
        if self._clock() - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = self._clock()
            say(progress(self._summary) + more)

    def stopping(self, reason: StopReason, grace: float) -> None:
        if reason.cuts_calls:
            say(f"{reason.message}: stopping, {grace:g}s for the calls in flight")

    def end(self, summary: Summary) -> None:
        _say_all(self._outcomes.rest())
        _say_all((*summary_lines(summary, width=terminal_width()), *stop_lines(summary, self._outcomes)))


def on_terminal() -> bool:
    """Whether standard error is a terminal that takes control codes."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", ""}


def terminal_width() -> int | None:
    """The columns of the terminal that standard error is, control codes or not; None where it is none."""
    with suppress(OSError, ValueError, AttributeError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or None
    return None


class Patient:
    """Standard error as it can be relied on: that nobody reads it any more is no reason to stop a run."""

    def __init__(self) -> None:
        self._stream = sys.stderr  # None in a process that was started without one

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(line: str) -> None:
    """One line on standard error, made harmless."""
    print(no_command(plain(line)), file=Patient(), flush=True)


def _say_all(lines: Iterable[str]) -> None:
    for line in lines:
        say(line)


def emit(value: object) -> None:
    """A value as JSON on standard output. That its reader has gone, as in `| head`, is not our trouble."""
    with suppress(BrokenPipeError):
        print(no_command_in_json(json.dumps(value, indent=2)), flush=True)


def retry_line(notice: RetryNotice) -> str:
    return (
        f"{notice.error.code.value}: {one_line(notice.error.message)}; "
        f"attempt {notice.attempt + 1} of {notice.max_attempts} in {notice.wait:.1f}s"
    )
