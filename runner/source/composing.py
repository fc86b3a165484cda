"""The events of YAML's parser -> data, built without recursion, with the place where everything starts."""

from __future__ import annotations

import itertools
import re
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from runner.errors import Problem, UsageError
from runner.source.faults import Fault, explain, quote_hint
from runner.source.scalars import INTEGER, SCALAR_TAGS, TAG, WRITTEN_TYPES, as_yaml, kind, resolve
from runner.source.text import MAX_PROBLEMS, Lines
from runner.words import nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NODES: Final = 500_000  # with every alias expanded: what the steps after this one walk through
MAX_DEPTH: Final = 100
_MAX_GUESSES: Final = 500  # anchors that are compared with an alias that has none
_MAX_NAME: Final = 100  # characters of an anchor that is; the time grows with their square
_MAX_DIGITS: Final = 1000  # Python refuses to print integers of more than 4300 digits

# libyaml's parser where PyYAML was built with it (ten times faster), else the same parser in Python.
_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# JSON escapes characters beyond U+FFFF, such as an emoji, as two halves. libyaml refuses them; PyYAML's own parser
# gives the halves.
_HALF: Final = r"\\(?:u|U0000)[dD][89abAB][0-9a-fA-F]{2}", r"\\(?:u|U0000)[dD][c-fC-F][0-9a-fA-F]{2}"
_HALVES: Final = re.compile("|".join(_HALF))
_LONE_HALF: Final = re.compile(f"(?s:{''.join(_HALF)}|(?P<half>{'|'.join(_HALF)})|\\\\.)")
_BEYOND: Final = re.compile(r"\\U(?!000|0010)[0-9a-fA-F]{8}")  # stands for no character


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

_COLLECTION_TAGS = {None, "!", TAG + "map", TAG + "seq"}


class Composer:
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
        event: Any
        reached = 0
        try:
            parser = yaml.SafeLoader if _HALVES.search(self._lines.text) else _Parser
            for event in yaml.parse(self._lines.text, Loader=parser):
                reached = event.start_mark.index
                handle = self._handlers.get(type(event))
                if handle is not None:
                    handle(event)
                if self._documents > 1:
                    break
        except yaml.YAMLError as error:
            last = explain(_fault(error, self._lines))
            earlier = [problem for problem in self.problems if problem.place != last.place]
            raise UsageError(*earlier, last) from None
        except (ValueError, OverflowError):  # what PyYAML's own parser raises at such an escape
            beyond = _BEYOND.search(self._lines.text, reached)
            if beyond is None:
                raise
            fault = Fault(self._lines, beyond.start(), beyond.start(), "", "escape")
            raise UsageError(*self.problems, explain(fault)) from None
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
            spelled = as_yaml(key)
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
        text = self._whole(event.value, start, event.end_mark.index)
        plain = event.implicit[0]
        if plain and text == "<<" and self._stack and self._stack[-1].awaits_key:
            return _MERGE
        if event.tag in (None, "!"):
            return self._resolved(text, start) if plain else text
        wanted = SCALAR_TAGS.get(event.tag)
        if wanted is None:
            self._unknown_tag(event.tag, start)
            return text
        if wanted is str:
            return text
        value = self._resolved(text, start)
        if type(value) not in (wanted, WRITTEN_TYPES.get(wanted)):
            self._report(f"`{shorten(text)}` is not what its tag says", start, "remove the tag")
        return value

    def _whole(self, text: str, start: int, end: int) -> str:
        """The text of a scalar between two places, with the characters that were escaped as two halves."""
        try:
            return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            escapes = _LONE_HALF.finditer(self._lines.text, start, end)
            lone = next(escape for escape in escapes if escape["half"])
            self._report(
                f"`{lone[0]}` is half of a character, and the other half is missing",
                lone.start(),
                "write the character itself; JSON escapes an emoji as two halves, as in `\\ud83d\\ude00`",
            )
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _resolved(self, text: str, start: int) -> Any:
        if len(text) > _MAX_DIGITS and INTEGER.fullmatch(text):
            self._report(f"a number of {len(text):,} digits", start, "quote it, if it is meant as text")
            return 0
        return resolve(text)

    def _unknown_tag(self, tag: str, start: int) -> None:
        shown = "!!" + tag.removeprefix(TAG) if tag.startswith(TAG) else tag
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


def _fault(error: yaml.YAMLError, lines: Lines) -> Fault:
    mark = getattr(error, "problem_mark", None)
    index = min(mark.index, len(lines.text)) if mark is not None else 0
    if index == len(lines.text) and index and lines.text[index - 1] in "\r\n":
        index -= 1  # the end of the text: show its last line, not the empty one after it
    around = getattr(error, "context_mark", None)
    context = min(around.index, len(lines.text)) if around is not None else index
    return Fault(lines, index, context, getattr(error, "context", "") or "", getattr(error, "problem", "") or "")
