"""`sidecar:`: a file beside the input of each case, such as `photo.txt` beside `photo.jpg`, with what came of it.

No file is ever replaced that this job did not write: a row says what was written, by its SHA-256. It is written after
its row is durable, and by the next run if that is where this one was killed.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import stat
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

from runner import open_files, paths
from runner.cases.resume import Kept
from runner.errors import CallError, ExitCode, FailureCode, Problem, UsageError
from runner.records import SidecarRecord, error_record
from runner.stop import StopReason
from runner.templates.environment import Templates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.records import Case, Row, SidecarFile
    from runner.results.earlier import Earlier

VARIABLES: Final = ("output", "parsed")  # that `text:` sees beside those of the case
_LARGEST: Final = 1 << 26  # bytes: no run writes a larger one, so whatever is larger is somebody else's
_LARGE: Final = 1 << 20  # bytes: to read and hash more takes longer than other cases should wait
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
# To be passed through is enough, where the system knows that: folders above may not be readable.
_FOLDER: Final = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


# --- where it goes ---------------------------------------------------------------------------------------------------


def folder_of_input(path: str | None, root: Path) -> str:
    """The folder, from the job's, of the file that a case is about. Of a pattern, the part without wildcards."""
    if path is None or "://" in path:
        return ""
    folder = PurePosixPath(path).parent
    while any(wildcard in str(folder) for wildcard in "*?[") and not os.path.isdir(root / folder):  # noqa: PTH112
        folder = folder.parent
    return str(folder)


def located(path: str, folder: str, *, root: Path, allow_dirs: Sequence[Path]) -> tuple[str, Path]:
    """The sidecar that a case names `path`, beside its input in `folder`: as rows have it, and where it is.

    Raises UsageError if it would lie outside the job's folder `root` and `allow_dirs`, or is no name of a file.
    """
    if not path.strip():
        raise UsageError(Problem("the path of the sidecar is empty", hint="write one, or check the variables in it"))
    within, _, name = path.rpartition("/")
    if name in ("", ".", ".."):
        raise UsageError(Problem(f"the sidecar {path!r} is a folder", hint="name a file, as in `{{ file.stem }}.txt`"))
    if path.startswith("/"):
        within = f"/{within}"
    try:
        place = _folder(root, folder, within, tuple(allow_dirs))
        file = f"{place.location}/{name}"
        os.lstat(file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # a NUL, a loop of links, a name that is too long
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(Problem(f"the sidecar {path!r} cannot be written: {reason}")) from error
    if not place.is_allowed:
        hint = f"write it elsewhere, or allow its folder with --allow-dir {place.location}"
        raise UsageError(Problem(f"the sidecar {path!r} lies outside the job file's folder", hint=hint))
    return place.shown + name, Path(file)


class _Folder(NamedTuple):
    """A folder of sidecars: where it is once links are followed, and what stands before their names in rows."""

    location: Path
    shown: str
    is_allowed: bool


@lru_cache(maxsize=1024)  # of many files that a folder mostly has
def _folder(root: Path, folder: str, within: str, allow_dirs: tuple[Path, ...]) -> _Folder:
    found, inside = paths.resolved(str(Path(folder, within)), root), root.resolve()
    shown = f"{found.relative_to(inside) if found.is_relative_to(inside) else found}/"
    return _Folder(found, shown.removeprefix("./"), paths.is_allowed(found, (root, *allow_dirs)))


# --- whose it is -----------------------------------------------------------------------------------------------------


def checked(items: Iterator[Case | Kept | None], earlier: Earlier | None) -> Iterator[Case | Kept | None]:
    """The items, of which cases that are to be called have a fault if their sidecar would replace a file that is not
    theirs: before anything is paid. From here on a case knows what `earlier` rows of it have written.
    """
    for item in items:
        if item is None:
            yield None
        elif isinstance(item, Kept):
            yield Kept(_known(item.case, earlier, item.earlier.row["sidecar"]), item.earlier)
        else:
            case = _known(item, earlier)
            problem = _taken(case.sidecar, digest(case.sidecar.file)) if case.sidecar and case.fault is None else None
            yield replace(case, fault=problem) if problem else case


def _known(case: Case, earlier: Earlier | None, written: SidecarRecord | None = None) -> Case:
    """The case, which knows what its rows have written; `written` is what the one says that answers it."""
    if case.sidecar is None or earlier is None or not os.path.lexists(case.sidecar.file):
        return case
    ours: tuple[str, ...] = (written["sha256"],) if written and _is_here(written, case, case.sidecar) else ()
    if not ours or digest(case.sidecar.file) not in ours:
        ours += earlier.sidecars(case.sidecar.path)
    rows = str(earlier.path) if earlier.path else ""
    return replace(case, sidecar=replace(case.sidecar, ours=ours, rows=rows))


def _is_here(written: SidecarRecord, case: Case, sidecar: SidecarFile) -> bool:
    """Whether the file in the place of a sidecar is what was `written` for its case, changed by hand perhaps: it was
    written there, or is gone from where it was, since people move a picture and its caption together.
    """
    return written["path"] == sidecar.path or not os.path.lexists(case.job.path.parent / written["path"])


def _taken(sidecar: SidecarFile, found: str | None, wanted: str | None = None) -> Problem | None:
    """Why a sidecar cannot be written, if it can't: what was `found` there is not its case's, nor what is `wanted`."""
    if found is None or found == wanted or found in sidecar.ours:
        return None
    if sidecar.ours:
        message = f"the sidecar {sidecar.path!r} was changed since this job wrote it"
        return Problem(message, sidecar.place, "move it to let a new one be written")
    message, hint = f"the sidecar {sidecar.path!r} is there already", "move it elsewhere, or change `sidecar`"
    if not sidecar.rows:
        return Problem(f"{message}, and is not one that this job wrote", sidecar.place, hint)
    message = f"{message}, and no row in {sidecar.rows} says that this job wrote it"
    return Problem(message, sidecar.place, f"{hint}; if this job wrote it, name the folder of those rows with -o")


def digest(file: Path, *, folder: int | None = None) -> str | None:
    """The SHA-256 of what is in a file, of that name in an open `folder` if one is given; None if there is none, and
    empty for what no run can have written: a link, a folder, a file that cannot be read.
    """
    name = file if folder is None else file.name
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return ""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return ""
        if found.st_size == 0 and _is_there(_temporary(file, folder), folder):
            return None  # a name that a run had claimed when it was killed
        with open(descriptor, "rb", closefd=False) as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


async def _digest_beside_others(file: Path) -> str | None:
    """Likewise, while other cases go on if it is a large file."""
    try:
        is_large = os.lstat(file).st_size > _LARGE
    except OSError:
        is_large = False
    return await asyncio.to_thread(digest, file) if is_large else digest(file)


def _standing(sidecar: SidecarFile, found: str | None) -> SidecarRecord | None:
    """What an earlier row has written there, whether it is still what was `found` or somebody has changed it."""
    if found is None or not sidecar.ours:
        return None
    return _record(sidecar, found if found in sidecar.ours else sidecar.ours[0])


def _with_former(now: SidecarRecord | None, before: SidecarRecord | None, *, root: Path) -> SidecarRecord | None:
    """What a row is to tell that said `before`: what it wrote under other names too, as long as the files are there, so
    that they are not taken for somebody else's, or for inputs.
    """
    told = (before, *before.get("former", ())) if before else ()
    former = [
        SidecarRecord(path=each["path"], sha256=each["sha256"])
        for each in told
        if (now is None or each["path"] != now["path"]) and os.path.lexists(root / each["path"])
    ]
    if now is None:
        if not former:
            return None
        now, *former = former
    return {**now, "former": former} if former else now


def _record(sidecar: SidecarFile, written: str) -> SidecarRecord:
    return SidecarRecord(path=sidecar.path, sha256=written)


# --- what is in it, and writing it -----------------------------------------------------------------------------------


class _Ready(NamedTuple):
    """What is to be written as soon as its row is durable."""

    sidecar: SidecarFile
    content: bytes


class Sidecars:
    """Writes the sidecars of a run. Only `write` belongs to another thread."""

    def __init__(self) -> None:
        self._templates: dict[Path, Templates] = {}  # by folder of the job
        self._made: dict[tuple[str, int, int], _Ready] = {}  # by job, index and repeat: until the store has the row
        self._ready: deque[_Ready] = deque()
        self.edited = 0  # that somebody has changed, and that are left as they are
        self.clashes: list[str] = []  # paths where a file appeared between the last look and the writing
        self.failure: OSError | None = None

    async def described(self, case: Case, row: Row, *, kept: bool = False) -> Row:
        """The row of a case with what its sidecar is to be, which `take` and `write` then see to. It is in error where
        none can be written: the reply is kept, and the next run goes on with it. `kept`: an earlier run has its reply,
        so that a sidecar which somebody has changed since then may stay as it is.
        """
        if case.sidecar is None:
            return row
        told = await self._described(case, case.sidecar, row, kept=kept)
        return {**told, "sidecar": _with_former(told["sidecar"], row["sidecar"], root=case.job.path.parent)}

    async def _described(self, case: Case, sidecar: SidecarFile, row: Row, *, kept: bool) -> Row:
        """Likewise, with nothing but what is in the place of the sidecar now."""
        found = await _digest_beside_others(sidecar.file)
        standing = _standing(sidecar, found)
        if row["status"] != "passed":
            return {**row, "sidecar": standing}
        try:
            content = self._content(sidecar, case, row)
        except UsageError as error:
            return {**_in_error(row, error.problems[0]), "sidecar": standing}
        wanted = _sha256(content)
        problem = _taken(sidecar, found, wanted)
        if problem is not None and kept and sidecar.ours:
            self.edited += 1
            return {**row, "sidecar": standing}
        if problem is not None:
            return {**_in_error(row, problem), "sidecar": standing}
        if found == wanted:
            with suppress(OSError):
                _temporary(sidecar.file).unlink(missing_ok=True)  # of a run that was killed
        else:
            self._made[_position(row)] = _Ready(sidecar, content)
        return {**row, "sidecar": _record(sidecar, wanted)}

    def refusal(self, item: Case | Kept) -> Problem | None:
        """Why one of the items of `checked` is going to be in error, if that can be said before anything is called."""
        if not isinstance(item, Kept):
            return item.fault
        row, place = item.earlier.row, item.case.sidecar
        found = digest(place.file) if place else None
        if place is None or found is None or place.ours or row["status"] == "failed":
            return None
        try:
            wanted = _sha256(self._content(place, item.case, row))
        except UsageError as error:
            return error.problems[0]
        problem = _taken(place, found, wanted)
        return problem and replace(problem, message=f"{problem.message}; the reply is kept")

    def awaits(self, row: Row) -> bool:
        """Whether something is to be written for a row that was described."""
        return _position(row) in self._made

    def take(self, row: Row) -> None:
        """The store has the row: what it describes is to be written after the next sync."""
        made = self._made.pop(_position(row), None)
        if made is not None:
            self._ready.append(made)

    @property
    def ready(self) -> int:
        """How many rows have come whose sidecars are not written."""
        return len(self._ready)

    def write(self, count: int) -> None:
        """Write the first ones, whose rows are durable. What fails is told by `clashes` and `failure`: the rows stay,
        and the next run writes what is missing.
        """
        folders = set()
        for _ in range(count):
            sidecar, content = self._ready.popleft()
            if self.failure is not None:
                continue
            try:
                _write(sidecar, content)
                folders.add(sidecar.file.parent)
            except FileExistsError:
                self.clashes.append(sidecar.path)
            except OSError as error:
                error.filename = sidecar.path
                self.failure = error
        for folder in folders:
            with suppress(OSError):  # what is not durable yet can be made again
                _sync(folder)

    def forget(self, count: int) -> None:
        """The first ones are not to be written: their rows are not durable."""
        for _ in range(count):
            self._ready.popleft()

    def reason_to_stop(self) -> StopReason | None:
        """To go on would pay for what can't be kept where it is wanted."""
        if self.failure is None:
            return None
        return StopReason(
            exit_code=ExitCode.STOPPED,
            message=f"the sidecar {self.failure.filename!r} can't be written: "
            f"{self.failure.strerror or self.failure}; its reply is in its row",
            hint=open_files.hint(self.failure) or "make room or mend the folder, then run the same command again",
        )

    def _content(self, sidecar: SidecarFile, case: Case, row: Row) -> bytes:
        """What is to be in a sidecar. Raises UsageError if its template fails."""
        output, parsed = row["output"] or "", row.get("parsed")
        if sidecar.text is not None:
            root = case.job.path.parent
            templates = self._templates.setdefault(root, Templates(root))
            text = templates.render(sidecar.text, {**sidecar.variables, "output": output, "parsed": parsed})
        elif parsed is not None and sidecar.file.suffix.lower() == ".json":
            text = json.dumps(parsed, ensure_ascii=False, indent=2) + "\n"
        else:
            text = output
        return text.encode("utf-8", "replace")  # UTF-8 has no lone surrogates, which models do send


def _position(row: Row) -> tuple[str, int, int]:
    return row["job"], row["index"], row["repeat"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _in_error(row: Row, problem: Problem) -> Row:
    error = CallError(FailureCode.INPUT, f"{problem.message}; the reply is kept", hint=problem.hint)
    return {**row, "status": "error", "error": error_record(error)}


def _write(sidecar: SidecarFile, content: bytes) -> None:
    """Put a whole file there at once, on disk. Raises FileExistsError if there is one by now that is not ours, and
    another OSError if its folder is no longer where it was: a link in its place could lead anywhere.
    """
    with _open_folder(sidecar.file.parent) as folder:
        found = digest(sidecar.file, folder=folder)
        if found == _sha256(content):
            return
        if found is not None and found not in sidecar.ours:
            raise FileExistsError
        if found is None and _is_there(_temporary(sidecar.file, folder), folder):
            _remove(sidecar.file.name, folder)  # claimed by a run that was killed
        _replace(sidecar.file, content, folder, is_new=found is None)


def _replace(file: Path, content: bytes, folder: int, *, is_new: bool) -> None:
    temporary = str(_temporary(file, folder))
    _remove(temporary, folder)  # of a run that was killed: it may be another name of the sidecar itself
    try:
        with open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb") as stream:  # noqa: PTH123 - no path
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            _claim(temporary, file.name, folder)
        os.replace(temporary, file.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        with suppress(OSError):
            _remove(temporary, folder)


def _claim(temporary: str, name: str, folder: int) -> None:
    """Give the file its name, if nobody has it by now; FileExistsError if somebody has."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        os.close(os.open(name, _NEW, 0o666, dir_fd=folder))  # no links, as on a card


@contextmanager
def _open_folder(folder: Path) -> Iterator[int]:
    """A folder in whose path are no links, made if it is not there. Part by part, so that none is followed."""
    descriptor = os.open(folder.anchor, _FOLDER)
    try:
        for part in folder.parts[1:]:
            try:
                within = os.open(part, _FOLDER, dir_fd=descriptor)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=descriptor)
                within = os.open(part, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = within
        yield descriptor
    finally:
        os.close(descriptor)


def _temporary(file: Path, folder: int | None = None) -> Path:
    """The same for each try, so that what a killed run left is found. In an open `folder`, its name."""
    name = f".{hashlib.sha256(os.fsencode(file.name)).hexdigest()[:16]}.bedrock-run"
    return file.with_name(name) if folder is None else Path(name)


def _is_there(file: Path, folder: int | None) -> bool:
    try:
        os.stat(file, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return True


def _remove(name: str, folder: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
