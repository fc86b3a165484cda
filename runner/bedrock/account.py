"""Where to call and as whom: region, endpoint, proxy, TLS and credentials. What boto3 knows.

botocore, which is boto3 without its resources, is imported where it is first used: most commands of the command line
do without it, and so do calls with plain settings.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from runner.bedrock import failures, plain_settings
from runner.bedrock.hints import Target
from runner.bedrock.plain_settings import PlainKeys
from runner.errors import CallError
from runner.threads import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

    import botocore.session
    from botocore.credentials import Credentials, ReadOnlyCredentials

    from runner.bedrock.plain_settings import PlainSettings

DEFAULT_REGION = "us-east-1"

_USABLE_SECONDS = 600  # how long credentials must still last for calls to go on while one of them fetches new ones
_LOOK_PAUSE = 1.0  # seconds between two looks for other credentials, when calls in flight are refused together
_REFRESH_PAUSE = 60.0  # seconds between two tries at new credentials while the old ones last
_LAST_SECONDS = 60  # the old ones are not trusted to last


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


class Route(NamedTuple):
    """Where the calls of a region go, and how they get there. `tls` is None where all of it is http."""

    url: str
    proxy: str | None
    tls: ssl.SSLContext | None


class Account:
    """What boto3 knows: region, endpoint, credentials, CA bundle. Everything here may block; it is for any thread."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.bearer_token = "" if self._is_static else os.environ.get("AWS_BEARER_TOKEN_BEDROCK", "").strip()
        self._lock = threading.RLock()
        self._endpoints: dict[str, str] = {}

    @property
    def _is_static(self) -> bool:
        return self.connection.access_key is not None

    @property
    def profile(self) -> str | None:
        if self.connection.profile or self._is_static:
            return self.connection.profile
        return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")  # in boto3's order

    def region(self, job_region: str | None) -> str:
        """The region of a job that names `job_region`. Raises CallError."""
        region = self._find_region(job_region)
        if not _fits_a_header(region):
            raise failures.bad_region(region)
        return region

    def _find_region(self, job_region: str | None) -> str:
        region = self.connection.region or job_region
        if region or self._is_static:
            return region or DEFAULT_REGION
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region:
            return region
        if self._plain is not None:
            return self._plain.region or DEFAULT_REGION
        with self._lock, self._mapped(DEFAULT_REGION):
            return self._session.get_config_variable("region") or DEFAULT_REGION

    def endpoint(self, region: str) -> str:
        """The URL that boto3 would call, without a slash at its end."""
        with self._lock:
            if region not in self._endpoints:
                self._endpoints[region] = self._find_endpoint(region).rstrip("/")
            return self._endpoints[region]

    def route(self, region: str) -> Route:
        """The endpoint, and how to get there. Raises CallError, also for a bearer token that cannot be sent there."""
        url = self.endpoint(region)
        if not _fits_a_header(self.bearer_token):
            raise failures.unusable_credentials("AWS_BEARER_TOKEN_BEDROCK")
        parts = urlsplit(url)
        proxy = _proxy_for(url)
        if parts.scheme == "http" and self.bearer_token and not _is_loopback(parts.hostname or ""):
            raise failures.bare_token(url)
        is_encrypted = parts.scheme == "https" or (proxy is not None and proxy.startswith("https:"))
        return Route(url, proxy, self._tls_context(region) if is_encrypted else None)

    def _find_endpoint(self, region: str) -> str:
        url = self.connection.endpoint_url
        if url is None and self._plain is not None:
            url = self._plain.endpoint(region)
        if url is None:
            # A client is the one public thing that puts all settings together: the AWS_ENDPOINT_URL variables, the
            # profile's `services` section, FIPS and dual stack.
            with self._mapped(region):
                url = self._session.create_client("bedrock-runtime", region_name=region).meta.endpoint_url
        if not _is_http_url(url) or "@" in urlsplit(url).netloc:  # a name and password would take the signature's place
            raise failures.bad_endpoint(url)
        return url

    def credentials(self, region: str) -> Credentials | PlainKeys:
        """The first credentials of boto3's chain. Raises CallError (credentials) if there are none."""
        connection = self.connection
        if connection.access_key is not None:
            return PlainKeys(connection.access_key, connection.secret_key or "")
        if self._plain is not None and self._plain.keys is not None:
            return self._plain.keys
        with self._lock, self._mapped(region):
            found = self._session.get_credentials()
            if found is None:
                raise failures.no_credentials()
            return found

    def freeze(self, credentials: Credentials | PlainKeys, region: str) -> ReadOnlyCredentials:
        """The keys to sign with, renewed if they are about to expire. Raises CallError."""
        with self._mapped(region):
            keys = cast("ReadOnlyCredentials", credentials.get_frozen_credentials())  # PlainKeys have all that signs
        from_environment = credentials.method == "env"
        for value, variable, name in (
            (keys.access_key, "AWS_ACCESS_KEY_ID", "access key id"),
            (keys.secret_key, "AWS_SECRET_ACCESS_KEY", "secret access key"),
            (keys.token, "AWS_SESSION_TOKEN", "session token"),
        ):
            if value and not _fits_a_header(value):
                raise failures.unusable_credentials(variable if from_environment else f"the {name} of the credentials")
        return keys

    def _tls_context(self, region: str) -> ssl.SSLContext:
        """What to trust: the CA bundle of the AWS settings; without one, the system's authorities and boto3's."""
        bundle = None if self._is_static else self._ca_bundle(region) or os.environ.get("REQUESTS_CA_BUNDLE")
        if not bundle:
            context = ssl.create_default_context()
            context.load_verify_locations(_authorities_of_boto3())
            return context
        try:
            is_folder = Path(bundle).is_dir()
            return ssl.create_default_context(
                cafile=None if is_folder else bundle, capath=bundle if is_folder else None
            )
        except (OSError, ValueError) as error:
            raise failures.bad_ca_bundle(bundle, str(error)) from error

    def _ca_bundle(self, region: str) -> str | None:
        if self._plain is not None:
            return self._plain.ca_bundle
        with self._lock, self._mapped(region):
            bundle: str | None = self._session.get_config_variable("ca_bundle")
            return bundle

    @cached_property
    def _plain(self) -> PlainSettings | None:
        return plain_settings.read(self.connection.profile)

    @cached_property
    def _session(self) -> botocore.session.Session:
        import botocore.session

        return botocore.session.Session(profile=self.connection.profile)

    @contextmanager
    def _mapped(self, region: str) -> Iterator[None]:
        """Turn what boto3 raises into CallError. Broken settings also come as ValueError, OSError or RuntimeError."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, ValueError, OSError, RuntimeError) as error:
            target = Target(model="", region=region, endpoint="", profile=self.profile)
            raise failures.of_botocore(error, target=target, profiles=self._profiles()) from error

    def _profiles(self) -> tuple[str, ...]:
        import botocore.session
        from botocore.exceptions import BotoCoreError

        try:
            return tuple(botocore.session.Session().available_profiles)
        except BotoCoreError:
            return ()


def _fits_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _is_http_url(url: str) -> bool:
    if not url.isprintable():  # urlsplit takes line ends out, the caller of the URL does not
        return False
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


def _authorities_of_boto3() -> str:
    """The file that botocore.httpsession.get_cert_path names; to import that module takes some 50 ms."""
    try:
        found: str = importlib.import_module("certifi").where()
    except ModuleNotFoundError:
        import botocore

        found = str(Path(botocore.__file__).with_name("cacert.pem"))
    return found


def _proxy_for(url: str) -> str | None:
    """The proxy that boto3 would use for `url`, except that what this machine serves to itself goes through none.

    Raises CallError if it is not a URL.
    """
    parts = urlsplit(url)
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxy = getproxies().get(parts.scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _is_http_url(proxy):
        raise failures.bad_proxy(proxy)
    return proxy


class Keys:
    """Credentials that are renewed in a thread, once for all calls, while calls go on as long as the old ones last."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._credentials: Credentials | PlainKeys | None = None
        self._frozen: ReadOnlyCredentials | None = None
        self._lock = asyncio.Lock()
        self._not_before = 0.0
        self._looked_at = -_LOOK_PAUSE

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
                self._frozen = await in_daemon_thread(partial(self._renew, region))
            return self._frozen

    def _renew(self, region: str) -> ReadOnlyCredentials:
        self._not_before = time.monotonic() + _REFRESH_PAUSE
        if self._credentials is None:
            self._credentials = self._account.credentials(region)
        return self._account.freeze(self._credentials, region)

    async def replaced(self, refused: ReadOnlyCredentials, region: str) -> bool:
        """Whether there are other keys now than those that were `refused`: somebody may have logged in meanwhile.

        Profiles are read anew for it, which botocore does by itself only for keys whose end it knows.
        """
        async with self._lock:
            if self._frozen == refused and time.monotonic() - self._looked_at >= _LOOK_PAUSE:
                self._looked_at = time.monotonic()
                with suppress(CallError):  # what is wrong with the new settings is less than that the old keys ended
                    await in_daemon_thread(partial(self._read_anew, region))
            return self._frozen != refused

    def _read_anew(self, region: str) -> None:
        account = Account(self._account.connection)
        credentials = account.credentials(region)
        self._frozen, self._credentials = account.freeze(credentials, region), credentials

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
