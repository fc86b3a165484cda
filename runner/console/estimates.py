"""What `--dry-run` found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.console.text import money
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator


def dry_run_lines(estimate: dict[str, Any], *, max_cost: float | None) -> Iterator[str]:
    """What `--dry-run` found, as a person reads it."""
    totals = [{"name": "in all", **estimate["total"]}] if len(estimate["jobs"]) > 1 else []
    for entry in (*estimate["jobs"], *totals):
        cost = entry["worst_case_cost_usd"]
        kept = f" ({entry['kept']:,} kept from earlier runs)" if entry["kept"] else ""
        yield (
            f"{entry['name']}: {plural(entry['cases'], 'case')}{kept}, {plural(entry['calls'], 'call')}, "
            f"about {entry['input_tokens']:,} tokens in, at most {entry['max_output_tokens']:,} out, "
            + ("cost not known" if cost is None else f"at most {money(cost)}")
        )
        if entry["faults"]:
            more = ", the first: " if entry["faults"] > 1 else ": "
            told = f"{more}{entry['first_fault']}" if entry.get("first_fault") else ""
            yield f"{entry['name']}: {plural(entry['faults'], 'case')} cannot be asked and will be in error{told}"
        if entry["not_wanted"]:
            rows = plural(entry["not_wanted"], "earlier row")
            yield f"{entry['name']}: {rows} would be set aside, since no case asks that any more"
    most = estimate["total"]["worst_case_cost_usd"]
    if max_cost is not None and most is not None and most > max_cost:
        yield f"that may be more than --max-cost {max_cost:g}: then the run stops before the end"
    yield "nothing was sent; input tokens are estimates, and the cost assumes that every reply is as long as it may be"
