"""JSONL and JSON: objects as rows. What JSON does not have, or what would lose a value, is refused.

A number keeps its value, a string is kept as it is, lone surrogates included.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from runner.datasets.files import DataError
from runner.source import kind
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

    from runner.datasets.files import DataSource, Report, Row
    from runner.errors import Problem

MAX_JSON: Final = 200_000_000  # bytes of a file that is one JSON text, which is held in memory

_SPACE = " \t\r\n"
_NO_SPACE = re.compile(r"[^ \t\r\n]|\Z")
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^\s",:\[\]{}]++')
_ROW_HINT = 'write one object per line, as in `{"name": "value"}`'


def read_lines(text: TextIO, source: DataSource, report: Report) -> Iterator[Row]:
    """The rows of an open JSONL file. Raises DataError for a file that is no JSONL from its first line on."""
    decoder = _Decoder()
    first = True
    for number, whole_line in enumerate(text, start=1):
        line = whole_line.rstrip(_SPACE)
        if not line:
            continue
        start = _skip_space(line, 0)
        if first:
            _refuse_other_json(line[start:], number, source)
        first = False
        value, end, faults = decoder.decode(line, start)
        if not faults and end < len(line):
            faults = [_Fault("more text follows the value on this line", _ROW_HINT, _skip_space(line, end))]
        if not faults and not isinstance(value, dict):
            faults = [_Fault(f"each line must be an object, and this is {kind(value)}", _ROW_HINT, start)]
        for fault in faults:
            report(source.problem(fault.message, fault.hint, line=number, column=fault.index + 1))
        if not faults:
            yield number, value


def read_array(text: TextIO, source: DataSource, report: Report) -> Iterator[Row]:
    """The rows of an open file that is one JSON list of objects. Raises DataError where it cannot be read further."""
    if source.file.stat().st_size > MAX_JSON:
        hint = "write one object per line and name it .jsonl: that is read without limit"
        raise DataError(source.problem(f"the file is larger than {MAX_JSON // 1_000_000} MB", hint))
    array = _Array(text.read(), source)
    for line, start, (value, _, wrong) in array.values():
        faults = wrong
        if not wrong and not isinstance(value, dict):
            faults = [_Fault(f"each row must be an object, and this is {kind(value)}", _LIST_HINT, start)]
        for fault in faults:
            report(array.problem(fault))
        if not faults:
            yield line, value


def _skip_space(text: str, index: int) -> int:
    match = _NO_SPACE.search(text, index)
    assert match is not None
    return match.start()


def _refuse_other_json(line: str, number: int, source: DataSource) -> None:
    """Judge the first line: a list or an object that goes over several lines would be wrong on every one."""
    message = None
    if line == "[" or (line.startswith("[") and re.match(r"\[\s*\{", line)):
        message = "the file is one JSON list, and not an object per line"
        hint = "name it .json"
    elif line == "{":
        message = "the object that starts here goes over several lines"
        hint = "write each object on one line: `jq -c . < FILE`"
    if message:
        raise DataError(source.problem(message, hint, line=number))


# --- a list ----------------------------------------------------------------------------------------------------------

_LIST_HINT = 'write a list of objects, as in `[{"name": "value"}]`'


class _Array:
    """The text of a JSON list, whose items are decoded one by one."""

    def __init__(self, text: str, source: DataSource) -> None:
        self._text = text
        self._source = source
        self._decoder = _Decoder()
        self._line = 1
        self._counted = 0  # characters of the text before which `_line` has the line ends

    def values(self) -> Iterator[tuple[int, int, tuple[Any, int, list[_Fault]]]]:
        """Of each item its line, its index and what was decoded."""
        at = self._open()
        while self._text[at : at + 1] != "]":
            decoded = self._decoder.decode(self._text, at)
            faults = decoded[2]
            if faults and faults[-1].is_end:
                raise DataError(self.problem(faults[-1]))
            yield self._line_of(at), at, decoded
            at = _skip_space(self._text, decoded[1])
            following = self._text[at : at + 1]
            if following == ",":
                at = _skip_space(self._text, at + 1)
                if self._text[at : at + 1] == "]":
                    raise DataError(self.problem(_Fault("a comma stands before the end of the list", "remove it", at)))
            elif following != "]":
                what = "a comma is missing before this" if following else "the list is not closed: the file ends here"
                raise DataError(self.problem(_Fault(what, "add what is missing; was the file cut?", at)))
        rest = _skip_space(self._text, at + 1)
        if rest < len(self._text):
            raise DataError(self.problem(_Fault("more text follows the end of the list", "remove it", rest)))

    def problem(self, fault: _Fault) -> Problem:
        line = self._text.count("\n", 0, fault.index) + 1
        column = fault.index - self._text.rfind("\n", 0, fault.index)
        return self._source.problem(fault.message, fault.hint, line=line, column=column)

    def _line_of(self, index: int) -> int:
        self._line += self._text.count("\n", self._counted, index)
        self._counted = index
        return self._line

    def _open(self) -> int:
        """Where the first item starts."""
        start = _skip_space(self._text, 0)
        if self._text.startswith("[", start):
            return _skip_space(self._text, start + 1)
        value, end, faults = self._decoder.decode(self._text, start)
        if start == len(self._text):
            raise DataError(self._source.problem("the file is empty"))
        if faults:
            raise DataError(self.problem(faults[0]))
        hint = _LIST_HINT
        if isinstance(value, dict):
            lists = [key for key, item in value.items() if isinstance(item, list)]
            if self._text.startswith("{", _skip_space(self._text, end)):
                hint = "objects one below the other are JSONL: name the file .jsonl"
            elif len(lists) == 1:
                hint = f"only the list in its `{shorten(lists[0])}` should be in the file: `jq .{shorten(lists[0])}`"
        what = "an object" if isinstance(value, dict) else kind(value)
        raise DataError(self.problem(_Fault(f"the file must be a list of objects, and this is {what}", hint, start)))


# --- one value -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fault:
    """What is wrong, and the index of the character where. `is_end`: nothing after it can be read."""

    message: str
    hint: str
    index: int
    is_end: bool = False


class _Decoder:
    """The json module's decoder, which says nothing of duplicate keys and takes NaN, as one that tells of both."""

    def __init__(self) -> None:
        self._tokens: list[tuple[str, str]] = []  # what is wrong in the value: its kind, and the text to look for
        self._raw_decode = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant, parse_float=self._float
        ).raw_decode

    def decode(self, text: str, start: int) -> tuple[Any, int, list[_Fault]]:
        """The value that starts at a character, where it ends, and what is wrong with it."""
        self._tokens.clear()
        try:
            value, end = self._raw_decode(text, start)
        except json.JSONDecodeError as error:
            return None, len(text), [_not_json(error, text)]
        except RecursionError:
            return (
                None,
                len(text),
                [_Fault("lists or objects are nested too deeply", "flatten them", start, is_end=True)],
            )
        except ValueError:  # of Python, which takes no integers of more than 4300 digits
            hint = "quote it, if it is meant as text"
            return None, len(text), [_Fault("a number of more than 4,300 digits", hint, start, is_end=True)]
        faults = [_fault(kind, token, text, (start, end)) for kind, token in self._tokens] if self._tokens else []
        return value, end, faults

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._tokens.append(("duplicate", key))
                seen.add(key)
        return found

    def _constant(self, token: str) -> None:
        self._tokens.append(("constant", token))

    def _float(self, token: str) -> float:
        number = float(token)
        if not isfinite(number):
            self._tokens.append(("number", token))
        return number


def _not_json(error: json.JSONDecodeError, text: str) -> _Fault:
    message = error.msg[:1].lower() + error.msg[1:]
    hint = "JSON wants double quotes, no comma after the last item, and `true`, `false`, `null`"
    if error.pos >= len(text.rstrip(_SPACE)) or error.msg.startswith("Unterminated string"):
        hint = "the value is not complete: is a quote or bracket not closed, or a line end inside a string?"
    return _Fault(f"this is no JSON: {message}", hint, error.pos, is_end=True)


def _fault(fault: str, token: str, text: str, span: tuple[int, int]) -> _Fault:
    """What is wrong with a token that was decoded all the same, found again in the value's text."""
    is_key = fault == "duplicate"
    indexes = [
        match.start()
        for match in _TOKEN.finditer(text, *span)
        if (json.loads(match[0], strict=False) == token if is_key and match[0][0] == '"' else match[0] == token)
        and (not is_key or text.startswith(":", _skip_space(text, match.end())))
    ]
    index = (indexes[1:] or indexes or [span[0]])[0] if is_key else (indexes or [span[0]])[0]
    if is_key:
        return _Fault(f"the key `{shorten(token)}` is twice in this object", "remove or rename one of the two", index)
    if fault == "constant":
        return _Fault(f"{token} is no JSON", "write `null`, or quote it", index)
    return _Fault(f"the number {shorten(token)} is too large to be held", "quote it, if it is meant as text", index)
