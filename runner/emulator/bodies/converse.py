"""The body of Converse, and the messages that Nova's InvokeModel body shares with it.

Tools, documents and guardrails are accepted and not acted on: the local model answers in text.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runner.emulator import output_formats, tokens
from runner.emulator.answer import pieces
from runner.emulator.bodies import anthropic, rules
from runner.emulator.bodies.events import Event
from runner.emulator.errors import AwsError, invalid, malformed
from runner.emulator.prompt import Prompt, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Collection

    from runner.emulator.models import Model
    from runner.emulator.pictures import Picture

_KEYS = frozenset(
    {
        "additionalModelRequestFields",
        "additionalModelResponseFieldPaths",
        "guardrailConfig",
        "inferenceConfig",
        "messages",
        "outputConfig",
        "performanceConfig",
        "promptVariables",
        "requestMetadata",
        "serviceTier",
        "system",
        "toolConfig",
    }
)
_BLOCKS = frozenset(
    {
        "audio",
        "cachePoint",
        "citationsContent",
        "document",
        "guardContent",
        "image",
        "reasoningContent",
        "searchResult",
        "text",
        "toolAddition",
        "toolRemoval",
        "toolResult",
        "toolUse",
        "video",
    }
)
_FORMATS = ("png", "jpeg", "gif", "webp")


def read(document: dict[str, Any], model: Model) -> Prompt:
    """Check a request: first what Bedrock finds, then what the model does."""
    no_extras(document, _KEYS)
    if model.embeds:
        raise invalid("This model doesn't support the Converse API. Try again with a model that does.")
    config = document.get("inferenceConfig") or {}
    no_extras(config, {"maxTokens", "temperature", "topP", "stopSequences"}, path="/inferenceConfig")
    _bounds(config)
    prompt = Prompt(
        system=system(document.get("system"), model),
        turns=turns(document.get("messages"), model),
        max_tokens=rules.max_tokens(config.get("maxTokens"), model),
        stop=tuple(config.get("stopSequences") or ()),
        schema=output_formats.of_converse(document.get("outputConfig"), model),
    )
    if model.family == "anthropic":
        additional = document.get("additionalModelRequestFields") or {}
        _claude(prompt, config, additional, model)
        if prompt.schema is None:
            with rules.said_by_the_model():
                prompt = replace(prompt, schema=output_formats.of_anthropic(additional.get("output_config"), model))
    return rules.fits(prompt, model)


def write(reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG001 - the Body protocol
    return {
        "metrics": {"latencyMs": milliseconds},
        "output": {"message": {"content": [{"text": reply.text}] if reply.text else [], "role": "assistant"}},
        "stopReason": reply.stop_reason,
        "usage": _usage(reply),
    }


def events(reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG001 - the Body protocol
    """Text blocks have no contentBlockStart, and the usage comes after messageStop."""
    return [
        Event("messageStart", {"role": "assistant"}),
        *(
            Event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}, "delta")
            for piece in pieces(reply.text)
        ),
        Event("contentBlockStop", {"contentBlockIndex": 0}),
        Event("messageStop", {"stopReason": reply.stop_reason}, "end"),
        Event("metadata", {"metrics": {"latencyMs": milliseconds}, "usage": _usage(reply)}, "end"),
    ]


def no_extras(document: Any, known: Collection[str], *, path: str = "") -> None:
    """Raise for what is no object, and for the first key that is not known. `path` is a JSON pointer."""
    if not isinstance(document, dict):
        raise malformed(f"#{path}: expected type: JSONObject, found: {_json_type(document)}")
    for key in document:
        if key not in known:
            raise malformed(f"#{path}: extraneous key [{key}] is not permitted")


def system(blocks: Any, model: Model) -> str | None:
    """The system prompt: the text blocks, joined."""
    if not blocks:
        return None
    if not model.system:
        raise invalid("This model doesn't support the system field. Remove system and try again.")
    texts: list[str] = []
    for at, block in enumerate(_list(blocks, "system")):
        no_extras(block, {"text", "guardContent", "cachePoint"}, path=f"/system/{at}")
        if "text" in block:
            if not block["text"]:
                raise _constraint(
                    f"system.{at + 1}.member.text", "Member must have length greater than or equal to 1", ""
                )
            texts.append(str(block["text"]))
    return "\n".join(texts)


def turns(messages: Any, model: Model) -> tuple[Turn, ...]:
    """The conversation. It starts with the user and alternates: Bedrock does not merge turns here."""
    if messages is None:
        raise _constraint("messages", "Member must not be null")
    found = tuple(_turn(message, model, at=at) for at, message in enumerate(_list(messages, "messages")))
    if not found or found[0].role != "user":
        raise invalid(
            "A conversation must start with a user message. "
            "Try again with a conversation that starts with a user message."
        )
    if any(before.role == after.role for before, after in pairwise(found)):
        raise invalid(
            "A conversation must alternate between user and assistant roles. "
            "Make sure the conversation alternates between user and assistant roles and try again."
        )
    return found


def _turn(message: Any, model: Model, *, at: int) -> Turn:
    no_extras(message, {"role", "content"}, path=f"/messages/{at}")
    role = message.get("role")
    if role not in {"user", "assistant"}:
        raise _constraint(
            f"messages.{at + 1}.member.role", "Member must satisfy enum value set: [user, assistant]", role
        )
    content = _list(message.get("content") or [], f"messages/{at}/content")
    if not content:
        raise invalid(
            f"The content field in the Message object at messages.{at} is empty. "
            "Add a ContentBlock object to the content field and try again."
        )
    texts: list[str] = []
    shown: list[Picture] = []
    other_tokens = 0
    for place, block in enumerate(content):
        no_extras(block, _BLOCKS, path=f"/messages/{at}/content/{place}")
        where = f"messages.{at}.content.{place}"
        if "text" in block:
            texts.append(_text(block["text"], where=where))
        elif "image" in block:
            shown.append(
                _image(block["image"], model, where=where, member=f"{at + 1}.member.content.{place + 1}.member")
            )
        else:
            other_tokens += tokens.of_text(str(block))
    if not texts and any("document" in block for block in content):
        raise invalid(
            f"Your conversation at messages.{at} has a document content block and no text content block. "
            "Add a text content block and try again."
        )
    return Turn(role, "\n".join(texts), tuple(shown), other_tokens)


def _text(text: Any, *, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise invalid(
            f"The text field in the ContentBlock object at {where} is blank. Add text to the text field, and try again."
        )
    return text


def _image(image: Any, model: Model, *, where: str, member: str) -> Picture:
    no_extras(image, {"format", "source"}, path=f"/{where.replace('.', '/')}/image")
    declared = image.get("format")
    if declared not in _FORMATS:
        raise _constraint(
            f"messages.{member}.image.format", f"Member must satisfy enum value set: [{', '.join(_FORMATS)}]", declared
        )
    if not model.vision:
        raise invalid("This model doesn't support the image field. Remove image and try again.")
    source = image.get("source") or {}
    if "s3Location" in source:
        raise invalid("The local emulator can't read from S3. Send the image as bytes and try again.")
    with rules.said_by_the_model():
        return rules.picture(source.get("bytes"), f"image/{declared}", path=f"{where}.image.source.base64")


def _bounds(config: dict[str, Any]) -> None:
    asked = config.get("maxTokens")
    if asked is not None and (not rules.is_count(asked) or asked < 1):
        raise _constraint("inferenceConfig.maxTokens", "Member must have value greater than or equal to 1", asked)
    for key in ("temperature", "topP"):
        value = config.get(key)
        if value is None:
            continue
        if not rules.is_number(value) or value < 0:
            raise _constraint(f"inferenceConfig.{key}", "Member must have value greater than or equal to 0", value)
        if value > 1:
            raise _constraint(f"inferenceConfig.{key}", "Member must have value less than or equal to 1", value)
    stop = _list(config.get("stopSequences") or [], "inferenceConfig/stopSequences")
    if len(stop) > 2500:
        raise _constraint(
            "inferenceConfig.stopSequences", "Member must have length less than or equal to 2500", f"{len(stop)} items"
        )
    if not all(isinstance(sequence, str) and sequence for sequence in stop):
        raise _constraint(
            "inferenceConfig.stopSequences",
            "Member must satisfy constraint: [Member must have length greater than or equal to 1]",
            stop,
        )


def _claude(prompt: Prompt, config: dict[str, Any], additional: Any, model: Model) -> None:
    if not isinstance(additional, dict):
        raise malformed(f"#/additionalModelRequestFields: expected type: JSONObject, found: {_json_type(additional)}")
    with rules.said_by_the_model():
        anthropic.check_additional_fields(additional)
        rules.claude_sampling(
            model,
            temperature=config.get("temperature", additional.get("temperature")),
            top_p=config.get("topP", additional.get("top_p")),
            top_k=additional.get("top_k"),
        )
        rules.claude_conversation(prompt, model)


def _usage(reply: Reply) -> dict[str, int]:
    return {
        "inputTokens": reply.input_tokens,
        "outputTokens": reply.output_tokens,
        "totalTokens": reply.input_tokens + reply.output_tokens,
    }


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise malformed(f"#/{path}: expected type: JSONArray, found: {_json_type(value)}")
    return value


def _constraint(place: str, constraint: str, *value: object) -> AwsError:
    """The words in which AWS's request validation speaks. Without a value there is none to show."""
    shown = "".join(f"Value '{one}' at " for one in value) or "Value at "
    return invalid(f"1 validation error detected: {shown}'{place}' failed to satisfy constraint: {constraint}")


def _json_type(value: object) -> str:
    names = {dict: "JSONObject", list: "JSONArray", str: "String", bool: "Boolean", int: "Integer", float: "Number"}
    return names.get(type(value), "Null")
