"""The HTTP server: requests in, answers and faults out on the wire."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import signal
import socket
import struct
import threading
import time
import traceback
import uuid
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from aiohttp import web

from runner.emulator import control, faults, framing
from runner.emulator.auth import Authorizer, Call
from runner.emulator.calls import MAX_BODY, OPERATIONS, Answer, Caller, Directives, count_tokens
from runner.emulator.errors import AwsError, invalid
from runner.emulator.settings import Settings, SettingsError, did_you_mean, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

_DIRECTIVES = "x-bedrock-emulator"
_MODEL_PATH = re.compile(r"/model/(?P<model>[^/]+)/(?P<operation>[a-z-]+)")
_BACKLOG = 4096  # connections that wait to be accepted
_FILES = 16_384
_LOOPS_TO_ACCEPT = 5  # turns of the event loop from asyncio's accept() to connection_made(), and one more
_DRAINED_BODY = 64 * 1024 * 1024  # bytes read of a body that is too large, so that its sender gets to read the answer
_ERROR_TYPE = "{}:http://internal.amazon.com/coral/com.amazon.bedrock/"
_HEADERS_OF_ERRORS = {"overloaded_error": {"Retry-After": "1"}}


class Exchange:
    """One request and what is sent for it."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.request_id = str(uuid.uuid4())
        self.response: web.StreamResponse | None = None
        self.summary = ""  # for the log: what a model answered
        self.started = time.perf_counter()

    def headers(self, content_type: str) -> dict[str, str]:
        return {"x-amzn-RequestId": self.request_id, "Content-Type": content_type}

    async def send_document(
        self, document: dict[str, Any], *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        body = framing.to_json(document)
        self.response = web.Response(
            body=body, status=status, headers={**self.headers("application/json"), **(headers or {})}
        )

    async def send_error(self, error: AwsError) -> None:
        headers = {"x-amzn-ErrorType": _ERROR_TYPE.format(error.code), **_HEADERS_OF_ERRORS.get(error.code, {})}
        self.summary = self.summary or error.code
        await self.send_document(error.document, status=error.status, headers=headers)

    async def send_answer(self, answer: Answer) -> None:
        self.summary = f"fault={answer.fault} " if answer.fault else ""
        if answer.fault == "reset":
            self._reset()
            return
        if answer.fault == "hang":
            await _forever()
        headers = self._answer_headers(answer)
        if answer.reply is not None:
            self.summary += f"in={answer.reply.input_tokens} out={answer.reply.output_tokens}"
        wire = answer.wire
        if wire.end == "clean" and not wire.drip and not answer.streaming:
            self.response = web.Response(body=wire.parts[0], headers=headers)
            return
        response = self.response = web.StreamResponse(headers=headers)
        response.content_length = wire.length
        if wire.length is None:
            response.enable_chunked_encoding()
        await response.prepare(self.request)
        await _write(response, wire, pace=answer.pace)
        if wire.end == "drop" and self.request.transport is not None:
            self.request.transport.close()

    def _answer_headers(self, answer: Answer) -> dict[str, str]:
        if answer.streaming:
            headers = self.headers(framing.CONTENT_TYPE)
            headers["X-Amzn-Bedrock-Content-Type"] = "application/json"
            return headers
        headers = self.headers("application/json")
        if answer.reply is not None:
            headers["X-Amzn-Bedrock-Input-Token-Count"] = str(answer.reply.input_tokens)
            headers["X-Amzn-Bedrock-Output-Token-Count"] = str(answer.reply.output_tokens)
            headers["X-Amzn-Bedrock-Invocation-Latency"] = str(answer.milliseconds)
        return headers

    def _reset(self) -> None:
        transport = self.request.transport
        if transport is not None:
            # Lingering for 0 seconds makes the kernel send RST in place of FIN.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        self.response = web.Response()


class Emulator:
    """Routes requests, and turns every failure into an answer."""

    def __init__(self, settings: Settings) -> None:
        self._authorizer = Authorizer(settings)
        self._caller = Caller(settings)
        self._log = settings.log
        self._unused = settings.unused

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request)
        try:
            await self._route(exchange)
        except AwsError as error:
            await exchange.send_error(error)
        except ConnectionError:
            exchange.summary += " client went away"
        except Exception as error:  # a bug here must reach whoever is testing against us
            traceback.print_exc()
            await exchange.send_error(AwsError("InternalServerException", f"The local emulator has a bug: {error!r}"))
        finally:
            if self._log is not None:
                with suppress(OSError, ValueError):  # nobody reads the log any more
                    self._log(_log_line(exchange))
        return exchange.response or web.Response(status=500)

    def tell_unused(self) -> None:
        if self._unused is not None:
            for entry in self._caller.unused_replies():
                self._unused(entry)

    async def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        path, _, query = request.raw_path.partition("?")
        if path == "/" and request.method == "GET":
            exchange.response = web.Response(text=control.front_page(f"http://{request.host}"))
            return
        body = await _read_body(request)
        region = self._authorizer.check(Call(request.method, request.raw_path, request.headers, body))
        parts = _MODEL_PATH.fullmatch(path)
        if request.method == "POST" and parts:
            model_id, operation = unquote(parts["model"]), parts["operation"]
            if operation in OPERATIONS:
                await self._caller.call(
                    OPERATIONS[operation],
                    model_id,
                    body,
                    region=region,
                    directives=_directives(request.headers.get(_DIRECTIVES, "")),
                    send=exchange.send_answer,
                )
                return
            if operation == "count-tokens":
                await exchange.send_document(await count_tokens(model_id, body))
                return
        if request.method == "GET" and path in _LISTS:
            await exchange.send_document(_LISTS[path](dict(parse_qsl(query)), region=region))
            return
        raise AwsError("UnknownOperationException", f"The local emulator does not serve {request.method} {path}.")


_LISTS = {
    "/foundation-models": control.list_foundation_models,
    "/inference-profiles": control.list_inference_profiles,
}


@contextmanager
def in_thread(settings: Settings) -> Iterator[str]:
    """See `runner.emulator.running`."""
    started: Future[tuple[str, Callable[[], object]]] = Future()

    async def main() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def ready(url: str) -> None:
            started.set_result((url, partial(loop.call_soon_threadsafe, stopped.set)))

        await _serve(settings, ready=ready, stopped=stopped)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # it is raised where the thread was started
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="bedrock-emulator", daemon=True)
    thread.start()
    try:
        url, stop = started.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield url
    finally:
        stop()
        thread.join()


def in_foreground(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """See `runner.emulator.serve`."""

    async def main() -> None:
        loop, stopped = asyncio.get_running_loop(), asyncio.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(stopped.set)

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            await _serve(settings, ready=ready, stopped=stopped)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    _allow_many_connections()
    asyncio.run(main())


def _allow_many_connections() -> None:
    """Each connection is an open file, of which many systems allow a process 1024 until it asks for more."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


async def _serve(settings: Settings, *, ready: Callable[[str], None], stopped: asyncio.Event) -> None:
    emulator = Emulator(settings)
    server = web.Server(
        emulator.handle,
        handler_cancellation=True,  # a client that goes away ends hang, stall and drip
        access_log=None,
        auto_decompress=False,  # what is signed is what is sent
        max_line_size=32 * 1024,
        max_field_size=32 * 1024,
    )
    runner = web.ServerRunner(server, shutdown_timeout=0.05)
    await runner.setup()
    try:
        listener = _listen(settings)
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        host, port = runner.addresses[0][:2]
        ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        await stopped.wait()
        # Closing the listener while asyncio is accepting would leave that connection open for ever: accept no more, let
        # what was accepted become known to aiohttp, and only then close.
        asyncio.get_running_loop().remove_reader(listener)
        for _ in range(_LOOPS_TO_ACCEPT):
            await asyncio.sleep(0)
    finally:
        await runner.cleanup()
        emulator.tell_unused()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            what = (
                f"port {settings.port} of {settings.host} is in use: another program listens there, choose another port"
            )
        else:
            by_number = error.errno and error.errno > 0 and not isinstance(error, socket.gaierror)
            reason = os.strerror(error.errno) if error.errno and by_number else error.strerror
            what = f"cannot listen on {settings.host}:{settings.port}: {reason}"
        raise SettingsError(what) from error


async def _read_body(request: web.BaseRequest) -> bytes:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    async for part in request.content.iter_any():
        size += len(part)
        if size <= MAX_BODY:
            parts.append(part)
        elif size > _DRAINED_BODY:
            break
    if size > MAX_BODY:
        raise invalid(
            "1 validation error detected: Value at 'body' failed to satisfy constraint: "
            f"Member must have length less than or equal to {MAX_BODY}"
        )
    return b"".join(parts)


async def _write(response: web.StreamResponse, wire: faults.Wire, *, pace: float) -> None:
    if wire.drip:
        for at in range(len(body := b"".join(wire.parts)) - 1):  # the last byte never comes
            await response.write(body[at : at + 1])
            await asyncio.sleep(faults.DRIP_SECONDS)
        await _forever()
    if pace:
        for at, part in enumerate(wire.parts):
            await asyncio.sleep(pace if at else 0)
            await response.write(part)
    else:
        await response.write(b"".join(wire.parts))
    if wire.end == "stall":
        await _forever()


async def _forever() -> None:
    """Until the client goes away or the emulator stops: both cancel the handler."""
    await asyncio.Event().wait()


def _directives(header: str) -> Directives:
    values: dict[str, Any] = {}
    for part in header.split(";"):
        name, _, value = (text.strip() for text in part.partition("="))
        if not name:
            continue
        if name == "fault":
            if value not in faults.FAULTS:
                raise invalid(f"{_DIRECTIVES}: unknown fault {value!r}: {did_you_mean(value, faults.FAULTS)}")
            values[name] = value
        elif name in {"latency", "pace"}:
            try:
                values[name] = seconds(value)
            except ValueError as error:
                raise invalid(f"{_DIRECTIVES}: {name} {error}") from None
        else:
            raise invalid(f"{_DIRECTIVES}: unknown {name!r}: {did_you_mean(name, ('fault', 'latency', 'pace'))}")
    return Directives(**values)


def _log_line(exchange: Exchange) -> str:
    status = exchange.response.status if exchange.response is not None else "-"
    milliseconds = (time.perf_counter() - exchange.started) * 1000
    request = exchange.request
    return f"{request.method} {unquote(request.raw_path)} {status} {milliseconds:.0f} ms {exchange.summary}".rstrip()
