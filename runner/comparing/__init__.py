"""Two runs beside each other: what got worse, what got better, what else changed, and at what cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import chain, islice
from typing import TYPE_CHECKING

from runner.comparing.changes import Change, Kind, kind_of
from runner.comparing.facts import Facts, facts_of
from runner.comparing.matching import pairs
from runner.comparing.measures import Group
from runner.console import full_name
from runner.figures import Figures
from runner.report.rows import CaseResult
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.report.rows import Rows

_NOTHING_IN_COMMON = (
    "no case of OLD is in NEW: they share no id, no question and no variables; are these runs of the same jobs?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What became of the cases of one run in another. Rows are read from their files when changes are asked for.

    Takes some 500 bytes of memory for each case of either side, however large its rows are.
    """

    old_rows: Rows
    new_rows: Rows
    old: Figures
    new: Figures
    groups: Sequence[Group]
    removed: Sequence[Facts]
    added: Sequence[Facts]
    notices: Sequence[str]
    incomplete: bool  # whether NEW plainly lacks rows of cases, so that nobody knows what became of these
    _pairs: Mapping[Kind, Sequence[tuple[Facts, Facts]]]
    _same: int

    def count(self, kind: Kind) -> int:
        return self._same if kind is Kind.SAME else len(self._pairs.get(kind, ()))

    @property
    def regressed(self) -> bool:
        """Whether a case fails or is in error that did not fail, or was in no error, before."""
        return any(self.count(kind) for kind in Kind if kind.is_regression)

    @property
    def identical(self) -> bool:
        return not (any(self._pairs.values()) or self.removed or self.added)

    def names(self, *kinds: Kind) -> Iterator[str]:
        """The cases of these kinds, by name."""
        return (full_name(new.job, new.id) for kind in kinds for _, new in self._pairs.get(kind, ()))

    def changes(self, kind: Kind) -> Iterator[Change]:
        """The cases of this kind, in the order of the new run, with all that is in their rows. Raises OSError."""
        found = self._pairs.get(kind, ())
        old_rows = self.old_rows.at(chain.from_iterable(old.numbers for old, _ in found))
        new_rows = self.new_rows.at(chain.from_iterable(new.numbers for _, new in found))
        for old, new in found:
            yield Change(
                kind, CaseResult(tuple(islice(old_rows, old.rows))), CaseResult(tuple(islice(new_rows, new.rows)))
            )


def compare(old: Rows, new: Rows, *, patterns: Sequence[str] = ()) -> Comparison:
    """Compare two runs. With `patterns` only the cases whose id, with or without the variant, matches one of them."""
    before, after = _Side.read(old, patterns), _Side.read(new, patterns)
    names = _jobs_of_both(before, after)
    notices = [
        *(f"OLD: {notice}" for notice in (*old.notices, *before.missing())),
        *(f"NEW: {notice}" for notice in (*new.notices, *after.missing())),
        *_notices(names, before, after),
    ]
    found: dict[Kind, list[tuple[Facts, Facts]]] = defaultdict(list)
    removed: list[Facts] = []
    added: list[Facts] = []
    same = 0
    for old_name, new_name in names:
        both, only_old, only_new = pairs(before.cases.pop(old_name, ()), after.cases.pop(new_name, ()))
        removed += only_old
        added += only_new
        for pair in both:
            kind = kind_of(*pair)
            if kind is Kind.SAME:
                same += 1
            else:
                found[kind].append(pair)
    if not found and not same and removed and added:
        notices.append(_NOTHING_IN_COMMON)
    lacking = {old_name for old_name, new_name in names if after.cases_missing(new_name)}
    return Comparison(
        old_rows=old,
        new_rows=new,
        old=before.total,
        new=after.total,
        groups=tuple(_groups(names, before, after)),
        removed=removed,
        added=added,
        notices=notices,
        incomplete=any(after.repetitions_missing.values()) or any(case.job in lacking for case in removed),
        _pairs=found,
        _same=same,
    )


@dataclass(slots=True, kw_only=True)
class _Side:
    """One of the two runs: its cases by job, and what they came to."""

    cases: dict[str, list[Facts]] = field(default_factory=dict)
    total: Figures = field(default_factory=Figures)
    figures: dict[tuple[str, str], Figures] = field(default_factory=dict)  # by job and variant
    indexes: dict[str, list[int]] = field(default_factory=dict)  # by job: the highest of a case, and how many there are
    repetitions_missing: dict[str, int] = field(default_factory=dict)  # by job

    @classmethod
    def read(cls, rows: Rows, patterns: Sequence[str]) -> _Side:
        side = cls()
        first = 0
        for case in rows.cases():
            seen = side.indexes.setdefault(case.job, [0, 0])
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
        self.repetitions_missing[job] = self.repetitions_missing.get(job, 0) + case.missing

    def cases_missing(self, job: str) -> int:
        """How many cases have no row before the last one that has; of those after it nothing is known."""
        last, count = self.indexes.get(job, (0, 1))
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
    return any(name == pattern or fnmatchcase(name, pattern) for name in (case.id, case.base_id))


def _jobs_of_both(old: _Side, new: _Side) -> list[tuple[str, str]]:
    """The jobs to compare, by their names on either side. Where each side has one job, that is meant, however named."""
    if len(old.cases) == len(new.cases) == 1:
        return list(zip(old.cases, new.cases, strict=True))
    return [(name, name) for name in dict.fromkeys((*new.cases, *old.cases))]


def _groups(names: Sequence[tuple[str, str]], old: _Side, new: _Side) -> Iterator[Group]:
    """Each job, followed by its variants."""
    for old_name, new_name in names:
        variants = [
            *(variant for job, variant in new.figures if job == new_name),
            *(variant for job, variant in old.figures if job == old_name),
        ]
        for variant in sorted(dict.fromkeys(variants), key=bool):
            yield Group(new_name, variant, old.figures.get((old_name, variant)), new.figures.get((new_name, variant)))


def _notices(names: Sequence[tuple[str, str]], old: _Side, new: _Side) -> Iterator[str]:
    """What should be known about the two sides as a whole."""
    for old_name, new_name in names:
        if old_name != new_name:
            yield f"the job {old_name} of OLD is compared with the job {new_name} of NEW, since each has only one job"
    for here, there, where in ((old, new, "OLD"), (new, old, "NEW")):
        alone = [] if len(names) == 1 else [job for job in here.indexes if job not in there.indexes]
        if alone:
            yield f"only {where} has the {'job' if len(alone) == 1 else 'jobs'} {', '.join(alone)}"
