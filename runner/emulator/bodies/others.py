"""The InvokeModel bodies of the smaller families: one prompt in, one text out; and embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.emulator.answer import pieces
from runner.emulator.bodies import converse, rules
from runner.emulator.bodies.events import Event, chunk, metrics
from runner.emulator.errors import invalid, malformed
from runner.emulator.prompt import Prompt, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.emulator.models import Model
    from runner.emulator.pictures import Picture


class _OneText:
    """A body whose reply is one text. Subclasses name its keys; a stream repeats the response with parts of it."""

    known: frozenset[str]
    text_key: str
    limit_key: str
    stop_key = "stop"
    stop_reasons = ("stop", "length")  # the family's words for an ordinary end and for max_tokens

    def read(self, document: dict[str, Any], model: Model) -> Prompt:
        converse.no_extras(document, self.known)
        text = document.get(self.text_key)
        if text is None:
            raise malformed(f"#: required key [{self.text_key}] not found")
        if not isinstance(text, str):
            raise malformed(f"#/{self.text_key}: expected type: String")
        if not text.strip():
            raise malformed(f"#/{self.text_key}: expected minLength: 1, actual: {len(text)}")
        return self.prompt((Turn("user", text),), self.settings(document), model)

    def settings(self, document: dict[str, Any]) -> dict[str, Any]:
        """The object in which sampling settings stand."""
        return document

    def prompt(
        self, turns: tuple[Turn, ...], settings: dict[str, Any], model: Model, *, system: str | None = None
    ) -> Prompt:
        asked = settings.get(self.limit_key)
        if asked is not None and (not rules.is_count(asked) or asked < 1):
            raise malformed(f"#/{self.limit_key}: {asked} is not greater or equal to 1")
        temperature = settings.get("temperature")
        if temperature is not None and not (rules.is_number(temperature) and 0 <= temperature <= 2):
            raise malformed(f"#/temperature: {temperature} is out of range")
        stop = settings.get(self.stop_key) or []
        return rules.fits(
            Prompt(
                turns=turns,
                system=system,
                max_tokens=rules.max_tokens(asked, model),
                stop=(stop,) if isinstance(stop, str) else tuple(str(sequence) for sequence in stop),
            ),
            model,
        )

    def write(self, reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG002 - the protocol
        return self.response(reply, reply.text, self.reason(reply))

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG002 - the protocol
        parts = [chunk(self.response(reply, piece, None), "delta") for piece in pieces(reply.text)]
        last = {**self.response(reply, "", self.reason(reply)), **metrics(reply, milliseconds=milliseconds)}
        return [*parts, chunk(last, "end")]

    def reason(self, reply: Reply) -> str:
        return self.stop_reasons[reply.stop_reason == "max_tokens"]

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
        raise NotImplementedError


class TitanText(_OneText):
    known = frozenset({"inputText", "textGenerationConfig"})
    text_key = "inputText"
    limit_key = "maxTokenCount"
    stop_key = "stopSequences"
    stop_reasons = ("FINISH", "LENGTH")

    def settings(self, document: dict[str, Any]) -> dict[str, Any]:
        config = document.get("textGenerationConfig") or {}
        converse.no_extras(
            config, {"maxTokenCount", "stopSequences", "temperature", "topP"}, path="/textGenerationConfig"
        )
        return dict(config)

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG002 - the protocol
        def part(text: str, reason: str | None) -> dict[str, Any]:
            counts = {"inputTextTokenCount": reply.input_tokens, "totalOutputTextTokenCount": reply.output_tokens}
            return {"outputText": text, "index": 0, "completionReason": reason, **counts}

        parts = [chunk(part(piece, None), "delta") for piece in pieces(reply.text)]
        return [*parts, chunk({**part("", self.reason(reply)), **metrics(reply, milliseconds=milliseconds)}, "end")]

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
        result = {"tokenCount": reply.output_tokens, "outputText": text, "completionReason": reason}
        return {"inputTextTokenCount": reply.input_tokens, "results": [result]}


class Llama(_OneText):
    known = frozenset({"prompt", "max_gen_len", "temperature", "top_p"})
    text_key = "prompt"
    limit_key = "max_gen_len"

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
        counts = {"prompt_token_count": reply.input_tokens, "generation_token_count": reply.output_tokens}
        return {"generation": text, **counts, "stop_reason": reason}


class Mistral(_OneText):
    known = frozenset({"prompt", "max_tokens", "temperature", "top_p", "top_k", "stop"})
    text_key = "prompt"
    limit_key = "max_tokens"

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:  # noqa: ARG002 - no counts here
        return {"outputs": [{"text": text, "stop_reason": reason}]}


class DeepSeek(_OneText):
    known = frozenset({"prompt", "max_tokens", "temperature", "top_p", "stop"})
    text_key = "prompt"
    limit_key = "max_tokens"

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:  # noqa: ARG002 - no counts here
        return {"choices": [{"text": text, "stop_reason": reason}]}


class Cohere(_OneText):
    """Command R. Its earlier turns, tools and documents are accepted and not looked at."""

    known = frozenset(
        {
            "message",
            "chat_history",
            "preamble",
            "max_tokens",
            "temperature",
            "p",
            "k",
            "stop_sequences",
            "tools",
            "documents",
            "seed",
        }
    )
    text_key = "message"
    limit_key = "max_tokens"
    stop_key = "stop_sequences"
    stop_reasons = ("COMPLETE", "MAX_TOKENS")

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:
        parts = [
            chunk({"event_type": "text-generation", "text": piece, "is_finished": False}, "delta")
            for piece in pieces(reply.text)
        ]
        last = {
            "event_type": "stream-end",
            "is_finished": True,
            "finish_reason": self.reason(reply),
            "response": self.write(reply, model, milliseconds=milliseconds),
        }
        return [*parts, chunk({**last, **metrics(reply, milliseconds=milliseconds)}, "end")]

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
        return {"text": text, "finish_reason": reason, "generation_id": f"local-{reply.output_tokens}"}


class OpenAI(_OneText):
    """Chat completions with text messages."""

    known = frozenset(
        {
            "messages",
            "model",
            "stream",
            "max_completion_tokens",
            "max_tokens",
            "temperature",
            "top_p",
            "stop",
            "reasoning_effort",
            "response_format",
            "seed",
            "tools",
            "tool_choice",
        }
    )
    text_key = "messages"
    limit_key = "max_completion_tokens"

    def read(self, document: dict[str, Any], model: Model) -> Prompt:
        converse.no_extras(document, self.known)
        messages = document.get("messages")
        if not isinstance(messages, list) or not messages:
            raise malformed("#: required key [messages] not found")
        turns: list[Turn] = []
        system: str | None = None
        for at, message in enumerate(messages):
            role, text = _openai_message(message, at=at)
            if role in {"system", "developer"}:
                system = text
            elif role == "assistant":
                turns.append(Turn("assistant", text))
            else:
                turns.append(Turn("user", text))
        if not turns:
            raise invalid("messages: at least one message of the user is required")
        settings = {**document, self.limit_key: document.get(self.limit_key, document.get("max_tokens"))}
        return self.prompt(tuple(turns), settings, model, system=system)

    def response(self, reply: Reply, text: str, reason: str | None) -> dict[str, Any]:
        usage = {
            "prompt_tokens": reply.input_tokens,
            "completion_tokens": reply.output_tokens,
            "total_tokens": reply.input_tokens + reply.output_tokens,
        }
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": reason}
        return {"id": "chatcmpl-local", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:
        def part(delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            return {
                "id": "chatcmpl-local",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": model.id,
                "choices": [choice],
            }

        parts = [chunk(part({"content": piece}, None), "delta") for piece in pieces(reply.text)]
        last = {**part({}, self.reason(reply)), **metrics(reply, milliseconds=milliseconds)}
        return [chunk(part({"role": "assistant"}, None)), *parts, chunk(last, "end")]


class TitanEmbed:
    """`{"inputText"}` to a vector."""

    def read(self, document: dict[str, Any], model: Model) -> Prompt:
        converse.no_extras(document, {"inputText", "dimensions", "normalize", "embeddingTypes"})
        text = document.get("inputText")
        if not isinstance(text, str) or not text:
            raise malformed("#: required key [inputText] not found")
        dimensions = document.get("dimensions", 1024)
        if dimensions not in {256, 512, 1024}:
            raise malformed(f"#/dimensions: {dimensions} is not a valid enum value")
        if document.get("embeddingTypes", ["float"]) != ["float"]:
            raise invalid("The local emulator makes embeddings of type float only.")
        return rules.fits(Prompt(turns=(Turn("user", text),), max_tokens=0, dimensions=dimensions), model)

    def write(self, reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG002 - the protocol
        vector = list(reply.vectors[0])
        return {"embedding": vector, "embeddingsByType": {"float": vector}, "inputTextTokenCount": reply.input_tokens}

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG002 - the protocol
        raise invalid("The model is unsupported for streaming")


class TitanEmbedImage:
    """`{"inputText", "inputImage"}`, of which one may be missing, to a vector."""

    def read(self, document: dict[str, Any], model: Model) -> Prompt:
        converse.no_extras(document, {"inputText", "inputImage", "embeddingConfig"})
        text, image = document.get("inputText", ""), document.get("inputImage")
        if not isinstance(text, str) or not (text or image):
            raise malformed("#: required key [inputText] or [inputImage] not found")
        config = document.get("embeddingConfig") or {}
        converse.no_extras(config, {"outputEmbeddingLength"}, path="/embeddingConfig")
        dimensions = config.get("outputEmbeddingLength", 1024)
        if dimensions not in {256, 384, 1024}:
            raise malformed(f"#/embeddingConfig/outputEmbeddingLength: {dimensions} is not a valid enum value")
        pictures = () if image is None else (rules.picture(image, None, path="inputImage"),)
        return rules.fits(Prompt(turns=(Turn("user", text, pictures),), max_tokens=0, dimensions=dimensions), model)

    def write(self, reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG002 - the protocol
        return {"embedding": list(reply.vectors[0]), "inputTextTokenCount": reply.input_tokens, "message": None}

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG002 - the protocol
        raise invalid("The model is unsupported for streaming")


class CohereEmbed:
    """Texts, pictures or, from version 4 on, what mixes both: to a vector each."""

    def __init__(self, *dimensions: int, mixes: bool = False) -> None:
        """`dimensions` that may be asked for, the first where none are."""
        self._dimensions = dimensions
        self._known = {"texts", "images", "input_type", "embedding_types", "truncate"}
        self._known |= {"inputs", "output_dimension", "max_tokens"} if mixes else set()
        self._longest = None if mixes else 2048  # characters of a text
        self._most_images = 96 if mixes else 1

    def read(self, document: dict[str, Any], model: Model) -> Prompt:
        converse.no_extras(document, self._known)
        kinds = {"search_document", "search_query", "classification", "clustering", "image"}
        if document.get("input_type") not in kinds:
            raise malformed("#: required key [input_type] not found, or it is not a valid enum value")
        given = [name for name in ("texts", "images", "inputs") if document.get(name)]
        if len(given) != 1:
            raise malformed("#: exactly one of [texts, images] must be given")
        dimensions = document.get("output_dimension", self._dimensions[0])
        if dimensions not in self._dimensions:
            raise malformed(f"#/output_dimension: {dimensions} is not a valid enum value")
        types = document.get("embedding_types")
        if types not in (None, ["float"]):
            raise invalid("The local emulator makes embeddings of type float only.")
        read: dict[str, Callable[[Any], Iterator[Turn]]]
        read = {"texts": self._texts, "images": self._images, "inputs": self._mixed}
        turns = read[given[0]](document[given[0]])
        by_type = types is not None
        return rules.fits(Prompt(turns=tuple(turns), max_tokens=0, dimensions=dimensions, by_type=by_type), model)

    def _texts(self, texts: list[str]) -> Iterator[Turn]:
        _check_list(texts, "texts", most=96)
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise malformed(f"#/texts/{at}: expected type: String")
            if self._longest is not None and len(text) > self._longest:
                raise malformed(f"#/texts/{at}: expected maxLength: {self._longest}, actual: {len(text)}")
            yield Turn("user", text)

    def _images(self, images: list[str]) -> Iterator[Turn]:
        _check_list(images, "images", most=self._most_images)
        for at, image in enumerate(images):
            yield Turn("user", "", (_picture_of_uri(image, path=f"images.{at}"),))

    def _mixed(self, inputs: list[dict[str, Any]]) -> Iterator[Turn]:
        _check_list(inputs, "inputs", most=96)
        for at, item in enumerate(inputs):
            blocks = item["content"]
            pictures = (block["image_url"] for block in blocks if block["type"] == "image_url")
            uris = (each["url"] if isinstance(each, dict) else each for each in pictures)
            yield Turn(
                "user",
                "\n".join(block["text"] for block in blocks if block["type"] == "text"),
                tuple(_picture_of_uri(uri, path=f"inputs.{at}.content") for uri in uris),
            )

    def write(self, reply: Reply, model: Model, *, milliseconds: int) -> dict[str, Any]:  # noqa: ARG002 - the protocol
        vectors = [list(vector) for vector in reply.vectors]
        if reply.by_type:
            return {"id": "local", "response_type": "embeddings_by_type", "embeddings": {"float": vectors}}
        return {"id": "local", "response_type": "embeddings_floats", "embeddings": vectors}

    def events(self, reply: Reply, model: Model, *, milliseconds: int) -> list[Event]:  # noqa: ARG002 - the protocol
        raise invalid("The model is unsupported for streaming")


def _check_list(items: Any, name: str, *, most: int) -> None:
    if len(converse.array(items, name)) > most:
        raise malformed(f"#/{name}: expected maximum item count: {most}, found: {len(items)}")


def _picture_of_uri(uri: str, *, path: str) -> Picture:
    """The picture in a URI such as `data:image/png;base64,...`."""
    declared, separator, data = uri.removeprefix("data:").partition(";base64,")
    if not separator:
        raise invalid(f"{path}: image must be a data URI in base64")
    return rules.picture(data, declared, path=path)


def _openai_message(message: Any, *, at: int) -> tuple[str, str]:
    if not isinstance(message, dict) or message.get("role") not in {"system", "developer", "user", "assistant", "tool"}:
        raise malformed(f"#/messages/{at}/role: is not a valid enum value")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return message["role"], str(content or "")
