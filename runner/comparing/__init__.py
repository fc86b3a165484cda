"""Two runs beside each other: what got worse, what got better, what else changed, and at what cost."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from runner.comparing.changes import Change, Kind, kind_of
from runner.comparing.matching import pairs
from runner.comparing.measures import Group
from runner.comparing.questions import Rewording, rewordings
from runner.comparing.side import Side
from runner.console import full_name
from runner.report.rows import CaseResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.comparing.facts import Facts
    from runner.comparing.given import Run
    from runner.comparing.matching import Pair

_MOST_ASKED = 1_000  # cases whose changed questions are compared: a long one takes some milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What became of the cases of one run in another. Rows are read from their files when changes are asked for.

    Takes some 500 bytes of memory for each case of either side, however large its rows are.
    """

    old: Side
    new: Side
    groups: Sequence[Group]
    removed: Sequence[Facts]
    added: Sequence[Facts]
    lost_jobs: Sequence[str]  # jobs of OLD of which NEW has no row at all
    rewordings: Sequence[Rewording]  # of the first 1,000 cases that ask otherwise
    questions_unread: int  # how many more these are
    notices: Sequence[str]
    lacks_rows: bool  # whether NEW plainly has no row of some cases or repetitions of a job that was run
    _pairs: Mapping[Kind, Sequence[Pair]]
    _same: int

    def count(self, kind: Kind) -> int:
        return self._same if kind is Kind.SAME else len(self._pairs.get(kind, ()))

    @property
    def regressions(self) -> int:
        """How many cases fail or are in error that did not fail, or were in no error, before."""
        return sum(self.count(kind) for kind in Kind if kind.is_regression)

    @property
    def identical(self) -> bool:
        return not (any(self._pairs.values()) or self.removed or self.added)

    @property
    def nothing_matches(self) -> bool:
        """Whether both sides have cases and no case is on both, so that there is nothing to compare."""
        return bool(self.removed and self.added) and not any(map(self.count, Kind))

    @property
    def incomplete(self) -> bool:
        """Whether nobody knows what became of cases of OLD, since NEW has no rows of them."""
        return self.lacks_rows or bool(self.lost_jobs) or self.nothing_matches

    def names(self, *kinds: Kind) -> Iterator[str]:
        """The cases of these kinds, by name."""
        return (full_name(new.job, new.id) for kind in kinds for _, new in self._pairs.get(kind, ()))

    def changes(self, kind: Kind) -> Iterator[Change]:
        """The cases of this kind, in the order of the new run, with all that is in their rows. Raises OSError."""
        found = self._pairs.get(kind, ())
        old_rows = self.old.rows.at(chain.from_iterable(old.numbers for old, _ in found))
        new_rows = self.new.rows.at(chain.from_iterable(new.numbers for _, new in found))
        for old, new in found:
            yield Change(
                kind, CaseResult(tuple(islice(old_rows, old.rows))), CaseResult(tuple(islice(new_rows, new.rows)))
            )


def compare(old: Run, new: Run, *, patterns: Sequence[str] = ()) -> Comparison:
    """Compare two runs. With `patterns` only the cases whose id, with or without the variant, matches one of them.

    Raises OSError.
    """
    before, after = Side.read(old, patterns), Side.read(new, patterns)
    names = _jobs_of_both(before, after)
    found: dict[Kind, list[Pair]] = defaultdict(list)
    removed: list[Facts] = []
    added: list[Facts] = []
    asking_otherwise: list[Pair] = []
    same = 0
    for old_name, new_name in names:
        both, only_old, only_new = pairs(before.cases.get(old_name, ()), after.cases.get(new_name, ()))
        removed += only_old
        added += only_new
        asking_otherwise += [pair for pair in both if pair[0].asked != pair[1].asked]
        for pair in both:
            kind = kind_of(*pair)
            if kind is Kind.SAME:
                same += 1
            else:
                found[kind].append(pair)
    lost = [old_name for old_name, new_name in names if old_name in before.cases and not after.has_job(new_name)]
    lacking = {old_name for old_name, new_name in names if after.cases_missing(new_name)}
    return Comparison(
        old=before,
        new=after,
        groups=tuple(_groups(names, before, after)),
        removed=removed,
        added=added,
        lost_jobs=lost,
        rewordings=_rewordings(before, after, asking_otherwise[:_MOST_ASKED]),
        questions_unread=len(asking_otherwise[_MOST_ASKED:]),
        notices=tuple(_notices(names, before, after)),
        lacks_rows=any(after.repetitions_missing.values())
        or any(case.job in lacking for case in removed)
        or bool(removed and after.rows.unreadable),  # a line that can't be read may be the row of any of them
        _pairs=found,
        _same=same,
    )


def _jobs_of_both(old: Side, new: Side) -> list[tuple[str, str]]:
    """The jobs to compare, by their names on either side. Where each side has one job, it may be another's new name."""
    if len(old.cases) == len(new.cases) == 1 and pairs(*old.cases.values(), *new.cases.values())[0]:
        return list(zip(old.cases, new.cases, strict=True))
    return [(name, name) for name in dict.fromkeys((*new.cases, *old.cases))]


def _rewordings(old: Side, new: Side, found: Sequence[Pair]) -> list[Rewording]:
    """How the questions of these cases changed; their first repetitions tell."""
    old_rows = old.rows.at(case.first for case, _ in found)
    new_rows = new.rows.at(case.first for _, case in found)
    return rewordings(zip(old_rows, new_rows, strict=True))


def _groups(names: Sequence[tuple[str, str]], old: Side, new: Side) -> Iterator[Group]:
    """Each job, followed by its variants."""
    for old_name, new_name in names:
        variants = [
            *(variant for job, variant in new.figures if job == new_name),
            *(variant for job, variant in old.figures if job == old_name),
        ]
        for variant in sorted(dict.fromkeys(variants), key=bool):
            yield Group(new_name, variant, old.figures.get((old_name, variant)), new.figures.get((new_name, variant)))


def _notices(names: Sequence[tuple[str, str]], old: Side, new: Side) -> Iterator[str]:
    """What should be known about the two sides as a whole."""
    yield from (f"OLD: {notice}" for notice in (*old.rows.notices, *old.missing()))
    yield from (f"NEW: {notice}" for notice in (*new.rows.notices, *new.missing()))
    if {file.resolve() for file in old.rows.files} == {file.resolve() for file in new.rows.files}:
        yield "OLD and NEW are the same rows"
    for old_name, new_name in names:
        if old_name != new_name:
            yield f"the job {old_name} of OLD is compared with the job {new_name} of NEW, since each has only one job"
    alone = [new_name for old_name, new_name in names if old.cases and not old.has_job(old_name)]
    if alone:
        yield f"only NEW has the {'job' if len(alone) == 1 else 'jobs'} {', '.join(alone)}"
