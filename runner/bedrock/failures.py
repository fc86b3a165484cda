"""Whatever AWS, boto3, aiohttp or the network call a failure -> one CallError, with its hint. The only such place.

Foreign exceptions are known by the names of their classes: to tell them apart must not cost the import of boto3.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from runner.bedrock import hints
from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.bedrock.eventstream import Event
    from runner.bedrock.hints import Target
    from runner.bedrock.wire import ModelFault

_LONGEST_MESSAGE = 2_000
_EXAMINED = 4_000  # characters of a text that patterns are looked for in: their time may grow with its square
_LONGEST_ID = 200
_PASSWORD = re.compile(r"//[^/@\s]*@")  # of a proxy or an endpoint, with the user's name
_AUTHORIZATION = re.compile(r"(Signature=|Credential=|Bearer\s+)[\w+/=.~:%-]{20,}")  # a request that is told back
_LONGEST_WAIT = 86_400.0  # seconds: a server that asks for more is not asking


# --- AWS's names -----------------------------------------------------------------------------------------------------

_NAMES: dict[FailureCode, tuple[str, ...]] = {
    FailureCode.THROTTLED: (
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottledException",
        "RequestThrottled",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "LimitExceededException",
        "SlowDown",
        "PriorRequestNotComplete",
        "EC2ThrottledException",
        "rate_limit_error",
    ),
    FailureCode.QUOTA: ("ServiceQuotaExceededException",),
    FailureCode.TRANSIENT: (
        "InternalServerException",
        "InternalServerError",
        "InternalFailure",
        "ServiceUnavailableException",
        "ServiceUnavailable",
        "ModelNotReadyException",
        "ModelErrorException",
        "ModelStreamErrorException",
        "overloaded_error",
        "api_error",
    ),
    FailureCode.TIMEOUT: ("ModelTimeoutException", "RequestTimeout", "RequestTimeoutException", "timeout_error"),
    FailureCode.DENIED: (
        "AccessDeniedException",
        "AccessDenied",
        "FTUFormNotFilled",
        "MPAgreementBeingCreated",
        "OptInRequired",
        "permission_error",
        "billing_error",
    ),
    FailureCode.CREDENTIALS: (
        "ExpiredTokenException",
        "ExpiredToken",
        "RequestExpired",
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "MissingAuthenticationTokenException",
        "MissingAuthenticationToken",
        "IncompleteSignatureException",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidAccessKeyId",
        "authentication_error",
    ),
    FailureCode.NOT_FOUND: ("ResourceNotFoundException", "UnknownOperationException", "not_found_error"),
    FailureCode.INVALID: (
        "ValidationException",
        "ConflictException",
        "SerializationException",
        "invalid_request_error",
    ),
}
CODE_OF_NAME = {name: code for code, names in _NAMES.items() for name in names}

_CODE_OF_STATUS = {
    401: FailureCode.CREDENTIALS,
    403: FailureCode.DENIED,
    404: FailureCode.NOT_FOUND,
    407: FailureCode.NETWORK,
    408: FailureCode.TIMEOUT,
    424: FailureCode.TRANSIENT,
    429: FailureCode.THROTTLED,
}
_BILLED_STATUSES = frozenset({408, 424, 500, 502, 504})

# Where the name says less than the text: AWS reports these as wrong requests or as denied access.
_BY_TEXT: tuple[tuple[re.Pattern[str], FailureCode], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), code)
    for pattern, code in (
        (r"API key is (?:in)?valid|API key .*expired|bearer token", FailureCode.CREDENTIALS),
        (r"signature (?:expired|not yet current)|security token .* (?:expired|invalid)", FailureCode.CREDENTIALS),
        (r"access to anthropic models is not allowed|use case details have not been", FailureCode.DENIED),
        (r"model identifier is invalid", FailureCode.NOT_FOUND),
        (r"on-demand throughput isn.t supported|on-demand throughput is not supported", FailureCode.NOT_FOUND),
        (r"(?:isn.t|not) supported in this region|not available in this region", FailureCode.NOT_FOUND),
        (r"end of (?:its )?life|marked by provider as legacy", FailureCode.NOT_FOUND),
    )
)
_JUDGED_BY_TEXT = frozenset({FailureCode.INVALID, FailureCode.DENIED, FailureCode.NOT_FOUND})


def of_response(
    status: int, headers: Mapping[str, str], payload: bytes, *, target: Target, request_id: str | None = None
) -> CallError:
    """The failure that a response with an HTTP status other than 2xx reports."""
    body = _json_object(payload)
    error = _error_object(body)
    name = _bare_name(headers.get("x-amzn-ErrorType") or _string(error, "__type", "code", "Code", "type"))
    message = _string(error, "message", "Message", "errorMessage", "error_message") or (
        "" if body else _readable(payload, target)
    )
    code = _classify(name, status=status, message=message, original_status=error.get("originalStatusCode"))
    return _error(
        code,
        name or f"HTTP {status}",
        message,
        target=target,
        http_status=status,
        request_id=request_id,
        retry_after=retry_after(headers),
        possibly_billed=status in _BILLED_STATUSES and code is not FailureCode.THROTTLED,
    )


def of_event(event: Event, *, target: Target, request_id: str | None = None) -> CallError:
    """The failure that a frame of message type `exception` or `error` reports: the model may have begun."""
    body = _json_object(event.payload)
    if event.headers.get(":message-type") == "error":
        name = str(event.headers.get(":error-code", ""))
        message = str(event.headers.get(":error-message", ""))
    else:
        name = str(event.headers.get(":exception-type", ""))
        message = _string(body, "message", "Message", "originalMessage")
    return _in_stream(_bare_name(name), message, body, target=target, request_id=request_id)


def of_model_fault(fault: ModelFault, *, target: Target, request_id: str | None = None) -> CallError:
    """The failure that a model reports in place of its reply."""
    return _in_stream(fault.code, fault.message, {}, target=target, request_id=request_id)


def _in_stream(
    name: str, message: str, body: Mapping[str, Any], *, target: Target, request_id: str | None
) -> CallError:
    name = name if name in CODE_OF_NAME else name[:1].upper() + name[1:]
    code = _classify(name, status=500, message=message, original_status=body.get("originalStatusCode"))
    return _error(
        code,
        name or "error in the stream",
        message,
        target=target,
        http_status=200,
        request_id=request_id,
        possibly_billed=True,
    )


def _classify(name: str, *, status: int, message: str, original_status: Any = None) -> FailureCode:
    """The code for an AWS error of this name, HTTP status and text."""
    message = message[:_EXAMINED]
    code = CODE_OF_NAME.get(name) or _CODE_OF_STATUS.get(status)
    if status == 429 and name not in {"ModelNotReadyException", "ServiceQuotaExceededException"}:
        code = FailureCode.THROTTLED
    if code is None:
        code = FailureCode.TRANSIENT if status >= 500 else FailureCode.INVALID
    if code is FailureCode.THROTTLED and re.search(r"per day|daily", message, re.IGNORECASE):
        return FailureCode.QUOTA
    if _input_was_wrong(name, status, original_status):
        return FailureCode.INVALID
    if code in _JUDGED_BY_TEXT:
        return next((by_text for pattern, by_text in _BY_TEXT if pattern.search(message)), code)
    return code


def _input_was_wrong(name: str, status: int, original_status: Any) -> bool:
    """Whether a 424 says that the model itself found the input wrong. Its own rate limit or timeout may pass."""
    return (
        (name == "ModelErrorException" or status == 424)
        and name != "ModelStreamErrorException"
        and isinstance(original_status, int)
        and original_status < 500
        and original_status not in {408, 429}
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """AWS's id of the request, if the response has one that can be kept."""
    found = headers.get("x-amzn-RequestId", "")[:_LONGEST_ID]
    return found if found and found.isascii() and found.isprintable() else None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `x-amz-retry-after` (ms) or `Retry-After` (seconds or an HTTP date)."""
    milliseconds = headers.get("x-amz-retry-after", "").strip()
    if milliseconds.isdecimal():
        return min(float(milliseconds) / 1000, _LONGEST_WAIT)
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return min(float(value), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, OverflowError):  # an offset of a thousand years, say
        return None
    return min(max(0.0, seconds), _LONGEST_WAIT)


# --- exceptions of the transport -------------------------------------------------------------------------------------

_PROXY = frozenset({"ClientProxyConnectionError", "ClientHttpProxyError"})
_NO_CONNECTION = frozenset({"ClientConnectorError", "ConnectionTimeoutError"})
_BAD_ADDRESS = frozenset({"InvalidURL", "NonHttpUrlClientError"})
_CERTIFICATE = frozenset({"ClientConnectorCertificateError", "SSLCertVerificationError"})


def of_transport(
    error: Exception, *, target: Target, sent: bool, answered: bool = False, request_id: str | None = None
) -> CallError:
    """The failure behind an exception of aiohttp, ssl or the operating system.

    `sent`: the request, or some of it, had left; `answered`: the head of a reply had come.
    """
    names = _class_names(error)
    reason = _reason(error)
    if names & _BAD_ADDRESS:
        return bad_endpoint(target.endpoint)
    if names & _PROXY:
        text = _presentable(f"the proxy{_address(error)} gave no connection: {reason}", target)
        return CallError(FailureCode.NETWORK, text, hint=hints.PROXY)
    if names & _NO_CONNECTION or not sent:
        hint = hints.certificate if names & _CERTIFICATE else hints.network
        text = _presentable(f"no connection to {target.endpoint}: {reason}", target)
        return CallError(FailureCode.NETWORK, text, hint=hint(target))
    if answered:
        return of_incomplete(_presentable(f"the reply was cut short: {reason}", target), request_id=request_id)
    if "ClientResponseError" in names:
        return of_incomplete(_presentable(f"what came back is not HTTP: {reason}", target), http_status=None)
    text = _presentable(f"the connection was closed before a reply came: {reason}", target)
    return CallError(FailureCode.TRANSIENT, text, possibly_billed=True)


def _reason(error: BaseException) -> str:
    """Why there is no connection, in the words of the operating system: aiohttp's have objects of Python in them."""
    within = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    if within is not None:
        return _reason(within)
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error)
    if isinstance(error, OSError) and error.strerror:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    if several := re.findall(r"\[Errno (\d{1,5})\]", str(error)):  # one for each address of the host
        return ", ".join(dict.fromkeys(os.strerror(int(number)) for number in several))
    if (status := getattr(error, "status", None)) is not None:  # an answer that is none, or a proxy's refusal
        return f"{status} {' '.join(str(getattr(error, 'message', '')).split())}"
    return str(error).partition(": <")[0] or type(error).__name__


def _tls_reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate cannot be verified: {error.verify_message}"
    return re.sub(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)", "", error.strerror or str(error))


def _address(error: Exception) -> str:
    host, port = getattr(error, "host", None), getattr(error, "port", None)
    return f" {host}:{port}" if host else ""


def of_timeout(seconds: float, *, target: Target, sent: bool, request_id: str | None = None) -> CallError:
    """The failure of an attempt that was not over within its deadline."""
    if not sent:
        text = _presentable(f"no connection to {target.endpoint} within {seconds:g} s", target)
        return CallError(FailureCode.NETWORK, text, hint=hints.network(target))
    return CallError(
        FailureCode.TIMEOUT,
        f"no whole reply within {seconds:g} s",
        hint=hints.TOO_SLOW,
        request_id=request_id,
        possibly_billed=True,
    )


def of_incomplete(reason: str, *, request_id: str | None = None, http_status: int | None = 200) -> CallError:
    """The failure of a reply that came and isn't whole."""
    return CallError(
        FailureCode.INCOMPLETE, reason, http_status=http_status, request_id=request_id, possibly_billed=True
    )


# --- exceptions of boto3 ---------------------------------------------------------------------------------------------

_ADDRESS = frozenset(
    {
        "BaseEndpointResolverError",
        "EndpointProviderError",
        "InvalidEndpointConfigurationError",
        "InvalidRegionError",
        "UnknownRegionError",
        "ServiceNotInRegionError",
        "InvalidHostLabelError",
        "InvalidDNSNameError",
    }
)
_UNREACHABLE = frozenset({"ConnectionError", "HTTPClientError"})


def of_botocore(error: Exception, *, target: Target, profiles: tuple[str, ...] = ()) -> CallError:
    """The failure behind an exception of boto3 while it sets a session up or gets credentials: nothing was sent.

    `profiles` are the names of those that exist.
    """
    names = _class_names(error)
    text = _presentable(str(error), target)
    if names & _UNREACHABLE:
        return CallError(FailureCode.NETWORK, f"no credentials could be fetched: {text}", hint=hints.network(target))
    if names & _ADDRESS:
        # Not `invalid`, which is about one request: no call of this run can be made.
        return CallError(FailureCode.NOT_FOUND, text, hint=f"check the region {target.region!r} and the endpoint URL")
    return CallError(
        FailureCode.CREDENTIALS, text, hint=hints.of_credentials(names, target=target, profiles=profiles, text=text)
    )


def no_credentials() -> CallError:
    """The failure of having looked for credentials everywhere and found none."""
    return CallError(FailureCode.CREDENTIALS, "no AWS credentials were found", hint=hints.NO_CREDENTIALS)


def unusable_credentials(what: str) -> CallError:
    """The failure of a key or token that no header can carry. `what` names it."""
    return CallError(
        FailureCode.CREDENTIALS,
        f"{what} contains a control character, or another that no key has",
        hint=hints.UNUSABLE_CREDENTIALS,
    )


def bad_endpoint(endpoint: str) -> CallError:
    """The failure of an endpoint that is not a URL that can be called. It is the same for every call of the run."""
    return CallError(
        FailureCode.NOT_FOUND, f"{_PASSWORD.sub('//', endpoint)!r} is not an endpoint", hint=hints.ENDPOINT
    )


def bad_region(region: str) -> CallError:
    """The failure of a region that no request can name."""
    return CallError(FailureCode.NOT_FOUND, f"{region!r} is not a region", hint=hints.REGION)


def bad_proxy(proxy: str) -> CallError:
    """The failure of a proxy that is not a URL that can be used."""
    shown = _PASSWORD.sub("//", proxy)
    return CallError(FailureCode.NOT_FOUND, f"{shown!r} is not an HTTP proxy", hint=hints.PROXY)


def bare_token(endpoint: str) -> CallError:
    """The failure of a bearer token that would have to travel unencrypted."""
    return CallError(
        FailureCode.CREDENTIALS,
        f"the Bedrock API key in AWS_BEARER_TOKEN_BEDROCK is not sent unencrypted to {endpoint}",
        hint=hints.UNENCRYPTED,
    )


def bad_ca_bundle(path: str, reason: str) -> CallError:
    """The failure of a file of certificate authorities that can't be used."""
    return CallError(
        FailureCode.CREDENTIALS,
        f"the CA bundle {path!r} cannot be used: {reason}",
        hint=hints.CA_BUNDLE,
    )


# --- common ----------------------------------------------------------------------------------------------------------


def _error(code: FailureCode, name: str, message: str, *, target: Target, **about: Any) -> CallError:
    text = _presentable(f"{name}: {message}" if message else name, target)
    return CallError(code, text, hint=hints.of_failure(code, text, target), **about)


def _presentable(text: str, target: Target) -> str:
    """`text` without secrets, and no longer than a row should carry.

    AWS answers a wrong signature with the whole request that it expected, session token included.
    """
    text = _without_secrets(text, target)[:_EXAMINED].partition("The Canonical String for this request")[0].rstrip()
    text = text.encode(errors="replace").decode()  # half a surrogate pair, from JSON or a header, could not be kept
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


def _without_secrets(text: str, target: Target) -> str:
    """Before any cut: half a secret is one too."""
    for secret in target.secrets:
        text = text.replace(secret, "[secret]")
    return _AUTHORIZATION.sub(r"\1[secret]", _PASSWORD.sub("//", text))


def _class_names(error: Exception) -> frozenset[str]:
    return frozenset(cls.__name__ for cls in type(error).__mro__)


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _error_object(body: dict[str, Any]) -> dict[str, Any]:
    """The part of an error body that has the name and the text: Anthropic and some proxies nest it."""
    for name in ("error", "Error"):
        if isinstance(body.get(name), dict):
            return dict(body[name])
    return body


def _string(values: Mapping[str, Any], *names: str) -> str:
    return next((values[name] for name in names if isinstance(values.get(name), str)), "")


def _bare_name(name: str) -> str:
    """`com.amazon.coral.service#AccessDeniedException:http://internal...` -> `AccessDeniedException`."""
    return name.split(":", 1)[0].rsplit("#", 1)[-1].strip()


def _readable(payload: bytes, target: Target) -> str:
    """What can be read of a body that is not JSON: a proxy's page, say."""
    text = _without_secrets(payload.decode(errors="replace"), target)[:20_000]
    text = re.sub(r"<(script|style).*?</\1>|<[^<>]*>", " ", text, flags=re.DOTALL)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
