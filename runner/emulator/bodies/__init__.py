"""The JSON of each family of models: a request to a Prompt, and a Reply to a response or to the events of a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from runner.emulator.bodies import anthropic, converse, nova, others

if TYPE_CHECKING:
    from runner.emulator.bodies.events import Event
    from runner.emulator.models import Family, Model
    from runner.emulator.prompt import Prompt, Reply

__all__ = ["CONVERSE", "INVOKE", "Body"]


class Body(Protocol):
    """One shape of JSON. `read` raises AwsError with Bedrock's words for what is wrong with a request."""

    def read(self, document: dict[str, Any], model: Model) -> Prompt: ...
    def write(self, reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]: ...
    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]: ...


CONVERSE: Body = converse
INVOKE: dict[Family, Body] = {
    "anthropic": anthropic,
    "nova": nova,
    "titan-text": others.TitanText(),
    "titan-embed": others.TitanEmbed(),
    "titan-embed-image": others.TitanEmbedImage(),
    "llama": others.Llama(),
    "mistral": others.Mistral(),
    "deepseek": others.DeepSeek(),
    "openai": others.OpenAI(),
    "cohere": others.Cohere(),
    "cohere-embed-v3": others.CohereEmbed(1024),
    "cohere-embed-v4": others.CohereEmbed(1536, 256, 512, 1024, mixes=True),
}
