"""A comparison as Markdown: for the comment of a pull request, which GitHub keeps below 65,536 characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from runner.comparing.measures import GROUP_COLUMNS, group_cells, measures
from runner.comparing.verdict import OTHERS, STILL, WORSE, counts, is_good, names_of, outcome, worst
from runner.comparing.word_diff import Bounds, differences, shortened
from runner.report.markup import Page, cell, code, preformatted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.comparing import Comparison
    from runner.comparing.changes import Change, Kind
    from runner.comparing.word_diff import Piece

_ROOM_OF_TABLES = 20_000  # characters, so that many variants leave room for what regressed
_RESERVE = 2_000  # for what says that something was left out
_MOST_NOTICES = 10
_BOUNDS = Bounds(context=12, longest=500, changes=12)


def write(out: TextIO, comparison: Comparison) -> None:
    """Write the report; it says what it had no room for. Raises OSError."""
    page = Page(out, room_of_tables=_ROOM_OF_TABLES)
    sign = "✅" if is_good(comparison) else "❌"
    page.add(f"### {sign} {outcome(comparison)}\n\n{counts(comparison)}\n")
    worse = worst(comparison)
    if worse:
        page.add(f"\nworse: {code(worse)}\n")
    for notice in comparison.notices[:_MOST_NOTICES]:
        page.add(f"\n{code(notice)}\n")
    page.table(("", "old", "new", "change", ""), measures(comparison.old, comparison.new))
    if len(comparison.groups) > 1:
        groups = ((cell(group.variant or group.job), *group_cells(group)) for group in comparison.groups)
        page.table(("", *GROUP_COLUMNS), groups)
    for kind in WORSE:
        if comparison.count(kind):
            page.add(f"\n#### {kind.label}: {comparison.count(kind):,}\n", to_spare=_RESERVE)
            _add_changes(page, comparison, kind)
    for kind in (*OTHERS, *STILL):
        head = f"\n<details><summary>{kind.label}: {comparison.count(kind):,}</summary>\n"
        if comparison.count(kind) and page.add(head, to_spare=_RESERVE):
            _add_changes(page, comparison, kind)
            page.add("\n</details>\n")
    for name, cases in (("added", comparison.added), ("removed", comparison.removed)):
        if cases:
            page.add(f"\n{name}: {len(cases):,} ({code(names_of(cases))})\n")


def _add_changes(page: Page, comparison: Comparison, kind: Kind) -> None:
    """The cases of a kind, as far as there is room."""
    for number, change in enumerate(comparison.changes(kind)):
        if not page.add("".join(_change(change)), to_spare=_RESERVE):
            left = comparison.count(kind) - number
            page.add(f"\n{left:,} more left out, for want of room\n", to_spare=_RESERVE // 2)
            return


def _change(change: Change) -> Iterator[str]:
    renamed = f", {code(change.old_name)} before" if change.old_name != change.name else ""
    passes = f", passes {change.passes}" if change.passes else ""
    yield f"\n{code(change.name)}{renamed}{passes}, {code(change.place)}<br>{change.cause}\n"
    if change.new.status == "failed":
        yield "\n"
        for broken in change.broken:
            times = f"{broken.times} of {len(change.new.rows)} times: " if change.passes else ""
            verdict_ = broken.verdict
            told = (verdict_["expected"], verdict_["actual"]) if verdict_["expected"] else (verdict_["reason"],)
            yield f"- {times}expected {', '.join(code(text) for text in told if text)} ({code(broken.place)})\n"
    elif change.error:
        hint = f" (hint: {code(change.error['hint'])})" if change.error["hint"] else ""
        yield f"\n- {code(change.error['code'])}: {code(change.error['message'])}{hint}\n"
    answers = change.answers
    if answers and change.new.status != "error":
        yield f"\none of {len(answers):,} answers that differ:\n" if len(answers) > 1 else ""
        pieces = shortened(differences(*answers[0]), _BOUNDS)
        yield f"\n<pre>{''.join(map(_marked, pieces))}</pre>\n"


def _marked(piece: Piece) -> str:
    if piece.kind == "left out":
        return f"<i> …({piece.text})… </i>"
    text = preformatted(piece.text)
    tag = {"removed": "del", "added": "ins"}.get(piece.kind)
    return f"<{tag}>{text}</{tag}>" if tag else text
