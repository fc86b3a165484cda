"""Which cases must be called, and which have their row already: the cases of a job against the rows of earlier runs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.errors import NO_ROW_HINT, Problem, UsageError
from runner.records import exchanges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.cases.plan import CaseList, Chosen
    from runner.cases.rendering import Renderer
    from runner.records import Case
    from runner.results.earlier import Earlier, EarlierRow

_FEW = 20_000  # cases whose rows are found in less than a second
_AGAIN = "run the same command again: what was answered is kept"
_BREATH = 500  # cases that are passed over at a stretch; then the event loop gets its turn


@dataclass(frozen=True, slots=True)
class Kept:
    """A case that an earlier row answers."""

    case: Case
    earlier: EarlierRow


@dataclass(frozen=True, slots=True)
class Begun(Kept):
    """A case of whose conversation an earlier row has the first replies. The other turns are to be asked."""

    @property
    def replies(self) -> int:
        """How many there are."""
        return len(self.earlier.row["replies"])


def cases_and_rows(cases: CaseList, renderer: Renderer, earlier: Earlier | None) -> Iterator[Case | Kept | None]:
    """Every case once: to be called, or kept. Now and then None, so that whoever asks can do something else.

    Three passes over the cases. Of a small job the first finds those that are kept, so that it is known at once what is
    left. Of a large one it finds those that surely have no row, by their id, which costs no rendering: the first call
    need not wait until a million rows have been compared. Then come the others, by key and id; and at last those whose
    key is another case's, which may take what that case has left, as when a row was inserted on top.
    """
    if earlier is None or not earlier.spare():
        yield from (renderer.case(chosen) for chosen in cases)
        return
    first = _surely_kept if cases.count() <= _FEW else _surely_new
    names, settled = array("q"), bytearray()
    for position, chosen in enumerate(cases):
        found = first(chosen, renderer, earlier)
        names.append(_name(chosen))
        settled.append(found is not None)
        if found is not None or position % _BREATH == 0:
            yield found
    for match in (_by_key_and_id, _by_key):
        if all(settled):
            return
        for position, chosen in enumerate(cases):
            if position >= len(names) or names[position] != _name(chosen):
                raise UsageError(Problem("the files that the pattern names are others now", hint=_AGAIN))
            if not settled[position]:
                found = match(renderer.case(chosen), earlier)
                settled[position] = found is not None
                yield found
            elif position % _BREATH == 0:
                yield None


def with_begun(items: Iterator[Case | Kept | None], earlier: Earlier | None) -> Iterator[Case | Kept | None]:
    """The items, of which cases that are to be called go on with the conversation that an earlier run has begun."""
    for item in items:
        yield item if earlier is None or item is None or isinstance(item, Kept) else _begun(item, earlier)


def _begun(case: Case, earlier: Earlier) -> Case | Begun:
    turns = sum(1 for _ in exchanges(case.request))
    if case.fault or turns == 1:
        return case
    row = earlier.take_begun(case.key, case.id, case.repeat, turns=turns)
    return case if row is None else Begun(case, row)


def no_row(case: Case, earlier: Earlier) -> Problem:
    """Why a replay cannot judge a case that no earlier row answers."""
    if earlier.has(case.id, case.repeat):
        why = "what it asks has changed"
    elif earlier.names(case.id, case.repeat):
        why = "its row is in error"
    else:
        why = "the case is new" + (", or its row is among the lines that can't be read" if earlier.damaged else "")
    return Problem(f"no earlier row answers this case: {why}", hint=NO_ROW_HINT)


def _name(chosen: Chosen) -> int:
    return hash((chosen.id, chosen.repeat))


def _surely_kept(chosen: Chosen, renderer: Renderer, earlier: Earlier) -> Kept | None:
    """None if there is no row of this case that asked the same."""
    if not earlier.has(chosen.id, chosen.repeat):
        return None
    case = renderer.case(chosen)
    row = None if case.fault else earlier.take(case.key, case.id, case.repeat)
    return None if row is None else Kept(case, row)


def _surely_new(chosen: Chosen, renderer: Renderer, earlier: Earlier) -> Case | None:
    """None if there is a row of this case, or one of another that asked the same."""
    if earlier.has(chosen.id, chosen.repeat):
        return None
    case = renderer.case(chosen)
    return case if case.fault or not earlier.knows(case.key) else None


def _by_key_and_id(case: Case, earlier: Earlier) -> Case | Kept | None:
    """None if another case's row has the key: that case goes first."""
    if case.fault or not earlier.knows(case.key):
        return case
    row = earlier.take(case.key, case.id, case.repeat)
    return None if row is None else Kept(case, row)


def _by_key(case: Case, earlier: Earlier) -> Case | Kept:
    row = earlier.take_any(case.key)
    return case if row is None else Kept(case, row)
