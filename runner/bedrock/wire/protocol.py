"""What each API has in common: how it carries a request and its reply, and what can be wrong with a reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.bedrock.eventstream import Event
    from runner.records import DiskFile, Image, Message, Reply, Request


class IncompleteReply(Exception):  # noqa: N818 - what came back is the point, not that it is an exception
    """What came back is not a whole reply. `reason` says what is missing or damaged."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ModelFault(Exception):  # noqa: N818 - as above: an error that the model sent in place of an event
    """The model sent an error in place of a reply or an event: `code` such as `overloaded_error`, and its message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ReplyStream(Protocol):
    """Puts the events of one stream together."""

    @property
    def done(self) -> bool:
        """Whether nothing more is needed: the end has come, and the usage with it."""

    def event(self, event: Event) -> str:
        """Take the next event; return the text that it adds. Raises IncompleteReply or ModelFault."""

    def reply(self) -> Reply:
        """The whole reply. Raises IncompleteReply if its end has not come."""


class Files(Protocol):
    """Gives the content of files for a body. Raises CallError for one that can't be read."""

    def base64(self, file: Image | DiskFile) -> str:
        """What stands for the content in base64."""

    def text(self, file: DiskFile) -> str:
        """The text in a file."""


class Wire(Protocol):
    """How one API carries a request and its reply."""

    def operation(self, *, stream: bool) -> str:
        """The last segment of the path."""

    def headers(self, *, stream: bool) -> Mapping[str, str]:
        """The headers that depend on the API."""

    def body(self, request: Request, messages: Sequence[Message], files: Files) -> bytes:
        """The request's body. `files` gives the content of what it attaches. Raises ValueError if it can't be sent."""

    def reply(self, payload: bytes, headers: Mapping[str, str]) -> Reply:
        """Read a reply that came in one piece; `headers` are the response's. Raises IncompleteReply."""

    def stream(self) -> ReplyStream:
        """Begin a reply that comes in events."""
