"""The sidecars that the cases of a job are going to have, before any is written: no file may be that of two cases, and
none that is there from an earlier run is a case of its own.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final

from runner.cases import CaseList
from runner.errors import Problem
from runner.rendering import Renderer
from runner.sidecar import VARIABLES
from runner.template import Templates
from runner.template_problems import placed
from runner.words import nearest, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.cases import Chosen
    from runner.records import SidecarFile

_NAMED_PATHS: Final = 10  # that several cases would write, before it is enough
_NAMED_CASES: Final = 3
_PARTS: Final = 256  # each small enough to be sorted without much memory


class PathSet:
    """Paths by their hash: eight bytes each, so that a million cases take little memory."""

    def __init__(self, paths: Iterable[str]) -> None:
        parts = tuple(array("q") for _ in range(_PARTS))
        for path in paths:
            hashed = hash(path)
            parts[hashed % _PARTS].append(hashed)
        self._parts = tuple(array("q", sorted(part)) for part in parts)

    def __contains__(self, path: object) -> bool:
        hashed = hash(path)
        part = self._parts[hashed % _PARTS]
        at = bisect_left(part, hashed)
        return at < len(part) and part[at] == hashed

    def repeated(self) -> frozenset[int]:
        """The hashes of the paths that were given more than once."""
        return frozenset(one for part in self._parts for one, other in pairwise(part) if one == other)


def planned(cases: CaseList) -> PathSet:
    """The paths of all sidecars of a job, also of those of its cases that are not chosen."""
    whole = CaseList(cases.job, allow_dirs=cases.allow_dirs)
    return PathSet(found.path for _, found in _sidecars(whole, Renderer(cases.job, cases.allow_dirs)))


def problems(cases: CaseList) -> Iterator[Problem]:
    """Names that only the text of a sidecar needs and nobody has, and several cases that would write one file."""
    if cases.job.sidecar is not None:
        renderer = Renderer(cases.job, cases.allow_dirs)
        yield from _undefined_names(cases, renderer)
        yield from _written_twice(cases, renderer)


def _undefined_names(cases: CaseList, renderer: Renderer) -> Iterator[Problem]:
    spec = cases.job.sidecar
    if spec is None or spec.text is None:
        return
    needed = Templates(cases.job.path.parent).names(spec.text).needed
    lacking: dict[str, list[str]] = {}
    variables = frozenset[str]()
    for chosen, found in _sidecars(cases, renderer) if needed.keys() - set(VARIABLES) else ():
        variables = frozenset(found.variables)
        for name in needed.keys() - variables - set(VARIABLES):
            lacking.setdefault(name, []).append(chosen.id)
    for name, ids in lacking.items():
        meant = nearest(name, sorted({*VARIABLES, *variables}))
        hint = f"did you mean `{meant}`?" if meant else "beside the case's variables there are `output` and `parsed`"
        message = f"undefined variable: `{name}` ({plural(len(ids), 'case')}: {_named(ids)})"
        yield Problem(message, placed(spec.text, needed[name]), hint)


def _written_twice(cases: CaseList, renderer: Renderer) -> Iterator[Problem]:
    repeated = PathSet(found.path for _, found in _sidecars(cases, renderer)).repeated()
    same: dict[str, list[str]] = {}
    for chosen, found in _sidecars(cases, renderer) if repeated else ():
        if hash(found.path) in repeated and len(same) <= _NAMED_PATHS:
            same.setdefault(found.path, []).append(chosen.id)
    for path, ids in islice(same.items(), _NAMED_PATHS):
        assert cases.job.sidecar is not None
        message = f"the sidecar {path!r} would be written by {plural(len(ids), 'case')}: {_named(ids)}"
        hint = "let its path tell them apart, as `{{ file.name }}.txt` does for a.jpg and a.png"
        yield Problem(message, cases.job.sidecar.path.place, hint)


def _sidecars(cases: CaseList, renderer: Renderer) -> Iterator[tuple[Chosen, SidecarFile]]:
    for chosen in cases.unrepeated():
        found = renderer.sidecar(chosen)
        if found is not None:
            yield chosen, found


def _named(ids: list[str]) -> str:
    return ", ".join(ids[:_NAMED_CASES]) + (", ..." if len(ids) > _NAMED_CASES else "")
