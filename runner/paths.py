"""Where the files of a job may lie: in its own folder, or in one that the user allows. And how paths are shown."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOP = "it is a link that leads back to itself"


def resolved(path: str, root: Path) -> Path:
    """The file that a job in folder `root` calls `path`, links followed. Raises ValueError if it is no usable path."""
    try:
        found = (root / path).resolve()
    except OSError as error:
        raise ValueError(error.strerror) from error
    except RuntimeError as error:  # before Python 3.13
        raise ValueError(_LOOP) from error
    if os.path.islink(found):  # noqa: PTH114 - is_symlink() raises for names that are too long
        raise ValueError(_LOOP)
    return found


def is_allowed(file: Path, folders: Iterable[Path]) -> bool:
    """Whether a resolved file lies in one of the folders."""
    return any(file.is_relative_to(folder.resolve()) for folder in folders)


@cache
def shown(file: Path) -> str:
    """The path of a file for rows and reports: without the folder of the run, so that it is the same elsewhere."""
    whole = Path.cwd() / file
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else file)


def in_workspace(path: str) -> str:
    """The path as GitHub knows the file: within the repository that a workflow checked out. Elsewhere as it is."""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    try:
        return str(Path(path).resolve().relative_to(Path(workspace).resolve())) if workspace else path
    except ValueError:  # it lies elsewhere, or is no path
        return path
