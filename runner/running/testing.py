"""Jobs run within another program, such as a test session: nothing is said, and what came of them are values.

The process is left as it was. Rows are kept as always.
"""

from __future__ import annotations

import fcntl
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from runner import console, open_files
from runner.errors import ExitCode, FailureCode, UsageError
from runner.report.rows import Rows, Spool
from runner.running.run import empty_summary, execute, plan_of
from runner.thresholds import ThresholdVerdict
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.calling.retry import RetryNotice
    from runner.cases.plan import CaseList
    from runner.records import Case, JudgementRecord, ReplyRecord, Row
    from runner.report.rows import CaseResult
    from runner.running.run import RunOptions
    from runner.running.summary import Summary
    from runner.stop import StopReason

_ROWS = "rows.jsonl"
_OUTCOME = "outcome.json"
_PROGRESS_SECONDS = 30.0
_LONGEST_REPLY = 10_000  # characters that are shown; the row has them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a run ended before every case had its row: in one line, and in full."""

    exit_code: ExitCode
    message: str
    told: str

    @property
    def by_signal(self) -> bool:
        return self.exit_code in {ExitCode.INTERRUPTED, ExitCode.TERMINATED, ExitCode.HUNG_UP}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run: its cases, by job and id, as far as they have rows; and the lines that sum it up.

    `thresholds` are of the jobs that have some, and of which every case was run and has its row.
    """

    cases: Mapping[tuple[str, str], CaseResult]
    thresholds: Mapping[str, Sequence[ThresholdVerdict]]
    summary: Sequence[str]
    ending: Ending | None


def run_once(lists: Sequence[CaseList], options: RunOptions, *, folder: Path, tell: Callable[[str], None]) -> Outcome:
    """Run these cases together, or take what came of it if another process has done so in `folder` already.

    Several processes may call this at the same time: one runs, the others wait for it. `tell` hears of the progress.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        if not (folder / _OUTCOME).exists():
            _run(lists, options, folder=folder, tell=tell)
    outcome = outcome_in(folder)
    assert outcome is not None
    return outcome


def outcome_in(folder: Path) -> Outcome | None:
    """What came of the run in `folder`; None if none has ended there."""
    if not (folder / _OUTCOME).exists():
        return None
    cases = {(case.job, case.id): case for case in Rows([folder / _ROWS], away=True).cases()}
    found = json.loads((folder / _OUTCOME).read_text())
    ended = found["ending"]
    return Outcome(
        cases=cases,
        thresholds={
            job: [ThresholdVerdict(**verdict) for verdict in verdicts] for job, verdicts in found["thresholds"].items()
        },
        summary=found["summary"],
        ending=ended and Ending(**{**ended, "exit_code": ExitCode(ended["exit_code"])}),
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder alone. The lock dies with its process; then the next one does the work."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(lists: Sequence[CaseList], options: RunOptions, *, folder: Path, tell: Callable[[str], None]) -> None:
    spool = Spool(folder / _ROWS)
    lines: list[str] = []
    thresholds: dict[str, list[ThresholdVerdict]] = {}
    try:
        plan = plan_of(lists, options)
        summary = empty_summary(plan)
        screen = _Progress(summary, tell)
        with open_files.limit_restored():
            execute(plan, summary=summary, screen=screen, spool=spool, note=lines.append)
        for job in summary.jobs.values():
            if summary.stopped or job.partial or job.name in screen.missing_rows:
                job.wanted = ()  # some tests, or some rows, say nothing about the job
        lines += console.summary_lines(summary, names_cases=False)
        thresholds = {name: job.thresholds for name, job in summary.jobs.items() if job.thresholds}
        ending = _ending(summary)
    except UsageError as error:
        message = "; ".join(f"{each.place}: {each.message}" if each.place else each.message for each in error.problems)
        told = console.render_problems(error.problems)
        ending = Ending(exit_code=ExitCode.USAGE, message=console.one_line(message), told=told)
    finally:
        spool.close()
    outcome = {
        "thresholds": {job: [asdict(verdict) for verdict in verdicts] for job, verdicts in thresholds.items()},
        "summary": lines,
        "ending": ending and asdict(ending),
    }
    (folder / _OUTCOME).write_text(json.dumps(outcome))


def _ending(summary: Summary) -> Ending | None:
    stopped = summary.stopped
    if stopped is None:
        return None
    told = "\n".join(console.stop_lines(summary, console.Outcomes()))
    return Ending(exit_code=stopped.exit_code, message=console.one_line(f"stopped: {stopped.message}"), told=told)


class _Progress(console.Console):
    """A line when the calls begin, one now and then while they are under way, one when a signal stops them."""

    def __init__(self, summary: Summary, tell: Callable[[str], None]) -> None:
        self._summary = summary
        self._tell = tell
        self._told_at = time.monotonic()
        self.missing_rows: set[str] = set()  # jobs of which a replay finds some cases unanswered

    def begin(self) -> None:
        cases, jobs = console.number_of_cases(self._summary), plural(len(self._summary.jobs), "job")
        does = "replaying" if self._summary.replay else "running"
        self._tell(f"{does} {cases} of {jobs} together")

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        self._tell_progress(f"; still trying, the last failure was {notice.error.code.value}: {notice.error.message}")

    def finished(self, case: Case, row: Row) -> None:
        if row["error"] is not None and row["error"]["code"] == FailureCode.NO_ROW:
            self.missing_rows.add(case.job.name)
        self._tell_progress()

    def stopping(self, reason: StopReason, grace: float) -> None:
        self._tell(f"{reason.message}: stopping, {grace:g}s for the calls in flight")

    def _tell_progress(self, more: str = "") -> None:
        if time.monotonic() - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = time.monotonic()
            self._tell(console.progress(self._summary) + more)


# --- a case, told ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is wrong with a case: as the terminal tells it, and why on one line. `line` is of the job file."""

    block: str
    reason: str
    line: int


def failure_of(case: CaseResult, name: str, *, outcomes: console.Outcomes, in_words: Callable[[str], str]) -> Failure:
    """What is wrong with a case that did not pass. `name` is what the terminal calls it; `in_words` words hints, of
    which those that `outcomes` has given are not repeated.
    """
    told = console.failure_of_case(name, [_worded(row, in_words) for row in case.rows])
    assert told is not None, "it did not pass"
    return Failure(block="\n".join(outcomes.tell(told)), reason=told.reason, line=told.line)


def _worded(row: Row, in_words: Callable[[str], str]) -> Row:
    """The row with its hint in other words."""
    error = row["error"]
    return {**row, "error": {**error, "hint": in_words(error["hint"])}} if error and error["hint"] else row


def allows_failures(thresholds: Sequence[ThresholdVerdict]) -> bool:
    """Whether cases may fail, as long as not too many do."""
    return any(verdict.name == "pass_rate" and verdict.held for verdict in thresholds)


def transcript(case: CaseResult) -> str:
    """The replies and the attempts of a case, for a person to read: neither a terminal nor CI takes harm from it.

    Of a case that did not pass, only the repetitions that did not.
    """
    rows = case.rows if case.status == "passed" else [row for row in case.rows if row["status"] != "passed"]
    return console.no_command(console.plain("\n".join(line for row in rows for line in _transcript_lines(row))))


def _transcript_lines(row: Row) -> Iterator[str]:
    if row["repeats"] > 1:
        yield f"repetition {row['repeat'] + 1} of {row['repeats']}: {row['status']}"
    for number, reply in enumerate(row["replies"], start=1):
        which = f"reply {number}" if len(row["replies"]) > 1 else "reply"
        yield f"{which} of {row['model']} ({', '.join(_facts(reply))}):"
        yield _cut(reply["text"])
    for number, attempt in enumerate(row["attempts"], start=1):
        came = "answered" if attempt["code"] is None else f"{attempt['code']}: {attempt['message']}"
        request = f", request id {attempt['request_id']}" if attempt["request_id"] else ""
        yield f"attempt {number}: {came} ({attempt['latency_ms']:,} ms{request})"
    for judgement in row["judgements"]:
        yield f"{judgement['type']} asked {judgement['model']} ({judgement['latency_ms']:,} ms): {_said(judgement)}"


def _said(judgement: JudgementRecord) -> str:
    if judgement["error"] is not None:
        return f"{judgement['error']['code']}: {judgement['error']['message']}"
    score = None if judgement["score"] is None else f"score {judgement['score']:g}"
    return "; ".join(filter(None, (score, judgement["reason"])))


def _facts(reply: ReplyRecord) -> Iterator[str]:
    if reply["stop_reason"]:
        yield reply["stop_reason"]
    if reply["usage"]:
        yield f"{reply['usage']['input_tokens']:,} tokens in, {reply['usage']['output_tokens']:,} out"
    yield f"{reply['latency_ms']:,} ms"


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_REPLY:
        return text
    return f"{text[:_LONGEST_REPLY]}... ({len(text) - _LONGEST_REPLY:,} more characters are in the row)"


def properties(case: CaseResult) -> Iterator[tuple[str, object]]:
    """What a report should know of a case, its repetitions taken together; nothing that is not known."""
    last = case.rows[-1]
    yield "model", last["model"]
    cost = total_cost(case.rows)
    if cost is not None:
        yield "cost_usd", cost
    usages = [row["usage"] for row in case.rows if row["usage"] is not None]
    if usages:
        yield "input_tokens", sum(usage["input_tokens"] for usage in usages)
        yield "output_tokens", sum(usage["output_tokens"] for usage in usages)
    if last["latency_ms"] is not None:
        yield "latency_ms", last["latency_ms"]
    for attempt in reversed(last["attempts"]):
        if attempt["request_id"]:
            yield "request_id", attempt["request_id"]
            return


def total_cost(rows: Sequence[Row]) -> float | None:
    """What replies and judges of these rows cost in USD, whenever they were paid; None if no price is known."""
    costs = (cost for row in rows for cost in (row["cost_usd"], *(each["cost_usd"] for each in row["judgements"])))
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 9) if known else None
