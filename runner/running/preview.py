"""What would be sent: the exact requests (`render`), and how many they are and may cost (`--dry-run`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner import estimate
from runner.bedrock import wire
from runner.cases import sidecar
from runner.cases.rendering import Renderer
from runner.cases.resume import Kept, cases_and_rows
from runner.errors import UsageError
from runner.judging.questions import judging_jobs
from runner.media.attached import AttachedFiles
from runner.records import Usage, exchanges
from runner.running import worst_case
from runner.running.preflight import SCHEMA, Fault, Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from runner.cases.plan import CaseList
    from runner.models import Models
    from runner.records import Case, Job
    from runner.results.earlier import Earlier


def requests(lists: Sequence[CaseList]) -> Iterator[dict[str, Any]]:
    """The first request of each case: its body is just what is sent.

    A live conversation goes on with what the model answers, so its later turns are told in `then`, as text.
    """
    for cases in lists:
        for case in _rendered(cases):
            yield _request(case)


def _rendered(cases: CaseList) -> Iterator[Case]:
    """Every case. Raises UsageError at one that cannot be rendered."""
    renderer = Renderer(cases.job, cases.allow_dirs)
    for case in map(renderer.case, cases):
        if case.fault is not None:
            raise UsageError(case.fault)
        yield case


def _request(case: Case) -> dict[str, Any]:
    first, *later = exchanges(case.request)
    carrier = wire.wire_for(case)
    files = AttachedFiles()
    body = files.put_into(carrier.body(case.request, first, files))
    described: dict[str, Any] = {
        "job": case.job.name,
        "case": case.id,
        "index": case.index,
        "key": case.key,
        "model": case.job.model,
        "region": case.job.region,
        "api": case.job.api,
        "operation": carrier.operation(stream=case.job.stream),
        "body": json.loads(body),
    }
    if case.job.response_schema is not None:
        described["response_schema"] = {
            "sent": case.job.response_schema.sent,
            "why_in_prompt": case.job.response_schema.why_in_prompt,
        }
    if later:
        described["then"] = [[{"role": message.role, "text": message.text} for message in turn] for turn in later]
    return described


def dry_run(
    lists: Sequence[CaseList],
    known: Models,
    earlier: Callable[[Job], AbstractContextManager[Earlier | None]],
    *,
    fresh: bool = False,
) -> dict[str, Any]:
    """Cases, those that `earlier` rows answer, and of the others calls, tokens and worst-case cost; by job and in all.

    `fresh`: these rows answer none, and only tell what was written. Costs are None where a price is not known.
    """
    every = []
    for cases in lists:
        with earlier(cases.job) as rows:
            answers = None if fresh else rows
            items = cases_and_rows(cases, Renderer(cases.job, cases.allow_dirs), answers)
            every.append(_estimate(cases, sidecar.checked(items, rows), known, answers))
    estimates = [entry for entry in every if entry["cases"]]
    costs = [entry["worst_case_cost_usd"] for entry in estimates]
    total = {
        name: sum(entry[name] for entry in estimates)
        for name in ("cases", "kept", "not_wanted", "faults", "calls", "repairs", "input_tokens", "max_output_tokens")
    }
    return {
        "schema": SCHEMA,
        "total": {**total, "worst_case_cost_usd": None if None in costs else round(sum(costs), 6)},
        "jobs": estimates,
    }


def _estimate(
    cases: CaseList, items: Iterator[Case | Kept | None], known: Models, earlier: Earlier | None
) -> dict[str, Any]:
    kept = calls = repairs = 0
    faults: list[Fault] = []
    sidecars = sidecar.Sidecars()
    usage, cost, attached = Usage(), 0.0, Files()
    jobs = [each for variant in cases.variants for each in (variant.job, *judging_jobs(variant.job))]
    models = {job.model: known.find(job.model) for job in jobs}
    for case in items:
        if case is None:
            continue
        refusal = sidecars.refusal(case)
        if refusal is not None:
            faults.append(Fault.of(case.case if isinstance(case, Kept) else case, refusal))
            continue
        if isinstance(case, Kept):
            assert earlier is not None, "it has the row"
            kept += 1
            most = worst_case.of_kept(case.case, case.earlier.row, local=earlier.accept_local)
        else:
            attached.add(case, known)
            repairs += len(estimate.repair(case.request, model=case.job.model))
            most = worst_case.of_new(case)
        for model, worst in most:
            calls += 1
            usage += worst
            facts = models[model]
            cost += facts.cost(worst) if facts else 0.0
    return {
        "name": cases.job.name,
        "model": ", ".join(models),
        "cases": cases.count(),
        "repeat": cases.job.repeat,
        "kept": kept,
        "faults": len(faults),
        "first_fault": faults[0].message if faults else None,
        "cannot_be_asked": [fault._asdict() for fault in faults],
        "not_wanted": 0 if earlier is None or not cases.covers_job else earlier.spare(),
        "calls": calls,
        "repairs": repairs,
        "files": attached.as_json(),
        "input_tokens": usage.input_tokens,
        "max_output_tokens": usage.output_tokens,
        "worst_case_cost_usd": round(cost, 6) if all(models.values()) else None,
    }
