"""Authorization: SigV4 signatures and bearer tokens, verified from the published algorithm and not by an SDK's code."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote

from runner.emulator.errors import AwsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from multidict import CIMultiDictProxy

    from runner.emulator.settings import Settings

_ALGORITHM = "AWS4-HMAC-SHA256"
_TIME = "%Y%m%dT%H%M%SZ"
_MAX_SKEW = timedelta(minutes=5)
_MUST_BE_SIGNED = ("host", "x-amz-date")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<credential>[^,\s]+)\s*,\s*SignedHeaders=(?P<signed>[^,\s]+)\s*,"
    r"\s*Signature=(?P<signature>[0-9a-f]{64})\s*"
)


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it arrived. `target` is the path with its percent-encoding, and the query."""

    method: str
    target: str
    headers: CIMultiDictProxy[str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Scope:
    key_id: str
    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


class Authorizer:
    """Decides whether a call may come in. `now` gives the time, with its zone."""

    def __init__(self, settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._key_id = settings.access_key_id
        self._secret = settings.secret_access_key
        self._bearer_token = settings.bearer_token
        self._now = now

    def check(self, call: Call) -> str:
        """The region the call was signed for, `local` for a bearer. Raises AwsError if the call may not come in."""
        authorization = call.headers.get("Authorization", "")
        if authorization.startswith("Bearer "):
            return self._bearer(authorization.removeprefix("Bearer ").strip())
        if not authorization:
            raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
        parts = _AUTHORIZATION.fullmatch(authorization)
        if parts is None:
            raise _incomplete(
                f"Authorization header is not of the form {_ALGORITHM} Credential=, SignedHeaders=, Signature="
            )
        scope = _scope(parts["credential"])
        signed = parts["signed"].split(";")
        timestamp = _timestamp(call, scope, signed)
        if self._secret is not None:
            self._verify(call, scope, signed, timestamp, parts["signature"])
        return scope.region

    def _bearer(self, token: str) -> str:
        if not token or (
            self._bearer_token is not None
            and not hmac.compare_digest(token.encode(errors="replace"), self._bearer_token.encode(errors="replace"))
        ):
            raise AwsError("AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.")
        return "local"

    def _verify(self, call: Call, scope: _Scope, signed: list[str], timestamp: str, signature: str) -> None:
        temporary = scope.key_id.startswith("ASIA")
        if (self._key_id is not None and scope.key_id != self._key_id) or (
            temporary and "X-Amz-Security-Token" not in call.headers
        ):
            raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.")
        self._check_clock(timestamp)
        canonical = canonical_request(call, signed)
        to_sign = "\n".join((_ALGORITHM, timestamp, str(scope), hashlib.sha256(canonical.encode()).hexdigest()))
        key = _signing_key(self._secret or "", scope.date, scope.region, scope.service)
        expected = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise AwsError(
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details.\n\n"
                f"The Canonical String for this request should have been\n'{canonical}'\n\n"
                f"The String-to-Sign should have been\n'{to_sign}'\n",
            )

    def _check_clock(self, timestamp: str) -> None:
        now, stamp = self._now(), _parse(timestamp)
        earliest, latest = now - _MAX_SKEW, now + _MAX_SKEW
        problem = None
        if stamp < earliest:
            problem = f"Signature expired: {timestamp} is now earlier than {earliest:{_TIME}} ({now:{_TIME}} - 5 min.)"
        elif stamp > latest:
            problem = (
                f"Signature not yet current: {timestamp} is still later than {latest:{_TIME}} ({now:{_TIME}} + 5 min.)"
            )
        if problem:
            raise AwsError("InvalidSignatureException", problem)


def canonical_request(call: Call, signed: list[str]) -> str:
    """The text that is signed. `signed` names the headers, in order."""
    path, _, query = call.target.partition("?")
    headers = "".join(f"{name}:{_header(call, name)}\n" for name in signed)
    body = hashlib.sha256(call.body).hexdigest()
    return "\n".join((call.method, _canonical_path(path), _canonical_query(query), headers, ";".join(signed), body))


def _canonical_path(path: str) -> str:
    """Every service but S3 encodes the path once more: `%3A` on the wire is `%253A` here."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in {"", "."}:
            segments.append(quote(segment, safe="-_.~"))
    return "/" + "/".join(segments) + ("/" if segments and path.endswith("/") else "")


def _canonical_query(query: str) -> str:
    pairs = (
        (quote(key, safe="-_.~"), quote(value, safe="-_.~")) for key, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{key}={value}" for key, value in sorted(pairs))


def _header(call: Call, name: str) -> str:
    return ",".join(" ".join(value.split()) for value in call.headers.getall(name, ()))


@lru_cache(maxsize=64)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _scope(credential: str) -> _Scope:
    key_id, *scope = credential.split("/")
    if len(scope) != 4 or not key_id or scope[3] != "aws4_request":
        raise _incomplete(
            "Credential must have exactly 5 slash-delimited elements, "
            f"e.g. keyid/date/region/service/term, got '{credential}'"
        )
    date, region, service, _ = scope
    if service != "bedrock":
        raise AwsError("InvalidSignatureException", "Credential should be scoped to correct service: 'bedrock'.")
    return _Scope(key_id, date, region, service)


def _timestamp(call: Call, scope: _Scope, signed: list[str]) -> str:
    timestamp = call.headers.get("X-Amz-Date", "")
    _parse(timestamp)
    unsigned = [name for name in _MUST_BE_SIGNED if name not in signed]
    if "X-Amz-Security-Token" in call.headers and "x-amz-security-token" not in signed:
        unsigned.append("x-amz-security-token")
    if unsigned:
        raise AwsError(
            "InvalidSignatureException", f"'{unsigned[0]}' must be a 'SignedHeader' in the AWS Authorization."
        )
    if not timestamp.startswith(scope.date):
        raise AwsError(
            "InvalidSignatureException",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{scope.date}' != '{timestamp[:8]}', from '{timestamp}'.",
        )
    return timestamp


def _parse(timestamp: str) -> datetime:
    try:
        return datetime.strptime(timestamp, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise _incomplete("Authorization header requires existence of a valid 'X-Amz-Date' header.") from None


def _incomplete(message: str) -> AwsError:
    return AwsError("IncompleteSignatureException", message)
