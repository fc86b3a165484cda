"""A comparison as a person reads it on a terminal, or in the log of a CI job."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from runner.comparing.changes import Kind
from runner.comparing.measures import GROUP_COLUMNS, group_cells, measures
from runner.comparing.verdict import OTHERS, STILL, WORSE, is_good, named, names_of, verdict
from runner.comparing.word_diff import SHORT, WHOLE, differences, shortened
from runner.console import one_line, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.comparing import Comparison
    from runner.comparing.changes import Broken, Change
    from runner.comparing.facts import Facts
    from runner.comparing.measures import Group
    from runner.comparing.word_diff import Piece
    from runner.figures import Figures

    Style = Callable[[str, str], str]  # a text and what it is: bold, dim, good, bad, removed or added

_MOST_TOLD = 20  # cases of a kind
_SIGNS = {
    Kind.NEWLY_FAILING: ("FAILED", "bad"),
    Kind.NEWLY_IN_ERROR: ("ERROR", "bad"),
    Kind.NEWLY_PASSING: ("PASSED", "good"),
    Kind.RECOVERED: ("PASSED", "good"),
    Kind.CHANGED: ("CHANGED", "bold"),
    Kind.STILL_FAILING: ("FAILED", "dim"),
    Kind.STILL_IN_ERROR: ("ERROR", "dim"),
}


def without_style(text: str, kind: str) -> str:
    """Where there are no colours: changes are marked as by `git diff --word-diff`."""
    return {"removed": f"[-{text}-]", "added": f"{{+{text}+}}"}.get(kind, text)


def lines(comparison: Comparison, *, style: Style = without_style, verbose: bool = False) -> Iterator[str]:
    """The whole report: figures, what regressed and why, what else changed, and the verdict as the last line."""
    yield from _table(comparison.old, comparison.new, style)
    yield from _groups(comparison.groups, style)
    for kind in (*WORSE, *OTHERS, *(STILL if verbose else ())):
        yield from _section(comparison, kind, style, verbose=verbose)
    yield ""
    for kind in () if verbose else STILL:
        yield from _counted(kind.label, comparison.count(kind), named(comparison.names(kind), comparison.count(kind)))
    for name, cases in (("added", comparison.added), ("removed", comparison.removed)):
        yield from _counted(name, len(cases), _all_names(cases) if verbose else names_of(cases))
    yield _verdict(comparison, style)


def regressions(comparison: Comparison, *, style: Style = without_style, verbose: bool = False) -> Iterator[str]:
    """Only what got worse, and the verdict."""
    for kind in WORSE:
        yield from _section(comparison, kind, style, verbose=verbose)
    yield _verdict(comparison, style)


def _verdict(comparison: Comparison, style: Style) -> str:
    return style(verdict(comparison), "good" if is_good(comparison) else "bad")


def _table(old: Figures, new: Figures, style: Style) -> Iterator[str]:
    rows = [("", "old", "new", "change", ""), *measures(old, new)]
    widths = _widths(rows)
    for number, (name, *values) in enumerate(rows):
        cells = (f"{value:>{width}}" for value, width in zip(values, widths[1:], strict=True))
        line = "  ".join([f"{name:<{widths[0]}}", *cells]).rstrip()
        yield style(line, "bold") if number == 0 else line


def _groups(groups: Sequence[Group], style: Style) -> Iterator[str]:
    """A line for each job, and for each variant, where there are several."""
    if len(groups) < 2:
        return
    names = (f"  {one_line(group.variant)}" if group.variant else one_line(group.job) for group in groups)
    rows = [("", *GROUP_COLUMNS), *((name, *group_cells(group)) for name, group in zip(names, groups, strict=True))]
    widths = _widths(rows)
    yield ""
    for number, cells in enumerate(rows):
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
        yield style(line, "bold") if number == 0 else line


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _section(comparison: Comparison, kind: Kind, style: Style, *, verbose: bool) -> Iterator[str]:
    count = comparison.count(kind)
    if not count:
        return
    yield ""
    yield style(f"{kind.label}: {count:,}", "bold")
    hints: dict[str, None] = {}  # each is given once
    for change in islice(comparison.changes(kind), None if verbose else _MOST_TOLD):
        yield from _change(change, style, verbose=verbose)
        if change.error and change.error["hint"]:
            hints[change.error["hint"]] = None
    yield from (f"hint: {one_line(hint)}" for hint in hints)
    if count > _MOST_TOLD and not verbose:
        yield f"and {count - _MOST_TOLD:,} more (-v tells of every one)"


def _change(change: Change, style: Style, *, verbose: bool) -> Iterator[str]:
    sign, kind = _SIGNS[change.kind]
    renamed = f", {change.old_name} before" if change.old_name != change.name else ""
    passes = f"  passes {change.passes}" if change.passes else ""
    yield f"{style(sign, kind)} {change.name}{renamed}{passes}  {style(one_line(change.place), 'dim')}"
    if change.new.status == "failed":
        yield from (f"  {_told(broken, of=len(change.new.rows))}" for broken in change.broken)
    elif change.error:
        yield f"  {one_line(change.error['code'])}: {one_line(change.error['message'])}"
    yield f"  {change.cause}"
    answers = change.answers
    if answers and change.new.status != "error":
        if len(answers) > 1:
            yield f"  one of {len(answers):,} answers that differ:"
        yield from _answer(differences(*answers[0]), style, verbose=verbose)


def _told(broken: Broken, *, of: int) -> str:
    times = f"{broken.times} of {of} times: " if of > 1 else ""
    return one_line(f"{times}{broken.verdict['reason']} ({broken.place})")


def _answer(pieces: Sequence[Piece], style: Style, *, verbose: bool) -> Iterator[str]:
    """The difference of two outputs, each line behind a bar, so that no output can pass for a line of ours."""
    text = "".join(_styled(piece, style) for piece in shortened(pieces, WHOLE if verbose else SHORT))
    yield from (f"  | {line}" for line in text.split("\n"))


def _styled(piece: Piece, style: Style) -> str:
    if piece.kind == "left out":
        return style(f" …({piece.text})… ", "dim")
    text = plain(piece.text).replace("\t", " ")
    if piece.kind == "same":
        return text
    # A line end that came or went is shown, since else nobody could see it; colours end with their line.
    return "\n".join(style(line, piece.kind) if line else "" for line in text.replace("\n", "↵\n").split("\n"))


def _counted(name: str, count: int, names: str) -> Iterator[str]:
    if count:
        yield f"{name}: {count:,} ({names})"


def _all_names(cases: Sequence[Facts]) -> str:
    return names_of(cases, most=len(cases))
