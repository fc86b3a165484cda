"""One call of Bedrock: session, credentials, region, endpoint and signature by boto3, the call itself by aiohttp.

boto3 and aiohttp are imported where they are first used, since most commands of the command line use neither.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import quote, urlsplit

from runner import __version__, failures, media
from runner.errors import CallError, FailureCode
from runner.eventstream import Decoder, EventStreamError
from runner.wire import IncompleteReply, ModelFault, wire_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import aiohttp
    import aiohttp.connector
    import boto3
    from aiohttp.tracing import Trace
    from botocore.credentials import Credentials, ReadOnlyCredentials

    from runner.eventstream import Event
    from runner.records import Case, Message, Reply
    from runner.wire import ReplyStream, Wire

DEFAULT_REGION = "us-east-1"

_CONNECT_SECONDS = 20.0
_KEEPALIVE_SECONDS = 60  # NAT gateways and VPC endpoints forget a TCP connection that is silent for 350 s
_TRAILER_SECONDS = 1.0
_LARGE_BODY = 1024 * 1024  # from here on a body is sent piece by piece, so that it does not hold up the other calls
_USABLE_SECONDS = 600  # how long credentials must still last for calls to go on while one of them fetches new ones
_REFRESH_PAUSE = 60.0  # seconds between two tries at new credentials while the old ones last
_LAST_SECONDS = 60  # the old ones are not trusted to last
_SHORTEST_SECRET = 16  # a shorter one is the emulator's, and may be a word of any message


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where to send and as whom, as the command line says; what it does not say comes from the AWS settings.

    With `access_key` and `secret_key` (the local emulator's) no AWS setting counts: no environment, profile or token.
    """

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)


# --- boto3's half ----------------------------------------------------------------------------------------------------


class _Account:
    """What boto3 knows: region, endpoint, credentials, CA bundle. Everything here may block; it is for any thread."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bearer_token = "" if self.is_static else os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()
        self._lock = threading.RLock()
        self._endpoints: dict[str, str] = {}

    @property
    def is_static(self) -> bool:
        return self.connection.access_key is not None

    @property
    def profile(self) -> str | None:
        if self.connection.profile or self.is_static:
            return self.connection.profile
        return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")  # in boto3's order

    def region(self, job_region: str | None) -> str:
        region = self.connection.region or job_region
        if region or self.is_static:
            return region or DEFAULT_REGION
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            return region
        with self._lock, self._mapped(DEFAULT_REGION):
            return self._session.region_name or DEFAULT_REGION

    def endpoint(self, region: str) -> str:
        """The URL that boto3 would call, without a slash at its end."""
        with self._lock:
            if region not in self._endpoints:
                self._endpoints[region] = self._find_endpoint(region).rstrip("/")
            return self._endpoints[region]

    def _find_endpoint(self, region: str) -> str:
        url = self.connection.endpoint_url
        if url is None:
            # A client is the one public thing that puts all settings together: the AWS_ENDPOINT_URL variables, the
            # profile's `services` section, FIPS and dual stack.
            with self._mapped(region):
                url = self._session.client("bedrock-runtime", region_name=region).meta.endpoint_url
        if not _is_http_url(url):
            raise failures.bad_endpoint(url)
        return url

    def credentials(self, region: str) -> Credentials:
        """The first credentials of boto3's chain. Raises CallError (credentials)."""
        from botocore.credentials import Credentials

        connection = self.connection
        if connection.access_key is not None:
            return Credentials(connection.access_key, connection.secret_key or "", method="explicit")
        with self._lock, self._mapped(region):
            found = self._session.get_credentials()
            if found is None:
                raise failures.no_credentials()
            return found

    def freeze(self, credentials: Credentials, region: str) -> ReadOnlyCredentials:
        """The keys to sign with, renewed if they are about to expire. Raises CallError."""
        with self._mapped(region):
            return credentials.get_frozen_credentials()

    def tls_context(self, region: str) -> ssl.SSLContext:
        """What to trust: the CA bundle of the AWS settings; without one, the system's authorities and boto3's."""
        from botocore.httpsession import get_cert_path

        bundle = None
        if not self.is_static:
            with self._lock, self._mapped(region):
                bundle = self._session._session.get_config_variable("ca_bundle")  # noqa: SLF001 - boto3 has no other way
            bundle = bundle or os.environ.get("REQUESTS_CA_BUNDLE")
        if not bundle:
            context = ssl.create_default_context()
            context.load_verify_locations(get_cert_path(True))  # noqa: FBT003 - botocore's signature
            return context
        try:
            is_folder = Path(bundle).is_dir()
            return ssl.create_default_context(
                cafile=None if is_folder else bundle, capath=bundle if is_folder else None
            )
        except (OSError, ValueError) as error:
            raise failures.bad_ca_bundle(bundle, str(error)) from error

    @cached_property
    def _session(self) -> boto3.Session:
        import boto3

        return boto3.Session(profile_name=self.connection.profile)

    @contextmanager
    def _mapped(self, region: str) -> Iterator[None]:
        """Turn what boto3 raises into CallError. Broken settings also come as ValueError, OSError or RuntimeError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, ValueError, OSError, RuntimeError) as error:
            target = failures.Target(model="", region=region, endpoint="", profile=self.profile)
            raise failures.of_botocore(error, target=target, profiles=self._profiles()) from error

    def _profiles(self) -> tuple[str, ...]:
        import botocore.session
        from botocore.exceptions import BotoCoreError

        try:
            return tuple(botocore.session.Session().available_profiles)
        except BotoCoreError:
            return ()


def _is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment has for `url`. What this machine serves to itself goes through none."""
    from botocore.utils import get_environ_proxies

    parts = urlsplit(url)
    if _is_loopback(parts.hostname or ""):
        return None
    proxy: str | None = get_environ_proxies(url).get(parts.scheme)
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _signed(
    url: str, headers: Mapping[str, str], body: bytes, *, region: str, keys: ReadOnlyCredentials
) -> dict[str, str]:
    """`headers` with the signature that boto3 would make."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    request = AWSRequest(method="POST", url=url, data=body, headers=headers)
    SigV4Auth(keys, "bedrock", region).add_auth(request)
    return dict(request.headers.items())


class _Keys:
    """Credentials that are renewed in a thread, once for all calls, while calls go on as long as the old ones last."""

    def __init__(self, account: _Account) -> None:
        self._account = account
        self._credentials: Credentials | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._lock = asyncio.Lock()
        self._not_before = 0.0

    @property
    def method(self) -> str:
        """boto3's name for where the credentials come from: env, sso, assume-role, shared-credentials-file, ..."""
        return self._credentials.method or "" if self._credentials else ""

    async def get(self, region: str) -> ReadOnlyCredentials:
        """The keys to sign with. Raises CallError."""
        if self._frozen is not None and not self._must_wait():
            return self._frozen
        async with self._lock:
            if self._frozen is None or self._due():
                self._frozen = await asyncio.to_thread(self._renew, region)
            return self._frozen

    def _renew(self, region: str) -> ReadOnlyCredentials:
        self._not_before = time.monotonic() + _REFRESH_PAUSE
        if self._credentials is None:
            self._credentials = self._account.credentials(region)
        return self._account.freeze(self._credentials, region)

    def _must_wait(self) -> bool:
        """Whether new keys are due, and either nobody fetches them yet or the old ones may not last that long."""
        return self._due() and (not self._lock.locked() or self._expire_within(_USABLE_SECONDS))

    def _due(self) -> bool:
        if not self._expire_within(None):
            return False
        return time.monotonic() >= self._not_before or self._expire_within(_LAST_SECONDS)

    def _expire_within(self, seconds: int | None) -> bool:
        """Whether the credentials end within so many seconds; None: within boto3's own margin of 15 minutes."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)  # lasting credentials have none
        return refresh_needed is not None and bool(refresh_needed(seconds))


# --- aiohttp's half --------------------------------------------------------------------------------------------------


class _Endpoint(NamedTuple):
    """Where the calls of a region go. `tls` is None for http."""

    url: str
    proxy: str | None
    tls: ssl.SSLContext | None


class Bedrock:
    """Calls models. An asynchronous context manager; its calls may run side by side."""

    def __init__(self, connection: Connection) -> None:
        self._account = _Account(connection)
        self._keys = _Keys(self._account)
        self._regions: dict[str | None, str] = {}
        self._endpoints: dict[str, _Endpoint] = {}
        self._endpoint_lock = asyncio.Lock()
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
            await self._endpoint(region)
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
        job, region = case.job, self.region_for(case.job.region)
        endpoint = await self._endpoint(region)
        keys = None if self._account.bearer_token else await self._keys.get(region)
        wire = wire_for(case)
        url = f"{endpoint.url}/model/{quote(job.model, safe='')}/{wire.operation(stream=job.stream)}"
        build = partial(self._build, case, messages, wire=wire, url=url, region=region, keys=keys)
        has_images = any(message.images for message in messages)
        headers, body = await asyncio.to_thread(build) if has_images else build()
        headers |= self._about(case, len(messages), attempt=attempt, max_attempts=max_attempts)
        target = self._target(case, region=region, endpoint=endpoint, keys=keys)
        exchange = _Exchange(self._http, endpoint=endpoint, wire=wire, target=target, on_text=on_text)
        return await exchange.run(url, headers=headers, body=body, seconds=job.timeout)

    async def _endpoint(self, region: str) -> _Endpoint:
        if region not in self._endpoints:
            async with self._endpoint_lock:
                if region not in self._endpoints:
                    self._endpoints[region] = await asyncio.to_thread(self._find_endpoint, region)
        return self._endpoints[region]

    def _find_endpoint(self, region: str) -> _Endpoint:
        url = self._account.endpoint(region)
        parts = urlsplit(url)
        if parts.scheme == "https":
            return _Endpoint(url, _proxy_for(url), self._account.tls_context(region))
        if self._account.bearer_token and not _is_loopback(parts.hostname or ""):
            raise failures.bare_token(url)
        return _Endpoint(url, _proxy_for(url), None)

    def _build(  # noqa: PLR0913 - by name, for functools.partial
        self,
        case: Case,
        messages: Sequence[Message],
        *,
        wire: Wire,
        url: str,
        region: str,
        keys: ReadOnlyCredentials | None,
    ) -> tuple[dict[str, str], bytes]:
        """The headers that are signed or sign, and the body. Reads the images."""
        try:
            body = wire.body(case.request, messages, media.read_base64)
        except ValueError as error:
            raise CallError(FailureCode.INVALID, f"the request cannot be sent: {error}") from error
        headers = wire.headers(stream=case.job.stream)
        if keys is None:
            return {**headers, "Authorization": f"Bearer {self._account.bearer_token}"}, body
        return _signed(url, headers, body, region=region, keys=keys), body

    def _about(self, case: Case, turn: int, *, attempt: int, max_attempts: int) -> dict[str, str]:
        """The headers about the call, unsigned as boto3's are. The id is the same for every attempt at one call."""
        call = f"{case.job.path}:{case.job.name}:{case.index}:{case.repeat}:{turn}"
        return {
            "User-Agent": f"bedrock-run/{__version__}",
            "Accept-Encoding": "identity",
            "amz-sdk-invocation-id": str(uuid.uuid5(self._run, call)),
            "amz-sdk-request": f"attempt={attempt}; max={max_attempts}",
        }

    def _target(
        self, case: Case, *, region: str, endpoint: _Endpoint, keys: ReadOnlyCredentials | None
    ) -> failures.Target:
        secrets = (keys.secret_key, keys.token) if keys else (self._account.bearer_token,)
        return failures.Target(
            model=case.job.model,
            region=region,
            endpoint=endpoint.url,
            stream=case.job.stream,
            profile=self._account.profile,
            credentials=self._keys.method if keys else "bearer",
            secrets=tuple(secret for secret in secrets if secret and len(secret) >= _SHORTEST_SECRET),
        )


class _Exchange:
    """One request and its reply, and how far they have come: that decides what a failure means."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        endpoint: _Endpoint,
        wire: Wire,
        target: failures.Target,
        on_text: Callable[[str], None] | None,
    ) -> None:
        self._http = http
        self._endpoint = endpoint
        self._wire = wire
        self._target = target
        self._start = time.monotonic()
        self._on_text = on_text
        self._answered = False
        self._request_id: str | None = None
        self._first_token_ms: int | None = None
        self.sent = False

    async def run(self, url: str, *, headers: Mapping[str, str], body: bytes, seconds: float) -> Reply:
        """Send the request and read the whole reply, within `seconds`. Raises CallError."""
        import aiohttp

        try:
            async with asyncio.timeout(seconds):
                return await self._send(url, headers=headers, body=body)
        except (IncompleteReply, EventStreamError) as error:
            raise failures.of_incomplete(error.reason, request_id=self._request_id) from error
        except ModelFault as fault:
            raise failures.of_model_fault(fault, target=self._target, request_id=self._request_id) from fault
        except aiohttp.ClientError as error:
            # Not `from error`: aiohttp's exceptions carry the request, its Authorization included.
            raise self._transport_failure(error) from None
        except TimeoutError:
            raise failures.of_timeout(
                seconds, target=self._target, sent=self.sent, request_id=self._request_id
            ) from None
        except OSError as error:
            raise self._transport_failure(error) from None

    def _transport_failure(self, error: Exception) -> CallError:
        return failures.of_transport(
            error, target=self._target, sent=self.sent, answered=self._answered, request_id=self._request_id
        )

    async def _send(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Reply:
        from yarl import URL

        _exchange.set(self)
        async with self._http.post(
            URL(url, encoded=True),
            data=body if len(body) < _LARGE_BODY else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
            proxy=self._endpoint.proxy,
            ssl=self._endpoint.tls or True,
        ) as response:
            self._answered = True
            self._request_id = response.headers.get("x-amzn-RequestId")
            if not 200 <= response.status < 300:
                raise await self._refusal(response)
            if self._target.stream:
                return await self._read_stream(response)
            return self._timed(self._wire.reply(await response.read(), response.headers))

    async def _refusal(self, response: aiohttp.ClientResponse) -> CallError:
        """The failure that an error response reports, even if its body is cut short."""
        import aiohttp

        payload = b""
        with suppress(aiohttp.ClientError):
            payload = await response.read()
        return failures.of_response(
            response.status, response.headers, payload, target=self._target, request_id=self._request_id
        )

    async def _read_stream(self, response: aiohttp.ClientResponse) -> Reply:
        decoder, stream = Decoder(), self._wire.stream()
        while not stream.done:
            data = await response.content.readany()
            if not data:
                decoder.close()
                return self._timed(stream.reply())
            for event in decoder.feed(data):
                self._take(event, stream)
        reply = self._timed(stream.reply())
        await _drain(response)
        return reply

    def _take(self, event: Event, stream: ReplyStream) -> None:
        if event.headers.get(":message-type") in {"exception", "error"}:
            raise failures.of_event(event, target=self._target, request_id=self._request_id)
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


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read up to the end of a response whose reply is whole, so that its connection can serve another call.

    What goes wrong here concerns the connection alone: the reply has been paid for and counts.
    """
    import aiohttp

    with suppress(aiohttp.ClientError, TimeoutError):
        async with asyncio.timeout(_TRAILER_SECONDS):
            while await response.content.readany():
                pass


def _open_http() -> aiohttp.ClientSession:
    """The connections that all calls share. How many there are is for the caller to bound."""
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


def _keepalive_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # Linux, macOS, both
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS)
    return made
