"""AWS Signature Version 4 of a call: the headers that boto3 would add, for a tenth of its time.

boto3's signer serves every service, method and body. Here each call is a POST to Bedrock with its body at hand, so that
what many calls share is worked out once: the key of a day, and the path of a URL.
"""

from __future__ import annotations

import hmac
import time
from functools import lru_cache
from hashlib import sha256
from posixpath import normpath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.credentials import ReadOnlyCredentials

_ALGORITHM = "AWS4-HMAC-SHA256"
_SERVICE = "bedrock"  # also for the endpoint bedrock-runtime
_DEFAULT_PORTS = {"http": 80, "https": 443}


def signed(  # noqa: PLR0913 - the clock is handed in, by name, so that tests can hold it
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    region: str,
    keys: ReadOnlyCredentials,
    clock: Callable[[], float] = time.time,
) -> dict[str, str]:
    """`headers` and those that sign a POST of `body` to `url`, which has no query. All of `headers` are signed."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(clock()))
    sent = {**headers, "X-Amz-Date": moment}
    if keys.token:
        sent["X-Amz-Security-Token"] = keys.token
    host, path = _host_and_path(url)
    values = {name.lower(): " ".join(value.split()) for name, value in sent.items()}
    values["host"] = host
    names = sorted(values)
    signed_names = ";".join(names)
    lines = "".join(f"{name}:{values[name]}\n" for name in names)
    request = f"POST\n{path}\n\n{lines}\n{signed_names}\n{sha256(body).hexdigest()}"
    day = moment[:8]
    scope = f"{day}/{region}/{_SERVICE}/aws4_request"
    text = f"{_ALGORITHM}\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = _hmac(_key_of_day(keys.secret_key, day, region), text).hex()
    sent["Authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key}/{scope}, SignedHeaders={signed_names}, Signature={signature}"
    )
    return sent


@lru_cache(maxsize=256)
def _host_and_path(url: str) -> tuple[str, str]:
    """Host and path as they are signed: the path without `.` and `..`, percent-encoded once more than it is sent."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        host = f"{host}:{parts.port}"
    return host, quote(normpath("/" + parts.path.lstrip("/")), safe="/~")


@lru_cache(maxsize=16)
def _key_of_day(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, _SERVICE, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
