"""Every fault, as it is seen on the wire, with and without a stream."""

from __future__ import annotations

import json
import socket
from contextlib import closing, suppress
from http.client import IncompleteRead
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from urllib3.exceptions import ProtocolError

from runner.emulator import FAULTS, Settings, SettingsError
from runner.emulator.faults import Dice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.conftest import Connect, Post, Start

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HELLO = [{"role": "user", "content": [{"text": "Hello there"}]}]
CONVERSE = {"messages": HELLO}
STREAMS = ["invoke-with-response-stream", "converse-stream"]
OPERATIONS = ["invoke", "converse", *STREAMS]
SILENCE = 0.3  # seconds of nothing that are taken for nothing to come

ERRORS = {
    "throttle": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "tokens-per-day": (429, "ThrottlingException", "Too many tokens per day, please wait before trying again."),
    "internal": (500, "InternalServerException", "unexpected error"),
    "unavailable": (503, "ServiceUnavailableException", "unable to process"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "model-error": (424, "ModelErrorException", "unexpected error"),
    "model-timeout": (408, "ModelTimeoutException", "timed out"),
    "not-ready": (429, "ModelNotReadyException", "not ready"),
    "denied": (403, "AccessDeniedException", "You don't have access to the model with the specified model ID."),
    "expired-token": (403, "ExpiredTokenException", "The security token included in the request is expired"),
}
IN_STREAM = {
    "stream-exception": (424, "ModelStreamErrorException"),
    "stream-throttle": (429, "ThrottlingException"),
    "stream-internal": (500, "InternalServerException"),
    "stream-error": (500, "InternalFailure"),
}
ON_THE_WIRE = {
    *("reset", "hang", "drip", "stall", "drop", "cut", "no-stop", "no-output", "bad-crc", "bad-json"),
}


@pytest.fixture(scope="module")
def url() -> Any:
    from runner.emulator import running

    with running(Settings()) as url:
        yield url


@pytest.fixture
def body(ask: Any) -> Any:
    return lambda operation: CONVERSE if operation.startswith("converse") else ask("Hello there")


def test_every_fault_is_tested_here() -> None:
    assert set(FAULTS) == set(ERRORS) | set(IN_STREAM) | ON_THE_WIRE


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", ERRORS)
def test_errors(url: str, post: Post, body: Any, fault: str, operation: str) -> None:
    answer = post(url, body(operation), operation=operation, emulator=f"fault={fault}")
    status, code, message = ERRORS[fault]
    assert (answer.status, answer.error) == (status, code)
    assert message in answer.document["message"]
    assert answer.document.get("originalStatusCode") == (500 if fault == "model-error" else None)
    assert answer.headers.get("retry-after") == ("1" if fault == "overloaded" else None)


@pytest.mark.parametrize("fault", IN_STREAM)
def test_stream_faults_without_a_stream_are_errors(url: str, post: Post, ask: Any, fault: str) -> None:
    answer = post(url, ask(), emulator=f"fault={fault}")
    assert (answer.status, answer.error) == IN_STREAM[fault]


def stream_of(url: str, connect: Connect, fault: str, operation: str, ask: Any) -> Iterator[Any]:
    client = connect(url)

    def steer(request: Any, **_: Any) -> None:
        request.headers["x-bedrock-emulator"] = f"fault={fault}"

    client.meta.events.register("before-send.bedrock-runtime", steer)
    if operation == "converse-stream":
        stream = client.converse_stream(modelId=CLAUDE, messages=HELLO)["stream"]
    else:
        stream = client.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(ask()))["body"]
    with closing(stream):  # a stream that breaks leaves its socket open
        yield from stream


def kinds(events: list[Any]) -> list[str]:
    """The names of Converse's events, or the types of Claude's."""
    return [
        json.loads(event["chunk"]["bytes"])["type"] if name == "chunk" else name for event in events for name in event
    ]


@pytest.mark.parametrize("operation", STREAMS)
@pytest.mark.parametrize("fault", IN_STREAM)
def test_exceptions_within_a_stream(url: str, connect: Connect, ask: Any, fault: str, operation: str) -> None:
    events: list[Any] = []
    with pytest.raises(EventStreamError) as caught:
        events.extend(stream_of(url, connect, fault, operation, ask))
    code = IN_STREAM[fault][1]
    expected = code if fault == "stream-error" else code[0].lower() + code[1:]
    assert caught.value.response["Error"]["Code"] == expected


@pytest.mark.parametrize("operation", STREAMS)
def test_exceptions_come_after_some_text(url: str, post: Post, body: Any, operation: str) -> None:
    answer = post(url, body(operation), operation=operation, emulator="fault=stream-throttle")
    buffer: Any = EventStreamBuffer()
    buffer.add_data(answer.body)
    messages = list(buffer)
    assert [message.headers[":message-type"] for message in messages] == ["event"] * (len(messages) - 1) + ["exception"]
    assert len(messages) > 3


@pytest.mark.parametrize("operation", STREAMS)
def test_bad_crc_in_a_stream(url: str, connect: Connect, ask: Any, operation: str) -> None:
    events: list[Any] = []
    with pytest.raises(ChecksumMismatch):
        events.extend(stream_of(url, connect, "bad-crc", operation, ask))
    assert {"contentBlockDelta", "content_block_delta"} & set(kinds(events))


@pytest.mark.parametrize("operation", STREAMS)
def test_cut_in_a_stream_ends_cleanly_within_a_frame(url: str, post: Post, body: Any, operation: str) -> None:
    whole = post(url, body(operation), operation=operation)
    answer = post(url, body(operation), operation=operation, emulator="fault=cut")
    assert answer.status == 200
    assert 0 < len(answer.body) < len(whole.body)
    buffer: Any = EventStreamBuffer()
    buffer.add_data(answer.body)
    read = sum(message.prelude.total_length for message in buffer)
    assert 0 < read < len(answer.body)


@pytest.mark.parametrize("operation", STREAMS)
def test_no_stop_in_a_stream(url: str, connect: Connect, ask: Any, operation: str) -> None:
    found = kinds(list(stream_of(url, connect, "no-stop", operation, ask)))
    assert found[-1] in {"contentBlockStop", "content_block_stop"}


@pytest.mark.parametrize("operation", STREAMS)
def test_no_output_in_a_stream(url: str, connect: Connect, ask: Any, operation: str) -> None:
    found = kinds(list(stream_of(url, connect, "no-output", operation, ask)))
    assert found[-1] in {"metadata", "message_stop"}
    assert not {"contentBlockDelta", "content_block_delta"} & set(found)


def test_bad_json_in_a_stream(url: str, connect: Connect, ask: Any) -> None:
    events = list(stream_of(url, connect, "bad-json", "invoke-with-response-stream", ask))
    broken = 0
    for event in events:
        try:
            json.loads(event["chunk"]["bytes"])
        except ValueError:
            broken += 1
    assert broken == 1


@pytest.mark.parametrize("operation", STREAMS)
def test_drop_in_a_stream(url: str, connect: Connect, ask: Any, operation: str) -> None:
    with pytest.raises(ProtocolError):
        list(stream_of(url, connect, "drop", operation, ask))


@pytest.mark.parametrize("operation", ["invoke", "converse"])
@pytest.mark.parametrize("fault", ["cut", "drop"])
def test_a_body_shorter_than_announced(url: str, post: Post, body: Any, fault: str, operation: str) -> None:
    with pytest.raises(IncompleteRead) as caught:
        post(url, body(operation), operation=operation, emulator=f"fault={fault}")
    assert caught.value.expected is not None
    assert len(caught.value.partial) > 0


@pytest.mark.parametrize("operation", ["invoke", "converse"])
@pytest.mark.parametrize("fault", ["bad-json", "bad-crc"])
def test_truncated_json_of_the_announced_length(url: str, post: Post, body: Any, fault: str, operation: str) -> None:
    answer = post(url, body(operation), operation=operation, emulator=f"fault={fault}")
    assert answer.status == 200
    assert answer.headers["content-length"] == str(len(answer.body))
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(answer.body)


@pytest.mark.parametrize(("operation", "keys"), [("invoke", {"content"}), ("converse", {"output"})])
def test_no_output(url: str, post: Post, body: Any, operation: str, keys: set[str]) -> None:
    whole = post(url, body(operation), operation=operation).document
    answer = post(url, body(operation), operation=operation, emulator="fault=no-output")
    assert set(whole) - set(answer.document) == keys


@pytest.mark.parametrize(("operation", "key"), [("invoke", "stop_reason"), ("converse", "stopReason")])
def test_no_stop(url: str, post: Post, body: Any, operation: str, key: str) -> None:
    whole = post(url, body(operation), operation=operation).document
    answer = post(url, body(operation), operation=operation, emulator="fault=no-stop")
    assert set(whole) - set(answer.document) == {key}


class Wire:
    """A request on a bare socket."""

    def __init__(self, url: str, operation: str, document: Any, fault: str) -> None:
        address = urlsplit(url)
        raw = json.dumps(document).encode()
        self.socket = socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30)
        head = (
            f"POST /model/{CLAUDE.replace(':', '%3A')}/{operation} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            f"Authorization: Bearer any\r\nx-bedrock-emulator: fault={fault}\r\nContent-Length: {len(raw)}\r\n\r\n"
        )
        self.socket.sendall(head.encode() + raw)

    def until(self, end: bytes) -> bytes:
        got = b""
        while end not in got:
            part = self.socket.recv(1 << 16)
            assert part, got
            got += part
        return got

    def until_silent(self) -> bytes:
        """What still comes. Fails when the connection is closed."""
        self.socket.settimeout(SILENCE)
        got = b""
        while True:
            try:
                part = self.socket.recv(1 << 16)
            except TimeoutError:
                return got
            assert part, "the connection was closed"
            got += part


@pytest.mark.parametrize("operation", OPERATIONS)
def test_reset(url: str, body: Any, operation: str) -> None:
    with closing(Wire(url, operation, body(operation), "reset").socket) as wire, pytest.raises(ConnectionResetError):
        wire.recv(1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_hang(url: str, post: Post, body: Any, operation: str) -> None:
    wire = Wire(url, operation, body(operation), "hang")
    with closing(wire.socket):
        assert wire.until_silent() == b""
        assert post(url, body(operation), operation=operation).status == 200  # others are served meanwhile


@pytest.mark.parametrize("operation", OPERATIONS)
def test_stall(url: str, post: Post, body: Any, operation: str) -> None:
    whole = post(url, body(operation), operation=operation)
    wire = Wire(url, operation, body(operation), "stall")
    with closing(wire.socket):
        head, _, rest = wire.until(b"\r\n\r\n").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        rest += wire.until_silent()
        assert 0 < len(rest) < len(whole.body)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_drip(url: str, body: Any, operation: str) -> None:
    wire = Wire(url, operation, body(operation), "drip")
    with closing(wire.socket):
        _, _, first = wire.until(b"\r\n\r\n").partition(b"\r\n\r\n")
        received = [first or wire.socket.recv(1 << 16), wire.socket.recv(1 << 16)]
        # In a chunked body a byte comes as `1\r\nX\r\n`.
        assert [len(part) for part in received] == [6, 6] if operation in STREAMS else [1, 1]


@pytest.mark.parametrize("fault", sorted(ON_THE_WIRE - {"hang", "drip", "stall", "reset"}))
def test_the_emulator_goes_on_after(url: str, post: Post, ask: Any, fault: str) -> None:
    for operation in ("invoke", "invoke-with-response-stream"):
        with suppress(IncompleteRead):
            post(url, ask(), operation=operation, emulator=f"fault={fault}")
        assert post(url, ask(), operation=operation).status == 200


def test_botocore_retries_what_it_retries(start: Start, connect: Connect) -> None:
    """The errors are recognised by name: botocore raises its own classes for them."""
    client = connect(start(faults={"throttle": 1}))
    with pytest.raises(client.exceptions.ThrottlingException):
        client.converse(modelId=CLAUDE, messages=HELLO)


def outcomes(post: Post, url: str, ask: Any, order: list[int]) -> dict[int, int]:
    return {number: post(url, ask(f"Question {number}")).status for number in order}


def test_the_same_seed_gives_the_same_faults_in_any_order(start: Start, post: Post, ask: Any) -> None:
    forward, backward = list(range(40)), list(range(39, -1, -1))
    faults = {"throttle": 0.3, "internal": 0.3}
    first = outcomes(post, start(faults=faults, seed=7), ask, forward)
    assert outcomes(post, start(faults=faults, seed=7), ask, backward) == first
    assert outcomes(post, start(faults=faults, seed=8), ask, forward) != first
    assert set(first.values()) == {200, 429, 500}


def test_faults_come_as_often_as_was_asked() -> None:
    dice = Dice({"throttle": 0.1, "internal": 0.2}, seed=1)
    drawn = [dice.throw(b"equal") for _ in range(10_000)]
    assert drawn.count("throttle") == pytest.approx(1000, rel=0.2)
    assert drawn.count("internal") == pytest.approx(2000, rel=0.2)
    assert drawn.count(None) == pytest.approx(7000, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"faults": {"throtle": 1}}, "unknown fault 'throtle': did you mean throttle?"),
        ({"faults": {"xyz": 1}}, "unknown fault 'xyz': known: bad-crc"),
        ({"faults": {"throttle": 1.5}}, "the probability of fault throttle must be from 0 to 1, not 1.5"),
        ({"faults": {"throttle": 0.6, "reset": 0.6}}, "must not exceed 1"),
        ({"latency": -1}, "latency must be 0 or more seconds, not -1"),
        ({"pace": float("nan")}, "pace must be 0 or more seconds, not nan"),
        ({"requests_per_minute": 0}, "requests_per_minute must be more than 0, not 0"),
        ({"port": 70000}, "port must be from 0 to 65535, not 70000"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(**settings)
    assert message in str(caught.value)


def test_errors_are_client_errors_in_boto3(url: str, connect: Connect) -> None:
    client = connect(url)
    client.meta.events.register(
        "before-send.bedrock-runtime",
        lambda request, **_: request.headers.__setitem__("x-bedrock-emulator", "fault=overloaded"),
    )
    with pytest.raises(ClientError) as caught:
        client.converse(modelId=CLAUDE, messages=HELLO)
    assert caught.value.response["Error"] == {"Code": "overloaded_error", "Message": "Overloaded"}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 529
