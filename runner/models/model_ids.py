"""What a model's id says: geography, provider, and the id itself inside an ARN. The one place that takes ids apart."""

from __future__ import annotations

import re

GEOGRAPHIES = frozenset({"us", "eu", "apac", "au", "jp", "in", "ca", "us-gov", "global"})

_TELLING_ARN = re.compile(r"arn:[^:]*:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/")
_EXACT = {
    "ap-northeast-1": ("jp", "apac"),
    "ap-northeast-3": ("jp", "apac"),
    "ap-southeast-2": ("au", "apac"),
    "ap-southeast-4": ("au", "apac"),
    "ap-south-1": ("in", "apac"),
    "ap-south-2": ("in", "apac"),
}
_BY_START = (("us-gov-", "us-gov"), ("us-", "us"), ("ca-", "us"), ("eu-", "eu"), ("ap-", "apac"))


def of_arn(model: str) -> str:
    """The id at the end of an ARN; any other id as it is."""
    return model.rpartition("/")[2]


def bare(model: str) -> str:
    """The id without ARN and geography: `anthropic.claude-...` for `us.anthropic.claude-...`."""
    name = of_arn(model)
    geography, _, rest = name.partition(".")
    return rest if geography in GEOGRAPHIES else name


def provider(model: str) -> str | None:
    """Who made a model: `anthropic` for `us.anthropic.claude-...`; None where an id or ARN does not tell."""
    if model.startswith("arn:") and not _TELLING_ARN.match(model):
        return None
    maker, _, name = bare(model).partition(".")
    return maker if maker and name else None


def inference_profiles(model: str, region: str) -> list[str]:
    """Ids that inference profiles with `model` may have for a caller in `region`, the nearest first."""
    return [f"{geography}.{bare(model)}" for geography in (*_geographies(region), "global")]


def _geographies(region: str) -> tuple[str, ...]:
    if region in _EXACT:
        return _EXACT[region]
    return next(((geography,) for start, geography in _BY_START if region.startswith(start)), ())
