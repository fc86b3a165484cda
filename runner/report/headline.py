"""What a page says first: whether all is well, which jobs are not, and why cases have no verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import ExitCode, FailureCode
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.records import Row
    from runner.report.rows import Rows
    from runner.running.summary import JobSummary, Summary

_VERDICTS = {ExitCode.OK: "passed", ExitCode.ASSERTION_FAILED: "failed", ExitCode.INCOMPLETE: "incomplete"}
_MOST_NAMED = 3  # jobs


@dataclass(frozen=True, slots=True)
class Headline:
    verdict: str  # passed, failed, incomplete or stopped
    title: str  # `1 of 3 jobs failed: tickets`
    told: str  # sentences


def headline(rows: Rows, summary: Summary) -> Headline:
    verdict = _VERDICTS.get(summary.exit_code, "stopped")
    return Headline(verdict, _title(summary, verdict), " ".join(_told(rows, summary)))


def _title(summary: Summary, verdict: str) -> str:
    jobs = list(summary.jobs.values())
    if verdict == "passed" or len(jobs) == 1:
        return f"{verdict.capitalize()}: {_named(jobs)}"
    parts = {
        "incomplete": [job for job in jobs if job.cases_in_error or not job.complete],
        "failed": [job for job in jobs if job.has_failed],
    }
    told = [f"{len(found):,} of {len(jobs):,} jobs {word}: {_named(found)}" for word, found in parts.items() if found]
    return "; ".join([*(["Stopped early"] if verdict == "stopped" else []), *told])


def _named(jobs: list[JobSummary]) -> str:
    more = len(jobs) - _MOST_NAMED
    return ", ".join(job.name for job in jobs[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _told(rows: Rows, summary: Summary) -> Iterator[str]:
    figures = summary.figures
    cases = plural(figures.cases + summary.pending_cases, "case")
    unknown = figures.errors + summary.pending_cases
    tolerated = summary.tolerated_cases
    failed = figures.failed - tolerated
    broken = sum(len(job.broken_thresholds) for job in summary.jobs.values())
    if not (unknown or figures.failed):
        yield f"All of {cases} passed." if figures.cases else "No case has run."
    if unknown:
        yield f"{unknown:,} of {cases} {_have(unknown)} no verdict: {', '.join(_reasons(rows, summary))}."
    if failed:
        yield f"{failed:,} of {cases} failed."
    if tolerated:
        yield f"{plural(tolerated, 'case')} failed, no more than pass_rate allows."
    if broken:
        yield f"{plural(broken, 'threshold does', 'thresholds do')} not hold."


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _reasons(rows: Rows, summary: Summary) -> Iterator[str]:
    """Why cases have no verdict."""
    lacking, missing = Counter[str](), 0
    for case in rows.cases():
        missing += case.missing
        lacking.update(_lacking(row) for row in case.rows if row["error"] is not None)
    if unknown := lacking["row"]:
        yield f"{plural(unknown, summary.unit)} had no earlier row"
    if unasked := lacking["request"]:
        yield f"{plural(unasked, summary.unit)} could not be asked"
    if unanswered := lacking["reply"]:
        yield plural(unanswered, "call could not be completed", "calls could not be completed")
    if unrepaired := lacking["repair"]:
        yield plural(unrepaired, "reply could not be repaired", "replies could not be repaired")
    if unjudged := lacking["judgement"]:
        what = "by an assertion or its judge"
        yield plural(unjudged, f"reply could not be judged {what}", f"replies could not be judged {what}")
    if not_run := summary.total.pending or missing:
        yield plural(not_run, f"{summary.unit} was not run", f"{summary.unit}s were not run")


def _lacking(row: Row) -> str:
    """What a row in error did not come to."""
    assert row["error"] is not None
    attempts = row["attempts"]
    if row["output"] is not None:
        return "repair" if attempts and attempts[-1]["code"] is not None else "judgement"
    if attempts:
        return "reply"
    return "row" if row["error"]["code"] == FailureCode.NO_ROW else "request"
