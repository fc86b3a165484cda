"""A selection of Bedrock's models: what they take, their limits and by which ids they can be called."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

from runner.emulator.errors import invalid

Family = Literal[
    "anthropic",
    "nova",
    "titan-text",
    "titan-embed",
    "titan-embed-image",
    "llama",
    "mistral",
    "deepseek",
    "openai",
    "cohere",
    "cohere-embed-v3",
    "cohere-embed-v4",
    "converse-only",
]
Sampling = Literal["free", "temperature-or-top_p", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One foundation model. `context` and `max_output` are tokens; `family` says which InvokeModel body it takes.

    `prefixes` are the geographies of its inference profiles, `on_demand` says whether the bare id can be called.
    `burndown` is how many tokens of quota one token of output costs. `prefill` is a last turn by the assistant.
    `structured` is structured output.
    """

    id: str
    name: str
    provider: str
    family: Family
    context: int
    max_output: int
    prefixes: tuple[str, ...] = ()
    on_demand: bool = True
    vision: bool = False
    documents: bool = True
    system: bool = True
    sampling: Sampling = "free"
    prefill: bool = True
    burndown: int = 1
    counts_tokens: bool = True
    structured: bool = False

    @property
    def embeds(self) -> bool:
        return self.family.startswith(("titan-embed", "cohere-embed"))

    @property
    def video(self) -> bool:
        return self.family == "nova" and self.vision

    @property
    def fetches(self) -> bool:
        """Whether it takes the name of an object in S3 in place of bytes."""
        return self.video

    def bounds(self, form: str) -> bool:
        """Whether a document of this format may have no more than 4.5 MB."""
        if self.family == "nova":
            return form not in {"pdf", "docx"}
        return form != "pdf" or self.family != "anthropic" or self.id.startswith("anthropic.claude-3")


_claude_3 = partial(
    Model,
    provider="Anthropic",
    family="anthropic",
    context=200_000,
    max_output=8192,
    vision=True,
    prefixes=("us", "eu"),
)
_claude_4 = partial(
    _claude_3,
    max_output=64_000,
    prefixes=("us", "eu", "jp", "au", "global"),
    on_demand=False,
    sampling="temperature-or-top_p",
    burndown=5,
)
_claude_46 = partial(_claude_4, context=1_000_000, prefill=False, structured=True)
_claude_5 = partial(
    _claude_46, max_output=128_000, sampling="refused", burndown=10, counts_tokens=False, structured=False
)
_nova = partial(
    Model,
    provider="Amazon",
    family="nova",
    context=300_000,
    max_output=10_000,
    vision=True,
    prefixes=("us", "eu", "apac"),
)
_titan = partial(Model, provider="Amazon", family="titan-text", context=42_000, max_output=8000, system=False)
_llama = partial(Model, provider="Meta", family="llama", context=128_000, max_output=4096, prefixes=("us",))
_mistral = partial(Model, provider="Mistral AI", family="mistral", context=32_000, max_output=4096)
_cohere_embed = partial(Model, provider="Cohere", family="cohere-embed-v3", context=49_152, max_output=0, vision=True)
_gpt_oss = partial(Model, provider="OpenAI", family="openai", context=128_000, max_output=16_384)

# Limits, prefixes and restrictions as of November 2026, from AWS's model cards and litellm's table.
MODELS: tuple[Model, ...] = (
    _claude_3(id="anthropic.claude-3-haiku-20240307-v1:0", name="Claude 3 Haiku", max_output=4096),
    _claude_3(id="anthropic.claude-3-5-sonnet-20240620-v1:0", name="Claude 3.5 Sonnet"),
    _claude_3(id="anthropic.claude-3-5-sonnet-20241022-v2:0", name="Claude 3.5 Sonnet v2"),
    _claude_3(id="anthropic.claude-3-5-haiku-20241022-v1:0", name="Claude 3.5 Haiku", vision=False),
    _claude_4(
        id="anthropic.claude-3-7-sonnet-20250219-v1:0", name="Claude 3.7 Sonnet", prefixes=("us", "eu"), sampling="free"
    ),
    _claude_4(id="anthropic.claude-haiku-4-5-20251001-v1:0", name="Claude Haiku 4.5", structured=True),
    _claude_4(id="anthropic.claude-sonnet-4-5-20250929-v1:0", name="Claude Sonnet 4.5", structured=True),
    _claude_4(
        id="anthropic.claude-opus-4-5-20251101-v1:0",
        name="Claude Opus 4.5",
        prefixes=("us", "eu", "global"),
        structured=True,
    ),
    _claude_46(id="anthropic.claude-sonnet-4-6", name="Claude Sonnet 4.6"),
    _claude_46(id="anthropic.claude-opus-4-6-v1", name="Claude Opus 4.6", max_output=128_000),
    _claude_5(id="anthropic.claude-opus-4-7", name="Claude Opus 4.7", burndown=5),
    _claude_5(id="anthropic.claude-sonnet-5", name="Claude Sonnet 5"),
    _claude_5(id="anthropic.claude-opus-5-5", name="Claude Opus 5.5"),
    _claude_5(id="anthropic.claude-haiku-5-5", name="Claude Haiku 5.5", burndown=1),
    _nova(id="amazon.nova-micro-v1:0", name="Nova Micro", context=128_000, vision=False, documents=False),
    _nova(id="amazon.nova-lite-v1:0", name="Nova Lite"),
    _nova(id="amazon.nova-pro-v1:0", name="Nova Pro"),
    _nova(
        id="amazon.nova-2-lite-v1:0",
        name="Nova 2 Lite",
        context=1_000_000,
        max_output=64_000,
        prefixes=("us", "eu", "jp", "global"),
    ),
    _titan(id="amazon.titan-text-express-v1", name="Titan Text Express"),
    _titan(id="amazon.titan-text-lite-v1", name="Titan Text Lite", max_output=4000),
    _titan(
        id="amazon.titan-embed-text-v2:0", name="Titan Text Embed V2", family="titan-embed", context=8192, max_output=0
    ),
    _titan(
        id="amazon.titan-embed-image-v1",
        name="Titan Multimodal Embeddings G1",
        family="titan-embed-image",
        context=8192,
        max_output=0,
        vision=True,
    ),
    _llama(id="meta.llama3-1-8b-instruct-v1:0", name="Llama 3.1 8B"),
    _llama(id="meta.llama3-3-70b-instruct-v1:0", name="Llama 3.3 70B"),
    _mistral(id="mistral.mistral-7b-instruct-v0:2", name="Mistral 7B", system=False),
    _mistral(id="mistral.mistral-large-2402-v1:0", name="Mistral Large"),
    Model(
        id="deepseek.r1-v1:0",
        name="DeepSeek-R1",
        provider="DeepSeek",
        family="deepseek",
        context=128_000,
        max_output=32_768,
        prefixes=("us",),
        on_demand=False,
    ),
    _gpt_oss(id="openai.gpt-oss-120b-1:0", name="gpt-oss-120b"),
    _gpt_oss(id="openai.gpt-oss-20b-1:0", name="gpt-oss-20b"),
    Model(
        id="cohere.command-r-v1:0",
        name="Command R",
        provider="Cohere",
        family="cohere",
        context=128_000,
        max_output=4000,
    ),
    _cohere_embed(id="cohere.embed-english-v3", name="Embed English"),
    _cohere_embed(id="cohere.embed-multilingual-v3", name="Embed Multilingual"),
    _cohere_embed(
        id="cohere.embed-v4:0",
        name="Embed v4",
        family="cohere-embed-v4",
        context=128_000,
        prefixes=("us", "eu", "global"),
    ),
    Model(
        id="qwen.qwen3-32b-v1:0",
        name="Qwen3 32B",
        provider="Qwen",
        family="converse-only",
        structured=True,
        context=32_768,
        max_output=8192,
    ),
)

_BY_ID = {model.id: model for model in MODELS}
_PROFILES = {f"{prefix}.{model.id}": model for model in MODELS for prefix in model.prefixes}
_PROVIDERS = {model.id.partition(".")[0] for model in MODELS}
_ARN = re.compile(
    r"arn:aws[a-z-]*:bedrock:[a-z0-9-]{0,20}:(?P<account>\d{12})?:"
    r"(?P<kind>foundation-model|inference-profile|application-inference-profile)/(?P<id>[A-Za-z0-9.:-]+)"
)
# An application profile's ARN does not say which model it stands for; here all stand for this one.
_BEHIND_APPLICATION_PROFILES = "anthropic.claude-sonnet-4-5-20250929-v1:0"


class Target(NamedTuple):
    """What a model id or ARN resolves to. `quota` names the model or profile whose quota its calls use."""

    model: Model
    quota: str


def resolve(model_id: str, *, calling: bool = True) -> Target:
    """The model behind an id, an inference profile id or an ARN (percent-decoded).

    Raises AwsError for ids that Bedrock would not know and, when `calling`, for models that need an inference profile.
    """
    arn = _ARN.fullmatch(model_id)
    kind, name = (arn["kind"], arn["id"]) if arn else (None, model_id)
    if kind == "application-inference-profile":
        return Target(_BY_ID[_BEHIND_APPLICATION_PROFILES], name)
    if kind != "foundation-model" and name in _PROFILES:
        return Target(_PROFILES[name], name)
    if kind == "inference-profile" or name not in _BY_ID:
        raise invalid(f"The provided model identifier is invalid. {_not_played(name)}")
    model = _BY_ID[name]
    if calling and not model.on_demand:
        raise invalid(
            f"Invocation of model ID {name} with on-demand throughput isn\N{RIGHT SINGLE QUOTATION MARK}t supported. "
            "Retry your request with the ID or ARN of an inference profile that contains this model."
        )
    return Target(model, name)


def _not_played(name: str) -> str:
    """What Bedrock does not say: that the model may exist, and which ones can be called here."""
    provider = next((part for part in name.split(".") if part in _PROVIDERS), None)
    if provider is None:
        return f"The local emulator does not play it; it plays models of {', '.join(sorted(_PROVIDERS))}."
    played = (model.id for model in MODELS if model.id.startswith(f"{provider}."))
    return f"The local emulator does not play it; of {provider} it plays {', '.join(played)}."


def profiles() -> list[tuple[str, Model]]:
    """Every system-defined inference profile: its id and its model."""
    return sorted(_PROFILES.items(), key=lambda item: item[0])
