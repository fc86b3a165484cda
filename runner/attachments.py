"""Files within request bodies: their content goes in as base64, once the body is written."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.records import Image

_MARK = secrets.token_hex(16)  # no text of a job, a row or a model holds it: it is drawn anew in each process
_MARKS = re.compile(rf"{_MARK}:([0-9]+);".encode())


class Attachments:
    """Marks for the files of one body, while it is written as JSON, and then their content in place of the marks.

    To write base64 as JSON, which looks at each character, takes three times as long as to make it.
    """

    def __init__(self, read: Callable[[Image], bytes]) -> None:
        self._read = read
        self._files: list[Image] = []

    def mark(self, file: Image) -> str:
        """What stands for the file's content in base64."""
        self._files.append(file)
        return f"{_MARK}:{len(self._files) - 1};"

    def fill(self, body: bytes) -> bytes:
        """The body with the files in it, which are read now. Raises CallError if one can't be."""
        if not self._files:
            return body
        text_and_numbers = _MARKS.split(body)
        text_and_numbers[1::2] = [b64encode(self._read(self._files[int(each)])) for each in text_and_numbers[1::2]]
        return b"".join(text_and_numbers)
