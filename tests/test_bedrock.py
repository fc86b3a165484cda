"""One call against servers that answer as Bedrock does, and as it does when it fails. Real HTTP on loopback."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import socket
import struct
import weakref
from binascii import crc32
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import media
from runner.bedrock.account import Connection
from runner.bedrock.client import Bedrock, _keepalive_socket
from runner.calling.limits import Slot
from runner.calling.retry import call_with_retries
from runner.errors import CallError, FailureCode, Place
from runner.media import fitting
from runner.records import (
    AttemptRecord,
    Case,
    Fit,
    Image,
    Inference,
    Job,
    Message,
    Rate,
    Reply,
    Request,
    RetrySettings,
    Usage,
)
from runner.threads import cores

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RED_PIXEL = (Path(__file__).parent.parent / "prompts" / "images" / "red-pixel.png").read_bytes()
PLACE = Place("job.yaml", 1, 1)
MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
SECRET = "wJalrXUtnFEMI/K7MDENG"
HELLO = (Message(role="user", text="hello"),)

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def case_of(**changes: Any) -> Case:
    """A case of a job with these values; `request` is a Request."""
    request = changes.pop("request", Request(messages=HELLO))
    job = Job(
        path=Path("job.yaml"), place=PLACE, model_place=PLACE, name="job", description="", tags=frozenset(),
        model=MODEL, region=None, api="invoke", stream=False, inference=Inference(), vars={}, system=None, turns=(),
        body=None, extra={}, cases=(), assertions=(), rate=Rate(), max_concurrency=None, retry=RetrySettings(),
        timeout=20.0, max_cost=None,
    )  # fmt: skip
    return Case(job=replace(job, **changes), id="1", index=0, key="k", vars={}, request=request, assertions=())


# --- a server that answers as it is told -----------------------------------------------------------------------------


@dataclass
class Server:
    url: str
    requests: list[tuple[str, bytes]] = field(default_factory=list)  # head and body
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def serving(*answers: Answer | bytes) -> AsyncIterator[Server]:
    """Answers the requests one after the other, the last answer for all that follow."""
    left = list(answers)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                server.requests.append((head, await reader.readexactly(length)))
                server.asked.set()
                answer = left.pop(0) if len(left) > 1 else left[0]
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**26)
    server = Server(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    try:
        yield server
    finally:
        listener.close()


def http(payload: bytes, *, status: str = "200 OK", headers: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nx-amzn-RequestId: req-1\r\n{headers}Content-Length: {len(payload)}\r\n\r\n".encode()
        + payload
    )


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: req-1\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head + body + (b"0\r\n\r\n" if end else b"")


def then_close(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    return answer


def then_reset(data: bytes) -> Answer:
    """What was sent may be lost: that is what a reset is."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.05)
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return answer


def then_hang(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await asyncio.sleep(60)

    return answer


def drip(data: bytes) -> Answer:
    """Never silent for long, and never done."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        for position in range(len(data)):
            writer.write(data[position : position + 1])
            await asyncio.sleep(0.02)
        await asyncio.sleep(60)

    return answer


def frame(payload: Any, **headers: str) -> bytes:
    named = {f":{name.replace('_', '-')}": value.encode() for name, value in headers.items()}
    block = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value
        for name, value in named.items()
    )
    content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    prelude = struct.pack(">II", 16 + len(block) + len(content), len(block))
    message = prelude + struct.pack(">I", crc32(prelude)) + block + content
    return message + struct.pack(">I", crc32(message))


def event(name: str, payload: Any) -> bytes:
    return frame(payload, event_type=name, content_type="application/json", message_type="event")


def chunk(inner: Any) -> bytes:
    return event("chunk", {"bytes": base64.b64encode(json.dumps(inner).encode()).decode(), "p": "abc"})


def exception(name: str, message: str) -> bytes:
    return frame({"message": message}, exception_type=name, content_type="application/json", message_type="exception")


MESSAGE = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
CONVERSE = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
    "metrics": {"latencyMs": 1},
}
DELTA = chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}})
INVOKE_STREAM = (
    chunk({"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}}),
    DELTA,
    chunk({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
    chunk({"type": "message_stop"}),
)
CONVERSE_STREAM = (
    event("messageStart", {"p": "a", "role": "assistant"}),
    event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "ab"}),
    event("contentBlockStop", {"contentBlockIndex": 0}),
    event("messageStop", {"stopReason": "end_turn"}),
    event("metadata", {"usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}, "metrics": {"latencyMs": 1}}),
)
USAGE = Usage(input_tokens=3, output_tokens=2)


def connect(url: str) -> Bedrock:
    return Bedrock(Connection(endpoint_url=url, access_key="LOCAL", secret_key=SECRET))


def call(case: Case, *answers: Answer | bytes, **about: Any) -> Reply:
    async def run() -> Reply:
        async with serving(*answers) as server, connect(server.url) as bedrock:
            return await bedrock.call(case, case.request.messages, **about)

    return asyncio.run(run())


def failure(case: Case, *answers: Answer | bytes) -> CallError:
    with pytest.raises(CallError) as caught:
        call(case, *answers)
    return caught.value


# --- whole replies ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "stream", "answer"),
    [
        ("invoke", False, http(json.dumps(MESSAGE).encode())),
        ("converse", False, http(json.dumps(CONVERSE).encode())),
        ("invoke", True, chunked(*INVOKE_STREAM)),
        ("converse", True, chunked(*CONVERSE_STREAM)),
        ("invoke", True, chunked(b"".join(INVOKE_STREAM))),
    ],
)
def test_a_whole_reply_is_read(api: str, stream: bool, answer: bytes) -> None:
    shown: list[str] = []
    reply = call(case_of(api=api, stream=stream), answer, on_text=shown.append)

    assert (reply.text, reply.stop_reason, reply.usage, reply.request_id) == ("Hi", "end_turn", USAGE, "req-1")
    assert shown == (["Hi"] if stream else [])
    assert (reply.first_token_ms is not None) == stream
    assert reply.latency_ms >= (reply.first_token_ms or 0)


def test_connections_are_used_again_also_after_streams() -> None:
    async def run() -> int:
        case = case_of(stream=True)
        async with serving(chunked(*INVOKE_STREAM)) as server, connect(server.url) as bedrock:
            for _ in range(5):
                await bedrock.call(case, HELLO)
            return server.connections

    assert asyncio.run(run()) == 1


def test_a_whole_stream_counts_even_if_its_connection_breaks_afterwards() -> None:
    case = case_of(stream=True)
    assert call(case, then_close(chunked(*INVOKE_STREAM, end=False))).text == "Hi"
    assert call(case, then_hang(chunked(*INVOKE_STREAM, end=False))).text == "Hi"


def test_the_service_is_told_about_attempts_and_calls() -> None:
    async def run() -> list[str]:
        async with serving(http(json.dumps(MESSAGE).encode())) as server, connect(server.url) as bedrock:
            await bedrock.call(case_of(), HELLO, attempt=1, max_attempts=8)
            await bedrock.call(case_of(), HELLO, attempt=2, max_attempts=8)
            await bedrock.call(replace(case_of(), index=1), HELLO)
            return [head for head, _ in server.requests]

    first, second, other = asyncio.run(run())
    assert "amz-sdk-request: attempt=1; max=8" in first
    assert "amz-sdk-request: attempt=2; max=8" in second
    assert "User-Agent: bedrock-run/" in first
    ids = [head.split("amz-sdk-invocation-id: ")[1].split("\r\n")[0] for head in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]


def test_a_call_leaves_nothing_for_the_garbage_collector() -> None:
    """It may not come for a long time, and a million calls would be waiting for it then."""

    class Listener:
        def __call__(self, text: str) -> None:
            raise AssertionError("the reply is not streamed")

    async def run() -> Listener | None:
        async with serving(http(json.dumps(MESSAGE).encode())) as server, connect(server.url) as bedrock:
            await bedrock.call(case_of(), HELLO)  # the connection keeps what the call that opened it was about
            listener = Listener()
            await asyncio.create_task(bedrock.call(case_of(), HELLO, on_text=listener))
            left = weakref.ref(listener)
            del listener
            await asyncio.sleep(0.01)  # what was called back lets go of it
            return left()

    gc.disable()
    try:
        assert asyncio.run(run()) is None
    finally:
        gc.enable()


def test_an_image_is_read_when_it_is_sent(tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    picture.write_bytes(RED_PIXEL + bytes(2_000_000))  # large enough to be sent in pieces
    image = media.describe("red.png", tmp_path)
    case = case_of(request=Request(messages=(Message(role="user", text="colour?", images=(image,)),)))

    async def run() -> bytes:
        async with serving(http(json.dumps(MESSAGE).encode())) as server, connect(server.url) as bedrock:
            await bedrock.call(case, case.request.messages)
            return server.requests[0][1]

    block = json.loads(asyncio.run(run()))["messages"][0]["content"][0]
    assert base64.b64decode(block["source"]["data"]) == picture.read_bytes()

    picture.write_bytes(RED_PIXEL)
    error = failure(case, b"")
    assert error.code is FailureCode.INPUT
    assert "has changed" in error.message


@pytest.mark.timeout(20)
def test_what_is_sent_as_it_is_waits_for_no_picture_to_be_fitted_and_neither_does_the_end(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED_PIXEL)
    image = media.describe("red.png", tmp_path)
    fit = Fit(media_type="image/jpeg", width=1, height=1, changes=())

    async def ask(bedrock: Bedrock, image: Image) -> Reply:
        case = case_of(request=Request(messages=(Message(role="user", text="colour?", images=(image,)),)))
        return await bedrock.call(case, case.request.messages)

    async def run() -> str | None:
        async with serving(http(json.dumps(MESSAGE).encode())) as server, connect(server.url) as bedrock:
            waiting = [asyncio.create_task(ask(bedrock, replace(image, fit=fit))) for _ in range(100)]
            await asyncio.sleep(0)
            reply = await ask(bedrock, image)
            assert not any(task.done() for task in waiting)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            return reply.text

    with ExitStack() as rooms:
        for _ in range(cores()):
            rooms.enter_context(fitting.room(image, (1, 1)))
        assert asyncio.run(run()) == "Hi"


def test_many_calls_side_by_side() -> None:
    async def run() -> list[Reply]:
        case = case_of()
        async with serving(http(json.dumps(MESSAGE).encode())) as server, connect(server.url) as bedrock:
            return await asyncio.gather(*(bedrock.call(case, HELLO) for _ in range(200)))

    assert {reply.text for reply in asyncio.run(run())} == {"Hi"}


def test_a_cancelled_call_ends_at_once() -> None:
    async def run() -> None:
        async with serving(then_hang(b"")) as server, connect(server.url) as bedrock:
            task = asyncio.create_task(bedrock.call(case_of(), HELLO))
            await server.asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


# --- replies that are not whole --------------------------------------------------------------------------------------

WHOLE = json.dumps(CONVERSE).encode()


@pytest.mark.parametrize(
    ("case", "answer"),
    [
        pytest.param(case_of(api="converse"), http(WHOLE[:80]), id="converse JSON cut short"),
        pytest.param(case_of(api="converse"), http(b"{}"), id="converse without output"),
        pytest.param(case_of(api="converse"), http(b""), id="converse with an empty body"),
        pytest.param(case_of(api="converse"), http(b'{"ConverseResponse":' + WHOLE + b"}"), id="wrapped once more"),
        pytest.param(case_of(), http(json.dumps(MESSAGE).encode()[:-9]), id="invoke JSON cut short"),
        pytest.param(case_of(), http(json.dumps({**MESSAGE, "stop_reason": None}).encode()), id="no stop reason"),
        pytest.param(case_of(), then_close(http(WHOLE)[:-5]), id="body shorter than its length"),
        pytest.param(case_of(), then_close(chunked(WHOLE[:50], end=False)), id="chunked body dropped"),
        pytest.param(case_of(), then_reset(http(WHOLE)[:-5]), id="reset inside the body"),
        pytest.param(case_of(), then_close(b"hello\r\n\r\n"), id="not HTTP"),
        pytest.param(case_of(stream=True), chunked(*INVOKE_STREAM[:-1]), id="no message_stop"),
        pytest.param(case_of(stream=True), chunked(), id="empty stream"),
        pytest.param(
            case_of(stream=True), chunked(b"".join(INVOKE_STREAM)[:-7]), id="end of the stream inside a frame"
        ),
        pytest.param(case_of(stream=True), chunked(INVOKE_STREAM[0], DELTA[:-1] + b"\0"), id="bad CRC"),
        pytest.param(case_of(stream=True), then_close(chunked(*INVOKE_STREAM[:2], end=False)), id="stream dropped"),
        pytest.param(case_of(stream=True), then_reset(chunked(*INVOKE_STREAM[:2], end=False)), id="stream reset"),
        pytest.param(case_of(stream=True), http(b"<html>hello</html>"), id="a page in place of a stream"),
        pytest.param(case_of(api="converse", stream=True), chunked(*CONVERSE_STREAM[:-1]), id="no metadata"),
        pytest.param(case_of(api="converse", stream=True), chunked(*CONVERSE_STREAM[:3]), id="no messageStop"),
        pytest.param(
            case_of(api="converse", stream=True),
            chunked(
                event("messageStart", {}), event("contentBlockDelta", {"contentBlockDelta": {"delta": {"text": "x"}}})
            ),
            id="payload wrapped in its name",
        ),
    ],
)
def test_a_reply_that_is_not_whole_is_a_failure(case: Case, answer: Answer | bytes) -> None:
    error = failure(case, answer)
    assert error.code is FailureCode.INCOMPLETE
    assert error.code.retryable
    assert error.possibly_billed


@pytest.mark.parametrize(
    ("case", "answer", "code"),
    [
        pytest.param(case_of(), then_close(b""), FailureCode.TRANSIENT, id="closed without a reply"),
        pytest.param(case_of(), then_reset(b""), FailureCode.TRANSIENT, id="reset"),
        pytest.param(case_of(timeout=0.3), then_hang(b""), FailureCode.TIMEOUT, id="hangs"),
        pytest.param(case_of(timeout=0.3), drip(http(WHOLE)), FailureCode.TIMEOUT, id="drips"),
        pytest.param(
            case_of(timeout=0.3), then_hang(http(WHOLE)[:-5]), FailureCode.TIMEOUT, id="hangs inside the body"
        ),
        pytest.param(
            case_of(timeout=0.3, stream=True),
            then_hang(chunked(*INVOKE_STREAM[:2], end=False)),
            FailureCode.TIMEOUT,
            id="stream hangs",
        ),
        pytest.param(
            case_of(timeout=0.3, stream=True),
            drip(chunked(*[DELTA] * 20)),
            FailureCode.TIMEOUT,
            id="stream drips",
        ),
    ],
)
def test_a_request_that_left_may_be_billed(case: Case, answer: Answer, code: FailureCode) -> None:
    error = failure(case, answer)
    assert error.code is code
    assert error.possibly_billed


@pytest.mark.parametrize("before", [(), INVOKE_STREAM[:2]])
@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (exception("throttlingException", "Too many tokens"), FailureCode.THROTTLED, "ThrottlingException: Too many"),
        (exception("validationException", "no"), FailureCode.INVALID, "ValidationException: no"),
        (exception("modelStreamErrorException", "x"), FailureCode.TRANSIENT, "ModelStreamErrorException: x"),
        (exception("serviceUnavailableException", "x"), FailureCode.TRANSIENT, "ServiceUnavailableException: x"),
        (exception("modelTimeoutException", "x"), FailureCode.TIMEOUT, "ModelTimeoutException: x"),
        (exception("newException", "x"), FailureCode.TRANSIENT, "NewException: x"),
        (
            frame(b"", message_type="error", error_code="InternalFailure", error_message="oops"),
            FailureCode.TRANSIENT,
            "InternalFailure: oops",
        ),
        (
            chunk({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            FailureCode.TRANSIENT,
            "overloaded_error: Overloaded",
        ),
    ],
)
def test_errors_inside_a_stream(before: tuple[bytes, ...], sent: bytes, code: FailureCode, message: str) -> None:
    error = failure(case_of(stream=True), chunked(*before, sent))
    assert error.code is code
    assert error.message.startswith(message)
    assert error.possibly_billed
    assert error.request_id == "req-1"


# --- refusals --------------------------------------------------------------------------------------------------------


def test_an_error_response_keeps_what_aws_says() -> None:
    error = failure(
        case_of(),
        http(
            b'{"message":"Too many requests, please wait before trying again."}',
            status="429 Too Many Requests",
            headers="x-amzn-ErrorType: ThrottlingException:http://internal.amazon.com/coral/\r\nRetry-After: 7\r\n",
        ),
    )
    assert error.code is FailureCode.THROTTLED
    assert error.message == "ThrottlingException: Too many requests, please wait before trying again."
    assert (error.http_status, error.request_id, error.retry_after) == (429, "req-1", 7.0)
    assert not error.possibly_billed


def test_an_error_response_counts_even_if_its_body_is_cut() -> None:
    error = failure(case_of(), then_close(http(b'{"message":"x"}', status="503 Service Unavailable")[:-4]))
    assert error.code is FailureCode.TRANSIENT
    assert (error.message, error.http_status, error.possibly_billed) == ("HTTP 503", 503, False)


def test_a_redirect_is_not_followed() -> None:
    error = failure(case_of(), http(b"", status="301 Moved", headers="Location: http://127.0.0.1:1/\r\n"))
    assert error.code is FailureCode.INVALID
    assert error.http_status == 301


def test_a_request_that_is_no_json_is_not_sent() -> None:
    request = Request(messages=HELLO, extra={"x": float("nan")})
    assert failure(case_of(request=request), b"").code is FailureCode.INVALID


def test_calls_under_the_retry_layer() -> None:
    """The two halves together: a refusal, a cut stream, an error inside a stream, and then the reply."""
    case = case_of(stream=True)
    answers = (
        http(b'{"message":"slow down"}', status="429 Too Many Requests", headers="x-amz-retry-after: 20\r\n"),
        chunked(*INVOKE_STREAM[:2]),
        chunked(exception("internalServerException", "oops")),
        chunked(*INVOKE_STREAM),
    )

    async def run() -> tuple[Reply, list[AttemptRecord]]:
        attempts: list[AttemptRecord] = []
        async with serving(*answers) as server, connect(server.url) as bedrock:
            reply = await call_with_retries(
                lambda number: bedrock.call(case, HELLO, attempt=number, max_attempts=8),
                admit=lambda: nullcontext(Slot(0)),
                settings=case.job.retry,
                attempts=attempts,
                uniform=lambda low, high: low,
            )
        return reply, attempts

    reply, attempts = asyncio.run(run())
    assert reply.text == "Hi"
    assert [(a["code"], a["waited_ms"], a["possibly_billed"]) for a in attempts] == [
        ("throttled", 0, False),
        ("incomplete", 20, True),
        ("transient", 0, True),
        (None, 0, False),
    ]


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([then_close(http(json.dumps(MESSAGE).encode()))], id="closed after each response"),
        pytest.param(
            [http(json.dumps(MESSAGE).encode()), then_close(b""), http(json.dumps(MESSAGE).encode())],
            id="closed while the next request is on its way",
        ),
        pytest.param(
            [http(json.dumps(MESSAGE).encode()), then_reset(b""), http(json.dumps(MESSAGE).encode())],
            id="reset while the next request is on its way",
        ),
    ],
)
def test_a_server_that_closes_connections_without_saying_so(answers: list[Answer | bytes]) -> None:
    async def run() -> list[list[AttemptRecord]]:
        calls: list[list[AttemptRecord]] = []
        async with serving(*answers) as server, connect(server.url) as bedrock:
            for _ in range(10):
                attempts: list[AttemptRecord] = []
                await call_with_retries(
                    lambda number: bedrock.call(case_of(), HELLO, attempt=number, max_attempts=8),
                    admit=lambda: nullcontext(Slot(0)),
                    settings=RetrySettings(),
                    attempts=attempts,
                    uniform=lambda low, high: low,
                )
                calls.append(attempts)
            # Every request that left is in the records, and no other: aiohttp sends none again by itself.
            assert len(server.requests) <= sum(map(len, calls))
        return calls

    calls = asyncio.run(run())
    failed = [attempt for attempts in calls for attempt in attempts[:-1]]
    assert all(attempts[-1]["code"] is None for attempts in calls)
    assert {(attempt["code"], attempt["possibly_billed"]) for attempt in failed} <= {("transient", True)}
    if len(answers) > 1:
        assert [len(attempts) for attempts in calls] == [1, 2, *[1] * 8]


# --- no connection ---------------------------------------------------------------------------------------------------


def unreachable(url: str, **changes: Any) -> CallError:
    async def run() -> None:
        async with connect(url) as bedrock:
            await bedrock.call(case_of(**changes), HELLO)

    with pytest.raises(CallError) as caught:
        asyncio.run(run())
    return caught.value


def test_idle_connections_are_kept_alive() -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 1))
    with _keepalive_socket(address) as made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 350


def test_connection_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    error = unreachable(f"http://127.0.0.1:{port}")
    assert error.code is FailureCode.NETWORK
    assert not error.possibly_billed
    assert error.message == f"no connection to http://127.0.0.1:{port}: Connection refused"
    assert error.hint is not None
    assert "HTTPS_PROXY" in error.hint


def test_a_name_that_does_not_resolve() -> None:
    error = unreachable("http://bedrock.invalid")
    assert error.code is FailureCode.NETWORK
    assert not error.possibly_billed
    assert error.message.startswith("no connection to http://bedrock.invalid: ")
    for internal in ("ssl", "object at", "[Errno", "Cannot connect"):
        assert internal not in error.message


def test_a_deadline_before_there_is_a_connection() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(address)  # the queue is full: whoever comes now waits
            error = unreachable(f"http://127.0.0.1:{address[1]}", timeout=0.3)
    assert error.code in {FailureCode.NETWORK, FailureCode.TIMEOUT}
    assert error.possibly_billed == (error.code is FailureCode.TIMEOUT)


@pytest.mark.parametrize(
    "url", ["nonsense", "ftp://127.0.0.1", "http://127.0.0.1:1\n", "http://", "http://[::1", "http://127.0.0.1:99999"]
)
def test_an_endpoint_that_is_none(url: str) -> None:
    error = unreachable(url)
    assert error.code is FailureCode.NOT_FOUND
    assert error.code.concerns_account
    assert repr(url) in error.message


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_no_secret_in_any_text() -> None:
    connection = Connection(access_key="LOCAL", secret_key=SECRET)
    assert SECRET not in repr(connection)

    leak = json.dumps(
        {"message": f"wrong {SECRET}. The Canonical String for this request should be 'x-amz-security-token:abc'"}
    )
    error = failure(
        case_of(), http(leak.encode(), status="403 Forbidden", headers="x-amzn-ErrorType: SignatureDoesNotMatch\r\n")
    )
    assert error.message == "SignatureDoesNotMatch: wrong [secret]."


@pytest.mark.parametrize("answer", [then_close(b"hello\r\n\r\n"), then_close(b""), then_reset(b""), http(b"{}")])
def test_no_secret_in_a_traceback(answer: Answer | bytes) -> None:
    error: BaseException | None = failure(case_of(), answer)
    while error is not None:
        assert "AWS4-HMAC" not in repr(error) + str(error)
        error = error.__cause__


def test_what_follows_a_whole_stream_does_not_count() -> None:
    async def run() -> Reply:
        extra = (exception("internalServerException", "too late"), b"garbage")
        async with serving(chunked(b"".join((*INVOKE_STREAM, *extra)))) as server, connect(server.url) as bedrock:
            return await bedrock.call(case_of(stream=True), HELLO)

    assert asyncio.run(run()).text == "Hi"
