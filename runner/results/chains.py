"""Rows found by a hash, in little memory."""

from __future__ import annotations

from array import array
from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Chains:
    """The numbers of rows by hash, the highest first. Chained buckets in arrays, because a dict would take 100 bytes
    a row, and so would sorting.
    """

    def __init__(self, hashes: array[int], chosen: Iterable[object]) -> None:
        """Of the rows, only those that are `chosen` (for each, something true) can be found."""
        self._hashes = hashes
        self._mask = mask = (1 << len(hashes).bit_length()) - 1
        self._heads = heads = array("I", bytes(4 * (mask + 1)))  # numbers from 1; 0 ends a chain
        self._next = following = array("I", bytes(4 * (len(hashes) + 1)))
        for number, digest in compress(enumerate(hashes, 1), chosen):
            bucket = digest & mask
            following[number] = heads[bucket]
            heads[bucket] = number

    def find(self, digest: int, *, gone: bytearray | None = None) -> Iterator[int]:
        """The rows of that hash. Those that are `gone` are unlinked on the way, so that a thousand rows with one key
        are not walked over a thousand times.
        """
        bucket = digest & self._mask
        before, number = 0, self._heads[bucket]
        while number:
            after = self._next[number]
            if gone is None or not gone[number - 1]:
                if self._hashes[number - 1] == digest:
                    yield number - 1
                before = number
            elif before:
                self._next[before] = after
            else:
                self._heads[bucket] = after
            number = after
