"""Signatures and bearers: the right ones come in, each wrong one is refused in AWS's words."""

from __future__ import annotations

import http.client
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from multidict import CIMultiDict, CIMultiDictProxy

from runner.emulator import Settings
from runner.emulator.auth import Authorizer, Call
from runner.emulator.errors import AwsError

if TYPE_CHECKING:
    from emulator.conftest import Connect, Start

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HELLO = [{"role": "user", "content": [{"text": "Hello there"}]}]


@pytest.fixture
def url(start: Start) -> str:
    return start(secret_access_key=SECRET, access_key_id=KEY_ID)


def refusal(call: Any) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return caught.value


@pytest.mark.parametrize("token", [None, "a/session+token=="])
def test_right_signatures_come_in(url: str, connect: Connect, token: str | None) -> None:
    client = connect(url, aws_session_token=token)
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-7"
    assert client.converse(modelId=arn, messages=HELLO)["stopReason"] == "end_turn"
    listed = connect(url, "bedrock").list_foundation_models(byProvider="Mistral AI")  # a query that is encoded
    assert len(listed["modelSummaries"]) == 2


def test_wrong_secret(url: str, connect: Connect) -> None:
    client = connect(url, aws_secret_access_key="wrong")
    error = refusal(lambda: client.converse(modelId=CLAUDE, messages=HELLO))
    assert error.response["Error"]["Code"] == "InvalidSignatureException"
    assert error.response["Error"]["Message"].startswith(
        "The request signature we calculated does not match the signature you provided."
    )


def test_wrong_key_id(url: str, connect: Connect) -> None:
    client = connect(url, aws_access_key_id="AKIDOTHER")
    error = refusal(lambda: client.converse(modelId=CLAUDE, messages=HELLO))
    assert error.response["Error"] == {
        "Code": "UnrecognizedClientException",
        "Message": "The security token included in the request is invalid.",
    }


def test_temporary_keys_need_their_token(start: Start, connect: Connect) -> None:
    url = start(secret_access_key=SECRET)
    with_token = connect(url, aws_access_key_id="ASIAEXAMPLE", aws_session_token="token")
    assert with_token.converse(modelId=CLAUDE, messages=HELLO)
    without = connect(url, aws_access_key_id="ASIAEXAMPLE")
    error = refusal(lambda: without.converse(modelId=CLAUDE, messages=HELLO))
    assert error.response["Error"]["Code"] == "UnrecognizedClientException"


def test_what_is_changed_after_signing_is_refused(url: str, connect: Connect) -> None:
    client = connect(url)

    def tamper(request: Any, **_: Any) -> None:
        request.data = request.body = request.body.replace(b"Hello", b"Hullo")

    client.meta.events.register("before-send.bedrock-runtime.Converse", tamper)
    error = refusal(lambda: client.converse(modelId=CLAUDE, messages=HELLO))
    assert error.response["Error"]["Code"] == "InvalidSignatureException"


def test_another_service_is_refused(start: Start, connect: Connect) -> None:
    client = connect(start())  # also without a secret: the scope is part of the shape

    def rescope(request: Any, **_: Any) -> None:
        request.headers["Authorization"] = request.headers["Authorization"].decode().replace("/bedrock/", "/s3/")

    client.meta.events.register("before-send.bedrock-runtime.Converse", rescope)
    error = refusal(lambda: client.converse(modelId=CLAUDE, messages=HELLO))
    assert error.response["Error"]["Message"] == "Credential should be scoped to correct service: 'bedrock'."


@pytest.mark.parametrize("path", ["/model/x/converse", "/foundation-models", "/nowhere"])
def test_no_authorization(url: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 403
    assert response.headers["x-amzn-ErrorType"].startswith("MissingAuthenticationTokenException:http")
    assert response.read() == b'{"message":"Missing Authentication Token"}'
    connection.close()


def call(**headers: str) -> Call:
    return Call("POST", "/model/x/converse", CIMultiDictProxy(CIMultiDict(headers)), b"")


@pytest.mark.parametrize(("token", "accepted"), [("sesame", True), ("wrong", False), ("", False)])
def test_bearer(token: str, accepted: bool) -> None:
    authorizer = Authorizer(Settings(bearer_token="sesame"))
    if accepted:
        assert authorizer.check(call(Authorization=f"Bearer {token}")) == "local"
    else:
        with pytest.raises(AwsError, match="make sure your API Key is valid"):
            authorizer.check(call(Authorization=f"Bearer {token}"))


# The request of AWS's published SigV4 example, signed here by botocore for bedrock at a fixed time.
NOW = datetime(2026, 11, 22, 17, 0, tzinfo=UTC)


def signed_call(at: datetime, monkeypatch: pytest.MonkeyPatch) -> Call:
    from botocore import auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    monkeypatch.setattr(auth, "get_current_datetime", lambda **_: at.replace(tzinfo=None))
    request = AWSRequest("POST", "http://host.example/model/a%3A0/converse", headers={"Host": "host.example"}, data=b"")
    auth.SigV4Auth(Credentials(KEY_ID, SECRET), "bedrock", "eu-west-1").add_auth(request)
    headers = CIMultiDictProxy(CIMultiDict(dict(request.headers.items())))
    return Call("POST", "/model/a%3A0/converse", headers, b"")


@pytest.mark.parametrize(
    ("offset", "problem"),
    [
        (timedelta(0), None),
        (timedelta(minutes=-5), None),
        (timedelta(minutes=5), None),
        (timedelta(minutes=-5, seconds=-1), "Signature expired: 20261122T165459Z is now earlier than 20261122T165500Z"),
        (timedelta(minutes=5, seconds=1), "Signature not yet current: 20261122T170501Z is still later than"),
    ],
)
def test_clock_skew(offset: timedelta, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = signed_call(NOW + offset, monkeypatch)
    authorizer = Authorizer(Settings(secret_access_key=SECRET), now=lambda: NOW)
    if problem is None:
        assert authorizer.check(arrived) == "eu-west-1"
    else:
        with pytest.raises(AwsError, match=re.escape(problem)) as caught:
            authorizer.check(arrived)
        assert caught.value.code == "InvalidSignatureException"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 ", "IncompleteSignatureException"),
        ("/aws4_request", "", "IncompleteSignatureException"),
        ("host;x-amz-date", "host", "InvalidSignatureException"),
        ("/20261122/", "/20261121/", "InvalidSignatureException"),
        ("/eu-west-1/", "/us-east-1/", "InvalidSignatureException"),
    ],
)
def test_damaged_authorization(old: str, new: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = signed_call(NOW, monkeypatch)
    headers = CIMultiDict(arrived.headers)
    assert old in headers["Authorization"]
    headers["Authorization"] = headers["Authorization"].replace(old, new)
    with pytest.raises(AwsError) as caught:
        Authorizer(Settings(secret_access_key=SECRET), now=lambda: NOW).check(
            Call(arrived.method, arrived.target, CIMultiDictProxy(headers), arrived.body)
        )
    assert caught.value.code == code


def test_the_secret_is_not_shown() -> None:
    assert SECRET not in repr(Settings(secret_access_key=SECRET))
    assert "sesame" not in repr(Settings(bearer_token="sesame"))
