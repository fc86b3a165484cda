"""The text of a file, or why it is none: what is no file, too large, not UTF-8, or holds control characters."""

from __future__ import annotations

import itertools
import os
import re
import stat
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from runner.errors import Place, Problem, UsageError
from runner.words import nearest

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 10_000_000
MAX_PROBLEMS: Final = 100  # of one file; nobody reads more


class Lines:
    """A text and where its lines start."""

    def __init__(self, text: str, shown_as: str) -> None:
        self.text = text
        self._shown_as = shown_as
        self._starts = array("I", [0])
        self._starts.extend(match.end() for match in re.finditer(r"\r\n|\n|\r", text))
        self._sources: dict[int, str] = {}  # one string per line, however many places it has

    def number(self, index: int) -> int:
        """The line, from 0, of a character."""
        return bisect_right(self._starts, index) - 1

    def line(self, number: int) -> str:
        """A line, counted from 0, without its line break."""
        if number not in self._sources:
            end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self.text)
            self._sources[number] = self.text[self._starts[number] : end].rstrip("\r\n")
        return self._sources[number]

    def start(self, number: int) -> int:
        return self._starts[number]

    def place(self, index: int) -> Place:
        number = self.number(index)
        return Place(self._shown_as, number + 1, index - self._starts[number] + 1, self.line(number))


def file_bytes(path: Path, shown: str) -> bytes:
    place = Place(shown, 0, 0)  # the file itself
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(
                Problem("is a folder, not a YAML file", place, f"name a file in it: `{shown.rstrip('/')}/NAME.yaml`")
            )
        if not stat.S_ISREG(mode):
            raise UsageError(Problem("is not a regular file", place, "write it to a file first"))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(Problem("there is no such file", place, _missing_hint(path, shown))) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(Problem(f"cannot be read: {reason}", place, "check the path and its permissions")) from None
    if len(data) > MAX_BYTES:
        raise UsageError(Problem(f"is larger than {MAX_BYTES // 1_000_000} MB", place, "split it into several files"))
    return data


def _missing_hint(path: Path, shown: str) -> str:
    if any(mark in shown for mark in "*?["):
        return "the shell's pattern matched no file"
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(path.parent), 1000)]
    except OSError:
        return f"there is no folder `{path.parent}` either"
    meant = nearest(path.name, names, likeness=0.7)
    return f"did you mean `{path.with_name(meant)}`?" if meant else "check the path"


_BOMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def decoded(data: bytes, shown: str) -> str:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            raise UsageError(_wrong_encoding(encoding, shown))
    if data[:2] and data[:200].count(0) * 3 >= len(data[:200]):
        raise UsageError(_wrong_encoding("UTF-16", shown))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # With a BOM the error counts from after it, in a copy without it.
        good = error.object[: error.start].decode("utf-8")
        rest = error.object[error.start :].decode("latin-1")
        raise UsageError(
            Problem(
                f"the file is not UTF-8: byte 0x{error.object[error.start]:02X} at offset "
                f"{error.start + len(data) - len(error.object)}",
                Lines(good + rest, shown).place(len(good)),
                f"save it as UTF-8; if it is Latin-1: `iconv -f LATIN1 -t UTF-8 {shown}`",
            )
        ) from None


def _wrong_encoding(encoding: str, shown: str) -> Problem:
    return Problem(
        f"the file is {encoding}, and must be UTF-8",
        Place(shown, 1, 1),
        f"save it as UTF-8: `iconv -f {encoding} -t UTF-8 {shown}`",
    )


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
_CONTROL_NAMES = {
    "\x00": "a NUL byte",
    "\x1b": "an escape character",
    "\x08": "a backspace",
    "\x7f": "a delete character",
}


def refuse_control_characters(lines: Lines) -> None:
    found = itertools.islice(_CONTROL.finditer(lines.text), MAX_PROBLEMS)
    problems = [_control_character(match[0], lines.place(match.start())) for match in found]
    if problems:
        raise UsageError(*problems)


def _control_character(character: str, place: Place) -> Problem:
    name = _CONTROL_NAMES.get(character, "a control character")
    code = ord(character)
    escape = f"\\x{code:02X}" if code < 256 else f"\\u{code:04X}"
    return Problem(
        f"{name} (U+{code:04X}) is in the file",
        place,
        f"remove it; where it is meant, write `{escape}` inside double quotes",
    )
