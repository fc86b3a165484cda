"""This client sends what boto3 sends, to where the AWS settings say, as whom they say."""

from __future__ import annotations

import asyncio
import base64
import http.server
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies
from made_files import TEXT, mp4, pdf

from runner import media
from runner.bedrock import account as account_module
from runner.bedrock import client as bedrock_module
from runner.bedrock import plain_settings
from runner.bedrock.account import Account, Connection
from runner.bedrock.client import Bedrock
from runner.errors import CallError, FailureCode, Place
from runner.media.documents import describe
from runner.records import Case, Document, Inference, Job, Message, Rate, Request, RetrySettings, S3Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

KEY, SECRET, TOKEN = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCY", "FwoGZXIvYXdzE//token=="
RED_PIXEL = (Path(__file__).parent.parent / "prompts" / "images" / "red-pixel.png").read_bytes()
MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
PLACE = Place("job.yaml", 1, 1)
HELLO = (Message(role="user", text="hello"),)
MESSAGE = {
    "type": "message",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
}


def case_of(*, request: Request | None = None, **changes: Any) -> Case:
    job = Job(
        path=Path("job.yaml"), place=PLACE, model_place=PLACE, name="job", description="", tags=frozenset(),
        model=MODEL, region=None, api="invoke", stream=False, inference=Inference(), vars={}, system=None, turns=(),
        body=None, extra={}, cases=(), assertions=(), rate=Rate(), max_concurrency=None, retry=RetrySettings(),
        timeout=20.0, max_cost=None,
    )  # fmt: skip
    request = request or Request(messages=HELLO)
    return Case(job=replace(job, **changes), id="1", index=0, key="k", vars={}, request=request, assertions=())


class Recorder(http.server.ThreadingHTTPServer):
    """Answers every request with a reply that both APIs take, and keeps what came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Recorder

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.command, self.path, headers, body))
        reply = b"" if self.path.endswith("stream") else json.dumps(MESSAGE).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


@contextmanager
def running(server: http.server.HTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    server = Recorder()
    with running(server):
        yield server


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)


def call(case: Case, connection: Connection | None = None) -> str:
    async def run() -> str:
        async with Bedrock(connection or Connection()) as bedrock:
            return (await bedrock.call(case, case.request.messages)).text

    return asyncio.run(run())


def failure(case: Case, connection: Connection | None = None) -> CallError:
    with pytest.raises(CallError) as caught:
        call(case, connection)
    for secret in (SECRET, TOKEN):
        assert secret not in str(caught.value)
    return caught.value


# --- the same request ------------------------------------------------------------------------------------------------


def picture(folder: Path) -> Request:
    (folder / "red.png").write_bytes(RED_PIXEL + bytes(range(256)))
    image = media.describe("red.png", folder)
    return Request(
        system="Sei kurz. ✓",
        messages=(
            Message(role="user", text="hello"),
            Message(role="assistant", text="hi"),
            Message(role="user", text="which colour? é", images=(image,)),
        ),
        inference=Inference(max_tokens=7, temperature=0.5, top_p=0.9, stop=("END",)),
        extra={"anthropic_beta": ["x"]},
    )


def converse_arguments(folder: Path) -> dict[str, Any]:
    content = (folder / "red.png").read_bytes()
    return {
        "messages": [
            {"role": "user", "content": [{"text": "hello"}]},
            {"role": "assistant", "content": [{"text": "hi"}]},
            {
                "role": "user",
                "content": [
                    {"image": {"format": "png", "source": {"bytes": content}}},
                    {"text": "which colour? é"},
                ],
            },
        ],
        "system": [{"text": "Sei kurz. ✓"}],
        "inferenceConfig": {"maxTokens": 7, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"anthropic_beta": ["x"]},
    }


def invoke_arguments(folder: Path) -> dict[str, Any]:
    data = base64.b64encode((folder / "red.png").read_bytes()).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 7,
        "system": "Sei kurz. ✓",
        "messages": [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "hi"},
            {"role": "user", "content": [image, {"type": "text", "text": "which colour? é"}]},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["END"],
        "anthropic_beta": ["x"],
    }
    return {"body": json.dumps(body), "contentType": "application/json", "accept": "application/json"}


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("model", [MODEL, ARN, "us.anthropic.claude-haiku-4-5-20251001-v1:0"])
@pytest.mark.parametrize("operation", ["invoke", "invoke-with-response-stream", "converse", "converse-stream"])
@pytest.mark.parametrize("prefix", ["", "/some/prefix/"])
def test_boto3_and_this_client_send_the_same(
    operation: str, model: str, prefix: str, recorder: Recorder, tmp_path: Path
) -> None:
    url = recorder.url + prefix
    api, stream = operation.partition("-")[0], operation.endswith("stream")
    case = case_of(api=api, stream=stream, model=model, region="eu-west-1", request=picture(tmp_path))
    boto3_call(operation, model=model, url=url, folder=tmp_path)
    if stream:
        failure(case, Connection(endpoint_url=url))  # the recorder's stream is empty
    else:
        assert call(case, Connection(endpoint_url=url)) == "Hi"

    theirs, ours = recorder.seen
    assert ours[:2] == theirs[:2]  # method and raw path
    assert ours[3] == theirs[3]  # body, byte for byte
    assert signed_headers(ours[2]) == signed_headers(theirs[2])
    unsigned = {"accept-encoding", "content-length", "amz-sdk-invocation-id", "amz-sdk-request", "user-agent"}
    assert unsigned <= ours[2].keys() & theirs[2].keys()
    assert ours[2].keys() == theirs[2].keys()
    assert ours[2]["accept-encoding"] == theirs[2]["accept-encoding"] == "identity"
    verify(theirs)
    verify(ours)


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("model", ["amazon.nova-lite-v1:0", MODEL])
def test_boto3_and_this_client_send_the_same_documents_and_videos(
    model: str, recorder: Recorder, tmp_path: Path
) -> None:
    contents = {"a.pdf": pdf(), "notes.md": TEXT, "clip.mp4": mp4()}
    for name, written in contents.items():
        (tmp_path / name).write_bytes(written)
    nova = model.startswith("amazon")
    documents = tuple(
        Document(name=f"Document {number}", content=describe(name, tmp_path, kind="document"))
        for number, name in enumerate(("a.pdf", "notes.md"), start=1)
    )
    message = Message(
        role="user",
        text="Compare",
        documents=documents,
        images=(S3Object(path="s3://bucket/a.png", media_type="image/png"),) if nova else (),
        video=describe("clip.mp4", tmp_path, kind="video") if nova else None,
    )
    cited = {} if nova else {"citations": {"enabled": True}}
    content: list[dict[str, Any]] = [
        {"document": {"name": "Document 1", "format": "pdf", "source": {"bytes": contents["a.pdf"]}, **cited}},
        {"document": {"name": "Document 2", "format": "md", "source": {"bytes": contents["notes.md"]}, **cited}},
    ]
    if nova:
        content.append({"image": {"format": "png", "source": {"s3Location": {"uri": "s3://bucket/a.png"}}}})
        content.append({"video": {"format": "mp4", "source": {"bytes": contents["clip.mp4"]}}})
    content.append({"text": "Compare"})
    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=recorder.url)
    messages = [{"role": "user", "content": content}]
    client.converse(modelId=model, messages=messages, inferenceConfig={"maxTokens": 1024})
    client.close()
    case = case_of(api="converse", model=model, request=Request(messages=(message,)))
    assert call(case, Connection(endpoint_url=recorder.url)) == "Hi"
    theirs, ours = recorder.seen
    assert ours[3] == theirs[3]


def boto3_call(operation: str, *, model: str, url: str, folder: Path) -> None:
    client = boto3.client("bedrock-runtime", region_name="eu-west-1", endpoint_url=url)
    match operation:
        case "invoke":
            client.invoke_model(modelId=model, **invoke_arguments(folder))
        case "invoke-with-response-stream":
            client.invoke_model_with_response_stream(modelId=model, **invoke_arguments(folder))["body"].close()
        case "converse":
            client.converse(modelId=model, **converse_arguments(folder))
        case "converse-stream":
            client.converse_stream(modelId=model, **converse_arguments(folder))["stream"].close()
    client.close()


def signed_headers(headers: dict[str, str]) -> dict[str, str]:
    names = headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    return {name: headers[name] for name in names if name != "x-amz-date"}


def verify(request: tuple[str, str, dict[str, str], bytes]) -> None:
    """Sign what arrived again, with botocore, and compare."""
    method, path, headers, body = request
    again = AWSRequest(
        method=method,
        url=f"http://{headers['host']}{path}",
        data=body,
        headers={name: headers[name] for name in (*signed_headers(headers), "x-amz-date") if name != "host"},
    )
    again.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY, SECRET, TOKEN), "bedrock", "eu-west-1")
    signature = signer.signature(signer.string_to_sign(again, signer.canonical_request(again)), again)
    assert headers["authorization"].endswith(f"Signature={signature}")


# --- bearer tokens ---------------------------------------------------------------------------------------------------


def test_a_bearer_token_beats_other_credentials(
    recorder: Recorder, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abc")
    assert call(case_of(), Connection(endpoint_url=recorder.url)) == "Hi"
    headers = recorder.seen[0][2]
    assert headers["authorization"] == "Bearer bedrock-api-key-abc"
    assert "x-amz-security-token" not in headers


def test_a_bearer_token_does_not_travel_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abc")
    error = failure(case_of(), Connection(endpoint_url="http://example.com"))
    assert error.code is FailureCode.CREDENTIALS
    assert "unencrypted" in error.message
    assert "bedrock-api-key-abc" not in f"{error.message} {error.hint}"


def test_static_credentials_ignore_the_aws_settings(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_BEARER_TOKEN_BEDROCK": "token",
        "AWS_PROFILE": "missing",
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "other",
        "AWS_REGION": "eu-west-3",
        "AWS_CA_BUNDLE": "/missing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, value)
    call(case_of(), Connection(endpoint_url=recorder.url, access_key="LOCAL", secret_key="x"))
    assert "Credential=LOCAL/" in recorder.seen[0][2]["authorization"]
    assert "/us-east-1/bedrock/" in recorder.seen[0][2]["authorization"]


CONTROLS = ["a\nb", "a\rb", "a\x00b", "a\x1b[31mb", "a\udcffb", "é"]


@pytest.mark.parametrize("damage", CONTROLS)
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_a_key_that_no_header_can_carry(
    variable: str, damage: str, recorder: Recorder, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, variable: f"hush{damage}"}  # os.environ itself takes no NUL
    monkeypatch.setattr(os, "environ", environment)
    error = failure(case_of(), Connection(endpoint_url=recorder.url))
    assert error.code is FailureCode.CREDENTIALS
    assert error.message.startswith(f"{variable} contains a control character")
    assert "hush" not in f"{error.message} {error.hint}"
    assert recorder.seen == []


@pytest.mark.parametrize("damage", CONTROLS)
def test_a_bearer_token_that_no_header_can_carry(
    damage: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "AWS_BEARER_TOKEN_BEDROCK": f"hush{damage}"})
    error = failure(case_of(), Connection(endpoint_url=recorder.url))
    assert error.code is FailureCode.CREDENTIALS
    assert error.message.startswith("AWS_BEARER_TOKEN_BEDROCK contains a control character")
    assert "hush" not in f"{error.message} {error.hint}"
    assert recorder.seen == []


def test_a_name_of_a_file_that_is_no_text(recorder: Recorder, keys: None) -> None:
    case = case_of(name="job\udcff", path=Path("job\udcff.yaml"))
    assert call(case, Connection(endpoint_url=recorder.url)) == "Hi"


# --- region and endpoint ---------------------------------------------------------------------------------------------


def write_config(home: Path, *, config: str = "", credentials: str = "") -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(config)
    (home / ".aws" / "credentials").write_text(credentials)


def test_where_the_region_comes_from(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(
        clean_environment,
        config="[default]\nregion = eu-north-1\n[profile work]\nregion = eu-south-1\n[profile none]\n",
    )

    def region(job_region: str | None = None, **connection: str) -> str:
        return Bedrock(Connection(**connection)).region_for(job_region)

    assert region() == "eu-north-1"
    assert region(profile="work") == "eu-south-1"
    assert region(profile="none") == "us-east-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    assert region(profile="work") == "ap-south-1"
    monkeypatch.setenv("AWS_REGION", "ca-central-1")
    assert region() == "ca-central-1"
    assert region("us-west-2") == "us-west-2"
    assert region("us-west-2", region="sa-east-1") == "sa-east-1"


def test_where_the_endpoint_comes_from(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(
        clean_environment,
        config=(
            "[profile served]\nservices = mine\n[profile fips]\nuse_fips_endpoint = true\n"
            "[services mine]\nbedrock_runtime =\n  endpoint_url = https://services.example\n"
        ),
    )

    def endpoint(**connection: str) -> str:
        return Bedrock(Connection(**connection)).endpoint_for("eu-west-1")

    assert endpoint() == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert endpoint(profile="fips") == "https://bedrock-runtime-fips.eu-west-1.amazonaws.com"
    assert endpoint(profile="served") == "https://services.example"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://all.example")
    assert endpoint() == "https://all.example"
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK_RUNTIME", "https://runtime.example/")
    assert endpoint() == "https://runtime.example"
    assert endpoint(endpoint_url="http://127.0.0.1:1/x/") == "http://127.0.0.1:1/x"


@pytest.mark.parametrize("region", ["us-east-1\n", "us\udcff"])
def test_a_region_that_no_header_can_carry(region: str, recorder: Recorder, keys: None) -> None:
    error = failure(case_of(), Connection(endpoint_url=recorder.url, region=region))
    assert error.code is FailureCode.NOT_FOUND
    assert error.message == f"{region!r} is not a region"
    assert recorder.seen == []


def test_a_region_that_cannot_be_one() -> None:
    error = failure(case_of(region="no such region"))
    assert error.code is FailureCode.NOT_FOUND
    assert "no such region" in error.message


# --- credentials -----------------------------------------------------------------------------------------------------


def test_no_credentials(recorder: Recorder) -> None:
    error = failure(case_of(), Connection(endpoint_url=recorder.url))
    assert error.code is FailureCode.CREDENTIALS
    assert error.hint is not None
    assert "aws configure" in error.hint
    assert "--local" in error.hint
    assert recorder.seen == []


def test_half_of_the_credentials(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    error = failure(case_of(), Connection(endpoint_url=recorder.url))
    assert error.code is FailureCode.CREDENTIALS
    assert "AWS_SECRET_ACCESS_KEY" in error.message


@pytest.mark.parametrize("by_variable", [False, True])
def test_an_unknown_profile(by_variable: bool, clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(clean_environment, config="[profile work]\n", credentials="[home]\n")
    if by_variable:
        monkeypatch.setenv("AWS_PROFILE", "wrok")
    error = failure(case_of(), Connection(profile=None if by_variable else "wrok"))
    assert error.code is FailureCode.CREDENTIALS
    assert error.message == "The config profile (wrok) could not be found"
    assert error.hint is not None
    assert "home" in error.hint
    assert "work" in error.hint


def test_there_are_no_profiles_at_all() -> None:
    hint = failure(case_of(), Connection(profile="work")).hint
    assert hint == "there are no profiles yet: make one with `aws configure --profile NAME`"


def test_a_profile_gives_the_keys(recorder: Recorder, clean_environment: Path) -> None:
    write_config(
        clean_environment,
        credentials="[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = s\n",
        config="[profile work]\nregion = eu-west-1\n",
    )
    call(case_of(), Connection(endpoint_url=recorder.url, profile="work"))
    assert "Credential=AKIAWORK/" in recorder.seen[0][2]["authorization"]
    assert "/eu-west-1/bedrock/" in recorder.seen[0][2]["authorization"]


def test_a_config_file_that_cannot_be_parsed(clean_environment: Path) -> None:
    write_config(clean_environment, config="nonsense\n")
    error = failure(case_of())
    assert error.code is FailureCode.CREDENTIALS
    assert "config" in error.message


def test_a_credential_process_that_fails(recorder: Recorder, clean_environment: Path) -> None:
    write_config(clean_environment, config="[profile work]\ncredential_process = /bin/false\n")
    error = failure(case_of(), Connection(endpoint_url=recorder.url, profile="work"))
    assert error.code is FailureCode.CREDENTIALS


def test_an_sso_session_that_ended(recorder: Recorder, clean_environment: Path) -> None:
    write_config(
        clean_environment,
        config=(
            "[profile work]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\nregion = us-east-1\n"
            "[sso-session s]\nsso_start_url = https://x.awsapps.com/start\nsso_region = us-east-1\n"
        ),
    )
    error = failure(case_of(), Connection(endpoint_url=recorder.url, profile="work"))
    assert error.code is FailureCode.CREDENTIALS
    assert error.hint == "sign in again: `aws sso login --profile work`"


class Vending:
    """Temporary credentials that last `minutes`, and how often new ones were asked for."""

    def __init__(self, *minutes: float) -> None:
        self.minutes = list(minutes)
        self.asked = 0
        self.threads: set[int] = set()

    def __call__(self) -> dict[str, str]:
        self.asked += 1
        self.threads.add(threading.get_ident())
        minutes = self.minutes.pop(0) if len(self.minutes) > 1 else self.minutes[0]
        if minutes < 0:
            raise OSError("the service that hands out credentials is away")
        expiry = datetime.now(UTC) + timedelta(minutes=minutes)
        return {
            "access_key": f"ASIA{self.asked}",
            "secret_key": SECRET,
            "token": TOKEN,
            "expiry_time": expiry.isoformat(),
        }


def refreshing_calls(recorder: Recorder, monkeypatch: pytest.MonkeyPatch, vending: Vending) -> None:
    credentials = RefreshableCredentials.create_from_metadata(vending(), vending, method="assume-role")
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda self: credentials)

    async def run() -> None:
        async with Bedrock(Connection(endpoint_url=recorder.url)) as bedrock:
            case = case_of()
            await asyncio.gather(*(bedrock.call(case, HELLO) for _ in range(30)))
            await bedrock.call(case, HELLO)

    asyncio.run(run())


def test_credentials_are_renewed_once_for_all_calls_and_in_a_thread(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    vending = Vending(5, 60)
    refreshing_calls(recorder, monkeypatch, vending)
    assert vending.asked == 2
    assert len(vending.threads - {threading.get_ident()}) == 1
    assert all("Credential=ASIA2/" in headers["authorization"] for _, _, headers, _ in recorder.seen)


def test_calls_go_on_with_the_old_credentials_while_they_last(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vending = Vending(12, -1)  # boto3 asks for new ones 15 minutes ahead, and gets none
    refreshing_calls(recorder, monkeypatch, vending)
    assert vending.asked == 2  # not again with every call
    assert len(recorder.seen) == 31


def test_credentials_that_ended_and_cannot_be_renewed(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CallError) as caught:
        refreshing_calls(recorder, monkeypatch, Vending(-0.0, -1))
    assert caught.value.code is FailureCode.CREDENTIALS
    assert recorder.seen == []


# --- proxies and TLS -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost and bedrock.test with its key, in one PEM file."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,DNS:bedrock.test,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.fixture
def secure(certificate: Path) -> Iterator[Recorder]:
    server = Recorder()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = f"https://localhost:{server.server_port}"
    server.handle_error = lambda *about: None  # type: ignore[method-assign] # a client that trusts nobody hangs up
    with running(server):
        yield server


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("by", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"])
def test_a_ca_bundle_is_trusted(
    by: str, secure: Recorder, certificate: Path, clean_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "profile":
        write_config(clean_environment, config=f"[default]\nca_bundle = {certificate}\n")
    else:
        monkeypatch.setenv(by, str(certificate))
    assert call(case_of(), Connection(endpoint_url=secure.url)) == "Hi"


def test_a_certificate_that_nobody_vouches_for(secure: Recorder, keys: None) -> None:
    error = failure(case_of(), Connection(endpoint_url=secure.url))
    assert error.code is FailureCode.NETWORK
    assert not error.possibly_billed
    assert error.message == (
        f"no connection to {secure.url}: the certificate cannot be verified: self-signed certificate"
    )
    assert error.hint is not None
    assert "AWS_CA_BUNDLE" in error.hint


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_ca_bundle_that_cannot_be_used(
    content: str | None, keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    error = failure(case_of())
    assert error.code is FailureCode.CREDENTIALS
    assert str(bundle) in error.message
    assert error.hint is not None
    assert "AWS_CA_BUNDLE" in error.hint


class Proxy(http.server.ThreadingHTTPServer):
    """A CONNECT proxy that leads everything to one port."""

    daemon_threads = True

    def __init__(self, port: int, *, refuse: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _ProxyHandler)
        self.port = port
        self.refuse = refuse
        self.seen: list[tuple[str, str | None]] = []


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    server: Proxy

    def do_CONNECT(self) -> None:
        self.server.seen.append((self.path, self.headers["Proxy-Authorization"]))
        if self.server.refuse:
            self.send_error(403, "Forbidden by policy")
            return
        with socket.create_connection(("127.0.0.1", self.server.port)) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=self.pump, args=(upstream, self.connection), daemon=True)
            back.start()
            self.pump(self.connection, upstream)
            back.join()

    @staticmethod
    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def test_a_proxy_is_used_as_the_environment_says(
    secure: Recorder, certificate: Path, keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(secure.server_port)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass@127.0.0.1:{proxy.server_port}")
    with running(proxy):
        assert call(case_of(), Connection(endpoint_url="https://bedrock.test")) == "Hi"
        assert proxy.seen == [("bedrock.test:443", f"Basic {base64.b64encode(b'user:pass').decode()}")]

        assert call(case_of(), Connection(endpoint_url=secure.url)) == "Hi"  # loopback needs none
        assert len(proxy.seen) == 1

        monkeypatch.setenv("NO_PROXY", "bedrock.test")
        assert failure(case_of(), Connection(endpoint_url="https://bedrock.test")).code is FailureCode.NETWORK
        assert len(proxy.seen) == 1


def test_a_proxy_that_refuses(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy(1, refuse=True)
    monkeypatch.setenv("HTTPS_PROXY", f"user:pass@127.0.0.1:{proxy.server_port}")
    with running(proxy):
        error = failure(case_of(), Connection(endpoint_url="https://bedrock.test"))
    assert error.code is FailureCode.NETWORK
    assert not error.possibly_billed
    assert error.hint is not None
    assert "HTTPS_PROXY" in error.hint
    assert error.message == "the proxy gave no connection: 403 Forbidden by policy"


def test_a_proxy_that_is_not_there(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    error = failure(case_of(), Connection(endpoint_url="https://bedrock.test"))
    assert error.code is FailureCode.NETWORK
    assert error.message == "the proxy 127.0.0.1:1 gave no connection: Connection refused"


@pytest.mark.parametrize("proxy", ["http://user:pass@[bad", "socks5://user:pass@127.0.0.1:1", "http://user:pass@"])
def test_a_proxy_that_is_none(proxy: str, keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    error = failure(case_of(), Connection(endpoint_url="https://bedrock.test"))
    assert error.code is FailureCode.NOT_FOUND
    assert "is not an HTTP proxy" in error.message
    assert "pass" not in error.message
    assert error.hint is not None
    assert "HTTPS_PROXY" in error.hint


# --- settings that are read without boto3 ----------------------------------------------------------------------------

ENV_KEYS = {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s"}
STORED = "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n"
WORK = "[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = s\naws_session_token = t\n"
SERVED = "[services mine]\nbedrock_runtime =\n  endpoint_url = https://services.example\n"


class Settings(NamedTuple):
    """What is set on a machine. `home` are files of the home directory."""

    environ: Mapping[str, str] = MappingProxyType({})
    config: str = ""
    credentials: str = ""
    profile: str | None = None
    home: tuple[str, ...] = ()


PLAIN = {
    "keys in the environment": Settings(ENV_KEYS),
    "with a token": Settings({**ENV_KEYS, "AWS_SESSION_TOKEN": "t"}),
    "and also in a file": Settings(ENV_KEYS, credentials=STORED),
    "and a region": Settings({**ENV_KEYS, "AWS_DEFAULT_REGION": "eu-west-1"}),
    "and a profile of the environment": Settings({**ENV_KEYS, "AWS_PROFILE": "work"}, credentials=WORK),
    "beaten by --profile": Settings(ENV_KEYS, credentials=WORK, profile="work"),
    "only the secret one": Settings({"AWS_SECRET_ACCESS_KEY": "s"}, credentials=STORED),
    "keys in a file": Settings(credentials=STORED, config="[default]\nregion = eu-north-1\noutput = json\n"),
    "in another file": Settings({"AWS_SHARED_CREDENTIALS_FILE": "~/other"}, credentials=WORK, config=STORED),
    "in the config": Settings(config=STORED),
    "in both": Settings(config=STORED.replace("AKIADEFAULT", "AKIACONFIG"), credentials=STORED),
    "default with its long name": Settings(config=STORED.replace("default", "profile default")),
    "both names of default": Settings(config=f"[profile default]\nregion = eu-west-2\n{STORED}"),
    "a profile with a space": Settings(config=WORK.replace("work", "profile 'my work'"), profile="my work"),
    "a section that is no profile": Settings(config=f"{STORED}[work]\nregion = eu-west-1\n"),
    "two profile variables": Settings({"AWS_PROFILE": "x", "AWS_DEFAULT_PROFILE": "work"}, credentials=WORK),
    "region in the credentials file": Settings(config="[default]\nregion = a\n", credentials=f"{STORED}region = b\n"),
    "another profile with more": Settings(config="[profile sso]\nsso_session = s\n", credentials=STORED),
    "one endpoint for all": Settings({**ENV_KEYS, "AWS_ENDPOINT_URL": "https://all.example"}),
    "one endpoint for it": Settings(
        {
            **ENV_KEYS,
            "AWS_ENDPOINT_URL": "https://all.example",
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://its.example",
        }
    ),
    "no endpoint of the other service": Settings({**ENV_KEYS, "AWS_ENDPOINT_URL_BEDROCK": "https://b.example"}),
    "a CA bundle": Settings({**ENV_KEYS, "AWS_CA_BUNDLE": "/a"}, config="[default]\nca_bundle = /b\n"),
    "a CA bundle in the profile": Settings(ENV_KEYS, config="[default]\nca_bundle = /b\n"),
}
UNUSUAL = {
    "an expiry": Settings({**ENV_KEYS, "AWS_CREDENTIAL_EXPIRATION": "2099-01-01T00:00:00Z"}),
    "the old name of the token": Settings({**ENV_KEYS, "AWS_SECURITY_TOKEN": "t"}),
    "an empty variable": Settings({**ENV_KEYS, "AWS_SESSION_TOKEN": ""}),
    "endpoints that are ignored": Settings(
        {**ENV_KEYS, "AWS_ENDPOINT_URL": "https://all.example", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    ),
    "FIPS": Settings({**ENV_KEYS, "AWS_USE_FIPS_ENDPOINT": "true"}),
    "FIPS in the profile": Settings(ENV_KEYS, config="[default]\nuse_fips_endpoint = true\n"),
    "dual stack": Settings(ENV_KEYS, config="[default]\nuse_dualstack_endpoint = true\n"),
    "an endpoint in the profile": Settings(ENV_KEYS, config="[default]\nendpoint_url = https://own.example\n"),
    "services": Settings(ENV_KEYS, config=f"[default]\nservices = mine\n{SERVED}"),
    "a process": Settings(
        config="[default]\ncredential_process = echo '"
        '{"Version": 1, "AccessKeyId": "AKIAPROCESS", "SecretAccessKey": "s"}'
        "'\n"
    ),
    "an old token in a file": Settings(credentials=f"{STORED}aws_security_token = old\naws_session_token = new\n"),
    "models of its own": Settings(ENV_KEYS, home=(".aws/models",)),
}


@pytest.fixture
def set_up(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Settings], None]:
    def set_up(settings: Settings) -> None:
        write_config(clean_environment, config=settings.config, credentials=settings.credentials)
        (clean_environment / "other").write_text(settings.credentials)
        for folder in settings.home:
            (clean_environment / folder).mkdir()
        for name, value in settings.environ.items():
            monkeypatch.setenv(name, value)

    return set_up


def told_by_boto3(settings: Settings, region: str) -> dict[str, Any]:
    """What boto3 would do, with the URL taken from a request that it is about to send."""
    session = boto3.Session(profile_name=settings.profile)
    client = session.client("bedrock-runtime", region_name=region)
    urls = []

    def keep(request: Any, **_: Any) -> AWSResponse:
        urls.append(request.url)
        return AWSResponse(request.url, 200, HTTPHeaders(), io.BytesIO())  # instead of sending it

    client.meta.events.register("before-send", keep)
    client.invoke_model(modelId="m", body="{}")
    credentials = session.get_credentials()
    assert credentials is not None
    keys = credentials.get_frozen_credentials()
    return {
        "region": session.region_name or "us-east-1",
        "endpoint": urls[0].removesuffix("/model/m/invoke"),
        "keys": (keys.access_key, keys.secret_key, keys.token, credentials.method),
        "ca_bundle": session._session.get_config_variable("ca_bundle"),
    }


def told_by_account(settings: Settings, region: str) -> dict[str, Any]:
    account = Account(Connection(profile=settings.profile))
    credentials = account.credentials(region)
    keys = account.freeze(credentials, region)
    return {
        "region": account.region(None),
        "endpoint": account.endpoint(region),
        "keys": (keys.access_key, keys.secret_key, keys.token, credentials.method),
        "ca_bundle": account._ca_bundle(region),
    }


@pytest.mark.parametrize("name", [*PLAIN, *UNUSUAL])
def test_the_account_is_the_one_of_boto3(name: str, set_up: Callable[[Settings], None]) -> None:
    settings = {**PLAIN, **UNUSUAL}[name]
    set_up(settings)
    assert (plain_settings.read(settings.profile) is not None) == (name in PLAIN)
    assert told_by_account(settings, "eu-west-1") == told_by_boto3(settings, "eu-west-1")


WRONG = {
    "half of the keys": Settings({"AWS_ACCESS_KEY_ID": "a"}, credentials=STORED),
    "half of the keys in a file": Settings(credentials="[default]\naws_access_key_id = a\n", config=STORED),
    "a key without a value": Settings(credentials=f"{STORED}aws_session_token =\n"),
    "no such profile": Settings(ENV_KEYS, profile="work"),
    "a profile without anything": Settings(ENV_KEYS, config="[profile work]\n", profile="work"),
    "a broken config": Settings(ENV_KEYS, config="nonsense\n"),
    "broken credentials": Settings(ENV_KEYS, credentials="nonsense\n"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_left_to_boto3(name: str, set_up: Callable[[Settings], None]) -> None:
    set_up(WRONG[name])
    assert plain_settings.read(WRONG[name].profile) is None


def test_without_keys_a_bearer_token_is_plain(set_up: Callable[[Settings], None]) -> None:
    set_up(Settings({"AWS_BEARER_TOKEN_BEDROCK": "t"}))
    settings = plain_settings.read(None)
    assert settings is not None
    assert settings.keys is None


def test_the_endpoint_of_every_region_is_the_one_of_boto3(set_up: Callable[[Settings], None]) -> None:
    set_up(Settings(ENV_KEYS))
    session = boto3.Session()
    plain = plain_settings.read(None)
    assert plain is not None
    regions = {
        region
        for partition in session.get_available_partitions()
        for service in ("bedrock-runtime", "ec2")
        for region in session.get_available_regions(service, partition_name=partition, allow_non_regional=True)
    }
    assert len(regions) > 40
    told = {region: plain.endpoint(region) for region in {*regions, "eu-somewhere-9", "xx-west-1", "fips-us-east-1"}}
    assert {region for region, url in told.items() if url} >= {"us-east-1", "mx-central-1", "il-central-1"}
    assert {region for region, url in told.items() if not url} >= {"us-gov-west-1", "cn-north-1", "fips-us-east-1"}
    for region, url in told.items():
        if url is not None:
            assert url == session.client("bedrock-runtime", region_name=region).meta.endpoint_url


def test_the_way_to_a_proxy_may_be_encrypted_where_the_endpoint_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "https://proxy.test:3128")
    route = account_module.Account(account_module.Connection(endpoint_url="http://bedrock.test")).route("us-east-1")
    assert route.proxy == "https://proxy.test:3128"
    assert route.tls is not None, "aiohttp's own context trusts nobody here"
    assert route.tls.get_ca_certs()


@pytest.mark.parametrize("no_proxy", ["", "*", "bedrock.test", ".test", "other.test"])
@pytest.mark.parametrize(
    "variables", [{}, {"HTTPS_PROXY": "http://p:1"}, {"https_proxy": "http://p:2"}, {"ALL_PROXY": "x"}]
)
def test_the_proxy_is_the_one_of_boto3(
    variables: dict[str, str], no_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**variables, "NO_PROXY": no_proxy}.items():
        monkeypatch.setenv(name, value)
    url = "https://bedrock.test"
    assert account_module._proxy_for(url) == get_environ_proxies(url).get("https")


def test_the_authorities_are_those_of_boto3() -> None:
    assert account_module._authorities_of_boto3() == get_cert_path(True)


# --- cost of import --------------------------------------------------------------------------------------------------


def test_the_import_brings_neither_boto3_nor_aiohttp() -> None:
    root = Path(bedrock_module.__file__).parents[2]
    heavy = ("boto3", "botocore", "aiohttp", "PIL")
    code = f"import sys, runner.bedrock.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plain_settings_do_without_the_session_of_botocore(keys: None) -> None:
    code = """
import sys
from runner.bedrock.account import Account, Connection
account = Account(Connection())
account.freeze(account.credentials("eu-west-1"), "eu-west-1")
print(account.route(account.region(None)).url, {"boto3", "botocore.session", "urllib3"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "https://bedrock-runtime.us-east-1.amazonaws.com set()"
