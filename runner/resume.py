"""Which cases must be called, and which have their row already: the cases of a job against the rows of earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.cases import Chosen
    from runner.records import Case
    from runner.rendering import Renderer
    from runner.results.earlier import Earlier, EarlierRow

_BREATH = 500  # cases that are passed over at a stretch; then the event loop gets its turn


@dataclass(frozen=True, slots=True)
class Kept:
    """A case that an earlier row answers."""

    case: Case
    earlier: EarlierRow


def cases_and_rows(
    cases: Iterable[Chosen], renderer: Renderer, earlier: Earlier | None
) -> Iterator[Case | Kept | None]:
    """Every case once: to be called, or kept. Now and then None, so that whoever asks can do something else.

    Three passes over the cases, so that the first call need not wait until a million kept rows have been compared:
    first those that surely have no row, by their id, which costs no rendering; then the others, by key and id; at last
    those whose key is another case's, which may take what that case has left, as when a row was inserted on top.
    """
    if earlier is None:
        yield from map(renderer.case, cases)
        return
    settled = bytearray()
    for position, chosen in enumerate(cases):
        settled.append(False)
        if not earlier.has(chosen.id, chosen.repeat):
            case = renderer.case(chosen)
            if case.fault or not earlier.knows(case.key):
                settled[position] = True
                yield case
        if position % _BREATH == 0:
            yield None
    for match in (_by_key_and_id, _by_key):
        for position, chosen in enumerate(cases):
            if not settled[position]:
                found = match(renderer.case(chosen), earlier)
                settled[position] = found is not None
                yield found
        if all(settled):
            return


def _by_key_and_id(case: Case, earlier: Earlier) -> Case | Kept | None:
    """None if another case's row has the key: that case goes first."""
    if case.fault or not earlier.knows(case.key):
        return case
    row = earlier.take(case.key, case.id, case.repeat)
    return None if row is None else Kept(case, row)


def _by_key(case: Case, earlier: Earlier) -> Case | Kept:
    row = earlier.take_any(case.key)
    return case if row is None else Kept(case, row)
