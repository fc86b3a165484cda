from __future__ import annotations

import errno
import json
import socket
import ssl
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiohttp
import aiohttp.client_exceptions
import botocore.exceptions
import botocore.session
import pytest
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from runner.bedrock import failures, hints
from runner.bedrock.eventstream import Event
from runner.bedrock.failures import CODE_OF_NAME
from runner.bedrock.hints import Target
from runner.errors import CallError, FailureCode

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"
TARGET = Target(model=MODEL, region="us-east-1", endpoint="https://bedrock-runtime.us-east-1.amazonaws.com")


def of_response(
    status: int, name: str = "", message: str = "", *, target: Target = TARGET, headers: Any = None, **body: Any
) -> CallError:
    all_headers = {"x-amzn-ErrorType": name, **(headers or {})} if name else headers or {}
    payload = json.dumps({"message": message, **body}).encode() if message or body else b""
    return failures.of_response(status, all_headers, payload, target=target, request_id="req-1")


# --- botocore's own lists --------------------------------------------------------------------------------------------


def modeled_errors() -> Iterator[tuple[str, int]]:
    """Every error that the service model has for the four operations, at the top and inside streams."""
    model: Any = botocore.session.Session().get_service_model("bedrock-runtime")
    for name in ("InvokeModel", "InvokeModelWithResponseStream", "Converse", "ConverseStream"):
        operation = model.operation_model(name)
        for shape in operation.error_shapes:
            yield shape.name, shape.metadata["error"]["httpStatusCode"]
        if stream := operation.get_event_stream_output():
            for shape in stream.members.values():
                if shape.metadata.get("exception"):
                    yield shape.name, shape.metadata["error"]["httpStatusCode"]


EXPECTED = {
    "AccessDeniedException": FailureCode.DENIED,
    "InternalServerException": FailureCode.TRANSIENT,
    "ModelErrorException": FailureCode.TRANSIENT,
    "ModelNotReadyException": FailureCode.TRANSIENT,
    "ModelStreamErrorException": FailureCode.TRANSIENT,
    "ModelTimeoutException": FailureCode.TIMEOUT,
    "ResourceNotFoundException": FailureCode.NOT_FOUND,
    "ServiceQuotaExceededException": FailureCode.QUOTA,
    "ServiceUnavailableException": FailureCode.TRANSIENT,
    "ThrottlingException": FailureCode.THROTTLED,
    "ValidationException": FailureCode.INVALID,
}


def test_every_error_of_the_service_model_is_known() -> None:
    errors = dict(modeled_errors())
    assert errors.keys() == EXPECTED.keys()
    for name, status in errors.items():
        assert of_response(status, name, "text").code is EXPECTED[name]
        in_stream = Event(
            {":message-type": "exception", ":exception-type": name[0].lower() + name[1:]}, b'{"message":"text"}'
        )
        error = failures.of_event(in_stream, target=TARGET)
        assert error.code is EXPECTED[name]
        assert error.message == f"{name}: text"
        assert error.possibly_billed


# The stubs leave the lists out.
THROTTLED: Any = ThrottledRetryableChecker
TRANSIENT: Any = TransientRetryableChecker


def test_every_throttling_code_of_botocore_is_known() -> None:
    for name in THROTTLED._THROTTLED_ERROR_CODES:
        assert CODE_OF_NAME[name] is FailureCode.THROTTLED


def test_every_transient_code_of_botocore_is_known() -> None:
    for name in TRANSIENT._TRANSIENT_ERROR_CODES:
        assert CODE_OF_NAME[name].retryable
    for status in TRANSIENT._TRANSIENT_STATUS_CODES:
        assert of_response(status).code is FailureCode.TRANSIENT


# What boto3 raises while it reads settings and gets credentials, all that this client lets it do. The others are about
# calls, parameters, S3, waiters and paginators.
REACHABLE = {
    FailureCode.NETWORK: {
        "ConnectionError", "ConnectTimeoutError", "EndpointConnectionError", "ProxyConnectionError", "SSLError",
        "HTTPClientError", "ConnectionClosedError", "ReadTimeoutError", "ResponseStreamingError",
    },
    FailureCode.NOT_FOUND: {
        "BaseEndpointResolverError", "NoRegionError", "EndpointVariantError", "UnknownEndpointError",
        "UnknownFIPSEndpointError", "EndpointProviderError", "EndpointResolutionError",
        "UnknownEndpointResolutionBuiltInName", "InvalidEndpointConfigurationError", "InvalidRegionError",
        "UnknownRegionError", "ServiceNotInRegionError", "InvalidHostLabelError", "InvalidDNSNameError",
    },
    FailureCode.CREDENTIALS: {
        "NoCredentialsError", "NoAuthTokenError", "TokenRetrievalError", "UnknownTokenProviderError",
        "PartialCredentialsError", "CredentialRetrievalError", "UnknownCredentialError", "ProfileNotFound",
        "ConfigParseError", "ConfigNotFound", "InvalidConfigError", "InfiniteLoopConfigError",
        "RefreshWithMFAUnsupportedError", "MetadataRetrievalError", "InvalidIMDSEndpointError",
        "InvalidIMDSEndpointModeError", "MissingDependencyException", "SSOError", "SSOTokenLoadError",
        "UnauthorizedSSOTokenError", "LoginError", "LoginRefreshRequired", "LoginInsufficientPermissions",
        "LoginTokenLoadError", "LoginAuthorizationCodeError", "ClientError", "InvalidSTSRegionalEndpointsConfigError",
        "InvalidDefaultsMode", "InvalidRetryConfigurationError", "InvalidMaxRetryAttemptsError",
        "InvalidRetryModeError", "InvalidProxiesConfigError", "InvalidChecksumConfigError", "DataNotFoundError",
        "UnknownServiceError", "ApiVersionNotFoundError", "UnknownSignatureVersionError",
        "UnsupportedSignatureVersionError", "BotoCoreError", "MissingServiceIdError", "UndefinedModelAttributeError",
    },
}  # fmt: skip
OF_OTHER_USES = {
    "AliasConflictParameterError", "AwsChunkedWrapperError", "CapacityNotAvailableError", "ChecksumError",
    "EventStreamError", "FlexibleChecksumError", "IncompleteReadError", "InvalidEndpointDiscoveryConfigurationError",
    "InvalidExpressionError", "InvalidS3AddressingStyleError", "InvalidS3UsEast1RegionalEndpointConfigError",
    "MD5UnavailableError", "MissingParametersError", "OperationNotPageableError", "PaginationError",
    "ParamValidationError", "RangeError", "StubAssertionError", "StubResponseError", "UnStubbedResponseError",
    "UnknownClientMethodError", "UnknownKeyError", "UnknownParameterError", "UnknownServiceStyle",
    "UnseekableStreamError", "UnsupportedOutpostResourceError", "UnsupportedS3AccesspointConfigurationError",
    "UnsupportedS3ArnError", "UnsupportedS3ConfigurationError", "UnsupportedS3ControlArnError",
    "UnsupportedS3ControlConfigurationError", "UnsupportedServiceProtocolsError", "ValidationError",
    "WaiterConfigError", "WaiterError",
}  # fmt: skip


def botocore_exceptions() -> dict[str, type[Exception]]:
    return {
        name: found
        for name, found in vars(botocore.exceptions).items()
        if isinstance(found, type)
        and issubclass(found, Exception)
        and not issubclass(found, Warning)
        and found.__module__ == "botocore.exceptions"
    }


def test_every_exception_of_botocore_has_been_judged() -> None:
    judged = set().union(*REACHABLE.values()) | OF_OTHER_USES
    assert botocore_exceptions().keys() == judged


@pytest.mark.parametrize(
    ("code", "name"), [(code, name) for code, names in REACHABLE.items() for name in sorted(names)]
)
def test_exceptions_of_set_up_and_credentials(code: FailureCode, name: str) -> None:
    found = botocore_exceptions()[name]
    error = failures.of_botocore(found.__new__(found, "text"), target=TARGET)  # each __init__ wants other arguments
    assert error.code is code
    assert error.hint
    assert not error.possibly_billed


def test_every_name_of_a_foreign_class_exists() -> None:
    known = {*vars(botocore.exceptions), *vars(aiohttp.client_exceptions), *vars(ssl)}
    for module, table in (
        (failures, "_PROXY"),
        (failures, "_NO_CONNECTION"),
        (failures, "_BAD_ADDRESS"),
        (failures, "_CERTIFICATE"),
        (failures, "_ADDRESS"),
        (failures, "_UNREACHABLE"),
        (hints, "_SIGN_IN"),
        (hints, "_LOGIN"),
    ):
        assert getattr(module, table) <= known


# --- responses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "name", "message", "code"),
    [
        (429, "ThrottlingException", "Too many requests", FailureCode.THROTTLED),
        (429, "ThrottlingException", "Too many tokens per day, please wait", FailureCode.QUOTA),
        (400, "ThrottlingException", "x", FailureCode.THROTTLED),
        (503, "Throttling", "x", FailureCode.THROTTLED),
        (429, "", "", FailureCode.THROTTLED),
        (429, "Whatever", "x", FailureCode.THROTTLED),
        (429, "ModelNotReadyException", "x", FailureCode.TRANSIENT),
        (400, "ServiceQuotaExceededException", "x", FailureCode.QUOTA),
        (500, "", "", FailureCode.TRANSIENT),
        (502, "", "", FailureCode.TRANSIENT),
        (504, "", "", FailureCode.TRANSIENT),
        (529, "", "", FailureCode.TRANSIENT),
        (599, "Whatever", "x", FailureCode.TRANSIENT),
        (408, "RequestTimeoutException", "x", FailureCode.TIMEOUT),
        (408, "", "", FailureCode.TIMEOUT),
        (424, "", "", FailureCode.TRANSIENT),
        (401, "", "", FailureCode.CREDENTIALS),
        (403, "", "", FailureCode.DENIED),
        (403, "ExpiredTokenException", "The security token is expired", FailureCode.CREDENTIALS),
        (403, "UnrecognizedClientException", "The security token ... is invalid.", FailureCode.CREDENTIALS),
        (403, "InvalidSignatureException", "x", FailureCode.CREDENTIALS),
        (403, "SignatureDoesNotMatch", "x", FailureCode.CREDENTIALS),
        (403, "MissingAuthenticationTokenException", "x", FailureCode.CREDENTIALS),
        (403, "IncompleteSignatureException", "x", FailureCode.CREDENTIALS),
        (403, "InvalidClientTokenId", "x", FailureCode.CREDENTIALS),
        (403, "AccessDeniedException", "Please make sure your API Key is valid.", FailureCode.CREDENTIALS),
        (404, "FTUFormNotFilled", "x", FailureCode.DENIED),
        (404, "ResourceNotFoundException", "Model use case details have not been submitted", FailureCode.DENIED),
        (403, "MPAgreementBeingCreated", "x", FailureCode.DENIED),
        (400, "ValidationException", "Access to Anthropic models is not allowed for this account.", FailureCode.DENIED),
        (400, "ValidationException", "The provided model identifier is invalid.", FailureCode.NOT_FOUND),
        (400, "ValidationException", "... with on-demand throughput isn\u2019t supported.", FailureCode.NOT_FOUND),
        (400, "ValidationException", "The model ID is not supported in this region", FailureCode.NOT_FOUND),
        (404, "ResourceNotFoundException", "This model version has reached the end of its life", FailureCode.NOT_FOUND),
        (404, "UnknownOperationException", "", FailureCode.NOT_FOUND),
        (404, "", "", FailureCode.NOT_FOUND),
        (400, "ValidationException", "Input is too long for requested model.", FailureCode.INVALID),
        (413, "", "", FailureCode.INVALID),
        (400, "", "", FailureCode.INVALID),
        (422, "Whatever", "x", FailureCode.INVALID),
        (302, "", "", FailureCode.INVALID),
        (407, "", "", FailureCode.NETWORK),
    ],
)  # fmt: skip
def test_which_failure_a_response_is(status: int, name: str, message: str, code: FailureCode) -> None:
    assert of_response(status, name, message).code is code


@pytest.mark.parametrize(
    ("name", "original", "code"),
    [
        ("ModelErrorException", None, FailureCode.TRANSIENT),
        ("ModelErrorException", 500, FailureCode.TRANSIENT),
        ("ModelErrorException", 429, FailureCode.TRANSIENT),
        ("ModelErrorException", 400, FailureCode.INVALID),
        ("ModelStreamErrorException", 400, FailureCode.TRANSIENT),
    ],
)
def test_a_model_that_found_the_input_wrong(name: str, original: int | None, code: FailureCode) -> None:
    assert of_response(424, name, "x", originalStatusCode=original).code is code


@pytest.mark.parametrize("status", [408, 424, 500, 502, 504])
def test_what_may_be_billed(status: int) -> None:
    assert of_response(status).possibly_billed


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 503, 529])
def test_what_is_not_billed(status: int) -> None:
    assert not of_response(status).possibly_billed


@pytest.mark.parametrize(
    ("headers", "payload", "message"),
    [
        ({"x-amzn-ErrorType": "ValidationException:http://internal/"}, b'{"message":"m"}', "ValidationException: m"),
        ({"x-amzn-ErrorType": "com.amazon.coral#ValidationException"}, b'{"Message":"m"}', "ValidationException: m"),
        ({}, b'{"__type":"com.amazon.coral.validate#ValidationException","message":"m"}', "ValidationException: m"),
        ({}, b'{"code":"ValidationException","message":"m"}', "ValidationException: m"),
        ({}, b'{"type":"error","error":{"type":"invalid_request_error","message":"m"}}', "invalid_request_error: m"),
        ({}, b'{"error":"m","message":5}', "HTTP 400"),
        ({}, b"", "HTTP 400"),
        ({}, b"\xff\xfe", "HTTP 400: \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"),
        ({}, b"[" * 100_000, "HTTP 400: " + "[" * 300),
        ({}, b"<html><style>x</style><h1>Bad\x1b[31m</h1>Gateway</html>", "HTTP 400: Bad [31m Gateway"),
    ],
)
def test_the_text_of_an_error(headers: dict[str, str], payload: bytes, message: str) -> None:
    assert failures.of_response(400, headers, payload, target=TARGET).message == message


@pytest.mark.parametrize(
    "text",
    [
        " " * 1_000_000,
        "API key " * 125_000,
        "the security token " * 50_000,
        "//" * 500_000,
        "<" * 1_000_000,
        "<script" * 140_000,
    ],
)
def test_a_hostile_text_takes_no_time(text: str) -> None:
    start = time.process_time()
    of_response(400, "ValidationException", text)
    failures.of_response(400, {}, text.encode(), target=TARGET)
    assert time.process_time() - start < 2


def test_half_of_a_surrogate_pair_is_replaced() -> None:
    assert of_response(400, "ValidationException", "a\ud800b").message == "ValidationException: a?b"


@pytest.mark.parametrize(("given", "kept"), [("", None), ("req-1", "req-1"), ("r\udcff", None), ("x" * 999, "x" * 200)])
def test_a_request_id_is_kept_if_it_can_be(given: str, kept: str | None) -> None:
    assert failures.request_id({"x-amzn-RequestId": given}) == kept


def test_a_long_text_is_cut() -> None:
    assert len(of_response(400, "ValidationException", "x" * 100_000).message) < 2_100


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"x-amz-retry-after": "1500", "Retry-After": "60"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": ""}, None),
        ({"x-amz-retry-after": "nan"}, None),
        ({"Retry-After": "Sun, 22 Nov 2020 17:20:00 GMT"}, 0.0),
        ({"Retry-After": "Sun, 22 Nov 2020 17:20:00 +9999999999999"}, None),
        ({"Retry-After": "Sun, 22 Nov 2020 17:20:00 -" + "9" * 400}, None),
        ({"Retry-After": "Sun, 22 Nov 9999 17:20:00 GMT"}, 86_400.0),
        ({"Retry-After": "9" * 400}, 86_400.0),
        ({"x-amz-retry-after": "9" * 400}, 86_400.0),
        ({"x-amz-retry-after": "9" * 8000}, 86_400.0),
        ({}, None),
    ],
)
def test_how_long_the_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert of_response(429, headers=headers).retry_after == seconds


def test_a_date_to_wait_for() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    seconds = of_response(429, headers={"Retry-After": moment}).retry_after
    assert seconds is not None
    assert 900 < seconds <= 1000


# --- hints -----------------------------------------------------------------------------------------------------------


def target(**changes: Any) -> Target:
    values = {"model": MODEL, "region": "us-east-1", "endpoint": "https://bedrock"}
    return Target(**{**values, **changes})


OPUS = "anthropic.claude-opus-4-1-20250805-v1:0"
ON_DEMAND = "Invocation of model ID x with on-demand throughput isn\u2019t supported. Retry your request with ..."
CLOCK = "Signature expired: 20261122T170000Z is now earlier than 20261122T172000Z"


@pytest.mark.parametrize(
    ("status", "name", "message", "about", "parts"),
    [
        (400, "ValidationException", ON_DEMAND, {}, [f"`model: us.{MODEL}`", f"`model: global.{MODEL}`",
         "aws bedrock list-inference-profiles --region us-east-1"]),
        (400, "ValidationException", ON_DEMAND, {"region": "eu-west-1"}, [f"eu.{MODEL}"]),
        (400, "ValidationException", ON_DEMAND, {"region": "ap-southeast-2"}, [f"au.{MODEL}"]),
        (400, "ValidationException", "The model ID is not supported in this region", {"region": "eu-south-1"},
         ["'eu-south-1'", "us-east-1", "--region"]),
        (400, "ValidationException", "The provided model identifier is invalid.", {},
         ["aws bedrock list-foundation-models"]),
        (403, "AccessDeniedException", "You don't have access to the model with the specified model ID.", {},
         ["Model access", "bedrock:InvokeModel "]),
        (403, "AccessDeniedException", "User: arn:x is not authorized to perform: bedrock:InvokeModel on resource",
         {"stream": True}, ["bedrock:InvokeModelWithResponseStream", "IAM policy"]),
        (403, "AccessDeniedException", "Model access is denied due to ... aws-marketplace:Subscribe", {},
         ["aws-marketplace:Subscribe"]),
        (404, "FTUFormNotFilled", "x", {}, ["form"]),
        (403, "MPAgreementBeingCreated", "x", {}, ["15 minutes"]),
        (403, "ExpiredTokenException", "expired", {"credentials": "sso", "profile": "work"},
         ["aws sso login --profile work"]),
        (403, "ExpiredTokenException", "expired", {"credentials": "login"}, ["`aws login`"]),
        (403, "ExpiredTokenException", "expired", {"credentials": "env"}, ["AWS_SESSION_TOKEN"]),
        (403, "ExpiredTokenException", "expired", {"credentials": "assume-role"}, ["renew"]),
        (403, "AccessDeniedException", "Bearer Token has expired", {"credentials": "bearer"},
         ["AWS_BEARER_TOKEN_BEDROCK"]),
        (403, "UnrecognizedClientException", "invalid", {"profile": "work"},
         ["aws configure list --profile work", "aws sts get-caller-identity --profile work"]),
        (403, "InvalidSignatureException", CLOCK, {}, ["clock"]),
        (404, "ResourceNotFoundException", "This model version has reached the end of its life.", {}, ["newer model"]),
        (404, "UnknownOperationException", "", {}, ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"]),
        (400, "ValidationException", "Input is too long for requested model.", {}, ["shorten"]),
        (400, "ValidationException", "messages.0.content.1: Could not process image", {}, ["put a whole file in"]),
        (413, "", "", {}, ["smaller images"]),
        (429, "ThrottlingException", "Too many tokens per day", {}, ["Service Quotas"]),
    ],
)  # fmt: skip
def test_the_hint_says_what_to_do(
    status: int, name: str, message: str, about: dict[str, Any], parts: list[str]
) -> None:
    hint = of_response(status, name, message, target=target(**about)).hint
    assert hint is not None
    for part in parts:
        assert part in hint


def test_the_hint_names_the_profiles_that_a_model_is_known_to_have() -> None:
    hint = of_response(400, "ValidationException", ON_DEMAND, target=target(model=OPUS)).hint
    assert hint is not None
    assert f"`model: us.{OPUS}`" in hint
    assert f"global.{OPUS}" not in hint


# --- the transport ---------------------------------------------------------------------------------------------------


def test_what_a_broken_connection_means_depends_on_how_far_the_call_had_come() -> None:
    error = aiohttp.ClientOSError(104, "Connection reset by peer")
    before = failures.of_transport(error, target=TARGET, sent=False)
    assert (before.code, before.possibly_billed) == (FailureCode.NETWORK, False)
    after = failures.of_transport(error, target=TARGET, sent=True)
    assert (after.code, after.possibly_billed) == (FailureCode.TRANSIENT, True)
    within = failures.of_transport(error, target=TARGET, sent=True, answered=True)
    assert (within.code, within.possibly_billed) == (FailureCode.INCOMPLETE, True)


KEY: Any = SimpleNamespace(host="h", port=443, ssl=ssl.create_default_context(), is_ssl=True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, "Name or service not known")),
         "Name or service not known"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(None, "Domain name not found")), "Domain name not found"),
        (aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)")),
         "Connection refused"),
        (aiohttp.ClientConnectorError(KEY, OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] "
         "Connect call failed, [Errno 101] Network is unreachable")), "Connection refused, Network is unreachable"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL: WRONG_VERSION] wrong version (_ssl.c:1006)")),
         "wrong version"),
        (aiohttp.ConnectionTimeoutError("Connection timeout to host x"), "Connection timeout to host x"),
        (OSError(), "OSError"),
    ],
)  # fmt: skip
@pytest.mark.skipif(sys.platform != "linux", reason="the numbers of errors are those of Linux")
def test_the_reason_is_the_operating_systems(error: Exception, reason: str) -> None:
    found = failures.of_transport(error, target=TARGET, sent=False)
    assert found.message == f"no connection to {TARGET.endpoint}: {reason}"


def test_what_a_deadline_means_depends_on_whether_the_request_had_left() -> None:
    before = failures.of_timeout(5, target=TARGET, sent=False)
    assert (before.code, before.possibly_billed) == (FailureCode.NETWORK, False)
    after = failures.of_timeout(5, target=TARGET, sent=True)
    assert (after.code, after.possibly_billed) == (FailureCode.TIMEOUT, True)
    assert after.message == "no whole reply within 5 s"


def test_secrets_are_in_no_text() -> None:
    secret = "wJalrXUtnFEMI"
    about = target(secrets=(secret,))
    assert secret not in repr(about)
    assert secret not in of_response(403, "X", f"the key {secret} is wrong", target=about).message
    transport = failures.of_transport(OSError(f"{secret} http://user:pass@proxy"), target=about, sent=True)
    assert secret not in transport.message
    assert "pass" not in transport.message


@pytest.mark.parametrize("length", [100, 800, 5_000])
@pytest.mark.parametrize("before", [0, 250, 1_900, 3_990])
def test_a_secret_is_taken_out_before_a_long_text_is_cut(length: int, before: int) -> None:
    token = "".join(chr(ord("a") + number % 26) for number in range(length))
    target = Target(model="m", region="r", endpoint="e", secrets=(token,))
    for payload in (f"{'. ' * (before // 2)}{token}", json.dumps({"message": f"{'.' * before}{token}"})):
        message = failures.of_response(502, {}, payload.encode(), target=target).message
        assert token[:40] not in message


def test_an_authorization_that_is_told_back_is_taken_out() -> None:
    told = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261122/us-east-1/bedrock/aws4_request, Signature=" + "0a" * 32
    target = Target(model="m", region="r", endpoint="e")
    message = failures.of_response(400, {}, told.encode(), target=target).message
    assert "0a0a" not in message
    assert "AKIDEXAMPLE/" not in message
    bearer = failures.of_response(400, {}, b"got Bearer bedrock-api-key-abcdefghijklmnop", target=target).message
    assert "abcdefghijklmnop" not in bearer
