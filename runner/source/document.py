"""A YAML file as data, with the place of every value: what `read` and its like give."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from runner.errors import Place, Problem, UsageError
from runner.source.composing import Composer
from runner.source.text import Lines, decoded, file_bytes, refuse_control_characters

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A YAML file as dicts with string keys, lists, strings, numbers, booleans and None.

    `problems` are those that left the rest of the file readable (a duplicate key, say): with any of them the data is
    good for finding further problems, and for nothing else. Nodes that aliases share are shared here too: treat `data`
    as immutable. A number that was written in another way than Python writes it (`1.10`, `0x1F`) gives its own spelling
    as `str()`.
    """

    path: Path
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    _start: int
    _spots: dict[int, dict[str, tuple[int, int]] | array[int]]  # id of a dict or list -> where its children start
    _lines: Lines

    def place(self, pointer: Sequence[str | int], *, key: bool = False) -> Place:
        """Where a value starts, or with `key` its key. For a pointer to what is not there: its nearest ancestor."""
        node: Any = self.data
        index = self._start
        for depth, step in enumerate(pointer, start=1):
            spots = self._spots.get(id(node))
            if isinstance(spots, dict) and step in spots:
                index = spots[str(step)][0 if key and depth == len(pointer) else 1]
            elif isinstance(spots, array) and isinstance(step, int) and 0 <= step < len(spots):
                index = spots[step]
            else:
                break
            node = node[step]
        return self._lines.place(index)


@dataclass(frozen=True, slots=True, eq=False)
class ListDocument:
    """A YAML file whose top is a list; otherwise as `Document`."""

    items: list[Any]
    problems: tuple[Problem, ...]
    _spots: array[int]
    _lines: Lines

    def place(self, index: int) -> Place:
        """Where an item starts."""
        return self._lines.place(self._spots[index])


def read(path: Path, *, shown_as: str | None = None) -> Document:
    """The document of a YAML file whose top is a mapping.

    `shown_as` is what places call the file, by default the path as given. Raises UsageError, with every problem found,
    for what cannot be read at all; see `Document.problems` for the rest.
    """
    return _document(path, _lines_of(path, shown_as or str(path)))


def read_text(text: str, path: Path, *, shown_as: str) -> Document:
    """The document of a text that stands for a file at `path`; otherwise as `read`."""
    lines = Lines(text, shown_as)
    refuse_control_characters(lines)
    return _document(path, lines)


def _document(path: Path, lines: Lines) -> Document:
    composer = Composer(lines)
    data = composer.compose()
    if not isinstance(data, dict):
        raise UsageError(*composer.problems, _not_a_mapping(data, lines, composer.start))
    return Document(path, data, tuple(composer.problems), composer.start, composer.spots, lines)


def read_list(path: Path, *, shown_as: str | None = None) -> ListDocument:
    """The document of a YAML file whose top is a list. Raises as `read` does."""
    lines = _lines_of(path, shown_as or str(path))
    composer = Composer(lines)
    items = composer.compose()
    if not isinstance(items, list):
        found = "empty" if items is None else "a mapping" if isinstance(items, dict) else "a single value"
        message = f"the file must be a list of mappings, but it is {found}"
        raise UsageError(
            *composer.problems, Problem(message, lines.place(composer.start), "write items, as in `- name: value`")
        )
    spots = composer.spots[id(items)]
    assert isinstance(spots, array)
    return ListDocument(items, tuple(composer.problems), spots, lines)


def _lines_of(path: Path, shown: str) -> Lines:
    lines = Lines(decoded(file_bytes(path, shown), shown), shown)
    refuse_control_characters(lines)
    return lines


def read_value(text: str, *, shown_as: str) -> Any:
    """The value of a YAML text from the command line; an empty text is the empty string.

    Raises UsageError whose places call the text `shown_as`.
    """
    if not text.strip():
        return text
    lines = Lines(text, shown_as)
    refuse_control_characters(lines)
    composer = Composer(lines)
    value = composer.compose()
    if composer.problems:
        raise UsageError(*composer.problems)
    if not holds_finite(value):
        hint = "quote it, if it is meant as text"
        raise UsageError(Problem("this is no number that JSON can hold", lines.place(0), hint))
    return value


def holds_finite(value: Any) -> bool:
    """Whether all numbers in a value are ones that JSON has: neither infinite nor NaN."""
    if isinstance(value, dict | list):
        return all(map(holds_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or isfinite(value)


def _not_a_mapping(data: Any, lines: Lines, start: int) -> Problem:
    hint = "write keys and values, as in `model: ...`"
    if data is None:
        return Problem("the file is empty", lines.place(0), hint)
    found = "a list" if isinstance(data, list) else "a single value"
    return Problem(f"the file must be a mapping of keys to values, but it is {found}", lines.place(start), hint)
