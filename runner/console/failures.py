"""Cases that did not pass, as a person reads of them: a block each, made from the row alone."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.console.text import cells, cut, one_line
from runner.errors import FailureCode
from runner.row_facts import attempts_that_failed, failed_assertions, place
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.records import Case, ErrorRecord, Row, VerdictRecord

MOST_TOLD = 100  # cases that did not pass, of which each is told

_INDENT = "    "
_LONGEST_LINE = 400  # characters; most terminals wrap that to a few lines
_LONGEST_VALUE = 45
_BEFORE, _AFTER = 24, 38  # characters around the first difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What is told of a case that did not pass. Every line is harmless."""

    short: str  # all in one line
    head: str
    body: tuple[str, ...]
    hint: str | None


def failure_lines(name: str, row: Row) -> list[str]:
    """The block about a case that did not pass, ready for a terminal or a log; nothing for one that passed.

    `name` is what the case is called: `tutor [squares]`.
    """
    failure = failure_of(name, row)
    if failure is None:
        return []
    return [failure.head, *failure.body, *([_hint_line(failure.hint)] if failure.hint else [])]


def failure_of(name: str, row: Row) -> Failure | None:
    """What is told of a finished case; None if it passed."""
    if row["status"] == "passed":
        return None
    failed = failed_assertions(row)
    error, source = row["error"], row["source"]
    if error is None:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        status, line, reason = "FAILED", failed[0]["line"], failed[0]["reason"] + more
    else:
        status, line, reason = "ERROR", source["line"], f"{error['code']}: {error['message']}"
    where = place(row, line)
    body = [
        *(_error_lines(error, row) if error is not None else ()),
        *(each for verdict in failed for each in _verdict_lines(verdict, row["output"], head_line=line)),
        *([f"case: {source['row']}"] if source["row"] else ()),
        *([_repetition(row)] if row["repeats"] > 1 else ()),
    ]
    return Failure(
        short=short_line(status, name, place=None if error else where, reason=reason),
        head=cut(f"{status:<6} {name} ({where})", _LONGEST_LINE),
        body=tuple(_INDENT + cut(each, _LONGEST_LINE) for each in body),
        hint=None if error is None or not error["hint"] else cut(error["hint"], _LONGEST_LINE),
    )


def short_line(status: str, name: str, *, place: str | None, reason: str) -> str:
    """A case that did not pass, on one line: `FAILED tutor [squares] (prompts/tutor.yaml:12): expected output ...`."""
    where = f" ({place})" if place else ""
    return cut(f"{status:<6} {name}{where}: {reason}", _LONGEST_LINE)


def case_name(case: Case) -> str:
    """What people call a case: its job and, if there may be others, its id and repetition."""
    if not case.job.cases and case.matrix is None and case.job.repeat == 1:
        return case.job.name
    return full_name(case.job.name, case.id, repeat=case.repeat if case.job.repeat > 1 else None)


def full_name(job: str, case: str, *, repeat: int | None = None) -> str:
    """`tutor [squares]`, or `tutor [squares] #2` for the second repetition, which is number 1."""
    return one_line(f"{job} [{case}]") + ("" if repeat is None else f" #{repeat + 1}")


def _error_lines(error: ErrorRecord, row: Row) -> Iterator[str]:
    yield f"{error['code']}: {error['message']}"
    attempts = attempts_that_failed(row)
    if attempts:
        which = "request id" if len(attempts) == 1 else "the last with request id"
        yield plural(len(attempts), "attempt") + (f", {which} {error['request_id']}" if error["request_id"] else "")


def _repetition(row: Row) -> str:
    return f"repetition {row['repeat'] + 1} of {row['repeats']}; {row['min_pass']} must pass (min_pass)"


def _verdict_lines(verdict: VerdictRecord, output: str | None, *, head_line: int) -> Iterator[str]:
    """One assertion that does not hold. The head of the block names a line of the job file already."""
    elsewhere = "" if verdict["line"] == head_line else f"  (line {verdict['line']})"
    yield _as_written(verdict) + elsewhere
    if not verdict["expected"] or verdict["actual"] is None:  # a row of an earlier version
        yield verdict["reason"]
        return
    if verdict["type"] in {"equals", "starts-with"} and isinstance(verdict["value"], str) and output is not None:
        at = _first_difference(verdict["value"], output)
        if at:
            yield from _marked(verdict["value"], output, at)
            return
    yield f"expected: {verdict['expected']}"
    yield f"actual:   {verdict['actual']}"


def _as_written(verdict: VerdictRecord) -> str:
    """The assertion in the words of the job file, with the templates of its value rendered."""
    parts = [f"type: {verdict['type']}"]
    value, threshold = verdict["value"], verdict["threshold"]
    if isinstance(value, str) and len(value) > _LONGEST_VALUE:
        value = f"{value[:_LONGEST_VALUE]}…"
    if value is not None:
        parts.append(f"value: {cut(json.dumps(value, ensure_ascii=False), 2 * _LONGEST_VALUE)}")
    if threshold is not None:
        parts.append(
            f"threshold: {_as_duration(threshold) if verdict['type'].endswith('latency') else f'{threshold:g}'}"
        )
    return f"{{{', '.join(parts)}}}"


def _as_duration(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def _first_difference(one: str, other: str) -> int:
    """How many characters both begin with; by halves, since comparing them one by one takes long for a megabyte."""
    shorter = min(len(one), len(other))
    return bisect_left(range(shorter), x=True, key=lambda index: one[: index + 1] != other[: index + 1])


def _marked(expected: str, output: str, at: int) -> Iterator[str]:
    """Both texts below each other, as far as they are of interest, and a mark where they begin to differ."""
    whole = at <= _BEFORE
    before = one_line(expected[0 if whole else at - _BEFORE : at])
    before = ("'" if whole else "…'") + (before if whole else before[-_BEFORE:])
    for name, text in (("expected: ", expected), ("actual:   ", output)):
        rest = cut(text[at:], _AFTER)
        yield f"{name}{before}{rest}" + ("" if rest.endswith("…") else "'")
    if at == len(output):
        told = "the reply ends here"
    elif at == len(expected):
        told = "the reply goes on here"
    else:
        told = f"differs from character {at + 1:,} on"
    yield " " * (len("expected: ") + cells(before)) + f"^ {told}"


def _hint_line(hint: str) -> str:
    return f"{_INDENT}hint: {hint}"


class Outcomes:
    """What to say of finished cases: a block each or, `short`, a line.

    A hint is given once; after `told` cases that did not pass, others are counted.
    """

    def __init__(self, *, told: int | None = MOST_TOLD, short: bool = False) -> None:
        self.hinted: set[str] = set()
        self._left = told
        self._short = short

    def lines(self, name: str, row: Row) -> Iterator[str]:
        """Nothing if it passed, or was cut by a stop that the end tells of."""
        if self._left != 0 and is_told(row):
            failure = failure_of(name, row)
            assert failure is not None
            yield from self.tell(failure)

    def tell(self, failure: Failure) -> Iterator[str]:
        """The lines about a case that did not pass, unless enough has been told."""
        if self._left == 0:
            return
        yield from [failure.short] if self._short else [failure.head, *failure.body]
        if failure.hint and failure.hint not in self.hinted:
            self.hinted.add(failure.hint)
            yield _hint_line(failure.hint)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                yield "more cases that did not pass are only counted; their rows tell why, as does -v"


def is_told(row: Row) -> bool:
    """Whether there is something to say of a finished case by itself."""
    if row["error"] is None:
        return row["status"] == "failed"
    return row["error"]["code"] != FailureCode.STOPPED
