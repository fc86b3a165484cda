"""A comparison as one HTML file that needs no script, and nothing from anywhere else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import jinja2
from markupsafe import Markup

from runner.comparing.figures import GROUP_COLUMNS, group_cells, measures
from runner.comparing.verdict import OTHERS, STILL, WORSE, counts, is_good, names_of, outcome, worst
from runner.comparing.word_diff import Bounds, differences, shortened
from runner.console import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.comparing import Comparison
    from runner.comparing.changes import Change
    from runner.comparing.word_diff import Piece

_FOLDER = Path(__file__).parent
_MOST_SHOWN = 1_000  # cases of a kind: more than that no browser opens at once, and nobody reads
_BOUNDS = Bounds(context=40, longest=5_000, changes=100)


def write(out: TextIO, comparison: Comparison) -> None:
    """Write the report. Raises OSError."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html").generate(
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=b64encode(sha256(style.encode()).digest()).decode(),
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


def _harmless(value: Any) -> Any:
    """Every text that the template puts in: no control characters, none that reorder others, no lone surrogates."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _one_sided(comparison: Comparison) -> Iterator[tuple[str, Any]]:
    yield "added", comparison.added
    yield "removed", comparison.removed


def _pieces(change: Change) -> list[Piece]:
    """The difference of the first of the answers that differ; empty if none does, or there is none."""
    answers = change.answers
    return list(shortened(differences(*answers[0]), _BOUNDS)) if answers and change.new.status != "error" else []
