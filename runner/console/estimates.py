"""What `--dry-run` found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.console.text import money
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_FAULTS = 10  # that `validate` tells without being asked for more


def dry_run_lines(estimate: dict[str, Any], *, max_cost: float | None, verbose: bool = False) -> Iterator[str]:
    """What `--dry-run` found, as a person reads it; `verbose`: with every case that cannot be asked."""
    jobs = [{**job, "unrepeated": job["cases"] // job["repeat"]} for job in estimate["jobs"]]
    unrepeated = sum(job["unrepeated"] for job in jobs)
    totals = [{"name": "in all", "unrepeated": unrepeated, **estimate["total"]}] if len(jobs) > 1 else []
    for entry in (*jobs, *totals):
        cost = entry["worst_case_cost_usd"]
        yield (
            f"{entry['name']}: {_cases(entry)}, {_calls(entry)}, "
            f"about {entry['input_tokens']:,} tokens in, at most {entry['max_output_tokens']:,} out, "
            + ("cost not known" if cost is None else f"at most {money(cost)}")
        )
        if told := files_told(entry["files"]) if "files" in entry else None:
            yield f"{entry['name']}: {told}"
        if entry["faults"]:
            told = f"{entry['name']}: {plural(entry['faults'], 'case')} cannot be asked and will be in error"
            if verbose and "cannot_be_asked" in entry:
                yield f"{told}:"
                yield from faults_told(entry["cannot_be_asked"], verbose=True)
            elif entry.get("first_fault"):
                more = ", the first (-v tells of every one)" if entry["faults"] > 1 else ""
                yield f"{told}{more}: {entry['first_fault']}"
            else:
                yield told
        if entry["not_wanted"]:
            rows = plural(entry["not_wanted"], "earlier row")
            yield f"{entry['name']}: {rows} would be set aside, since no case asks that any more"
    most = estimate["total"]["worst_case_cost_usd"]
    if max_cost is not None and most is not None and most > max_cost:
        yield f"that may be more than --max-cost {max_cost:g}: then the run stops before the end"
    yield "nothing was sent; input tokens are estimates, and the cost assumes that every reply is as long as it may be"


def faults_told(faults: Sequence[Mapping[str, Any]], *, verbose: bool) -> Iterator[str]:
    """Cases that cannot be asked, indented: those with the same hint together and their hint once. Without `verbose`
    only the first ones, and how many more there are.
    """
    by_hint: dict[str | None, list[str]] = {}
    for fault in faults if verbose else faults[:_MOST_FAULTS]:
        by_hint.setdefault(fault["hint"], []).append(fault["message"])
    for hint, messages in by_hint.items():
        yield from (f"    {message}" for message in messages)
        if hint:
            yield f"        hint: {hint}"
    if not verbose and len(faults) > _MOST_FAULTS:
        yield f"    and {len(faults) - _MOST_FAULTS:,} more (-v tells of every one)"


def files_told(files: dict[str, Any]) -> str | None:
    """`5,000 pictures: 4,100 unchanged, 900 made to fit (scaled down: 850, ...); about 9,000,000 tokens for them`; None
    if there are no files.
    """
    kinds = [_pictures(files)] if files["pictures"] else []
    kinds += [plural(files[f"{kind}s"], kind) for kind in ("document", "video") if files[f"{kind}s"]]
    if not kinds:
        return None
    cost = "" if files["cost_usd"] is None else f" ({money(files['cost_usd'])})"
    return f"{', '.join(kinds)}; about {files['tokens']:,} tokens for them{cost}"


def _pictures(files: dict[str, Any]) -> str:
    unchanged, changed = files["pictures"] - files["changed"], files["changed"]
    changes = ", ".join(f"{change}: {count:,}" for change, count in files["changes"].items())
    parts = [f"{unchanged:,} unchanged"] if unchanged else []
    parts += [f"{changed:,} made to fit ({changes})"] if changed else []
    return f"{plural(files['pictures'], 'picture')}: {', '.join(parts)}"


def _calls(entry: dict[str, Any]) -> str:
    """`36 calls (18 of them if every reply must be repaired)`."""
    repairs = f" ({entry['repairs']:,} of them if every reply must be repaired)" if entry["repairs"] else ""
    return plural(entry["calls"], "call") + repairs


def _cases(entry: dict[str, Any]) -> str:
    """`3 cases (6 with repetitions, 2 kept from earlier runs, 1 begun in earlier runs)`."""
    more = [f"{entry['cases']:,} with repetitions"] if entry["cases"] != entry["unrepeated"] else []
    more += [f"{entry['kept']:,} kept from earlier runs"] if entry["kept"] else []
    more += [f"{entry['begun']:,} begun in earlier runs"] if entry["begun"] else []
    return plural(entry["unrepeated"], "case") + (f" ({', '.join(more)})" if more else "")
