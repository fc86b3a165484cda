"""Any other body over InvokeModel: sent as the job file has it, and its reply read by the shapes that are known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.bedrock.wire.anthropic import AnthropicStream, InvokeWire, anthropic_reply
from runner.bedrock.wire.converse import ConverseStream, converse_reply
from runner.bedrock.wire.protocol import Files, IncompleteReply, ReplyStream
from runner.bedrock.wire.reading import (
    INVOCATION_METRICS,
    chunk_in,
    from_json,
    from_json_exactly,
    header_usage,
    metrics_usage,
    sound,
    to_json,
    usage_from,
)
from runner.records import Reply, Usage
from runner.templates import body_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.bedrock.eventstream import Event
    from runner.records import Message, Request

    Json = dict[str, Any]


class RawInvokeWire(InvokeWire):
    """A body that the job wrote itself, for any model. The reply's text is looked for where the families have it."""

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:  # noqa: ARG002 - the body is all there is
        if not request.images:
            return to_json(request.body)
        images = {image.sha256: image for image in request.images}
        return to_json(body_images.with_content(request.body, images, files.base64))

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        reply = from_json_exactly(payload)
        if isinstance(reply, dict):
            if reply.get("type") in {"message", "error"}:
                return anthropic_reply(reply, headers)
            if "output" in reply and "stopReason" in reply:
                return converse_reply(reply, headers)
        text, stop_reason = _raw_text(reply)
        return Reply(
            text=payload.decode(errors="replace") if text is None else sound(text),
            stop_reason=stop_reason,
            usage=header_usage(headers) or _raw_usage(reply),
        )

    def stream(self) -> ReplyStream:
        return _RawStream()


class _RawStream:
    """Chunks of any family. Bedrock adds its invocation metrics to the last one, whichever model sends it."""

    def __init__(self) -> None:
        self._anthropic = AnthropicStream()
        self._nova = ConverseStream()
        self._texts: list[str] = []
        self._chunks: list[bytes] = []
        self._metrics: Any = None
        self._stop_reason: str | None = None

    @property
    def done(self) -> bool:
        return self._metrics is not None or self._anthropic.done or self._nova.done

    def event(self, event: Event) -> str:
        payload = chunk_in(event)
        if payload is None:
            return ""
        self._chunks.append(payload)
        inner = from_json(payload)
        self._metrics = inner.get(INVOCATION_METRICS, self._metrics)
        text = self._text(inner)
        if text:
            self._texts.append(text)
        return text

    def reply(self) -> Reply:
        if self._anthropic.done:
            return self._anthropic.reply()
        if self._nova.done:
            return self._nova.reply()
        if self._metrics is None:
            raise IncompleteReply("the stream ended before its last chunk, which has the invocation metrics")
        text = "".join(self._texts) or "\n".join(map(_spelled_out, self._chunks))
        return Reply(text=sound(text), stop_reason=self._stop_reason, usage=metrics_usage(self._metrics))

    def _text(self, chunk: Json) -> str:
        if "type" in chunk:
            return self._anthropic.message_event(chunk)
        for name in ("contentBlockDelta", "messageStop", "metadata"):
            if isinstance(chunk.get(name), dict):
                return self._nova.named_event(name, chunk[name])
        text, stop_reason = _raw_text(chunk)
        self._stop_reason = stop_reason or self._stop_reason
        return text or ""


def _spelled_out(chunk: bytes) -> str:
    return json.dumps(from_json_exactly(chunk), ensure_ascii=False)


def _raw_text(reply: Any) -> tuple[str | None, str | None]:
    """The text and the stop reason of a family's reply or chunk; None for what is not there."""
    if not isinstance(reply, dict):
        return None, None
    for part in _candidates(reply):
        text = _first_string(part, "outputText", "generation", "text") or _message_text(part)
        stop_reason = _first_string(part, "completionReason", "stop_reason", "finish_reason")
        if text is not None or stop_reason is not None:
            return text, stop_reason
    return None, None


def _candidates(reply: Json) -> Iterator[Json]:
    """Where a family may keep its text: the first of a list, or the reply itself."""
    for name in ("results", "outputs", "choices", "generations"):
        items = reply.get(name)
        if isinstance(items, list) and items and isinstance(items[0], dict):
            yield items[0]
    yield reply


def _message_text(part: Json) -> str | None:
    """The text of a chat completion, whole (`message`) or in pieces (`delta`)."""
    for name in ("message", "delta"):
        if isinstance(part.get(name), dict):
            return _first_string(part[name], "content")
    return None


def _first_string(part: Json, *names: str) -> str | None:
    return next((part[name] for name in names if isinstance(part.get(name), str)), None)


def _raw_usage(reply: Any) -> Usage | None:
    """The counts in the body of a family that has them: Titan, Llama, and what follows OpenAI's chat completions."""
    if not isinstance(reply, dict):
        return None
    if "inputTextTokenCount" in reply:
        first = next(_candidates(reply))
        return usage_from({**reply, **first}, "inputTextTokenCount", "tokenCount")
    if "prompt_token_count" in reply:
        return usage_from(reply, "prompt_token_count", "generation_token_count")
    usage = reply.get("usage")
    return usage_from(usage, "prompt_tokens", "completion_tokens")
