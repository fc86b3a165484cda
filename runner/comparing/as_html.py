"""A comparison as one HTML file that needs no script, and nothing from anywhere else."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import jinja2
from markupsafe import Markup

from runner import __version__
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
from runner.console import plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.comparing import Comparison
    from runner.comparing.changes import Change
    from runner.comparing.word_diff import Piece

_FOLDER = Path(__file__).parent
_MOST_SHOWN = 1_000  # cases of a kind: more than that no browser opens at once, and nobody reads
_MOST_REWORDINGS = 100
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
    template = environment.get_template("page.html")
    page = template.generate(
        version=__version__,
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=b64encode(sha256(style.encode()).digest()).decode(),
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


def _harmless(value: Any) -> Any:
    """Every text that the template puts in: no control characters, none that reorder others, no lone surrogates."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _answer(change: Change) -> list[Piece]:
    """The difference of the first of the answers that differ; empty if none does, or there is none."""
    answers = change.answers
    return _difference(differences(*answers[0])) if answers and change.new.status != "error" else []


def _difference(pieces: Sequence[Piece]) -> list[Piece]:
    return list(shortened(pieces, _BOUNDS))
