"""A comparison as one HTML file that needs no script, and nothing from anywhere else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from runner.comparing.measures import GROUP_COLUMNS, group_cells, measures
from runner.comparing.verdict import OTHERS, STILL, WORSE, counts, is_good, names_of, outcome, worst
from runner.comparing.word_diff import Bounds, differences, shortened
from runner.report.html_pages import HtmlPage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.comparing import Comparison
    from runner.comparing.changes import Change
    from runner.comparing.word_diff import Piece

_PAGE = HtmlPage(folder=Path(__file__).parent, template="page.html", style="page.css", script=None, filters={})
_MOST_SHOWN = 1_000  # cases of a kind: more than that no browser opens at once, and nobody reads
_BOUNDS = Bounds(context=40, longest=5_000, changes=100)


def write(out: TextIO, comparison: Comparison) -> None:
    """Write the report. Raises OSError."""
    page = _PAGE.pieces(
        comparison=comparison,
        good=is_good(comparison),
        outcome=outcome(comparison),
        counts=counts(comparison),
        worst=worst(comparison),
        measures=list(measures(comparison.old, comparison.new)),
        group_columns=GROUP_COLUMNS,
        group_cells=group_cells,
        sections=[(kind, comparison.count(kind)) for kind in (*WORSE, *OTHERS, *STILL) if comparison.count(kind)],
        changes=lambda kind: islice(comparison.changes(kind), _MOST_SHOWN),
        most_shown=_MOST_SHOWN,
        pieces=_pieces,
        one_sided=[(name, cases, names_of(cases)) for name, cases in _one_sided(comparison) if cases],
    )
    out.writelines(page)


def _one_sided(comparison: Comparison) -> Iterator[tuple[str, Any]]:
    yield "added", comparison.added
    yield "removed", comparison.removed


def _pieces(change: Change) -> list[Piece]:
    """The difference of the first of the answers that differ; empty if none does, or there is none."""
    answers = change.answers
    return list(shortened(differences(*answers[0]), _BOUNDS)) if answers and change.new.status != "error" else []
