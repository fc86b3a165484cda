"""The pictures of a job before anything is sent: how many there are, what becomes of them, and which cases fail."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner import estimate, media, models
from runner.records import Usage
from runner.rendering import Renderer

if TYPE_CHECKING:
    from runner.cases import CaseList
    from runner.models import Models
    from runner.records import Case

_MOST_FAULTS = 10  # that are kept to be told
_DETAIL = re.compile(r" from [0-9]+x[0-9]+$|: .*$")  # of a change: the sizes of one file


@dataclass(slots=True)
class Pictures:
    """The pictures of some cases, counted once for each time that one is sent."""

    sent: int = 0
    changed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0  # an estimate
    cost_usd: float | None = 0.0  # of these tokens; None where the price is not known

    def add(self, case: Case, known: Models) -> None:
        """Count the pictures of a case that can be asked."""
        model = case.job.model
        for message in case.request.messages:
            for image in message.images:
                self.sent += 1
                tokens = estimate.image_tokens(image, model)
                self.tokens += tokens
                cost = known.cost(model, Usage(input_tokens=tokens))
                self.cost_usd = None if cost is None or self.cost_usd is None else self.cost_usd + cost
                if image.fit is not None:
                    self.changed += 1
                    self.changes.update({_DETAIL.sub("", change) for change in image.fit.changes})

    def as_json(self) -> dict[str, Any]:
        """The same for `--dry-run --json`."""
        cost = self.cost_usd
        return {
            "sent": self.sent,
            "changed": self.changed,
            "changes": dict(self.changes.most_common()),
            "tokens": self.tokens,
            "cost_usd": None if cost is None else round(cost, 6),
        }


@dataclass(slots=True)
class Preflight:
    """What would become of the cases of a job. `faults` are the first of those that cannot be asked."""

    cases: int = 0
    in_error: int = 0
    faults: list[str] = field(default_factory=list)
    pictures: Pictures = field(default_factory=Pictures)


def survey(cases: CaseList) -> Preflight:
    """Look at all pictures of a job, at their headers alone. Takes some 0.5 ms a picture, and no memory."""
    known = models.load()
    renderer = Renderer(cases.job, cases.allow_dirs, find_image=media.look)
    found = Preflight()
    for case in map(renderer.case, cases):
        found.cases += 1
        if case.fault is None:
            found.pictures.add(case, known)
            continue
        found.in_error += 1
        if len(found.faults) < _MOST_FAULTS:
            found.faults.append(case.fault.message)
    return found
