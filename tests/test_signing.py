"""Signatures are boto3's: over many requests, and as the emulator checks them, which shares no code with either."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from multidict import CIMultiDict, CIMultiDictProxy

from runner.bedrock.signing import signed
from runner.emulator import Settings
from runner.emulator.auth import Authorizer, Call
from runner.emulator.errors import AwsError

NOW = datetime(2026, 11, 22, 17, 20, 3, tzinfo=UTC)
KEYS = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
TEMPORARY = KEYS._replace(access_key="ASIAEXAMPLE", token="FwoGZXIvYXdzE//token==")
JSON = {"Content-Type": "application/json"}
MODELS = [
    "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "us.amazon.nova-pro-v1:0",
    "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123",
    "arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/amazon.titan-text-express-v1:0:8k",
    "a model/with spaces & ünïcode %41 ~-_.",
    "..",
]
ENDPOINTS = [
    "https://bedrock-runtime.us-east-1.amazonaws.com",
    "https://bedrock-runtime.us-east-1.amazonaws.com:443",
    "http://127.0.0.1:8080",
    "http://localhost:80",
    "http://localhost:443",
    "https://[::1]:8443",
    "https://Proxy.Example/some/prefix",
    "https://proxy.example//two/slashes/./and/../dots",
]


def url_of(endpoint: str, model: str, operation: str = "invoke") -> str:
    return f"{endpoint}/model/{quote(model, safe='')}/{operation}"


def ours(
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    keys: ReadOnlyCredentials = KEYS,
    region: str = "us-east-1",
    now: datetime = NOW,
) -> dict[str, str]:
    return signed(url, headers, body, region=region, keys=keys, clock=now.timestamp)


def botocores(
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    keys: ReadOnlyCredentials = KEYS,
    region: str = "us-east-1",
) -> dict[str, str]:
    request = AWSRequest("POST", url, headers=headers, data=body)
    credentials = Credentials(keys.access_key or "", keys.secret_key or "", keys.token)
    SigV4Auth(credentials, "bedrock", region).add_auth(request)
    return dict(request.headers.items())


@pytest.fixture(autouse=True)
def botocores_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: NOW.replace(tzinfo=None))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_url_is_signed_as_botocore_signs_it(endpoint: str, model: str) -> None:
    url = url_of(endpoint, model, "converse-stream")
    assert ours(url, JSON, b"{}") == botocores(url, JSON, b"{}")


def test_random_requests_are_signed_as_botocore_signs_them() -> None:
    chance = random.Random(20261122)
    for _ in range(500):
        url = url_of(chance.choice(ENDPOINTS), chance.choice(MODELS))
        names = chance.sample(["Content-Type", "accept", "X-Amzn-Bedrock-Accept", "x-amzn-b", "X-AMZN-A"], k=3)
        headers = {name: chance.choice(["application/json", " two  spaces ", "a,b;c=ü", ""]) for name in names}
        body = chance.randbytes(chance.choice([0, 1, 100, 10_000]))
        keys = chance.choice([KEYS, TEMPORARY, KEYS._replace(secret_key=str(chance.random()))])
        region = chance.choice(["us-east-1", "eu-west-1", "us-gov-west-1"])
        assert ours(url, headers, body, keys=keys, region=region) == botocores(
            url, headers, body, keys=keys, region=region
        )


def test_a_new_day_has_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    url = url_of(ENDPOINTS[0], MODELS[0])
    today = ours(url, JSON, b"{}")
    tomorrow = datetime(2026, 11, 23, 0, 0, 0, tzinfo=UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda **_: tomorrow.replace(tzinfo=None))
    signed_tomorrow = ours(url, JSON, b"{}", now=tomorrow)
    assert signed_tomorrow == botocores(url, JSON, b"{}")
    assert "/20261123/" in signed_tomorrow["Authorization"]
    assert "/20261122/" in today["Authorization"]


def arrived(url: str, headers: dict[str, str], body: bytes) -> Call:
    parts = urlsplit(url)
    return Call("POST", parts.path, CIMultiDictProxy(CIMultiDict({"Host": parts.netloc, **headers})), body)


@pytest.mark.parametrize("keys", [KEYS, TEMPORARY])
@pytest.mark.parametrize("model", MODELS)
def test_the_emulator_finds_the_signature_right(model: str, keys: ReadOnlyCredentials) -> None:
    authorizer = Authorizer(Settings(secret_access_key=keys.secret_key), now=lambda: NOW)
    url = url_of("http://127.0.0.1:8080/prefix", model)
    headers = ours(url, JSON, b'{"a": 1}', keys=keys, region="eu-west-1")

    unsigned = {"User-Agent": "bedrock-run", "Accept-Encoding": "identity"}
    assert authorizer.check(arrived(url, headers | unsigned, b'{"a": 1}')) == "eu-west-1"
    for change in (
        arrived(url, headers, b'{"a": 2}'),
        arrived(url, headers | {"Content-Type": "text/plain"}, b'{"a": 1}'),
        arrived(url.replace("invoke", "converse"), headers, b'{"a": 1}'),
    ):
        with pytest.raises(AwsError, match="does not match"):
            authorizer.check(change)
