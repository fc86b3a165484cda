"""What would be sent: the exact requests (`render`), and how many they are and may cost (`--dry-run`)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner import estimate
from runner.bedrock import wire
from runner.cases import sidecar
from runner.cases.rendering import Renderer
from runner.cases.resume import Begun, Kept, cases_and_rows, no_row, with_begun
from runner.errors import NO_ROW_HINT, CallError, Problem
from runner.judging import judge
from runner.judging.questions import judging_jobs
from runner.media.attached import AttachedFiles
from runner.records import Usage, exchanges
from runner.running import worst_case
from runner.running.preflight import SCHEMA, Fault, Files, too_many_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from runner.cases.plan import CaseList
    from runner.models import Models
    from runner.records import Case, Job, Message
    from runner.results.earlier import Earlier

_UNJUDGED = Problem("no model has judged its reply", hint=NO_ROW_HINT)
_COUNTS = (
    "cases", "kept", "begun", "not_wanted", "faults", "calls", "repairs", "input_tokens", "max_output_tokens"
)  # fmt: skip


def requests(lists: Sequence[CaseList]) -> Iterator[dict[str, Any] | Problem]:
    """The first request of each case: its body is just what is sent. Or why it cannot be asked.

    A live conversation goes on with what the model answers: in `then` are the messages that its later turns add.
    """
    for cases in lists:
        renderer = Renderer(cases.job, cases.allow_dirs)
        for case in map(renderer.case, cases):
            try:
                yield case.fault or _request(case)
            except CallError as error:  # of a file that cannot be read, or made to fit
                yield Problem(f"{case.job.name} {case.id}: {error.message}", None, error.hint)


def _request(case: Case) -> dict[str, Any]:
    carrier = wire.wire_for(case)

    def body(messages: Sequence[Message]) -> dict[str, Any]:
        files = AttachedFiles()
        sent: dict[str, Any] = json.loads(files.put_into(carrier.body(case.request, messages, files)))
        return sent

    first, *later = exchanges(case.request)
    described: dict[str, Any] = {
        "job": case.job.name,
        "case": case.id,
        "index": case.index,
        "key": case.key,
        "model": case.job.model,
        "region": case.job.region,
        "api": case.job.api,
        "operation": carrier.operation(stream=case.job.stream),
        "body": body(first),
    }
    if case.job.response_schema is not None:
        described["response_schema"] = {
            "sent": case.job.response_schema.sent,
            "why_in_prompt": case.job.response_schema.why_in_prompt,
        }
    if later:
        described["then"] = [body(messages)["messages"] for messages in later]
    return described


def dry_run(
    lists: Sequence[CaseList],
    known: Models,
    earlier: Callable[[Job], AbstractContextManager[Earlier | None]],
    *,
    fresh: bool = False,
) -> dict[str, Any]:
    """Cases, those that `earlier` rows answer or have begun, and the calls, tokens and worst-case cost of what is left;
    by job and in all.

    `fresh`: these rows answer none, and only tell what was written. Costs are None where a price is not known.
    """
    every = []
    for cases in lists:
        with earlier(cases.job) as rows:
            answers = None if fresh else rows
            items = cases_and_rows(cases, Renderer(cases.job, cases.allow_dirs), answers)
            items = with_begun(sidecar.checked(items, rows), answers)
            every.append(_estimate(cases, items, known, answers))
    return _in_all(every)


def dry_replay(lists: Sequence[CaseList], earlier: Callable[[Job], AbstractContextManager[Earlier]]) -> dict[str, Any]:
    """The same of a replay, which calls nothing: what no row answers, or no model has judged, is among the faults."""
    every = []
    for cases in lists:
        with earlier(cases.job) as rows:
            every.append(_replay(cases, rows))
    return _in_all(every)


def _in_all(every: Sequence[dict[str, Any]]) -> dict[str, Any]:
    estimates = [entry for entry in every if entry["cases"]]
    costs = [entry["worst_case_cost_usd"] for entry in estimates]
    total = {name: sum(entry[name] for entry in estimates) for name in _COUNTS}
    return {
        "schema": SCHEMA,
        "total": {**total, "worst_case_cost_usd": None if None in costs else round(sum(costs), 6)},
        "jobs": estimates,
    }


@dataclass(slots=True)
class _Estimate:
    """What would become of the cases of a job."""

    kept: int = 0
    begun: int = 0
    not_wanted: int = 0
    faults: list[Fault] = field(default_factory=list)
    calls: int = 0
    repairs: int = 0
    files: Files = field(default_factory=Files)
    usage: Usage = field(default_factory=Usage)
    cost_usd: float | None = 0.0

    def as_json(self, cases: CaseList) -> dict[str, Any]:
        return {
            "name": cases.job.name,
            "model": ", ".join(_models(cases)),
            "cases": cases.count(),
            "repeat": cases.job.repeat,
            "kept": self.kept,
            "begun": self.begun,
            "faults": len(self.faults),
            "first_fault": self.faults[0].message if self.faults else None,
            "cannot_be_asked": [fault._asdict() for fault in self.faults],
            "not_wanted": self.not_wanted,
            "calls": self.calls,
            "repairs": self.repairs,
            "files": self.files.as_json(),
            "input_tokens": self.usage.input_tokens,
            "max_output_tokens": self.usage.output_tokens,
            "worst_case_cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
        }


def _estimate(
    cases: CaseList, items: Iterator[Case | Kept | None], known: Models, earlier: Earlier | None
) -> dict[str, Any]:
    found, cost = _Estimate(), 0.0
    sidecars = sidecar.Sidecars()
    models = {model: known.find(model) for model in _models(cases)}
    for item in items:
        if item is None:
            continue
        case, replies = (item.case, item.replies) if isinstance(item, Begun) else (item, 0)
        refusal = sidecars.refusal(case) or (None if isinstance(case, Kept) else too_many_bytes(case))
        if refusal is not None:
            of_case = case.case if isinstance(case, Kept) else case
            found.faults.append(Fault.of(of_case, refusal))
            if earlier is not None:
                earlier.wait(of_case.id, of_case.repeat)
            continue
        if isinstance(case, Kept):
            assert earlier is not None, "it has the row"
            found.kept += 1
            most = worst_case.of_kept(case.case, case.earlier.row, local=earlier.accept_local)
        else:
            found.begun += replies > 0
            found.files.add(case, known)
            found.repairs += len(estimate.repair(case.request, model=case.job.model))
            most = worst_case.of_new(case, replies=replies)
        for model, worst in most:
            found.calls += 1
            found.usage += worst
            facts = models[model]
            cost += facts.cost(worst) if facts else 0.0
    found.cost_usd = cost if all(models.values()) else None
    found.not_wanted = 0 if earlier is None or not cases.covers_job else earlier.spare()
    return found.as_json(cases)


def _replay(cases: CaseList, earlier: Earlier) -> dict[str, Any]:
    found = _Estimate()
    for item in cases_and_rows(cases, Renderer(cases.job, cases.allow_dirs), earlier):
        if isinstance(item, Kept):
            asked = judge.unasked(item.case, item.earlier.row, local=earlier.accept_local)
            found.kept += not asked
            found.faults += [Fault.of(item.case, _UNJUDGED)] if asked else []
        elif item is not None:
            found.faults.append(Fault.of(item, item.fault or no_row(item, earlier)))
    return found.as_json(cases)


def _models(cases: CaseList) -> list[str]:
    """The models that the cases and their judges call."""
    jobs = [each for variant in cases.variants for each in (variant.job, *judging_jobs(variant.job))]
    return list(dict.fromkeys(job.model for job in jobs))
