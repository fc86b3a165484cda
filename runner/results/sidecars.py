"""What rows on disk say that was written as sidecars: found by path, and never held in memory."""

from __future__ import annotations

from array import array
from contextlib import suppress
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Self

from runner.results.chains import Chains
from runner.results.files import NOT_A_ROW, skip_bom
from runner.results.lines import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_TELLS_OF_NONE: Final = b'"sidecar":null}\n'


class SidecarIndex:
    """The rows of a file that tell of a sidecar: 16 bytes each, and as many as 16 once one is looked for."""

    def __init__(self) -> None:
        self._paths = array("q")  # hashes
        self._offsets = array("Q")  # of the rows in the file

    @classmethod
    def of(cls, file: BinaryIO) -> Self:
        """The rows of a file that is at its start, which is read through."""
        index = cls()
        offset = skip_bom(file)
        for line in file:
            if not line.endswith(_TELLS_OF_NONE):  # as most rows end: to read them all takes its time
                with suppress(*NOT_A_ROW):
                    row: Any = parse(line)
                    index.add(row["sidecar"], offset)
            offset += len(line)
        return index

    def add(self, told: Any, offset: int) -> None:
        """Note what a row says, before any is looked for. Raises one of NOT_A_ROW if it is no record of a sidecar."""
        for each in (told, *told.get("former", ())):
            self._paths.append(hash(each["path"]))
            self._offsets.append(offset)

    @cached_property
    def _by_path(self) -> Chains:
        return Chains(self._paths, repeat(True))  # noqa: FBT003 - all of them

    def __bool__(self) -> bool:
        return bool(self._paths)

    def __contains__(self, path: str) -> bool:
        """Whether a row tells of that path, or of one with its hash."""
        return any(True for _ in self._by_path.find(hash(path)))

    def digests(self, path: str, file: BinaryIO) -> Iterator[str]:
        """What the rows of the file say that was written there, as SHA-256: the last row first."""
        for number in self._by_path.find(hash(path)):
            file.seek(self._offsets[number])
            with suppress(*NOT_A_ROW):  # the file was changed meanwhile
                row: Any = parse(file.readline())
                told = row["sidecar"]
                yield from (each["sha256"] for each in (told, *told.get("former", ())) if each["path"] == path)


class WrittenSidecars:
    """What the rows of some files say that was written. No file stays open."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Files that are not there, or cannot be read, tell of nothing."""
        self._indexes: list[tuple[Path, SidecarIndex]] = []
        for path in files:
            with suppress(OSError), path.open("rb") as file:
                self._indexes.append((path, SidecarIndex.of(file)))

    def __bool__(self) -> bool:
        return any(index for _, index in self._indexes)

    def __contains__(self, path: str) -> bool:
        return any(path in index for _, index in self._indexes)

    def digests(self, path: str) -> Iterator[str]:
        """What these rows say that was written there, as SHA-256."""
        for rows, index in self._indexes:
            if path in index:
                with suppress(OSError), rows.open("rb") as file:
                    yield from index.digests(path, file)
