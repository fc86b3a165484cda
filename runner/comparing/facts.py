"""What is known of a case without its rows: enough to find its counterpart and to tell whether anything changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runner.records import Row, Status
    from runner.report.rows import CaseResult


class Facts(NamedTuple):
    """A case of one side. Its rows are those from number `first` on. What is compared whole stands here as a hash."""

    job: str
    id: str
    base_id: str  # without the variant
    first: int
    rows: int  # how many, which are its repetitions
    status: Status
    passed: int  # of the repetitions
    asked: int  # its key
    given: int | None  # its variables, and the values of the matrix; None without variables
    answered: int  # its outputs, in any order

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.rows)


def facts_of(case: CaseResult, first: int) -> Facts:
    """The facts of a case whose first row is number `first`."""
    row = case.rows[0]
    return Facts(
        job=case.job,
        id=case.id,
        base_id=case.base_id if row["matrix"] else case.id,
        first=first,
        rows=len(case.rows),
        status=case.status,
        passed=case.passes,
        asked=hash(row["key"]),
        given=_given(row) if row["vars"] else None,
        answered=hash(tuple(sorted(row["output"] or "" for row in case.rows))),
    )


def _given(row: Row) -> int:
    return hash(json.dumps([row["vars"], row["matrix"]], sort_keys=True))
