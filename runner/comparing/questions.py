"""What cases ask, part by part; and how that was changed, told once for all cases in which the change is the same."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.comparing.word_diff import differences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runner.comparing.word_diff import Piece
    from runner.records import Row


class _Part(NamedTuple):
    """A part of a question: what makes it the same, and as a person reads it."""

    value: Callable[[Row], Any]
    text: Callable[[Row], str] | None  # None: whoever reads the other parts knows it


def _messages(row: Row) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = row["request"].get("messages", [])
    return found


def _turns(row: Row) -> str:
    return "\n".join(f"{message['role']}: {message['text']}" for message in _messages(row))


def _attached(message: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The files of a message: its `images`, its `documents`, or its one `video`."""
    found = message.get(part, [])
    return found if isinstance(found, list) else [found]


def _files(part: str) -> _Part:
    """One kind of files: an object in S3 is the same if it is called so."""

    def value(row: Row) -> Any:
        return [
            [(each["sha256"] or each["path"], each["media_type"]) for each in _attached(message, part)]
            for message in _messages(row)
        ]

    def text(row: Row) -> str:
        files = (each for message in _messages(row) for each in _attached(message, part))
        return "\n".join(
            f"{each['path']} (sha256 {each['sha256'][:12]})" if each["sha256"] else each["path"] for each in files
        )

    return _Part(value, text)


def _settings(row: Row) -> str:
    settings = row["request"].get("inference") or {}
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in settings.items() if value not in (None, []))


def _response_schema(row: Row) -> Any:
    return row["request"].get("response_schema", {}).get("schema")


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) if value else ""


_PARTS = {
    "model": _Part(lambda row: row["model"], lambda row: row["model"]),
    "system": _Part(lambda row: row["request"].get("system"), lambda row: row["request"].get("system") or ""),
    "turns": _Part(lambda row: [[each["role"], each["text"]] for each in _messages(row)], _turns),
    "images": _files("images"),
    "documents": _files("documents"),
    "video": _files("video"),
    "inference": _Part(lambda row: row["request"].get("inference"), _settings),
    "extra": _Part(lambda row: row["request"].get("extra") or None, lambda row: _as_json(row["request"].get("extra"))),
    "response_schema": _Part(lambda row: _response_schema(row) or None, lambda row: _as_json(_response_schema(row))),
    "body": _Part(lambda row: row["request"].get("body"), lambda row: _as_json(row["request"].get("body"))),
    "vars": _Part(lambda row: row["vars"], None),
}


def changed_parts(old: Row, new: Row) -> tuple[str, ...]:
    """The parts of the question that are others now; empty if the same was asked."""
    parts = tuple(name for name, part in _PARTS.items() if part.value(old) != part.value(new))
    return () if parts == ("vars",) else parts  # no template of the question uses those that differ


class Rewording(NamedTuple):
    """A change of one part of the question, the same in some cases of a job: what was taken out, and put in."""

    job: str
    part: str
    cases: int
    case: str  # the id of the first of them
    pieces: Sequence[Piece]  # the whole part in that case
    varies: bool  # whether the rest of the part reads otherwise in other cases


def rewordings(rows: Iterable[tuple[Row, Row]]) -> list[Rewording]:
    """How the questions of these cases, each given by an old row and a new one, were changed: by job, and there first
    what concerns most cases.
    """
    found: dict[tuple[Any, ...], Rewording] = {}
    for old, new in rows:
        for name in changed_parts(old, new):
            text = _PARTS[name].text
            if text is not None:
                pieces = _differences(text(old), text(new))
                change = (new["job"], name, *(piece for piece in pieces if piece.kind != "same"))
                known = found.get(change) or Rewording(new["job"], name, 0, new["case"], pieces, varies=False)
                varies = known.varies or known.pieces != pieces
                found[change] = known._replace(cases=known.cases + 1, varies=varies)
    jobs = {job: number for number, job in enumerate(dict.fromkeys(each.job for each in found.values()))}
    return sorted(found.values(), key=lambda each: (jobs[each.job], -each.cases))


@lru_cache(maxsize=16)  # most cases of a job have the same system prompt, model and settings
def _differences(old: str, new: str) -> tuple[Piece, ...]:
    return tuple(differences(old, new))
