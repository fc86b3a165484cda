"""Cases that did not pass, as a person reads of them: a block each, made from the row alone."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.console.text import cells, cut, one_line
from runner.records.figures import verdict_of_case
from runner.records.row_facts import attempts_that_failed, failed_assertions, place, was_cut
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.records import Case, ErrorRecord, Row, Status, VerdictRecord

MOST_TOLD = 100  # cases that did not pass, of which each is told

_INDENT = "    "
_LONGEST_LINE = 400  # characters; most terminals wrap that to a few lines
_LONGEST_VALUE = 45
_LONGEST_FINDING = 70  # characters of what was found, and of what was expected, where all is in one line
_MOST_DIFFERENT = 3  # findings of one assertion in the repetitions of a case, of which each is told
_BEFORE, _AFTER = 24, 38  # characters around the first difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What is told of a case. Every line is harmless."""

    passed: bool = False
    failed: bool = False  # and is not in error
    cause: str = ""  # of an error by which alone others may be in error too
    reason: str = ""  # why, on one line, without the name of the case
    line: int = 1  # of the job file: where the assertion is that failed first, or the case
    short: str  # all in one line
    head: str
    body: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        return [self.head, *self.body, *map(_hint_line, self.hints)]

    def allowed(self) -> Told:
        """The same of a case that failed where its job's thresholds allow it."""
        return replace(self, short=self.short.replace("FAILED", "allowed", 1))


def failure_lines(name: str, row: Row) -> list[str]:
    """The block about a row that did not pass, ready for a terminal or a log; nothing for one that passed.

    `name` is what it is called: `tutor [squares]`.
    """
    told = failure_of(name, row)
    return told.lines if told else []


def case_lines(name: str, rows: Sequence[Row]) -> list[str]:
    """As `failure_lines`, about a case, made from the rows of its repetitions: as many as have finished.

    What several of them have in common is told once.
    """
    told = failure_of_case(name, rows)
    return told.lines if told else []


def failure_of_case(name: str, rows: Sequence[Row]) -> Told | None:
    """What is told of a case that has these rows; None if it passed."""
    if rows[0]["repeats"] == 1:
        return failure_of(name, rows[0])
    repetitions = Repetitions(name, rows[0])
    for row in rows:
        repetitions.add(row)
    told = repetitions.told()
    return None if told.passed else told


def failure_of(name: str, row: Row) -> Told | None:
    """What is told of a row by itself; None if it passed."""
    if row["status"] == "passed":
        return None
    error, findings = row["error"], list(_findings(row))
    where = place(row, _line(row))
    body = [
        *(line for finding in findings for line in (finding.head(_line(row)), *finding.details)),
        *_origin(row),
        *([_repetition(row)] if row["repeats"] > 1 else ()),
    ]
    status = "FAILED" if error is None else "ERROR"
    return Told(
        failed=error is None,
        cause=_reason(row) if error and len(findings) == 1 else "",
        short=short_line(status, name, place=None if error else where, reason=_reason(row)),
        reason=cut(_reason(row), _LONGEST_LINE),
        line=_line(row),
        head=cut(f"{status:<6} {name} ({where})", _LONGEST_LINE),
        body=tuple(map(_body_line, body)),
        hints=tuple(_hints(findings)),
    )


def short_line(status: str, name: str, *, place: str | None, reason: str) -> str:
    """A case that did not pass, on one line: `FAILED tutor [squares] (prompts/tutor.yaml:12): got 'A list'; ...`."""
    where = f" ({place})" if place else ""
    return cut(f"{status:<6} {name}{where}: {reason}", _LONGEST_LINE)


def brief(*, expected: str, actual: str | None, reason: str) -> str:
    """A failed assertion in a part of a line, with what was found first: it is what one looks for in a list."""
    if not expected or actual is None:  # a row of an earlier version
        return reason
    return f"{cut(actual, _LONGEST_FINDING)}; expected {cut(expected, _LONGEST_FINDING)}"


def case_name(case: Case) -> str:
    """What people call a case: its job and, if there may be others, its id."""
    if not case.job.cases and case.matrix is None and case.job.repeat == 1:
        return case.job.name
    return full_name(case.job.name, case.id)


def call_name(case: Case) -> str:
    """What people call a case, and which repetition of it, if there may be others: `tutor [squares] #2`."""
    return case_name(case) + (f" #{case.repeat + 1}" if case.job.repeat > 1 else "")


def full_name(job: str, case: str) -> str:
    """`tutor [squares]` or, where the id has brackets itself, as that of a variant has, `tutor: squares [tone=dry]`."""
    return one_line(f"{job}: {case}" if "[" in case else f"{job} [{case}]")


# --- what went wrong -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Finding:
    """One thing that went wrong: what, and the lines that explain it. `line` is that of a failed assertion."""

    what: str
    details: tuple[str, ...]
    line: int | None = None
    hint: str | None = None

    def head(self, line: int, times: str = "") -> str:
        """The head of the block names `line` of the job file already."""
        elsewhere = "" if self.line in {None, line} else f"  (line {self.line})"
        return f"{times}{self.what}{elsewhere}"


def _findings(row: Row) -> Iterator[_Finding]:
    error = row["error"]
    if error is not None:
        yield _Finding(f"{error['code']}: {error['message']}", tuple(_attempts(error, row)), hint=error["hint"])
    quoted: set[str] = set()
    for verdict in failed_assertions(row):
        yield _Finding(_as_written(verdict), tuple(_details(verdict, row["output"], quoted)), verdict["line"])


def _attempts(error: ErrorRecord, row: Row) -> Iterator[str]:
    attempts = attempts_that_failed(row)
    if attempts:
        which = "request id" if len(attempts) == 1 else "the last with request id"
        told = f", {which} {error['request_id']}" if error["request_id"] else ""
        yield plural(len(attempts), "attempt") + told


def _details(verdict: VerdictRecord, output: str | None, quoted: set[str]) -> Iterator[str]:
    """What was expected and found. A long quote is given once in a block: those that were are `quoted`."""
    expected, actual = verdict["expected"], verdict["actual"]
    if not expected or actual is None:  # a row of an earlier version
        yield verdict["reason"]
        return
    if verdict["type"] in {"equals", "starts-with"} and isinstance(verdict["value"], str) and output is not None:
        at = _first_difference(verdict["value"], output)
        if at:
            yield from _marked(verdict["value"], output, at)
            return
    quote = _quotation(actual, output or "")
    if len(quote) > _LONGEST_VALUE and quote in quoted:
        actual = f"{actual.removesuffix(quote)}… (quoted above)"
    quoted.add(quote)
    yield f"expected: {expected}"
    yield f"actual:   {actual}"


def _quotation(actual: str, output: str) -> str:
    """The end of `actual` that quotes the output; empty if it does not end so."""
    on_one_line = output.replace("\n", "\\n").replace("\r", "\\r")
    for start in (found.start() for found in re.finditer("…?'", actual)):
        quote = actual[start:]
        if quote.removesuffix("…").strip("…'") in on_one_line:
            return quote
    return ""


def _line(row: Row) -> int:
    """The line of the job file that a row in error or with a failed assertion is told with."""
    if row["error"] is not None:
        return row["source"]["line"]
    return failed_assertions(row)[0]["line"]


def _reason(row: Row) -> str:
    """Why a row did not pass, in a part of a line."""
    if row["error"] is not None:
        return f"{row['error']['code']}: {row['error']['message']}"
    first, *others = failed_assertions(row)
    more = f" (and {len(others)} more)" if others else ""
    return brief(expected=first["expected"], actual=first["actual"], reason=first["reason"]) + more


def _origin(row: Row) -> list[str]:
    return [f"case: {row['source']['row']}"] if row["source"]["row"] else []


def _repetition(row: Row) -> str:
    return f"repetition {row['repeat'] + 1} of {row['repeats']}; {row['min_pass']} must pass (min_pass)"


def _body_line(line: str) -> str:
    return _INDENT + cut(line, _LONGEST_LINE)


def _hints(findings: Iterable[_Finding]) -> Iterator[str]:
    return (cut(hint, _LONGEST_LINE) for hint in dict.fromkeys(finding.hint for finding in findings) if hint)


# --- cases that are run several times --------------------------------------------------------------------------------


class Repetitions:
    """What becomes of a case that is run several times, gathered as its rows come: never the rows themselves."""

    def __init__(self, name: str, row: Row) -> None:
        """`row` is any of its rows."""
        self._name = name
        self._repeats = row["repeats"]
        self._min_pass = row["min_pass"]
        self._path = row["source"]["path"]
        self._declared = row["source"]["line"]
        self._origin = _origin(row)
        self._line: int | None = None  # of the assertion that failed first
        self._reasons: dict[Status, str] = {}  # why the first of each failed and was in error
        self._counts: Counter[Status] = Counter()
        self._findings: dict[tuple[str, int | None], list[_Finding]] = {}  # different ones about the same
        self._times: Counter[tuple[str, int | None]] = Counter()

    def add(self, row: Row) -> None:
        """Count a repetition, unless it was cut by the end of the run: then it is one that was not run."""
        if was_cut(row):
            return
        self._counts[row["status"]] += 1
        if row["status"] == "passed":
            return
        self._reasons.setdefault(row["status"], _reason(row))
        if row["error"] is None:
            self._line = self._line or _line(row)
        for finding in _findings(row):
            about = (finding.what, finding.line)
            self._times[about] += 1
            known = self._findings.setdefault(about, [])
            if finding not in known and len(known) <= _MOST_DIFFERENT:  # the last one tells that there are more
                known.append(finding)

    @property
    def finished(self) -> bool:
        return self._counts.total() >= self._repeats

    @property
    def went_wrong(self) -> bool:
        """Whether a repetition failed or is in error."""
        return bool(self._findings)

    def told(self) -> Told:
        status = verdict_of_case(
            passed=self._counts["passed"],
            failed=self._counts["failed"],
            errors=self._counts["error"],
            repeats=self._repeats,
            min_pass=self._min_pass,
        )
        if status == "passed":
            passed = f"passed {self._name}: {self._counts['passed']:,} of {self._repeats:,} repetitions"
            return Told(passed=True, short=passed, head=passed)
        line = self._line or self._declared
        word, where, count = ("FAILED" if status == "failed" else "ERROR"), f"{self._path}:{line}", self._counted()
        known = self._reasons.get(status) or next(iter(self._reasons.values()), "")
        reason = f"{count}: {known}" if known else count
        return Told(
            failed=status == "failed",
            cause=known if status == "error" and len(self._findings) == 1 else "",
            short=short_line(word, self._name, place=where, reason=reason),
            reason=cut(reason, _LONGEST_LINE),
            line=line,
            head=cut(f"{word:<6} {self._name} ({where})  {count}", _LONGEST_LINE),
            body=tuple(map(_body_line, (*self._body(line), *self._origin))),
            hints=tuple(_hints(finding for findings in self._findings.values() for finding in findings)),
        )

    def _counted(self) -> str:
        """`2 of 3 repetitions failed, 2 must pass`."""
        missing = self._repeats - self._counts.total()
        named = ((self._counts["error"], "in error"), (self._counts["failed"], "failed"), (missing, "not run"))
        (first, what), *others = [(count, what) for count, what in named if count]
        told = [f"{first:,} of {self._repeats:,} repetitions {what}", *(f"{count:,} {what}" for count, what in others)]
        return f"{', '.join(told)}, {self._min_pass:,} must pass"

    def _body(self, line: int) -> Iterator[str]:
        for about, findings in self._findings.items():
            yield findings[0].head(line, f"{self._times[about]:,} of {self._counts.total():,} times: ")
            before: tuple[str, ...] = ()
            for finding in findings[:_MOST_DIFFERENT]:
                yield from finding.details[finding.details[:1] == before[:1] :]  # what was expected is told once
                before = finding.details
            if len(findings) > _MOST_DIFFERENT:
                yield "and in other ways, which their rows tell"


# --- an assertion, written ------------------------------------------------------------------------------------------


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
    """What to say of cases as their rows come: a block each or, `short`, a line.

    A case that is run several times is told of when its last repetition has finished. A hint is given once, and so is
    the block of an error that several cases share, unless all are to be `told`: the end of the run names them. After
    `told` cases that did not pass, others are counted.
    """

    def __init__(self, *, told: int | None = MOST_TOLD, short: bool = False) -> None:
        self.hinted: set[str] = set()
        self._causes: set[str] = set()  # of errors that were told
        self._left = told
        self._short = short
        self._open: dict[tuple[str, str], Repetitions] = {}  # cases of which repetitions are still to come

    def add(self, name: str, row: Row) -> Told | None:
        """What is to be told of the case of a row, now that this has come; None if nothing is, or not yet."""
        if row["repeats"] == 1:
            if row["status"] == "passed":
                return Told(passed=True, short=f"passed {name}", head=f"passed {name}")
            return None if was_cut(row) else failure_of(name, row)
        key = row["job"], row["case"]
        repetitions = self._open.get(key) or self._open.setdefault(key, Repetitions(name, row))
        repetitions.add(row)
        if not repetitions.finished:
            return None
        del self._open[key]
        return repetitions.told()

    def lines(self, name: str, row: Row, *, passed: bool = False) -> Iterator[str]:
        """What is to be said of the case of a row, now that this has come; of one that `passed`, if that is wanted."""
        told = self.add(name, row)
        if told is not None and (passed or not told.passed):
            yield from self.tell(told)

    def rest(self) -> Iterator[str]:
        """What is known of cases of which no more repetitions will come, after a run that stopped."""
        for repetitions in self._open.values():
            if repetitions.went_wrong:
                yield from self.tell(repetitions.told())
        self._open.clear()

    def tell(self, told: Told) -> Iterator[str]:
        """The lines about a case, unless enough has been told."""
        if told.passed:
            yield told.short
            return
        if self._left == 0 or (told.cause in self._causes and not self._short):
            return
        yield from [told.short] if self._short else [told.head, *told.body]
        for hint in told.hints:
            if hint not in self.hinted:
                self.hinted.add(hint)
                yield _hint_line(hint)
        if self._left is not None:
            if told.cause:
                self._causes.add(told.cause)
            self._left -= 1
            if self._left == 0:
                yield "more cases that did not pass are only counted; their rows tell why, as does -v"
