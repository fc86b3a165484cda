"""What a row tells in several of its fields at once, read in one way by whatever shows it or sums it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.errors import FailureCode
from runner.records import paid_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.records import AttemptRecord, Row, VerdictRecord


def cost_of(row: Row) -> float | None:
    """What its replies and their judges cost in USD, whenever that was paid; None if no price is known."""
    known = [each.cost_usd for each in paid_for(row) if each.cost_usd is not None]
    return round(sum(known), 9) if known else None


def took_s(row: Row) -> float:
    """Seconds that the replies of a row took or, where none came, the attempts at them."""
    if row["latency_ms"] is not None:
        return row["latency_ms"] / 1000
    return sum(attempt["latency_ms"] for attempt in row["attempts"]) / 1000


def request_id(row: Row) -> str | None:
    """What AWS support asks for: the id of the error's request or, without an error, of the last attempt."""
    known = [row["error"] and row["error"]["request_id"], *(each["request_id"] for each in reversed(row["attempts"]))]
    return next(filter(None, known), None)


def failed_assertions(row: Row) -> list[VerdictRecord]:
    return [verdict for verdict in row["assertions"] if not verdict["passed"]]


def was_cut(row: Row) -> bool:
    """Whether a row is in error because the run stopped, of which more is told than of any case."""
    return row["error"] is not None and row["error"]["code"] == FailureCode.STOPPED


def attempts_that_failed(row: Row) -> Sequence[AttemptRecord]:
    """The attempts of which a row's error came: at its calls or, where these brought replies, at that of a judge."""
    attempts = row["attempts"]
    if row["output"] is None or (attempts and attempts[-1]["code"] is not None):
        return attempts
    return next((judgement["attempts"] for judgement in row["judgements"] if judgement["error"]), ())


def verdicts_of_local_judge(row: Row) -> int:
    """How many verdicts rest on the word of the local emulator in place of a judge."""
    judged = (each for each in row["judgements"] if each["current"] and each["type"] == "llm-rubric")
    return sum(each["endpoint"] == "local" and each["error"] is None for each in judged)


def images_of(row: Row) -> Iterator[Mapping[str, Any]]:
    """What a row tells of each image, in the order in which they were sent."""
    request = row["request"]
    for holder in (request, *request.get("messages", ())):  # a raw body has its images beside it
        yield from holder.get("images", ())


def sent_as(image: Mapping[str, Any]) -> str:
    """What was sent of an image: `1568 x 1176 jpeg: scaled down, turned upright`; empty if it went as it is."""
    sent = image.get("sent")
    if not sent:
        return ""
    kind = sent["media_type"].removeprefix("image/")
    return f"{sent['width']} x {sent['height']} {kind}: {', '.join(sent['changes'])}"


def place(row: Row, line: int | None = None) -> str:
    """A line of the job file as `prompts/tutor.yaml:12`; without one, where the case is declared."""
    return f"{row['source']['path']}:{row['source']['line'] if line is None else line}"


def declared(row: Row) -> str:
    """Where the case is declared, with its row if it comes from a file: `prompts/tutor.yaml:12 (rows.csv:17)`."""
    return place(row) + (f" ({row['source']['row']})" if row["source"]["row"] else "")
