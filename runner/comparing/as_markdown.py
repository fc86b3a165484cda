"""A comparison as Markdown: for the comment of a pull request, which GitHub keeps below 65,536 characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from runner.comparing.figures import GROUP_COLUMNS, group_cells, measures
from runner.comparing.verdict import (
    OTHERS,
    STILL,
    WORSE,
    alarm,
    asked_in,
    counts,
    described,
    is_good,
    names_of,
    one_sided,
    outcome,
    rewordings_left_out,
    worst,
)
from runner.comparing.word_diff import Bounds, differences, shortened
from runner.report.markup import code, preformatted
from runner.words import plural, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.comparing import Comparison
    from runner.comparing.changes import Change, Kind
    from runner.comparing.word_diff import Piece

_ROOM = 60_000  # characters
_ROOM_OF_TABLES = 20_000  # so that many variants leave room for what regressed
_RESERVE = 2_000  # for what says that something was left out
_LONGEST = 500  # characters of what was expected, of what was found and of other texts
_MOST_NOTICES = 10
_MOST_REWORDINGS = 10
_BOUNDS = Bounds(context=12, longest=500, changes=12)


def write(out: TextIO, comparison: Comparison) -> None:
    """Write the report; it says what it had no room for. Raises OSError."""
    page = _Page(out)
    sign = "✅" if is_good(comparison) else "❌"
    page.add(f"## {sign} bedrock-run diff: {outcome(comparison)}\n")
    page.add(f"\nOLD {_code(described(comparison.old))} → NEW {_code(described(comparison.new))}\n")
    told = alarm(comparison)
    if told:
        page.add(f"\n{_code(told.message)}<br>hint: {told.hint}\n")
    page.add(f"\n{counts(comparison)}\n")
    worse = worst(comparison)
    if worse:
        page.add(f"\nworse: {_code(worse)}\n")
    for notice in comparison.notices[:_MOST_NOTICES]:
        page.add(f"\n{_code(notice)}\n")
    if not comparison.nothing_matches:
        _add_figures(page, comparison)
        _add_questions(page, comparison)
    for kind in WORSE:
        if comparison.count(kind):
            page.add(f"\n### {kind.label}: {comparison.count(kind):,}\n")
            page.changes(comparison, kind)
    for kind in (*OTHERS, *STILL):
        if comparison.count(kind):
            page.add(f"\n<details><summary>{kind.label}: {comparison.count(kind):,}</summary>\n")
            page.changes(comparison, kind)
            page.add("\n</details>\n", to_spare=0)
    for name, cases in one_sided(comparison):
        page.add(f"\n{name} ({_code(names_of(cases))})\n")


def _add_figures(page: _Page, comparison: Comparison) -> None:
    page.table(("", "old", "new", "change", ""), measures(comparison.old.total, comparison.new.total))
    if len(comparison.groups) > 1:
        names = (_code(group.variant or group.job) for group in comparison.groups)
        cells = map(group_cells, comparison.groups)
        page.table(("", *GROUP_COLUMNS), ((name, *cell) for name, cell in zip(names, cells, strict=True)))


def _add_questions(page: _Page, comparison: Comparison) -> None:
    shown = 0
    if comparison.rewordings:
        page.add("\n### changed questions\n")
    for rewording in comparison.rewordings[:_MOST_REWORDINGS]:
        shown += page.add(f"\n{_code(asked_in(rewording))}\n\n{_difference(rewording.pieces)}\n", to_spare=_ROOM // 2)
    left_out = rewordings_left_out(comparison, shown)
    if left_out:
        page.add(f"\n{left_out}\n")


class _Page:
    """The report as it is written, and the room that is left of it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._left = _ROOM

    def add(self, text: str, *, to_spare: int = _RESERVE) -> bool:
        """Write `text` if that leaves so much room; whether it did."""
        fits = len(text) <= self._left - to_spare
        if fits:
            self._out.write(text)
            self._left -= len(text)
        return fits

    def table(self, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
        """A table of cells that are Markdown."""
        self.add(f"\n| {' | '.join(columns)} |\n|{' --- |' * len(columns)}\n")
        left_out = sum(not self.add(f"| {' | '.join(line)} |\n", to_spare=_ROOM - _ROOM_OF_TABLES) for line in lines)
        if left_out:
            self.add(f"\n{plural(left_out, 'line')} of this table left out, for want of room\n")

    def changes(self, comparison: Comparison, kind: Kind) -> None:
        """The cases of a kind, as far as there is room."""
        for number, change in enumerate(comparison.changes(kind)):
            if not self.add("".join(_change(change))):
                left = comparison.count(kind) - number
                self.add(f"\n{left:,} more left out, for want of room\n", to_spare=_RESERVE // 2)
                return


def _change(change: Change) -> Iterator[str]:
    renamed = f", {_code(change.old_name)} before" if change.old_name != change.name else ""
    passes = f", passes {change.passes}" if change.passes else ""
    yield f"\n{_code(change.name)}{renamed}{passes}, {_code(change.place)}<br>{change.cause}\n"
    if change.new.status == "failed":
        yield "\n"
        for broken in change.broken:
            times = f"{broken.times} of {len(change.new.rows)} times: " if change.passes else ""
            verdict_ = broken.verdict
            told = (verdict_["expected"], verdict_["actual"]) if verdict_["expected"] else (verdict_["reason"],)
            yield f"- {times}expected {', '.join(_code(text) for text in told if text)} ({_code(broken.place)})\n"
    elif change.error:
        hint = f" (hint: {_code(change.error['hint'])})" if change.error["hint"] else ""
        yield f"\n- {_code(change.error['code'])}: {_code(change.error['message'])}{hint}\n"
    answers = change.answers
    if answers and change.new.status != "error":
        yield f"\none of {len(answers):,} answers that differ:\n" if len(answers) > 1 else ""
        yield f"\n{_difference(differences(*answers[0]))}\n"


def _difference(pieces: Sequence[Piece]) -> str:
    return f"<pre>{''.join(map(_marked, shortened(pieces, _BOUNDS)))}</pre>"


def _marked(piece: Piece) -> str:
    if piece.kind == "left out":
        return f"<i> …({piece.text})… </i>"
    text = preformatted(piece.text)
    tag = {"removed": "del", "added": "ins"}.get(piece.kind)
    return f"<{tag}>{text}</{tag}>" if tag else text


def _code(text: str) -> str:
    return code(shorten(text, _LONGEST))
