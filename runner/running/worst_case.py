"""The calls that a case may take and the most that each may use: what budgets hold, and what a dry run tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import estimate
from runner.judging import judge
from runner.running import repairing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.records import Case, Row, Usage


def of_new(case: Case, *, replies: int = 0) -> Iterator[tuple[str, Usage]]:
    """The model of each call of a case that has no row yet, and the most that the call may use. Of a conversation that
    has begun, an earlier row has the first `replies`.
    """
    calls = estimate.worst_case(case.request, model=case.job.model)
    yield from ((case.job.model, usage) for usage in calls[replies:])
    yield from judge.worst_case(case)


def of_kept(case: Case, row: Row, *, local: bool) -> Iterator[tuple[str, Usage]]:
    """The same of a case whose reply is kept: its repair and its judges, as far as they are still to be called.
    `local`: in a run against the local emulator.
    """
    if repairing.breach(case, row) is not None:
        yield from ((case.job.model, usage) for usage in estimate.repair(case.request, model=case.job.model))
        yield from judge.worst_case(case)
    else:
        yield from judge.most_used(judge.unasked(case, row, local=local))
