"""The sidecars that the cases of jobs are going to have, before any is written: no file may be that of two cases, and
none that is there from an earlier run is a case of its own.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from functools import lru_cache
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from runner.cases.rendering import Renderer
from runner.cases.sidecar import VARIABLES, digest
from runner.errors import Problem
from runner.records import CaseGlob
from runner.results.files import SUFFIXES, superseded
from runner.results.sidecars import WrittenSidecars
from runner.templates.environment import Templates
from runner.templates.problems import placed
from runner.words import named, nearest, plural

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from runner.cases.plan import CaseList, Chosen
    from runner.records import SidecarFile

_NAMED_PATHS: Final = 10  # that several cases would write, before it is enough
_PARTS: Final = 256  # each small enough to be sorted without much memory


class PathSet:
    """Paths by their hash: eight bytes each, so that a million cases take little memory."""

    def __init__(self, paths: Iterable[str]) -> None:
        parts = tuple(array("q") for _ in range(_PARTS))
        for path in paths:
            hashed = hash(path)
            parts[hashed % _PARTS].append(hashed)
        self.parts = tuple(array("q", sorted(part)) for part in parts)
        self._is_empty = not any(self.parts)

    def __bool__(self) -> bool:
        return not self._is_empty

    def __contains__(self, path: object) -> bool:
        return self.has(hash(path))

    def has(self, hashed: int) -> bool:
        """Whether it has a path of that hash."""
        part = self.parts[hashed % _PARTS]
        at = bisect_left(part, hashed)
        return at < len(part) and part[at] == hashed


class _Plan(NamedTuple):
    """What the cases of one job write. `overwritten` are inputs that the cases about them would write; `misplaced` is
    the first sidecar that would lie among what the run itself writes.
    """

    cases: CaseList
    files: PathSet
    overwritten: Sequence[str]
    misplaced: SidecarFile | None


class LeftOut(NamedTuple):
    """Which files of a pattern are no cases, each by its path: those that the job is going to write, and those that it
    has written where it would not write now.
    """

    planned: Callable[[str], bool]
    earlier: Callable[[str], bool]


class Plans:
    """The sidecars of all cases of some jobs, also of those that are not chosen."""

    def __init__(self, of_run: Collection[Path] = ()) -> None:
        """`of_run`: the files that the run itself writes, and the folders of row files."""
        self._of_run = frozenset(map(os.path.realpath, of_run))
        self._plans: list[_Plan] = []

    def add(self, cases: CaseList) -> LeftOut:
        """Note those of one more job, and say which files are no cases of it. Raises DataError."""
        written = self._written(cases)
        earlier = PathSet(_earlier_sidecars(cases, written))
        every = cases.whole()
        every.leave_out(lambda path: _place(path, cases) in earlier)
        own = array("q")  # of cases whose sidecar is their own input, hashes
        misplaced: list[SidecarFile] = []

        def files_of_others() -> Iterator[str]:
            for chosen, found in _sidecars(every):
                file = str(found.file)
                if not misplaced and self._is_of_run(file):
                    misplaced.append(found)
                if _is_own(found, chosen, cases):
                    own.append(hash(file))
                else:
                    yield file

        files = PathSet(files_of_others())
        alone = frozenset(hashed for hashed in own if not files.has(hashed))
        left, overwritten = _told_apart(every, alone, written) if alone else (frozenset(), [])
        self._plans.append(_Plan(cases, files, overwritten, misplaced[0] if misplaced else None))
        planned = bool(files or left)
        return LeftOut(
            planned=lambda path: planned and ((place := _place(path, cases)) in files or place in left),
            earlier=lambda path: bool(earlier) and _place(path, cases) in earlier,
        )

    def _written(self, cases: CaseList) -> WrittenSidecars:
        """What earlier runs wrote for a job whose cases are files, and so may be among them."""
        if not isinstance(cases.job.cases, CaseGlob):
            return WrittenSidecars(())
        rows = [Path(folder, f"{cases.job.name}.jsonl") for folder in self._of_run]
        return WrittenSidecars(file for path in rows for file in (path, superseded(path)))

    def _is_of_run(self, file: str) -> bool:
        return file in self._of_run or (file.endswith(SUFFIXES) and os.path.dirname(file) in self._of_run)  # noqa: PTH120

    def problems(self) -> Iterator[Problem]:
        """Inputs that would be overwritten by what comes of them, and several cases that would write one file."""
        for plan in self._plans:
            if plan.misplaced:
                message = f"the sidecar {plan.misplaced.path!r} has a name that the run keeps for its rows and reports"
                yield Problem(message, plan.misplaced.place, "give it another name, or write it elsewhere")
            if plan.overwritten:
                yield _overwritten(plan.cases, plan.overwritten)
        yield from self._written_twice()

    def _written_twice(self) -> Iterator[Problem]:
        repeated = _repeated([plan.files for plan in self._plans])
        writers: dict[str, list[tuple[CaseList, Chosen, SidecarFile]]] = {}
        for plan in self._plans if repeated else ():
            for chosen, found in _sidecars(plan.cases.whole()):
                file = str(found.file)
                if hash(file) in repeated and (file in writers or len(writers) <= _NAMED_PATHS):
                    writers.setdefault(file, []).append((plan.cases, chosen, found))
        for same in islice((each for each in writers.values() if len(each) > 1), _NAMED_PATHS):
            of_one_job = all(cases is same[0][0] for cases, _, _ in same)
            ids = [chosen.id if of_one_job else f"{chosen.id} of {cases.job.name}" for cases, chosen, _ in same]
            _, _, found = same[-1]
            yield Problem(
                f"the sidecar {found.path!r} would be written by {plural(len(ids), 'case')}: {named(ids)}",
                found.place,
                "let its path tell them apart, as `{{ file.name }}.txt` does for a.jpg and a.png"
                if of_one_job
                else "give the sidecars of each job names of their own, as `{{ file.stem }}.title.txt`",
            )


def undefined_names(cases: CaseList) -> Iterator[Problem]:
    """Names that only the text of a sidecar needs, and some of the cases of a list do not have."""
    spec = cases.job.sidecar
    if spec is None or spec.text is None:
        return
    needed = Templates(cases.job.path.parent).names(spec.text).needed
    lacking: dict[str, list[str]] = {}
    variables = frozenset[str]()
    for chosen, found in _sidecars(cases) if needed.keys() - set(VARIABLES) else ():
        variables = frozenset(found.variables)
        for name in needed.keys() - variables - set(VARIABLES):
            lacking.setdefault(name, []).append(chosen.id)
    for name, ids in lacking.items():
        meant = nearest(name, sorted({*VARIABLES, *variables}))
        hint = f"did you mean `{meant}`?" if meant else "beside the case's variables there are `output` and `parsed`"
        message = f"undefined variable: `{name}` ({plural(len(ids), 'case')}: {named(ids)})"
        yield Problem(message, placed(spec.text, needed[name]), hint)


def _overwritten(cases: CaseList, inputs: Sequence[str]) -> Problem:
    assert cases.job.sidecar is not None
    message = (
        f"the sidecar of {inputs[0]!r} is the file itself"
        if len(inputs) == 1
        else f"the sidecars of {len(inputs):,} files are the files themselves: {named(inputs)}"
    )
    hint = "let the pattern match inputs only, such as `photos/*.jpg`, or change the name of the sidecars"
    return Problem(message, cases.job.sidecar.path.place, hint)


def _earlier_sidecars(cases: CaseList, written: WrittenSidecars) -> Iterator[str]:
    """Where the files of a pattern are that rows of its job tell of, and that hold what was written there. Whatever
    else is there by now, under a name of old, may well be an input.
    """
    root = os.path.realpath(cases.job.path.parent)
    for row in cases.whole().rows() if written else ():
        place = _place(row.id, cases)
        path = place.removeprefix(f"{root}/")
        if path in written and digest(Path(place)) in {*written.digests(path)}:
            yield place


def _told_apart(cases: CaseList, alone: frozenset[int], written: WrittenSidecars) -> tuple[frozenset[str], list[str]]:
    """Files that only the cases about them would write, by their hash: those that earlier runs wrote, for inputs that
    are gone now, and the paths of the others.
    """
    left, others = set(), []
    for chosen, found in _sidecars(cases):
        if hash(str(found.file)) in alone and _is_own(found, chosen, cases):
            if found.path in written:
                left.add(str(found.file))
            else:
                others.append(chosen.vars["file"]["path"])
    return frozenset(left), list(dict.fromkeys(others))


def _is_own(found: SidecarFile, chosen: Chosen, cases: CaseList) -> bool:
    """Whether a sidecar is the file that its case is about."""
    return isinstance(cases.job.cases, CaseGlob) and str(found.file) == _place(chosen.vars["file"]["path"], cases)


def _place(path: str, cases: CaseList) -> str:
    """Where a file of the job is: the links of its folder followed, its own not."""
    folder, name = os.path.split(path)
    return f"{_folder(str(cases.job.path.parent), folder)}/{name}"


@lru_cache(maxsize=1024)  # of many files that a folder mostly has
def _folder(root: str, folder: str) -> str:
    return os.path.realpath(os.path.join(root, folder))  # noqa: PTH118 - as fast as it gets


def _sidecars(cases: CaseList) -> Iterator[tuple[Chosen, SidecarFile]]:
    renderer = Renderer(cases.job, cases.allow_dirs)
    for chosen in cases.unrepeated() if cases.job.sidecar else ():
        found = renderer.sidecar(chosen)
        if found is not None:
            yield chosen, found


def _repeated(sets: Sequence[PathSet]) -> frozenset[int]:
    """The hashes of the paths that were given more than once, to one of these or to several."""
    return frozenset(
        one
        for parts in zip(*(each.parts for each in sets), strict=True)
        for one, other in pairwise(parts[0] if len(parts) == 1 else sorted(chain(*parts)))
        if one == other
    )
