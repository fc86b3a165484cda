"""A comparison as one JSON object, described by schemas/diff.schema.json."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.comparing.changes import Kind
from runner.comparing.measures import to_json
from runner.records.row_facts import cost_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.comparing import Comparison
    from runner.comparing.changes import Broken, Change
    from runner.comparing.facts import Facts
    from runner.comparing.measures import Group
    from runner.comparing.questions import Rewording
    from runner.comparing.side import Side
    from runner.report.rows import CaseResult


def text(comparison: Comparison) -> Iterator[str]:
    """The object, piece by piece: of its changes one at a time is in memory. Pure ASCII."""
    head = json.dumps(_head(comparison))
    yield f'{head[:-1]}, "changes": ['
    separator = "\n"
    for kind in Kind:
        for change in comparison.changes(kind):
            yield f"{separator}{json.dumps(_change(change))}"
            separator = ",\n"
    yield "\n]}\n"


def _head(comparison: Comparison) -> dict[str, Any]:
    return {
        "schema": "bedrock-run/diff/1",
        "old": _run(comparison.old),
        "new": _run(comparison.new),
        "regressed": bool(comparison.regressions),
        "incomplete": comparison.incomplete,
        "nothing_matches": comparison.nothing_matches,
        "lost_jobs": list(comparison.lost_jobs),
        "counts": {
            **{kind.value: comparison.count(kind) for kind in Kind},
            "added": len(comparison.added),
            "removed": len(comparison.removed),
        },
        "totals": {"old": to_json(comparison.old.total), "new": to_json(comparison.new.total)},
        "groups": [_group(group) for group in comparison.groups],
        "added": [_named(case) for case in comparison.added],
        "removed": [_named(case) for case in comparison.removed],
        "notices": list(comparison.notices),
        "rewordings": [_rewording(rewording) for rewording in comparison.rewordings],
        "questions_unread": comparison.questions_unread,
    }


def _run(side: Side) -> dict[str, Any]:
    return {"path": side.name, "finished_at": side.finished_at}


def _group(group: Group) -> dict[str, Any]:
    sides = {"old": group.old, "new": group.new}
    return {
        "job": group.job,
        "variant": group.variant or None,
        **{name: figures and to_json(figures) for name, figures in sides.items()},
    }


def _rewording(rewording: Rewording) -> dict[str, Any]:
    pieces = [piece._asdict() for piece in rewording.pieces]
    return {**rewording._asdict(), "pieces": pieces}


def _named(case: Facts) -> dict[str, str]:
    return {"job": case.job, "case": case.id}


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind.value,
        "job": change.new.job,
        "case": change.new.id,
        "source": change.new.rows[0]["source"],
        "question_changed": list(change.question),
        "assertions_changed": change.assertions_differ,
        "output_changed": bool(change.answers),
        "broken": [_broken(broken) for broken in change.broken],
        "error": change.error,
        "old": _side(change.old),
        "new": _side(change.new),
    }


def _broken(broken: Broken) -> dict[str, Any]:
    return {**broken.verdict, "times": broken.times}


def _side(case: CaseResult) -> dict[str, Any]:
    return {
        "job": case.job,
        "case": case.id,
        "status": case.status,
        "repetitions": [
            {
                "status": row["status"],
                "output": row["output"],
                "cost_usd": cost_of(row),
                "latency_ms": row["latency_ms"],
            }
            for row in case.rows
        ],
    }
