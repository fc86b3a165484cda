"""What is asked, as frozen values: the case with its files, its request and its assertions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from runner.records.jobs import Inference, Job, ResponseSchema, Role, Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runner.errors import Place, Problem

Colours = Literal["grey", "palette", "rgb", "cmyk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What is sent instead of an image as it is. `changes` says in words what is done to it, for people."""

    media_type: str  # image/png, image/jpeg or image/webp
    width: int
    height: int
    changes: tuple[str, ...]
    asks_the_same: bool = False  # the model would have seen just this picture: it shrinks what is larger itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image on disk. Its bytes are read when they are sent; `sha256` says which bytes were meant.

    All but the digest is known from its header alone. It is sent as it is unless there is a `fit`.
    """

    path: str  # as the job file wrote it
    file: Path  # resolved
    sha256: str  # empty where it was only looked at
    bytes: int
    media_type: str  # by content: image/png, jpeg, gif, webp, bmp, tiff, avif or heic
    width: int  # in pixels, upright
    height: int
    orientation: int = 1  # as EXIF counts, 1 to 8: how it has to be turned
    colours: Colours = "rgb"
    bits: int = 8  # of a channel
    transparent: bool = False
    several: bool = False  # an animation, or pages
    progressive: bool = False  # a JPEG that can't be decoded piece by piece
    stamp: tuple[int, ...] | None = None  # what its file looked like; None where that can't tell if it has changed
    fit: Fit | None = None

    @property
    def sent_type(self) -> str:
        """The media type of what is sent: image/png, image/jpeg, image/gif or image/webp."""
        return self.fit.media_type if self.fit else self.media_type


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskFile:
    """A document or a video on disk. Its bytes are read when they are sent; `sha256` says which bytes were meant."""

    path: str  # as the job file wrote it
    file: Path  # resolved
    sha256: str
    bytes: int
    media_type: str  # by its suffix, to which its content holds
    tokens: int  # an estimate
    stamp: tuple[int, ...] | None = None  # what it looked like; None where that can't tell if it has changed

    @property
    def sent_type(self) -> str:
        """The media type of what is sent."""
        return self.media_type


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Object:
    """An object in S3, which the model fetches by itself: here nothing is known of it but its name."""

    path: str  # s3://bucket/key, as the job file wrote it
    media_type: str  # by the suffix of its key


Video = DiskFile | S3Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A document and the name that the model is told: a neutral one, since what it is told may sway it."""

    name: str
    content: DiskFile | S3Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    role: Role
    text: str
    images: tuple[Image | S3Object, ...] = ()
    documents: tuple[Document, ...] = ()
    video: Video | None = None

    @property
    def attached(self) -> tuple[Image | DiskFile | S3Object, ...]:
        """Everything that goes with the text, in the order in which it is sent."""
        documents = (document.content for document in self.documents)
        return (*documents, *self.images, *([self.video] if self.video else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked, rendered, whatever API carries it. `messages` are the scripted turns; where a user message follows
    a user message the model answers in between. With `body`, a raw InvokeModel body, there are no messages; in it the
    markers of `images` stand for their content (see runner/templates/body_images.py).
    """

    system: str | None = None
    messages: tuple[Message, ...] = ()
    inference: Inference = field(default_factory=Inference)
    extra: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    images: tuple[Image, ...] = ()
    response_schema: ResponseSchema | None = None  # of the last reply


def exchanges(request: Request) -> Iterator[tuple[Message, ...]]:
    """The messages to add before each call. A user message after a user message begins a new call; a raw body is one
    call with none.
    """
    pending: list[Message] = []
    for message in request.messages:
        if pending and pending[-1].role == "user" == message.role:
            yield tuple(pending)
            pending = []
        pending.append(message)
    yield tuple(pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """An assertion of one case, rendered: `value` is a JSON value, or None where none is given."""

    type: str
    place: Place
    negated: bool = False
    value: Any = None
    threshold: float | None = None
    model: str | None = None
    weight: float = 1.0
    assertions: tuple[Assertion, ...] = ()

    @property
    def name(self) -> str:
        """Its type as written."""
        return f"not-{self.type}" if self.negated else self.type


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarFile:
    """The sidecar of one case. `variables` are those of the template `text`, beside what is known of the reply."""

    path: str  # as rows have it: from the job's folder, or absolute if it lies outside
    file: Path  # its folder's links followed, its own not
    place: Place  # of its template
    text: Text | None
    variables: Mapping[str, Any]
    ours: tuple[str, ...] = ()  # what earlier rows say that was written there, as SHA-256, the last row first
    rows: str = ""  # the file of rows that was asked, where the file of the sidecar is there


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One case, ready to be called; or with a `fault`, which says why it cannot be."""

    job: Job
    id: str
    index: int  # from 0, in the order of the job
    key: str
    vars: Mapping[str, Any]
    request: Request
    assertions: tuple[Assertion, ...]
    repeat: int = 0
    matrix: Mapping[str, Any] | None = None
    tags: frozenset[str] = frozenset()  # its job's too
    line: int = 1  # of the job file, where the case is declared
    origin: str = ""  # of its row, as `rows.csv:17`, if it comes from a file
    fault: Problem | None = None
    sidecar: SidecarFile | None = None
