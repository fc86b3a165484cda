"""Job -> the cases that are to run, in order: rows x matrix x repeat. Made one at a time, as they are needed."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from runner import console, datasets
from runner.datasets import globs
from runner.datasets.files import DataError, DataSource, find
from runner.errors import Problem
from runner.records import CaseFile, CaseGlob, Variant
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.cases.sidecar_paths import LeftOut
    from runner.errors import Place
    from runner.records import AssertionSpec, Job


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which cases to run: of these ids or globs, the first `limit` of each job, with one of these tags, of just these
    `ids`.
    """

    filters: tuple[str, ...] = ()
    limit: int | None = None
    tags: frozenset[str] = frozenset()
    ids: frozenset[str] | None = None

    @property
    def picks(self) -> bool:
        """Whether each case has to be looked at."""
        return bool(self.filters or self.tags) or self.ids is not None


EVERYTHING = Selection()


class Chosen(NamedTuple):
    """A case that is to run, not yet rendered. `line` is that of its row, if it has one in a file; `place` is where the
    job file declares it.
    """

    position: int  # of the case in the job, from 0; repetitions of a case share it
    repeat: int
    id: str
    variant: Variant
    vars: Mapping[str, Any]
    assertions: tuple[AssertionSpec, ...]
    tags: frozenset[str]
    line: int
    place: Place


class _Row(NamedTuple):
    """What `cases:` says of one case, whether in a list or in a file. `id` is empty for the one case of a job."""

    id: str
    place: Place
    vars: Mapping[str, Any] = {}
    line: int = 0  # or the number of the row, in a file that has no lines
    assertions: tuple[AssertionSpec, ...] = ()
    tags: frozenset[str] = frozenset()


class CaseList:
    """The cases of a job that are to run. Each iteration makes them anew, from the job or from its file of rows."""

    def __init__(self, job: Job, selection: Selection = EVERYTHING, allow_dirs: Sequence[Path] = ()) -> None:
        self.job = job
        self.selection = selection
        self.allow_dirs = tuple(allow_dirs)
        self.variants = job.variants or (Variant(values={}, job=job),)
        self.rows_known: int | None = None  # of the file, once it has been read through
        self.files_left_out = 0  # that the pattern matches, and that are sidecars
        self.earlier_sidecars = 0  # of these, the ones that the job has written where it would not write now
        self._is_sidecar: Callable[[str], bool] = _is_none
        self._stamp: tuple[int, ...] | None = None  # of the file as it was then

    def only(self, ids: frozenset[str]) -> CaseList:
        """Those of its cases that have these ids."""
        fewer = copy(self)
        fewer.selection = replace(self.selection, ids=ids)
        return fewer

    def whole(self) -> CaseList:
        """Every case of the job."""
        every = copy(self)
        every.selection = EVERYTHING
        return every

    @property
    def covers_job(self) -> bool:
        """Whether every case of the job is to run."""
        return self.selection == EVERYTHING

    def __iter__(self) -> Iterator[Chosen]:
        """Every case, with its repetitions."""
        if self.job.repeat == 1:
            return self.unrepeated()
        repeats = range(self.job.repeat)
        return (case._replace(repeat=repeat) for case in self.unrepeated() for repeat in repeats)

    def told(self) -> str:
        """How many cases there are: `2 cases`, `2 cases (1 file is a sidecar)`."""
        left_out = plural(self.files_left_out, "file is a sidecar", "files are sidecars")
        return plural(self.count(), "case") + (f" ({left_out})" if self.files_left_out else "")

    def count(self) -> int:
        """How many cases there are, repetitions counted."""
        selection = self.selection
        if self.rows_known is None or selection.picks:
            return sum(1 for _ in self.unrepeated()) * self.job.repeat
        every = self.rows_known * len(self.variants)
        return min(every, every if selection.limit is None else selection.limit) * self.job.repeat

    def unrepeated(self) -> Iterator[Chosen]:
        """Every case once."""
        limit, picks = self.selection.limit, self.selection.picks
        labelled = [(variant, variant.label) for variant in self.variants]
        index, taken = -1, 0
        for row in self.rows():
            for variant, label in labelled:
                index += 1
                if limit is not None and taken >= limit:
                    return
                case_id = _case_id(row.id, label)
                if not picks or self._is_selected(row, case_id):
                    taken += 1
                    tags = self.job.tags | row.tags
                    yield Chosen(index, 0, case_id, variant, row.vars, row.assertions, tags, row.line, row.place)

    def _is_selected(self, row: _Row, case_id: str) -> bool:
        selection = self.selection
        if selection.ids is not None and case_id not in selection.ids:
            return False
        if selection.filters and not self._is_named(row, case_id):
            return False
        return not selection.tags or bool(selection.tags & (self.job.tags | row.tags))

    def _is_named(self, row: _Row, case_id: str) -> bool:
        """Whether a filter is or matches its id, with or without the variant, or is what a run calls it."""
        name = console.full_name(self.job.name, case_id)
        ids = (case_id, row.id)
        return any(
            glob in (name, *ids) or any(fnmatchcase(each, glob) for each in ids) for glob in self.selection.filters
        )

    def rows(self) -> Iterator[_Row]:
        """What `cases:` lists, or the rows of its file. Raises DataError where one can't be read."""
        match self.job.cases:
            case CaseFile() as file:
                source = self.data_source(file)
                self._refuse_changed(source)
                for row in datasets.rows(source):
                    yield _Row(row.id or str(row.number), file.place, row.values, row.line or row.number)
                self._refuse_changed(source)
            case CaseGlob() as glob:
                yield from (row for row in self._files(glob) if not self._is_sidecar(row.id))
            case ():
                yield _Row("", self.job.place)
            case specs:
                for number, spec in enumerate(specs, start=1):
                    yield _Row(spec.id or str(number), spec.place, spec.vars, 0, spec.assertions, spec.tags)

    def data_source(self, file: CaseFile) -> DataSource:
        """The file of the job's rows. Raises DataError if it may not be read, or its kind is not known."""
        return find(file, self.job.path.parent, self.allow_dirs)

    def survey(self, file: CaseFile) -> datasets.Survey:
        """Read the file of the job's rows through. From now on it must not change. Raises DataError."""
        source = self.data_source(file)
        self._stamp = _stamp(source)
        survey = datasets.survey(source)
        self.rows_known = survey.rows
        return survey

    def leave_out(self, is_sidecar: Callable[[str], bool]) -> None:
        """From now on, have no cases of files that are sidecars, as `is_sidecar` says of the path of one."""
        self._is_sidecar = is_sidecar

    def survey_files(self, glob: CaseGlob, left_out: LeftOut) -> None:
        """Count the files of the job's pattern, and leave out those that are no cases. Raises DataError."""
        self.rows_known = self.files_left_out = self.earlier_sidecars = 0
        for row in self._files(glob):
            if left_out.planned(row.id):
                self.files_left_out += 1
            elif left_out.earlier(row.id):
                self.files_left_out += 1
                self.earlier_sidecars += 1
            else:
                self.rows_known += 1
        self.leave_out(lambda path: left_out.planned(path) or left_out.earlier(path))

    def _files(self, glob: CaseGlob) -> Iterator[_Row]:
        root = self.job.path.parent
        for row in globs.files(glob.pattern, root, place=glob.place, allow_dirs=self.allow_dirs):
            yield _Row(row.values["file"]["path"], glob.place, row.values)

    def _refuse_changed(self, source: DataSource) -> None:
        """Cases are told apart by their position, so a file that changes under way would mix them up."""
        if self._stamp is not None and _stamp(source) != self._stamp:
            hint = "run the same command again: what was answered is kept"
            raise DataError(Problem(f"{source.shown} was changed while its rows were read", hint=hint))


def _is_none(_path: str) -> bool:
    return False


def _stamp(source: DataSource) -> tuple[int, ...]:
    """What changes with a file's content; nothing for one that is not there, which is told by whoever reads it."""
    try:
        found = source.file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _case_id(row_id: str, label: str) -> str:
    if label:
        return f"{row_id} [{label}]" if row_id else label
    return row_id or "1"
