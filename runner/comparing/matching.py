"""Which case of the new run is which of the old one.

Cases of one job are paired in this order, each step among those that are left:

1. The same key and the same id: the same question under the same name.
2. The same id, if it is a name. Somebody gave it, so the case is the same even if its question is another now.
3. The same key: it was renamed, or its id is only its position and rows were inserted above it. Cases that ask the same
   are paired in their order.
4. The same variables and values of the matrix: rows were inserted and the prompt was changed as well.
5. The same id, though it is only a position: nothing else is known of these.
6. The same id but for the variant, if that is said of one case only on each side: another model stands in the matrix.

What is left was added or removed.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from runner.comparing.facts import Facts

Pair = tuple["Facts", "Facts"]


def pairs(old: Iterable[Facts], new: Iterable[Facts]) -> tuple[list[Pair], list[Facts], list[Facts]]:
    """The cases of a job: those of both sides, in the order of the new one, those removed and those added."""
    found: list[Pair] = []
    olds, news = list(old), list(new)
    for likeness, only_unique in _STEPS:
        if not olds or not news:
            break
        matched = list(_matched(olds, news, likeness, only_unique=only_unique))
        found += matched
        gone = {case.first for case, _ in matched}
        gone_in_new = {case.first for _, case in matched}
        olds = [case for case in olds if case.first not in gone]
        news = [case for case in news if case.first not in gone_in_new]
    return sorted(found, key=lambda pair: pair[1].first), olds, news


def _matched(
    olds: Sequence[Facts], news: Sequence[Facts], likeness: Callable[[Facts], Hashable], *, only_unique: bool
) -> Iterator[Pair]:
    """Cases that are alike, in their order. A likeness of None is no likeness."""
    waiting: dict[Hashable, list[Facts]] = defaultdict(list)
    for case in reversed(olds):
        waiting[likeness(case)].append(case)
    waiting.pop(None, None)
    common = _unique(waiting, news, likeness) if only_unique else waiting
    for case in news:
        alike = common.get(likeness(case))
        if alike:
            yield alike.pop(), case


def _unique(
    waiting: dict[Hashable, list[Facts]], news: Sequence[Facts], likeness: Callable[[Facts], Hashable]
) -> dict[Hashable, list[Facts]]:
    """Those of which each side has one."""
    count: dict[Hashable, int] = defaultdict(int)
    for case in news:
        count[likeness(case)] += 1
    return {like: cases for like, cases in waiting.items() if len(cases) == 1 and count[like] == 1}


def _is_position(case: Facts) -> bool:
    """Whether the id may be a mere position. A number that somebody gave as an id is not mistaken by this either."""
    return not case.base_id or case.base_id.isdecimal()


# Of each step: what makes two cases alike, and whether that counts only where nothing else is like them.
_STEPS: tuple[tuple[Callable[[Facts], Hashable], bool], ...] = (
    (lambda case: (case.asked, case.id), False),
    (lambda case: None if _is_position(case) else case.id, False),
    (lambda case: case.asked, False),
    (lambda case: case.given, False),
    (lambda case: case.id, False),
    (lambda case: case.base_id, True),
)
