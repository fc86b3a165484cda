"""Converse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.bedrock import structured
from runner.bedrock.wire.protocol import Files, IncompleteReply, ReplyStream
from runner.bedrock.wire.reading import (
    JSON_TYPE,
    alternating,
    content_of,
    from_json,
    header_usage,
    index_of,
    joined,
    object_in,
    sound,
    stop_reason,
    text_of,
    to_json,
    usage_from,
    with_extra,
)
from runner.media import rules
from runner.media.formats import bedrock_name
from runner.models import model_ids
from runner.records import Reply, S3Object, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.bedrock.eventstream import Event
    from runner.records import Image, Message, Request, Video

    Json = dict[str, Any]


class ConverseWire:
    """The Converse API, the same for every model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._provider = model_ids.provider(model)

    def operation(self, *, stream: bool) -> str:
        return "converse-stream" if stream else "converse"

    def headers(self, *, stream: bool) -> Mapping[str, str]:  # noqa: ARG002 - the same either way
        return {"Content-Type": JSON_TYPE}

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        cites = self._cites(messages)
        body: Json = {
            "messages": [
                {"role": message.role, "content": _converse_content(message, files, cites=cites)}
                for message in alternating(messages)
            ]
        }
        if (system := structured.system(request, messages)) is not None:
            body["system"] = [{"text": system}]
        body["inferenceConfig"] = _inference_config(request)
        if wanted := structured.native(request, messages):
            structure = {"jsonSchema": {"schema": wanted.text}}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        if more := with_extra(self._top_k(request.inference.top_k), request.extra):
            body["additionalModelRequestFields"] = more
        return to_json(body)

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        return converse_reply(from_json(payload), headers)

    def stream(self) -> ReplyStream:
        return ConverseStream()

    def _cites(self, messages: Sequence[Message]) -> bool:
        """Whether the model is to cite from the documents, without which Converse shows Claude no page of a PDF. Claude
        takes that for all documents of a request or for none.
        """
        documents = (document.content for message in messages for document in message.documents)
        return rules.sees_pages_by_citing(self._model) and any(
            content.media_type == "application/pdf" for content in documents
        )

    def _top_k(self, top_k: int | None) -> Json:
        """Converse has no field for top_k; each family has its own."""
        if top_k is None:
            return {}
        if self._provider == "amazon":
            return {"inferenceConfig": {"topK": top_k}}
        return {"k" if self._provider == "cohere" else "top_k": top_k}


def _converse_content(message: Message, files: Files, *, cites: bool) -> list[Json]:
    """What is to be looked at comes before the text, as the makers of Claude and of Nova advise."""
    content: list[Json] = []
    for document in message.documents:
        named = {"name": document.name, **_converse_file(document.content, files)}
        content.append({"document": {**named, "citations": {"enabled": True}} if cites else named})
    content += [{"image": _converse_file(image, files)} for image in message.images]
    if message.video:
        content.append({"video": _converse_file(message.video, files)})
    if message.text or not content:
        content.append({"text": message.text})
    return content


def _converse_file(file: Image | Video, files: Files) -> Json:
    if isinstance(file, S3Object):
        return {"format": bedrock_name(file.media_type), "source": {"s3Location": {"uri": file.path}}}
    return {"format": bedrock_name(file.sent_type), "source": {"bytes": files.base64(file)}}


def _inference_config(request: Request) -> Json:
    inference = request.inference
    config: Json = {"maxTokens": inference.max_tokens}
    if inference.temperature is not None:
        config["temperature"] = inference.temperature
    if inference.top_p is not None:
        config["topP"] = inference.top_p
    if inference.stop:
        config["stopSequences"] = inference.stop
    return config


def converse_reply(reply: Json, headers: Mapping[str, str]) -> Reply:
    message = object_in(object_in(reply, "output", "reply"), "message", "reply's output")
    text = "".join(map(_converse_text, content_of(message)))
    usage = _converse_usage(reply.get("usage")) or header_usage(headers)
    return Reply(text=sound(text), stop_reason=stop_reason(reply, "stopReason"), usage=usage)


def _converse_text(block: Json) -> str:
    """The text of a block. Where the model cites a document, its text is in parts inside."""
    if "citationsContent" in block:
        parts = content_of(object_in(block, "citationsContent", "block"))
        return "".join(text_of(part) for part in parts if "text" in part)
    return text_of(block) if "text" in block else ""


def _converse_usage(usage: Any) -> Usage | None:
    return usage_from(usage, "inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class ConverseStream:
    """One event per frame; `metadata` with the usage comes after `messageStop`."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[str]] = {}
        self._usage: Usage | None = None
        self._stop_reason: str | None = None

    @property
    def done(self) -> bool:
        return self._stop_reason is not None and self._usage is not None

    def event(self, event: Event) -> str:
        return self.named_event(str(event.headers.get(":event-type", "")), from_json(event.payload))

    def named_event(self, name: str, payload: Json) -> str:
        """Take an event by its name, which is in a header under ConverseStream and in the JSON in Nova's own stream."""
        match name:
            case "contentBlockDelta":
                delta = object_in(payload, "delta", name)
                if "text" in delta:
                    text = text_of(delta)
                    self._blocks.setdefault(index_of(payload, "contentBlockIndex"), []).append(text)
                    return text
            case "messageStop":
                self._stop_reason = stop_reason(payload, "stopReason")
            case "metadata":
                self._usage = _converse_usage(payload.get("usage"))
                if self._usage is None:
                    raise IncompleteReply("the stream's metadata has no usage")
        return ""

    def reply(self) -> Reply:
        if self._stop_reason is None:
            raise IncompleteReply("the stream ended before messageStop")
        if self._usage is None:
            raise IncompleteReply("the stream ended before its metadata, which has the usage")
        return Reply(text=joined(self._blocks), stop_reason=self._stop_reason, usage=self._usage)
