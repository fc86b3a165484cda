"""What a run came to: counts, tokens, cost and the exit code. The console shows it, and summary_json.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from runner.errors import ExitCode, FailureCode, refused_for_tokens
from runner.records import Made, matrix_label
from runner.records.figures import Figures, Spending, verdict_of_case
from runner.records.row_facts import failed_assertions, verdicts_of_local_judge, was_cut
from runner.thresholds import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import AttemptRecord, Row, Status, Threshold
    from runner.report.rows import Rows
    from runner.stop import StopReason
    from runner.thresholds import ThresholdVerdict


NAMED_CASES = 100  # of those of a job that failed, of those in error, and causes of errors
_REASON = 300  # characters of a reason that are kept
_STOPS = frozenset(code for code in FailureCode if code is FailureCode.STOPPED or code.concerns_account)


@dataclass(slots=True, kw_only=True)
class Tally(Spending):
    """Running totals of what a run did for one job, or for several; tokens and cost are those of its own calls."""

    cases: int = 0  # to run, repetitions counted
    kept: int = 0  # answered by rows of earlier runs
    passed: int = 0
    failed: int = 0
    errors: int = 0
    cut: int = 0  # of the errors: stopped in flight by the end of the run
    continued: int = 0  # of those called: conversations whose first replies an earlier run had paid for
    unasked: int = 0  # of the errors: nothing was called, since the case cannot be asked
    calls: int = 0  # attempts
    repairs: int = 0  # of the calls, those that were to repair kept replies
    retries: int = 0
    possibly_billed: int = 0  # attempts whose reply was not used, but that may be on the bill
    cut_at_max_tokens: int = 0
    refused_for_tokens: int = 0  # attempts
    longest_reply: int = 0  # tokens
    max_tokens: int = 0  # the most that a request allowed

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.errors

    @property
    def pending(self) -> int:
        return self.cases - self.done

    @property
    def not_kept(self) -> int:
        """Finished cases that no earlier row answers."""
        return self.done - self.kept

    @property
    def called(self) -> int:
        """Of those, the ones that were called, with or without success."""
        return self.not_kept - self.unasked

    @property
    def sufficient_max_tokens(self) -> int | None:
        """Where calls were throttled because max_tokens reserves much more than replies need: a figure that would do.

        It leaves a quarter above the longest reply.
        """
        enough = ceil(self.longest_reply * 1.25 / 50) * 50
        needless = self.longest_reply and not self.cut_at_max_tokens and enough * 2 <= self.max_tokens
        return enough if self.refused_for_tokens and needless else None

    def add(self, made: Made) -> None:
        """Count one finished row. What a kept one cost was paid by the run that called it."""
        row = made.row
        match row["status"]:
            case "passed":
                self.passed += 1
            case "failed":
                self.failed += 1
            case "error":
                self.errors += 1
                self.cut += was_cut(row)
                self.unasked += made.earlier is None and not row["attempts"]
        self.cases = max(self.cases, self.done)  # rows may have been added to a file of cases meanwhile
        for attempts in made.calls:
            self._count_attempts(attempts)
        self.spend(made.paid)
        if made.kept:
            self.kept += 1
            self.repairs += len(made.attempts_at_reply)
            return
        self.continued += made.continued
        self.cut_at_max_tokens += row["stop_reason"] in {"max_tokens", "length"}
        for reply in row["replies"]:
            if reply["usage"] is not None:
                self.longest_reply = max(self.longest_reply, reply["usage"]["output_tokens"])
        self.max_tokens = max(self.max_tokens, row["request"].get("inference", {}).get("max_tokens", 0))

    def _count_attempts(self, attempts: Sequence[AttemptRecord]) -> None:
        self.calls += len(attempts)
        for number, attempt in enumerate(attempts, start=1):
            if attempt["code"] is not None:
                self.retries += number < len(attempts)
                self.possibly_billed += attempt["possibly_billed"]
                self.refused_for_tokens += refused_for_tokens(attempt["code"], attempt["message"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NotPassed:
    """A case that failed or is in error, as far as a line about it needs it."""

    case: str
    path: str  # where the assertion is that failed first, or the case
    line: int
    reason: str
    expected: str  # by that assertion; empty of a case in error
    actual: str | None
    index: int
    stopped: bool  # cut by the end of the run, of which more is told than of any case


@dataclass(slots=True, kw_only=True)
class JobSummary:
    """What one job came to. `tally` counts repetitions one by one; all else counts each case once."""

    name: str
    path: str
    output: str  # the file of its rows, or "-"
    tally: Tally
    repeat: int = 1
    min_pass: int = 1  # of the repetitions of a case
    unnamed: bool = False  # its only case needs no name beside the job's
    partial: bool = False  # not all its cases were chosen
    wanted: tuple[Threshold, ...] = ()
    variants: dict[str, Figures] = field(default_factory=dict)  # by the values of the matrix, as `model=a, tone=dry`
    failed: dict[str, NotPassed] = field(default_factory=dict)  # by id: the first of the cases that failed
    in_error: dict[str, NotPassed] = field(default_factory=dict)
    causes: Counter[str] = field(default_factory=Counter)  # of errors, and how many cases each was the first for
    _met_stop: bool = False  # whether a case met what stopped the run, or was cut by it
    _figures: Figures = field(default_factory=Figures)  # of the cases of no variant
    # By index of the case: how many of its repetitions passed, failed and are in error, and how many of these were cut,
    # 16 bits each. Of cases of which more are to come, or of which is told how many passed: most are soon gone.
    _repetitions: dict[int, int] = field(default_factory=dict)

    def add(self, made: Made) -> None:
        """Count one finished row."""
        row = made.row
        self.tally.add(made)
        figures = self._figures if row["matrix"] is None else self._variant(matrix_label(row["matrix"]))
        figures.add(row)
        before, after = self._count(row)
        figures.move(before, after)
        self._remember(row, after)
        self._met_stop |= row["error"] is not None and row["error"]["code"] in _STOPS
        self._forget(row)

    @property
    def figures(self) -> Figures:
        """Of all its cases together."""
        whole = Figures()
        for part in self._parts():
            whole.update(part)
        return whole

    def _parts(self) -> tuple[Figures, ...]:
        return self._figures, *self.variants.values()

    @property
    def unit(self) -> str:
        """What its tally counts."""
        return "repetition" if self.repeat > 1 else "case"

    @property
    def pending_cases(self) -> int:
        """How many cases have no row at all."""
        return max(0, self.tally.cases // self.repeat - sum(part.cases for part in self._parts()))

    @property
    def complete(self) -> bool:
        """Whether every case has its row."""
        return self.tally.pending == 0

    @property
    def settled(self) -> bool:
        """Whether every case was run to its end: none is missing, and none met the stop of the run."""
        return self.complete and not self._met_stop

    @property
    def thresholds(self) -> list[ThresholdVerdict]:
        """Every threshold with what was found; none unless all is settled, since then nobody can know."""
        figures = self.figures
        return [judge(threshold, figures) for threshold in self.wanted] if self.settled else []

    @property
    def broken_thresholds(self) -> list[ThresholdVerdict]:
        return [verdict for verdict in self.thresholds if not verdict.held]

    @property
    def judged_by_pass_rate(self) -> bool:
        """Whether a threshold decides how many cases may fail, in place of `none`."""
        return any(threshold.name == "pass_rate" for threshold in self.wanted)

    @property
    def failed_cases(self) -> int:
        """How many cases failed: too few of their repetitions passed."""
        return sum(part.failed for part in self._parts())

    @property
    def cases_in_error(self) -> int:
        return sum(part.errors for part in self._parts())

    @property
    def cut_cases(self) -> int:
        """Of those, the ones that are in error for no other reason than that the run stopped in the middle of them."""
        return self.cases_in_error - self.causes.total()

    @property
    def tolerates_failures(self) -> bool:
        """Whether cases failed, but no more than its thresholds allow."""
        return bool(self.failed_cases and self.judged_by_pass_rate and self.settled and not self.broken_thresholds)

    @property
    def has_failed(self) -> bool:
        """Whether assertions or thresholds say that the job is not as it should be."""
        return bool(self.broken_thresholds or (self.failed_cases and not self.judged_by_pass_rate))

    def failures(self, case: NotPassed) -> int:
        """How many repetitions of a case have failed."""
        return self._counts(case.index)[1] if self.repeat > 1 else 1

    def _variant(self, label: str) -> Figures:
        return self.variants.setdefault(label, Figures())

    def _count(self, row: Row) -> tuple[Status | None, Status]:
        """What a case was before this repetition of it, if any had finished, and what it is now."""
        if row["repeats"] == 1:
            return None, row["status"]
        before = self._status(row) if row["index"] in self._repetitions else None
        one = {"passed": 1, "failed": 1 << 16, "error": (1 << 32) + (was_cut(row) << 48)}[row["status"]]
        self._repetitions[row["index"]] = self._repetitions.get(row["index"], 0) + one
        return before, self._status(row)

    def _status(self, row: Row) -> Status:
        """Of the row's case, as its repetitions make it so far."""
        passed, failed, errors, _ = self._counts(row["index"])
        return verdict_of_case(
            passed=passed, failed=failed, errors=errors, repeats=row["repeats"], min_pass=row["min_pass"]
        )

    def _counts(self, index: int) -> tuple[int, int, int, int]:
        """How many repetitions of a case passed, failed and are in error, and how many of the last were cut."""
        counts = self._repetitions.get(index, 0)
        return counts & 0xFFFF, counts >> 16 & 0xFFFF, counts >> 32 & 0xFFFF, counts >> 48

    def _forget(self, row: Row) -> None:
        """Keep no counts of a case of which all repetitions are known and nothing more is told."""
        named = row["case"] in self.failed or row["case"] in self.in_error
        if not named and sum(self._counts(row["index"])[:3]) >= self.repeat:
            self._repetitions.pop(row["index"], None)

    def _remember(self, row: Row, status: Status) -> None:
        """Keep what the first repetition tells that made the case what it is."""
        if status != "failed":
            self.failed.pop(row["case"], None)
        if row["status"] == status != "passed":
            kept, known = (self.failed if status == "failed" else self.in_error), _not_passed(row)
            if row["case"] in kept:
                if kept[row["case"]].stopped:  # any other reason tells more
                    kept[row["case"]] = known
            elif len(kept) < NAMED_CASES:
                kept[row["case"]] = known
            if status == "error" and self._is_first_error(row):
                self.causes[known.reason if known.reason in self.causes or len(self.causes) < NAMED_CASES else ""] += 1

    def _is_first_error(self, row: Row) -> bool:
        """Whether a row in error is the first of its case, but for those that were cut."""
        if row["repeats"] == 1:
            return not was_cut(row)
        _, _, errors, cut = self._counts(row["index"])
        return not was_cut(row) and errors - cut == 1


@dataclass(slots=True, kw_only=True)
class Summary:
    """A run of one or more jobs. `lost_calls` were made for rows that could not be written."""

    jobs: dict[str, JobSummary]
    endpoint_is_local: bool = False
    prices: str = ""  # where they come from: a date, or a file and a date
    total: Tally = field(default_factory=Tally)
    elapsed: float = 0.0  # seconds
    stopped: StopReason | None = None
    fresh: bool = False  # rows of earlier runs do not count
    replay: bool = False  # nothing is called
    keeps_rows: bool = True  # not on standard output
    judged_locally: int = 0  # verdicts that are the word of the local emulator, not of a judge
    kept_local: int = 0  # kept rows of the local emulator, in a run that is not local
    lost_calls: int = 0
    of_rows_alone: bool = False  # which tell of no thresholds, nor of cases that have no row
    set_aside: dict[str, int] = field(default_factory=dict)  # rows of earlier runs, by the file they were moved to
    replaced: dict[str, int] = field(default_factory=dict)  # of these, the rows of cases that have newer ones
    unwritten_sidecars: list[str] = field(default_factory=list)  # since a file appeared there in the last moment
    edited_sidecars: int = 0  # of kept rows, changed by hand and left alone
    unused_replies: list[str] = field(default_factory=list)  # what the local emulator says of its replies file

    def add(self, made: Made) -> None:
        """Count a row of one of the jobs."""
        row = made.row
        self.kept_local += made.kept and row["endpoint"] == "local" and not self.endpoint_is_local
        self.judged_locally += verdicts_of_local_judge(row)
        self.total.add(made)
        self.jobs[row["job"]].add(made)

    @property
    def figures(self) -> Figures:
        """Of the cases of all jobs together."""
        whole = Figures()
        for job in self.jobs.values():
            whole.update(job.figures)
        return whole

    @property
    def unit(self) -> str:
        """What its total counts."""
        return "repetition" if any(job.repeat > 1 for job in self.jobs.values()) else "case"

    @property
    def pending_cases(self) -> int:
        """How many cases have no row at all."""
        return sum(job.pending_cases for job in self.jobs.values())

    @property
    def complete(self) -> bool:
        """Whether every case has its row."""
        return self.total.pending == 0

    @property
    def settled(self) -> bool:
        """Whether every case was run to its end."""
        return self.complete and all(job.settled for job in self.jobs.values())

    @property
    def cut_cases(self) -> int:
        """How many cases are in error for no other reason than that the run stopped in the middle of them."""
        return sum(job.cut_cases for job in self.jobs.values())

    @property
    def tolerant_jobs(self) -> frozenset[str]:
        """The names of the jobs in which cases failed, but no more than the thresholds allow."""
        return frozenset(job.name for job in self.jobs.values() if job.tolerates_failures)

    @property
    def tolerated_cases(self) -> int:
        """How many cases failed in these jobs."""
        return sum(self.jobs[name].failed_cases for name in self.tolerant_jobs)

    @property
    def exit_code(self) -> ExitCode:
        if self.stopped is not None:
            return self.stopped.exit_code
        if not self.complete or self.unwritten_sidecars or any(job.cases_in_error for job in self.jobs.values()):
            return ExitCode.INCOMPLETE
        failed = any(job.has_failed for job in self.jobs.values())
        return ExitCode.ASSERTION_FAILED if failed else ExitCode.OK


def of_rows(rows: Rows) -> Summary:
    """The summary of rows on disk, as if one run had called them all.

    Rows tell of no thresholds, and cases that have no row are not missed.
    """
    summary = Summary(jobs={}, prices="their runs", of_rows_alone=True)
    summary.endpoint_is_local = all(row["endpoint"] == "local" for row in rows)
    for name in rows.jobs:
        for number, case in enumerate(rows.cases(name)):
            first = case.rows[0]
            job = summary.jobs.setdefault(
                name,
                JobSummary(
                    name=name,
                    path=first["source"]["path"],
                    output=", ".join(map(str, rows.files_of(name))),
                    tally=Tally(),
                    repeat=first["repeats"],
                    min_pass=first["min_pass"],
                ),
            )
            for row in case.rows:  # which may have the index of another, if the job was edited meanwhile
                summary.add(Made({**row, "index": number}))
            job.unnamed = job.tally.done == 1 and case.id == "1"
    return summary


def _not_passed(row: Row) -> NotPassed:
    source, error = row["source"], row["error"]
    if error is not None:
        line, reason, expected, actual = source["line"], f"{error['code']}: {error['message']}", "", None
    else:
        first = failed_assertions(row)[0]
        line, reason, expected, actual = first["line"], first["reason"], first["expected"], first["actual"]
    return NotPassed(
        case=row["case"],
        path=source["path"],
        line=line,
        reason=reason[:_REASON],
        expected=expected[:_REASON],
        actual=actual and actual[:_REASON],
        index=row["index"],
        stopped=was_cut(row),
    )
