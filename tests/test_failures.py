from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import aiohttp.client_exceptions
import botocore.exceptions
import botocore.session
import pytest
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker

from runner import failures
from runner.errors import CallError, FailureCode
from runner.eventstream import Event
from runner.failures import CODE_OF_NAME, Target, inference_profiles

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
    for table in (
        "_PROXY",
        "_NO_CONNECTION",
        "_BAD_ADDRESS",
        "_CERTIFICATE",
        "_SIGN_IN",
        "_LOGIN",
        "_ADDRESS",
        "_UNREACHABLE",
    ):
        assert getattr(failures, table) <= known


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


@pytest.mark.parametrize(
    ("model", "region", "profiles"),
    [
        ("x.unknown-v1:0", "us-west-2", ["us.x.unknown-v1:0", "global.x.unknown-v1:0"]),
        ("x.unknown", "eu-central-1", ["eu.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-northeast-1", ["jp.x.unknown", "apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-southeast-2", ["au.x.unknown", "apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-southeast-1", ["apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "us-gov-west-1", ["us-gov.x.unknown", "global.x.unknown"]),
        ("x.unknown", "sa-east-1", ["global.x.unknown"]),
        ("arn:aws:bedrock:us-east-1::foundation-model/x.unknown", "us-east-1", ["us.x.unknown", "global.x.unknown"]),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "us-east-1", ["us.anthropic.claude-opus-4-1-20250805-v1:0"]),
    ],
)
def test_inference_profiles_by_region_and_model(model: str, region: str, profiles: list[str]) -> None:
    assert inference_profiles(model, region) == profiles


# --- the transport ---------------------------------------------------------------------------------------------------


def test_what_a_broken_connection_means_depends_on_how_far_the_call_had_come() -> None:
    error = aiohttp.ClientOSError(104, "Connection reset by peer")
    before = failures.of_transport(error, target=TARGET, sent=False)
    assert (before.code, before.possibly_billed) == (FailureCode.NETWORK, False)
    after = failures.of_transport(error, target=TARGET, sent=True)
    assert (after.code, after.possibly_billed) == (FailureCode.TRANSIENT, True)
    within = failures.of_transport(error, target=TARGET, sent=True, answered=True)
    assert (within.code, within.possibly_billed) == (FailureCode.INCOMPLETE, True)


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
