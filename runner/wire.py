"""What is asked as a request body, and what came back as a Reply: one class per API, without any I/O.

A reply counts only if it is whole. Whatever lacks its output or its end raises IncompleteReply, so that a cut reply is
never taken for a short one.
"""

from __future__ import annotations

import json
import re
from binascii import a2b_base64
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import orjson

from runner import body_images, model_ids, structured
from runner.media import rules
from runner.media.formats import bedrock_name
from runner.records import DiskFile, Reply, S3Object, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.eventstream import Event
    from runner.records import Case, Document, Image, Message, Request, Video

    Json = dict[str, Any]

ANTHROPIC_VERSION = "bedrock-2023-05-31"
INVOCATION_METRICS = "amazon-bedrock-invocationMetrics"

_JSON = "application/json"
_ENCODER = json.JSONEncoder(allow_nan=False)
_MOST_TOKENS = 10**12  # a larger count is no count


class IncompleteReply(Exception):  # noqa: N818 - what came back is the point, not that it is an exception
    """What came back is not a whole reply. `reason` says what is missing or damaged."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelFault(Exception):  # noqa: N818 - as above: an error that the model sent in place of an event
    """The model sent an error in place of a reply or an event: `code` such as `overloaded_error`, and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ReplyStream(Protocol):
    """Puts the events of one stream together."""

    @property
    def done(self) -> bool:
        """Whether nothing more is needed: the end has come, and the usage with it."""

    def event(self, event: Event) -> str:
        """Take the next event; return the text that it adds. Raises IncompleteReply or ModelFault."""

    def reply(self) -> Reply:
        """The whole reply. Raises IncompleteReply if its end has not come."""


class Files(Protocol):
    """Gives the content of files for a body. Raises CallError for one that can't be read."""

    def base64(self, file: Image | DiskFile) -> str:
        """What stands for the content in base64."""

    def text(self, file: DiskFile) -> str:
        """The text in a file."""


class Wire(Protocol):
    """How one API carries a request and its reply."""

    def operation(self, *, stream: bool) -> str:
        """The last segment of the path."""

    def headers(self, *, stream: bool) -> Mapping[str, str]:
        """The headers that depend on the API."""

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        """The request's body. `files` gives the content of what it attaches. Raises ValueError if it can't be sent."""

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        """Read a reply that came in one piece; `headers` are the response's. Raises IncompleteReply."""

    def stream(self) -> ReplyStream:
        """Begin a reply that comes in events."""


def wire_for(case: Case) -> Wire:
    """The wire that carries `case`."""
    if case.request.body is not None:
        return RawInvokeWire()
    return InvokeWire() if case.job.api == "invoke" else ConverseWire(case.job.model)


# --- Anthropic Messages over InvokeModel -----------------------------------------------------------------------------


class InvokeWire:
    """The Messages API of Anthropic's models, as the body of InvokeModel."""

    def operation(self, *, stream: bool) -> str:
        return "invoke-with-response-stream" if stream else "invoke"

    def headers(self, *, stream: bool) -> Mapping[str, str]:
        return {"Content-Type": _JSON, "X-Amzn-Bedrock-Accept" if stream else "Accept": _JSON}

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        inference = request.inference
        body: Json = {"anthropic_version": ANTHROPIC_VERSION, "max_tokens": inference.max_tokens}
        if (system := structured.system(request, messages)) is not None:
            body["system"] = system
        body["messages"] = [
            {"role": message.role, "content": _anthropic_content(message, files)} for message in _alternating(messages)
        ]
        for name in ("temperature", "top_p", "top_k"):
            value = getattr(inference, name)
            if value is not None:
                body[name] = value
        if inference.stop:
            body["stop_sequences"] = inference.stop
        if wanted := structured.native(request, messages):
            body["output_config"] = {"format": {"type": "json_schema", "schema": wanted.schema}}
        return _dumps(_merged(body, request.extra))

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        return _anthropic_reply(_loads(payload), headers)

    def stream(self) -> ReplyStream:
        return _AnthropicStream()


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


def _anthropic_reply(reply: Json, headers: Mapping[str, str]) -> Reply:
    if reply.get("type") == "error":
        raise _model_fault(reply)
    content = _content(reply)
    text = "".join(_text_of(block) for block in content if block.get("type") == "text")
    usage = _anthropic_usage(reply.get("usage")) or _header_usage(headers)
    return Reply(text=_sound(text), stop_reason=_stop_reason(reply, "stop_reason"), usage=usage)


def _model_fault(event: Json) -> ModelFault:
    error = _object(event, "error", "error")
    return ModelFault(str(error.get("type", "error")), str(error.get("message", "")))


def _anthropic_usage(usage: Any) -> Usage | None:
    return _usage(usage, "input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


class _AnthropicStream:
    """`chunk` events, each with one event of the Messages API inside."""

    def __init__(self) -> None:
        self.done = False
        self._blocks: dict[int, list[str]] = {}
        self._usage: Json = {}
        self._metrics: Any = None
        self._stop_reason: str | None = None

    def event(self, event: Event) -> str:
        inner = _chunk(event)
        return "" if inner is None else self.message_event(_loads(inner))

    def message_event(self, event: Json) -> str:
        match event.get("type"):
            case "content_block_delta":  # most events, so it comes first
                delta = _object(event, "delta", "content_block_delta")
                if delta.get("type") == "text_delta":
                    return self._add(event, _text_of(delta))
            case "content_block_start":
                text = _object(event, "content_block", "content_block_start").get("text")
                return self._add(event, text) if isinstance(text, str) else ""
            case "message_start":
                self._count(_object(event, "message", "message_start").get("usage"))
            case "message_delta":
                self._stop_reason = _object(event, "delta", "message_delta").get("stop_reason") or self._stop_reason
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
        usage = _anthropic_usage(self._usage or None) or _metrics_usage(self._metrics)
        return Reply(text=_joined(self._blocks), stop_reason=self._stop_reason, usage=usage)

    def _add(self, event: Json, text: str) -> str:
        if text:
            self._blocks.setdefault(_index(event, "index"), []).append(text)
        return text

    def _count(self, usage: Any) -> None:
        """Keep the newest of each count: those of message_delta are totals, and may not repeat the input's."""
        if isinstance(usage, dict):
            self._usage.update({name: count for name, count in usage.items() if count is not None})


# --- Converse --------------------------------------------------------------------------------------------------------


class ConverseWire:
    """The Converse API, the same for every model."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._provider = model_ids.provider(model)

    def operation(self, *, stream: bool) -> str:
        return "converse-stream" if stream else "converse"

    def headers(self, *, stream: bool) -> Mapping[str, str]:  # noqa: ARG002 - the same either way
        return {"Content-Type": _JSON}

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        cites = self._cites(messages)
        body: Json = {
            "messages": [
                {"role": message.role, "content": _converse_content(message, files, cites=cites)}
                for message in _alternating(messages)
            ]
        }
        if (system := structured.system(request, messages)) is not None:
            body["system"] = [{"text": system}]
        body["inferenceConfig"] = _inference_config(request)
        if wanted := structured.native(request, messages):
            structure = {"jsonSchema": {"schema": wanted.text}}
            body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
        if more := _merged(self._top_k(request.inference.top_k), request.extra):
            body["additionalModelRequestFields"] = more
        return _dumps(body)

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        return _converse_reply(_loads(payload), headers)

    def stream(self) -> ReplyStream:
        return _ConverseStream()

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


def _converse_reply(reply: Json, headers: Mapping[str, str]) -> Reply:
    message = _object(_object(reply, "output", "reply"), "message", "reply's output")
    text = "".join(map(_converse_text, _content(message)))
    usage = _converse_usage(reply.get("usage")) or _header_usage(headers)
    return Reply(text=_sound(text), stop_reason=_stop_reason(reply, "stopReason"), usage=usage)


def _converse_text(block: Json) -> str:
    """The text of a block. Where the model cites a document, its text is in parts inside."""
    if "citationsContent" in block:
        parts = _content(_object(block, "citationsContent", "block"))
        return "".join(_text_of(part) for part in parts if "text" in part)
    return _text_of(block) if "text" in block else ""


def _converse_usage(usage: Any) -> Usage | None:
    return _usage(usage, "inputTokens", "outputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class _ConverseStream:
    """One event per frame; `metadata` with the usage comes after `messageStop`."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[str]] = {}
        self._usage: Usage | None = None
        self._stop_reason: str | None = None

    @property
    def done(self) -> bool:
        return self._stop_reason is not None and self._usage is not None

    def event(self, event: Event) -> str:
        return self.named_event(str(event.headers.get(":event-type", "")), _loads(event.payload))

    def named_event(self, name: str, payload: Json) -> str:
        """Take an event by its name, which is in a header under ConverseStream and in the JSON in Nova's own stream."""
        match name:
            case "contentBlockDelta":
                delta = _object(payload, "delta", name)
                if "text" in delta:
                    text = _text_of(delta)
                    self._blocks.setdefault(_index(payload, "contentBlockIndex"), []).append(text)
                    return text
            case "messageStop":
                self._stop_reason = _stop_reason(payload, "stopReason")
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
        return Reply(text=_joined(self._blocks), stop_reason=self._stop_reason, usage=self._usage)


# --- any other body over InvokeModel ---------------------------------------------------------------------------------


class RawInvokeWire(InvokeWire):
    """A body that the job wrote itself, for any model. The reply's text is looked for where the families have it."""

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:  # noqa: ARG002 - the body is all there is
        if not request.images:
            return _dumps(request.body)
        images = {image.sha256: image for image in request.images}
        return _dumps(body_images.with_content(request.body, images, files.base64))

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        reply = _loads_exactly(payload)
        if isinstance(reply, dict):
            if reply.get("type") in {"message", "error"}:
                return _anthropic_reply(reply, headers)
            if "output" in reply and "stopReason" in reply:
                return _converse_reply(reply, headers)
        text, stop_reason = _raw_text(reply)
        return Reply(
            text=payload.decode(errors="replace") if text is None else _sound(text),
            stop_reason=stop_reason,
            usage=_header_usage(headers) or _raw_usage(reply),
        )

    def stream(self) -> ReplyStream:
        return _RawStream()


class _RawStream:
    """Chunks of any family. Bedrock adds its invocation metrics to the last one, whichever model sends it."""

    def __init__(self) -> None:
        self._anthropic = _AnthropicStream()
        self._nova = _ConverseStream()
        self._texts: list[str] = []
        self._chunks: list[bytes] = []
        self._metrics: Any = None
        self._stop_reason: str | None = None

    @property
    def done(self) -> bool:
        return self._metrics is not None or self._anthropic.done or self._nova.done

    def event(self, event: Event) -> str:
        payload = _chunk(event)
        if payload is None:
            return ""
        self._chunks.append(payload)
        inner = _loads(payload)
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
        return Reply(text=_sound(text), stop_reason=self._stop_reason, usage=_metrics_usage(self._metrics))

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
    return json.dumps(_loads_exactly(chunk), ensure_ascii=False)


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
        return _usage({**reply, **first}, "inputTextTokenCount", "tokenCount")
    if "prompt_token_count" in reply:
        return _usage(reply, "prompt_token_count", "generation_token_count")
    usage = reply.get("usage")
    return _usage(usage, "prompt_tokens", "completion_tokens")


# --- common ----------------------------------------------------------------------------------------------------------


def _alternating(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages; ValueError where two of one role follow each other, which no API takes."""
    for before, after in pairwise(messages):
        if before.role == after.role:
            raise ValueError(f"two {after.role} messages follow each other")
    return messages


def _merged(ours: Mapping[str, Any], extra: Mapping[str, Any]) -> Json:
    """`extra` over `ours`, objects merged key by key."""
    merged = dict(ours)
    for name, value in extra.items():
        both_objects = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = _merged(merged[name], value) if both_objects else value
    return merged


def _dumps(value: Any) -> bytes:
    """JSON as boto3 writes it, so that a Converse body is boto3's byte for byte. ValueError for NaN and infinities."""
    return _ENCODER.encode(value).encode()


def _loads(payload: bytes) -> Json:
    """A JSON object. Integers of more than 64 bits lose their last digits: no API counts so far."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:  # it takes no half of a surrogate pair, which models do send
        value = _loads_exactly(payload)
    if not isinstance(value, dict):
        raise IncompleteReply("the reply is not a JSON object")
    return value


def _loads_exactly(payload: bytes) -> Any:
    """Any JSON, with every digit."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise IncompleteReply(f"the reply is not whole JSON ({len(payload)} bytes came)") from error


def _chunk(event: Event) -> bytes | None:
    """The model's own event inside a `chunk`, as JSON; None for an event of another type."""
    if event.headers.get(":event-type") != "chunk":
        return None
    encoded = _loads(event.payload).get("bytes")
    if not isinstance(encoded, str):
        raise IncompleteReply("a chunk of the stream has no bytes")
    try:
        return a2b_base64(encoded, strict_mode=True)
    except ValueError as error:
        raise IncompleteReply("a chunk of the stream is not base64") from error


def _content(message: Json) -> list[Json]:
    content = message.get("content")
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise IncompleteReply("the reply has no content")
    return content


def _object(parent: Json, name: str, where: str) -> Json:
    value = parent.get(name)
    if not isinstance(value, dict):
        raise IncompleteReply(f"the {where} has no {name}")
    return value


def _text_of(block: Json) -> str:
    text = block.get("text")
    if not isinstance(text, str):
        raise IncompleteReply("a text block has no text")
    return text


def _stop_reason(reply: Json, name: str) -> str:
    """The stop reason. Its values are data: models bring new ones."""
    value = reply.get(name)
    if not isinstance(value, str):
        raise IncompleteReply("the reply has no stop reason")
    return value


def _index(event: Json, name: str) -> int:
    value = event.get(name)
    if not isinstance(value, int):
        raise IncompleteReply(f"a content block of the stream has no {name}")
    return value


def _joined(blocks: Mapping[int, list[str]]) -> str:
    """The text of all blocks in the order of their index, in which they need not have come."""
    return _sound("".join("".join(blocks[index]) for index in sorted(blocks)))


def _sound(text: str) -> str:
    """The text with surrogate pairs joined, whose halves may have come in two deltas. A lone half stays what it is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return text


_COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def _usage(counts: Any, *names: str) -> Usage | None:
    """Usage from the counts of these names: input, output, cache read, cache write. None if there are none."""
    if not isinstance(counts, dict):
        return None
    found = {field: count for field, name in zip(_COUNTS, names, strict=False) if _is_count(count := counts.get(name))}
    return Usage(**found) if found else None


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _metrics_usage(metrics: Any) -> Usage | None:
    return _usage(
        metrics, "inputTokenCount", "outputTokenCount", "cacheReadInputTokenCount", "cacheWriteInputTokenCount"
    )


def _header_usage(headers: Mapping[str, str]) -> Usage | None:
    names = ("input", "output", "cache-read-input", "cache-write-input")
    counts = {name: headers.get(f"x-amzn-bedrock-{name}-token-count", "") for name in names}
    return _usage({name: int(count) for name, count in counts.items() if re.fullmatch("[0-9]{1,13}", count)}, *names)
