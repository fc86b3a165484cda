"""A pattern such as `photos/**/*.jpg` -> the files that it names, one row each.

`*`, `?`, `[...]` and `{jpg,png}` are as in a shell; `**` is any number of folders, none too, and as the last part
everything below.
Upper and lower case differ on every system, so that a job has the same cases everywhere. Names that start with a dot
are matched only by a part of the pattern that starts with one. Links to files and folders are followed, but for
folders below `**`, where a link may lead back up. Only files are matched, and links that lead to nothing.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from runner.datasets.files import DataError, DataRow
from runner.errors import Place, Problem
from runner.words import named, nearest, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

BRACES = re.compile(r"\{([^{}/]*,[^{}/]*)\}")
_MAGIC = re.compile(rf"[*?[]|{BRACES.pattern}")
_MOST_ALTERNATIVES = 1000  # that the braces of one part stand for
_MAX_SUFFIXES = 5  # that a hint names


def listed(folder: str, mtime_ns: int) -> list[os.DirEntry[str]]:  # noqa: ARG001 - tells whether it is the same list
    """What is in a folder that was last changed then, in any order. Raises OSError."""
    with os.scandir(folder) as entries:
        return list(entries)


def files(
    pattern: str,
    root: Path,
    *,
    place: Place | None = None,
    allow_dirs: Sequence[Path] = (),
    listing: Callable[[str, int], list[os.DirEntry[str]]] = listed,
) -> Iterator[DataRow]:
    """The files that a pattern of a job in folder `root` names, in the order of their paths, part by part.

    Each row has one value, `file`, with `path` (from the job's folder, or absolute if it lies outside), `name`, `stem`
    and `suffix`. Within a folder numbers in names count as numbers (page2 comes before page10), and all else goes by
    code points, whatever the locale and the file system. Folders are read as rows are asked for, by `listing`, which
    may remember them. Raises DataError, at `place`, for a pattern that is none, one that names no file, and, after the
    last row, of folders that lie outside `root` and `allow_dirs` once links are followed. No file is opened: of a link
    to one that is not there, or lies outside, whoever reads it has to tell.
    """
    walk = _Walk(pattern, root, place, allow_dirs, listing)
    number = 0
    for number, path in enumerate(walk.paths(), start=1):
        name = PurePosixPath(path)
        file = {"path": path, "name": name.name, "stem": name.stem, "suffix": name.suffix}
        yield DataRow(number=number, line=0, values={"file": file}, id=None)
    if not number:
        raise walk.no_match()


def escaped(text: str) -> str:
    """A text as a part of a pattern, in which it stands for itself."""
    return re.sub(r"[*?[{]", r"[\g<0>]", text)


def _alternatives(part: str) -> list[str]:
    """What a part of a pattern stands for once its braces are expanded. Raises ValueError if that is too much."""
    parts = [part]
    while any(found := [BRACES.search(each) for each in parts]):
        parts = [
            each[: match.start()] + option + each[match.end() :] if match else each
            for each, match in zip(parts, found, strict=True)
            for option in (match[1].split(",") if match else [""])
        ]
        if len(parts) > _MOST_ALTERNATIVES:
            raise ValueError
    return parts


def _matcher(part: str, flags: re.RegexFlag = re.NOFLAG) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(map(translate, _alternatives(part))), flags).match


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to look into: where it is, its path in rows (ending in a slash), and which parts of the pattern
    its entries may match, by position."""

    location: str
    shown: str
    positions: frozenset[int]


def _without_braces(pattern: str) -> str:
    """The pattern without the braces that are some."""
    while BRACES.search(pattern):
        pattern = BRACES.sub("", pattern)
    return pattern


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


def _may_be_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry that is no folder is a file, or a link that leads to nothing."""
    if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110 - Path.exists() raises for a loop of links
        return True
    return entry.is_file()


_DIGITS = re.compile("([0-9]+)")


def _in_natural_order(name: str) -> tuple[list[str | int], str]:
    """A key to sort names with, so that page2 comes before page10; otherwise by code points."""
    parts = _DIGITS.split(name)
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], name


class _Walk:
    def __init__(
        self,
        pattern: str,
        root: Path,
        place: Place | None,
        allow_dirs: Sequence[Path],
        listing: Callable[[str, int], list[os.DirEntry[str]]],
    ) -> None:
        self._listing = listing
        self._pattern = pattern
        self._place = place
        self._parts, fixed = self._split()
        try:
            self._matchers = [_matcher(part) for part in self._parts]
        except ValueError:
            raise self._error(f"the braces of `{pattern}` stand for more than {_MOST_ALTERNATIVES:,} names") from None
        try:
            self._root = root.resolve()
            self._allowed = [self._root, *(folder.resolve() for folder in allow_dirs)]
            self._base = (root / fixed).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links
            raise self._error(f"`{pattern}` is not a usable pattern: {error}") from None
        self._base_shown = fixed
        self._in_any_case = _matcher(self._parts[-1], re.IGNORECASE)
        self._other_case: str | None = None  # a file that would match but for that
        self._suffixes: Counter[str] = Counter()  # of the files that were seen and do not match
        self._outside: dict[str, Path] = {}  # links to folders that may not be looked into, and where they lead
        self._found = False
        self._matched_folder = ""
        self._no_file = ""  # a device, pipe or socket that matches
        self._saw_folders = False
        self._saw_hidden = False

    def paths(self) -> Iterator[str]:
        if not self._is_allowed(self._base):
            folder = self._base if self._base.is_dir() else self._base.parent
            raise self._lies_outside({self._base_shown or ".": folder})
        if not self._base.is_dir():
            raise self._no_folder()
        stack = [self._entries(_Folder(str(self._base), self._prefix(), self._reach(frozenset({0}))))]
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, _Folder):
                stack.append(self._entries(found))
            else:
                yield found
        if self._outside:
            raise self._lies_outside(self._outside)

    def no_match(self) -> DataError:
        hints = []
        if self._matched_folder:
            hint = f"{self._matched_folder!r} is a folder: `{self._pattern}/**` matches the files in it"
            return self._error(f"no file matches `{self._pattern}`", hint)
        if self._no_file:
            return self._error(f"{self._no_file!r} is a device, pipe or socket, not a file", "name a file")
        if "{" in _without_braces(self._pattern):
            hints.append("a `{` without a `}` after it, and a comma between them, stands for itself")
        if self._suffixes:
            counts = [plural(count, f"{suffix} file") for suffix, count in self._suffixes.most_common(_MAX_SUFFIXES)]
            hints.append(f"there are {', '.join(counts)}")
        if self._other_case is not None:
            hints.append(f"upper and lower case differ: {self._other_case!r} would match as `[jJ]` matches both")
        if self._saw_folders and "**" not in self._parts:
            hints.append(
                f"`**` looks into folders: `{'/'.join([*self._pattern.split('/')[:-1], '**', self._parts[-1]])}`"
            )
        if self._saw_hidden:
            hints.append("names that start with a dot are left out, unless the pattern's part starts with one")
        return self._error(
            f"no file matches `{self._pattern}`", "; ".join(hints) or "there are no files in that folder"
        )

    # The pattern

    def _split(self) -> tuple[list[str], str]:
        """The parts of the pattern from the first one with a wildcard on, and the folder before."""
        if not self._pattern.strip():
            raise self._error("the pattern is empty", "write one such as `photos/*.jpg`")
        if self._pattern.endswith("/"):
            raise self._error(f"`{self._pattern}` names folders", f"only files are matched: `{self._pattern}*`")
        parts = [part for part in self._pattern.split("/") if part not in ("", ".")]
        magic = next((index for index, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
        fixed, rest = parts[:magic], parts[magic:]
        if not rest or ".." in rest:
            raise self._error(
                "the pattern names no files, or has `..` after a wildcard", "write one such as `../photos/*.jpg`"
            )
        if rest[-1] == "**":
            rest.append("*")
        return rest, ("/" if self._pattern.startswith("/") else "") + "/".join(fixed)

    def _reach(self, positions: frozenset[int]) -> frozenset[int]:
        """With `**` standing for no folder at all."""
        reached = set(positions)
        for position in sorted(positions):
            following = position
            while following < len(self._parts) and self._parts[following] == "**":
                following += 1
                reached.add(following)
        return frozenset(reached)

    def _matched(self, positions: frozenset[int], name: str) -> frozenset[int]:
        """The positions, of parts other than `**`, that a name matches."""
        hidden = name.startswith(".")
        return frozenset(
            position
            for position in positions
            if self._parts[position] != "**"
            and (not hidden or self._parts[position].startswith("."))
            and self._matchers[position](name)
        )

    # The folders

    def _entries(self, folder: _Folder) -> Iterator[str | _Folder]:
        """The files of a folder that match, and the folders in it that may have some, in order."""
        try:
            entries = self._listing(folder.location, Path(folder.location).stat().st_mtime_ns)
        except OSError as error:
            shown = folder.shown.rstrip("/") or "."
            raise self._error(f"the folder `{shown}` cannot be read: {error.strerror}") from None
        last = len(self._parts) - 1
        chosen: list[tuple[os.DirEntry[str], frozenset[int]]] = []  # folders, and files that match
        others: list[os.DirEntry[str]] = []
        for entry in entries:
            matched = self._matched(folder.positions, entry.name)
            if last in matched or _is_folder(entry):
                chosen.append((entry, matched))
            else:
                others.append(entry)
        chosen.sort(key=lambda each: _in_natural_order(each[0].name))
        for entry, matched in chosen:
            if _is_folder(entry):
                self._saw_folders = True
                if last in matched:
                    self._matched_folder = self._matched_folder or folder.shown + entry.name
                below = self._below(folder.positions, matched, entry)
                if below and self._may_enter(entry, folder.shown + entry.name):
                    yield _Folder(entry.path, f"{folder.shown}{entry.name}/", self._reach(below))
            elif _may_be_file(entry):
                self._found = True
                yield folder.shown + entry.name
            else:
                self._no_file = self._no_file or folder.shown + entry.name
        if not self._found and last in folder.positions:
            self._note_others(others)

    def _below(self, positions: frozenset[int], matched: frozenset[int], entry: os.DirEntry[str]) -> frozenset[int]:
        """The positions that hold inside a folder."""
        below = {position + 1 for position in matched if position + 1 < len(self._parts)}
        if not entry.name.startswith(".") and not entry.is_symlink():
            below |= {position for position in positions if self._parts[position] == "**"}
        return frozenset(below)

    def _may_enter(self, entry: os.DirEntry[str], shown: str) -> bool:
        """Whether a folder may be looked into. One that may not is noted."""
        target = Path(entry.path).resolve() if entry.is_symlink() else None
        if target is None or self._is_allowed(target):
            return True
        self._outside[shown] = target
        return False

    def _note_others(self, entries: Iterable[os.DirEntry[str]]) -> None:
        """Keep what to say of files that do not match, should none match at all."""
        for entry in entries:
            if entry.name.startswith("."):
                self._saw_hidden = True
                continue
            if self._in_any_case(entry.name):
                self._other_case = min(self._other_case or entry.name, entry.name, key=_in_natural_order)
            suffix = PurePosixPath(entry.name).suffix
            self._suffixes[suffix if suffix.isprintable() and suffix else "other"] += 1

    def _prefix(self) -> str:
        """What stands before the names in the base folder: nothing, its path from the job's folder, or all of it."""
        if self._base_shown and ".." not in self._base_shown.split("/") and not self._base_shown.startswith("/"):
            return f"{self._base_shown}/"
        inside = self._base.is_relative_to(self._root)
        shown = (self._base.relative_to(self._root) if inside else self._base).as_posix()
        return "" if shown == "." else f"{shown.rstrip('/')}/"

    # What is wrong

    def _error(self, message: str, hint: str | None = None) -> DataError:
        return DataError(Problem(message, self._place, hint))

    def _is_allowed(self, target: Path) -> bool:
        return any(target.is_relative_to(folder) for folder in self._allowed)

    def _lies_outside(self, folders: Mapping[str, Path]) -> DataError:
        """What is said of folders, by how the job knows them."""
        names = named(list(map(repr, folders)))
        one = len(folders) == 1
        options = " ".join(f"--allow-dir {shlex.quote(str(folder))}" for folder in dict.fromkeys(folders.values()))
        return self._error(
            f"{names} {'lies' if one else 'lie'} outside the job file's folder",
            f"move {'it' if one else 'them'} there, or allow {'its folder' if one else 'the folders'} with {options}",
        )

    def _no_folder(self) -> DataError:
        if self._base.exists():
            return self._error(
                f"`{self._base_shown}` is a file, not a folder", "name it with `file:`, or its folder here"
            )
        missing = self._base
        while not missing.parent.is_dir():
            missing = missing.parent
        try:
            meant = nearest(missing.name, [folder.name for folder in missing.parent.iterdir() if folder.is_dir()])
        except OSError:
            meant = None
        hint = f"did you mean `{meant}`?" if meant else "patterns start at the job file's folder"
        return self._error(f"there is no folder `{self._base_shown}`", hint)
