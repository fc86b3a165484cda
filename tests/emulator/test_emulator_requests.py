"""Requests are checked as Bedrock checks them: status, error and words."""

from __future__ import annotations

import base64
import copy
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from emulator.conftest import Post, Start

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
NEWER = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NEWEST = "us.anthropic.claude-sonnet-5"
NOVA = "amazon.nova-lite-v1:0"
USER = {"role": "user", "content": [{"text": "Hi"}]}
ASSISTANT = {"role": "assistant", "content": [{"text": "Well"}]}


def png(width: int = 2, height: int = 2, colour: str = "red", form: str = "PNG") -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, form)
    return base64.b64encode(out.getvalue()).decode()


def image(data: str, media_type: str = "image/png") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


@pytest.fixture(scope="module")
def url() -> Any:
    from runner.emulator import Settings, running

    with running(Settings()) as url:
        yield url


def claude(**changes: Any) -> dict[str, Any]:
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    return {key: value for key, value in {**body, **changes}.items() if value is not None}


def says(*content: Any, role: str = "user") -> dict[str, Any]:
    return claude(messages=[{"role": role, "content": list(content)}])


WRONG_CLAUDE: list[tuple[str, Any, str]] = [
    (CLAUDE, claude(anthropic_version=None), "anthropic_version: Field required"),
    (CLAUDE, claude(anthropic_version="2023-06-01"), "Invalid API version"),
    (CLAUDE, claude(max_tokens=None), "max_tokens: Field required"),
    (CLAUDE, claude(max_tokens=0), "max_tokens: Input should be greater than or equal to 1"),
    (CLAUDE, claude(max_tokens=-1), "max_tokens: Input should be greater than or equal to 1"),
    (CLAUDE, claude(max_tokens="9"), "max_tokens: Input should be a valid integer"),
    (CLAUDE, claude(max_tokens=True), "max_tokens: Input should be a valid integer"),
    (CLAUDE, claude(max_tokens=8193), "The maximum tokens you requested exceeds the model limit of 8192"),
    (CLAUDE, claude(temperature=1.1), "temperature: Input should be less than or equal to 1"),
    (CLAUDE, claude(temperature=-0.1), "temperature: Input should be greater than or equal to 0"),
    (CLAUDE, claude(temperature="hot"), "temperature: Input should be a valid number"),
    (CLAUDE, claude(top_p=2), "top_p: Input should be less than or equal to 1"),
    (CLAUDE, claude(top_k=1.5), "top_k: Input should be a valid integer"),
    (NEWER, claude(temperature=0.5, top_p=0.5), "`temperature` and `top_p` cannot both be specified for this model."),
    (NEWEST, claude(temperature=0), "`temperature` is deprecated for this model."),
    (NEWEST, claude(top_p=0.5), "`top_p` is deprecated for this model."),
    (NEWEST, claude(top_k=5), "`top_k` is deprecated for this model."),
    (CLAUDE, claude(model="x"), "model: Extra inputs are not permitted"),
    (CLAUDE, claude(maxTokens=5), "maxTokens: Extra inputs are not permitted"),
    (CLAUDE, claude(messages=None), "messages: Field required"),
    (CLAUDE, claude(messages=[]), "messages: at least one message is required"),
    (CLAUDE, claude(messages="Hi"), "messages: Input should be a valid list"),
    (CLAUDE, claude(messages=["Hi"]), "messages.0: Input should be a valid dictionary"),
    (CLAUDE, claude(messages=[{"role": "user"}]), "messages.0.content: Field required"),
    (
        CLAUDE,
        claude(messages=[{"role": "user", "content": ""}]),
        "messages.0: all messages must have non-empty content",
    ),
    (CLAUDE, claude(messages=[{"role": "user", "content": "a", "name": "b"}]), "messages.0.name: Extra inputs are not"),
    (CLAUDE, says("x", role="system"), "messages.0.role: Input should be 'user' or 'assistant'"),
    (CLAUDE, says({"type": "text", "text": "x"}, role="assistant"), 'messages: first message must use the "user" role'),
    (CLAUDE, says({"type": "text", "text": ""}), "messages: text content blocks must be non-empty"),
    (CLAUDE, says({"type": "text", "text": " \n"}), "messages: text content blocks must contain non-whitespace text"),
    (
        CLAUDE,
        says({"type": "text", "text": "x", "p": 1}),
        "messages.0.content.0.text.p: Extra inputs are not permitted",
    ),
    (CLAUDE, says({"type": "video"}), "messages.0.content.0: Input tag 'video' found using 'type' does not match any"),
    (CLAUDE, claude(system=[{"type": "text", "text": ""}]), "system: text content blocks must be non-empty"),
    (CLAUDE, claude(stop_sequences="x"), "stop_sequences: Input should be a valid list"),
    (CLAUDE, claude(stop_sequences=[" "]), "stop_sequences: each stop sequence must contain non-whitespace"),
    (
        CLAUDE,
        says(*[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        NEWEST,
        claude(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well,"}]),
        "This model does not support assistant message prefill.",
    ),
    (
        CLAUDE,
        claude(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Well, "}]),
        "messages: final assistant content cannot end with trailing whitespace",
    ),
    (
        CLAUDE,
        says(image(png(), "image/jpeg")),
        "The image was specified using the image/jpeg media type, but the image appears to be a image/png image",
    ),
    (CLAUDE, says(image(png(), "image/bmp")), "messages.0.content.0.image.source.base64.media_type: Input should be"),
    (CLAUDE, says(image("????")), "messages.0.content.0.image.source.base64: invalid base64 data"),
    (CLAUDE, says(image(png()[:60])), "messages.0.content.0.image.source.base64: Could not process image"),
    (CLAUDE, says(image("aGVsbG8=")), "messages.0.content.0.image.source.base64: Could not process image"),
    (CLAUDE, says(image("A" * 5242884)), "image exceeds 5 MB maximum: 5242884 bytes > 5242880 bytes"),
    (CLAUDE, says(image(png(8001, 1))), "At least one of the image dimensions exceed max allowed size: 8000 pixels"),
    (CLAUDE, says(*[image(png(2001, 1))] * 21), "max allowed size for many-image requests: 2000 pixels"),
    (CLAUDE, says(*[image(png())] * 101), "Too much media: 0 document pages + 101 images > 100"),
    ("anthropic.claude-3-5-haiku-20241022-v1:0", says(image(png())), "does not support image input"),
    (CLAUDE, claude(messages=[{"role": "user", "content": "x" * 900_000}]), "Input is too long for requested model."),
    (CLAUDE, b"{", "Malformed input request: could not parse the body as JSON"),
    (CLAUDE, b"[" * 100_000, "Malformed input request: could not parse the body as JSON"),
    (CLAUDE, [1], "Malformed input request: #: expected type: JSONObject"),
    (CLAUDE, b"\xff", "Malformed input request: could not parse the body as JSON"),
]


@pytest.mark.parametrize(("model", "body", "message"), WRONG_CLAUDE, ids=[message[:50] for *_, message in WRONG_CLAUDE])
def test_anthropic_body(url: str, post: Post, model: str, body: Any, message: str) -> None:
    answer = post(url, body, model=model)
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert message in answer.document["message"]
    assert answer.headers["x-amzn-errortype"].endswith(":http://internal.amazon.com/coral/com.amazon.bedrock/")
    assert answer.headers["x-amzn-requestid"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (CLAUDE, claude(temperature=0.5, top_p=0.5, top_k=5, stop_sequences=["x"], metadata={}, anthropic_beta=["b"])),
        (NEWEST, claude(temperature=1.0, thinking={"type": "disabled"}, output_config={"effort": "low"})),
        (CLAUDE, claude(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])),
        (CLAUDE, claude(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "Well"}])),
        (CLAUDE, claude(system=[{"type": "text", "text": "Be kind"}], tools=[{"name": "x", "input_schema": {}}])),
        (CLAUDE, claude(max_tokens=8192)),
        (CLAUDE, says(*[image(png(2000, 1))] * 21)),
        (CLAUDE, says(image(png(8000, 1)), {"type": "text", "text": "x"})),
    ],
)
def test_anthropic_body_that_is_right(url: str, post: Post, model: str, body: Any) -> None:
    assert post(url, body, model=model).status == 200


def converse(*messages: Any, **changes: Any) -> dict[str, Any]:
    return {"messages": list(messages or (USER,)), **changes}


def picture(data: str, form: str = "png") -> dict[str, Any]:
    return {"role": "user", "content": [{"image": {"format": form, "source": {"bytes": data}}}]}


MODEL_SAYS = "The model returned the following errors: "
WRONG_CONVERSE: list[tuple[str, Any, str]] = [
    (
        CLAUDE,
        {},
        "1 validation error detected: Value at 'messages' failed to satisfy constraint: Member must not be null",
    ),
    (CLAUDE, {"messages": []}, "A conversation must start with a user message."),
    (CLAUDE, converse(ASSISTANT), "A conversation must start with a user message."),
    (CLAUDE, converse(USER, USER), "A conversation must alternate between user and assistant roles."),
    (
        CLAUDE,
        converse({"role": "system", "content": [{"text": "x"}]}),
        "Value 'system' at 'messages.1.member.role' failed",
    ),
    (
        CLAUDE,
        converse({"role": "user", "content": []}),
        "The content field in the Message object at messages.0 is empty.",
    ),
    (
        CLAUDE,
        converse({"role": "user", "content": [{"text": ""}]}),
        "ContentBlock object at messages.0.content.0 is blank",
    ),
    (
        CLAUDE,
        converse({"role": "user", "content": [{"txt": "a"}]}),
        "#/messages/0/content/0: extraneous key [txt] is not",
    ),
    (CLAUDE, converse(maxTokens=5), "Malformed input request: #: extraneous key [maxTokens] is not permitted"),
    (
        CLAUDE,
        converse(inferenceConfig={"max_tokens": 5}),
        "#/inferenceConfig: extraneous key [max_tokens] is not permitted",
    ),
    (CLAUDE, converse(inferenceConfig={"maxTokens": 0}), "Member must have value greater than or equal to 1"),
    (
        CLAUDE,
        converse(inferenceConfig={"maxTokens": 9999}),
        "exceeds the model limit of 8192. Try again with a maximum",
    ),
    (
        CLAUDE,
        converse(inferenceConfig={"temperature": 2}),
        "Value '2' at 'inferenceConfig.temperature' failed to satisfy",
    ),
    (CLAUDE, converse(inferenceConfig={"topP": -1}), "Member must have value greater than or equal to 0"),
    (CLAUDE, converse(inferenceConfig={"stopSequences": [""]}), "Member must have length greater than or equal to 1"),
    (CLAUDE, converse(inferenceConfig={"stopSequences": ["x"] * 2501}), "length less than or equal to 2500"),
    (CLAUDE, converse(system=[{"text": ""}]), "'system.1.member.text' failed to satisfy constraint"),
    (CLAUDE, converse(additionalModelRequestFields={"foo": 1}), f"{MODEL_SAYS}foo: Extra inputs are not permitted"),
    (
        NEWER,
        converse(inferenceConfig={"temperature": 1, "topP": 1}),
        f"{MODEL_SAYS}`temperature` and `top_p` cannot both",
    ),
    (NEWEST, converse(inferenceConfig={"temperature": 0}), f"{MODEL_SAYS}`temperature` is deprecated for this model."),
    (NEWEST, converse(additionalModelRequestFields={"top_k": 3}), f"{MODEL_SAYS}`top_k` is deprecated for this model."),
    (NEWEST, converse(USER, ASSISTANT), f"{MODEL_SAYS}This model does not support assistant message prefill."),
    (CLAUDE, converse(picture(png(), "jpg")), "Member must satisfy enum value set: [png, jpeg, gif, webp]"),
    (CLAUDE, converse(picture(png(), "gif")), f"{MODEL_SAYS}messages.0.content.0.image.source.base64: The image was"),
    (NOVA, converse(picture(png()[:60])), f"{MODEL_SAYS}messages.0.content.0.image.source.base64: Could not process"),
    ("amazon.nova-micro-v1:0", converse(picture(png())), "This model doesn't support the image field."),
    (
        "mistral.mistral-7b-instruct-v0:2",
        converse(system=[{"text": "x"}]),
        "This model doesn't support the system field.",
    ),
    ("amazon.titan-embed-text-v2:0", converse(), "This model doesn't support the Converse API."),
    (CLAUDE, converse({"role": "user", "content": [{"document": {"name": "x"}}]}), "no text content block"),
    (
        CLAUDE,
        converse({"role": "user", "content": [{"text": "x" * 900_000}]}),
        "Input is too long for requested model.",
    ),
]


@pytest.mark.parametrize("operation", ["converse", "converse-stream"])
@pytest.mark.parametrize(("model", "body", "message"), WRONG_CONVERSE, ids=[m[-50:] for *_, m in WRONG_CONVERSE])
def test_converse_body(url: str, post: Post, *, model: str, body: Any, message: str, operation: str) -> None:
    answer = post(url, body, model=model, operation=operation)
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert message in answer.document["message"]


NOT_ON_DEMAND = "with on-demand throughput isn\N{RIGHT SINGLE QUOTATION MARK}t supported."
INVALID_ID = "The provided model identifier is invalid."


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("acme.no-such-model-v1:0", INVALID_ID),
        ("nonsense", f"{INVALID_ID} The local emulator does not play it; it plays models of amazon, anthropic, "),
        ("amazon.nova-2-multimodal-embeddings-v1:0", "does not play it; of amazon it plays amazon.nova-micro-v1:0, "),
        ("us.amazon.titan-text-express-v1", INVALID_ID),
        ("arn:aws:bedrock:us-east-1::foundation-model/acme.no", INVALID_ID),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/amazon.nova-lite-v1:0", INVALID_ID),
        ("anthropic.claude-sonnet-5", f"Invocation of model ID anthropic.claude-sonnet-5 {NOT_ON_DEMAND}"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", NOT_ON_DEMAND),
    ],
)
def test_model_ids(url: str, post: Post, model: str, message: str) -> None:
    answer = post(url, converse(), model=model, operation="converse")
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert message in answer.document["message"]


def test_body_over_the_limit(url: str, post: Post) -> None:
    largest = json.dumps(claude()).encode().ljust(25_000_000)
    assert post(url, largest).status == 200
    answer = post(url, largest + b" ")
    assert answer.status == 400
    assert answer.document["message"] == (
        "1 validation error detected: Value at 'body' failed to satisfy constraint: "
        "Member must have length less than or equal to 25000000"
    )


@pytest.mark.parametrize("operation", ["invoke-with-bidirectional-stream", "converse/more", "Converse"])
def test_unknown_operations(url: str, post: Post, operation: str) -> None:
    answer = post(url, {}, operation=operation)
    assert (answer.status, answer.error) == (404, "UnknownOperationException")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Value at 'input' failed"),
        ({"input": {"other": {}}}, "expected one of [invokeModel, converse]"),
        ({"input": {"invokeModel": {"body": "?"}}}, "not base64"),
        ({"input": {"invokeModel": {"body": base64.b64encode(b"{}").decode()}}}, "anthropic_version: Field required"),
    ],
)
def test_count_tokens_body(url: str, post: Post, body: Any, message: str) -> None:
    answer = post(url, body, operation="count-tokens")
    assert answer.status == 400
    assert message in answer.document["message"]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("fault=throtle", "unknown fault 'throtle': did you mean throttle?"),
        ("fualt=throttle", "unknown 'fualt': did you mean fault?"),
        ("latency=soon", "latency must be a time, as in 300ms or 2s, not 'soon'"),
    ],
)
def test_directives_that_are_wrong(url: str, post: Post, header: str, message: str) -> None:
    answer = post(url, claude(), emulator=header)
    assert answer.status == 400
    assert message in answer.document["message"]


WRONG_TYPES: list[Any] = [None, 5, "x", [], {}, [1], True]


@pytest.mark.parametrize("operation", ["invoke", "converse"])
def test_a_value_of_any_type_anywhere_gets_an_answer_of_aws(start: Start, post: Post, operation: str) -> None:
    url = start()
    requests: dict[str, Any] = {
        "invoke": {
            "anthropic_version": "bedrock-2023-05-31",
            "max_tokens": 9,
            "stop_sequences": ["a"],
            "system": [{"type": "text", "text": "s"}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        },
        "converse": {
            "system": [{"text": "s"}],
            "inferenceConfig": {"maxTokens": 9, "stopSequences": ["a"]},
            "messages": [
                {"role": "user", "content": [{"text": "hi"}, {"image": {"format": "png", "source": {"bytes": "x"}}}]}
            ],
        },
    }
    whole = requests[operation]
    for path in _paths(whole):
        for value in WRONG_TYPES:
            answer = post(url, _changed(whole, path, value), operation=operation)
            assert answer.status in {200, 400}, (path, value, answer.body)
            assert b"has a bug" not in answer.body


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inside for found in _paths(item, (*path, key)))]


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    changed = copy.copy(value)
    changed[path[0]] = _changed(value[path[0]], path[1:], new)
    return changed


def test_half_a_surrogate_pair_is_answered_in_whole_utf8(start: Start, post: Post, ask: Any) -> None:
    answer = post(start(), ask("half \ud83d of a pair"))
    assert answer.status == 200
    answer.body.decode()
