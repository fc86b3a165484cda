"""What a run came to, as a person reads it: counts, cost, variants side by side, thresholds, what did not pass."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, islice
from typing import TYPE_CHECKING, NamedTuple

from runner.console.failures import Outcomes, brief, full_name, short_line
from runner.console.text import cells, cut, duration, latency, one_line, spent
from runner.errors import ExitCode
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.records import Row
    from runner.records.figures import Figures
    from runner.running.summary import JobSummary, NotPassed, Summary, Tally
    from runner.thresholds import ThresholdVerdict

_LISTED = 20  # cases that did not pass, and variants
_NAMED_MODELS = 5  # of those without a known price
_INDENT = " " * len("ERROR  ")
_LOG_WIDTH = 160  # of a line about one of them, where there is no terminal


def report_lines(rows: Iterable[Row], summary: Summary, *, width: int | None = None) -> Iterator[str]:
    """What a run of these rows would have told: a block for each case that did not pass, then the summary."""
    outcomes = Outcomes()
    for row in rows:
        yield from outcomes.lines(_row_name(row, summary.jobs[row["job"]]), row)
    yield from outcomes.rest()
    yield from summary_lines(summary, width=width)


def _row_name(row: Row, job: JobSummary) -> str:
    if job.unnamed:
        return one_line(job.name)
    return full_name(job.name, row["case"])


def progress(summary: Summary) -> str:
    """How far a run is."""
    tally = summary.total
    parts = [f"{tally.done:,}/{tally.cases:,} {summary.unit}s"]
    parts += [f"{count:,} {name}" for count, name in ((tally.failed, "failed"), (tally.errors, "in error")) if count]
    if tally.cost_usd is not None:
        parts.append(spent(tally.cost_usd, unpriced=tally.unpriced))
    return ", ".join(parts)


def summary_lines(summary: Summary, *, width: int | None = None, names_cases: bool = True) -> Iterator[str]:
    """The end of a run: counts, calls, tokens, cost, time, what did not pass, and where the rows are.

    `width` is that of the terminal; None where lines may have any length. Without `names_cases` somebody else lists the
    cases that did not pass.
    """
    return map(one_line, _summary_lines(summary, width, names_cases=names_cases))


def _summary_lines(summary: Summary, width: int | None, *, names_cases: bool) -> Iterator[str]:
    if summary.total.done or summary.lost_calls:
        yield from _what_was_done(summary, width, names_cases=names_cases)
    for path, count in summary.set_aside.items():
        replaced = summary.replaced.get(path, 0)
        for rows, why in ((count - replaced, "that no case wants any more"), (replaced, "that newer ones replace")):
            if rows:
                yield f"note: {plural(rows, 'earlier row')} {why} went to {path}"


def _what_was_done(summary: Summary, width: int | None, *, names_cases: bool) -> Iterator[str]:
    total = summary.total
    yield counts(summary) + (f" in {duration(summary.elapsed)}" if summary.elapsed else "")
    if total.kept or total.continued:
        kept = f"{total.kept:,}" if summary.unit == "case" else plural(total.kept, summary.unit)
        told = [f"{kept} kept from earlier runs"] if total.kept else []
        yield ", ".join((*told, *_others(total, replay=summary.replay)))
    if total.calls:
        tokens = f"{plural(total.usage.input_tokens, 'token')} in, {total.usage.output_tokens:,} out"
        yield f"{_calls(total)}; {tokens}{_cost(summary)}"
    for job in summary.jobs.values():
        yield from _variants(job, width)
        yield from _thresholds(job)
    if names_cases:
        yield from (cut(line, width or _LOG_WIDTH) for line in _not_passed(summary, width or _LOG_WIDTH))
    yield from _notes(summary)
    yield from _files(summary)


def _others(total: Tally, *, replay: bool) -> Iterator[str]:
    """What became of cases that no earlier row answers."""
    if replay and total.not_kept:
        yield f"{total.not_kept:,} without a row"
        return
    yield _called(total) if total.called else _called_for_kept(total)
    if total.unasked:
        yield f"{total.unasked:,} not asked"


def _called(total: Tally) -> str:
    """`3 called (2 of them to go on with a conversation)`."""
    continued = f" ({total.continued:,} of them to go on with a conversation)" if total.continued else ""
    return f"{total.called:,} called{continued}"


def _called_for_kept(total: Tally) -> str:
    """What was called in a run that kept every reply."""
    if not total.calls:
        return "nothing was called"
    if not total.repairs:
        return "only judges were called"
    return "only repairs were asked for" + (" and judges called" if total.calls > total.repairs else "")


def _files(summary: Summary) -> Iterator[str]:
    """Where the rows are. A replay keeps none: of it, which files it has judged."""
    for job in summary.jobs.values():
        if job.output != "-" and (job.tally.kept if summary.replay else job.tally.done):
            counted = f" ({outcomes(job)})" if len(summary.jobs) > 1 else ""
            yield f"{'replayed' if summary.replay else 'rows'}: {job.output}{counted}"


# --- the variants of a matrix ----------------------------------------------------------------------------------------

_COLUMNS = ("passed", "failed", "errors", "cost", "tokens", "p50", "p95")


def _variants(job: JobSummary, width: int | None) -> Iterator[str]:
    """A table with a line for each variant; of two lines where the terminal is too narrow."""
    if not job.variants:
        return
    listed = list(islice(job.variants.items(), _LISTED))
    table = [_COLUMNS, *(_cells(figures) for _, figures in listed)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in table]
    labels = [one_line(label) for label, _ in listed]
    longest = max(map(cells, ("variant", *labels)))
    yield f"{job.name}, by variant:"
    if width is None or 2 + longest + 2 + len(lines[0]) <= width:
        for label, line in zip(("variant", *labels), lines, strict=True):
            yield f"  {label}{' ' * (longest - cells(label))}  {line}"
    else:
        yield f"    {lines[0]}"
        for label, line in zip(labels, lines[1:], strict=True):
            yield f"  {label}"
            yield f"    {line}"
    if len(job.variants) > _LISTED:
        yield f"  and {len(job.variants) - _LISTED:,} more, which --json has and the reports"


def _cells(figures: Figures) -> tuple[str, ...]:
    cost = spent(figures.cost_usd, unpriced=figures.unpriced)
    percentiles = (latency(figures.latencies.percentile(percent)) for percent in (50, 95))
    numbers = (figures.passed, figures.failed, figures.errors)
    return (*(f"{number:,}" for number in numbers), cost, f"{figures.tokens:,}", *percentiles)


# --- thresholds ------------------------------------------------------------------------------------------------------


def _thresholds(job: JobSummary) -> Iterator[str]:
    verdicts = job.thresholds
    if not verdicts:
        return
    wanted = [f"{verdict.name} {verdict.wanted}" for verdict in verdicts]
    yield f"{job.name}, thresholds:"
    for verdict, text in zip(verdicts, wanted, strict=True):
        held = "held  " if verdict.held else "BROKEN"
        where = "" if verdict.held else f" ({verdict.place})"
        yield f"  {held}  {text:<{max(map(len, wanted))}}  is {verdict.found}{where}"


def broken_lines(summary: Summary) -> Iterator[str]:
    """The thresholds that do not hold, a line each."""
    for job in summary.jobs.values():
        yield from (broken_line(job.name, verdict) for verdict in job.broken_thresholds)


def broken_line(job: str, verdict: ThresholdVerdict) -> str:
    """A threshold of a job that does not hold: `BROKEN tutor (prompts/tutor.yaml:9): cost is $2.00, wanted < 1`."""
    return short_line("BROKEN", job, place=verdict.place, reason=verdict.told)


# --- what did not pass -----------------------------------------------------------------------------------------------


class _Listed(NamedTuple):
    """What is told of one case that failed, or of all cases that are in error by one cause."""

    lines: tuple[str, ...]
    cases: int


def _not_passed(summary: Summary, width: int) -> Iterator[str]:
    """A line for each case that failed and for each cause of errors, since what was told of them may be far up."""
    if summary.total.cases == 1:
        return
    entries = [*_errors(summary, width), *_failed(summary)]
    listed = entries[:_LISTED]
    for entry in listed:
        yield from entry.lines
    found = sum(job.failed_cases + job.causes.total() for job in summary.jobs.values())
    more = found - sum(entry.cases for entry in listed)
    if more and entries:
        yield f"and {plural(more, 'more case')} that did not pass"


def _failed(summary: Summary) -> Iterator[_Listed]:
    for job in summary.jobs.values():
        status = "allowed" if job.tolerates_failures else "FAILED"  # so that nobody looks here for what is wrong
        for case in sorted(job.failed.values(), key=lambda case: case.index):
            reason = brief(expected=case.expected, actual=case.actual, reason=case.reason)
            if job.repeat > 1:
                reason = f"{job.failures(case):,} of {job.repeat:,} failed: {reason}"
            name, place = _case_name(job, case), f"{case.path}:{case.line}"
            yield _Listed((short_line(status, name, place=place, reason=reason),), 1)


def _errors(summary: Summary, width: int) -> Iterator[_Listed]:
    names: dict[str, list[str]] = {}
    causes: Counter[str] = Counter()
    for job in summary.jobs.values():
        causes += job.causes
        for case in sorted(job.in_error.values(), key=lambda case: case.index):
            if not case.stopped:
                names.setdefault(case.reason, []).append(_case_name(job, case))
    for cause, (first, *others) in names.items():
        count = max(causes[cause], 1 + len(others))
        if count == 1:
            yield _Listed((short_line("ERROR", first, place=None, reason=cause),), 1)
        else:
            head = short_line("ERROR", plural(count, "case"), place=None, reason=cause)
            yield _Listed((head, _INDENT + _enumerated([first, *others], count, width=width - len(_INDENT))), count)


def _enumerated(names: Sequence[str], count: int, *, width: int) -> str:
    """As many of the names, of `count` that there are, as have room in a line, but always one."""
    room = width - len(f" and {count:,} more")
    ends = accumulate(len(name) + len(", ") for name in names)
    told = max(1, sum(end <= room for end in ends))
    return ", ".join(names[:told]) + (f" and {count - told:,} more" if count > told else "")


def _case_name(job: JobSummary, case: NotPassed) -> str:
    return one_line(job.name) if job.unnamed else full_name(job.name, case.case)


# --- notes -----------------------------------------------------------------------------------------------------------


def _notes(summary: Summary) -> Iterator[str]:
    total = summary.total
    for job in summary.jobs.values():
        yield from _notes_on_verdicts(job)
        if (enough := job.tally.sufficient_max_tokens) is not None:
            refused = plural(job.tally.refused_for_tokens, "call was", "calls were")
            yield (
                f"note: {refused} throttled for tokens: each reserves max_tokens of {job.tally.max_tokens:,}, "
                f"and the longest reply of {job.name} had {job.tally.longest_reply:,}; `max_tokens: {enough}` would do"
            )
    if total.cut_at_max_tokens:
        cut = plural(total.cut_at_max_tokens, "reply was", "replies were")
        yield f"note: {cut} cut at max_tokens; to raise inference.max_tokens asks anew, so it calls every case again"
    if summary.judged_locally:
        verdicts = plural(summary.judged_locally, "verdict of a judge is", "verdicts of judges are")
        yield f"note: {verdicts} the local emulator's: as --replies scripts them, and otherwise a pass"
    if summary.kept_local:
        yield f"note: {plural(summary.kept_local, 'kept row is', 'kept rows are')} the local emulator's, not a model's"
    if summary.edited_sidecars:
        edited = plural(summary.edited_sidecars, "sidecar was", "sidecars were")
        yield f"note: {edited} changed by hand and left alone"
    for path in summary.unwritten_sidecars[:_LISTED]:
        yield f"the sidecar {path!r} was not written: a file appeared there; move it, and run the same command again"
    if len(summary.unwritten_sidecars) > _LISTED:
        yield f"and {len(summary.unwritten_sidecars) - _LISTED:,} sidecars more"
    yield from _unused_replies(summary)
    if (total.possibly_billed or summary.lost_calls) and not summary.endpoint_is_local:
        lost = plural(total.possibly_billed + summary.lost_calls, "call")
        yield f"note: {lost} may be on the bill without a reply to show for it"
    yield from tolerance_lines(summary)


def _unused_replies(summary: Summary) -> Iterator[str]:
    yield from (f"note: {entry}" for entry in summary.unused_replies)
    if summary.unused_replies and summary.total.kept:
        why = plural(summary.total.kept, "case was kept and so not", "cases were kept and so not")
        yield f"note: {why} called, whatever the replies file says now; --fresh calls every case again"


def _notes_on_verdicts(job: JobSummary) -> Iterator[str]:
    """What decided, where it was not simply that every case must pass."""
    if job.tally.failed and not job.failed_cases and not job.cases_in_error:
        yield f"note: every case of {job.name} passed at least {job.min_pass} of {job.repeat} times, as min_pass asks"
    if job.wanted and not job.settled:
        why = ", ".join(_unsettled(job.tally, unit=job.unit)) or "the run was stopped"
        yield f"note: the thresholds of {job.name} were not judged: {why}"
    elif job.wanted and job.partial:
        yield f"note: the thresholds of {job.name} were judged by the cases that were chosen alone"


def tolerance_lines(summary: Summary) -> Iterator[str]:
    """Why cases that were told of as failed do not make the run fail."""
    outcome = "; the run has passed" if summary.exit_code == ExitCode.OK else ""
    for job in summary.jobs.values():
        if job.tolerates_failures:
            failed = f"{plural(job.failed_cases, 'case')} of {job.name} failed"
            yield one_line(f"note: {failed}, no more than its pass_rate allows{outcome}")


def stop_lines(summary: Summary, outcomes: Outcomes) -> Iterator[str]:
    """Why the run stopped early and how to go on; nothing if it did not. A hint that was given is not repeated."""
    stopped = summary.stopped
    if stopped is None:
        return
    yield one_line(f"stopped: {stopped.message}")
    if stopped.hint and stopped.hint not in outcomes.hinted:
        yield one_line(f"hint: {stopped.hint}")
    if not summary.settled:
        unsettled = ", ".join(_unsettled(summary.total, unit=summary.unit))
        yield "; ".join(filter(None, (unsettled, _how_to_go_on(summary))))


def _unsettled(tally: Tally, *, unit: str) -> Iterator[str]:
    """What has come to no end, since the run ended."""
    for count, what in ((tally.pending, "not reached"), (tally.cut, "stopped in flight")):
        if count:
            yield f"{plural(count, f'{unit} was', f'{unit}s were')} {what}"


def _how_to_go_on(summary: Summary) -> str:
    if summary.replay:
        return "a replay keeps nothing, so the same command begins anew"
    if not summary.keeps_rows:
        return "rows on standard output are not kept, so the next run calls every case"
    if summary.fresh:
        return "the same command without --fresh keeps what this run has got"
    return "the same command goes on, and calls none that has its row"


def counts(summary: Summary) -> str:
    """The cases and what became of them, each counted once however often it was repeated."""
    return f"{number_of_cases(summary)}: {outcomes(summary)}"


def number_of_cases(summary: Summary) -> str:
    """`28 cases`, or `28 cases (48 with repetitions)`."""
    repeated = "" if summary.unit == "case" else f" ({summary.total.cases:,} with repetitions)"
    return plural(summary.figures.cases + summary.pending_cases, "case") + repeated


def outcomes(run: Summary | JobSummary) -> str:
    figures = run.figures
    errors = "error" if figures.errors == 1 else "errors"
    cut = f" ({run.cut_cases:,} stopped in flight)" if run.cut_cases else ""
    named = (
        (figures.passed, "passed"),
        (figures.failed, "failed"),
        (figures.errors, f"{errors}{cut}"),
        (run.pending_cases, "not run"),
    )
    return ", ".join(f"{count:,} {name}" for count, name in named if count)


def _calls(tally: Tally) -> str:
    retried = f" ({tally.retries:,} retried)" if tally.retries else ""
    return f"{plural(tally.calls, 'call')}{retried}"


def _cost(summary: Summary) -> str:
    total = summary.total
    if total.cost_usd is None:
        return f"; cost not known: {_why_unpriced(summary)}" if total.unpriced else ""
    sum_, why = spent(total.cost_usd, unpriced=total.unpriced), f"; {_why_unpriced(summary)}" if total.unpriced else ""
    if summary.endpoint_is_local:
        return f"; would cost about {sum_} on Bedrock (nothing was billed{why})"
    prices = f" at the prices of {summary.prices}" if summary.prices else ""  # rows do not tell which they were
    return f"; {sum_}{prices}{why}"


def _why_unpriced(summary: Summary) -> str:
    tally, hint = summary.total, "" if summary.of_rows_alone else " (--prices FILE gives one)"
    if not tally.unpriced_models:
        return f"the service counted no tokens of {plural(tally.unpriced, 'row')}"
    named = [*islice(tally.unpriced_models, _NAMED_MODELS)]
    more = [f"{len(tally.unpriced_models) - _NAMED_MODELS} more"] if len(tally.unpriced_models) > _NAMED_MODELS else []
    return f"no price for {', '.join([*named, *more])}{hint}"
