"""What the cases of a job, or of one variant of its matrix, came to: counts, tokens, cost and latency."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING

from runner.records import Usage, usage_of

if TYPE_CHECKING:
    from runner.records import Row
    from runner.report.rows import CaseResult
    from runner.summary import JobSummary


@dataclass(slots=True, kw_only=True)
class Totals:
    """Running totals. A case counts once, whatever its repetitions; tokens, cost and time are of all its rows."""

    cases: int = 0
    passed: int = 0
    failed: int = 0
    errors: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = None  # of the rows whose price is known
    unpriced: int = 0  # rows with usage but no known price
    _latencies_ms: array[int] = field(default_factory=lambda: array("Q"))

    def add(self, case: CaseResult) -> None:
        self.cases += 1
        match case.status:
            case "passed":
                self.passed += 1
            case "failed":
                self.failed += 1
            case "error":
                self.errors += 1
        for row in case.rows:
            self._add_row(row)

    def _add_row(self, row: Row) -> None:
        if row["usage"] is not None:
            self.usage += usage_of(row["usage"])
            self.unpriced += row["cost_usd"] is None
        if row["cost_usd"] is not None:
            self.cost_usd = (self.cost_usd or 0.0) + row["cost_usd"]
        if row["latency_ms"] is not None:
            self._latencies_ms.append(row["latency_ms"])

    def latency_ms(self, share: float) -> int | None:
        """The time within which this share (0 to 1) of the replies came; None without replies."""
        if not self._latencies_ms:
            return None
        return sorted(self._latencies_ms)[max(0, ceil(share * len(self._latencies_ms)) - 1)]


def broken_thresholds(job: JobSummary) -> list[tuple[int, str]]:
    """The thresholds of the job that do not hold: for each its line in the job file, and what to tell of it."""
    return [(each.line, f"{each.name} is {each.found}, wanted {each.wanted}") for each in job.broken_thresholds]
