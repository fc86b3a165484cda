"""Nova's InvokeModel body: Converse's messages, with its own names for sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.emulator.bodies import converse, rules
from runner.emulator.bodies.events import Event, chunk, metrics
from runner.emulator.errors import malformed
from runner.emulator.prompt import Prompt, Reply

if TYPE_CHECKING:
    from runner.emulator.models import Model

_KEYS = {"schemaVersion", "messages", "system", "inferenceConfig", "toolConfig"}
_CONFIG_KEYS = {
    "maxTokens",
    "max_new_tokens",
    "temperature",
    "topP",
    "top_p",
    "topK",
    "top_k",
    "stopSequences",
    "reasoningConfig",
}


def read(document: dict[str, Any], model: Model) -> Prompt:
    converse.no_extras(document, _KEYS)
    if "messages" not in document:
        raise malformed("#: required key [messages] not found")
    config = document.get("inferenceConfig") or {}
    converse.no_extras(config, _CONFIG_KEYS, path="/inferenceConfig")
    asked = config.get("maxTokens", config.get("max_new_tokens"))
    if asked is not None and (not rules.is_count(asked) or asked < 1):
        raise malformed(f"#/inferenceConfig/maxTokens: {asked} is not greater or equal to 1")
    for key in ("temperature", "topP", "top_p"):
        value = config.get(key)
        if value is not None and not (rules.is_number(value) and 0 <= value <= 1):
            raise malformed(f"#/inferenceConfig/{key}: {value} is not from 0 to 1")
    prompt = Prompt(
        system=converse.system(document.get("system"), model),
        turns=converse.turns(document["messages"], model),
        max_tokens=rules.max_tokens(asked, model),
        stop=tuple(config.get("stopSequences") or ()),
    )
    return rules.fits(prompt, model)


def write(reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:
    document = converse.write(reply, model, milliseconds=milliseconds)
    del document["metrics"]
    return document


def events(reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:
    """Converse's events, each in an object under its name; the metrics are beside the last."""
    wrapped = [
        chunk({event.name: event.document}, event.kind)
        for event in converse.events(reply, model, milliseconds=milliseconds)
    ]
    wrapped[-1].document.update(metrics(reply, milliseconds=milliseconds))
    return wrapped
