"""Whole rows, as a run of this version writes them, for tests that need rows and no run."""

from __future__ import annotations

import hashlib
from typing import Any, cast

from runner.records import Row

USAGE = {"input_tokens": 10, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0}
ATTEMPT = {
    "started_at": "2026-11-22T20:00:00.000Z",
    "latency_ms": 1,
    "waited_ms": 0,
    "code": None,
    "message": None,
    "request_id": None,
    "possibly_billed": False,
}
VERDICT = {
    "type": "contains",
    "passed": True,
    "reason": "it contains a",
    "expected": "to contain a",
    "actual": None,
    "score": None,
    "value": "a",
    "threshold": None,
    "line": 3,
}
ERROR = {
    "code": "transient",
    "message": "try again",
    "hint": None,
    "http_status": 500,
    "request_id": None,
    "retryable": True,
}
REPLY = {
    "text": "reply",
    "stop_reason": "end_turn",
    "usage": USAGE,
    "latency_ms": 1,
    "first_token_ms": None,
    "request_id": None,
}


def made_row(status: str = "passed", **fields: Any) -> Row:
    """A row of that status: a failed one has a verdict that says so, an error may have `output=None` as well."""
    row = {
        "schema": "bedrock-run/result/1",
        "job": "job",
        "case": "a",
        "index": 0,
        "repeat": 0,
        "key": hashlib.sha256(b"a").hexdigest(),
        "status": status,
        "model": "amazon.nova-lite-v1:0",
        "region": "us-east-1",
        "api": "converse",
        "stream": False,
        "endpoint": "https://bedrock",
        "vars": {},
        "request": {
            "system": None,
            "messages": [{"role": "user", "text": "Say a."}],
            "inference": {"max_tokens": 100, "temperature": None, "top_p": None, "top_k": None, "stop": []},
        },
        "output": "reply",
        "replies": [REPLY],
        "stop_reason": "end_turn",
        "usage": USAGE,
        "cost_usd": 0.5,
        "latency_ms": 1,
        "first_token_ms": None,
        "attempts": [ATTEMPT],
        "assertions": [{**VERDICT, "passed": False}] if status == "failed" else [VERDICT],
        "error": ERROR if status == "error" else None,
        "started_at": "2026-11-22T20:00:00.000Z",
        "finished_at": "2026-11-22T20:00:00.000Z",
        "version": "1.0",
        "matrix": None,
        "tags": [],
        "source": {"path": "job.yaml", "line": 1, "row": None},
        "repeats": 1,
        "min_pass": 1,
        "judgements": [],
        "parsed": None,
        "sidecar": None,
    }
    return cast("Row", {**row, **fields})
