"""The AWS settings of most people, read without botocore's session, which takes a third of the time to a first call.

Plain are lasting keys in the environment or in a profile, a region, a CA bundle and an endpoint of one's own. A
variable or a key of the profile that is not listed here may change where to call or as whom: then nothing is plain, and
botocore puts the settings together.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_VARIABLES: Final = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_BEDROCK",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME",
        "AWS_CA_BUNDLE",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_PAGER",
    }
)
_IN_PROFILE: Final = frozenset(
    {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "region", "ca_bundle", "output", "cli_pager"}
)
_MODELS: Final = Path("~/.aws/models")  # what botocore is taught about services there, it knows better than this module
_REGION: Final = re.compile("(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-[0-9]")  # not in China, of GovCloud or with FIPS


class PlainKeys(NamedTuple):
    """Keys that last, used like botocore's Credentials. `method` is botocore's name for where they come from."""

    access_key: str
    secret_key: str
    token: str | None = None
    method: str = "explicit"

    def get_frozen_credentials(self) -> PlainKeys:
        return self


class PlainSettings(NamedTuple):
    """What is set. `region` is the profile's."""

    region: str | None
    ca_bundle: str | None
    keys: PlainKeys | None
    configured_endpoint: str | None

    def endpoint(self, region: str) -> str | None:
        """The URL that boto3 would call in this region. None if only boto3 can tell."""
        if not _REGION.fullmatch(region):
            return None
        return self.configured_endpoint or f"https://bedrock-runtime.{region}.amazonaws.com"


def read(profile: str | None) -> PlainSettings | None:
    """The settings, with this profile if the command line names one. None if they are not plain, or wrong."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    if not variables.keys() <= _VARIABLES or not all(variables.values()) or _MODELS.expanduser().exists():
        return None
    name = profile or variables.get("AWS_DEFAULT_PROFILE") or variables.get("AWS_PROFILE")  # in boto3's order
    files = _profile(name or "default", variables)
    if files is None or (name and not any(files.values())):
        return None
    section = {**files["config-file"], **files["shared-credentials-file"]}
    if not section.keys() <= _IN_PROFILE or not all(section.values()):
        return None
    environment = {} if profile else {name.lower(): value for name, value in variables.items()}
    places = {"env": environment, **files}  # where boto3 looks for keys, in its order
    try:
        keys = next((_keys(place, method) for method, place in places.items() if "aws_access_key_id" in place), None)
    except KeyError:  # half of them
        return None
    return PlainSettings(
        region=section.get("region"),
        ca_bundle=variables.get("AWS_CA_BUNDLE") or section.get("ca_bundle"),
        keys=keys,
        configured_endpoint=variables.get("AWS_ENDPOINT_URL_BEDROCK_RUNTIME") or variables.get("AWS_ENDPOINT_URL"),
    )


def _keys(place: Mapping[str, str], method: str) -> PlainKeys:
    return PlainKeys(place["aws_access_key_id"], place["aws_secret_access_key"], place.get("aws_session_token"), method)


def _profile(name: str, variables: Mapping[str, str]) -> dict[str, Mapping[str, str]] | None:
    """What the two files say about a profile, the one that wins first. None if a file is broken."""
    from botocore.configloader import load_config, raw_config_parse
    from botocore.exceptions import ConfigNotFound, ConfigParseError

    def parsed(parse: Callable[[str], Mapping[str, Any]], variable: str, default: str) -> Mapping[str, Any]:
        try:
            return parse(variables.get(variable, default))
        except ConfigNotFound:
            return {}

    try:
        credentials = parsed(raw_config_parse, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
        config = parsed(load_config, "AWS_CONFIG_FILE", "~/.aws/config")
    except ConfigParseError:
        return None
    return {
        "shared-credentials-file": credentials.get(name, {}),
        "config-file": config.get("profiles", {}).get(name, {}),
    }
