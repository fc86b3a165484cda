"""The files of a job before anything is sent: how many there are, what becomes of them, and which cases fail."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from runner import estimate, media, models
from runner.cases.rendering import Renderer
from runner.media import limits
from runner.records import Image, Usage
from runner.templates import body_images
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.cases.plan import CaseList
    from runner.errors import Problem
    from runner.models import Models
    from runner.records import Case, DiskFile, Job, S3Object

_MOST_FAULTS = 10  # that are kept to be told
_PATIENCE = 3.0  # seconds, before and between words on how far it is


@dataclass(slots=True)
class Files:
    """The files of some cases, each counted as often as it is sent."""

    pictures: int = 0
    changed: int = 0  # of the pictures: made to fit
    changes: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    videos: int = 0
    tokens: int = 0  # an estimate
    cost_usd: float | None = 0.0  # of these tokens; None where the price is not known

    def add(self, case: Case, known: Models) -> None:
        """Count the files of a case that can be asked."""
        for image in case.request.images:
            self.pictures += 1
            self._add(image, case.job.model, known)
        for message in case.request.messages:
            self.pictures += len(message.images)
            self.documents += len(message.documents)
            self.videos += message.video is not None
            for file in message.attached:
                self._add(file, case.job.model, known)

    def _add(self, file: Image | DiskFile | S3Object, model: str, known: Models) -> None:
        tokens = estimate.file_tokens(file, model)
        cost = known.cost(model, Usage(input_tokens=tokens))
        self.tokens += tokens
        self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
        if isinstance(file, Image) and file.fit is not None:
            self.changed += 1
            self.changes.update({limits.kind_of_change(change) for change in file.fit.changes})

    def as_json(self) -> dict[str, Any]:
        """The same for `--dry-run --json`."""
        return {
            "pictures": self.pictures,
            "changed": self.changed,
            "changes": dict(self.changes.most_common()),
            "documents": self.documents,
            "videos": self.videos,
            "tokens": self.tokens,
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
        }


@dataclass(slots=True)
class Preflight:
    """What would become of the cases of a job. `faults` are the first of those that cannot be asked."""

    cases: int = 0
    in_error: int = 0
    faults: list[Problem] = field(default_factory=list)
    files: Files = field(default_factory=Files)


def survey(cases: CaseList, *, tell: Callable[[str], None] | None = None) -> Preflight:
    """Look at all files that the cases of a job attach; of a picture at its header alone.

    Where that takes its time `tell` hears how far it is.
    """
    due = monotonic() + _PATIENCE
    total = cache(cases.count)  # which may have to read a long file
    known = models.load()
    renderer = Renderer(cases.job, cases.allow_dirs, find_image=media.look)
    found = Preflight()
    for case in map(renderer.case, cases):
        found.cases += 1
        if tell and monotonic() >= due:
            tell(f"looking at the files of {cases.job.name}: {found.cases:,} of {plural(total(), 'case')}")
            due = monotonic() + _PATIENCE
        if case.fault is None:
            found.files.add(case, known)
            continue
        found.in_error += 1
        if len(found.faults) < _MOST_FAULTS:
            found.faults.append(case.fault)
    return found


def is_worth_it(job: Job) -> bool:
    """Whether the cases of a job attach files, or are about some, that can be looked at."""
    return any(turn.attached for turn in job.turns) or body_images.may_be_named(job.body)
