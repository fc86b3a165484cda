"""The HTML report: one file that works offline and by mail, loads nothing and runs no code but its own.

`assets/` has the page: a template, its style and its script, which are put into it whole. What rows say reaches it in
two ways: through the template, which escapes everything, and as JSON that the script shows as text.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from runner import __version__, console
from runner.console import summaries
from runner.errors import ExitCode
from runner.report.charts import Figures, Histogram, drawings, milliseconds, percentile
from runner.report.page_data import PageData

if TYPE_CHECKING:
    from typing import TextIO

    from runner.report.rows import Rows
    from runner.summary import Summary

_ASSETS = Path(__file__).parent / "assets"
_VERDICTS = {ExitCode.OK: "passed", ExitCode.ASSERTION_FAILED: "failed", ExitCode.INCOMPLETE: "incomplete"}


def write(out: TextIO, rows: Rows, summary: Summary) -> None:
    """Write the page to `out` piece by piece, as it is made of the rows. Raises OSError."""
    data = PageData(rows, {job.name: job.output for job in summary.jobs.values()})
    figures = Figures(rows)
    style, script = _asset("report.css"), _asset("report.js")
    page = _environment().get_template("report.html.j2")
    for piece in page.generate(
        summary=summary,
        verdict=_VERDICTS.get(summary.exit_code, "stopped"),
        notices=rows.notices,
        row_count=len(rows),
        figures=figures,
        p50=percentile(figures.latencies, 50),
        p95=percentile(figures.latencies, 95),
        charts=[(isinstance(chart, Histogram), chart) for chart in drawings(figures)],
        longest_text=data.longest_text,
        data=map(Markup, data.pieces()),
        style=Markup(style),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704
        policy=_policy(style=style, script=script),
        version=__version__,
    ):
        out.write(piece)


def _policy(*, style: str, script: str) -> str:
    """The Content-Security-Policy: this style, this script and pictures in the file; no other load, form or frame.

    Trusted types hold the script to making elements one by one: to parse any text as markup is an error.
    """
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"


@cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": "{:,}".format,
        "duration": console.duration,
        "milliseconds": milliseconds,
        "money": console.money,
        "outcomes": summaries.outcomes,
        "unit": "{:.1f}".format,
        "when": lambda timestamp: f"{timestamp[:19].replace('T', ' ')} UTC",
    }
    return environment


def _spelled_out(value: object) -> object:
    """What the template writes: texts without control characters, which escaping leaves as they are."""
    return console.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
