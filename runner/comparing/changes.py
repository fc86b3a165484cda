"""What changed about a case, and why: the question, the answers or the assertions."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import TYPE_CHECKING, NamedTuple

from runner.comparing.questions import changed_parts
from runner.console import full_name
from runner.records.row_facts import declared, failed_assertions, place

if TYPE_CHECKING:
    from runner.comparing.facts import Facts
    from runner.records import ErrorRecord, Row, VerdictRecord
    from runner.report.rows import CaseResult


class Kind(StrEnum):
    """What became of a case that is on both sides."""

    NEWLY_FAILING = "newly_failing"  # also after an error: nothing was known to fail before
    NEWLY_IN_ERROR = "newly_in_error"
    STILL_FAILING = "still_failing"
    STILL_IN_ERROR = "still_in_error"
    NEWLY_PASSING = "newly_passing"
    RECOVERED = "recovered"  # from an error, and passes
    CHANGED = "changed"  # still passes, with another output, or more or fewer of its repetitions
    SAME = "same"

    @property
    def label(self) -> str:
        return _LABELS.get(self, self.value.replace("_", " "))

    @property
    def is_regression(self) -> bool:
        return self in {Kind.NEWLY_FAILING, Kind.NEWLY_IN_ERROR}


_LABELS = {Kind.CHANGED: "changed output", Kind.RECOVERED: "recovered from error"}

_KINDS = {
    ("passed", "failed"): Kind.NEWLY_FAILING,
    ("error", "failed"): Kind.NEWLY_FAILING,
    ("passed", "error"): Kind.NEWLY_IN_ERROR,
    ("failed", "error"): Kind.NEWLY_IN_ERROR,
    ("failed", "failed"): Kind.STILL_FAILING,
    ("error", "error"): Kind.STILL_IN_ERROR,
    ("failed", "passed"): Kind.NEWLY_PASSING,
    ("error", "passed"): Kind.RECOVERED,
}


def kind_of(old: Facts, new: Facts) -> Kind:
    same = old.answered == new.answered and _passed_alike(old, new)
    return _KINDS.get((old.status, new.status), Kind.SAME if same else Kind.CHANGED)


def _passed_alike(old: Facts, new: Facts) -> bool:
    return old.passed * new.rows == new.passed * old.rows


class Broken(NamedTuple):
    """An assertion that does not hold: in how many of the repetitions, and as one of them tells it."""

    verdict: VerdictRecord
    place: str  # of the assertion in its job file
    times: int


@dataclass(frozen=True, slots=True)
class Change:
    """A case of both sides that is not the same."""

    kind: Kind
    old: CaseResult
    new: CaseResult

    @property
    def name(self) -> str:
        return full_name(self.new.job, self.new.id)

    @property
    def old_name(self) -> str:
        return full_name(self.old.job, self.old.id)

    @property
    def place(self) -> str:
        """Where the case is declared."""
        return declared(self.new.rows[0])

    @property
    def question(self) -> tuple[str, ...]:
        """The parts of the question that are others now; empty if the same was asked."""
        return changed_parts(self.old.rows[0], self.new.rows[0])

    @property
    def answers(self) -> list[tuple[str, str]]:
        """The outputs that are others now, old and new. Where repetitions differ in number, one of them is empty."""
        olds, news = _outputs(self.old), _outputs(self.new)
        return list(zip_longest((olds - news).elements(), (news - olds).elements(), fillvalue=""))

    @property
    def assertions_differ(self) -> bool:
        return _assertions(self.old) != _assertions(self.new)

    @property
    def passes(self) -> str:
        """`4/5 → 2/5`; empty without repetitions."""
        if len(self.old.rows) == len(self.new.rows) == 1:
            return ""
        old, new = (f"{case.passes}/{len(case.rows)}" for case in (self.old, self.new))
        return f"{old} → {new}"

    @property
    def broken(self) -> list[Broken]:
        """The assertions that do not hold now and did, or that fail more often; if there are none, all that fail."""
        before, now = _failures(self.old), _failures(self.new)
        worse = [name for name in now if len(now[name]) > len(before.get(name, ()))] or list(now)
        return [
            Broken(verdict, place(row, verdict["line"]), len(now[name]))
            for name in worse
            for row, verdict in now[name][:1]
        ]

    @property
    def error(self) -> ErrorRecord | None:
        """Why the new side has no verdict."""
        return next((row["error"] for row in self.new.rows if row["error"]), None)

    @property
    def cause(self) -> str:
        """What may have made the difference, in one sentence."""
        question, answer = self.question, bool(self.answers)
        if self.new.status == "error":  # so nothing can be said of its answer
            return f"another question ({', '.join(question)})" if question else "the same question"
        if question:
            return f"another question ({', '.join(question)})" + ("" if answer else ", the same answer")
        if answer:
            return "the same question, another answer" + (" and other assertions" if self.assertions_differ else "")
        if self.assertions_differ:
            return "the same question and answer, other assertions"
        return "the same question, answer and assertions: only what was measured differs"


def _outputs(case: CaseResult) -> Counter[str]:
    return Counter(row["output"] or "" for row in case.rows)


_Assertion = tuple[str, str, float | None]


def _identity(verdict: VerdictRecord) -> _Assertion:
    """What makes two assertions the same, wherever they are written."""
    return verdict["type"], json.dumps(verdict["value"], sort_keys=True), verdict["threshold"]


def _assertions(case: CaseResult) -> set[_Assertion]:
    return {_identity(verdict) for row in case.rows for verdict in row["assertions"]}


def _failures(case: CaseResult) -> dict[_Assertion, list[tuple[Row, VerdictRecord]]]:
    found: dict[_Assertion, list[tuple[Row, VerdictRecord]]] = {}
    for row in case.rows:
        for verdict in failed_assertions(row):
            found.setdefault(_identity(verdict), []).append((row, verdict))
    return found
