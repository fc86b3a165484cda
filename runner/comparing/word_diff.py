"""Two texts -> what was taken out and what was put in, word by word; in bounded time, whatever the texts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise, takewhile
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# A number, a word, the space between words, or a mark; each sign of scripts that write without spaces.
_TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|\s+|.", re.DOTALL)
_MOST_COMPARED = 10_000  # tokens: comparing takes 10 ms and 12 MB then, and four times that for twice as many


class Piece(NamedTuple):
    """A stretch of text. That of one `left out` says what is not shown."""

    kind: Literal["same", "removed", "added", "left out"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much of a difference is shown: words around a change, characters of a piece, changes."""

    context: int = 8
    longest: int = 400
    changes: int = 12


SHORT = Bounds()
WHOLE = Bounds(longest=1_000_000, changes=1_000_000)


def differences(old: str, new: str) -> list[Piece]:
    """What makes `new` of `old`. The pieces that are not added are the old text, those not removed the new one."""
    olds, news = _TOKEN.findall(old), _TOKEN.findall(new)
    pieces: list[Piece] = []
    at = 0
    for edit in _readable(_edits(olds, news), olds):
        pieces += _pieces(same=olds[at : edit.start], removed=olds[edit.in_old], added=news[edit.in_new])
        at = edit.end
    return [*pieces, *_pieces(same=olds[at:])]


def shortened(pieces: Sequence[Piece], bounds: Bounds = SHORT) -> Iterator[Piece]:
    """The pieces as a person wants to read them: stretches that are the same, and those that are very long, cut."""
    changes = 0
    for number, piece in enumerate(pieces):
        if piece.kind == "same":
            at_start, at_end = number == 0, number == len(pieces) - 1
            yield from _in_context(piece.text, bounds.context, before=not at_start, after=not at_end)
            continue
        changes += 1
        if changes > bounds.changes:
            more = sum(later.kind != "same" for later in pieces[number:])
            yield Piece("left out", f"{more:,} more {'change' if more == 1 else 'changes'}")
            return
        yield from _cut(piece, bounds.longest)


class _Edit(NamedTuple):
    """Tokens `start` to `end` of the old text become `new_start` to `new_end` of the new one."""

    start: int
    end: int
    new_start: int
    new_end: int

    @property
    def in_old(self) -> slice:
        return slice(self.start, self.end)

    @property
    def in_new(self) -> slice:
        return slice(self.new_start, self.new_end)

    def moved(self, by: int, by_in_new: int) -> _Edit:
        return _Edit(self.start + by, self.end + by, self.new_start + by_in_new, self.new_end + by_in_new)


def _edits(old: Sequence[str], new: Sequence[str]) -> Iterator[_Edit]:
    """The edits in order. What differs too much to be compared by words is compared by lines, and else replaced."""
    before = _common(old, new)
    old, new = old[before:], new[before:]
    after = _common(reversed(old), reversed(new))
    old, new = old[: len(old) - after], new[: len(new) - after]
    found = _by_words(old, new) if _comparable(old, new) else _by_lines(old, new)
    return (edit.moved(before, before) for edit in found)


def _common(old: Iterable[str], new: Iterable[str]) -> int:
    """How many tokens at the start of both are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))


def _comparable(old: Sequence[object], new: Sequence[object]) -> bool:
    return max(len(old), len(new)) <= _MOST_COMPARED


def _by_words(old: Sequence[str], new: Sequence[str]) -> Iterator[_Edit]:
    # For 5,000 words difflib takes 2 s, or with its heuristics takes half of what is the same for changed; this 3 ms.
    from rapidfuzz.distance import Indel

    for is_same, steps in groupby(Indel.opcodes(old, new), key=lambda step: step.tag == "equal"):
        if not is_same:  # what is replaced comes as some steps that take out and put in
            each = list(steps)
            yield _Edit(each[0].src_start, each[-1].src_end, each[0].dest_start, each[-1].dest_end)


def _by_lines(old: Sequence[str], new: Sequence[str]) -> Iterator[_Edit]:
    old_lines, new_lines = _lines(old), _lines(new)
    if not _comparable(old_lines, new_lines):
        yield _Edit(0, len(old), 0, len(new))
        return
    starts = [0, *accumulate(map(len, old_lines))]
    new_starts = [0, *accumulate(map(len, new_lines))]
    for lines in _by_words(["".join(line) for line in old_lines], ["".join(line) for line in new_lines]):
        edit = _Edit(starts[lines.start], starts[lines.end], new_starts[lines.new_start], new_starts[lines.new_end])
        olds, news = old[edit.in_old], new[edit.in_new]
        if _comparable(olds, news):
            yield from (words.moved(edit.start, edit.new_start) for words in _by_words(olds, news))
        else:
            yield edit


def _lines(tokens: Sequence[str]) -> list[Sequence[str]]:
    """The tokens by line; a token with a line end in it is the last of its line."""
    ends = [number for number, token in enumerate(tokens, 1) if "\n" in token]
    bounds = [0, *ends, *([] if ends[-1:] == [len(tokens)] else [len(tokens)])]
    return [tokens[start:end] for start, end in pairwise(bounds)]


def _readable(edits: Iterable[_Edit], old: Sequence[str]) -> Iterator[_Edit]:
    """Edits with little between them become one: `the` in common does not make two sentences alike."""
    last: _Edit | None = None
    for edit in edits:
        if last is None:
            last = edit
        elif _length(old[last.end : edit.start]) <= min(_size(last, old), _size(edit, old)):
            last = _Edit(last.start, edit.end, last.new_start, edit.new_end)
        else:
            yield last
            last = edit
    if last is not None:
        yield last


def _size(edit: _Edit, old: Sequence[str]) -> int:
    """Roughly how many characters it concerns: those that are taken out, or as many words put in."""
    return max(_length(old[edit.in_old]), edit.new_end - edit.new_start)


def _length(tokens: Sequence[str]) -> int:
    return sum(len(token) for token in tokens if not token.isspace())


def _pieces(*, same: Sequence[str], removed: Sequence[str] = (), added: Sequence[str] = ()) -> Iterator[Piece]:
    if same:
        yield Piece("same", "".join(same))
    if removed:
        yield Piece("removed", "".join(removed))
    if added:
        yield Piece("added", "".join(added))


def _in_context(text: str, words: int, *, before: bool, after: bool) -> Iterator[Piece]:
    """The words next to the changes `before` and `after` this stretch, which is what they share."""
    found = list(re.finditer(r"\S+\s*", text))
    if len(found) <= words * (before + after) + 1:
        yield Piece("same", text)
        return
    first, last = words if before else 0, len(found) - (words if after else 0)
    if first:
        yield from _cut(Piece("same", text[: found[first].start()]), SHORT.longest)
    yield Piece("left out", f"{last - first:,} words")
    if last < len(found):
        yield from _cut(Piece("same", text[found[last].start() :]), SHORT.longest)


def _cut(piece: Piece, longest: int) -> Iterator[Piece]:
    """The start and the end of a piece that is too long."""
    if len(piece.text) <= longest:
        yield piece
        return
    half = longest // 2
    yield Piece(piece.kind, piece.text[:half])
    yield Piece("left out", f"{len(piece.text) - 2 * half:,} characters")
    yield Piece(piece.kind, piece.text[-half:])
