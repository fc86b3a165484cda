"""The order of the lines of a row file, by their numbers, in little memory."""

from __future__ import annotations

from array import array
from heapq import merge
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_CHUNK = 1 << 16  # numbers sorted at once: a list of all would take 70 bytes for each


def in_order(numbers: Iterable[int], positions: Sequence[int]) -> bool:
    """Whether the lines of these numbers stand in the order of their positions."""
    return all(before <= after for before, after in pairwise(map(positions.__getitem__, numbers)))


def ordered(numbers: Sequence[int], positions: Sequence[int]) -> Iterator[int]:
    """The numbers in the order of their positions; those of one position stay as they were."""
    key = positions.__getitem__
    starts = range(0, len(numbers), _CHUNK)
    return merge(*(array("I", sorted(numbers[start : start + _CHUNK], key=key)) for start in starts), key=key)
