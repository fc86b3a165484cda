"""What a comparison comes to, in the words that every report of it uses."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from runner.comparing.changes import Kind
from runner.console import full_name
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.comparing import Comparison
    from runner.comparing.facts import Facts

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
    return not (comparison.regressed or comparison.incomplete)


def outcome(comparison: Comparison) -> str:
    if comparison.regressed:
        return "regressed"
    if comparison.incomplete:
        return "not known, since NEW is not complete"
    return "no difference" if comparison.identical else "no regression"


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


def names_of(cases: Sequence[Facts], *, most: int = _MOST_NAMED) -> str:
    """The names of the first cases that one side has alone."""
    return named((full_name(case.job, case.id) for case in cases), len(cases), most=most)


def named(names: Iterable[str], count: int, *, most: int = _MOST_NAMED) -> str:
    """The first of so many names, and how many more there are."""
    first = ", ".join(shorten(name, _LONGEST_NAME) for name in islice(names, most))
    return first + (f", and {count - most:,} more" if count > most else "")
