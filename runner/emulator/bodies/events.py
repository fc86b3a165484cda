"""The events of a stream before they are framed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from runner.emulator.prompt import Reply


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its JSON, and its name in the service's model (`chunk` for every event of InvokeModel).

    `kind` is what faults go by: `end` are the events without which a stream is not whole.
    """

    name: str
    document: dict[str, Any]
    kind: Literal["frame", "delta", "end"] = "frame"


def chunk(document: dict[str, Any], kind: Literal["frame", "delta", "end"] = "frame") -> Event:
    return Event("chunk", document, kind)


def metrics(reply: Reply, *, milliseconds: int) -> dict[str, Any]:
    """What InvokeModel's streams add to their last event, in every family."""
    return {
        "amazon-bedrock-invocationMetrics": {
            "inputTokenCount": reply.input_tokens,
            "outputTokenCount": reply.output_tokens,
            "invocationLatency": milliseconds,
            "firstByteLatency": milliseconds,
        }
    }
