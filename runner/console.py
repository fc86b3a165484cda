"""What a person sees on standard error: problems, failures as they come, the summary. Plain lines, no control codes.

terminal.py draws the same events on a terminal.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.errors import FailureCode
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.errors import Problem
    from runner.records import Case, Message, Reply, Row
    from runner.retry import RetryNotice
    from runner.stop import StopReason
    from runner.summary import Summary, Tally

_PROGRESS_SECONDS = 30.0  # between lines of progress where there is no terminal
_BIDI_AND_SEPARATORS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029\ufeff"


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
    """`-q`: only what failed, and why a run stopped."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._outcomes = Outcomes(told=None if verbose else MOST_TOLD)

    def finished(self, case: Case, row: Row) -> None:
        for line in self._outcomes.lines(case, row):
            say(line)

    def kept(self, case: Case, row: Row) -> None:
        for line in self._outcomes.lines(case, row):
            say(line)

    def end(self, summary: Summary) -> None:
        for line in stop_lines(summary, self._outcomes):
            say(line)


class Plain(Quiet):
    """For pipes and CI: a line for each case that failed or erred, progress now and then, a summary."""

    def __init__(self, summary: Summary, *, verbose: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(verbose=verbose)
        self._summary = summary
        self._verbose = verbose
        self._clock = clock
        self._told_at = clock()
        self._told_of: set[FailureCode] = set()

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        first = notice.error.code not in self._told_of
        self._told_of.add(notice.error.code)
        if self._verbose:
            say(f"retry  {case_name(case)}: {retry_line(notice)}")
        elif first:
            say(f"retry  {case_name(case)}: {retry_line(notice)} (-v tells of every one)")
        self._tell_progress(f"; still trying, the last failure was {notice.error.code.value}: {notice.error.message}")

    def finished(self, case: Case, row: Row) -> None:
        super().finished(case, row)
        if self._verbose and row["status"] == "passed":
            say(f"passed {case_name(case)}")
        self._tell_progress()

    def _tell_progress(self, more: str = "") -> None:
        if self._clock() - self._told_at >= _PROGRESS_SECONDS:
            self._told_at = self._clock()
            say(progress(self._summary.total) + more)

    def stopping(self, reason: StopReason, grace: float) -> None:
        if reason.cuts_calls:
            say(f"{reason.message}: stopping, {grace:g}s for the calls in flight")

    def end(self, summary: Summary) -> None:
        for line in summary_lines(summary):
            say(line)
        super().end(summary)


def on_terminal() -> bool:
    """Whether standard error is a terminal that takes control codes."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", ""}


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
    print(plain(line), file=Patient(), flush=True)


def emit(text: str) -> None:
    """Machine output, on standard output. That its reader has gone, as in `| head`, is not our trouble."""
    with suppress(BrokenPipeError):
        print(text, flush=True)


def plain(text: str) -> str:
    """`text` with everything that could move a terminal's cursor, colour it or reorder it spelled out (`\\x1b`)."""
    return text.translate(_HARMLESS)


def one_line(text: str) -> str:
    """`plain` text in which line ends are spelled out too: what comes from a file must not forge a line of its own."""
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


def _spelled_out() -> dict[int, str]:
    controls = [*range(0x20), *range(0x7F, 0xA0)]
    surrogates = range(0xD800, 0xE000)  # a stream can't encode them
    spelled = {code: f"\\x{code:02x}" for code in controls if chr(code) not in "\n\t"}
    return spelled | {code: f"\\u{code:04x}" for code in (*map(ord, _BIDI_AND_SEPARATORS), *surrogates)}


_HARMLESS = _spelled_out()


def render_problems(problems: Sequence[Problem], *, style: Callable[[str, str], str] = lambda text, _: text) -> str:
    """All problems as text: place, message, the line with a caret, and the hint. `style` may colour a part."""
    return "\n\n".join("\n".join(_problem_lines(problem, style)) for problem in problems)


def _problem_lines(problem: Problem, style: Callable[[str, str], str]) -> Iterator[str]:
    message = plain(problem.message)
    if problem.place is None:
        yield f"{style('error', 'red')}: {message}"
    else:
        yield f"{style(plain(str(problem.place)), 'bold')}: {message}"
        yield from _excerpt_lines(problem.place.source, problem.place.column, problem.place.line, style)
    if problem.hint:
        yield f"    {style('hint', 'cyan')}: {plain(problem.hint)}"


_EXCERPT_WIDTH = 100


def _excerpt_lines(source: str, column: int, line: int, style: Callable[[str, str], str]) -> Iterator[str]:
    if not source.strip():
        return
    start = max(0, column - 1 - _EXCERPT_WIDTH * 3 // 4)
    before = plain(source[start : column - 1]).replace("\t", " ")
    after = plain(source[column - 1 : start + _EXCERPT_WIDTH]).replace("\t", " ")
    number = f"{line:>6}"
    yield f"{number} | {before}{after}"
    yield f"{' ' * len(number)} | {' ' * _cells(before)}{style('^', 'red')}"


def _cells(text: str) -> int:
    """The width of `text` in a terminal: wide characters take two cells, combining ones none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def case_name(case: Case) -> str:
    if not case.job.cases and case.matrix is None and case.job.repeat == 1:
        return case.job.name
    repeat = f" #{case.repeat + 1}" if case.job.repeat > 1 else ""
    return f"{case.job.name} [{one_line(case.id)}]{repeat}"


MOST_TOLD = 100  # cases that did not pass, of which each is told


class Outcomes:
    """What to say of finished cases. A hint is given once; after `told` cases that did not pass, others are counted."""

    def __init__(self, *, told: int | None = MOST_TOLD) -> None:
        self.hinted: set[str] = set()
        self._left = told

    def lines(self, case: Case, row: Row) -> Iterator[str]:
        """Nothing if it passed, or was cut by a stop that the end tells of."""
        lines = list(self._all_lines(case, row))
        if not lines or self._left == 0:
            return
        yield from map(one_line, lines)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                yield "more cases that did not pass are only counted; their rows tell why, as does -v"

    def _all_lines(self, case: Case, row: Row) -> Iterator[str]:
        error = row["error"]
        if error is not None and error["code"] != FailureCode.STOPPED:
            yield f"ERROR  {case_name(case)}: {error['code']}: {error['message']}"
            if error["hint"] and error["hint"] not in self.hinted:
                self.hinted.add(error["hint"])
                yield f"       hint: {error['hint']}"
        for assertion in row["assertions"]:
            if not assertion["passed"]:
                yield f"FAILED {case_name(case)} ({case.job.place.path}:{assertion['line']}): {assertion['reason']}"


def retry_line(notice: RetryNotice) -> str:
    return (
        f"{notice.error.code.value}: {one_line(notice.error.message)}; "
        f"attempt {notice.attempt + 1} of {notice.max_attempts} in {notice.wait:.1f}s"
    )


def progress(tally: Tally) -> str:
    parts = [f"{tally.done:,}/{tally.cases:,} cases"]
    parts += [f"{count:,} {name}" for count, name in ((tally.failed, "failed"), (tally.errors, "in error")) if count]
    if tally.cost_usd is not None:
        parts.append(money(tally.cost_usd))
    return ", ".join(parts)


def summary_lines(summary: Summary) -> Iterator[str]:
    """The end of a run: counts, calls, tokens, cost, time, and where the rows are."""
    total = summary.total
    for path, count in summary.set_aside.items():
        yield f"note: {plural(count, 'earlier row')} that no case wants any more went to {path}"
    if not total.done and not summary.lost_calls:
        return
    yield f"{counts(total)} in {duration(summary.elapsed)}"
    if total.kept:
        others = f"{total.called:,} {'without a row' if summary.replay else 'called'}"
        yield f"{total.kept:,} kept from earlier runs, {others if total.called else 'nothing was called'}"
    if total.calls:
        tokens = f"{plural(total.usage.input_tokens, 'token')} in, {total.usage.output_tokens:,} out"
        yield f"{_calls(total)}; {tokens}{_cost(summary)}"
    yield from _notes(summary)
    for job in summary.jobs.values():
        if job.tally.done and job.output != "-":
            yield f"rows: {job.output}" + (f" ({outcomes(job.tally)})" if len(summary.jobs) > 1 else "")


def _notes(summary: Summary) -> Iterator[str]:
    total = summary.total
    for job in summary.jobs.values():
        if job.tally.failed and not job.failed_cases:
            times = f"{job.min_pass} of {job.repeat} times"
            yield f"note: every case of {job.name} passed at least {times}, as min_pass asks"
        if job.repeat > 1 and job.failed_cases:
            more = job.failed_cases - len(job.too_few_passed)
            named = "; ".join(job.too_few_passed) + (f"; and {more:,} more" if more else "")
            yield f"note: fewer than {job.min_pass} repetitions passed (min_pass) of {job.name}: {named}"
        if (enough := job.tally.sufficient_max_tokens) is not None:
            refused = plural(job.tally.refused_for_tokens, "call was", "calls were")
            yield (
                f"note: {refused} throttled for tokens: each reserves max_tokens of {job.tally.max_tokens:,}, "
                f"and the longest reply of {job.name} had {job.tally.longest_reply:,}; `max_tokens: {enough}` would do"
            )
    if total.cut_at_max_tokens:
        cut = plural(total.cut_at_max_tokens, "reply was", "replies were")
        yield f"note: {cut} cut at max_tokens; to raise inference.max_tokens asks anew, so it calls every case again"
    if summary.kept_local:
        yield f"note: {plural(summary.kept_local, 'kept row is', 'kept rows are')} the local emulator's, not a model's"
    if (total.possibly_billed or summary.lost_calls) and not summary.endpoint_is_local:
        lost = plural(total.possibly_billed + summary.lost_calls, "call")
        yield f"note: {lost} may be on the bill without a reply to show for it"


def stop_lines(summary: Summary, outcomes: Outcomes) -> Iterator[str]:
    """Why the run stopped early and how to go on; nothing if it did not. A hint that was given is not repeated."""
    stopped = summary.stopped
    if stopped is None:
        return
    yield f"stopped: {stopped.message}"
    if stopped.hint and stopped.hint not in outcomes.hinted:
        yield f"hint: {stopped.hint}"
    if summary.total.pending:
        pending = plural(summary.total.pending, "case was", "cases were")
        yield f"{pending} not reached; {_how_to_go_on(summary)}"


def _how_to_go_on(summary: Summary) -> str:
    if not summary.keeps_rows:
        return "rows on standard output are not kept, so the next run calls every case"
    if summary.fresh:
        return "the same command without --fresh keeps what this run has got"
    return "the same command goes on, and calls none that has its row"


def counts(tally: Tally) -> str:
    return f"{plural(tally.cases, 'case')}: {outcomes(tally)}"


def outcomes(tally: Tally) -> str:
    errors = "error" if tally.errors == 1 else "errors"
    named = ((tally.passed, "passed"), (tally.failed, "failed"), (tally.errors, errors), (tally.pending, "not run"))
    return ", ".join(f"{count:,} {name}" for count, name in named if count)


def _calls(tally: Tally) -> str:
    retried = f" ({tally.retries:,} retried)" if tally.retries else ""
    return f"{plural(tally.calls, 'call')}{retried}"


def _cost(summary: Summary) -> str:
    total = summary.total
    if total.cost_usd is None:
        return "; cost not known: no price for this model (--prices FILE gives one)" if total.unpriced else ""
    note = f", without {plural(total.unpriced, 'row')} of unknown price" if total.unpriced else ""
    if summary.endpoint_is_local:
        return f"; would cost about {money(total.cost_usd)} on Bedrock (nothing was billed){note}"
    return f"; {money(total.cost_usd)} at the prices of {summary.prices}{note}"


def dry_run_lines(estimate: dict[str, Any], *, max_cost: float | None) -> Iterator[str]:
    """What `--dry-run` found, as a person reads it."""
    totals = [{"name": "in all", **estimate["total"]}] if len(estimate["jobs"]) > 1 else []
    for entry in (*estimate["jobs"], *totals):
        cost = entry["worst_case_cost_usd"]
        kept = f" ({entry['kept']:,} kept from earlier runs)" if entry["kept"] else ""
        yield (
            f"{entry['name']}: {plural(entry['cases'], 'case')}{kept}, {plural(entry['calls'], 'call')}, "
            f"about {entry['input_tokens']:,} tokens in, at most {entry['max_output_tokens']:,} out, "
            + ("cost not known" if cost is None else f"at most {money(cost)}")
        )
        if entry["faults"]:
            more = ", the first: " if entry["faults"] > 1 else ": "
            told = f"{more}{entry['first_fault']}" if entry.get("first_fault") else ""
            yield f"{entry['name']}: {plural(entry['faults'], 'case')} cannot be asked and will be in error{told}"
        if entry["not_wanted"]:
            rows = plural(entry["not_wanted"], "earlier row")
            yield f"{entry['name']}: {rows} would be set aside, since no case asks that any more"
    most = estimate["total"]["worst_case_cost_usd"]
    if max_cost is not None and most is not None and most > max_cost:
        yield f"that may be more than --max-cost {max_cost:g}: then the run stops before the end"
    yield "nothing was sent; input tokens are estimates, and the cost assumes that every reply is as long as it may be"


def money(usd: float) -> str:
    """Dollars with as many places as small sums need."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}" if usd >= 0.001 else f"${usd:.6f}"


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {rest:02}s" if hours else f"{minutes}m {rest:02}s"
