"""The local model: no model at all, but an honest and repeatable answer made from the request."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import TYPE_CHECKING

from runner.emulator import output_formats, tokens
from runner.emulator.prompt import Prompt, Reply, Turn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.emulator.pictures import Picture


_QUOTED_CHARS = 200
_GRADING = ("JSON", '"pass"', '"reason"')  # what a system prompt for a grader speaks of
_WORD = re.compile(r"\w+")
_PIECE = re.compile(r"\s*\S+\s?\S*|\s+")


def local_text(prompt: Prompt) -> str:
    """What the local model says: that it is none, the question, the images, the documents, and what else it was shown.
    Asked for structured output, or in the system prompt for JSON of a schema, it says so in a value that fits. Asked to
    grade, it lets everything pass, in the JSON that graders are asked for.
    """
    parts = ["Local emulator, no model was called.", _question(prompt.question)]
    if prompt.pictures:
        parts.append(_pictures(prompt.pictures))
    if prompt.attachments:
        parts.append(f"I was given {'; '.join(map(str, prompt.attachments))}.")
    schema = prompt.schema or output_formats.in_prompt(prompt.system)
    if schema is not None:
        return json.dumps(output_formats.example(schema, " ".join(parts)), ensure_ascii=False)
    if all(word in (prompt.system or "") for word in _GRADING):
        return json.dumps(
            {"reason": "Local emulator, no model was called: all of it passes.", "pass": True, "score": 1}
        )
    shown = f"I was shown {len(prompt.turns)} {'turn' if len(prompt.turns) == 1 else 'turns'}"
    if prompt.system is None:
        parts.append(f"{shown} and no system prompt.")
    else:
        parts.append(f"{shown} and a system prompt of {len(prompt.system)} characters.")
    if prompt.turns and prompt.turns[-1].role == "assistant":
        parts.append("The last turn was the assistant's, to be continued.")
    return " ".join(parts)


def finish(prompt: Prompt, text: str, *, stop_reason: str = "end_turn") -> Reply:
    """Cut `text` where the prompt's stop sequences or `max_tokens` end it, and say why it ended.

    A stop sequence is not part of the reply. `stop_reason` is what a reply that needs no cut ends with.
    """
    stop_sequence = None
    found = [(at, stop) for stop in prompt.stop if stop and (at := text.find(stop)) >= 0]
    if found:
        at, stop_sequence = min(found)
        text, stop_reason = text[:at], "stop_sequence"
    if tokens.of_text(text) > prompt.max_tokens:
        text, stop_reason, stop_sequence = text[: prompt.max_tokens * tokens.CHARS_PER_TOKEN], "max_tokens", None
    cited = next((attachment.name for attachment in prompt.attachments if attachment.name), None)
    return Reply(
        text=text,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence,
        input_tokens=prompt.input_tokens,
        cited=cited if prompt.cites else None,
    )


def embed(prompt: Prompt) -> Reply:
    """A vector for each turn."""
    return Reply(
        text="",
        stop_reason="end_turn",
        input_tokens=prompt.input_tokens,
        vectors=tuple(_embedding(turn, prompt.dimensions) for turn in prompt.turns),
        by_type=prompt.by_type,
    )


def _embedding(turn: Turn, dimensions: int) -> tuple[float, ...]:
    """A vector of unit length: the sum of those of its words and pictures, so that texts with words in common are
    alike, and so are pictures of which the same parts are dark.
    """
    words = [] if turn.pictures and not turn.text else _WORD.findall(turn.text.lower()) or [turn.text]
    vectors = [_vector(word, dimensions) for word in words]
    vectors += [_vector_of_picture(picture, dimensions) for picture in turn.pictures]
    values = [sum(of_words) for of_words in zip(*vectors, strict=True)]
    length = math.hypot(*values)
    return tuple(value / length for value in values)


def _vector(word: str, dimensions: int) -> list[float]:
    """Numbers that depend on nothing but the word and how many they are."""
    text = word.encode("utf-8", "surrogatepass")
    raw = b"".join(hashlib.blake2b(b"%d:%b" % (at, text)).digest() for at in range(dimensions // 64))
    return [byte - 127.5 for byte in raw]


def _vector_of_picture(picture: Picture, dimensions: int) -> list[float]:
    """The colours of points all over the picture."""
    colours = [byte for at, byte in enumerate(picture.grid) if at % 4 < 3]
    return [colours[at * len(colours) // dimensions] - 127.5 for at in range(dimensions)]


def pieces(text: str) -> list[str]:
    """The text in the portions a stream brings it: about two words each. Joined they are the text."""
    return _PIECE.findall(text)


def _question(question: str) -> str:
    words = " ".join(question.split())
    if not words:
        return "You asked nothing in words."
    if len(words) > _QUOTED_CHARS:
        return f'You asked: "{words[:_QUOTED_CHARS]}…" ({len(question)} characters).'
    return f'You asked: "{words}".'


def _pictures(pictures: Sequence[Picture]) -> str:
    if len(pictures) == 1:
        return f"The image is {pictures[0]}."
    listed = "; ".join(f"image {number} is {picture}" for number, picture in enumerate(pictures, start=1))
    return f"You sent {len(pictures)} images: {listed}."
