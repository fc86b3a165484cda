"""The body of Converse, and the messages that Nova's InvokeModel body shares with it.

Tools and guardrails are accepted and not acted on: the local model answers in text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from runner.emulator import attachments, output_formats, tokens
from runner.emulator.answer import pieces
from runner.emulator.bodies import anthropic, rules
from runner.emulator.bodies.events import Event
from runner.emulator.errors import AwsError, invalid, malformed
from runner.emulator.prompt import Prompt, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Collection

    from runner.emulator.attachments import Attachment
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
_DOCUMENT_FORMATS = ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")
_VIDEO_FORMATS = ("mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp")
_MOST_DOCUMENTS = 5
_MOST_BYTES = 4_718_592  # of a document: 4.5 MB
_NAME = re.compile(r"[A-Za-z0-9\-()\[\]\s]{1,200}")
_URI = r"s3://[a-z0-9][\.\-a-z0-9]{1,61}[a-z0-9](/.*)?"


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
        cites=_cites(document["messages"], model),
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
        "output": {"message": {"content": _written(reply), "role": "assistant"}},
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
        *(
            Event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"citation": _citation(name)}})
            for name in ([reply.cited] if reply.cited else [])
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
    for at, block in enumerate(array(blocks, "system")):
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
    found = tuple(_turn(message, model, at=at) for at, message in enumerate(array(messages, "messages")))
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
    _check_attachments(found)
    return found


def _turn(message: Any, model: Model, *, at: int) -> Turn:
    no_extras(message, {"role", "content"}, path=f"/messages/{at}")
    role = message.get("role")
    if role not in {"user", "assistant"}:
        raise _constraint(
            f"messages.{at + 1}.member.role", "Member must satisfy enum value set: [user, assistant]", role
        )
    content = array(message.get("content") or [], f"messages/{at}/content")
    if not content:
        raise invalid(
            f"The content field in the Message object at messages.{at} is empty. "
            "Add a ContentBlock object to the content field and try again."
        )
    for place, block in enumerate(content):
        no_extras(block, _BLOCKS, path=f"/messages/{at}/content/{place}")
    _documents_fit(role, content, at=at)
    texts: list[str] = []
    shown: list[Picture] = []
    attached: list[Attachment] = []
    other_tokens = 0
    for place, block in enumerate(content):
        where = f"messages.{at}.content.{place}"
        member = f"messages.{at + 1}.member.content.{place + 1}.member"
        if "text" in block:
            texts.append(_text(block["text"], where=where))
        elif "image" in block:
            found = _image(block["image"], model, where=where, member=member)
            if isinstance(found, attachments.Attachment):
                attached.append(found)
            else:
                shown.append(found)
        elif "document" in block:
            attached.append(_document(block["document"], model, where=where, member=member))
        elif "video" in block:
            attached.append(_video(block["video"], model, where=where, member=member))
        else:
            other_tokens += tokens.of_text(str(block))
    return Turn(role, "\n".join(texts), tuple(shown), other_tokens, tuple(attached))


def _documents_fit(role: str, content: list[Any], *, at: int) -> None:
    """What is looked at before the documents themselves: whose turn it is, and what stands beside them."""
    given = [kind for kind in ("document", "video") if any(kind in block for block in content)]
    if given and role == "assistant":
        raise invalid(f"Assistant messages can't contain a {given[0]}. Remove the {given[0]} and try again.")
    if "document" in given and not any("text" in block for block in content):
        raise invalid(
            f"Your conversation at messages.{at} has a document content block and no text content block. "
            "Add a text content block and try again."
        )


def _text(text: Any, *, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise invalid(
            f"The text field in the ContentBlock object at {where} is blank. Add text to the text field, and try again."
        )
    return text


def _image(image: Any, model: Model, *, where: str, member: str) -> Picture | Attachment:
    no_extras(image, {"format", "source"}, path=f"/{where.replace('.', '/')}/image")
    declared = _format(image, _FORMATS, place=f"{member}.image.format")
    if not model.vision:
        raise invalid("This model doesn't support the image field. Remove image and try again.")
    source = image.get("source") or {}
    if "s3Location" in source:
        uri = _s3_uri(source["s3Location"], model, place=f"{member}.image.source.s3Location.uri")
        return attachments.in_s3("image", declared, uri)
    with rules.said_by_the_model():
        return rules.picture(source.get("bytes"), f"image/{declared}", path=f"{where}.image.source.base64")


def _document(document: Any, model: Model, *, where: str, member: str) -> Attachment:
    pointer = f"/{where.replace('.', '/')}/document"
    no_extras(document, {"format", "name", "source", "context", "citations"}, path=pointer)
    if document.get("citations") is not None:
        no_extras(document["citations"], {"enabled"}, path=f"{pointer}/citations")
    declared = _format(document, _DOCUMENT_FORMATS, place=f"{member}.document.format")
    name = document.get("name")
    if name is None:
        raise _constraint(f"{member}.document.name", "Member must not be null")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or re.search(r"\s\s", name):
        raise invalid(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, "
            "parentheses, and square brackets. The name can't contain more than one consecutive whitespace character. "
            "Check that the file name conforms to these restrictions and retry your request."
        )
    if not model.documents:
        raise invalid("This model doesn't support documents. Remove document and try again.")
    source = _source(document, {"bytes", "s3Location", "text", "content"}, pointer=pointer)
    if "s3Location" in source:
        uri = _s3_uri(source["s3Location"], model, place=f"{member}.document.source.s3Location.uri")
        return attachments.in_s3("document", declared, uri, name=name)
    if "bytes" not in source:
        text = source["text"] if "text" in source else "\n".join(str(part["text"]) for part in source["content"])
        return attachments.document("txt", str(text).encode("utf-8", "replace"), name=name)
    content = rules.content(source["bytes"], path=f"{where}.document.source.bytes")
    if len(content) > _MOST_BYTES and model.bounds(declared):
        raise invalid(
            f"The document at {where} has {len(content)} bytes, which exceeds the maximum document size of 4.5 MB. "
            "Reduce the size of the document and retry your request."
        )
    try:
        return attachments.document(declared, content, name=name)
    except attachments.UnreadableError:
        raise invalid(f"The document at {where} is no valid {declared}. Check its content and its format.") from None


def _video(video: Any, model: Model, *, where: str, member: str) -> Attachment:
    pointer = f"/{where.replace('.', '/')}/video"
    no_extras(video, {"format", "source"}, path=pointer)
    declared = _format(video, _VIDEO_FORMATS, place=f"{member}.video.format")
    if not model.video:
        raise invalid("This model doesn't support the video field. Remove video and try again.")
    source = _source(video, {"bytes", "s3Location"}, pointer=pointer)
    if "s3Location" in source:
        uri = _s3_uri(source["s3Location"], model, place=f"{member}.video.source.s3Location.uri")
        return attachments.in_s3("video", declared, uri)
    return attachments.video(declared, rules.content(source["bytes"], path=f"{where}.video.source.bytes"))


def _format(block: dict[str, Any], known: tuple[str, ...], *, place: str) -> str:
    declared = block.get("format")
    if declared not in known:
        raise _constraint(place, f"Member must satisfy enum value set: [{', '.join(known)}]", declared)
    return str(declared)


def _source(block: dict[str, Any], known: set[str], *, pointer: str) -> dict[str, Any]:
    source = block.get("source")
    no_extras(source, known, path=f"{pointer}/source")
    if not isinstance(source, dict) or len(source) != 1:
        raise malformed(f"#{pointer}/source: exactly one of {', '.join(sorted(known))} must be set")
    return source


def _s3_uri(location: Any, model: Model, *, place: str) -> str:
    if not model.fetches:
        raise invalid("This model doesn't support the s3Location field. Remove s3Location and try again.")
    uri = location.get("uri")
    if not isinstance(uri, str) or not re.fullmatch(_URI, uri) or len(uri) > 1024:
        raise _constraint(place, f"Member must satisfy regular expression pattern: {_URI}", uri)
    return uri


def _check_attachments(found: tuple[Turn, ...]) -> None:
    """What Bedrock says of the documents and videos of a conversation as a whole."""
    given = [attachment for turn in found for attachment in turn.attachments]
    documents = [attachment for attachment in given if attachment.kind == "document"]
    if sum(document.in_request for document in documents) > _MOST_DOCUMENTS:
        raise invalid(f"You can't include more than {_MOST_DOCUMENTS} documents in a request.")
    if any(number > 1 for number in Counter(document.name for document in documents).values()):
        raise invalid("Messages can't contain duplicate document names. Rename the document and retry your request.")
    if sum(attachment.kind == "video" for attachment in given) > 1:
        raise invalid("You can't include more than 1 video in a request.")


def _cites(messages: list[Any], model: Model) -> bool:
    """Whether the model is to cite. Claude does from all documents or from none."""
    documents = [block["document"] for message in messages for block in message["content"] if "document" in block]
    asked = {bool((document.get("citations") or {}).get("enabled")) for document in documents}
    if model.family == "anthropic" and len(asked) > 1:
        with rules.said_by_the_model():
            raise invalid("messages: citations must be enabled on all or none of the documents")
    return True in asked


def _written(reply: Reply) -> list[dict[str, Any]]:
    """The text of a reply; what cites a document has a block of its own kind."""
    if not reply.text:
        return []
    if reply.cited is None:
        return [{"text": reply.text}]
    return [{"citationsContent": {"content": [{"text": reply.text}], "citations": [_citation(reply.cited)]}}]


def _citation(name: str) -> dict[str, Any]:
    return {"title": name, "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}}


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
    stop = array(config.get("stopSequences") or [], "inferenceConfig/stopSequences")
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


def array(value: Any, path: str) -> list[Any]:
    """The value, if it is a list. Raises AwsError otherwise."""
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
