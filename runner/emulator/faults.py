"""Everything that can go wrong on request: which fault a call meets, and what that fault does to an answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.emulator import framing
from runner.emulator.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.emulator.bodies.events import Event

FAULTS: Mapping[str, str] = {
    "throttle": "429 ThrottlingException: too many requests",
    "tokens-per-day": "429 ThrottlingException: too many tokens per day",
    "internal": "500 InternalServerException",
    "unavailable": "503 ServiceUnavailableException",
    "overloaded": "529 overloaded_error, with Retry-After: 1",
    "model-error": "424 ModelErrorException, whose originalStatusCode is 500",
    "model-timeout": "408 ModelTimeoutException",
    "not-ready": "429 ModelNotReadyException",
    "denied": "403 AccessDeniedException",
    "expired-token": "403 ExpiredTokenException",
    "reset": "the connection is reset before any byte of the response",
    "hang": "no answer at all until the client goes away",
    "drip": "the body comes one byte at a time and never ends",
    "stall": "the body stops half-way; the connection stays open",
    "drop": "the connection breaks half-way through the body",
    "cut": "a stream ends cleanly in the middle of a frame; without a stream as drop",
    "no-stop": "a stream ends cleanly without its last events; without a stream a reply without stop reason",
    "no-output": "a whole 200 answer in which there is no output",
    "bad-crc": "one bit of a stream's frame is flipped; without a stream as bad-json",
    "bad-json": "truncated JSON of the announced length, in a stream within a whole frame",
    "stream-exception": "a stream breaks off with modelStreamErrorException; without a stream 424",
    "stream-throttle": "a stream breaks off with throttlingException; without a stream as throttle",
    "stream-internal": "a stream breaks off with internalServerException; without a stream as internal",
    "stream-error": "a stream breaks off with an error frame the service's model does not know; without a stream 500",
}

DRIP_SECONDS = 0.25  # between two bytes
_INTERNAL = "The system encountered an unexpected error during processing. Try your request again."
_ERRORS: Mapping[str, tuple[str, str]] = {
    "throttle": ("ThrottlingException", "Too many requests, please wait before trying again."),
    "tokens-per-day": ("ThrottlingException", "Too many tokens per day, please wait before trying again."),
    "internal": ("InternalServerException", _INTERNAL),
    "unavailable": ("ServiceUnavailableException", "Bedrock is unable to process your request."),
    "overloaded": ("overloaded_error", "Overloaded"),
    "model-error": ("ModelErrorException", "The model encountered an unexpected error during processing."),
    "model-timeout": ("ModelTimeoutException", "Model has timed out in processing the request."),
    "not-ready": ("ModelNotReadyException", "Model is not ready for inference. Wait and try your request again."),
    "denied": ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "expired-token": ("ExpiredTokenException", "The security token included in the request is expired"),
    "stream-exception": ("ModelStreamErrorException", "The model failed while streaming. Try your request again."),
    "stream-throttle": ("ThrottlingException", "Too many tokens, please wait before trying again."),
    "stream-internal": ("InternalServerException", _INTERNAL),
    "stream-error": ("InternalFailure", "The stream failed in a way its model does not name."),
}
_EXTRA: Mapping[str, dict[str, Any]] = {
    "model-error": {"originalStatusCode": 500, "resourceName": "local-emulator"},
    "stream-exception": {"originalStatusCode": 500, "originalMessage": "local emulator"},
}
_IN_STREAM = frozenset({"stream-exception", "stream-throttle", "stream-internal", "stream-error"})


@dataclass(frozen=True, slots=True)
class Wire:
    """A body as it is to be sent: in `parts`, and then `end`.

    `length` is the Content-Length to announce; None sends in chunks. `drip` sends byte by byte.
    """

    parts: Sequence[bytes]
    length: int | None = None
    end: Literal["clean", "drop", "stall"] = "clean"
    drip: bool = False


class Dice:
    """Decides by lot which fault a call meets, so that equal calls in equal number meet equal faults.

    The lot is drawn from the seed, the call's content and how often that content came before, not from the order in
    which different calls arrive. So a run with many calls in flight repeats exactly.
    """

    def __init__(self, faults: Mapping[str, float], *, seed: int) -> None:
        self._faults = {name: probability for name, probability in faults.items() if probability > 0}
        self._seed = seed
        self._seen: Counter[bytes] = Counter()

    def throw(self, *content: bytes) -> str | None:
        """The name of a fault, or None."""
        if not self._faults:
            return None
        digest = hashlib.blake2b(b"\0".join(content), digest_size=16).digest()
        self._seen[digest] += 1
        lot = hashlib.blake2b(b"%d %d %b" % (self._seed, self._seen[digest], digest), digest_size=8).digest()
        point = int.from_bytes(lot) / 2**64
        for name, probability in self._faults.items():
            if point < probability:
                return name
            point -= probability
        return None


def error_of(fault: str, *, streaming: bool) -> AwsError | None:
    """The error a fault answers with instead of a body, if it is of that kind."""
    if fault not in _ERRORS or (streaming and fault in _IN_STREAM):
        return None
    code, message = _ERRORS[fault]
    status = 500 if fault == "stream-error" else None
    return AwsError(code, message, status=status, extra=_EXTRA.get(fault))


def damage_document(fault: str | None, document: dict[str, Any]) -> Wire:
    """A response that is no stream, as the fault leaves it."""
    if fault == "no-output":
        document = {key: value for key, value in document.items() if not _is_output(key)}
    elif fault == "no-stop":
        document = {key: value for key, value in document.items() if key not in {"stopReason", "stop_reason"}}
    body = framing.to_json(document)
    half = body[: len(body) // 2]
    if fault in {"cut", "drop", "stall"}:
        return Wire([half], length=len(body), end="stall" if fault == "stall" else "drop")
    if fault in {"bad-json", "bad-crc"}:
        return Wire([half], length=len(half))
    if fault == "drip":
        return Wire([body], length=len(body), drip=True)
    return Wire([body], length=len(body))


def damage_events(fault: str | None, events: Sequence[Event]) -> Wire:
    """A stream, as the fault leaves it. What breaks, breaks at the middle one of the events that carry text."""
    if fault == "no-output":
        events = [event for event in events if event.kind != "delta"]
    elif fault == "no-stop":
        events = [event for event in events if event.kind != "end"]
    frames = [_frame(event) for event in events]
    deltas = [at for at, event in enumerate(events) if event.kind == "delta"] or [0]
    middle = deltas[len(deltas) // 2]
    before, broken = frames[:middle], frames[middle]
    if fault in {"cut", "drop", "stall"}:
        end: Literal["clean", "drop", "stall"] = "clean" if fault == "cut" else "drop" if fault == "drop" else "stall"
        return Wire([*before, broken[: len(broken) // 2]], end=end)
    if fault == "bad-crc":
        return Wire([*before, _flip_one_bit(broken), *frames[middle + 1 :]])
    if fault == "bad-json":
        return Wire([*before, _frame(events[middle], truncated=True), *frames[middle + 1 :]])
    if fault in _IN_STREAM:
        return Wire([*before, _failure(fault)])
    return Wire(frames, drip=fault == "drip")


def _is_output(key: str) -> bool:
    return key in {
        "output",
        "content",
        "results",
        "generation",
        "outputs",
        "choices",
        "text",
        "embedding",
        "embeddingsByType",
    }


def _frame(event: Event, *, truncated: bool = False) -> bytes:
    document = event.document
    if event.name == "chunk":
        inner = framing.to_json(document)
        document = framing.chunk(inner[: len(inner) // 2] if truncated else inner)
        truncated = False
    payload = framing.padded(document)
    return framing.event(event.name, payload[: len(payload) // 2] if truncated else payload)


def _flip_one_bit(frame: bytes) -> bytes:
    payload_byte = len(frame) - 8  # well before the CRC's four bytes
    return frame[:payload_byte] + bytes([frame[payload_byte] ^ 1]) + frame[payload_byte + 1 :]


def _failure(fault: str) -> bytes:
    code, message = _ERRORS[fault]
    if fault == "stream-error":
        return framing.error(code, message)
    return framing.exception(code[0].lower() + code[1:], {"message": message, **_EXTRA.get(fault, {})})
