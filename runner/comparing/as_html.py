"""A comparison as one HTML file that needs no script, and nothing from anywhere else."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from runner import __version__
from runner.comparing.measures import GROUP_COLUMNS, group_cells, measures
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
from runner.report.html_pages import HtmlPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.comparing import Comparison
    from runner.comparing.changes import Change
    from runner.comparing.word_diff import Piece

_PAGE = HtmlPage(folder=Path(__file__).parent, template="page.html", style="page.css", script=None, filters={})
_MOST_SHOWN = 1_000  # cases of a kind: more than that no browser opens at once, and nobody reads
_MOST_REWORDINGS = 100
_BOUNDS = Bounds(context=40, longest=5_000, changes=100)


def write(out: TextIO, comparison: Comparison) -> None:
    """Write the report. Raises OSError."""
    page = _PAGE.pieces(
        version=__version__,
        comparison=comparison,
        described=described,
        alarm=alarm(comparison),
        good=is_good(comparison),
        outcome=outcome(comparison),
        counts=counts(comparison),
        worst=worst(comparison),
        measures=list(measures(comparison.old.total, comparison.new.total)),
        group_columns=GROUP_COLUMNS,
        group_cells=group_cells,
        sections=[(kind, comparison.count(kind)) for kind in (*WORSE, *OTHERS, *STILL) if comparison.count(kind)],
        changes=lambda kind: islice(comparison.changes(kind), _MOST_SHOWN),
        most_shown=_MOST_SHOWN,
        rewordings=comparison.rewordings[:_MOST_REWORDINGS],
        asked_in=asked_in,
        rewordings_left_out=rewordings_left_out(comparison, _MOST_REWORDINGS),
        difference=_difference,
        answer=_answer,
        one_sided=[(name, names_of(cases)) for name, cases in one_sided(comparison)],
    )
    out.writelines(page)


def _answer(change: Change) -> list[Piece]:
    """The difference of the first of the answers that differ; empty if none does, or there is none."""
    answers = change.answers
    return _difference(differences(*answers[0])) if answers and change.new.status != "error" else []


def _difference(pieces: Sequence[Piece]) -> list[Piece]:
    return list(shortened(pieces, _BOUNDS))
