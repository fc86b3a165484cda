"""The Anthropic Messages body: `{"anthropic_version", "max_tokens", "messages", ...}`.

Tools and thinking are accepted and not acted on: the local model answers in text.
"""

from __future__ import annotations

from binascii import crc32
from typing import TYPE_CHECKING, Any

from runner.emulator import attachments, output_formats, tokens
from runner.emulator.answer import pieces
from runner.emulator.bodies import rules
from runner.emulator.bodies.events import Event, chunk, metrics
from runner.emulator.errors import invalid
from runner.emulator.prompt import Prompt, Reply, Turn

if TYPE_CHECKING:
    from runner.emulator.attachments import Attachment
    from runner.emulator.models import Model
    from runner.emulator.pictures import Picture

# The second is what anthropic's own SDK sends from 2.x on. Bedrock is reported to refuse it for dated models; here
# all take it, so that the SDK runs unchanged.
_VERSIONS = ("bedrock-2023-05-31", "2026-10-21")
_KEYS = frozenset(
    {
        "amazon-bedrock-guardrailConfig",
        "anthropic_beta",
        "anthropic_version",
        "context_management",
        "max_tokens",
        "messages",
        "metadata",
        "output_config",
        "stop_sequences",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
_BLOCKS = (
    *("document", "image", "redacted_thinking", "search_result", "server_tool_use", "text"),
    *("thinking", "tool_result", "tool_use", "web_search_tool_result"),
)
_BLOCK_KEYS = {
    "text": frozenset({"type", "text", "citations", "cache_control"}),
    "image": frozenset({"type", "source", "cache_control"}),
    "document": frozenset({"type", "source", "title", "context", "citations", "cache_control"}),
}
_SOURCE_KEYS = frozenset({"type", "media_type", "data"})
_DOCUMENT_KEYS = {
    "base64": _SOURCE_KEYS,
    "text": _SOURCE_KEYS,
    "content": frozenset({"type", "content"}),
}
_DOCUMENT_TYPES = {"base64": "application/pdf", "text": "text/plain"}
_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_MAX_CACHE_BLOCKS = 4


def read(document: dict[str, Any], model: Model) -> Prompt:
    """Check a request in the order in which Anthropic's own service reports."""
    no_extras(document, _KEYS)
    if _required(document, "anthropic_version") not in _VERSIONS:
        raise invalid("Invalid API version")
    asked = _required(document, "max_tokens")
    if not rules.is_count(asked):
        raise invalid("max_tokens: Input should be a valid integer")
    if asked < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    _sampling(document, model)
    _cache_breakpoints(document)
    prompt = Prompt(
        system=_system(document.get("system")),
        turns=_turns(_required(document, "messages"), model),
        max_tokens=rules.max_tokens(asked, model),
        stop=_stop_sequences(document.get("stop_sequences")),
        schema=output_formats.of_anthropic(document.get("output_config"), model),
    )
    rules.claude_conversation(prompt, model)
    return rules.fits(prompt, model)


def write(reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG001 - the Body protocol
    return {
        **_message(reply, model),
        "content": [{"type": "text", "text": reply.text}] if reply.text else [],
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "usage": _usage(reply, output_tokens=reply.output_tokens),
    }


def events(reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:
    started = {**_message(reply, model), "content": [], "stop_reason": None, "stop_sequence": None}
    ended = {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence}
    return [
        chunk({"type": "message_start", "message": {**started, "usage": _usage(reply, output_tokens=1)}}),
        chunk({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *(
            chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}, "delta")
            for piece in pieces(reply.text)
        ),
        chunk({"type": "content_block_stop", "index": 0}),
        chunk({"type": "message_delta", "delta": ended, "usage": {"output_tokens": reply.output_tokens}}, "end"),
        chunk({"type": "message_stop", **metrics(reply, milliseconds=milliseconds)}, "end"),
    ]


def no_extras(document: dict[str, Any], known: frozenset[str], *, path: str = "") -> None:
    """Raise for the first key that is not known."""
    for key in document:
        if key not in known:
            raise invalid(f"{path}{key}: Extra inputs are not permitted")


def check_additional_fields(fields: dict[str, Any]) -> None:
    """Converse's additionalModelRequestFields: what may stand in this body and has no place in Converse's own."""
    no_extras(fields, _KEYS - {"messages", "system", "max_tokens", "anthropic_version"})


def _message(reply: Reply, model: Model) -> dict[str, Any]:
    name = model.id.removeprefix("anthropic.").partition("-v")[0]
    number = crc32(reply.text.encode("utf-8", "surrogatepass"))
    return {"id": f"msg_bdrk_local_{number:08x}", "type": "message", "role": "assistant", "model": name}


def _usage(reply: Reply, *, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output_tokens,
    }


def _required(document: dict[str, Any], key: str, *, path: str = "") -> Any:
    if key not in document:
        raise invalid(f"{path}{key}: Field required")
    return document[key]


def _sampling(document: dict[str, Any], model: Model) -> None:
    for key in ("temperature", "top_p"):
        value = document.get(key)
        if value is None:
            continue
        if not rules.is_number(value):
            raise invalid(f"{key}: Input should be a valid number")
        if value < 0:
            raise invalid(f"{key}: Input should be greater than or equal to 0")
        if value > 1:
            raise invalid(f"{key}: Input should be less than or equal to 1")
    top_k = document.get("top_k")
    if top_k is not None and not rules.is_count(top_k):
        raise invalid("top_k: Input should be a valid integer")
    rules.claude_sampling(model, temperature=document.get("temperature"), top_p=document.get("top_p"), top_k=top_k)


def _cache_breakpoints(document: dict[str, Any]) -> None:
    messages = document["messages"] if isinstance(document.get("messages"), list) else []
    lists = [document.get("tools"), document.get("system")]
    lists += [message.get("content") for message in messages if isinstance(message, dict)]
    blocks = (block for blocks in lists if isinstance(blocks, list) for block in blocks)
    found = sum(isinstance(block, dict) and "cache_control" in block for block in blocks)
    if found > _MAX_CACHE_BLOCKS:
        raise invalid(f"A maximum of {_MAX_CACHE_BLOCKS} blocks with cache_control may be provided. Found {found}.")


def _system(system: Any) -> str | None:
    if system is None or isinstance(system, str):
        return system
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or list")
    return "\n".join(_text(block, path=f"system.{at}.", where="system") for at, block in enumerate(system))


def _stop_sequences(stop: Any) -> tuple[str, ...]:
    if stop is None:
        return ()
    if not isinstance(stop, list):
        raise invalid("stop_sequences: Input should be a valid list")
    for at, sequence in enumerate(stop):
        if not isinstance(sequence, str):
            raise invalid(f"stop_sequences.{at}: Input should be a valid string")
        if not sequence.strip():
            raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    return tuple(stop)


def _turns(messages: Any, model: Model) -> tuple[Turn, ...]:
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    turns: list[Turn] = []
    for at, message in enumerate(messages):
        turn = _turn(message, model, at=at, last=at == len(messages) - 1)
        if turns and turns[-1].role == turn.role:  # turns of one role in a row count as one
            turn = _merged(turns.pop(), turn)
        turns.append(turn)
    if turns[0].role != "user":
        raise invalid('messages: first message must use the "user" role')
    return tuple(turns)


def _merged(first: Turn, second: Turn) -> Turn:
    return Turn(
        first.role,
        f"{first.text}\n{second.text}",
        first.pictures + second.pictures,
        first.other_tokens + second.other_tokens,
        first.attachments + second.attachments,
    )


def _turn(message: Any, model: Model, *, at: int, last: bool) -> Turn:
    path = f"messages.{at}."
    if not isinstance(message, dict):
        raise invalid(f"messages.{at}: Input should be a valid dictionary")
    no_extras(message, frozenset({"role", "content"}), path=path)
    role = _required(message, "role", path=path)
    if role not in {"user", "assistant"}:
        raise invalid(f"{path}role: Input should be 'user' or 'assistant'")
    content = _required(message, "content", path=path)
    if not content and not (last and role == "assistant"):
        raise invalid(
            f"messages.{at}: all messages must have non-empty content except for the optional final assistant message"
        )
    if isinstance(content, str):
        return Turn(role, content)
    if not isinstance(content, list):
        raise invalid(f"{path}content: Input should be a valid string or list")
    return _blocks(role, content, model, path=f"{path}content.")


def _blocks(role: Any, content: list[Any], model: Model, *, path: str) -> Turn:
    texts: list[str] = []
    shown: list[Picture] = []
    attached: list[Attachment] = []
    other_tokens = 0
    for at, block in enumerate(content):
        kind = block.get("type") if isinstance(block, dict) else None
        if kind not in _BLOCKS:
            raise invalid(
                f"{path}{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
                + ", ".join(f"'{tag}'" for tag in _BLOCKS)
            )
        if kind == "text":
            texts.append(_text(block, path=f"{path}{at}.", where="messages"))
        elif kind == "image":
            shown.append(_image(block, model, path=f"{path}{at}.image."))
        elif kind == "document":
            attached.append(_document(block, path=f"{path}{at}.document."))
        else:
            other_tokens += tokens.of_text(str(block))
    return Turn(role, "\n".join(texts), tuple(shown), other_tokens, tuple(attached))


def _text(block: Any, *, path: str, where: str) -> str:
    if not isinstance(block, dict) or block.get("type") != "text":
        raise invalid(f"{path}type: Input should be 'text'")
    no_extras(block, _BLOCK_KEYS["text"], path=f"{path}text.")
    text = _required(block, "text", path=f"{path}text.")
    if not isinstance(text, str):
        raise invalid(f"{path}text.text: Input should be a valid string")
    if not text:
        raise invalid(f"{where}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{where}: text content blocks must contain non-whitespace text")
    return text


def _image(block: dict[str, Any], model: Model, *, path: str) -> Picture:
    no_extras(block, _BLOCK_KEYS["image"], path=path)
    source = _required(block, "source", path=path)
    if not isinstance(source, dict) or source.get("type") != "base64":
        raise invalid(f"{path}source: Input tag found using 'type' does not match any of the expected tags: 'base64'")
    path = f"{path}source.base64"
    no_extras(source, _SOURCE_KEYS, path=f"{path}.")
    declared = _required(source, "media_type", path=f"{path}.")
    if declared not in _MEDIA_TYPES:
        raise invalid(f"{path}.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'")
    if not model.vision:
        raise invalid(f"'{model.id.removeprefix('anthropic.')}' does not support image input.")
    return rules.picture(_required(source, "data", path=f"{path}."), declared, path=path)


def _document(block: dict[str, Any], *, path: str) -> Attachment:
    """A PDF in base64, a plain text, or `content`: a text that the caller has cut into blocks."""
    no_extras(block, _BLOCK_KEYS["document"], path=path)
    source = _required(block, "source", path=path)
    kind = source.get("type") if isinstance(source, dict) else None
    if kind not in _DOCUMENT_KEYS:
        raise invalid(
            f"{path}source: Input tag '{kind}' found using 'type' does not match any of the expected tags: "
            + ", ".join(f"'{tag}'" for tag in _DOCUMENT_KEYS)
        )
    path, name = f"{path}source.{kind}", str(block.get("title") or "untitled")
    no_extras(source, _DOCUMENT_KEYS[kind], path=f"{path}.")
    if kind == "content":
        blocks = _required(source, "content", path=f"{path}.")
        return attachments.document("txt", str(blocks).encode("utf-8", "replace"), name=name)
    wanted = _DOCUMENT_TYPES[kind]
    if _required(source, "media_type", path=f"{path}.") != wanted:
        raise invalid(f"{path}.media_type: Input should be '{wanted}'")
    data = _required(source, "data", path=f"{path}.")
    if kind == "text":
        if not isinstance(data, str) or not data:
            raise invalid(f"{path}.data: String should have at least 1 character")
        return attachments.document("txt", data.encode("utf-8", "replace"), name=name)
    try:
        return attachments.document(attachments.PDF, rules.content(data, path=f"{path}.data"), name=name)
    except attachments.UnreadableError:
        raise invalid(f"{path}.data: The PDF specified was not valid.") from None
