"""Where the job file of rows lies, seen from here: rows name it from the folder in which their run was started.

That folder is not told. But rows are mostly written below it, so it is the nearest folder around them which has such
a file.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.records import Row


def found_from_here(row: Row, file: Path) -> Row:
    """The row with the path of its job file from here, given the file that it was read from. Where there is no such
    job file around the rows, it is left as it is.
    """
    source = row["source"]
    path = _from_here(source["path"], file.parent, os.getcwd())  # noqa: PTH109 - for every row, and half as long
    return row if path == source["path"] else {**row, "source": {**source, "path": path}}


@lru_cache(maxsize=1024)
def _from_here(path: str, rows_folder: Path, here: str) -> str:
    folder = rows_folder.resolve()
    for started_in in (folder, *folder.parents) if not Path(path).is_absolute() else ():
        if os.path.isfile(started_in / path):  # noqa: PTH113 - false for what is no path, which Path.is_file raises for
            return path if started_in == Path(here) else os.path.relpath(started_in / path, here)
    return path
