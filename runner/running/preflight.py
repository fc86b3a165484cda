"""The files of a job before anything is sent: how many there are, what becomes of them, and which cases fail."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from runner import estimate, media, models
from runner.cases import sidecar
from runner.cases.rendering import Renderer
from runner.cases.resume import Kept
from runner.errors import Problem
from runner.media import limits, rules
from runner.records import Image, Usage
from runner.templates import body_images
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.cases.plan import CaseList, Chosen
    from runner.models import Models
    from runner.records import Case, DiskFile, Job, S3Object
    from runner.results.earlier import Earlier

SCHEMA = "bedrock-run/preflight/1"  # of what `validate --json` and `run --dry-run --json` print
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


class Fault(NamedTuple):
    """A case that cannot be asked, and why. All of them are kept: many thousands take little memory."""

    case: str
    message: str
    hint: str | None

    @classmethod
    def of(cls, case: Case, problem: Problem) -> Self:
        return cls(case.id, problem.message, problem.hint and sys.intern(problem.hint))  # which others have as well


@dataclass(slots=True)
class Preflight:
    """What would become of the cases of a job."""

    cases: int = 0
    faults: list[Fault] = field(default_factory=list)
    files: Files = field(default_factory=Files)


def survey(cases: CaseList, earlier: Earlier | None = None, *, tell: Callable[[str], None] | None = None) -> Preflight:
    """Look at all files that the cases of a job attach, of a picture at its header alone, and at what is in the place
    of their sidecars: `earlier` rows say what is the job's own.

    Where that takes its time `tell` hears how far it is.
    """
    due = monotonic() + _PATIENCE
    total = cache(cases.count)  # which may have to read a long file
    known = models.load()
    renderer = Renderer(cases.job, cases.allow_dirs, find_image=media.look)
    sidecars = _SidecarPlaces(cases, earlier)
    found = Preflight()
    for chosen in cases:
        case = renderer.case(chosen)
        found.cases += 1
        if tell and monotonic() >= due:
            tell(f"looking at the files of {cases.job.name}: {found.cases:,} of {plural(total(), 'case')}")
            due = monotonic() + _PATIENCE
        fault = case.fault or too_many_bytes(case) or sidecars.problem(chosen, case)
        if fault is None:
            found.files.add(case, known)
        else:
            found.faults.append(Fault.of(case, fault))
    return found


def too_many_bytes(case: Case) -> Problem | None:
    """What is to be said of files that are too large together, as the call would say it: its row will be in error."""
    most = rules.most_bytes(case.job.model, case.job.api)
    files = [*case.request.images, *chain.from_iterable(message.attached for message in case.request.messages)]
    sent = sum(rules.sent_bytes(file, case.job.api) for file in files)
    if most is None or sent <= most:
        return None
    return Problem(
        f"the {len(files)} files of {case.id} have {sent:,} bytes as they are sent, and Bedrock takes {most:,}",
        hint="send fewer or smaller files, or divide the question among several cases",
    )


class _SidecarPlaces:
    """Finds the cases of a job that a run would leave in error for a file in the place of their sidecar."""

    def __init__(self, cases: CaseList, earlier: Earlier | None) -> None:
        self._earlier = earlier
        self._has_answers = earlier is not None and earlier.spare() > 0
        self._renderer = Renderer(cases.job, cases.allow_dirs)
        self._sidecars = sidecar.Sidecars()

    def problem(self, chosen: Chosen, case: Case) -> Problem | None:
        """What would be wrong with a case that is in order otherwise. Its files are read only where that decides."""
        place, earlier = case.sidecar, self._earlier
        if place is None or not os.path.lexists(place.file):
            return None
        if earlier and sidecar.digest(place.file) in earlier.sidecars(place.path):
            return None
        item: Case | Kept = case
        if earlier and self._has_answers:  # then its caption may have been mended, and it is not asked anew
            item = self._renderer.case(chosen)
            row = None if item.fault else earlier.take(item.key, item.id, item.repeat) or earlier.take_any(item.key)
            item = Kept(item, row) if row else item
        (looked_at,) = sidecar.checked(iter([item]), earlier)
        return self._sidecars.refusal(looked_at) if looked_at else None


def is_worth_it(job: Job) -> bool:
    """Whether the cases of a job attach files, are about some, or write some, that can be looked at."""
    return job.sidecar is not None or any(turn.attached for turn in job.turns) or body_images.may_be_named(job.body)
