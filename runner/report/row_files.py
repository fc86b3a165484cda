"""Which files have the rows that are meant: those of a folder, and those among named ones that cases still want."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_SUPERSEDED = ".superseded.jsonl"  # rows that no case wants any more


def in_folder(folder: Path) -> list[Path]:
    """Every NAME.jsonl in it, by name. Raises OSError."""
    return sorted(file for file in folder.glob("*.jsonl") if not _is_superseded(file))


def wanted(files: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The files to report, each once, and those left out: a glob such as outputs/*.jsonl names superseded rows too.

    Where only superseded rows are named they are what is wanted.
    """
    named = list(dict.fromkeys(files))
    current = [file for file in named if not _is_superseded(file)]
    return (current, [file for file in named if _is_superseded(file)]) if current else (named, [])


def _is_superseded(file: Path) -> bool:
    return file.name.endswith(_SUPERSEDED)
