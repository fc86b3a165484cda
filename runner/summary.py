"""What a run came to: counts, tokens, cost and the exit code; as values that the console and `--json` show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.errors import ExitCode
from runner.records import Usage

if TYPE_CHECKING:
    from runner.records import Row
    from runner.stop import StopReason


@dataclass(slots=True, kw_only=True)
class Tally:
    """Running totals of one job, or of several."""

    cases: int = 0  # to run
    passed: int = 0
    failed: int = 0
    errors: int = 0
    calls: int = 0  # attempts
    retries: int = 0
    possibly_billed: int = 0  # attempts whose reply was not used, but that may be on the bill
    cut_at_max_tokens: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None  # of the rows whose price is known
    unpriced: int = 0  # rows with usage but no known price

    @property
    def done(self) -> int:
        return self.passed + self.failed + self.errors

    @property
    def pending(self) -> int:
        return self.cases - self.done

    def add(self, row: Row) -> None:
        """Count one finished row."""
        match row["status"]:
            case "passed":
                self.passed += 1
            case "failed":
                self.failed += 1
            case "error":
                self.errors += 1
        self.calls += len(row["attempts"])
        self.retries += sum(1 for attempt in row["attempts"][:-1] if attempt["code"])
        self.possibly_billed += sum(1 for attempt in row["attempts"] if attempt["possibly_billed"])
        self.cut_at_max_tokens += row["stop_reason"] in {"max_tokens", "length"}
        if row["usage"] is not None:
            self.usage += Usage(**row["usage"])
            self.unpriced += row["cost_usd"] is None
        if row["cost_usd"] is not None:
            self.cost_usd = (self.cost_usd or 0.0) + row["cost_usd"]


@dataclass(slots=True, kw_only=True)
class JobSummary:
    name: str
    path: str
    output: str  # the file of its rows, or "-"
    tally: Tally


@dataclass(slots=True, kw_only=True)
class Summary:
    """A run of one or more jobs. `lost_calls` were made for rows that could not be written."""

    jobs: dict[str, JobSummary]
    endpoint_is_local: bool = False
    prices: str = ""  # where they come from: a date, or a file and a date
    total: Tally = field(default_factory=Tally)
    elapsed: float = 0.0  # seconds
    stopped: StopReason | None = None
    lost_calls: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)  # rows of earlier runs, by the file they were moved to

    def add(self, row: Row) -> None:
        """Count a row of one of the jobs."""
        self.total.add(row)
        self.jobs[row["job"]].tally.add(row)

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
        return ExitCode.ASSERTION_FAILED if self.total.failed else ExitCode.OK

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
                {"name": job.name, "path": job.path, "output": job.output, **_tally_json(job.tally)}
                for job in self.jobs.values()
            ],
        }


def _tally_json(tally: Tally) -> dict[str, Any]:
    return {
        "cases": tally.cases,
        "passed": tally.passed,
        "failed": tally.failed,
        "errors": tally.errors,
        "pending": tally.pending,
        "calls": tally.calls,
        "retries": tally.retries,
        "possibly_billed_attempts": tally.possibly_billed,
        "input_tokens": tally.usage.input_tokens,
        "output_tokens": tally.usage.output_tokens,
        "cache_read_tokens": tally.usage.cache_read_tokens,
        "cache_write_tokens": tally.usage.cache_write_tokens,
        "cost_usd": None if tally.cost_usd is None else round(tally.cost_usd, 9),
        "unpriced_rows": tally.unpriced,
    }
