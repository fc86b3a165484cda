"""What a run came to: counts, tokens, cost and the exit code; as values that the console and `--json` show."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from runner.errors import ExitCode, refused_for_tokens
from runner.records import Made, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.records import AttemptRecord, Row
    from runner.stop import StopReason


_NAMED_CASES = 10


@dataclass(slots=True, kw_only=True)
class Tally:
    """Running totals of one job, or of several."""

    cases: int = 0  # to run, repetitions counted
    kept: int = 0  # answered by rows of earlier runs
    passed: int = 0
    failed: int = 0
    errors: int = 0
    calls: int = 0  # attempts
    retries: int = 0
    possibly_billed: int = 0  # attempts whose reply was not used, but that may be on the bill
    cut_at_max_tokens: int = 0
    refused_for_tokens: int = 0  # attempts
    longest_reply: int = 0  # tokens
    max_tokens: int = 0  # the most that a request allowed
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None  # of the rows whose price is known
    unpriced: int = 0  # rows with usage but no known price

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.errors

    @property
    def pending(self) -> int:
        return self.cases - self.done

    @property
    def called(self) -> int:
        """Finished cases that this run made calls for, or tried to."""
        return self.done - self.kept

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
        self.cases = max(self.cases, self.done)  # rows may have been added to a file of cases meanwhile
        self._count_attempts(made.attempts)
        for usage, cost in made.usages:
            self.usage += Usage(**usage)
            self.unpriced += cost is None
            if cost is not None:
                self.cost_usd = (self.cost_usd or 0.0) + cost
        if made.earlier is not None:
            self.kept += 1
            return
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


@dataclass(slots=True, kw_only=True)
class JobSummary:
    name: str
    path: str
    output: str  # the file of its rows, or "-"
    tally: Tally
    repeat: int = 1
    min_pass: int = 1  # of the repetitions of a case
    failed_cases: int = 0  # cases of which too few repetitions passed
    too_few_passed: list[str] = field(default_factory=list)  # the first of them, and how many passed
    # By index of the case: how many of its repetitions have finished, times 2**16, and how many of them passed.
    _repetitions: array[int] = field(default_factory=lambda: array("I"))

    def add(self, made: Made) -> None:
        """Count one finished row."""
        row = made.row
        self.tally.add(made)
        finished, passed = self._count(row["index"], passed=row["status"] == "passed")
        if finished == self.repeat and passed < self.min_pass:
            self.failed_cases += 1
            if len(self.too_few_passed) < _NAMED_CASES:
                self.too_few_passed.append(f"{row['case']}: {passed} of {self.repeat}")

    def _count(self, index: int, *, passed: bool) -> tuple[int, int]:
        """Of how many repetitions of a case it is known what became of them, and how many of these passed."""
        if self.repeat == 1:
            return 1, int(passed)
        missing = index + 1 - len(self._repetitions)
        if missing > 0:
            self._repetitions.extend(array("I", bytes(4 * missing)))
        self._repetitions[index] += (1 << 16) + passed
        return divmod(self._repetitions[index], 1 << 16)


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
    kept_local: int = 0  # kept rows of the local emulator, in a run that is not local
    lost_calls: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)  # rows of earlier runs, by the file they were moved to

    def add(self, made: Made) -> None:
        """Count a row of one of the jobs."""
        row, kept = made.row, made.earlier is not None
        self.kept_local += kept and row["endpoint"] == "local" and not self.endpoint_is_local
        self.total.add(made)
        self.jobs[row["job"]].add(made)

    @property
    def complete(self) -> bool:
        """Whether every case has its row."""
        return self.total.pending == 0

    @property
    def exit_code(self) -> ExitCode:
        if self.stopped is not None:
            return self.stopped.exit_code
        if self.total.errors or not self.complete:
            return ExitCode.INCOMPLETE
        failed = any(job.failed_cases for job in self.jobs.values())
        return ExitCode.ASSERTION_FAILED if failed else ExitCode.OK

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return {
            "exit_code": int(self.exit_code),
            "stopped": None if self.stopped is None else {"message": self.stopped.message, "hint": self.stopped.hint},
            "elapsed_s": round(self.elapsed, 3),
            "lost_calls": self.lost_calls,
            "set_aside": self.set_aside,
            "total": _tally_json(self.total),
            "jobs": [
                {
                    "name": job.name,
                    "path": job.path,
                    "output": job.output,
                    "failed_cases": job.failed_cases,
                    **_tally_json(job.tally),
                }
                for job in self.jobs.values()
            ],
        }


def of_rows(rows: Iterable[Row], output: str) -> Summary:
    """The summary of rows on disk, as if one run had called them all. `output` is where they come from."""
    summary = Summary(jobs={})
    for row in rows:
        job = summary.jobs.get(row["job"])
        if job is None:
            job = summary.jobs[row["job"]] = JobSummary(
                name=row["job"],
                path=row["source"]["path"],
                output=output,
                tally=Tally(),
                repeat=row["repeats"],
                min_pass=row["min_pass"],
            )
        summary.add(Made(row))
    return summary


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "cases": tally.cases,
        "kept": tally.kept,
        "called": tally.called,
        "passed": tally.passed,
        "failed": tally.failed,
        "errors": tally.errors,
        "pending": tally.pending,
        "calls": tally.calls,
        "retries": tally.retries,
        "sufficient_max_tokens": tally.sufficient_max_tokens,
        "possibly_billed_attempts": tally.possibly_billed,
        "input_tokens": tally.usage.input_tokens,
        "output_tokens": tally.usage.output_tokens,
        "cache_read_tokens": tally.usage.cache_read_tokens,
        "cache_write_tokens": tally.usage.cache_write_tokens,
        "cost_usd": None if tally.cost_usd is None else round(tally.cost_usd, 9),
        "unpriced_rows": tally.unpriced,
    }
