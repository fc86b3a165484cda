from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from runner.bedrock.eventstream import Event
from runner.bedrock.wire import (
    ConverseWire,
    IncompleteReply,
    InvokeWire,
    ModelFault,
    RawInvokeWire,
    ReplyStream,
    Wire,
)
from runner.records import DiskFile, Document, Image, Inference, Message, Reply, Request, S3Object, Usage

IMAGE = Image(path="red.png", file=Path("red.png"), sha256="00", bytes=3, media_type="image/png", width=1, height=1)
USER = Message(role="user", text="hello")
ASSISTANT = Message(role="assistant", text="hi")
CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


class Files:
    """Stands for what is on disk."""

    def base64(self, file: Image | DiskFile) -> str:
        return f"<{file.path}>"

    def text(self, file: DiskFile) -> str:
        return f"text of <{file.path}>"


def body(wire: Wire, request: Request, *messages: Message) -> Any:
    return json.loads(wire.body(request, messages or (USER,), Files()))


# --- requests --------------------------------------------------------------------------------------------------------


def test_invoke_writes_the_body_of_the_seed_byte_for_byte() -> None:
    request = Request(messages=(USER,))
    assert InvokeWire().body(request, request.messages, Files()) == (
        b'{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024, '
        b'"messages": [{"role": "user", "content": "hello"}]}'
    )


def test_invoke_with_everything() -> None:
    request = Request(
        system="Be brief.",
        inference=Inference(max_tokens=5, temperature=0, top_p=0.9, top_k=3, stop=("END",)),
        extra={"anthropic_beta": ["b"], "max_tokens": 6, "thinking": {"type": "disabled"}},
    )
    picture = Message(role="user", text="colour?", images=(IMAGE,))
    assert body(InvokeWire(), request, USER, ASSISTANT, picture) == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 6,
        "system": "Be brief.",
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "<red.png>"},
                    },
                    {"type": "text", "text": "colour?"},
                ],
            },
        ],
        "temperature": 0,
        "top_p": 0.9,
        "top_k": 3,
        "stop_sequences": ["END"],
        "anthropic_beta": ["b"],
        "thinking": {"type": "disabled"},
    }


def test_converse_with_everything() -> None:
    request = Request(
        system="Be brief.",
        inference=Inference(max_tokens=5, temperature=0, top_p=0.9, top_k=3, stop=("END",)),
        extra={"thinking": {"type": "disabled"}},
    )
    picture = Message(role="user", text="colour?", images=(IMAGE,))
    assert body(ConverseWire(CLAUDE), request, USER, ASSISTANT, picture) == {
        "messages": [
            {"role": "user", "content": [{"text": "hello"}]},
            {"role": "assistant", "content": [{"text": "hi"}]},
            {
                "role": "user",
                "content": [
                    {"image": {"format": "png", "source": {"bytes": "<red.png>"}}},
                    {"text": "colour?"},
                ],
            },
        ],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 5, "temperature": 0, "topP": 0.9, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 3, "thinking": {"type": "disabled"}},
    }


def test_an_image_alone_has_no_empty_text_beside_it() -> None:
    picture = Message(role="user", text="", images=(IMAGE,))
    assert len(body(InvokeWire(), Request(), picture)["messages"][0]["content"]) == 1
    assert len(body(ConverseWire(CLAUDE), Request(), picture)["messages"][0]["content"]) == 1


def on_disk(path: str, media_type: str) -> DiskFile:
    return DiskFile(path=path, file=Path(path), sha256="00", bytes=3, media_type=media_type, tokens=1)


PDF = Document(name="Document 1", content=on_disk("a.pdf", "application/pdf"))
NOTES = Document(name="Document 2", content=on_disk("notes.md", "text/markdown"))
SHEET = Document(
    name="Document 3",
    content=on_disk("a.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
)
CITED = {"citations": {"enabled": True}}


def test_documents_of_an_invoke_body_are_pdf_or_plain_text_and_come_first() -> None:
    message = Message(role="user", text="Compare", images=(IMAGE,), documents=(PDF, NOTES))
    sent = InvokeWire().body(Request(), [message], Files())
    assert json.loads(sent)["messages"][0]["content"] == [
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "<a.pdf>"},
            "title": "Document 1",
        },
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "text of <notes.md>"},
            "title": "Document 2",
        },
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "<red.png>"}},
        {"type": "text", "text": "Compare"},
    ]


def test_what_an_invoke_body_has_no_place_for_is_never_sent() -> None:
    far = S3Object(path="s3://bucket/a.pdf", media_type="application/pdf")
    for message in (
        Message(role="user", text="x", video=on_disk("a.mp4", "video/mp4")),
        Message(role="user", text="x", documents=(Document(name="Document 1", content=far),)),
        Message(role="user", text="x", images=(S3Object(path="s3://bucket/a.png", media_type="image/png"),)),
    ):
        with pytest.raises(ValueError, match="Anthropic's request"):
            InvokeWire().body(Request(), [message], Files())


def test_a_converse_body_has_documents_images_and_video_before_the_text() -> None:
    message = Message(
        role="user",
        text="Compare",
        images=(IMAGE, S3Object(path="s3://bucket/a.jpg", media_type="image/jpeg")),
        documents=(NOTES, SHEET),
        video=on_disk("a.3gp", "video/3gpp"),
    )
    assert body(ConverseWire("amazon.nova-lite-v1:0"), Request(), message)["messages"][0]["content"] == [
        {"document": {"name": "Document 2", "format": "md", "source": {"bytes": "<notes.md>"}}},
        {"document": {"name": "Document 3", "format": "xlsx", "source": {"bytes": "<a.xlsx>"}}},
        {"image": {"format": "png", "source": {"bytes": "<red.png>"}}},
        {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://bucket/a.jpg"}}}},
        {"video": {"format": "three_gp", "source": {"bytes": "<a.3gp>"}}},
        {"text": "Compare"},
    ]


@pytest.mark.parametrize(
    ("model", "cites"),
    [
        (CLAUDE, True),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", True),
        ("anthropic.claude-3-haiku-20240307-v1:0", False),
        ("amazon.nova-lite-v1:0", False),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", False),
    ],
)
def test_claude_cites_from_all_documents_of_a_conversation_with_a_pdf(model: str, *, cites: bool) -> None:
    first = Message(role="user", text="Read", documents=(NOTES,))
    then = Message(role="user", text="And", documents=(PDF,))
    messages = body(ConverseWire(model), Request(), first, ASSISTANT, then)["messages"]
    documents = [block["document"] for message in messages for block in message["content"] if "document" in block]
    assert [document.get("citations") for document in documents] == [CITED["citations"] if cites else None] * 2
    (alone,) = body(ConverseWire(model), Request(), first)["messages"]
    assert "citations" not in alone["content"][0]["document"]


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (CLAUDE, {"top_k": 9}),
        ("amazon.nova-lite-v1:0", {"inferenceConfig": {"topK": 9}}),
        ("eu.amazon.nova-pro-v1:0", {"inferenceConfig": {"topK": 9}}),
        ("cohere.command-r-v1:0", {"k": 9}),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", {"top_k": 9}),
    ],
)
def test_top_k_of_each_family_under_converse(model: str, fields: dict[str, Any]) -> None:
    request = Request(inference=Inference(top_k=9))
    assert body(ConverseWire(model), request)["additionalModelRequestFields"] == fields


def test_extra_is_merged_into_objects_and_wins() -> None:
    request = Request(inference=Inference(top_k=9), extra={"inferenceConfig": {"topK": 1, "x": 2}})
    fields = body(ConverseWire("amazon.nova-lite-v1:0"), request)["additionalModelRequestFields"]
    assert fields == {"inferenceConfig": {"topK": 1, "x": 2}}


def test_a_raw_body_is_sent_as_it_is() -> None:
    assert body(RawInvokeWire(), Request(body={"inputText": "x"})) == {"inputText": "x"}


@pytest.mark.parametrize("wire", [InvokeWire(), ConverseWire(CLAUDE)])
def test_two_messages_of_one_role_are_never_sent(wire: Wire) -> None:
    with pytest.raises(ValueError, match="two user messages"):
        body(wire, Request(), USER, USER)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_does_not_have_is_never_sent(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        body(InvokeWire(), Request(extra={"x": value}))


def test_operations_and_headers() -> None:
    invoke, converse = InvokeWire(), ConverseWire(CLAUDE)
    json_type = "application/json"
    assert [wire.operation(stream=stream) for wire in (invoke, converse) for stream in (False, True)] == [
        "invoke",
        "invoke-with-response-stream",
        "converse",
        "converse-stream",
    ]
    assert invoke.headers(stream=False) == {"Content-Type": json_type, "Accept": json_type}
    assert invoke.headers(stream=True) == {"Content-Type": json_type, "X-Amzn-Bedrock-Accept": json_type}
    assert converse.headers(stream=True) == converse.headers(stream=False) == {"Content-Type": json_type}


# --- replies in one piece --------------------------------------------------------------------------------------------


def reply(wire: Wire, payload: Any, **headers: str) -> Reply:
    encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return wire.reply(encoded, {name.replace("_", "-"): value for name, value in headers.items()})


MESSAGE = {
    "type": "message",
    "content": [
        {"type": "thinking", "thinking": "hmm", "signature": "s"},
        {"type": "text", "text": "one "},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"text": "x"}},
        {"type": "text", "text": "two"},
    ],
    "stop_reason": "tool_use",
    "usage": {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
    },
}
CONVERSE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hmm"}}},
                {"text": "one "},
                {"toolUse": {"toolUseId": "t", "name": "n", "input": {}}},
                {"text": "two"},
            ],
        }
    },
    "stopReason": "something_new",
    "usage": {
        "inputTokens": 1,
        "outputTokens": 2,
        "totalTokens": 3,
        "cacheReadInputTokens": 3,
        "cacheWriteInputTokens": 4,
    },
}
USAGE = Usage(input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4)


def test_text_that_cites_a_document_is_text() -> None:
    citation = {"title": "Document 1", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}
    content = [
        {"text": "It says "},
        {"citationsContent": {"content": [{"text": "that it "}, {"text": "leaks"}], "citations": [citation]}},
        {"text": "."},
    ]
    payload = {"output": {"message": {"content": content}}, "stopReason": "end_turn", "usage": {}}
    assert reply(ConverseWire(CLAUDE), payload).text == "It says that it leaks."
    content[1] = {"citationsContent": {"content": "leaks"}}
    with pytest.raises(IncompleteReply):
        reply(ConverseWire(CLAUDE), payload)


def test_text_is_all_text_blocks_and_nothing_else() -> None:
    assert reply(InvokeWire(), MESSAGE) == Reply(text="one two", stop_reason="tool_use", usage=USAGE)
    assert reply(ConverseWire(CLAUDE), CONVERSE) == Reply(text="one two", stop_reason="something_new", usage=USAGE)
    assert reply(RawInvokeWire(), MESSAGE).text == reply(RawInvokeWire(), CONVERSE).text == "one two"


@pytest.mark.parametrize("content", [[], [{"type": "tool_use", "id": "t"}], [{"type": "text", "text": ""}]])
def test_a_reply_without_text_is_whole(content: list[Any]) -> None:
    assert reply(InvokeWire(), {**MESSAGE, "content": content, "stop_reason": "refusal"}).text == ""


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe\xff",
        b"[" * 100_000,
        json.dumps(MESSAGE).encode()[:-1],
        {},
        {"type": "message", "content": [], "stop_reason": None},
        {"type": "message", "content": []},
        {"type": "message", "stop_reason": "end_turn"},
        {"content": "text", "stop_reason": "end_turn"},
        {"content": ["text"], "stop_reason": "end_turn"},
        {"content": [{"type": "text"}], "stop_reason": "end_turn"},
        {"message": MESSAGE},
    ],
)
def test_an_invoke_reply_that_is_not_whole(payload: Any) -> None:
    with pytest.raises(IncompleteReply):
        reply(InvokeWire(), payload)


@pytest.mark.parametrize(
    "payload",
    [
        json.dumps(CONVERSE).encode()[:100],
        {},
        {"stopReason": "end_turn", "usage": CONVERSE["usage"]},
        {**CONVERSE, "output": None},
        {**CONVERSE, "output": {}},
        {**CONVERSE, "output": {"message": {}}},
        {**CONVERSE, "stopReason": None},
        {"output": CONVERSE["output"]},
        {"ConverseResponse": CONVERSE},
    ],
)
def test_a_converse_reply_that_is_not_whole(payload: Any) -> None:
    with pytest.raises(IncompleteReply):
        reply(ConverseWire(CLAUDE), payload)


def test_an_error_with_status_200_is_no_reply() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    for wire in (InvokeWire(), RawInvokeWire()):
        with pytest.raises(ModelFault, match="overloaded_error: Overloaded"):
            reply(wire, error)


def test_usage_from_the_headers() -> None:
    without = {key: value for key, value in MESSAGE.items() if key != "usage"}
    headers = {"x_amzn_bedrock_input_token_count": "7", "x_amzn_bedrock_output_token_count": "8"}
    assert reply(InvokeWire(), without, **headers).usage == Usage(input_tokens=7, output_tokens=8)
    assert reply(InvokeWire(), without).usage is None
    assert reply(InvokeWire(), without, x_amzn_bedrock_input_token_count="many").usage is None


def test_half_a_character_is_kept_as_it_came() -> None:
    payload = b'{"type":"message","content":[{"type":"text","text":"a\\ud83d"}],"stop_reason":"end_turn"}'
    assert reply(InvokeWire(), payload).text == "a\ud83d"


@pytest.mark.parametrize(
    ("payload", "text", "stop_reason", "usage"),
    [
        (
            {"inputTextTokenCount": 5, "results": [{"tokenCount": 6, "outputText": "Hi", "completionReason": "END"}]},
            "Hi",
            "END",
            Usage(input_tokens=5, output_tokens=6),
        ),
        (
            {"generation": "Hi", "prompt_token_count": 5, "generation_token_count": 6, "stop_reason": "stop"},
            "Hi",
            "stop",
            Usage(input_tokens=5, output_tokens=6),
        ),
        ({"outputs": [{"text": "Hi", "stop_reason": "stop"}]}, "Hi", "stop", None),
        ({"text": "Hi", "finish_reason": "COMPLETE", "generation_id": "g"}, "Hi", "COMPLETE", None),
        ({"generations": [{"text": "Hi", "finish_reason": "COMPLETE"}]}, "Hi", "COMPLETE", None),
        ({"choices": [{"text": "Hi", "stop_reason": "length"}]}, "Hi", "length", None),
        (
            {
                "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 6},
            },
            "Hi",
            "stop",
            Usage(input_tokens=5, output_tokens=6),
        ),
        ({"embedding": [0.5], "inputTextTokenCount": 2}, '{"embedding": [0.5], "inputTextTokenCount": 2}', None,
         Usage(input_tokens=2)),
        ([1, 2], "[1, 2]", None, None),
    ],
)  # fmt: skip
def test_replies_of_other_families(payload: Any, text: str, stop_reason: str | None, usage: Usage | None) -> None:
    assert reply(RawInvokeWire(), payload) == Reply(text=text, stop_reason=stop_reason, usage=usage)


def test_a_raw_reply_that_is_not_whole() -> None:
    for payload in (b"", b'{"generation": "Hi', {"type": "message", "content": []}):
        with pytest.raises(IncompleteReply):
            reply(RawInvokeWire(), payload)


# --- streams ---------------------------------------------------------------------------------------------------------


def event(name: str, payload: Any) -> Event:
    return Event({":event-type": name, ":message-type": "event"}, json.dumps(payload).encode())


def chunk(inner: Any) -> Event:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode(), "p": "abc"})


def text_delta(text: str, index: int = 0) -> Event:
    return chunk({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}})


def read(stream: ReplyStream, *events: Event) -> tuple[list[str], Reply]:
    return [text for one in events if (text := stream.event(one))], stream.reply()


START = chunk({"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}})
STOPPING = chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}})
STOP = chunk({"type": "message_stop"})


def test_an_invoke_stream() -> None:
    stream = InvokeWire().stream()
    texts, whole = read(
        stream,
        START,
        chunk({"type": "ping"}),
        chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}),
        chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hmm"}}),
        chunk({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
        text_delta("Hel", 1),
        text_delta("lo", 1),
        chunk({"type": "content_block_stop", "index": 1}),
        chunk({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{"}}),
        chunk({"type": "something_new"}),
        event("somethingNew", {}),
        STOPPING,
        STOP,
    )
    assert texts == ["Hel", "lo"]
    assert whole == Reply(text="Hello", stop_reason="end_turn", usage=Usage(input_tokens=5, output_tokens=6))
    assert stream.done


def test_blocks_are_put_in_the_order_of_their_index() -> None:
    _, whole = read(InvokeWire().stream(), START, text_delta("two", 1), text_delta("one ", 0), STOPPING, STOP)
    assert whole.text == "one two"


@pytest.mark.parametrize(
    "inner",
    [
        b'\xef\xbb\xbf{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi", "x": "\\udc00"}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi", "x": 1e999}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi", "x": NaN}}',
    ],
)
def test_an_event_is_read_even_if_its_json_is_not_strict(inner: bytes) -> None:
    event_of_chunk = event("chunk", {"bytes": base64.b64encode(inner).decode()})
    assert InvokeWire().stream().event(event_of_chunk) == "Hi"


def test_a_character_in_two_halves_is_put_together() -> None:
    _, whole = read(InvokeWire().stream(), START, text_delta("\ud83d"), text_delta("\ude00"), STOPPING, STOP)
    assert whole.text == "\N{GRINNING FACE}"


def test_usage_from_the_invocation_metrics() -> None:
    metrics = {"inputTokenCount": 5, "outputTokenCount": 6, "cacheReadInputTokenCount": 7}
    _, whole = read(
        InvokeWire().stream(),
        chunk({"type": "message_start", "message": {}}),
        chunk({"type": "message_delta", "delta": {"stop_reason": "refusal"}}),
        chunk({"type": "message_stop", "amazon-bedrock-invocationMetrics": metrics}),
    )
    assert whole == Reply(
        text="", stop_reason="refusal", usage=Usage(input_tokens=5, output_tokens=6, cache_read_tokens=7)
    )


@pytest.mark.parametrize(
    "events",
    [
        [],
        [START],
        [START, text_delta("Hi")],
        [START, text_delta("Hi"), STOPPING],
        [START, text_delta("Hi"), STOP],  # no stop reason
        [event("chunk", {"p": "a"})],
        [event("chunk", {"chunk": {"bytes": "e30="}})],
        [event("chunk", {"bytes": "%%%"})],
        [event("chunk", {"bytes": base64.b64encode(b'{"type":').decode()})],
        [chunk({"type": "content_block_delta", "index": 0})],
        [chunk({"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}})],
        [chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta"}})],
        [Event({":event-type": "chunk"}, b"{")],
    ],
)
def test_an_invoke_stream_that_is_not_whole(events: list[Event]) -> None:
    with pytest.raises(IncompleteReply):
        read(InvokeWire().stream(), *events)


def converse_delta(text: str, index: int = 0) -> Event:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": text}, "p": "ab"})


MESSAGE_STOP = event("messageStop", {"stopReason": "end_turn"})
METADATA = event("metadata", {"usage": {"inputTokens": 5, "outputTokens": 6, "totalTokens": 11}, "metrics": {}})


def test_a_converse_stream_that_cites_a_document() -> None:
    citation = {"title": "Document 1", "sourceContent": [{"text": "leaks, and badly"}]}
    pieces, whole = read(
        ConverseWire(CLAUDE).stream(),
        converse_delta("It "),
        converse_delta("leaks", 1),
        event("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"citation": citation}}),
        converse_delta(".", 2),
        event("messageStop", {"stopReason": "end_turn"}),
        event("metadata", {"usage": {"inputTokens": 1, "outputTokens": 2}}),
    )
    assert pieces == ["It ", "leaks", "."]
    assert whole.text == "It leaks."


def test_a_converse_stream() -> None:
    stream = ConverseWire(CLAUDE).stream()
    texts, whole = read(
        stream,
        event("messageStart", {"role": "assistant", "p": "a"}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "hmm"}}}),
        converse_delta("two", 2),
        converse_delta("one ", 1),
        event("contentBlockStop", {"contentBlockIndex": 1}),
        event("contentBlockStart", {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "t", "name": "n"}}}),
        event("contentBlockDelta", {"contentBlockIndex": 3, "delta": {"toolUse": {"input": "{"}}}),
        event("somethingNew", {"x": 1}),
        MESSAGE_STOP,
        METADATA,
    )
    assert texts == ["two", "one "]
    assert whole == Reply(text="one two", stop_reason="end_turn", usage=Usage(input_tokens=5, output_tokens=6))
    assert stream.done


@pytest.mark.parametrize(
    "events",
    [
        [],
        [converse_delta("Hi")],
        [converse_delta("Hi"), MESSAGE_STOP],
        [converse_delta("Hi"), METADATA],
        [event("contentBlockDelta", {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hi"}}})],
        [event("contentBlockDelta", {"delta": {"text": "Hi"}})],
        [event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": 5}})],
        [event("messageStop", {"messageStop": {"stopReason": "end_turn"}}), METADATA],
        [MESSAGE_STOP, event("metadata", {"metadata": {"usage": {"inputTokens": 1}}})],
        [Event({":event-type": "messageStop"}, b'{"stopReason":')],
    ],
)
def test_a_converse_stream_that_is_not_whole(events: list[Event]) -> None:
    with pytest.raises(IncompleteReply):
        read(ConverseWire(CLAUDE).stream(), *events)


METRICS = {"inputTokenCount": 5, "outputTokenCount": 6}


@pytest.mark.parametrize(
    ("chunks", "text", "stop_reason"),
    [
        (
            [
                {"outputText": "Hel"},
                {"outputText": "lo", "completionReason": "FINISH", "amazon-bedrock-invocationMetrics": METRICS},
            ],
            "Hello",
            "FINISH",
        ),
        (
            [
                {"generation": "Hello", "stop_reason": None},
                {"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": METRICS},
            ],
            "Hello",
            "stop",
        ),
        (
            [
                {"choices": [{"delta": {"content": "Hel"}}]},
                {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
                {"choices": [], "amazon-bedrock-invocationMetrics": METRICS},
            ],
            "Hello",
            "stop",
        ),
        (
            [
                {"messageStart": {"role": "assistant"}},
                {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hello"}}},
                {"messageStop": {"stopReason": "end_turn"}},
                {"metadata": {"usage": {"inputTokens": 5, "outputTokens": 6}}},
            ],
            "Hello",
            "end_turn",
        ),
        (
            [
                {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
                {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 6}},
                {"type": "message_stop", "amazon-bedrock-invocationMetrics": METRICS},
            ],
            "Hello",
            "end_turn",
        ),
    ],
)
def test_raw_streams_of_each_family(chunks: list[Any], text: str, stop_reason: str) -> None:
    stream = RawInvokeWire().stream()
    texts, whole = read(stream, *map(chunk, chunks))
    assert "".join(texts) == text
    assert whole == Reply(text=text, stop_reason=stop_reason, usage=Usage(input_tokens=5, output_tokens=6))
    assert stream.done


def test_a_raw_stream_of_an_unknown_family_gives_its_json() -> None:
    last = {"novel": "b", "amazon-bedrock-invocationMetrics": METRICS}
    _, whole = read(RawInvokeWire().stream(), chunk({"novel": "a"}), chunk(last))
    assert [json.loads(line) for line in whole.text.splitlines()] == [{"novel": "a"}, last]


def test_a_raw_stream_of_an_unknown_family_keeps_every_digit() -> None:
    last = {"number": 2**64 + 1, "amazon-bedrock-invocationMetrics": METRICS}
    _, whole = read(RawInvokeWire().stream(), chunk(last))
    assert json.loads(whole.text) == last


def test_a_raw_stream_without_its_last_chunk_is_not_whole() -> None:
    with pytest.raises(IncompleteReply, match="invocation metrics"):
        read(RawInvokeWire().stream(), chunk({"generation": "Hel"}))


# --- counts that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["", "-1", "1.5", "\u0663", "9" * 14, "9" * 5000])
def test_a_count_in_a_header_that_is_none_does_not_count(count: str) -> None:
    headers = {"x-amzn-bedrock-input-token-count": count, "x-amzn-bedrock-output-token-count": "2"}
    assert RawInvokeWire().reply(b'{"generation": "Hi"}', headers).usage == Usage(output_tokens=2)


@pytest.mark.parametrize("count", ["-1", "true", "1.5", "9" * 14, "9" * 4000])
def test_a_count_in_a_body_that_is_none_does_not_count(count: str) -> None:
    payload = f'{{"generation": "Hi", "prompt_token_count": {count}, "generation_token_count": 2}}'.encode()
    assert RawInvokeWire().reply(payload, {}).usage == Usage(output_tokens=2)
