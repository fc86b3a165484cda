"""Reports of rows: JUnit, HTML, Markdown, tables, GitHub annotations. A live run and rows on disk take the same way."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.report.rows import Rows
    from runner.summary import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Reports:
    """The reports that are wanted: for each the file that it goes to, or None."""

    junit: Path | None = None
    html: Path | None = None
    markdown: Path | None = None

    def files(self) -> Iterator[tuple[str, Path]]:
        """The format and the file of each report that is wanted."""
        for name in ("junit", "html", "markdown"):
            path = getattr(self, name)
            if path is not None:
                yield name, path


NO_REPORTS = Reports()


def write(wanted: Reports, rows: Rows, summary: Summary) -> list[str]:
    """Make the reports. Those that could not be written are told, a line each: they change nothing about the run."""
    return [told for name, path in wanted.files() for told in _write(name, path, rows, summary)]


def _write(name: str, path: Path, rows: Rows, summary: Summary) -> Iterator[str]:
    return write_file(name, path, lambda out: import_module(f"runner.report.{name}").write(out, rows, summary))


def write_file(name: str, path: Path, make: Callable[[TextIO], None]) -> Iterator[str]:
    """Write one report, whole or not at all. Tells in a line if that could not be done."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", newline="") as out:
            make(out)
        draft.replace(path)
    except OSError as error:
        with suppress(OSError):
            draft.unlink()
        yield f"the {name} report could not be written to {path}: {error.strerror or error}"
