"""YAML file -> plain data, and the place of every node.

Scalars mean what they mean in YAML 1.2, with one exception: an integer with a leading zero stays the string that was
typed. PyYAML is used for its parser alone; data is built here from its events, because its own composer recurses, keeps
no places of keys, lets duplicate keys pass and expands aliases without a limit.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import stat
from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import yaml

from runner.errors import Place, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

MAX_BYTES: Final = 10_000_000
MAX_NODES: Final = 500_000  # with every alias expanded: what the steps after this one walk through
MAX_DEPTH: Final = 100
MAX_PROBLEMS: Final = 100  # of one file; nobody reads more
_MAX_DIGITS: Final = 1000  # Python refuses to print integers of more than 4300 digits

# libyaml's parser where PyYAML was built with it (ten times faster), else the same parser in Python.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# --- the document ----------------------------------------------------------------------------------------------------


class _Lines:
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
    _lines: _Lines

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


def read(path: Path, *, shown_as: str | None = None) -> Document:
    """The document of a YAML file whose top is a mapping.

    `shown_as` is what places call the file, by default the path as given. Raises UsageError, with every problem found,
    for what cannot be read at all; see `Document.problems` for the rest.
    """
    shown = shown_as or str(path)
    lines = _Lines(_decoded(_file_bytes(path, shown), shown), shown)
    _refuse_control_characters(lines)
    composer = _Composer(lines)
    data = composer.compose()
    if not isinstance(data, dict):
        raise UsageError(*composer.problems, _not_a_mapping(data, lines, composer.start))
    return Document(path, data, tuple(composer.problems), composer.start, composer.spots, lines)


def read_value(text: str, *, shown_as: str) -> Any:
    """The value of a YAML text from the command line; an empty text is the empty string.

    Raises UsageError whose places call the text `shown_as`.
    """
    if not text.strip():
        return text
    lines = _Lines(text, shown_as)
    _refuse_control_characters(lines)
    composer = _Composer(lines)
    value = composer.compose()
    if composer.problems:
        raise UsageError(*composer.problems)
    return value


def _not_a_mapping(data: Any, lines: _Lines, start: int) -> Problem:
    hint = "write keys and values, as in `model: ...`; `bedrock-run init` writes a first job file"
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
                Problem(
                    "is a folder, not a job file", place, f"name the files in it, as in `{shown.rstrip('/')}/*.yaml`"
                )
            )
        if not stat.S_ISREG(mode):
            raise UsageError(Problem("is not a regular file", place, "write the job to a file first"))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(Problem("there is no such file", place, _missing_hint(path, shown))) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(Problem(f"cannot be read: {reason}", place, "check the path and its permissions")) from None
    if len(data) > MAX_BYTES:
        raise UsageError(
            Problem(f"is larger than {MAX_BYTES // 1_000_000} MB", place, "split the job into several files")
        )
    return data


def _missing_hint(path: Path, shown: str) -> str:
    if any(mark in shown for mark in "*?["):
        return "the shell's pattern matched no file"
    try:
        names = [entry.name for entry in itertools.islice(os.scandir(path.parent), 1000)]
    except OSError:
        return f"there is no folder `{path.parent}` either"
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"did you mean `{path.with_name(close[0])}`?" if close else "check the path"


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
                _Lines(good + rest, shown).place(len(good)),
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


def _refuse_control_characters(lines: _Lines) -> None:
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

    def __init__(self, lines: _Lines) -> None:
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
            last = _syntax_problem(error, self._lines)
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
                "a second document starts here, and a job file holds one",
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
            f"quote it: {_quoted(written)}",
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
            close = difflib.get_close_matches(event.anchor, self._anchors, n=1)
            hint = f"did you mean `*{close[0]}`?" if close else "a text that starts with `*` must be quoted"
            self._report(f"the alias `*{event.anchor}` has no anchor `&{event.anchor}` before it", start, hint)
        elif value is _OPEN:
            self._report(
                f"the alias `*{event.anchor}` stands inside what it stands for",
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


def shorten(text: str, limit: int = 40) -> str:
    """The text on one line, and cut when it is long."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def _quoted(text: str) -> str:
    """A text as a YAML string on one line, in the quotes that need the fewest escapes."""
    if '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


# --- syntax errors in plain words ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fault:
    """Where the parser stopped: `index` is the character, `context` the start of the construct around it."""

    lines: _Lines
    index: int
    context: int
    doing: str
    found: str

    @property
    def line(self) -> str:
        return self.lines.line(self.lines.number(self.index))

    @property
    def line_start(self) -> int:
        return self.lines.start(self.lines.number(self.index))

    @property
    def before(self) -> str:
        """What stands before the fault on its line."""
        return self.lines.text[self.line_start : self.index]

    @property
    def character(self) -> str:
        return self.lines.text[self.index : self.index + 1]

    def problem(self, message: str, hint: str, index: int | None = None) -> Problem:
        return Problem(message, self.lines.place(self.index if index is None else index), hint)


def _syntax_problem(error: yaml.YAMLError, lines: _Lines) -> Problem:
    mark = getattr(error, "problem_mark", None)
    index = min(mark.index, len(lines.text)) if mark is not None else 0
    while index == len(lines.text) and index and lines.text[index - 1] in "\r\n":
        index -= 1  # the end of the text: show its last line, not the empty one after it
    around = getattr(error, "context_mark", None)
    context = min(around.index, len(lines.text)) if around is not None else index
    fault = _Fault(lines, index, context, getattr(error, "context", "") or "", getattr(error, "problem", "") or "")
    for explain in _EXPLANATIONS:
        problem = explain(fault)
        if problem is not None:
            return problem
    return fault.problem(
        "YAML cannot read the file from here on",
        "check quotes, brackets and indentation; a text with special characters goes in quotes or below a `|`",
    )


def _explain_conflict(fault: _Fault) -> Problem | None:
    for number in {fault.lines.number(fault.context), fault.lines.number(fault.index)}:
        if re.match(r"<{4,} |={7}$|>{4,} |\|{7}", fault.lines.line(number)):
            return fault.problem(
                "a merge conflict is left in the file",
                "keep one side and remove the markers",
                fault.lines.start(number),
            )
    return None


def _explain_tab(fault: _Fault) -> Problem | None:
    indent = re.match(r"[ ]*\t", fault.line)
    if indent is None:
        return None
    return fault.problem(
        "a tab indents this line, and YAML allows only spaces",
        "replace it by spaces",
        fault.line_start + indent.end() - 1,
    )


# A value that starts with a tag of Jinja, up to where a block value ends: a comment or the end of the line.
_TEMPLATE_VALUE = re.compile(r"(?:^|(?<=[:,\[{-]))\s*(?P<value>\{[{%].*?)(?=\s+#|\s*$)")
_TEMPLATE_ITEM = re.compile(r"(?:\{[{%].*?[%}]\}|[^,\]}])*")


def _explain_template(fault: _Fault) -> Problem | None:
    for number in dict.fromkeys((fault.lines.number(fault.index), fault.lines.number(fault.context))):
        line = fault.lines.line(number)
        match = _TEMPLATE_VALUE.search(line)
        if match is None:
            continue
        value = match["value"]
        if re.search(r"[\[{]\s", line[: match.start("value")]) or "[" in line[: match.start("value")]:
            value = (_TEMPLATE_ITEM.match(value) or match)[0].rstrip()
        return fault.problem(
            f"a text that starts with `{value[:2]}` must be quoted",
            f"quote it: {_quoted(value)}",
            fault.lines.start(number) + match.start("value"),
        )
    return None


def _explain_colon(fault: _Fault) -> Problem | None:
    if not fault.found.startswith("mapping values are not allowed"):
        return None
    inside = re.match(r"\s*(?:- )*([^\s:][^:]*): +(?P<value>\S.*)$", fault.line)
    if inside is not None and fault.before.count(": ") + fault.before.count(":\t") >= 1:
        return fault.problem(
            "a colon and a space inside an unquoted text",
            f"quote it: {_quoted(inside['value'].rstrip())}, or put it below a `|`",
        )
    above = _explain_unfinished_key(fault, fault.lines.number(fault.context) - 1)
    if above is not None:
        return above
    indent = len(fault.line) - len(fault.line.lstrip())
    return fault.problem(
        "this line is indented further than the value above it allows",
        "give keys of one mapping the same indentation",
        fault.line_start + indent,
    )


def _explain_unfinished_key(fault: _Fault, number: int) -> Problem | None:
    """A line that was to be a key and its value, and lacks the colon or the space after it."""
    if number < 0:
        return None
    line = fault.lines.line(number)
    match = re.match(r"\s*(?:- )*([A-Za-z_]\w*)(:\S.*|\s.*)?$", line)
    if match is None:
        return None
    name, rest = match[1], shorten((match[2] or "").lstrip(":"))
    missing = "a space is missing after the colon" if (match[2] or "").startswith(":") else "a colon is missing"
    return fault.problem(missing, f"write `{name}: {rest.strip()}`", fault.lines.start(number) + match.end(1))


def _explain_character(fault: _Fault) -> Problem | None:
    if not re.match(r"found character .*cannot start any token", fault.found):
        return None
    value = fault.lines.text[fault.index :].splitlines()[0].rstrip()
    return fault.problem(
        f"an unquoted text cannot start with the character {fault.character}", f"quote it: {_quoted(shorten(value))}"
    )


def _explain_open_quote(fault: _Fault) -> Problem | None:
    if "quoted scalar" not in fault.doing or "escape" in fault.found:
        return None
    quote = fault.lines.text[fault.context]
    return fault.problem(
        f"the quote {quote} that opens here is never closed",
        f"close it with another {quote}; an apostrophe inside single quotes is written twice",
        fault.context,
    )


def _explain_escape(fault: _Fault) -> Problem | None:
    if "escape" not in fault.found and "hexadecimal" not in fault.found:
        return None
    backslash = fault.lines.text.rfind("\\", fault.line_start, fault.index + 1)
    start = max(backslash, fault.line_start)
    escape = fault.lines.text[start : start + 2]
    return fault.problem(
        f"`{escape}` is no escape that YAML knows in double quotes",
        f"use single quotes, or write `\\{escape}`",
        start,
    )


def _explain_bracket(fault: _Fault) -> Problem | None:
    if fault.doing not in ("while parsing a flow sequence", "while parsing a flow mapping"):
        return None
    opening, closing = ("[", "]") if "sequence" in fault.doing else ("{", "}")
    return fault.problem(
        f"the `{opening}` that opens here is not closed, or a comma is missing in it",
        f"add the `{closing}` or the comma; a text with brackets or commas must be quoted",
        fault.context,
    )


def _explain_alias(fault: _Fault) -> Problem | None:
    if fault.doing not in ("while scanning an alias", "while scanning an anchor"):
        return None
    value = fault.lines.text[fault.context :].splitlines()[0].rstrip()
    return fault.problem(
        f"a text that starts with `{value[:1]}` must be quoted", f"quote it: {_quoted(shorten(value))}", fault.context
    )


def _explain_tag(fault: _Fault) -> Problem | None:
    if "tag" not in fault.doing and "tag handle" not in fault.found:
        return None
    return fault.problem(
        "a text that starts with `!` must be quoted", "quote it; tags are not supported in job files", fault.context
    )


def _explain_block_text(fault: _Fault) -> Problem | None:
    if "block scalar" not in fault.doing:
        return None
    return fault.problem(
        f"text follows the `{fault.lines.text[fault.context]}`, which starts a block of text",
        "put the text on the lines below, indented; or quote it",
        fault.context,
    )


def _explain_list_item(fault: _Fault) -> Problem | None:
    if "sequence entries are not allowed" not in fault.found:
        return None
    return fault.problem("a list cannot start on the line of its key", "put the `-` on the next line, indented")


def _explain_missing_colon(fault: _Fault) -> Problem | None:
    if not fault.found.startswith("could not find expected ':'"):
        return None
    number = fault.lines.number(fault.context)
    above = fault.lines.line(number - 1) if number else ""
    in_block = re.search(r"[|>][0-9+-]*\s*$|^\s", above) is not None
    unfinished = None if in_block else _explain_unfinished_key(fault, number)
    return unfinished or fault.problem(
        "a colon is missing: this line is neither a key nor part of the text above",
        "write `key: value`; the lines of a text below a `|` must all be indented",
        fault.context,
    )


def _explain_after_quote(fault: _Fault) -> Problem | None:
    if fault.doing == "while parsing a block mapping" and re.search(r"[\"']\s*$", fault.before):
        return fault.problem(
            "more text follows the closing quote",
            "quote the whole text; inside single quotes an apostrophe is written twice, as in 'it''s'",
        )
    return None


def _explain_stray(fault: _Fault) -> Problem | None:
    if fault.character in ("]", "}", ",") and fault.character:
        return fault.problem(
            f"the `{fault.character}` has no business here", "remove it, or quote the text that it belongs to"
        )
    return None


def _explain_indentation(fault: _Fault) -> Problem | None:
    if not fault.doing.startswith("while parsing a block") or fault.before.strip():
        return None
    if fault.character == ":":
        return fault.problem("the key before the colon is missing", "write a name before the `:`")
    if fault.character == "-":
        return fault.problem(
            "a list item stands where a key is expected", "indent it below the key that the list belongs to"
        )
    if "collection" in fault.doing:
        return fault.problem(
            "a key stands where a list item is expected",
            "start it with `- `, or move it to the indentation of its mapping",
        )
    return fault.problem(
        "the indentation of this line matches none of the lines above",
        "give keys of one mapping the same indentation",
    )


_EXPLANATIONS: Final[tuple[Callable[[_Fault], Problem | None], ...]] = (
    _explain_conflict,
    _explain_tab,
    _explain_template,
    _explain_colon,
    _explain_character,
    _explain_escape,
    _explain_open_quote,
    _explain_bracket,
    _explain_alias,
    _explain_tag,
    _explain_block_text,
    _explain_list_item,
    _explain_missing_colon,
    _explain_after_quote,
    _explain_stray,
    _explain_indentation,
)
