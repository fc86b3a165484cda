"""How the values of a template become text, and what is too much: of characters, of digits, of steps.

Text stays as it is, numbers are written as typed, booleans as `true` and `false`, lists and mappings as JSON; null and
everything else is refused. Jinja's filters and the methods of values obey the same rules.
"""

from __future__ import annotations

import functools
import json
import re
import time
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Undefined, pass_environment
from jinja2.filters import make_attrgetter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jinja2 import Environment

MAX_CHARACTERS: Final = 10_000_000  # of one rendered text, and of anything built on the way to it
MAX_STEPS: Final = 1_000_000  # of one rendering: passes of loops, calls, includes
_MAX_SECONDS: Final = 10.0  # of CPU for one rendering, since steps may be heavy
_MAX_NUMBER: Final = 1_000_000  # as an argument of a filter or method: widths, counts
_MAX_BITS: Final = 10_000  # of the result of `**`


class RefusedError(Exception):
    """A template does what it may not, or what cannot be meant."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class NullError(RefusedError):
    """A template writes null."""

    def __init__(self) -> None:
        super().__init__("a value is null", "give it a value, or write `| default('', true)`")


class LazyMapping(dict[str, Any]):
    """A mapping some of whose values are found when a template asks for one. From then on they are in it as others are;
    until then it is as if they were not, but that `in` knows their names.
    """

    def __init__(self, known: Mapping[str, Any], later: Mapping[str, Callable[[], Any]]) -> None:
        """`later` finds each value that is not `known`; it may raise RefusedError."""
        super().__init__(known)
        self._later = later

    @property
    def names(self) -> tuple[str, ...]:
        """Of all its values, found or not."""
        return tuple(dict.fromkeys((*self, *self._later)))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._later

    def __missing__(self, name: str) -> Any:
        value = self[name] = self._later[name]()
        return value


# --- values -> text --------------------------------------------------------------------------------------------------


def joined(pieces: Iterable[str]) -> str:
    """The pieces as one text, stopping as soon as they are too much."""
    kept = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise _too_large()
        kept.append(piece)
    return "".join(kept)


def _too_large() -> RefusedError:
    return RefusedError(
        f"the template makes more than {MAX_CHARACTERS:,} characters", "look for a count that is too large"
    )


def as_text(value: Any) -> str:
    """What a template writes for a value. Raises for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Undefined)):
        return str(value)
    if value is None:
        raise NullError
    if isinstance(value, (list, tuple, dict)):
        return _json(value)
    raise _not_text(value)


def _not_text(value: Any) -> RefusedError:
    name = type(value).__name__
    if callable(value):
        return RefusedError(
            f"the template writes a function (`{_function_name(value)}`), not a text", "call it: add `()`"
        )
    if hasattr(value, "__iter__"):
        return RefusedError(f"the template writes a {name}, not a text", "add `| list` or `| join(', ')`")
    return RefusedError(f"the template writes a {name}, not a text", "write a text, a number, a list or a mapping")


def _function_name(value: Any) -> str:
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or type(value).__name__)


def _encodable(value: Any) -> str:
    """For what JSON has no type for: an undefined name fails by itself."""
    if isinstance(value, Undefined):
        return str(value)
    raise _not_text(value)


def _json(value: Any, indent: int | None = None) -> str:
    """Compact as `json.dumps` makes it; not escaped for HTML as Jinja's own `tojson` is."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, default=_encodable)
    return joined(encoder.iterencode(value))


class Method:
    """A method of a value. It can be called, and used for nothing else: written out it would be a memory address."""

    __slots__ = ("_function", "_owner", "name")

    def __init__(self, function: Callable[..., Any], owner: Any, name: str) -> None:
        self._function = function
        self._owner = owner
        self.name = name

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if isinstance(self._owner, str):
            _check_text_method(self._owner, self.name, args, keywords)
        return self._function(*args, **keywords)

    def __str__(self) -> str:
        raise _not_text(self)

    def __bool__(self) -> bool:
        raise _not_text(self)

    def __len__(self) -> int:
        raise _not_text(self)

    def __iter__(self) -> Iterator[Any]:
        raise _not_text(self)

    __repr__ = __str__


# --- limits ----------------------------------------------------------------------------------------------------------


class Budget:
    """What one rendering may take: steps, which are the same everywhere, and CPU time."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self.renew()

    def renew(self) -> None:
        """For the next rendering."""
        self._steps = MAX_STEPS
        self._end: float | None = None  # most renderings take no step, and need no look at the clock

    def spend(self) -> None:
        """One step more."""
        self._steps -= 1
        if self._steps < 0:
            raise RefusedError(
                f"the template takes more than {MAX_STEPS:,} steps", "look for loops or macros inside one another"
            )
        if self._end is None:
            self._end = self._clock() + _MAX_SECONDS
        elif self._clock() > self._end:
            raise RefusedError(
                f"the template takes more than {_MAX_SECONDS:.0f} s to render",
                "look for loops inside one another, and for work on long lists inside them",
            )


def check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse what would take much memory or time before it does."""
    if operator == "%" and isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    elif operator == "+" and isinstance(left, (str, list)) and isinstance(right, (str, list)):
        _check_length(len(left) + len(right))
    elif operator == "*":
        _check_product(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, (str, list, tuple)) and isinstance(right, int):
        _check_length(len(left) * right)
    elif isinstance(right, (str, list, tuple)) and isinstance(left, int):
        _check_length(len(right) * left)


def _check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise _too_large()


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise RefusedError("the template computes a number of thousands of digits", "use smaller numbers")


def _check_numbers(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and value > _MAX_NUMBER for value in values):
        raise RefusedError(f"a width or count in the template is more than {_MAX_NUMBER:,}", "use a smaller number")


_LONG_WIDTH = re.compile(r"[0-9]{7,}")
_WIDTH_ARGUMENT = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{")


def _check_format(text: str, values: Iterable[Any]) -> None:
    values = list(values)
    if _LONG_WIDTH.search(text) or _WIDTH_ARGUMENT.search(text):
        _check_numbers([int(number[:9]) for number in _LONG_WIDTH.findall(text)] + values)
    for value in values:
        as_text(value)  # for its refusals: `%s` writes None and functions as Python does


def _check_replacement(text: str, old: str, new: str) -> None:
    _check_length(len(text) + text.count(old) * len(new))


def _check_text_method(text: str, name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    if name == "format":
        _check_format(text, (*args, *keywords.values()))
    elif name == "replace" and len(args) >= 2:
        _check_replacement(text, str(args[0]), str(args[1]))
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _check_length(sum(len(piece) + len(text) for piece in args[0] if isinstance(piece, str)))
    else:
        _check_numbers((*args, *keywords.values()))


# --- filters ---------------------------------------------------------------------------------------------------------


# These take a text; of anything else they would take Python's spelling, memory addresses included.
_TEXT_FILTERS: Final = (
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "format",
    "indent",
    "lower",
    "replace",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "wordcount",
    "wordwrap",
)
# A prompt has to be the same each time: these two are random.
RANDOM: Final = ("random", "lipsum")


def _text_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja whose value becomes a text as the templates write it, within the limits."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*args: Any, **keywords: Any) -> Any:
        text = as_text(args[position])
        others = (*args[position + 1 :], *keywords.values())
        if name == "format":
            _check_format(text, others)
        elif name == "replace" and len(others) >= 2:
            _check_replacement(text, str(others[0]), str(others[1]))
        elif name == "indent":
            _check_indent(text, others)
        else:
            _check_numbers(others)
        return function(*args[:position], text, *args[position + 1 :], **keywords)

    return guarded


def _check_indent(text: str, others: Iterable[Any]) -> None:
    widths = [other if isinstance(other, int) else len(other) for other in others if isinstance(other, (int, str))]
    _check_length(len(text) + (text.count("\n") + 1) * max(widths, default=4))


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja whose arguments may not be large numbers."""

    @functools.wraps(function)
    def guarded(value: Any, *args: Any, **keywords: Any) -> Any:
        _check_numbers((*args, *keywords.values()))
        return function(value, *args, **keywords)

    return guarded


@pass_environment
def _join(environment: Environment, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, whose items are written as the templates write them."""
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    separator = as_text(d)
    return joined(separator * (position > 0) + as_text(value) for position, value in enumerate(values))


def _tojson(value: Any, indent: int | None = None) -> str:
    """Jinja's `tojson`, but for prompts rather than for HTML."""
    _check_numbers([indent])
    return _json(value, indent)


def guarded_filters(jinja: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    filters = {name: function for name, function in jinja.items() if name not in RANDOM}
    filters |= {name: _text_filter(name, filters[name]) for name in _TEXT_FILTERS}
    filters |= {name: _counted(filters[name]) for name in ("batch", "slice")}
    return filters | {"join": _join, "tojson": _tojson}
