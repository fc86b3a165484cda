"""What a comparison comes to, in the words that every report of it uses."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from runner.comparing.changes import Kind
from runner.console import full_name, one_line
from runner.words import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.comparing import Comparison
    from runner.comparing.facts import Facts
    from runner.comparing.questions import Rewording
    from runner.comparing.side import Side

_MOST_NAMED = 5
_LONGEST_NAME = 100

# The order in which reports tell of the kinds.
WORSE = (Kind.NEWLY_FAILING, Kind.NEWLY_IN_ERROR)
OTHERS = (Kind.NEWLY_PASSING, Kind.RECOVERED, Kind.CHANGED)
STILL = (Kind.STILL_FAILING, Kind.STILL_IN_ERROR)


def verdict(comparison: Comparison) -> str:
    """All of it in one line."""
    worse = worst(comparison)
    return f"{outcome(comparison)}: {counts(comparison)}" + (f"; worse: {worse}" if worse else "")


def is_good(comparison: Comparison) -> bool:
    return not (comparison.regressions or comparison.incomplete)


def outcome(comparison: Comparison) -> str:
    if comparison.regressions:
        return f"{plural(comparison.regressions, 'case')} regressed"
    if comparison.nothing_matches:
        return "nothing to compare"
    if comparison.lost_jobs:
        return f"not known, since NEW has no rows of {plural(len(comparison.lost_jobs), 'job')}"
    if comparison.incomplete:
        return "not known, since NEW is not complete"
    if not len(comparison.old.rows):
        return "OLD has no rows, every case is added"
    return "no difference" if comparison.identical else "no regression"


def described(side: Side) -> str:
    """`outputs/ (28 cases, 2026-11-20 14:03 UTC)`, so that people see which run is which."""
    when = f", {side.finished_at[:16].replace('T', ' ')} UTC" if side.finished_at else ""
    return f"{one_line(side.name)} ({plural(side.total.cases, 'case')}{when})"


class Alarm(NamedTuple):
    """Why nobody can say what became of cases of OLD, and what to do about it."""

    message: str
    hint: str


def alarm(comparison: Comparison) -> Alarm | None:
    """What must be told before all else; what NEW lacks of jobs that it has is a notice."""
    if comparison.nothing_matches:
        old, new = (named(side.cases, len(side.cases)) for side in (comparison.old, comparison.new))
        return Alarm(
            f"no case of OLD ({old}) is in NEW ({new}): they share no id, no question and no variables",
            "are these rows of another job, or were files mixed up? give two runs of the same jobs",
        )
    if comparison.lost_jobs:
        lost = len(comparison.lost_jobs)
        return Alarm(
            f"NEW has no row of {plural(lost, 'job')} that OLD has: {named(comparison.lost_jobs, lost)}",
            "was only a part run, or one file given? to compare only some jobs, name their files on both sides",
        )
    return None


def counts(comparison: Comparison) -> str:
    """How many cases there are of each kind."""
    kinds = ((kind.label, comparison.count(kind)) for kind in (*WORSE, *OTHERS, *STILL))
    others = (
        ("added", len(comparison.added)),
        ("removed", len(comparison.removed)),
        ("the same", comparison.count(Kind.SAME)),
    )
    return ", ".join(f"{count:,} {name}" for name, count in (*kinds, *others) if count)


def worst(comparison: Comparison) -> str:
    """The names of the first cases that regressed; empty if none did."""
    return named(comparison.names(*WORSE), sum(map(comparison.count, WORSE)))


def one_sided(comparison: Comparison) -> Iterator[tuple[str, Sequence[Facts]]]:
    """The cases that one side has alone, and what they are called with their number."""
    for name, cases in (("added", comparison.added), ("removed", comparison.removed)):
        if cases:
            not_passed = sum(case.status != "passed" for case in cases) if name == "added" else 0
            yield f"{name}: {len(cases):,}" + (f", {not_passed:,} not passed" if not_passed else ""), cases


def asked_in(rewording: Rewording) -> str:
    """Which cases ask otherwise, and in what: `12 cases of tutor: system`."""
    example = f", as in {rewording.case}" if rewording.varies else ""
    return one_line(f"{plural(rewording.cases, 'case')} of {rewording.job}{example}: {rewording.part}")


def rewordings_left_out(comparison: Comparison, shown: int) -> str:
    """What a report does not tell of the questions that changed; empty if it tells all."""
    more, unread = len(comparison.rewordings) - shown, comparison.questions_unread
    parts = [f"and {plural(more, 'other change')}"] if more > 0 else []
    parts += [f"{plural(unread, 'more case')} may ask otherwise too"] if unread else []
    return "; ".join(parts)


def names_of(cases: Sequence[Facts], *, most: int = _MOST_NAMED) -> str:
    """The names of the first cases that one side has alone."""
    return named((full_name(case.job, case.id) for case in cases), len(cases), most=most)


def named(names: Iterable[str], count: int, *, most: int = _MOST_NAMED) -> str:
    """The first of so many names, and how many more there are."""
    first = ", ".join(shorten(name, _LONGEST_NAME) for name in islice(names, most))
    return first + (f", and {count - most:,} more" if count > most else "")
