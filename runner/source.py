"""YAML file -> plain data, and the place of every node.

Scalars mean what they mean in YAML 1.2, with one exception: an integer with a leading zero stays the string that was
typed. PyYAML is used for its parser alone; data is built here from its events, because its own composer recurses, keeps
no places of keys, lets duplicate keys pass and expands aliases without a limit.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from array import array
from dataclasses import dataclass, field
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from runner.errors import Place, Problem, UsageError
from runner.words import nearest, shorten
from runner.yaml_faults import Fault, Lines, explain, quote_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MAX_BYTES: Final = 10_000_000
MAX_NODES: Final = 500_000  # with every alias expanded: what the steps after this one walk through
MAX_DEPTH: Final = 100
MAX_PROBLEMS: Final = 100  # of one file; nobody reads more
_MAX_GUESSES: Final = 500  # anchors that are compared with an alias that has none
_MAX_NAME: Final = 100  # characters of an anchor that is; the time grows with their square
_MAX_DIGITS: Final = 1000  # Python refuses to print integers of more than 4300 digits

# libyaml's parser where PyYAML was built with it (ten times faster), else the same parser in Python.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# --- the document ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """A YAML file as dicts with string keys, lists, strings, numbers, booleans and None.

    `problems` are those that left the rest of the file readable (a duplicate key, say): with any of them the data is
    good for finding further problems, and for nothing else. Nodes that aliases share are shared here too: treat `data`
    as immutable. A number that was written in another way than Python writes it (`1.10`, `0x1F`) gives its own spelling
    as `str()`.
    """

    path: Path
    data: dict[str, Any]
    problems: tuple[Problem, ...]
    _start: int
    _spots: dict[int, dict[str, tuple[int, int]] | array[int]]  # id of a dict or list -> where its children start
    _lines: Lines

    def place(self, pointer: Sequence[str | int], *, key: bool = False) -> Place:
        """Where a value starts, or with `key` its key. For a pointer to what is not there: its nearest ancestor."""
        node: Any = self.data
        index = self._start
        for depth, step in enumerate(pointer, start=1):
            spots = self._spots.get(id(node))
            if isinstance(spots, dict) and step in spots:
                index = spots[str(step)][0 if key and depth == len(pointer) else 1]
            elif isinstance(spots, array) and isinstance(step, int) and 0 <= step < len(spots):
                index = spots[step]
            else:
                break
            node = node[step]
        return self._lines.place(index)


@dataclass(frozen=True, slots=True, eq=False)
class ListDocument:
    """A YAML file whose top is a list; otherwise as `Document`."""

    items: list[Any]
    problems: tuple[Problem, ...]
    _spots: array[int]
    _lines: Lines

    def place(self, index: int) -> Place:
        """Where an item starts."""
        return self._lines.place(self._spots[index])


def read(path: Path, *, shown_as: str | None = None) -> Document:
    """The document of a YAML file whose top is a mapping.

    `shown_as` is what places call the file, by default the path as given. Raises UsageError, with every problem found,
    for what cannot be read at all; see `Document.problems` for the rest.
    """
    return _document(path, _lines_of(path, shown_as or str(path)))


def read_text(text: str, path: Path, *, shown_as: str) -> Document:
    """The document of a text that stands for a file at `path`; otherwise as `read`."""
    lines = Lines(text, shown_as)
    _refuse_control_characters(lines)
    return _document(path, lines)


def _document(path: Path, lines: Lines) -> Document:
    composer = _Composer(lines)
    data = composer.compose()
    if not isinstance(data, dict):
        raise UsageError(*composer.problems, _not_a_mapping(data, lines, composer.start))
    return Document(path, data, tuple(composer.problems), composer.start, composer.spots, lines)


def read_list(path: Path, *, shown_as: str | None = None) -> ListDocument:
    """The document of a YAML file whose top is a list. Raises as `read` does."""
    lines = _lines_of(path, shown_as or str(path))
    composer = _Composer(lines)
    items = composer.compose()
    if not isinstance(items, list):
        found = "empty" if items is None else "a mapping" if isinstance(items, dict) else "a single value"
        message = f"the file must be a list of mappings, but it is {found}"
        raise UsageError(
            *composer.problems, Problem(message, lines.place(composer.start), "write items, as in `- name: value`")
        )
    spots = composer.spots[id(items)]
    assert isinstance(spots, array)
    return ListDocument(items, tuple(composer.problems), spots, lines)


def _lines_of(path: Path, shown: str) -> Lines:
    lines = Lines(_decoded(_file_bytes(path, shown), shown), shown)
    _refuse_control_characters(lines)
    return lines


def read_value(text: str, *, shown_as: str) -> Any:
    """The value of a YAML text from the command line; an empty text is the empty string.

    Raises UsageError whose places call the text `shown_as`.
    """
    if not text.strip():
        return text
    lines = Lines(text, shown_as)
    _refuse_control_characters(lines)
    composer = _Composer(lines)
    value = composer.compose()
    if composer.problems:
        raise UsageError(*composer.problems)
    if not holds_finite(value):
        hint = "quote it, if it is meant as text"
        raise UsageError(Problem("this is no number that JSON can hold", lines.place(0), hint))
    return value


def holds_finite(value: Any) -> bool:
    """Whether all numbers in a value are ones that JSON has: neither infinite nor NaN."""
    if isinstance(value, dict | list):
        return all(map(holds_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or isfinite(value)


def _not_a_mapping(data: Any, lines: Lines, start: int) -> Problem:
    hint = "write keys and values, as in `model: ...`"
    if data is None:
        return Problem("the file is empty", lines.place(0), hint)
    found = "a list" if isinstance(data, list) else "a single value"
    return Problem(f"the file must be a mapping of keys to values, but it is {found}", lines.place(start), hint)


# --- the file --------------------------------------------------------------------------------------------------------


def _file_bytes(path: Path, shown: str) -> bytes:
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


def _decoded(data: bytes, shown: str) -> str:
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


def _refuse_control_characters(lines: Lines) -> None:
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


# --- events -> data --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is being filled."""

    node: dict[str, Any] | list[Any]
    start: int
    anchor: str | None
    counted: int  # nodes before this one
    is_key: bool
    sequence_spots: array[int] = field(default_factory=lambda: array("I"))
    mapping_spots: dict[str, tuple[int, int]] = field(default_factory=dict)
    key: Any = None
    key_start: int = -1  # -1: a key comes next
    merges: list[dict[str, Any]] = field(default_factory=list)
    unquoted_template: bool = False

    @property
    def awaits_key(self) -> bool:
        return isinstance(self.node, dict) and self.key_start < 0


class _Marker:
    """A value that is none of the file's."""


_DROP: Final = _Marker()  # as a key: its value is not kept
_MERGE: Final = _Marker()  # as a key: `<<`
_OPEN: Final = _Marker()  # as an anchor's value: not complete yet

_TAG = "tag:yaml.org,2002:"
_COLLECTION_TAGS = {None, "!", _TAG + "map", _TAG + "seq"}


class _Composer:
    """Builds the data from the parser's events without recursion, and notes where everything starts."""

    def __init__(self, lines: Lines) -> None:
        self.problems: list[Problem] = []
        self.spots: dict[int, dict[str, tuple[int, int]] | array[int]] = {}
        self.start = 0
        self._lines = lines
        self._stack: list[_Frame] = []
        self._root: Any = None
        self._anchors: dict[str, tuple[Any, int]] = {}  # name -> value, nodes in it
        self._count = 0
        self._documents = 0
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            yaml.DocumentStartEvent: self._document,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
        }

    def compose(self) -> Any:
        """The data of the text's one document. Raises UsageError where the rest cannot be read."""
        try:
            for event in yaml.parse(self._lines.text, Loader=_Parser):
                handle = self._handlers.get(type(event))
                if handle is not None:
                    handle(event)
                if self._documents > 1:
                    break
        except yaml.YAMLError as error:
            last = explain(_fault(error, self._lines))
            earlier = [problem for problem in self.problems if problem.place != last.place]
            raise UsageError(*earlier, last) from None
        return self._root

    def _report(self, message: str, index: int, hint: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(message, self._lines.place(index), hint))

    def _stop(self, message: str, index: int, hint: str) -> UsageError:
        return UsageError(*self.problems, Problem(message, self._lines.place(index), hint))

    def _grow(self, nodes: int, index: int) -> None:
        self._count += nodes
        if self._count > MAX_NODES:
            raise self._stop(
                f"the file stands for more than {MAX_NODES:,} values once its aliases are expanded",
                index,
                "use fewer aliases (`*name`) and merges (`<<`), or split the job into several files",
            )

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._report(
                "a second document starts here, and a file holds one",
                event.start_mark.index,
                "remove the `---`, or split the file; several prompts of one job go under `cases:`",
            )

    # Lists and mappings

    def _open(self, event: Any) -> None:
        start = event.start_mark.index
        self._grow(1, start)
        if len(self._stack) >= MAX_DEPTH:
            raise self._stop(
                f"more than {MAX_DEPTH} levels are nested", start, "check for brackets that are not closed"
            )
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in _COLLECTION_TAGS:
            self._unknown_tag(event.tag, start)
        is_key = bool(self._stack) and self._stack[-1].awaits_key
        if is_key and mapping and event.flow_style and self._lines.text[start - 1] == "{":
            self._stack[-1].unquoted_template = True
        self._stack.append(_Frame({} if mapping else [], start, event.anchor, self._count - 1, is_key))
        if event.anchor is not None:
            self._anchors[event.anchor] = (_OPEN, 0)

    def _close(self, event: Any) -> None:
        frame = self._stack.pop()
        value: Any = frame.node
        if frame.unquoted_template:
            value = self._unquoted_template(frame.start, event.end_mark.index)
        elif isinstance(value, dict):
            self._merge(frame, value)
            self.spots[id(value)] = frame.mapping_spots
        else:
            self.spots[id(value)] = frame.sequence_spots
        if frame.anchor is not None:
            self._anchors[frame.anchor] = (value, self._count - frame.counted)
        if frame.is_key:
            self._complex_key(frame.start)
        else:
            self._add(value, frame.start)

    def _merge(self, frame: _Frame, node: dict[str, Any]) -> None:
        for source in frame.merges:  # counted where they stand: as aliases, or as mappings
            spots = self.spots[id(source)]
            assert isinstance(spots, dict)
            for key, value in source.items():
                if key not in node:
                    node[key] = value
                    frame.mapping_spots[key] = spots[key]

    def _add(self, value: Any, start: int) -> None:
        if not self._stack:
            self._root, self.start = value, start
            return
        frame = self._stack[-1]
        if isinstance(frame.node, list):
            frame.node.append(value)
            frame.sequence_spots.append(start)
        elif frame.key_start < 0:
            self._take_key(frame, value, start)
        else:
            self._take_value(frame, frame.node, value, start)

    def _take_value(self, frame: _Frame, node: dict[str, Any], value: Any, start: int) -> None:
        if frame.key is _MERGE:
            self._take_merge(frame, value, start)
        elif frame.key is not _DROP:
            node[frame.key] = value
            frame.mapping_spots[frame.key] = (frame.key_start, start)
        frame.key_start = -1

    def _take_merge(self, frame: _Frame, value: Any, start: int) -> None:
        sources = value if isinstance(value, list) else [value]
        if all(isinstance(source, dict) for source in sources):
            frame.merges.extend(sources)
        elif value is not _DROP:
            self._report(
                "`<<` merges mappings, and this is none", start, "give it an alias of a mapping, as in `<<: *defaults`"
            )

    # Keys

    def _take_key(self, frame: _Frame, key: Any, start: int) -> None:
        frame.key, frame.key_start = key, start
        if isinstance(key, str):
            if key in frame.mapping_spots:
                first = self._lines.number(frame.mapping_spots[key][0]) + 1
                self._report(
                    f"duplicate key `{shorten(key)}`: line {first} has it already",
                    start,
                    "remove or rename one of the two",
                )
                frame.key = _DROP
        elif key is None:
            self._report("the key before the colon is missing", start, "write a name before the `:`")
            frame.key = _DROP
        elif not isinstance(key, _Marker):
            spelled = _spelled(key)
            self._report(
                f"the key `{spelled}` is {kind(key)}, and keys are strings", start, f'quote it: `"{spelled}":`'
            )
            frame.key = _DROP

    def _complex_key(self, start: int) -> None:
        frame = self._stack[-1]
        frame.key, frame.key_start = _DROP, start
        if not frame.unquoted_template:
            self._report("a list or mapping cannot be a key", start, "write a plain name before the colon")

    def _unquoted_template(self, start: int, end: int) -> str:
        written = self._lines.text[start:end]
        self._report(
            "a text that starts with `{{` is a mapping to YAML unless it is quoted",
            start,
            quote_hint(written),
        )
        return written

    # Scalars and aliases

    def _scalar(self, event: Any) -> None:
        start = event.start_mark.index
        self._grow(1, start)
        value = self._scalar_value(event, start)
        if event.anchor is not None:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, start)

    def _scalar_value(self, event: Any, start: int) -> Any:
        text: str = event.value
        plain = event.implicit[0]
        if plain and text == "<<" and self._stack and self._stack[-1].awaits_key:
            return _MERGE
        if event.tag in (None, "!"):
            return self._resolved(text, start) if plain else text
        wanted = _SCALAR_TAGS.get(event.tag)
        if wanted is None:
            self._unknown_tag(event.tag, start)
            return text
        if wanted is str:
            return text
        value = self._resolved(text, start)
        if type(value) not in (wanted, _WRITTEN_TYPES.get(wanted)):
            self._report(f"`{shorten(text)}` is not what its tag says", start, "remove the tag")
        return value

    def _resolved(self, text: str, start: int) -> Any:
        if len(text) > _MAX_DIGITS and _INTEGER.fullmatch(text):
            self._report(f"a number of {len(text):,} digits", start, "quote it, if it is meant as text")
            return 0
        return _resolve(text)

    def _unknown_tag(self, tag: str, start: int) -> None:
        shown = "!!" + tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
        self._report(
            f"the tag `{shorten(shown)}` is not supported",
            start,
            "remove it; a text that starts with `!` must be quoted",
        )

    def _alias(self, event: Any) -> None:
        start = event.start_mark.index
        value, nodes = self._anchors.get(event.anchor, (_DROP, 0))
        if value is _DROP and len(self.problems) < MAX_PROBLEMS:
            name = shorten(event.anchor)
            anchors = (anchor for anchor in itertools.islice(self._anchors, _MAX_GUESSES) if len(anchor) <= _MAX_NAME)
            meant = nearest(event.anchor[:_MAX_NAME], anchors)
            hint = f"did you mean `*{meant}`?" if meant else "a text that starts with `*` must be quoted"
            self._report(f"the alias `*{name}` has no anchor `&{name}` before it", start, hint)
        elif value is _OPEN:
            self._report(
                f"the alias `*{shorten(event.anchor)}` stands inside what it stands for",
                start,
                "name another anchor, or write it out",
            )
            value = _DROP
        self._grow(max(nodes, 1), start)
        if value is _DROP and not (self._stack and self._stack[-1].awaits_key):
            value = None
        self._add(value, start)


# --- scalars ---------------------------------------------------------------------------------------------------------


class _Integer(int):
    """An integer that was written in another way than Python writes it, such as `0x1F` or `+1`."""

    written: str

    def __str__(self) -> str:
        return self.written


class _Float(float):
    """A number that was written in another way than Python writes it, such as `2.50` or `1e3`."""

    written: str

    def __str__(self) -> str:
        return self.written


_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_WORDS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_NUMBER_START = frozenset("+-.0123456789")

_SCALAR_TAGS: dict[str, type] = {
    _TAG + "str": str,
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "bool": bool,
    _TAG + "null": type(None),
}
_WRITTEN_TYPES: dict[type, type] = {int: _Integer, float: _Float}


def _resolve(text: str) -> str | int | float | bool | None:
    """What a plain scalar means by YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    if _INTEGER.fullmatch(text):
        integer = int(text, 0)
        return integer if str(integer) == text else _as_written(_Integer(integer), text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if str(number) == text else _as_written(_Float(number), text)
    if _INFINITE.fullmatch(text):
        return _as_written(_Float(text.replace(".", "")), text)
    return text


_N = TypeVar("_N", _Integer, _Float)


def _as_written(number: _N, text: str) -> _N:
    number.written = text
    return number


def _spelled(value: object) -> str:
    """A scalar as YAML spells it."""
    return {True: "true", False: "false"}.get(value, "") if isinstance(value, bool) else str(value)


def kind(value: object) -> str:
    """What a value is, in words: `a string`, `the number 3`."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the boolean {_spelled(value)}"
        case int() | float():
            return f"the number {shorten(str(value))}"
        case str():
            return f'the string "{shorten(value)}"'
        case list():
            return "a list"
        case _:
            return "a mapping"


# --- where the parser stopped ----------------------------------------------------------------------------------------


def _fault(error: yaml.YAMLError, lines: Lines) -> Fault:
    mark = getattr(error, "problem_mark", None)
    index = min(mark.index, len(lines.text)) if mark is not None else 0
    if index == len(lines.text) and index and lines.text[index - 1] in "\r\n":
        index -= 1  # the end of the text: show its last line, not the empty one after it
    around = getattr(error, "context_mark", None)
    context = min(around.index, len(lines.text)) if around is not None else index
    return Fault(lines, index, context, getattr(error, "context", "") or "", getattr(error, "problem", "") or "")
