"""Whatever AWS, boto3, aiohttp or the network call a failure -> one CallError, with the next step. The only such place.

Foreign exceptions are known by the names of their classes: to tell them apart must not cost the import of boto3.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from runner import models
from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.eventstream import Event
    from runner.wire import ModelFault

_LONGEST_MESSAGE = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a call is made to, for the hints. `secrets` are taken out of every text that is passed on."""

    model: str
    region: str
    endpoint: str
    stream: bool = False
    profile: str | None = None
    credentials: str = ""  # boto3's name for where they come from: env, sso, assume-role, ...
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Target(model={self.model!r}, region={self.region!r}, endpoint={self.endpoint!r})"


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
        "" if body else _readable(payload)
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
    code = CODE_OF_NAME.get(name) or _CODE_OF_STATUS.get(status)
    if status == 429 and name not in {"ModelNotReadyException", "ServiceQuotaExceededException"}:
        code = FailureCode.THROTTLED
    if code is None:
        code = FailureCode.TRANSIENT if status >= 500 else FailureCode.INVALID
    if code is FailureCode.THROTTLED and re.search(r"per day|daily", message, re.IGNORECASE):
        return FailureCode.QUOTA
    if _refused_by_model(name, status, original_status):
        return FailureCode.INVALID
    if code in _JUDGED_BY_TEXT:
        return next((by_text for pattern, by_text in _BY_TEXT if pattern.search(message)), code)
    return code


def _refused_by_model(name: str, status: int, original_status: Any) -> bool:
    """Whether a 424 says that the model itself found the input wrong. Its own rate limit or timeout may pass."""
    return (
        (name == "ModelErrorException" or status == 424)
        and name != "ModelStreamErrorException"
        and isinstance(original_status, int)
        and original_status < 500
        and original_status not in {408, 429}
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `x-amz-retry-after` (ms) or `Retry-After` (seconds or an HTTP date)."""
    milliseconds = headers.get("x-amz-retry-after", "").strip()
    if milliseconds.isdecimal():
        return int(milliseconds) / 1000
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


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
    text = _presentable(str(error) or type(error).__name__, target)
    if names & _BAD_ADDRESS:
        return bad_endpoint(target.endpoint)
    if names & _PROXY:
        return CallError(FailureCode.NETWORK, f"the proxy gave no connection: {text}", hint=_PROXY_HINT)
    if names & _NO_CONNECTION or not sent:
        hint = _certificate_hint if names & _CERTIFICATE else _network_hint
        return CallError(FailureCode.NETWORK, f"no connection to {target.endpoint}: {text}", hint=hint(target))
    if answered:
        return of_incomplete(f"the reply was cut short: {text}", request_id=request_id)
    if "ClientResponseError" in names:
        return of_incomplete(f"what came back is not HTTP: {text}")
    return CallError(
        FailureCode.TRANSIENT, f"the connection was closed before a reply came: {text}", possibly_billed=True
    )


def of_timeout(seconds: float, *, target: Target, sent: bool, request_id: str | None = None) -> CallError:
    """The failure of an attempt that was not over within its deadline."""
    if not sent:
        return CallError(
            FailureCode.NETWORK,
            f"no connection to {target.endpoint} within {seconds:g} s",
            hint=_network_hint(target),
        )
    return CallError(
        FailureCode.TIMEOUT,
        f"no whole reply within {seconds:g} s",
        hint="raise `timeout`, lower `max_tokens`, or set `stream: true`",
        request_id=request_id,
        possibly_billed=True,
    )


def of_incomplete(reason: str, *, request_id: str | None = None) -> CallError:
    """The failure of a reply that came with status 200 and isn't whole."""
    return CallError(FailureCode.INCOMPLETE, reason, http_status=200, request_id=request_id, possibly_billed=True)


# --- exceptions of boto3 ---------------------------------------------------------------------------------------------

_SIGN_IN = frozenset({"SSOError", "TokenRetrievalError", "UnknownTokenProviderError", "NoAuthTokenError"})
_LOGIN = frozenset({"LoginError"})
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
        return CallError(FailureCode.NETWORK, f"no credentials could be fetched: {text}", hint=_network_hint(target))
    if names & _ADDRESS:
        # Not `invalid`, which is about one request: no call of this run can be made.
        return CallError(FailureCode.NOT_FOUND, text, hint=f"check the region {target.region!r} and the endpoint URL")
    return CallError(
        FailureCode.CREDENTIALS, text, hint=_credentials_hint(names, target=target, profiles=profiles, text=text)
    )


def no_credentials() -> CallError:
    """The failure of having looked for credentials everywhere and found none."""
    return CallError(FailureCode.CREDENTIALS, "no AWS credentials were found", hint=_NO_CREDENTIALS_HINT)


def bad_endpoint(endpoint: str) -> CallError:
    """The failure of an endpoint that is not a URL that can be called. It is the same for every call of the run."""
    return CallError(FailureCode.NOT_FOUND, f"{endpoint!r} is not an endpoint", hint=_ENDPOINT_HINT)


def bare_token(endpoint: str) -> CallError:
    """The failure of a bearer token that would have to travel unencrypted."""
    return CallError(
        FailureCode.CREDENTIALS,
        f"the Bedrock API key in AWS_BEARER_TOKEN_BEDROCK is not sent unencrypted to {endpoint}",
        hint="use an https endpoint, or unset AWS_BEARER_TOKEN_BEDROCK to sign with other credentials",
    )


def bad_ca_bundle(path: str, reason: str) -> CallError:
    """The failure of a file of certificate authorities that can't be used."""
    return CallError(
        FailureCode.CREDENTIALS,
        f"the CA bundle {path!r} cannot be used: {reason}",
        hint="set AWS_CA_BUNDLE (or `ca_bundle` of the profile, or REQUESTS_CA_BUNDLE) to a PEM file, or unset it",
    )


def _credentials_hint(names: frozenset[str], *, target: Target, profiles: tuple[str, ...], text: str) -> str:
    if "ProfileNotFound" in names:
        known = f"the profiles there are: {', '.join(profiles)}" if profiles else "there are no profiles yet"
        return f"{known}; choose one with --profile, or make one with `aws configure --profile NAME`"
    profile = _profile_option(target)
    hints = (
        (bool(names & _LOGIN), f"sign in again: `aws login{profile}`"),
        (bool(names & _SIGN_IN), f"sign in again: `aws sso login{profile}`"),
        ("PartialCredentialsError" in names, _PARTIAL_HINT),
        ("NoCredentialsError" in names, _NO_CREDENTIALS_HINT),
        ("xpired" in text, _renewal_hint(target)),
    )
    other = f"check where the credentials come from: `aws configure list{profile}`"
    return next((hint for fits, hint in hints if fits), other)


# --- hints -----------------------------------------------------------------------------------------------------------

_NO_CREDENTIALS_HINT = (
    "run `aws configure`, sign in with `aws login` or `aws sso login`, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or a Bedrock API key in AWS_BEARER_TOKEN_BEDROCK; --local needs none"
)
_PARTIAL_HINT = "set both halves: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the same two keys of the profile"
_ENDPOINT_HINT = "an endpoint is an http or https URL: check --endpoint-url and AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
_PROXY_HINT = "check HTTPS_PROXY and HTTP_PROXY; NO_PROXY names the hosts that need none"


def _network_hint(target: Target) -> str:
    return (
        f"check the network, the region {target.region!r} and the endpoint URL; behind a proxy set HTTPS_PROXY, and "
        "NO_PROXY for what must not pass it"
    )


def _certificate_hint(target: Target) -> str:
    return (
        f"if a company proxy or a private server signs for {target.endpoint}, set AWS_CA_BUNDLE to a PEM file with its "
        "certificate authority"
    )


def _profile_option(target: Target) -> str:
    return f" --profile {target.profile}" if target.profile else ""


def _renewal_hint(target: Target) -> str:
    """How to renew credentials that have expired, which depends on where they come from."""
    source = target.credentials
    renewals = {
        "bearer": "make a new Bedrock API key and set AWS_BEARER_TOKEN_BEDROCK to it",
        "sso": f"sign in again: `aws sso login{_profile_option(target)}`",
        "login": f"sign in again: `aws login{_profile_option(target)}`",
        "env": "set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN to new temporary keys",
    }
    renewal = renewals.get(source, f"renew them (`aws sso login{_profile_option(target)}`, or put new keys in place)")
    return f"{renewal}; then run the same command again"


def _clock_hint(_: Target) -> str:
    return "the clock of this machine is off: set it (`sudo timedatectl set-ntp true`) and run the same command again"


def _rejected_key_hint(target: Target) -> str:
    if target.credentials == "bearer":
        return "AWS_BEARER_TOKEN_BEDROCK holds no valid Bedrock API key: make a new one, or unset it to use other keys"
    profile = _profile_option(target)
    return (
        f"AWS does not accept the key: `aws configure list{profile}` shows which is used and `aws sts "
        f"get-caller-identity{profile}` tests it; a temporary key needs AWS_SESSION_TOKEN too, and a right clock"
    )


def _marketplace_hint(_: Target) -> str:
    return (
        "allow aws-marketplace:Subscribe and aws-marketplace:ViewSubscriptions to the role, or let an administrator "
        "call the model once; it may take 5 minutes to count"
    )


def _policy_hint(target: Target) -> str:
    return (
        f"allow {_action(target)} in the IAM policy, on the model and on its inference profile (for a profile, on the "
        "model in each of its regions), and see that no organisation policy (SCP) forbids it"
    )


def _access_hint(target: Target) -> str:
    return (
        "request access to the model in the AWS Console -> Bedrock -> Model access "
        f"(region {target.region}), and allow {_action(target)} in the IAM policy"
    )


def _action(target: Target) -> str:
    return "bedrock:InvokeModelWithResponseStream" if target.stream else "bedrock:InvokeModel"


def _first_use_hint(_: Target) -> str:
    return (
        "Anthropic asks for a form once per account: fill it in in the AWS Console -> Bedrock -> Model catalog -> any "
        "Claude model, and run the same command again in 15 minutes"
    )


def _agreement_hint(_: Target) -> str:
    return "AWS is subscribing this account to the model: run the same command again in about 15 minutes"


def _profile_needed_hint(target: Target) -> str:
    names = " or ".join(f"`model: {name}`" for name in inference_profiles(target.model, target.region))
    return f"use an inference profile: {names}; `{_list_profiles(target)}` lists those there are"


def _unknown_model_hint(target: Target) -> str:
    return (
        f"check the model id and the region {target.region!r}: `aws bedrock list-foundation-models --region "
        f"{target.region}` and `{_list_profiles(target)}` list what can be called there"
    )


def _region_hint(target: Target) -> str:
    return (
        f"{target.region!r} does not have this model: use a region that does, such as us-east-1 or us-west-2 "
        f"(--region), or an inference profile: `{_list_profiles(target)}`"
    )


def _retired_hint(target: Target) -> str:
    return f"use a newer model: `aws bedrock list-foundation-models --region {target.region}`"


def _endpoint_hint(target: Target) -> str:
    return f"{target.endpoint} does not know this operation: {_ENDPOINT_HINT}"


def _too_long_hint(_: Target) -> str:
    return "shorten the input, or send fewer or smaller images: a request may have 20 to 25 MB"


def _quota_hint(target: Target) -> str:
    return (
        "wait for the quota to refill, use another region, or ask for more: AWS Console -> Service Quotas -> Amazon "
        f"Bedrock (region {target.region})"
    )


def _list_profiles(target: Target) -> str:
    return f"aws bedrock list-inference-profiles --region {target.region}"


# The first row whose code and text fit gives the hint; an empty pattern fits whatever is left of a code.
_HINTS: tuple[tuple[FailureCode, str, Callable[[Target], str]], ...] = (
    (FailureCode.CREDENTIALS, r"signature expired|not yet current|now earlier than|now later than", _clock_hint),
    (FailureCode.CREDENTIALS, r"expired", _renewal_hint),
    (FailureCode.CREDENTIALS, r"", _rejected_key_hint),
    (FailureCode.DENIED, r"^FTUFormNotFilled|use case details", _first_use_hint),
    (FailureCode.DENIED, r"^MPAgreementBeingCreated", _agreement_hint),
    (FailureCode.DENIED, r"aws-marketplace", _marketplace_hint),
    (FailureCode.DENIED, r"not authorized to perform", _policy_hint),
    (FailureCode.DENIED, r"", _access_hint),
    (FailureCode.NOT_FOUND, r"on-demand throughput is", _profile_needed_hint),
    (FailureCode.NOT_FOUND, r"in this region", _region_hint),
    (FailureCode.NOT_FOUND, r"end of (?:its )?life|marked by provider as legacy", _retired_hint),
    (FailureCode.NOT_FOUND, r"^UnknownOperation|^HTTP 404", _endpoint_hint),
    (FailureCode.NOT_FOUND, r"", _unknown_model_hint),
    (FailureCode.INVALID, r"too long|length less than or equal to|too large|^HTTP 413", _too_long_hint),
    (FailureCode.QUOTA, r"", _quota_hint),
)


def _hint(code: FailureCode, text: str, target: Target) -> str | None:
    for of_code, pattern, hint in _HINTS:
        if of_code is code and re.search(pattern, text, re.IGNORECASE):
            return hint(target)
    return None


def inference_profiles(model: str, region: str) -> list[str]:
    """Ids of inference profiles that may contain `model` for a caller in `region`, the nearest first.

    Which prefixes a model has differs: of those that the region allows, the ones known for the model, else all.
    """
    bare = model.rsplit("/", 1)[-1]
    possible = [f"{prefix}.{bare}" for prefix in (*_prefixes(region), "global")]
    known = [profile for profile in possible if models.load().find(profile)]
    return known or possible


def _prefixes(region: str) -> tuple[str, ...]:
    exact = {
        "ap-northeast-1": ("jp", "apac"),
        "ap-northeast-3": ("jp", "apac"),
        "ap-southeast-2": ("au", "apac"),
        "ap-southeast-4": ("au", "apac"),
        "ap-south-1": ("in", "apac"),
        "ap-south-2": ("in", "apac"),
    }
    if region in exact:
        return exact[region]
    for start, prefix in (("us-gov-", "us-gov"), ("us-", "us"), ("ca-", "us"), ("eu-", "eu"), ("ap-", "apac")):
        if region.startswith(start):
            return (prefix,)
    return ()


# --- common ----------------------------------------------------------------------------------------------------------


def _error(code: FailureCode, name: str, message: str, *, target: Target, **about: Any) -> CallError:
    text = _presentable(f"{name}: {message}" if message else name, target)
    return CallError(code, text, hint=_hint(code, text, target), **about)


def _presentable(text: str, target: Target) -> str:
    """`text` without secrets, and no longer than a row should carry.

    AWS answers a wrong signature with the whole request that it expected, session token included.
    """
    text = re.split(r"\s*The Canonical String for this request", text, maxsplit=1)[0]
    text = re.sub(r"//[^/@\s]*@", "//", text)  # the password of a proxy
    for secret in target.secrets:
        text = text.replace(secret, "[secret]")
    return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "..."


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


def _readable(payload: bytes) -> str:
    """What can be read of a body that is not JSON: a proxy's page, say."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", payload[:20_000].decode(errors="replace"), flags=re.DOTALL)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
