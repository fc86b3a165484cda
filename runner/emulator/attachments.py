"""Documents, videos and objects in S3 as far as the local model can tell what they are."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass

from runner.emulator import tokens

PDF = "pdf"
TEXTS = ("csv", "html", "txt", "md")
_PARTS = {  # where files of Office have their text
    "docx": ("word/document", "word/header", "word/footer", "word/footnotes", "word/endnotes", "word/comments"),
    "xlsx": ("xl/sharedstrings", "xl/worksheets/"),
}
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # the others of Office
_FIRST_WORDS = 8
_LONGEST_WORD = 40  # characters
_MOST_INFLATED = 16 * 1024 * 1024  # bytes
_BETWEEN_TAGS = re.compile(rb">\s*([^<>\s][^<>]*)<")
_PAGE = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_PACKED = re.compile(rb"/ObjStm\b[^\0]{0,400}?stream\r?\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """Something that a turn brings beside text and pictures. `name` is a document's, empty for others."""

    kind: str  # image, document or video
    format: str
    facts: tuple[str, ...]  # such as `1,024 bytes` and `3 pages`
    tokens: int
    name: str = ""
    pages: int = 0  # of a PDF
    in_request: bool = True  # and not in S3

    def __str__(self) -> str:
        told = f'"{self.name}"' if self.name else "an image" if self.kind == "image" else f"a {self.kind}"
        return f"{told} ({', '.join((self.format, *self.facts))})"


class UnreadableError(Exception):
    """The bytes are not what their format says."""


def in_s3(kind: str, form: str, uri: str, *, name: str = "") -> Attachment:
    """An object that a model with an AWS account would fetch."""
    facts = (uri, "not fetched")
    return Attachment(kind=kind, format=form, facts=facts, tokens=tokens.UNSEEN, name=name, in_request=False)


def document(form: str, content: bytes, *, name: str) -> Attachment:
    """A document, looked at: the pages of a PDF, the lines and first words of a text. Raises UnreadableError."""
    facts, pages = [_count(len(content), "byte")], 0
    if form == PDF:
        pages = _pages(content)
        facts.append(_count(pages, "page"))
        count = tokens.of_pages(pages)
    elif form in TEXTS:
        facts += _facts_of_text(content)
        count = tokens.of_bytes(len(content))
    elif form in _PARTS:
        count = tokens.of_bytes(_text_in_parts(content, _PARTS[form]))
    elif content.startswith(_OLE):
        count = tokens.of_markup(len(content))
    else:
        raise UnreadableError
    return Attachment(kind="document", format=form, facts=tuple(facts), tokens=count, name=name, pages=pages)


def video(form: str, content: bytes) -> Attachment:
    """A video, at which nothing here can look."""
    return Attachment(
        kind="video", format=form, facts=(_count(len(content), "byte"),), tokens=tokens.of_video(len(content))
    )


def _facts_of_text(content: bytes) -> list[str]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError from error
    words = text.split(maxsplit=_FIRST_WORDS)[:_FIRST_WORDS]
    if not words:
        return ["no words"]
    return [_count(len(text.splitlines()), "line"), f'beginning "{" ".join(word[:_LONGEST_WORD] for word in words)}"']


def _text_in_parts(content: bytes, parts: tuple[str, ...]) -> int:
    """How many bytes of text stand between the tags of these parts of a file of Office. Raises UnreadableError."""
    size, left = 0, _MOST_INFLATED
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if name.lower().replace("\\", "/").startswith(parts) and name.lower().endswith(".xml"):
                    with archive.open(name) as part:
                        markup = part.read(left)
                    left -= len(markup)
                    size += sum(len(text[1]) for text in _BETWEEN_TAGS.finditer(markup))
    except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, EOFError, RuntimeError) as error:
        raise UnreadableError from error
    return size


def _pages(content: bytes) -> int:
    """The pages that can be seen in a PDF, also within compressed objects; at least one. Raises UnreadableError."""
    if b"%PDF-" not in content[:1024]:
        raise UnreadableError
    count = len(_PAGE.findall(content))
    for packed in _PACKED.finditer(content):
        end = content.find(b"endstream", packed.end())
        try:
            count += len(_PAGE.findall(zlib.decompressobj().decompress(content[packed.end() : end], _MOST_INFLATED)))
        except zlib.error:
            continue
    return max(1, count)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
