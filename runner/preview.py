"""What would be sent: the exact requests (`render`), and how many they are and may cost (`--dry-run`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner import cases, estimate, media, wire
from runner.records import Usage, exchanges

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from runner.models import Models
    from runner.records import Case, Job


def requests(jobs: Sequence[Job], selection: cases.Selection, allow_dirs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """The first request of each case: its body is just what is sent.

    A live conversation goes on with what the model answers, so its later turns are told in `then`, as text.
    """
    for job in jobs:
        for case in cases.Renderer(job, allow_dirs).cases(selection):
            yield _request(case)


def _request(case: Case) -> dict[str, Any]:
    first, *later = exchanges(case.request)
    carrier = wire.wire_for(case)
    body = carrier.body(case.request, first, media.read_base64)
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
    if later:
        described["then"] = [[{"role": message.role, "text": message.text} for message in turn] for turn in later]
    return described


def dry_run(
    jobs: Sequence[Job], selection: cases.Selection, allow_dirs: Sequence[Path], known: Models
) -> dict[str, Any]:
    """Cases, calls, tokens and worst-case cost, by job and in all. `cost_usd` is None where a price is not known."""
    every = [_estimate(job, selection, allow_dirs, known) for job in jobs]
    estimates = [entry for entry in every if entry["cases"]]
    costs = [entry["worst_case_cost_usd"] for entry in estimates]
    total = {
        name: sum(entry[name] for entry in estimates)
        for name in ("cases", "calls", "input_tokens", "max_output_tokens")
    }
    return {
        "total": {**total, "worst_case_cost_usd": None if None in costs else round(sum(costs), 6)},
        "jobs": estimates,
    }


def _estimate(job: Job, selection: cases.Selection, allow_dirs: Sequence[Path], known: Models) -> dict[str, Any]:
    count, calls, usage, cost = 0, 0, Usage(), 0.0
    facts = known.find(job.model)
    for case in cases.Renderer(job, allow_dirs).cases(selection):
        worst = estimate.worst_case(case.request)
        count += 1
        calls += len(worst)
        usage = sum(worst, usage)
        cost += sum(map(facts.cost, worst)) if facts else 0.0
    return {
        "name": job.name,
        "model": job.model,
        "cases": count,
        "calls": calls,
        "input_tokens": usage.input_tokens,
        "max_output_tokens": usage.output_tokens,
        "worst_case_cost_usd": round(cost, 6) if facts else None,
    }
