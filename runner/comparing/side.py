"""One of the two runs: its cases by job, what they came to, and what it plainly lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from runner.comparing.facts import Facts, facts_of
from runner.console import full_name
from runner.records.figures import Figures
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.comparing.given import Run
    from runner.report.rows import CaseResult, Rows


@dataclass(slots=True, kw_only=True)
class Side:
    """The cases that were chosen of a run, without their rows. `finished_at` is when the last of them was."""

    name: str
    rows: Rows
    cases: dict[str, list[Facts]] = field(default_factory=dict)  # by job
    total: Figures = field(default_factory=Figures)
    figures: dict[tuple[str, str], Figures] = field(default_factory=dict)  # by job and variant
    finished_at: str | None = None  # UTC, ISO 8601
    repetitions_missing: dict[str, int] = field(default_factory=dict)  # by job
    _indexes: dict[str, list[int]] = field(default_factory=dict)  # by job: the highest index, and how many cases

    @classmethod
    def read(cls, run: Run, patterns: Sequence[str]) -> Side:
        """The cases whose id, with or without the variant, matches one of the patterns; all if there are none."""
        side = cls(name=run.name, rows=run.rows)
        first = 0
        for case in run.rows.cases():
            seen = side._indexes.setdefault(case.job, [0, 0])
            seen[:] = max(seen[0], case.rows[0]["index"]), seen[1] + 1
            if not patterns or any(_matches(case, pattern) for pattern in patterns):
                side._add(case, first)
            first += len(case.rows)
        return side

    def _add(self, case: CaseResult, first: int) -> None:
        job = case.job
        self.cases.setdefault(job, []).append(facts_of(case, first))
        self.total.add_case(case)
        for variant in {"", case.variant}:
            self.figures.setdefault((job, variant), Figures()).add_case(case)
        self.finished_at = max(self.finished_at or "", *(row["finished_at"] for row in case.rows))
        self.repetitions_missing[job] = self.repetitions_missing.get(job, 0) + case.missing

    def has_job(self, job: str) -> bool:
        """Whether it has any row of the job, chosen or not."""
        return job in self._indexes

    def cases_missing(self, job: str) -> int:
        """How many cases have no row before the last one that has; of those after it nothing is known."""
        last, count = self._indexes.get(job, (0, 1))
        return max(last + 1 - count, 0)

    def missing(self) -> Iterator[str]:
        """A line for each job that lacks rows, as far as the rows that are there show it."""
        for job in self.cases:
            cases, repetitions = self.cases_missing(job), self.repetitions_missing[job]
            parts = [plural(cases, "case")] * (cases > 0) + [plural(repetitions, "repetition")] * (repetitions > 0)
            if parts:
                have = "has" if cases + repetitions == 1 else "have"
                yield f"{' and '.join(parts)} of {job} {have} no row: only a part was run, or that run was not complete"


def _matches(case: CaseResult, pattern: str) -> bool:
    ids = (case.id, case.base_id)
    return pattern in (full_name(case.job, case.id), *ids) or any(fnmatchcase(each, pattern) for each in ids)
