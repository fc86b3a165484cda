"""The HTML report: one file that works offline and by mail or, with many pictures, a file and a folder of those.

`assets/` has the page: a template, its style and its script, which are put into it whole. What rows say reaches it in
two ways: through the template, which escapes everything, and as JSON that the script shows as text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner import __version__, console
from runner.console import summaries
from runner.report.charts import Histogram, Spread, drawings
from runner.report.headline import headline
from runner.report.html_pages import HtmlPage, as_made
from runner.report.page_data import PageData
from runner.report.thumbnails import Picture, Thumbnails, pictures_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TextIO

    from runner.records import Row
    from runner.report.beside import Beside
    from runner.report.rows import Rows
    from runner.running.summary import Summary

_PAGE = HtmlPage(
    folder=Path(__file__).parent / "assets",
    template="report.html.j2",
    style="report.css",
    script="report.js",
    filters={
        "count": "{:,}".format,
        "duration": console.duration,
        "latency": console.latency,
        "money": console.money,
        "outcomes": summaries.outcomes,
        "unit": "{:.1f}".format,
        "when": lambda timestamp: f"{timestamp[:19].replace('T', ' ')} UTC",
    },
)


def write(
    out: TextIO,
    rows: Rows,
    summary: Summary,
    *,
    beside: Beside | None = None,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Write the page to `out` piece by piece, as it is made of the rows. Raises OSError.

    More pictures than one file should hold go to the folder `beside` it; where there is none they are left out. `tell`
    hears of pictures that are not there and, should it take its time, how far it is.
    """
    facts = _Facts.of(rows)
    thumbnails = Thumbnails(facts.pictures, beside=beside, tell=tell)
    if tell and thumbnails.unusable:
        tell(f"note: {thumbnails.unusable}")
    data = PageData(rows, summary, thumbnails)
    page = _PAGE.pieces(
        has_folder=beside is not None and beside.is_used,
        summary=summary,
        figures=summary.figures,
        facts=facts,
        headline=headline(rows, summary),
        notices=rows.notices,
        row_count=len(rows),
        charts=[(isinstance(chart, Histogram), chart) for chart in drawings(summary, facts.spread)],
        longest_text=data.longest_text,
        data=as_made(data.pieces()),
        version=__version__,
    )
    for piece in page:
        out.write(piece)


@dataclass(slots=True)
class _Facts:
    """What the head of the page says of the rows, beside their figures."""

    local: int = 0  # of the emulator
    calls: int = 0  # attempts, whichever run made them
    retries: int = 0
    started_at: str = ""
    finished_at: str = ""
    spread: Spread = field(default_factory=Spread)
    pictures: dict[Picture, None] = field(default_factory=dict)  # each once, in order

    @classmethod
    def of(cls, rows: Iterable[Row]) -> _Facts:
        facts = cls()
        for row in rows:
            facts.local += row["endpoint"] == "local"
            for attempts in (row["attempts"], *(judgement["attempts"] for judgement in row["judgements"])):
                facts.calls += len(attempts)
                facts.retries += sum(attempt["code"] is not None for attempt in attempts[:-1])
            facts.started_at = min(facts.started_at or row["started_at"], row["started_at"])
            facts.finished_at = max(facts.finished_at, row["finished_at"])
            facts.spread.add(row)
            facts.pictures |= dict.fromkeys(pictures_of(row))
        return facts
