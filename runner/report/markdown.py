"""Markdown for pull requests and for the summary of a GitHub step: a verdict, tables, and what failed.

Whatever comes from a job or a model goes through markup.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from runner.console import latency, money
from runner.paths import in_workspace
from runner.records.row_facts import attempts_that_failed, failed_assertions, request_id
from runner.report.markup import Page, block, cell, code, html_code
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from runner.records import Row, Status
    from runner.records.figures import Figures
    from runner.report.rows import CaseResult, Rows
    from runner.running.summary import JobSummary, Summary

_TABLES_ROOM = 30_000  # characters: half of the page
_LONGEST = 1_000  # characters of what was expected or found, and of a reply
_LONGEST_NAME = 100  # of ids and the like
_LONGEST_FAILURE = 8_000  # of all that is told of one case
_LAST_LINE = 200  # of the one that says what was left out

_SIGNS: dict[Status, str] = {"passed": "✅", "failed": "❌", "error": "⚠️"}
_TOLERATED = "🟡"  # failed, but no more than the job's thresholds allow
_COUNTS = ("cases", "passed", "failed", "errors")
_MEASURES = ("cost (USD)", "tokens in", "tokens out", "p50 latency", "p95 latency")


def write(out: TextIO, rows: Rows, summary: Summary) -> None:
    """Write the report, of 60,000 characters at most; it says what was left out. Raises OSError."""
    page = Page(out, room_of_tables=_TABLES_ROOM)
    figures = summary.figures
    page.add(_verdict(summary, figures))
    for job in summary.jobs.values():
        for broken in job.broken_thresholds:
            where, told = _place(broken.path, broken.line), code(broken.told, limit=_LONGEST)
            page.add_to_tables(f"\n{_SIGNS['failed']} {_name(job.name)} at {where}: {told}\n")
    _add_jobs(page, summary)
    for job in summary.jobs.values():
        if len(job.variants) > 1:
            _add_variants(page, job, rows)
    _add_failures(page, rows, summary.tolerant_jobs, count=figures.failed + figures.errors)


def _verdict(summary: Summary, figures: Figures) -> str:
    """What a person who reads one line only must know."""
    thresholds = sum(len(job.broken_thresholds) for job in summary.jobs.values())
    pending, tolerated = summary.pending_cases, summary.tolerated_cases
    failed = figures.failed - tolerated
    bad = [
        f"{failed:,} failed" if failed else "",
        f"{figures.errors:,} in error{_of_them_cut(summary)}" if figures.errors else "",
        f"{pending:,} not reached" if pending else "",
        f"{plural(thresholds, 'threshold')} not held" if thresholds else "",
    ]
    found = ", ".join(filter(None, bad))
    if found or summary.stopped:
        sign = _SIGNS["error"] if figures.errors or pending or summary.stopped else _SIGNS["failed"]
    else:
        sign = _SIGNS["passed"]
    allowed = f"{tolerated:,} failed as pass_rate allows" if tolerated else ""
    told = ", ".join(filter(None, (found, allowed))) or "all passed"
    lines = [f"## {sign} bedrock-run: {told}, of {plural(figures.cases + pending, 'case')}\n"]
    if summary.stopped:
        hint = f"; hint: {code(summary.stopped.hint, limit=_LONGEST)}" if summary.stopped.hint else ""
        lines.append(f"\nThe run stopped early: {code(summary.stopped.message, limit=_LONGEST)}{hint}\n")
    if summary.total.kept:
        kept = plural(summary.total.kept, "row was", "rows were")
        lines.append(f"\n{kept} kept from earlier runs; cost and latency are those of their calls.\n")
    return "".join(lines)


def _of_them_cut(summary: Summary) -> str:
    return f" ({summary.cut_cases:,} stopped in flight)" if summary.cut_cases else ""


def _add_jobs(page: Page, summary: Summary) -> None:
    """A line for each job. How many of its cases were not reached is told if that was so in any."""
    stopped = ("not reached",) if summary.pending_cases else ()
    page.table(
        ("job", *_COUNTS, *stopped, *_MEASURES),
        (
            (
                _named(job.name),
                *_counts(job.figures, pending=job.pending_cases),
                *(f"{job.pending_cases:,}" for _ in stopped),
                *_measures(job.figures),
            )
            for job in summary.jobs.values()
        ),
    )


def _counts(figures: Figures, *, pending: int = 0) -> tuple[str, ...]:
    counts = (figures.cases + pending, figures.passed, figures.failed, figures.errors)
    return tuple(f"{count:,}" for count in counts)


def _measures(figures: Figures) -> tuple[str, ...]:
    cost = [] if figures.cost_usd is None else [money(figures.cost_usd).removeprefix("$")]  # $...$ would be mathematics
    if figures.unpriced:
        cost.append(f"{plural(figures.unpriced, 'row')} of unknown price")
    return (
        " and ".join(cost),
        f"{figures.usage.input_tokens:,}",
        f"{figures.usage.output_tokens:,}",
        *(latency(figures.latencies.percentile(percent)) for percent in (50, 95)),
    )


def _named(name: str) -> str:
    return cell(name, limit=_LONGEST_NAME)


def _add_variants(page: Page, job: JobSummary, rows: Rows) -> None:
    """The variants of a matrix beside each other, and the cases in which they differ."""
    page.add_to_tables(f"\n### Variants of {_name(job.name)}\n")
    page.table(
        ("variant", *_COUNTS, *_MEASURES),
        ((_named(label), *_counts(found), *_measures(found)) for label, found in job.variants.items()),
    )
    differing = _differing(rows.cases(job.name))
    if not differing:
        page.add_to_tables("\nThe variants do not differ in any case.\n")
        return
    page.add_to_tables(f"\n{plural(len(differing), 'case')} in which the variants differ:\n")
    lines = (
        (_named(case or job.name), *(_status(found.get(label)) for label in job.variants))
        for case, found in differing.items()
    )
    page.table(("case", *map(_named, job.variants)), lines)


def _differing(cases: Iterable[CaseResult]) -> dict[str, dict[str, Status]]:
    """The verdicts by variant, of the cases in which they are not all the same."""
    statuses: dict[str, dict[str, Status]] = {}
    for case in cases:
        statuses.setdefault(case.base_id, {})[case.variant] = case.status
    return {case: found for case, found in statuses.items() if len(set(found.values())) > 1}


def _status(status: Status | None) -> str:
    return "" if status is None else f"{_SIGNS[status]} {status}"


def _add_failures(page: Page, rows: Rows, tolerant: Collection[str], *, count: int) -> None:
    """What failed, each case folded, those of tolerant jobs last; and how many there was no room for."""
    if not count:
        return
    page.add(f"\n### {plural(count, 'case')} did not pass\n")
    shown = 0
    in_order = sorted(rows.jobs, key=lambda job: job in tolerant)
    for case in (case for job in in_order for case in rows.cases(job) if case.status != "passed"):
        if not page.add(_failure(case, tolerated=case.job in tolerant), to_spare=_LAST_LINE):
            break
        shown += 1
    if shown < count:
        page.add(f"\n{plural(count - shown, 'more case')} left out, to stay below GitHub's limits: see the rows.\n")


def _failure(case: CaseResult, *, tolerated: bool) -> str:
    """What is told of a case. `tolerated`: its job may have such as failed."""
    sign, more = (_TOLERATED, " tolerated") if tolerated and case.status == "failed" else (_SIGNS[case.status], "")
    names = (case.job, case.id, *dict.fromkeys(_reasons(case)))
    named = " ".join(html_code(name, limit=_LONGEST_NAME) for name in names)
    body, length = [], 0
    for part in (part for row in case.rows for part in _row(row)):
        length += len(part)
        if length > _LONGEST_FAILURE:
            body.append("\nThere is more, see the rows.")
            break
        body.append(part)
    told = "\n".join(body)
    return f"\n<details>\n<summary>{sign} {named}{more}</summary>\n\n{told}\n\n</details>\n"


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
    error, failed, source = row["error"], failed_assertions(row), row["source"]
    if error is None and not failed:
        return
    if row["repeats"] > 1:
        yield f"\nRepetition {row['repeat'] + 1} of {row['repeats']}:\n"
    if error is not None:
        facts = {"message": error["message"], "hint": error["hint"], "http status": error["http_status"]}
        attempts = attempts_that_failed(row)
        after = f", after {plural(len(attempts), 'attempt')}" if attempts else ""
        yield f"- {_name(error['code'])} at {_place(source['path'], source['line'])}{after}"
        yield from _facts(facts)
    for verdict in failed:
        yield f"- {_name(verdict['type'])} at {_place(source['path'], verdict['line'])}"
        yield from _facts({"expected": verdict["expected"] or verdict["reason"], "actual": verdict["actual"]})
    yield from _facts({"row": source["row"], "request id": request_id(row)}, indent="")
    if row["output"] is not None:
        yield f"\n{block(row['output'], limit=_LONGEST)}"


def _name(text: str) -> str:
    return code(text, limit=_LONGEST_NAME)


def _place(path: str, line: int) -> str:
    return code(f"{in_workspace(path)}:{line}", limit=_LONGEST)


def _facts(facts: Mapping[str, object], indent: str = "  ") -> Iterator[str]:
    for name, value in facts.items():
        if value is not None:
            yield f"{indent}- {name}: {code(str(value), limit=_LONGEST)}"
