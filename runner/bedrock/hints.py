"""The next step after a failed call, in words: every hint that a CallError carries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import models
from runner.errors import FailureCode
from runner.models import model_ids

if TYPE_CHECKING:
    from collections.abc import Callable


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


NO_CREDENTIALS = (
    "run `aws configure`, sign in with `aws login` or `aws sso login`, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or a Bedrock API key in AWS_BEARER_TOKEN_BEDROCK; --local needs none"
)
_PARTIAL = "set both halves: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the same two keys of the profile"
ENDPOINT = (
    "an endpoint is an http or https URL, without user name and password: check --endpoint-url and "
    "AWS_ENDPOINT_URL_BEDROCK_RUNTIME"
)
REGION = "check --region, the job's `region:` and AWS_REGION: a region is written as in `us-east-1`"
PROXY = "check HTTPS_PROXY and HTTP_PROXY; NO_PROXY names the hosts that need none"
TOO_SLOW = "raise `timeout`, lower `max_tokens`, or set `stream: true`"
UNENCRYPTED = "use an https endpoint, or unset AWS_BEARER_TOKEN_BEDROCK to sign with other credentials"
UNUSABLE_CREDENTIALS = "set it anew: a line end that was pasted with it, say, must go"
CA_BUNDLE = "set AWS_CA_BUNDLE (or `ca_bundle` of the profile, or REQUESTS_CA_BUNDLE) to a PEM file, or unset it"


def network(target: Target) -> str:
    """The hint for no connection."""
    return (
        f"check the network, the region {target.region!r} and the endpoint URL; behind a proxy set HTTPS_PROXY, and "
        "NO_PROXY for what must not pass it"
    )


def certificate(target: Target) -> str:
    """The hint for a certificate that nobody vouches for."""
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
        f"allow {_action(target)} on the model in the IAM policy, and see that no organisation policy forbids it; "
        "models are open to an account by default, but Anthropic's want a form once (AWS Console -> Bedrock -> Model "
        f"catalog, region {target.region}), and where the account still has the page, access under Model access"
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
    possible = model_ids.inference_profiles(target.model, target.region)
    known = [profile for profile in possible if models.load().find(profile)]  # which ones a model has differs
    names = " or ".join(f"`model: {name}`" for name in known or possible)
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
    return f"{target.endpoint} does not know this operation: {ENDPOINT}"


def _too_long_hint(_: Target) -> str:
    return "shorten the input, or send fewer or smaller images: a request may have 20 to 25 MB"


def _picture_hint(_: Target) -> str:
    return "a picture of this case is damaged, or no picture: open it, and put a whole file in its place"


def _throttled_hint(_: Target) -> str:
    return (
        "lower -j, give the account's quota with --rpm and --tpm, or lower `max_tokens`, which is reserved in full; "
        "`retry: {max_attempts: N}` tries longer"
    )


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
    (FailureCode.INVALID, r"could not process image", _picture_hint),
    (FailureCode.QUOTA, r"", _quota_hint),
    (FailureCode.THROTTLED, r"", _throttled_hint),
)


def of_failure(code: FailureCode, text: str, target: Target) -> str | None:
    """The hint for a failure that AWS reports as `text`, led by its name for the error."""
    for of_code, pattern, hint in _HINTS:
        if of_code is code and re.search(pattern, text, re.IGNORECASE):
            return hint(target)
    return None


# Exceptions of boto3 that a new sign-in mends.
_SIGN_IN = frozenset({"SSOError", "TokenRetrievalError", "UnknownTokenProviderError", "NoAuthTokenError"})
_LOGIN = frozenset({"LoginError"})


def of_credentials(exceptions: frozenset[str], *, target: Target, profiles: tuple[str, ...], text: str) -> str:
    """The hint for an exception of boto3 about credentials: the names of its classes and its text.

    `profiles` are the names of those that exist.
    """
    if "ProfileNotFound" in exceptions:
        return _profile_hint(profiles)
    profile = _profile_option(target)
    hints = (
        (bool(exceptions & _LOGIN), f"sign in again: `aws login{profile}`"),
        (bool(exceptions & _SIGN_IN), f"sign in again: `aws sso login{profile}`"),
        ("PartialCredentialsError" in exceptions, _PARTIAL),
        ("NoCredentialsError" in exceptions, NO_CREDENTIALS),
        ("xpired" in text, _renewal_hint(target)),
    )
    other = f"check where the credentials come from: `aws configure list{profile}`"
    return next((hint for fits, hint in hints if fits), other)


def _profile_hint(profiles: tuple[str, ...]) -> str:
    make = "make one with `aws configure --profile NAME`"
    if not profiles:
        return f"there are no profiles yet: {make}"
    return f"the profiles there are: {', '.join(profiles)}; choose one with --profile, or {make}"
