"""The control plane's lists of models and profiles, and the page for people."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from runner.emulator import models
from runner.emulator.errors import invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.emulator.models import Model

_ACCOUNT = "123456789012"
_SINCE = "2025-01-01T00:00:00Z"
_MODALITIES = ("TEXT", "IMAGE", "EMBEDDING")
_INFERENCE_TYPES = ("ON_DEMAND", "PROVISIONED")
_CUSTOMIZATIONS = ("FINE_TUNING", "CONTINUED_PRE_TRAINING", "DISTILLATION")
_PROFILE_TYPES = ("SYSTEM_DEFINED", "APPLICATION")


def list_foundation_models(query: Mapping[str, str], *, region: str) -> dict[str, Any]:
    """The models of the table, filtered as AWS does: by provider, output and inference type."""
    provider = query.get("byProvider")
    output = _enum(query, "byOutputModality", _MODALITIES)
    inference = _enum(query, "byInferenceType", _INFERENCE_TYPES)
    customization = _enum(query, "byCustomizationType", _CUSTOMIZATIONS)
    summaries = [_summary(model, region) for model in models.MODELS]
    return {
        "modelSummaries": [
            summary
            for summary in summaries
            if (provider is None or summary["providerName"].lower() == provider.lower())
            and (output is None or output in summary["outputModalities"])
            and (inference is None or inference in summary["inferenceTypesSupported"])
            and (customization is None or customization in summary["customizationsSupported"])
        ]
    }


def list_inference_profiles(query: Mapping[str, str], *, region: str) -> dict[str, Any]:
    """The system-defined profiles, in pages of `maxResults`."""
    kind = _enum(query, "type", _PROFILE_TYPES)
    found = [] if kind == "APPLICATION" else models.profiles()
    size = query.get("maxResults", "1000")
    if len(size) > 4 or not size.isdecimal() or not 1 <= int(size) <= 1000:
        raise invalid(
            f"1 validation error detected: Value '{size}' at 'maxResults' failed to satisfy constraint: "
            "Member must be from 1 to 1000"
        )
    start = _offset(query.get("nextToken"), len(found))
    end = start + int(size)
    page: dict[str, Any] = {
        "inferenceProfileSummaries": [_profile(id_, model, region) for id_, model in found[start:end]]
    }
    if end < len(found):
        page["nextToken"] = base64.urlsafe_b64encode(b"%d" % end).decode()
    return page


def front_page(url: str) -> str:
    """What the emulator is, for whoever opens it in a browser."""
    return f"""\
bedrock-run's local emulator of AWS Bedrock. No model is behind it; it calls nothing and costs nothing.

Serves: InvokeModel, InvokeModelWithResponseStream, Converse, ConverseStream, CountTokens, ListFoundationModels and
ListInferenceProfiles, for {len(models.MODELS)} models.

Point clients at it (any credentials will do, unless it was started with a secret):

    export AWS_ENDPOINT_URL_BEDROCK_RUNTIME={url}
    export AWS_ENDPOINT_URL_BEDROCK={url}
    export ANTHROPIC_BEDROCK_BASE_URL={url}
    export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local AWS_DEFAULT_REGION=us-east-1

Steer one call with a header:

    x-bedrock-emulator: fault=throttle; latency=0.2; pace=0.01
"""


def _summary(model: Model, region: str) -> dict[str, Any]:
    return {
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"] if model.on_demand else ["INFERENCE_PROFILE"],
        "inputModalities": ["TEXT", "IMAGE"] if model.vision else ["TEXT"],
        "modelArn": _model_arn(model, region),
        "modelId": model.id,
        "modelLifecycle": {"status": "ACTIVE"},
        "modelName": model.name,
        "outputModalities": ["EMBEDDING"] if model.embeds else ["TEXT"],
        "providerName": model.provider,
        "responseStreamingSupported": not model.embeds,
    }


def _profile(id_: str, model: Model, region: str) -> dict[str, Any]:
    geography = id_.partition(".")[0]
    return {
        "createdAt": _SINCE,
        "description": f"Routes requests to {model.name} in {geography}.",
        "inferenceProfileArn": f"arn:aws:bedrock:{region}:{_ACCOUNT}:inference-profile/{id_}",
        "inferenceProfileId": id_,
        "inferenceProfileName": f"{geography.upper()} {model.provider} {model.name}",
        "models": [{"modelArn": _model_arn(model, region)}],
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
        "updatedAt": _SINCE,
    }


def _model_arn(model: Model, region: str) -> str:
    return f"arn:aws:bedrock:{region}::foundation-model/{model.id}"


def _enum(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    value = query.get(name)
    if value is not None and value not in allowed:
        raise invalid(
            f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(allowed)}]"
        )
    return value


def _offset(token: str | None, count: int) -> int:
    if token is None:
        return 0
    try:
        offset = int(base64.urlsafe_b64decode(token))
    except (binascii.Error, ValueError):
        offset = -1
    if not 0 <= offset < count:
        raise invalid("The provided nextToken is invalid.")
    return offset
