"""Anthropic Messages over InvokeModel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.bedrock import structured
from runner.bedrock.wire.protocol import Files, IncompleteReply, ModelFault, ReplyStream
from runner.bedrock.wire.reading import (
    INVOCATION_METRICS,
    JSON_TYPE,
    alternating,
    chunk_in,
    content_of,
    from_json,
    header_usage,
    index_of,
    joined,
    metrics_usage,
    object_in,
    sound,
    stop_reason,
    text_of,
    to_json,
    usage_from,
    with_extra,
)
from runner.records import DiskFile, Reply, S3Object, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.bedrock.eventstream import Event
    from runner.records import Document, Image, Message, Request

    Json = dict[str, Any]

ANTHROPIC_VERSION = "bedrock-2023-05-31"


class InvokeWire:
    """The Messages API of Anthropic's models, as the body of InvokeModel."""

    def operation(self, *, stream: bool) -> str:
        return "invoke-with-response-stream" if stream else "invoke"

    def headers(self, *, stream: bool) -> Mapping[str, str]:
        return {"Content-Type": JSON_TYPE, "X-Amzn-Bedrock-Accept" if stream else "Accept": JSON_TYPE}

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        inference = request.inference
        body: Json = {"anthropic_version": ANTHROPIC_VERSION, "max_tokens": inference.max_tokens}
        if (system := structured.system(request, messages)) is not None:
            body["system"] = system
        body["messages"] = [
            {"role": message.role, "content": _anthropic_content(message, files)} for message in alternating(messages)
        ]
        for name in ("temperature", "top_p", "top_k"):
            value = getattr(inference, name)
            if value is not None:
                body[name] = value
        if inference.stop:
            body["stop_sequences"] = inference.stop
        if wanted := structured.native(request, messages):
            body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}
        return to_json(with_extra(body, request.extra))

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        return anthropic_reply(from_json(payload), headers)

    def stream(self) -> ReplyStream:
        return AnthropicStream()


def _anthropic_content(message: Message, files: Files) -> str | list[Json]:
    """What is to be looked at comes before the text, as Anthropic advises."""
    if not message.attached:
        return message.text
    if message.video:
        raise ValueError("Anthropic's request has no place for a video")
    content = [_anthropic_document(document, files) for document in message.documents]
    content += [{"type": "image", "source": _anthropic_source(image, files)} for image in message.images]
    if message.text:  # an empty text block would be refused
        content.append({"type": "text", "text": message.text})
    return content


def _anthropic_document(document: Document, files: Files) -> Json:
    """A PDF as it is, and any kind of text as plain text: there is no other."""
    file = document.content
    if isinstance(file, DiskFile) and file.media_type.startswith("text/"):
        source: Json = {"type": "text", "media_type": "text/plain", "data": files.text(file)}
    else:
        source = _anthropic_source(file, files)
    return {"type": "document", "source": source, "title": document.name}


def _anthropic_source(file: Image | DiskFile | S3Object, files: Files) -> Json:
    if isinstance(file, S3Object):
        raise ValueError("Anthropic's request cannot name an object in S3")  # noqa: TRY004 - as all that can't be sent
    return {"type": "base64", "media_type": file.sent_type, "data": files.base64(file)}


def anthropic_reply(reply: Json, headers: Mapping[str, str]) -> Reply:
    if reply.get("type") == "error":
        raise _model_fault(reply)
    content = content_of(reply)
    text = "".join(text_of(block) for block in content if block.get("type") == "text")
    usage = _anthropic_usage(reply.get("usage")) or header_usage(headers)
    return Reply(text=sound(text), stop_reason=stop_reason(reply, "stop_reason"), usage=usage)


def _model_fault(event: Json) -> ModelFault:
    error = object_in(event, "error", "error")
    return ModelFault(str(error.get("type", "error")), str(error.get("message", "")))


def _anthropic_usage(usage: Any) -> Usage | None:
    return usage_from(usage, "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class AnthropicStream:
    """`chunk` events, each with one event of the Messages API inside."""

    def __init__(self) -> None:
        self.done = False
        self._blocks: dict[int, list[str]] = {}
        self._usage: Json = {}
        self._metrics: Any = None
        self._stop_reason: str | None = None

    def event(self, event: Event) -> str:
        inner = chunk_in(event)
        return "" if inner is None else self.message_event(from_json(inner))

    def message_event(self, event: Json) -> str:
        match event.get("type"):
            case "content_block_delta":  # most events, so it comes first
                delta = object_in(event, "delta", "content_block_delta")
                if delta.get("type") == "text_delta":
                    return self._add(event, text_of(delta))
            case "content_block_start":
                text = object_in(event, "content_block", "content_block_start").get("text")
                return self._add(event, text) if isinstance(text, str) else ""
            case "message_start":
                self._count(object_in(event, "message", "message_start").get("usage"))
            case "message_delta":
                self._stop_reason = object_in(event, "delta", "message_delta").get("stop_reason") or self._stop_reason
                self._count(event.get("usage"))
            case "message_stop":
                self._metrics = event.get(INVOCATION_METRICS)
                self.done = True
            case "error":
                raise _model_fault(event)
        return ""

    def reply(self) -> Reply:
        if not self.done:
            raise IncompleteReply("the stream ended before message_stop")
        if not isinstance(self._stop_reason, str):
            raise IncompleteReply("the stream gave no stop reason")
        usage = _anthropic_usage(self._usage or None) or metrics_usage(self._metrics)
        return Reply(text=joined(self._blocks), stop_reason=self._stop_reason, usage=usage)

    def _add(self, event: Json, text: str) -> str:
        if text:
            self._blocks.setdefault(index_of(event, "index"), []).append(text)
        return text

    def _count(self, usage: Any) -> None:
        """Keep the newest of each count: those of message_delta are totals, and may not repeat the input's."""
        if isinstance(usage, dict):
            self._usage.update({name: count for name, count in usage.items() if count is not None})
