"""One call of Bedrock over aiohttp: the request as the account signs it, and the whole reply or one CallError.

aiohttp is imported where it is first used, since most commands of the command line do without it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from runner import __version__, media
from runner.bedrock import failures
from runner.bedrock.account import Account, Keys
from runner.bedrock.eventstream import Decoder, EventStreamError
from runner.bedrock.hints import Target
from runner.bedrock.signing import signed
from runner.bedrock.wire import IncompleteReply, ModelFault, wire_for
from runner.errors import CallError, FailureCode, NoRequestError
from runner.media import rules
from runner.media.attached import AttachedFiles
from runner.records import Image, S3Object
from runner.threads import cores, in_daemon_thread
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import aiohttp
    import aiohttp.connector
    from aiohttp.tracing import Trace
    from botocore.credentials import ReadOnlyCredentials

    from runner.bedrock.account import Connection, Route
    from runner.bedrock.eventstream import Event
    from runner.bedrock.wire import ReplyStream, Wire
    from runner.records import Case, DiskFile, Message, Reply

    _Body = bytes | AsyncIterator[bytes]

_CONNECT_SECONDS = 20.0
_KEEPALIVE_SECONDS = 60  # NAT gateways and VPC endpoints forget a TCP connection that is silent for 350 s
_TRAILER_SECONDS = 1.0
_PIECE = 64 * 1024  # bytes of a large body that are sent at once
_LARGEST_TOLD = 3  # files of a request that is too large
_SHORTEST_SECRET = 16  # a shorter one is the emulator's, and may be a word of any message


class Bedrock:
    """Calls models. An asynchronous context manager; its calls may run side by side."""

    def __init__(self, connection: Connection) -> None:
        self._account = Account(connection)
        self._keys = Keys(self._account)
        self._regions: dict[str | None, str] = {}
        self._routes: dict[str, Route] = {}
        self._route_lock = asyncio.Lock()
        self._fitting = asyncio.Semaphore(2 * cores())  # more than can work: some wait until a large picture is done
        self._run = uuid.uuid4()

    async def __aenter__(self) -> Self:
        self._http = _open_http()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def prepare(self, job_regions: Iterable[str | None]) -> None:
        """Find the endpoints and the credentials for jobs in these regions. Raises CallError, with nothing sent."""
        for region in {self.region_for(job_region) for job_region in job_regions}:
            await self._route(region)
            if not self._account.bearer_token:
                await self._keys.get(region)

    def region_for(self, job_region: str | None) -> str:
        """The region of a job that names `job_region`. May read the AWS config. Raises CallError."""
        if job_region not in self._regions:
            self._regions[job_region] = self._account.region(job_region)
        return self._regions[job_region]

    def endpoint_for(self, region: str) -> str:
        """The URL that the calls of a region go to. Loads boto3 the first time. Raises CallError."""
        return self._account.endpoint(region)

    async def call(
        self,
        case: Case,
        messages: Sequence[Message],
        *,
        attempt: int = 1,
        max_attempts: int = 1,
        on_text: Callable[[str], None] | None = None,
    ) -> Reply:
        """Ask the model once: send `messages` with what else `case` says, and return the whole reply.

        `on_text` gets the text of a streamed reply as it comes. `attempt` and `max_attempts` are told to the service.
        Raises CallError, whatever goes wrong.
        """
        region = self.region_for(case.job.region)
        route = await self._route(region)
        keys = None if self._account.bearer_token else await self._keys.get(region)
        about = self._about(case, len(messages), attempt=attempt, max_attempts=max_attempts)
        attempt_once = partial(self._call, case, messages, region=region, route=route, about=about, on_text=on_text)
        try:
            return await attempt_once(keys=keys)
        except CallError as error:
            if error.code is not FailureCode.CREDENTIALS or not keys or not await self._keys.replaced(keys, region):
                raise
        return await attempt_once(keys=await self._keys.get(region))

    async def _call(  # noqa: PLR0913 - by name: what a call is made of
        self,
        case: Case,
        messages: Sequence[Message],
        *,
        region: str,
        route: Route,
        keys: ReadOnlyCredentials | None,
        about: Mapping[str, str],
        on_text: Callable[[str], None] | None,
    ) -> Reply:
        job = case.job
        wire = wire_for(case)
        url = _url(route.url, job.model, wire.operation(stream=job.stream))
        build = partial(self._build, case, messages, wire=wire, url=url, region=region, keys=keys)
        files = [*case.request.images, *(file for message in messages for file in message.attached)]
        headers, body = await self._built(build, files) if files else build()
        headers |= about
        target = partial(self._target, case, region=region, route=route, keys=keys)
        exchange = _Exchange(self._http, route=route, wire=wire, target=target, on_text=on_text)
        return await exchange.run(url, headers=headers, body=body, stream=job.stream, seconds=job.timeout)

    async def _built(
        self, build: Callable[[], tuple[dict[str, str], _Body]], files: Iterable[Image | DiskFile | S3Object]
    ) -> tuple[dict[str, str], _Body]:
        """What `build` gives, in a thread, since it reads files. What goes as it is waits for no picture to be fitted.

        An interrupted run waits for no picture.
        """
        if not any(isinstance(file, Image) and not media.is_at_hand(file) for file in files):
            return await asyncio.to_thread(build)
        async with self._fitting:
            return await in_daemon_thread(build)

    async def _route(self, region: str) -> Route:
        if region not in self._routes:
            async with self._route_lock:
                if region not in self._routes:
                    self._routes[region] = await in_daemon_thread(partial(self._account.route, region))
        return self._routes[region]

    def _build(  # noqa: PLR0913 - by name, for functools.partial
        self,
        case: Case,
        messages: Sequence[Message],
        *,
        wire: Wire,
        url: str,
        region: str,
        keys: ReadOnlyCredentials | None,
    ) -> tuple[dict[str, str], _Body]:
        """The headers that are signed or sign, and the body. Reads the files."""
        files = AttachedFiles()
        try:
            body = files.put_into(wire.body(case.request, messages, files))
        except ValueError as error:
            raise NoRequestError(FailureCode.INVALID, f"the request cannot be sent: {error}") from error
        _check_size(body, case, messages)
        headers = dict(wire.headers(stream=case.job.stream))
        if keys is None:
            headers["Authorization"] = f"Bearer {self._account.bearer_token}"
        else:
            headers = signed(url, headers, body, region=region, keys=keys)
        if len(body) <= _PIECE:
            return headers, body
        return {**headers, "Content-Length": str(len(body))}, _in_pieces(body)

    def _about(self, case: Case, turn: int, *, attempt: int, max_attempts: int) -> dict[str, str]:
        """The headers about the call, unsigned as boto3's are. The id is the same for every attempt at one call."""
        call = f"{case.job.name!a}:{case.index}:{case.repeat}:{turn}"  # !a: names of files may hold any bytes
        return {
            "User-Agent": f"bedrock-run/{__version__}",
            "Accept-Encoding": "identity",
            "amz-sdk-invocation-id": str(uuid.uuid5(self._run, call)),
            "amz-sdk-request": f"attempt={attempt}; max={max_attempts}",
        }

    def _target(self, case: Case, *, region: str, route: Route, keys: ReadOnlyCredentials | None) -> Target:
        secrets = (keys.secret_key, keys.token) if keys else (self._account.bearer_token,)
        return Target(
            model=case.job.model,
            region=region,
            endpoint=route.url,
            stream=case.job.stream,
            profile=self._account.profile,
            credentials=self._keys.method if keys else "bearer",
            secrets=tuple(secret for secret in secrets if secret and len(secret) >= _SHORTEST_SECRET),
        )


def _check_size(body: bytes, case: Case, messages: Sequence[Message]) -> None:
    """Raise NoRequestError for a body that Bedrock would refuse because of its size, before it is sent in vain."""
    most = rules.most_bytes(case.job.model, case.job.api)
    if most is None or len(body) <= most:
        return
    attached = chain(case.request.images, *(message.attached for message in messages))  # of a raw body, or of turns
    files = [file for file in attached if not isinstance(file, S3Object)]
    files.sort(key=lambda file: file.bytes, reverse=True)
    largest = ", ".join(f"{file.path!r} {file.bytes:,}" for file in files[:_LARGEST_TOLD])
    raise NoRequestError(
        FailureCode.INPUT,
        f"the request has {len(body):,} bytes, files in base64, and Bedrock takes {most:,}"
        + (f"; the largest of {plural(len(files), 'file')} on disk: {largest}" if files else ""),
        hint="send fewer or smaller files, or divide the question among several cases",
    )


@lru_cache(maxsize=256)
def _url(endpoint: str, model: str, operation: str) -> str:
    return f"{endpoint}/model/{quote(model, safe='', errors='replace')}/{operation}"


class _Exchange:
    """One request and its reply, and how far they have come: that decides what a failure means."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        route: Route,
        wire: Wire,
        target: Callable[[], Target],
        on_text: Callable[[str], None] | None,
    ) -> None:
        """`target` is asked for when something fails."""
        self._http = http
        self._route = route
        self._wire = wire
        self._target = target
        self._start = time.monotonic()
        self._on_text = on_text
        self._answered = False
        self._request_id: str | None = None
        self._first_token_ms: int | None = None
        self.sent = False

    async def run(self, url: str, *, headers: Mapping[str, str], body: _Body, stream: bool, seconds: float) -> Reply:
        """Send the request and read the whole reply, within `seconds`. Raises CallError."""
        import aiohttp

        try:
            async with asyncio.timeout(seconds) as self._deadline:
                token = _exchange.set(self)
                try:
                    return await self._send(url, headers=headers, body=body, stream=stream)
                finally:  # else the task would hold what holds the task, and wait for the garbage collector
                    _exchange.reset(token)
        except (IncompleteReply, EventStreamError) as error:
            raise failures.of_incomplete(error.reason, request_id=self._request_id) from error
        except ModelFault as fault:
            raise failures.of_model_fault(fault, target=self._target(), request_id=self._request_id) from fault
        except aiohttp.ClientError as error:
            # Not `from error`: aiohttp's exceptions carry the request, its Authorization included.
            raise self._transport_failure(error) from None
        except TimeoutError:
            raise failures.of_timeout(
                seconds, target=self._target(), sent=self.sent, request_id=self._request_id
            ) from None
        except OSError as error:
            raise self._transport_failure(error) from None

    def _transport_failure(self, error: Exception) -> CallError:
        return failures.of_transport(
            error, target=self._target(), sent=self.sent, answered=self._answered, request_id=self._request_id
        )

    async def _send(self, url: str, *, headers: Mapping[str, str], body: _Body, stream: bool) -> Reply:
        from yarl import URL

        async with self._http.post(
            URL(url, encoded=True),
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=self._route.proxy,
            ssl=self._route.tls or True,
        ) as response:
            self._answered = True
            self._request_id = failures.request_id(response.headers)
            if not 200 <= response.status < 300:
                raise await self._refusal(response)
            if stream:
                return await self._read_stream(response)
            return self._timed(self._wire.reply(await response.read(), response.headers))

    async def _refusal(self, response: aiohttp.ClientResponse) -> CallError:
        """The failure that an error response reports, even if its body is cut short."""
        import aiohttp

        payload = b""
        with suppress(aiohttp.ClientError):
            payload = await response.read()
        return failures.of_response(
            response.status, response.headers, payload, target=self._target(), request_id=self._request_id
        )

    async def _read_stream(self, response: aiohttp.ClientResponse) -> Reply:
        decoder, stream = Decoder(), self._wire.stream()
        while data := await response.content.readany():
            for event in decoder.feed(data):
                self._take(event, stream)
                if stream.done:  # what follows does not count, in the same piece or later
                    reply = self._timed(stream.reply())
                    self._deadline.reschedule(None)
                    await _drain(response)
                    return reply
        decoder.close()
        return self._timed(stream.reply())

    def _take(self, event: Event, stream: ReplyStream) -> None:
        if event.headers.get(":message-type") in {"exception", "error"}:
            raise failures.of_event(event, target=self._target(), request_id=self._request_id)
        text = stream.event(event)
        if not text:
            return
        if self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()
        if self._on_text:
            self._on_text(text)

    def _timed(self, reply: Reply) -> Reply:
        return replace(
            reply,
            latency_ms=self._elapsed_ms(),
            first_token_ms=self._first_token_ms,
            request_id=self._request_id,
        )

    def _elapsed_ms(self) -> int:
        return round((time.monotonic() - self._start) * 1000)


_exchange: ContextVar[_Exchange] = ContextVar("_exchange")  # the one that this task is about


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    """A large body, so that sending it does not hold up the other calls and nothing of it is left once it is sent."""
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]
        await asyncio.sleep(0)


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read up to the end of a response whose reply is whole, so that its connection can serve another call.

    What goes wrong here, even that the run is stopped, concerns the connection alone: the reply is paid for and counts.
    """
    import aiohttp

    with suppress(aiohttp.ClientError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(_TRAILER_SECONDS):
            while await response.content.readany():
                pass


def _open_http() -> aiohttp.ClientSession:
    """The connections that all calls share. How many there are is for the caller to bound."""
    with _no_authorities():
        import aiohttp

    class Connector(aiohttp.TCPConnector):
        """Tells the exchange when its request can leave. aiohttp's own tracing would cost a fifth of a small call."""

        async def connect(
            self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
        ) -> aiohttp.connector.Connection:
            connection = await super().connect(req, traces, timeout)
            _exchange.get().sent = True
            return connection

    return aiohttp.ClientSession(
        connector=Connector(limit=0, socket_factory=_keepalive_socket),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
    )


@contextmanager
def _no_authorities() -> Iterator[None]:
    """aiohttp makes TLS contexts of its own when it is imported. To read the authorities that they would trust takes a
    fifth of what it takes a small run to send its first request, and each route to be called brings its own context.
    """
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # Linux, macOS, both
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS)
    return made
