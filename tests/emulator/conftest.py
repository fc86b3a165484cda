"""A clean environment, emulators that stop with the test, and clients for them."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore.config import Config

from runner.emulator import Settings, running

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"


class Start(Protocol):
    def __call__(self, **settings: Any) -> str: ...


class Connect(Protocol):
    def __call__(self, url: str, service: str = ..., **options: Any) -> Any: ...


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.headers["x-amzn-errortype"].partition(":")[0]


class Post(Protocol):
    def __call__(
        self, url: str, document: Any, *, model: str = ..., operation: str = ..., emulator: str | None = ...
    ) -> Answer: ...


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in os.environ:
        if name.upper().startswith(("AWS_", "ANTHROPIC_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start emulators; they run until the test ends."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(running(Settings(**settings)))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make boto3 clients that never retry by themselves; closed when the test ends."""
    with ExitStack() as stack:

        def make(url: str, service: str = "bedrock-runtime", **options: Any) -> Any:
            config = Config(retries={"total_max_attempts": 1}, read_timeout=options.pop("read_timeout", 30))
            keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
            client: Any = boto3.session.Session().client(
                service, endpoint_url=url, config=config, **{**keys, **options}
            )
            stack.callback(client.close)
            return client

        yield make


@pytest.fixture
def post() -> Post:
    """Send one request with a bearer token, without an SDK in between. `document` may be raw bytes."""

    def send(
        url: str, document: Any, *, model: str = CLAUDE, operation: str = "invoke", emulator: str | None = None
    ) -> Answer:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
        if emulator is not None:
            headers["x-bedrock-emulator"] = emulator
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        try:
            connection.request("POST", f"/model/{quote(model, safe='')}/{operation}", body, headers)
            response = connection.getresponse()
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            connection.close()

    return send


@pytest.fixture
def ask() -> Any:
    """Build an Anthropic body with one question."""

    def body(question: Any = "What is a list?", **changes: Any) -> dict[str, Any]:
        base = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024}
        return {**base, "messages": [{"role": "user", "content": question}], **changes}

    return body
