"""What is asked and what is answered, whatever body it came in: the values between the bodies and the local model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.emulator import tokens

if TYPE_CHECKING:
    from runner.emulator.attachments import Attachment
    from runner.emulator.pictures import Picture

Role = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `text` joins its text blocks; `other_tokens` stands for what the local model can't look at."""

    role: Role
    text: str
    pictures: tuple[Picture, ...] = ()
    other_tokens: int = 0
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A checked request. `max_tokens` is never unset: a request that says nothing reserves the model's maximum.

    `dimensions` is set for models that embed, which answer each turn with a vector, and `by_type` where they are asked
    for the types of its numbers; `schema` is that of structured output.
    `cites` is set where the model is to cite from the documents.
    """

    turns: tuple[Turn, ...]
    max_tokens: int
    system: str | None = None
    stop: tuple[str, ...] = ()
    dimensions: int = 0
    by_type: bool = False
    cites: bool = False
    schema: dict[str, Any] | None = None

    @property
    def question(self) -> str:
        """The text of the last thing the user said."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Every image of the conversation, in order."""
        return tuple(picture for turn in self.turns for picture in turn.pictures)

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """Everything else that the conversation brings, in order."""
        return tuple(attachment for turn in self.turns for attachment in turn.attachments)

    @property
    def input_tokens(self) -> int:
        """An estimate: about four characters per token, and what pictures and documents cost by their size."""
        count = tokens.of_text(self.system or "") + (tokens.of_text(str(self.schema)) if self.schema else 0)
        for turn in self.turns:
            count += tokens.of_text(turn.text) + turn.other_tokens
            count += sum(tokens.of_image(picture.width, picture.height) for picture in turn.pictures)
            count += sum(attachment.tokens for attachment in turn.attachments)
        return max(1, count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the model said. `stop_sequence` is the one that ended it; `stop_reason` can be any scripted word.

    `cited` is the name of a document that the reply cites, if it was to cite.
    """

    text: str
    stop_reason: str
    input_tokens: int
    stop_sequence: str | None = None
    vectors: tuple[tuple[float, ...], ...] = ()
    by_type: bool = False
    cited: str | None = None

    @property
    def output_tokens(self) -> int:
        """An estimate, as for the input."""
        return tokens.of_text(self.text)
