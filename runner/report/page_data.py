"""The cases as the script of the HTML report reads them: JSON, made case by case, with nothing in it that could act.

Every string of a row is spelled out as for a terminal (`console.plain`), so that no control character, no escape code
and no bidirectional override gets into the page, and no half of a surrogate pair into its UTF-8. Long ones are cut.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from runner.console import plain
from runner.judging.questions import judgement_of
from runner.records.row_facts import cost_of, place, sent_as
from runner.report import repairs
from runner.report.thumbnails import picture_of
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.records import JudgementRecord, ReplyRecord, Row, VerdictRecord
    from runner.report.rows import CaseResult, Rows
    from runner.report.thumbnails import Thumbnails
    from runner.running.summary import Summary

LONGEST_TEXT = 20_000  # characters of a text that the page holds, up to 10,000 rows; with more rows fewer
_SHORTEST_TEXT = 500
_TEXT_OF_ALL_ROWS = LONGEST_TEXT * 10_000
_LONGEST_LABEL = 300  # characters of an id, a name, a tag or a path
_SHORTEST_VECTOR = 16  # numbers, of a list that nobody reads
_SHARED = 200  # characters of a prompt from which on it is given once

# What could end the element that holds the JSON, or its line; `plain` has no such character left, but for the first.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def to_script_json(value: object) -> str:
    """JSON that can stand in a `<script>`: no text in it can end the element, or begin a comment."""
    return _UNSAFE.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    )


class PageData:
    """The cases of a report, ready for its page. A long prompt that many cases share is given once."""

    def __init__(self, rows: Rows, summary: Summary, thumbnails: Thumbnails) -> None:
        self._rows = rows
        self._thumbnails = thumbnails
        self._tolerant = summary.tolerant_jobs
        self._outputs = {  # the file of the rows of each job: there a text that is cut here is whole
            _label(job.name): "standard output" if job.output == "-" else _label(job.output)
            for job in summary.jobs.values()
        }
        self.longest_text = max(_SHORTEST_TEXT, min(LONGEST_TEXT, _TEXT_OF_ALL_ROWS // max(1, len(rows))))
        self._numbers: dict[bytes, int] = {}  # of texts that were given, by digest

    def pieces(self) -> Iterator[str]:
        """One JSON object, `{outputs: {...}, cases: [...], thumbnails: [...]}`, piece by piece."""
        yield f'\n{{"outputs": {to_script_json(self._outputs)},\n"cases": ['
        for number, case in enumerate(self._rows.cases()):
            yield (",\n" if number else "\n") + to_script_json(self._case(case))
        yield '\n],\n"thumbnails": ['
        for number, source in enumerate(self._thumbnails.sources):
            yield (",\n" if number else "\n") + to_script_json(source)
        yield "\n]\n}\n"

    def _case(self, case: CaseResult) -> dict[str, Any]:
        row = case.rows[0]
        source = row["source"]
        return {
            "job": _label(case.job),
            "id": _label(case.id),
            "base": _label(case.base_id),
            "matrix": [(_label(name), _label(_as_json(value))) for name, value in (row["matrix"] or {}).items()],
            "position": row["index"] + 1,
            "status": case.status,
            "tolerated": case.status == "failed" and case.job in self._tolerant,
            "model": _label(row["model"]),
            "tags": [_label(tag) for tag in row["tags"]],
            "source": _label(place(row)),
            "row": source["row"] and _label(source["row"]),
            "vars": self._named(row["vars"]),
            **self._request(row),
            "repeats": row["repeats"],
            "min_pass": row["min_pass"],
            "runs": [self._run(each) for each in case.rows],
        }

    def _request(self, row: Row) -> dict[str, Any]:
        request = row["request"]
        if "body" in request:
            images = [self._image(row, image) for image in request.get("images", ())]
            shown = {"role": "user", "text": self._shared("In the raw body:"), "images": images, "files": []}
            body = self._text(_as_json(request["body"]))
            return {"system": None, "messages": [shown] if images else [], "settings": [], "body": body}
        settings = {name: value for name, value in request["inference"].items() if value not in (None, [])}
        return {
            "system": request["system"] and self._shared(request["system"]),
            "messages": [
                {
                    "role": message["role"],
                    "text": self._shared(message["text"]),
                    "images": [self._image(row, image) for image in message.get("images", ())],
                    "files": [_file(file) for file in _files(message)],
                }
                for message in request["messages"]
            ],
            "settings": self._named({**settings, **request.get("extra", {})}),
            "body": None,
        }

    def _image(self, row: Row, image: Mapping[str, Any]) -> dict[str, Any]:
        """An image with the number of its `thumbnail`, or with the reason why it is `missing`."""
        told = {**_file(image), **({"sent": _label(sent_as(image))} if image.get("sent") else {})}
        picture = picture_of(row, image)
        number = self._thumbnails.number(picture)
        if number is None:
            return {**told, "missing": _label(self._thumbnails.why_missing(picture))}
        return {**told, "thumbnail": number}

    def _run(self, row: Row) -> dict[str, Any]:
        """What one repetition came to."""
        return {
            "number": row["repeat"] + 1,
            "status": row["status"],
            "latency": None if row["output"] is None else row["latency_ms"],
            "first_token": row["first_token_ms"],
            "cost": cost_of(row),
            "usage": row["usage"],
            "facts": [
                [name, _label(str(value))]
                for name, value in (
                    ("region", row["region"]),
                    ("endpoint", row["endpoint"]),
                    ("api", row["api"] + (", streamed" if row["stream"] else "")),
                    ("stop reason", row["stop_reason"]),
                    ("started", row["started_at"]),
                    ("finished", row["finished_at"]),
                    ("key", row["key"]),
                    ("version", row["version"]),
                )
                if value is not None
            ],
            "replies": [self._reply(reply) for reply in row["replies"]],
            "repair": self._text(repairs.question_of(row)) if repairs.was_repaired(row) else None,
            "brief": _brief(row),
            "fields": _fields(row["parsed"]),
            "parsed": self._parsed(row["parsed"]),
            "verdicts": [self._verdict(row, verdict) for verdict in row["assertions"]],
            "judgements": [self._judgement(judgement) for judgement in row["judgements"]],
            "attempts": [self._texts(attempt) for attempt in row["attempts"]],
            "error": row["error"] and self._texts(row["error"]),
        }

    def _reply(self, reply: ReplyRecord) -> dict[str, Any]:
        return {
            "text": self._text(reply["text"]),
            "usage": reply["usage"],
            "latency": reply["latency_ms"],
            "first_token": reply["first_token_ms"],
            "stop_reason": reply["stop_reason"] and _label(reply["stop_reason"]),
            "request_id": reply["request_id"] and _label(reply["request_id"]),
        }

    def _verdict(self, row: Row, verdict: VerdictRecord) -> dict[str, Any]:
        """A verdict with those on the parts of a set, and the number of the row's judgement that it rests on."""
        told = {name: verdict.get(name) for name in ("type", "passed", "reason", "expected", "actual", "score")}
        return {
            **self._texts({**told, "place": place(row, verdict["line"])}),
            "judgement": judgement_of(row, verdict),
            "parts": [self._verdict(row, part) for part in verdict.get("assertions", ())],
        }

    def _judgement(self, judgement: JudgementRecord) -> dict[str, Any]:
        told = ("type", "model", "score", "passed", "reason", "usage")
        return {
            **self._texts({name: judgement.get(name) for name in told}),
            "cost": judgement["cost_usd"],
            "latency": judgement["latency_ms"],
            "attempts": [self._texts(attempt) for attempt in judgement["attempts"]],
            "error": judgement["error"] and self._texts(judgement["error"]),
        }

    def _parsed(self, value: object) -> list[tuple[str, Any]] | None:
        """The fields of a reply that was asked for as JSON; what is no object has no name."""
        return None if value is None else self._named(value if isinstance(value, dict) else {"": value})

    def _named(self, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
        return [(_label(name), self._text(_as_json(value))) for name, value in values.items()]

    def _texts(self, record: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._text(value) if isinstance(value, str) else value for name, value in record.items()}

    def _text(self, text: str) -> str | dict[str, Any]:
        """A text; where it had to be cut, `{text, length}` with the length that it has in the row."""
        if len(text) <= self.longest_text:
            return plain(text)
        return {"text": plain(text[: self.longest_text]), "length": len(text)}

    def _shared(self, text: str) -> str | int | dict[str, Any]:
        """A text that other cases may have too: if long it is given once, as `{text, shared}`, then by its number."""
        if len(text) < _SHARED:
            return plain(text)
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._numbers:
            return self._numbers[digest]
        self._numbers[digest] = len(self._numbers)
        shown = self._text(text)
        return {"shared": True, **(shown if isinstance(shown, dict) else {"text": shown})}


def _brief(row: Row) -> str | None:
    """What is told of an embedding in place of its numbers; None of any other reply."""
    if "body" not in row["request"] or not (row["output"] or "").startswith("{"):
        return None
    try:
        numbers = _longest_vector(json.loads(row["output"] or ""))
    except (ValueError, RecursionError):
        return None
    return f"a vector of {numbers:,} numbers" if numbers >= _SHORTEST_VECTOR else None


def _longest_vector(value: Any) -> int:
    """How many numbers the longest list of them has that is anywhere in a JSON value."""
    if isinstance(value, list) and all(isinstance(item, int | float) for item in value):
        return len(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max(map(_longest_vector, inside), default=0)


def _fields(parsed: Any) -> list[tuple[str, str]] | None:
    """The fields of a reply that was asked for as JSON, as a caption tells them: in words, and only so many."""
    if parsed is None:
        return None
    named = parsed if isinstance(parsed, dict) else {"": parsed}
    return [(_label(name), _label(_in_words(value))) for name, value in named.items()]


def _in_words(value: Any) -> str:
    """A JSON value without its brackets: `country: France, city: Nice`, `cat, sofa`."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_in_words(inside)}" for name, inside in value.items())
    if isinstance(value, list):
        return ", ".join(map(_in_words, value))
    return _as_json(value)


def _file(record: Mapping[str, Any]) -> dict[str, str]:
    """A file that was sent: what it is called, its type and its size, so far as they are known."""
    return {
        "path": _label(record["path"]),
        "size": "" if record["bytes"] is None else plural(record["bytes"], "byte"),
        "type": _label(record["media_type"]),
    }


def _files(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Its documents and its video, which are named but not shown."""
    return [*(message.get("documents") or ()), *filter(None, [message.get("video")])]


def _label(text: str) -> str:
    """A short text; what is too long for it ends in dots."""
    return plain(text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…")


def _as_json(value: object) -> str:
    """A text as it is, any other value as JSON. To read it in the page would round long integers."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict | list) and value else None)
    except RecursionError:
        return "(nested too deeply to be shown)"
