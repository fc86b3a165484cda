"""Markdown for pull requests and for the summary of a GitHub step: a verdict, tables, and what failed.

Whatever comes from a job or a model stands in code, so that it is never markup, a link or a mention.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from runner.console import duration, money, no_command, one_line, plain
from runner.report.rows import failed_assertions, place, request_id
from runner.report.totals import Totals, broken_thresholds
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runner.records import Row, Status
    from runner.report.rows import CaseResult, Rows
    from runner.summary import Summary

_ROOM = 60_000  # characters: GitHub takes 65,536 of a comment
_TABLES_ROOM = 30_000  # of these, so that there is always room for failures
_LONGEST = 1_000  # characters of what was expected or found, and of a reply
_LONGEST_NAME = 100  # of ids and the like
_LONGEST_FAILURE = 8_000  # of all that is told of one case

_SIGNS: dict[Status, str] = {"passed": "✅", "failed": "❌", "error": "⚠️"}
_TOTALS = ("cases", "passed", "failed", "errors", "cost (USD)", "tokens in", "tokens out", "p50 latency", "p95 latency")


def write(out: TextIO, rows: Rows, summary: Summary) -> None:
    """Write the report, of 60,000 characters at most; it says what was left out. Raises OSError."""
    page = _Page(out)
    jobs = {name: _Job.of(rows.cases(name)) for name in summary.jobs}
    totals = [job.totals for job in jobs.values()]
    page.add(_verdict(summary, totals))
    for job in summary.jobs.values():
        for line, told in broken_thresholds(job):
            where = _code(f"{job.path}:{line}", _LONGEST)
            page.add(f"\n{_SIGNS['failed']} {_code(job.name)} at {where}: {_code(told, _LONGEST)}\n", _TABLES_ROOM)
    page.table("job", _TOTALS, ((_cell(name), *_figures(job.totals)) for name, job in jobs.items()))
    for name, found in jobs.items():
        if len(found.variants) > 1:
            _add_variants(page, name, found)
    _add_failures(page, rows, count=sum(each.failed + each.errors for each in totals))


@dataclass(slots=True)
class _Job:
    """What tables tell of a job, without its rows: there may be many."""

    totals: Totals = field(default_factory=Totals)
    variants: dict[str, Totals] = field(default_factory=dict)
    statuses: dict[str, dict[str, Status]] = field(default_factory=dict)  # by id without the variant, and by variant

    @classmethod
    def of(cls, cases: Iterable[CaseResult]) -> _Job:
        job = cls()
        for case in cases:
            job.totals.add(case)
            if case.variant:
                job.variants.setdefault(case.variant, Totals()).add(case)
                job.statuses.setdefault(case.base_id, {})[case.variant] = case.status
        return job


class _Page:
    """The report as it is written, and the room that is left."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._used = 0

    def add(self, text: str, room: int = _ROOM) -> bool:
        """Write `text` if this much room takes it; whether it did."""
        fits = self._used + len(text) <= room
        if fits:
            self._out.write(text)
            self._used += len(text)
        return fits

    def table(self, first: str, columns: Iterable[str], lines: Iterable[Sequence[str]]) -> None:
        """A table of cells that are Markdown. The lines that the tables have no room for are counted."""
        heads = (first, *columns)
        if not self.add(f"\n| {' | '.join(heads)} |\n|{' --- |' * len(heads)}\n", _TABLES_ROOM):
            return
        left_out = sum(not self.add(f"| {' | '.join(line)} |\n", _TABLES_ROOM) for line in lines)
        if left_out:
            self.add(f"\n{plural(left_out, 'line')} of this table left out, to stay below GitHub's limits\n")


def _verdict(summary: Summary, totals: Sequence[Totals]) -> str:
    """What a person who reads one line only must know."""
    cases, failed, errors = (sum(getattr(each, name) for each in totals) for name in ("cases", "failed", "errors"))
    thresholds = sum(len(broken_thresholds(job)) for job in summary.jobs.values())
    pending = summary.total.pending
    bad = [
        f"{failed:,} failed" if failed else "",
        f"{errors:,} in error" if errors else "",
        f"{pending:,} not reached" if pending else "",
        f"{plural(thresholds, 'threshold')} not held" if thresholds else "",
    ]
    found = ", ".join(filter(None, bad))
    if found or summary.stopped:
        sign = _SIGNS["error"] if errors or pending or summary.stopped else _SIGNS["failed"]
    else:
        sign = _SIGNS["passed"]
    lines = [f"## {sign} bedrock-run: {found or 'all passed'}, of {plural(cases + pending, 'case')}\n"]
    if summary.stopped:
        hint = f"; hint: {_code(summary.stopped.hint, _LONGEST)}" if summary.stopped.hint else ""
        lines.append(f"\nThe run stopped early: {_code(summary.stopped.message, _LONGEST)}{hint}\n")
    if summary.total.kept:
        kept = plural(summary.total.kept, "row was", "rows were")
        lines.append(f"\n{kept} kept from earlier runs; cost and latency are those of their calls.\n")
    return "".join(lines)


def _figures(totals: Totals) -> tuple[str, ...]:
    cost = [] if totals.cost_usd is None else [money(totals.cost_usd).removeprefix("$")]  # $...$ would be mathematics
    if totals.unpriced:
        cost.append(f"{plural(totals.unpriced, 'row')} of unknown price")
    return (
        *(f"{count:,}" for count in (totals.cases, totals.passed, totals.failed, totals.errors)),
        " and ".join(cost),
        f"{totals.usage.input_tokens:,}",
        f"{totals.usage.output_tokens:,}",
        *("" if ms is None else duration(ms / 1000) for ms in (totals.latency_ms(0.5), totals.latency_ms(0.95))),
    )


def _add_variants(page: _Page, name: str, job: _Job) -> None:
    """The variants of a matrix beside each other, and the cases in which they differ."""
    page.add(f"\n### Variants of {_code(name)}\n", _TABLES_ROOM)
    page.table("variant", _TOTALS, ((_cell(label), *_figures(totals)) for label, totals in job.variants.items()))
    differing = {case: found for case, found in job.statuses.items() if len(set(found.values())) > 1}
    if not differing:
        page.add("\nThe variants do not differ in any case.\n", _TABLES_ROOM)
        return
    page.add(f"\n{plural(len(differing), 'case')} in which the variants differ:\n", _TABLES_ROOM)
    lines = (
        (_cell(case or name), *(_status(found.get(label)) for label in job.variants))
        for case, found in differing.items()
    )
    page.table("case", map(_cell, job.variants), lines)


def _status(status: Status | None) -> str:
    return "" if status is None else f"{_SIGNS[status]} {status}"


def _add_failures(page: _Page, rows: Rows, *, count: int) -> None:
    """What failed, each case folded; and how many there was no room for."""
    if not count:
        return
    page.add(f"\n### {plural(count, 'case')} did not pass\n")
    shown = 0
    for case in rows.cases():
        if case.status != "passed":
            if not page.add(_failure(case), _ROOM - 200):  # for the line below
                break
            shown += 1
    if shown < count:
        page.add(f"\n{plural(count - shown, 'more case')} left out, to stay below GitHub's limits: see the rows.\n")


def _failure(case: CaseResult) -> str:
    names = " ".join(f"<code>{_html(name)}</code>" for name in (case.job, case.id, *dict.fromkeys(_reasons(case))))
    body, length = [], 0
    for part in (part for row in case.rows for part in _row(row)):
        length += len(part)
        if length > _LONGEST_FAILURE:
            body.append("\nThere is more, see the rows.")
            break
        body.append(part)
    told = "\n".join(body)
    return f"\n<details>\n<summary>{_SIGNS[case.status]} {names}</summary>\n\n{told}\n\n</details>\n"


def _reasons(case: CaseResult) -> Iterator[str]:
    for row in case.rows:
        if row["error"] is not None:
            yield row["error"]["code"]
        for verdict in failed_assertions(row):
            yield verdict["type"]
    if case.missing:
        yield f"{plural(case.missing, 'repetition')} not run"


def _row(row: Row) -> Iterator[str]:
    """What went wrong in one repetition; nothing if it passed."""
    error, failed = row["error"], failed_assertions(row)
    if error is None and not failed:
        return
    if row["repeats"] > 1:
        yield f"\nRepetition {row['repeat'] + 1} of {row['repeats']}:\n"
    if error is not None:
        facts = {"message": error["message"], "hint": error["hint"], "http status": error["http_status"]}
        attempts = f", after {plural(len(row['attempts']), 'attempt')}" if row["attempts"] else ""
        yield f"- {_code(error['code'])} at {_code(place(row))}{attempts}"
        yield from _facts(facts)
    for verdict in failed:
        yield f"- {_code(verdict['type'])} at {_code(place(row, verdict['line']))}"
        yield from _facts({"expected": verdict["expected"] or verdict["reason"], "actual": verdict["actual"]})
    yield from _facts({"row": row["source"]["row"], "request id": request_id(row)}, indent="")
    if row["output"] is not None:
        yield f"\n{_block(row['output'])}"


def _facts(facts: Mapping[str, object], indent: str = "  ") -> Iterator[str]:
    for name, value in facts.items():
        if value is not None:
            yield f"{indent}- {name}: {_code(str(value), _LONGEST)}"


def _code(text: str, limit: int = _LONGEST_NAME) -> str:
    """The text on one line as code, in which nothing is markup: fenced by more backticks than it has in a row."""
    line = no_command(one_line(_cut(text, limit)))
    if not line.strip():
        return "(empty)"
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _cell(text: str) -> str:
    """As `_code`, for a table: there a `|` ends the cell, in code too, and how to escape it differs by reader."""
    return _code(one_line(text).replace("|", "\\x7c"))


def _block(text: str) -> str:
    """The text as a block of code, line by line."""
    lines = no_command(plain(_cut(text, _LONGEST)))
    fence = "`" * max(3, _longest_run(lines) + 1)
    return f"{fence}text\n{lines}\n{fence}"


def _html(text: str) -> str:
    """The text for the line that opens a fold, in which GitHub takes HTML alone."""
    return html.escape(no_command(one_line(_cut(text, _LONGEST_NAME))))


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
