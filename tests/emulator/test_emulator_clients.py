"""Real clients, unchanged: boto3, the AWS CLI and anthropic's SDK."""

from __future__ import annotations

import base64
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anthropic import AnthropicBedrock
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from emulator.conftest import Connect, Start

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HELLO = [{"role": "user", "content": [{"text": "Hello there"}]}]
AWS = Path(sys.executable).with_name("aws")

needs_cli = pytest.mark.skipif(not AWS.exists(), reason=f"the AWS CLI is not installed beside {sys.executable}")


@pytest.fixture
def url(start: Start) -> str:
    return start(secret_access_key=SECRET, access_key_id=KEY_ID)


def test_boto3_invoke_model(url: str, connect: Connect, ask: Any) -> None:
    response = connect(url).invoke_model(modelId=CLAUDE, body=json.dumps(ask("Hello there")))
    reply = json.loads(response["body"].read())
    headers = response["ResponseMetadata"]["HTTPHeaders"]
    assert reply["content"][0]["text"].startswith('Local emulator, no model was called. You asked: "Hello there".')
    assert reply["stop_reason"] == "end_turn"
    assert headers["x-amzn-bedrock-input-token-count"] == str(reply["usage"]["input_tokens"]) == "3"
    assert headers["x-amzn-bedrock-output-token-count"] == str(reply["usage"]["output_tokens"])
    assert headers["x-amzn-bedrock-invocation-latency"].isdecimal()
    assert response["ResponseMetadata"]["RequestId"] == headers["x-amzn-requestid"]


def test_boto3_invoke_model_with_response_stream(url: str, connect: Connect, ask: Any) -> None:
    client = connect(url)
    whole = json.loads(client.invoke_model(modelId=CLAUDE, body=json.dumps(ask()))["body"].read())
    response = client.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(ask()))
    assert response["contentType"] == "application/json"
    events = [json.loads(event["chunk"]["bytes"]) for event in response["body"]]
    types = [event["type"] for event in events]
    assert types[:2] == ["message_start", "content_block_start"]
    assert types[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    text = "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
    assert text == whole["content"][0]["text"]
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    assert metrics["inputTokenCount"] == whole["usage"]["input_tokens"]
    assert metrics["outputTokenCount"] == whole["usage"]["output_tokens"]


@pytest.mark.parametrize(
    "model",
    [
        CLAUDE,
        "us.anthropic.claude-sonnet-5",
        "global.anthropic.claude-haiku-4-5-20251001-v1:0",
        "amazon.nova-lite-v1:0",
        "meta.llama3-1-8b-instruct-v1:0",
        "qwen.qwen3-32b-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-7",
        "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
    ],
)
def test_boto3_converse(url: str, connect: Connect, model: str) -> None:
    response = connect(url).converse(modelId=model, messages=HELLO, inferenceConfig={"maxTokens": 200})
    assert '"Hello there"' in response["output"]["message"]["content"][0]["text"]
    assert response["stopReason"] == "end_turn"
    usage = response["usage"]
    assert usage["totalTokens"] == usage["inputTokens"] + usage["outputTokens"]
    assert response["metrics"]["latencyMs"] >= 0


def test_boto3_converse_stream(url: str, connect: Connect) -> None:
    response = connect(url).converse_stream(modelId=CLAUDE, messages=HELLO, system=[{"text": "Be kind."}])
    events = list(response["stream"])
    names = [name for event in events for name in event]
    assert names[0] == "messageStart"
    assert set(names[1:-3]) == {"contentBlockDelta"}
    assert names[-3:] == ["contentBlockStop", "messageStop", "metadata"]
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)
    assert "a system prompt of 8 characters" in text
    assert events[-1]["metadata"]["usage"]["inputTokens"] == 5


def test_boto3_count_tokens_agrees_with_the_call(url: str, connect: Connect, ask: Any) -> None:
    client = connect(url)
    as_invoke = client.count_tokens(modelId=CLAUDE, input={"invokeModel": {"body": json.dumps(ask("Hello there"))}})
    as_converse = client.count_tokens(modelId=CLAUDE, input={"converse": {"messages": HELLO}})
    called = client.converse(modelId=CLAUDE, messages=HELLO)
    assert as_invoke["inputTokens"] == as_converse["inputTokens"] == called["usage"]["inputTokens"]


def test_boto3_count_tokens_is_refused_where_the_model_has_none(url: str, connect: Connect) -> None:
    with pytest.raises(ClientError, match="doesn't support counting tokens"):
        connect(url).count_tokens(modelId="anthropic.claude-opus-4-7", input={"converse": {"messages": HELLO}})


def test_boto3_lists_models_with_filters(url: str, connect: Connect) -> None:
    client = connect(url, "bedrock")
    models = {model["modelId"]: model for model in client.list_foundation_models()["modelSummaries"]}
    assert models[CLAUDE]["inferenceTypesSupported"] == ["ON_DEMAND"]
    assert models[CLAUDE]["inputModalities"] == ["TEXT", "IMAGE"]
    assert models["anthropic.claude-sonnet-5"]["inferenceTypesSupported"] == ["INFERENCE_PROFILE"]
    embedders = client.list_foundation_models(byProvider="Amazon", byOutputModality="EMBEDDING")["modelSummaries"]
    assert [model["modelId"] for model in embedders] == [
        "amazon.titan-embed-text-v2:0",
        "amazon.titan-embed-image-v1",
    ]
    on_demand = client.list_foundation_models(byInferenceType="ON_DEMAND")["modelSummaries"]
    assert 0 < len(on_demand) < len(models)


def test_boto3_lists_profiles_in_pages(url: str, connect: Connect) -> None:
    client = connect(url, "bedrock")
    every = client.list_inference_profiles(typeEquals="SYSTEM_DEFINED")["inferenceProfileSummaries"]
    pages = client.get_paginator("list_inference_profiles").paginate(PaginationConfig={"PageSize": 7})
    paged = [profile for page in pages for profile in page["inferenceProfileSummaries"]]
    assert paged == every
    assert "us.anthropic.claude-sonnet-5" in {profile["inferenceProfileId"] for profile in every}
    assert client.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"] == []
    with pytest.raises(ClientError, match="nextToken"):
        client.list_inference_profiles(nextToken="nonsense")


def test_every_listed_profile_can_be_called(url: str, connect: Connect) -> None:
    runtime = connect(url)
    for profile in connect(url, "bedrock").list_inference_profiles()["inferenceProfileSummaries"]:
        for id_ in (profile["inferenceProfileId"], profile["inferenceProfileArn"]):
            if "embed" in id_:
                assert runtime.invoke_model(modelId=id_, body='{"texts": ["Hi"], "input_type": "clustering"}')["body"]
            else:
                assert runtime.converse(modelId=id_, messages=HELLO)["stopReason"] == "end_turn"


@pytest.mark.parametrize(
    ("model", "body", "text"),
    [
        (
            "amazon.nova-lite-v1:0",
            {"schemaVersion": "messages-v1", "messages": HELLO, "inferenceConfig": {"maxTokens": 99, "topK": 5}},
            lambda reply: reply["output"]["message"]["content"][0]["text"],
        ),
        (
            "amazon.titan-text-express-v1",
            {"inputText": "Hello there", "textGenerationConfig": {"maxTokenCount": 99}},
            lambda reply: reply["results"][0]["outputText"],
        ),
        (
            "meta.llama3-1-8b-instruct-v1:0",
            {"prompt": "Hello there", "max_gen_len": 99},
            lambda reply: reply["generation"],
        ),
        (
            "mistral.mistral-large-2402-v1:0",
            {"prompt": "Hello there", "max_tokens": 99},
            lambda reply: reply["outputs"][0]["text"],
        ),
        (
            "us.deepseek.r1-v1:0",
            {"prompt": "Hello there", "max_tokens": 99},
            lambda reply: reply["choices"][0]["text"],
        ),
        (
            "openai.gpt-oss-20b-1:0",
            {"messages": [{"role": "user", "content": "Hello there"}], "max_completion_tokens": 99},
            lambda reply: reply["choices"][0]["message"]["content"],
        ),
        ("cohere.command-r-v1:0", {"message": "Hello there", "max_tokens": 99}, lambda reply: reply["text"]),
    ],
)
def test_boto3_invoke_other_families(url: str, connect: Connect, model: str, body: Any, text: Any) -> None:
    client = connect(url)
    reply = json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())
    assert '"Hello there"' in text(reply)
    stream = client.invoke_model_with_response_stream(modelId=model, body=json.dumps(body))["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == 3
    with pytest.raises(ClientError, match=r"Malformed input request: #: extraneous key \[typo\] is not permitted"):
        client.invoke_model(modelId=model, body=json.dumps({**body, "typo": 1}))


def test_boto3_embeddings_of_cohere_come_one_for_each_text_or_picture(url: str, connect: Connect) -> None:
    client = connect(url)
    picture = Path(__file__).parent.parent.parent / "prompts" / "images" / "red-pixel.png"
    uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

    def embed(model: str, **body: Any) -> Any:
        response = client.invoke_model(modelId=model, body=json.dumps({"input_type": "clustering", **body}))
        return json.loads(response["body"].read())["embeddings"]

    hello, bye = embed("cohere.embed-english-v3", texts=["hello", "goodbye"])
    assert len(hello) == 1024
    assert hello != bye
    assert embed("cohere.embed-multilingual-v3", texts=["hello"], embedding_types=["float"]) == {"float": [hello]}
    (red,) = embed("cohere.embed-english-v3", images=[uri])
    assert math.isclose(math.hypot(*red), 1)
    mixed = [{"content": [{"type": "text", "text": "red"}, {"type": "image_url", "image_url": {"url": uri}}]}]
    (vector,) = embed("us.cohere.embed-v4:0", inputs=mixed, output_dimension=512)
    assert len(vector) == 512
    for wrong, message in (
        ({"texts": ["x" * 2049]}, "#/texts/0: expected maxLength: 2048, actual: 2049"),
        ({"texts": ["x"] * 97}, "#/texts: expected maximum item count: 96, found: 97"),
        ({"texts": "x"}, "#/texts: expected type: JSONArray, found: String"),
        ({"texts": ["x"], "images": [uri]}, "exactly one of"),
        ({"images": ["x"]}, "must be a data URI"),
        ({"texts": ["x"], "input_type": "other"}, "input_type"),
        ({"texts": ["x"], "output_dimension": 256}, "extraneous key"),
    ):
        with pytest.raises(ClientError, match=message):
            embed("cohere.embed-english-v3", **wrong)


def test_boto3_embeddings_are_unit_vectors_that_depend_on_the_text(url: str, connect: Connect) -> None:
    client = connect(url)

    def embed(text: str, **options: Any) -> Any:
        body = json.dumps({"inputText": text, **options})
        response = client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)
        return json.loads(response["body"].read())["embedding"]

    first = embed("hello")
    assert len(first) == 1024
    assert math.isclose(math.hypot(*first), 1)
    assert first == embed("hello") != embed("goodbye")
    assert len(embed("hello", dimensions=256)) == 256
    with pytest.raises(ClientError, match="unsupported for streaming"):
        client.invoke_model_with_response_stream(modelId="amazon.titan-embed-text-v2:0", body='{"inputText": "x"}')


def aws(url: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_MAX_ATTEMPTS": "1",
    }
    return subprocess.run([AWS, *arguments], env=environment, cwd=cwd, capture_output=True, text=True, check=False)


@needs_cli
def test_cli_invoke_model(url: str, ask: Any, tmp_path: Path) -> None:
    (tmp_path / "body.json").write_text(json.dumps(ask("From the CLI?")))
    command = ("invoke-model", "--model-id", CLAUDE, "--body", "fileb://body.json", "reply.json")
    done = aws(url, "bedrock-runtime", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"From the CLI?"' in json.loads((tmp_path / "reply.json").read_text())["content"][0]["text"]


@needs_cli
def test_cli_converse(url: str, tmp_path: Path) -> None:
    done = aws(url, "bedrock-runtime", "converse", "--model-id", CLAUDE, "--messages", json.dumps(HELLO), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"Hello there"' in json.loads(done.stdout)["output"]["message"]["content"][0]["text"]


@needs_cli
def test_cli_shows_an_error(url: str, tmp_path: Path) -> None:
    done = aws(
        url, "bedrock-runtime", "converse", "--model-id", "acme.no", "--messages", json.dumps(HELLO), cwd=tmp_path
    )
    assert "(ValidationException)" in done.stderr
    assert "The provided model identifier is invalid." in done.stderr


@needs_cli
def test_cli_lists_foundation_models(url: str, tmp_path: Path) -> None:
    done = aws(url, "bedrock", "list-foundation-models", "--by-provider", "Anthropic", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert CLAUDE in {model["modelId"] for model in json.loads(done.stdout)["modelSummaries"]}


@pytest.mark.parametrize("model", [CLAUDE, "us.anthropic.claude-sonnet-5"])
def test_anthropic_sdk(url: str, model: str) -> None:
    with AnthropicBedrock(
        aws_access_key=KEY_ID, aws_secret_key=SECRET, aws_region="us-west-2", base_url=url, max_retries=0
    ) as client:
        asked: Any = {"model": model, "max_tokens": 300, "messages": [{"role": "user", "content": "Hello there"}]}
        reply = client.messages.create(**asked)
        assert reply.content[0].type == "text"
        assert '"Hello there"' in reply.content[0].text
        assert reply.stop_reason == "end_turn"
        with client.messages.stream(**asked) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == reply.content[0].text
        assert final.usage.output_tokens == reply.usage.output_tokens


def test_anthropic_sdk_with_a_bearer_token(start: Start) -> None:
    url = start(bearer_token="sesame")
    with AnthropicBedrock(api_key="sesame", aws_region="us-east-1", base_url=url, max_retries=0) as client:
        reply = client.messages.create(model=CLAUDE, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
        assert reply.stop_reason == "max_tokens"
