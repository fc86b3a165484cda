"""HTML reports of made rows, and a browser's tab that looks at them. Several tests do."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import PIL.Image
from playwright.sync_api import BrowserContext, Dialog, Request, Route, expect

from runner.report import html
from runner.report.rows import Rows
from runner.results.lines import to_line
from runner.running import summary
from runner.running.summary import Summary

MODELS = ("us.amazon.nova-lite-v1:0", "us.anthropic.claude-haiku-4-5-20251001-v1:0")


def row(number: int = 0, **changes: Any) -> dict[str, Any]:
    """A row that passed. `output` also changes the reply, `reason` makes it a failed one."""
    output = changes.pop("output", f"Answer {number}")
    reason = changes.pop("reason", None)
    verdict = {
        "type": "contains",
        "passed": reason is None,
        "reason": reason or "output contains 'Answer'",
        "expected": "output to contain 'Answer'",
        "actual": None if reason is None else output[:80],
        "score": None,
        "value": "Answer",
        "threshold": None,
        "line": 7,
    }
    usage = {"input_tokens": 10 + number, "output_tokens": 5, "cache_read_tokens": 0, "cache_write_tokens": 0}
    reply = {"text": output, "stop_reason": "end_turn", "usage": usage, "request_id": f"request-{number}"}
    attempt = {"started_at": "2026-01-02T03:04:05.678Z", "latency_ms": 100, "waited_ms": 0, "request_id": None}
    return {
        "schema": "bedrock-run/result/1",
        "job": "quiz",
        "case": f"case-{number}",
        "index": number,
        "repeat": 0,
        "key": f"{number:064x}",
        "status": "passed" if reason is None else "failed",
        "model": MODELS[0],
        "region": "us-east-1",
        "api": "converse",
        "stream": False,
        "endpoint": "https://bedrock-runtime.us-east-1.amazonaws.com",
        "vars": {"topic": f"topic {number}"},
        "request": {
            "system": "Be brief.",
            "messages": [{"role": "user", "text": f"Question {number}"}],
            "inference": {"max_tokens": 100, "temperature": 0, "top_p": None, "top_k": None, "stop": []},
        },
        "output": output,
        "replies": [{**reply, "latency_ms": 100 + number, "first_token_ms": None}],
        "stop_reason": "end_turn",
        "usage": usage,
        "cost_usd": (100 - number % 100) / 1000,
        "latency_ms": 100 + number,
        "first_token_ms": None,
        "attempts": [{**attempt, "code": None, "message": None, "possibly_billed": False}],
        "assertions": [verdict],
        "error": None,
        "started_at": "2026-01-02T03:04:05.678Z",
        "finished_at": "2026-01-02T03:04:06.678Z",
        "version": "0.1",
        "matrix": None,
        "tags": [],
        "source": {"path": "quiz.yaml", "line": 3, "row": None},
        "repeats": 1,
        "min_pass": 1,
        **changes,
    }


def in_error(number: int, message: str = "ThrottlingException: slow down", **changes: Any) -> dict[str, Any]:
    error = {"code": "throttled", "message": message, "hint": "ask for more quota", "http_status": 429}
    error |= {"request_id": "request-of-error", "retryable": True}
    told: dict[str, Any] = {"output": None, "replies": [], "usage": None, "cost_usd": None, "latency_ms": None}
    told["assertions"] = []
    return {**row(number), **told, "status": "error", "error": error, **changes}


def picture(mode: str, size: tuple[int, int]) -> bytes:
    """A PNG."""
    stream = io.BytesIO()
    PIL.Image.new(mode, size).save(stream, "PNG")
    return stream.getvalue()


def image(name: str, content: bytes) -> dict[str, Any]:
    """An image as rows tell of it."""
    digest = sha256(content).hexdigest()
    return {"path": name, "sha256": digest, "bytes": len(content), "media_type": "image/png"}


def showing(found: dict[str, Any], folder: Path, *images: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The row, now of a job in `folder`, with these images in its first turn and perhaps other files."""
    found["source"] = {"path": str(folder / "quiz.yaml"), "line": 1, "row": None}
    found["request"]["messages"][0] |= {**({"images": list(images)} if images else {}), **others}
    return found


def rows_of(found: list[dict[str, Any]], folder: Path) -> Rows:
    file = folder / "rows.jsonl"
    file.write_bytes(b"".join(to_line(each) for each in found))  # type: ignore[arg-type]
    return Rows([file])


def write(found: list[dict[str, Any]], folder: Path, told: Callable[[Summary], None] = lambda _: None) -> Path:
    """The report of rows. `told` may change its summary."""
    return report(rows_of(found, folder), folder, told)


def report(rows: Rows, folder: Path, told: Callable[[Summary], None] = lambda _: None) -> Path:
    of_rows = summary.of_rows(rows)
    told(of_rows)
    path = folder / "report.html"
    with path.open("w", encoding="utf-8", newline="") as out:
        html.write(out, rows, of_rows)
    return path


def data_of(path: Path) -> dict[str, Any]:
    """What the script of a report reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text("utf-8"), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


class Opened:
    """A tab that shows reports. `noise` is what no report may make: errors, requests, dialogs."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.noise: list[str] = []
        self._report = "about:blank"
        self.page.on("console", lambda message: self.noise.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.noise.append(f"error: {error}"))
        self.page.on("dialog", self._refuse_dialog)
        self.page.on("request", self._hear_request)
        self.page.route(lambda address: not self._is_its_own(address), self._refuse_request)
        self.page.add_init_script(
            "document.addEventListener('securitypolicyviolation', (event) => console.error(event.violatedDirective))"
        )

    def show(self, path: Path, fragment: str) -> None:
        self._report = path.as_uri()
        self.page.goto("about:blank")
        self.page.goto(path.as_uri() + fragment)
        expect(self.page.locator("#shown")).not_to_be_empty()

    def cases(self) -> list[str]:
        return self.page.locator("#table .case-id").all_text_contents()

    def shown(self) -> str:
        return self.page.locator("#shown").text_content() or ""

    def _refuse_dialog(self, dialog: Dialog) -> None:
        self.noise.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _hear_request(self, request: Request) -> None:
        if not self._is_its_own(request.url):
            self.noise.append(f"wanted: {request.url}")

    def _refuse_request(self, route: Route) -> None:
        self.noise.append(f"sent: {route.request.url}")
        route.abort()

    def _is_its_own(self, address: str) -> bool:
        """Whether this is the report, a picture in it, or one in the folder beside it."""
        folder = f"{self._report.removesuffix('.html')}_files/"
        return address.partition("#")[0] == self._report or address.startswith(("data:", "about:", folder))


class Open(Protocol):
    """Opens a report: with options in a browser context of its own, else in a tab that tests share."""

    def __call__(self, path: Path, fragment: str = "", **options: Any) -> Opened: ...
