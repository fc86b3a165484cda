"""JUnit XML, for Jenkins, GitLab and the readers of GitHub: one testsuite for each job, one testcase for each case.

It keeps to the schema of Jenkins' xUnit plugin, which gives a testcase neither properties nor a file and a line. So the
properties are the suite's, and each case says in its own text where it is declared, what model answered and how. The
repetitions of a case are one testcase, with one `<failure>` or `<error>`, since many readers take only one.

A case that failed where the job's `pass_rate` allows it is `<skipped>`, as pytest reports an expected failure: with a
`<failure>` Jenkins marks the build unstable and GitLab the merge request, though the run exits with 0. What failed is
told in it all the same. From rows alone, which tell of no thresholds, it is a `<failure>`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TextIO
from xml.sax.saxutils import escape, quoteattr

from runner.console import plain
from runner.records import matrix_label
from runner.records.row_facts import (
    attempts_that_failed,
    cost_of,
    declared,
    failed_assertions,
    place,
    request_id,
    took_s,
)
from runner.words import beginning, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.records import AttemptRecord, Row
    from runner.records.figures import Figures
    from runner.report.rows import CaseResult, Rows
    from runner.running.summary import JobSummary, Summary

_LONGEST_REPLY = 10_000  # characters of each reply
_LONGEST_FINDING = 4_000  # of what an assertion expected or found, or AWS said
_LONGEST_MESSAGE = 500  # of a message, which readers show as a headline

_NOT_XML = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}  # all that XML cannot say and `plain` lets through
# GitLab, Jenkins and Azure take such a mark in a test's output as the order to publish a file.
_ORDERS = re.compile(r"\[(?=\[\s*(?:ATTACHMENT|PROPERTY)\s*\|)", re.IGNORECASE)
# What CI would take for its commands, were the file printed in a log; XML can say the same in another way.
_COMMANDS = {"::": ":&#58;", "##[": "##&#91;", "##vso[": "##vso&#91;"}


def write(out: TextIO, rows: Rows, summary: Summary) -> None:
    """Write the report, case by case. Raises OSError."""
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n')
    out.write("<testsuites>\n")
    for job in summary.jobs.values():
        _write_suite(out, job, rows, summary)
    out.write("</testsuites>\n")


def _write_suite(out: TextIO, job: JobSummary, rows: Rows, summary: Summary) -> None:
    figures, tolerated = job.figures, job.tolerates_failures
    facts = _Facts()
    for row in rows.of_job(job.name):
        facts.add(row)
    unreached = _unreached(job, summary)
    broken = "\n".join(f"{verdict.place}: {verdict.told}" for verdict in job.broken_thresholds)
    out.write(
        _tag(
            "testsuite",
            name=job.name,
            tests=str(figures.cases + bool(unreached) + bool(broken)),
            failures=str((0 if tolerated else figures.failed) + bool(broken)),
            errors=str(figures.errors + bool(unreached)),
            skipped=str(figures.failed if tolerated else 0),
            time=f"{facts.took_s:.3f}",
            **({"timestamp": facts.started_at.partition(".")[0]} if facts.started_at else {}),
            file=job.path,
        )
    )
    out.write("<properties>\n")
    for name, value in (*facts.properties(), *_properties(figures)):
        out.write(_element("property", "", name=name, value=value))
    out.write("</properties>\n")
    if unreached:
        _write_verdict(out, job, "(run)", _element("error", unreached, type="stopped", message=_headline(unreached)))
    if broken:
        verdict = _element("failure", broken, type="threshold", message=_headline(broken))
        _write_verdict(out, job, "(thresholds)", verdict)
    for case in rows.cases(job.name):
        _write_case(out, case, tolerated=tolerated)
    out.write("</testsuite>\n")


class _Facts:
    """What the head of a suite says of its rows, beside their figures."""

    def __init__(self) -> None:
        self.took_s = 0.0
        self.started_at = ""
        self._named: dict[str, dict[str, None]] = {"model": {}, "region": {}, "endpoint": {}, "version": {}}

    def add(self, row: Row) -> None:
        self.took_s += took_s(row)
        self.started_at = min(self.started_at or row["started_at"], row["started_at"])
        said: Mapping[str, object] = row
        for name, values in self._named.items():
            values.setdefault(str(said.get(name, "")))

    def properties(self) -> Iterator[tuple[str, str]]:
        return ((name, ", ".join(values)) for name, values in self._named.items() if values)


def _properties(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "input_tokens", str(figures.usage.input_tokens)
    yield "output_tokens", str(figures.usage.output_tokens)
    if figures.cost_usd is not None:
        yield "cost_usd", f"{figures.cost_usd:.9f}"


def _unreached(job: JobSummary, summary: Summary) -> str:
    """Why the run did not get to the end of the job; empty if it did. CI must not take what is there for everything."""
    pending = job.tally.pending
    if not pending and (summary.stopped is None or not summary.complete):  # then other jobs say why
        return ""
    why = "the run did not finish" if summary.stopped is None else f"the run stopped: {summary.stopped.message}"
    of_all = plural(job.tally.cases, f"{job.unit} was", f"{job.unit}s were")
    cases = f"{pending:,} of {of_all} not reached" if pending else ""
    hint = f"hint: {summary.stopped.hint}" if summary.stopped and summary.stopped.hint else ""
    return "\n".join(filter(None, ("; ".join(filter(None, (why, cases))), hint)))


def _write_verdict(out: TextIO, job: JobSummary, name: str, verdict: str) -> None:
    """A testcase that is no case: what is to be said of the whole job."""
    out.write(f"{_tag('testcase', name=name, classname=job.name, time='0.000')}{verdict}</testcase>\n")


def _write_case(out: TextIO, case: CaseResult, *, tolerated: bool) -> None:
    took = sum(map(took_s, case.rows))
    out.write(_tag("testcase", name=case.id, classname=case.job, time=f"{took:.3f}"))
    told = "\n".join(line for row in case.rows for line in _trouble(row))
    match case.status:
        case "failed":
            verdicts = [verdict for row in case.rows for verdict in failed_assertions(row)]
            more = f" (and {len(verdicts) - 1:,} more)" if len(verdicts) > 1 else ""
            message = _headline(verdicts[0]["reason"]) + more
            if tolerated:
                element, message = "skipped", f"failed, as pass_rate allows: {message}"
            else:
                element = "failure"
            out.write(_element(element, told, type=verdicts[0]["type"], message=message))
        case "error":
            errors = [row["error"] for row in case.rows if row["error"] is not None]
            if errors:
                kind, message = errors[0]["code"], errors[0]["message"]
            else:
                kind, message = "missing", f"{plural(case.missing, 'repetition has', 'repetitions have')} no row"
            out.write(_element("error", told or message, type=kind, message=_headline(message)))
    out.write(_element("system-out", "\n\n".join(_output(row) for row in case.rows)))
    out.write("</testcase>\n")


def _trouble(row: Row) -> Iterator[str]:
    """What went wrong in one repetition, for people: what failed, where it stands, what was wanted and what came."""
    which = f" (repetition {row['repeat'] + 1} of {row['repeats']})" if row["repeats"] > 1 else ""
    error = row["error"]
    if error is not None:
        yield f"{place(row)}: error{which}: {error['code']}"
        yield from _indented(
            ("message", error["message"]),
            ("hint", error["hint"]),
            ("http status", error["http_status"]),
            ("request id", request_id(row)),
            ("row", row["source"]["row"]),
        )
        attempts = attempts_that_failed(row)
        if len(attempts) > 1:
            yield f"    {len(attempts)} attempts:"
            yield from map(_attempt, attempts)
    for verdict in failed_assertions(row):
        yield f"{place(row, verdict['line'])}: {verdict['type']} failed{which}"
        yield from _indented(
            ("expected", verdict["expected"] or verdict["reason"]),
            ("actual", verdict["actual"]),
            ("request id", request_id(row)),
            ("row", row["source"]["row"]),
        )


def _attempt(attempt: AttemptRecord) -> str:
    after = f"after {attempt['latency_ms']:,} ms"
    if attempt["code"] is None:
        return f"        answered {after}"
    return f"        {attempt['code']} {after}: {_headline(attempt['message'] or '')}"


def _indented(*facts: tuple[str, object]) -> Iterator[str]:
    for name, value in facts:
        if value is not None:
            yield f"    {name}: {beginning(str(value), _LONGEST_FINDING)}"


def _output(row: Row) -> str:
    """The properties of one repetition, which have no other place in this schema, and its reply."""
    usage, cost = row["usage"] or {}, cost_of(row)
    facts = {
        "status": row["status"],
        "repetition": f"{row['repeat'] + 1} of {row['repeats']}" if row["repeats"] > 1 else None,
        "declared": declared(row),
        "model": row["model"],
        "region": row["region"],
        "matrix": matrix_label(row["matrix"] or {}) or None,
        "tags": ", ".join(row["tags"]) or None,
        "input_tokens": usage.get("input_tokens"),
        "output_tokens": usage.get("output_tokens"),
        "cost_usd": None if cost is None else f"{cost:.9f}",
        "stop_reason": row["stop_reason"],
        "request_id": request_id(row),
    }
    head = "\n".join(f"{name}: {value}" for name, value in facts.items() if value is not None)
    return head if row["output"] is None else f"{head}\n\n{beginning(row['output'], _LONGEST_REPLY)}"


def _headline(text: str) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[:_LONGEST_MESSAGE]}…"


def _element(name: str, text: str, /, **attributes: str) -> str:
    return f"{_tag(name, **attributes).rstrip()}{escape(_harmless(text), _COMMANDS)}</{name}>\n"


def _tag(element: str, /, **attributes: str) -> str:
    given = "".join(f" {name}={quoteattr(_harmless(value), _COMMANDS)}" for name, value in attributes.items())
    return f"<{element}{given}>\n"


def _harmless(text: str) -> str:
    """The text with everything spelled out that XML can't hold, or that a reader would take for more than text."""
    return _ORDERS.sub(r"\\x5b", plain(text).translate(_NOT_XML))
