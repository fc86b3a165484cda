"""What `--dry-run` found, as a person reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.console.text import money
from runner.words import named, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_MOST_FAULTS = 10  # that `validate` tells without being asked for more


def dry_run_lines(estimate: dict[str, Any], *, max_cost: float | None, replay: bool, verbose: bool) -> Iterator[str]:
    """What `--dry-run` found, as a person reads it; `verbose`: with every case that cannot be asked or, in a `replay`,
    judged.
    """
    jobs = [{**job, "unrepeated": job["cases"] // job["repeat"]} for job in estimate["jobs"]]
    unrepeated = sum(job["unrepeated"] for job in jobs)
    totals = [{"name": "in all", "unrepeated": unrepeated, **estimate["total"]}] if len(jobs) > 1 else []
    for entry in (*jobs, *totals):
        yield f"{entry['name']}: {_cases(entry)}, {'nothing to call' if replay else _to_pay(entry)}"
        if told := files_told(entry["files"]) if "files" in entry else None:
            yield f"{entry['name']}: {told}"
        if entry["faults"]:
            yield from _faulty(entry, "judged" if replay else "asked", verbose=verbose)
        if entry["not_wanted"]:
            rows = plural(entry["not_wanted"], "earlier row")
            yield f"{entry['name']}: {rows} would be set aside, since no case asks that any more"
    most = estimate["total"]["worst_case_cost_usd"]
    if max_cost is not None and most is not None and most > max_cost:
        yield f"that may be more than --max-cost {max_cost:g}: then the run stops before the end"
    if replay:
        yield "nothing was judged yet; a replay sends nothing"
    else:
        told = "input tokens are estimates, and the cost assumes that every reply is as long as it may be"
        yield f"nothing was sent; {told}"


def _faulty(entry: dict[str, Any], verb: str, *, verbose: bool) -> Iterator[str]:
    told = f"{entry['name']}: {plural(entry['faults'], 'case')} cannot be {verb} and will be in error"
    if verbose and "cannot_be_asked" in entry:
        yield f"{told}:"
        yield from faults_told(entry["cannot_be_asked"], verbose=True)
    elif "cannot_be_asked" in entry:
        first = entry["cannot_be_asked"][0]
        more = ", the first (-v tells of every one)" if entry["faults"] > 1 else ""
        yield f"{told}{more}: {_naming(first['message'], [first['case']])}"
    else:
        yield told


def faults_told(faults: Sequence[Mapping[str, Any]], *, verbose: bool) -> Iterator[str]:
    """Cases that cannot be asked, indented. A message that several share is told once, and so is a hint. Without
    `verbose` only the first ones, and how many more there are.
    """
    by_hint: dict[str | None, dict[str, list[str]]] = {}
    for fault in faults if verbose else faults[:_MOST_FAULTS]:
        by_hint.setdefault(fault["hint"], {}).setdefault(fault["message"], []).append(fault["case"])
    for hint, messages in by_hint.items():
        yield from (f"    {_naming(message, cases)}" for message, cases in messages.items())
        if hint:
            yield f"        hint: {hint}"
    if not verbose and len(faults) > _MOST_FAULTS:
        yield f"    and {len(faults) - _MOST_FAULTS:,} more (-v tells of every one)"


def _naming(message: str, cases: Sequence[str]) -> str:
    """The message with the names of its cases, where it does not tell the only one itself."""
    ids = list(dict.fromkeys(cases))
    if len(ids) == 1 and ids[0] in message:
        return message
    return f"{message} (case{'s' if len(ids) > 1 else ''} {named(ids, most=len(ids))})"


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


def _to_pay(entry: dict[str, Any]) -> str:
    """`36 calls (18 of them if every reply must be repaired), about 900 tokens in, at most 3,600 out, at most $0.2`."""
    repairs = f" ({entry['repairs']:,} of them if every reply must be repaired)" if entry["repairs"] else ""
    cost = entry["worst_case_cost_usd"]
    return (
        f"{plural(entry['calls'], 'call')}{repairs}, "
        f"about {entry['input_tokens']:,} tokens in, at most {entry['max_output_tokens']:,} out, "
        + ("cost not known" if cost is None else f"at most {money(cost)}")
    )


def _cases(entry: dict[str, Any]) -> str:
    """`3 cases (6 with repetitions, 2 kept from earlier runs, 1 begun in earlier runs)`."""
    more = [f"{entry['cases']:,} with repetitions"] if entry["cases"] != entry["unrepeated"] else []
    more += [f"{entry['kept']:,} kept from earlier runs"] if entry["kept"] else []
    more += [f"{entry['begun']:,} begun in earlier runs"] if entry["begun"] else []
    return plural(entry["unrepeated"], "case") + (f" ({', '.join(more)})" if more else "")
