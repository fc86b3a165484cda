"""What would be sent: the exact requests (`render`), and how many they are and may cost (`--dry-run`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner import estimate
from runner.bedrock import wire
from runner.cases import sidecar
from runner.cases.rendering import Renderer
from runner.cases.resume import Begun, Kept, cases_and_rows, with_begun
from runner.errors import CallError, Problem
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
    estimates = [entry for entry in every if entry["cases"]]
    costs = [entry["worst_case_cost_usd"] for entry in estimates]
    total = {name: sum(entry[name] for entry in estimates) for name in _COUNTS}
    return {
        "schema": SCHEMA,
        "total": {**total, "worst_case_cost_usd": None if None in costs else round(sum(costs), 6)},
        "jobs": estimates,
    }


def _estimate(
    cases: CaseList, items: Iterator[Case | Kept | None], known: Models, earlier: Earlier | None
) -> dict[str, Any]:
    kept = begun = calls = repairs = 0
    faults: list[Fault] = []
    sidecars = sidecar.Sidecars()
    usage, cost, attached = Usage(), 0.0, Files()
    jobs = [each for variant in cases.variants for each in (variant.job, *judging_jobs(variant.job))]
    models = {job.model: known.find(job.model) for job in jobs}
    for item in items:
        if item is None:
            continue
        case, replies = (item.case, item.replies) if isinstance(item, Begun) else (item, 0)
        refusal = sidecars.refusal(case) or (None if isinstance(case, Kept) else too_many_bytes(case))
        if refusal is not None:
            faults.append(Fault.of(case.case if isinstance(case, Kept) else case, refusal))
            continue
        if isinstance(case, Kept):
            assert earlier is not None, "it has the row"
            kept += 1
            most = worst_case.of_kept(case.case, case.earlier.row, local=earlier.accept_local)
        else:
            begun += replies > 0
            attached.add(case, known)
            repairs += len(estimate.repair(case.request, model=case.job.model))
            most = worst_case.of_new(case, replies=replies)
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
        "begun": begun,
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
