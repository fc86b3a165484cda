"""Thumbnails of the images that rows name: made on all cores, each content once, held in the report or beside it."""

from __future__ import annotations

from base64 import b64decode
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from runner import media
from runner.media.files import MediaError
from runner.records.row_facts import images_of
from runner.threads import cores
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from concurrent.futures import Future

    from runner.records import Row
    from runner.report.beside import Beside

SIDE = 240  # pixels
ONE_FILE = 20_000_000  # characters of base64 that a report itself holds; with more all of them are files beside it

_PATIENCE = 10.0  # seconds, before and between words on how far it is
_NO_ROOM = f"a report without a folder beside it holds at most {ONE_FILE // 1_000_000} MB of pictures"


class Picture(NamedTuple):
    """An image as a row names it. `folder` is the one of its job file."""

    folder: Path
    path: str
    sha256: str | None  # None of an object in S3, which nobody has looked at


class Thumbnails:
    """What the page loads for each picture: `sources`, which are data URIs, or addresses of files beside the report.

    Pictures of the same content share one. Of those that have none it is known why.
    """

    def __init__(
        self, pictures: Collection[Picture], *, beside: Beside | None = None, tell: Callable[[str], None] | None = None
    ) -> None:
        """Make the thumbnails. Never more images are decoded at once than there are cores. Raises OSError.

        Where that takes its time `tell` hears how far it is.
        """
        self.sources: list[str] = []
        self._numbers: dict[str, int] = {}  # of sources, by the digest of the image
        self._missing: dict[Picture, str] = {}
        self._beside = beside
        self._held = 0  # characters
        due = monotonic() + _PATIENCE
        for number, (picture, made) in enumerate(_in_threads(self._wanted(pictures)), start=1):
            if tell and monotonic() >= due:
                tell(f"making thumbnails for the report: {number:,} of {len(pictures):,}")
                due += _PATIENCE
            try:
                source = made.result()
            except MediaError as error:
                self._missing[picture] = str(error)
            except Exception as error:  # what decoders raise for files that were made to break them is not foreseen
                self._missing[picture] = f"no thumbnail could be made of it: {type(error).__name__}: {error}"
            else:
                self._keep(picture, source)

    def number(self, picture: Picture) -> int | None:
        """Which of the sources shows the picture; None if none does."""
        return self._numbers.get(picture.sha256 or "")

    @property
    def unusable(self) -> str:
        """How many pictures on disk are not there, or not as they were sent, and about the first of them why; empty if
        there are none.
        """
        first = next(iter(self._missing), None)
        if first is None:
            return ""
        count = plural(len(self._missing), "picture was", "pictures were")
        return f"{count} not found as sent; the first, in {first.folder.resolve()}: {self._missing[first]}"

    def why_missing(self, picture: Picture) -> str:
        """Why no source shows the picture."""
        if picture.sha256 is None:
            return "the model fetched it from S3"
        return self._missing.get(picture, _NO_ROOM)

    def _wanted(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        for picture in pictures:
            if self._is_full:
                return
            if picture.sha256 is not None and picture.sha256 not in self._numbers:
                yield picture

    @property
    def _is_full(self) -> bool:
        return self._held > ONE_FILE and self._beside is None

    def _keep(self, picture: Picture, source: str) -> None:
        """Add a thumbnail, given as a data URI. With the first that is too many, all of them become files."""
        if picture.sha256 is None or picture.sha256 in self._numbers:
            return
        before = self._held
        self._held += len(source)
        if self._held > ONE_FILE:
            if self._beside is None:
                return
            if before <= ONE_FILE:
                self.sources = [_put(each, self._beside) for each in self.sources]
            source = _put(source, self._beside)
        self._numbers[picture.sha256] = len(self.sources)
        self.sources.append(source)


def pictures_of(row: Row) -> Iterator[Picture]:
    """The images that a row names."""
    return (picture_of(row, image) for image in images_of(row))


def picture_of(row: Row, image: Mapping[str, Any]) -> Picture:
    """One of the images that a row names."""
    return Picture(_folder_of(row["source"]["path"]), image["path"], image["sha256"])


@lru_cache(maxsize=1024)
def _folder_of(job_file: str) -> Path:
    return Path(job_file).parent


def _put(data_uri: str, beside: Beside) -> str:
    head, _, content = data_uri.partition(";base64,")
    return beside.add(b64decode(content), head.removeprefix("data:image/"))


def _in_threads(pictures: Iterable[Picture]) -> Iterator[tuple[Picture, Future[str]]]:
    """Each picture with its thumbnail, in order. Only a few are begun before they are asked for."""
    workers = cores()
    begun: deque[tuple[Picture, Future[str]]] = deque()
    with ThreadPoolExecutor(workers) as threads:
        try:
            for picture in pictures:
                begun.append((picture, threads.submit(_thumbnail, picture)))
                if len(begun) > 2 * workers:
                    yield begun.popleft()
            while begun:
                yield begun.popleft()
        finally:
            for _, future in begun:
                future.cancel()


def _thumbnail(picture: Picture) -> str:
    # Where an image may lie was the run's to decide; its digest shows that it is the one that was sent.
    found = media.describe(picture.path, picture.folder, allow_dirs=[Path(picture.folder.absolute().anchor)])
    if found.sha256 != picture.sha256:
        raise MediaError("the file has changed since")
    return media.thumbnail(found, side=SIDE)
