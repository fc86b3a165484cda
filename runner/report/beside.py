"""The folder beside a report for pictures that would make it too big: `report_files/` beside `report.html`.

Its files are named by their content. So the ones that are added leave those of the report that is there as they are,
and what no report shows any more is known to be ours when it is removed.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_OURS = re.compile(r"thumbnail-[0-9a-f]{32}\.[a-z]+")


class Beside:
    """The folder for the pictures of one report. It is made when the first picture is added."""

    def __init__(self, report: Path) -> None:
        self.folder = report.with_name(_folder_of(report.name))
        self._shown: set[str] = set()  # names of the files that the report shows
        self._new: list[Path] = []  # those among them that were not there before

    @property
    def is_used(self) -> bool:
        """Whether the report has pictures in it."""
        return bool(self._shown)

    def add(self, picture: bytes, kind: str) -> str:
        """Keep a picture of this kind (`jpeg`, `png`). The address by which the page finds it. Raises OSError."""
        name = _name(picture, kind)
        if name not in self._shown:
            self._shown.add(name)
            self._write(self.folder / name, picture)
        return f"{quote(os.fsencode(self.folder.name))}/{name}"

    @contextmanager
    def settled(self) -> Iterator[None]:
        """In this context the report is made. If that fails the folder stays as it was, else it has what is shown."""
        try:
            yield
        except BaseException:
            self._remove(self._new)
            raise
        with suppress(OSError):  # there is no such folder
            self._remove([path for path in self.folder.iterdir() if path.name not in self._shown and _is_ours(path)])

    def _write(self, path: Path, picture: bytes) -> None:
        if _is_ours(path):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._new.append(path)
        draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
        try:
            draft.write_bytes(picture)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _remove(self, files: Iterable[Path]) -> None:
        for path in files:
            with suppress(OSError):  # what can't be removed harms nobody
                path.unlink(missing_ok=True)
        with suppress(OSError):  # a folder that others put files in stays
            self.folder.rmdir()


def _folder_of(report: str) -> str:
    """The name of the folder: `report_files` for `report.html`, as browsers call it; any other has its own."""
    return f"{report.removesuffix('.html')}_files" if report.endswith(".html") else f"{report}.files"


def _name(picture: bytes, kind: str) -> str:
    return f"thumbnail-{sha256(picture).hexdigest()[:32]}.{kind}"


def _is_ours(path: Path) -> bool:
    """Whether a file has the name that its content would have been given."""
    if not _OURS.fullmatch(path.name) or path.is_symlink() or not path.is_file():
        return False
    return path.name == _name(path.read_bytes(), path.suffix.removeprefix("."))
