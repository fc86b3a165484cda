"""Types that read the output as JSON: is-json, contains-json, json-path; and equality of JSON values."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Never

from runner.assertions import json_paths, json_schemas, time_limit
from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError
from runner.assertions.wording import counted, excerpt, pointer, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runner.records import Assertion

# --- text -> JSON ----------------------------------------------------------------------------------------------------


class NotJsonError(ValueError):
    """A text is no JSON; the message says where it stops being it."""


def parse(text: str) -> Any:
    """The value of a JSON text, as strict as JavaScript's JSON.parse: no NaN, no comments. Raises ValueError, and
    RecursionError for what may well be JSON and goes deeper than Python can.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise NotJsonError(f"{error.msg} at {place}, in {excerpt(text, error.pos)}") from None
    except RecursionError:
        unclosed = _unclosed(text, 0, len(text))
        if not unclosed:
            raise
        raise NotJsonError(f"{len(unclosed):,} brackets are not closed, in {excerpt(text)}") from None


def _refuse_constant(name: str) -> Never:
    raise NotJsonError(f"{name} is not JSON")


_MAX_DIGITS: Final = 4300  # what Python's int() takes; JavaScript reads every number as a double anyway


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)

_TOKEN = re.compile(r"""[\[{]|[\]}]|"(?:[^"\\]++|\\.)*+"?""", re.DOTALL)  # brackets, and strings that may have some


def _unclosed(text: str, start: int, end: int) -> list[int]:
    """Where brackets of a JSON text stand that are still open at the end of this part of it, or where it first closes
    another bracket than it has opened. Looked for up to where the first one is closed.
    """
    opened: list[int] = []
    for token in _TOKEN.finditer(text, start, end):
        bracket = token[0]
        if bracket in "[{":
            opened.append(token.start())
        elif bracket in "]}":
            if not opened or text[opened[-1]] + bracket not in ("[]", "{}"):
                break
            opened.pop()
            if not opened:
                break
    return opened


# Where an object or an array may begin: what is in the lookahead may follow.
_START = re.compile(r"""\{(?=[ \t\n\r]*["}])|\[(?=[ \t\n\r]*["\d\[{tfn\]-])""")
_WINDOW: Final = 1024  # characters that are looked at first
_CUT: Final = 16  # characters before the end of a window where an error may come of the cut: a literal, an escape
_ATTEMPT_COST: Final = 40  # what an attempt costs, in characters read in the same time
_MAX_READ: Final = 5  # times the length of a text, plus _FREE
_FREE: Final = 1_000_000


def values_in(text: str) -> Iterator[Any]:
    """The JSON objects and arrays in a text, as `spans_in` finds them."""
    return (span.value for span in spans_in(text))


class Span(NamedTuple):
    """A JSON value in a text, from `start` to before `end`."""

    value: Any
    start: int
    end: int


def spans_in(text: str) -> Iterator[Span]:
    """The JSON objects and arrays in a text and where they are, from the left, without those inside others.

    What is no JSON may make each attempt read to the end: raises UnjudgedError before that takes long.
    """
    left = _MAX_READ * len(text) + _FREE
    position = 0
    unclosed: set[int] = set()  # where brackets stand of which an attempt before has shown that no value begins there
    while (start := _START.search(text, position)) is not None:
        position = start.start() + 1
        if start.start() in unclosed:
            continue
        try:
            value, position = _value_at(text, start.start())
        except _NoValueError as error:
            unclosed.update(error.unclosed)
            left -= error.cost
        else:
            yield Span(value, start.start(), position)
        if left < 0:
            raise UnjudgedError(
                f"the output has too many unfinished brackets to look for JSON in it (after character {position:,})"
            )


class _NoValueError(Exception):
    """No value begins at a bracket, nor at those that are `unclosed`; and what it cost to find out."""

    def __init__(self, cost: int, unclosed: list[int]) -> None:
        super().__init__()
        self.cost = cost
        self.unclosed = unclosed


def _value_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at a bracket, and where it ends. Raises _NoValueError, and RecursionError where the bracket
    is closed and what is in it goes deeper than Python can.

    The decoder is given windows of the text, since each of its errors counts the lines of all that it was given.
    """
    size, cost = _WINDOW, _ATTEMPT_COST
    while True:
        window = text[start : start + size]
        try:
            value, length = _DECODER.raw_decode(window)
        except json.JSONDecodeError as error:
            unterminated = error.msg.startswith("Unterminated string")
            cost += len(window) if unterminated else error.pos
            if start + size >= len(text) or not (unterminated or error.pos > len(window) - _CUT):
                raise _NoValueError(cost, _unclosed(text, start, start + error.pos)) from None
            size *= 4
        except NotJsonError:
            raise _NoValueError(cost + len(window), []) from None
        except RecursionError:
            unclosed = _unclosed(text, start, len(text))
            if not unclosed:
                raise
            raise _NoValueError(cost + len(text) - start, unclosed) from None
        else:
            return value, start + length


# --- equality --------------------------------------------------------------------------------------------------------


def equals(expected: Any, output: str) -> Finding:
    """Whether the output is JSON of the expected value."""
    try:
        value = parse(output)
    except ValueError as error:
        return _no_json(error)
    differs = difference(expected, value)
    return Finding(differs is None, lambda: differs or f"got {excerpt(output)}")


def difference(expected: Any, value: Any) -> str | None:
    """Where two JSON values first differ and how, as `at /a/0: expected 1, got 2`; None where they are the same.

    As in JSON, 1 and 1.0 are one number, and `true` is none.
    """
    differs = _difference(expected, value)
    if differs is None:
        return None
    steps, how = differs
    return f"at {pointer(reversed(steps))}: {how}"


def _difference(expected: Any, value: Any) -> tuple[list[str | int], str] | None:
    """The steps to where two values differ, from there to the top, and how they do."""
    if isinstance(expected, dict) and isinstance(value, dict):
        unlike = _unlike_names(expected, value)
        steps: Any = expected
    elif isinstance(expected, list) and isinstance(value, list):
        same = len(expected) == len(value)
        unlike = None if same else f"expected {counted(len(expected), 'item')}, got {len(value):,}"
        steps = range(len(expected))
    else:
        same = isinstance(expected, bool) is isinstance(value, bool) and expected == value
        unlike = None if same else f"expected {spelled(expected)}, got {spelled(value)}"
        steps = ()
    if unlike is not None:
        return [], unlike
    for step in steps:
        differs = _difference(expected[step], value[step])
        if differs is not None:
            differs[0].append(step)
            return differs
    return None


def _unlike_names(expected: Mapping[str, Any], value: Mapping[str, Any]) -> str | None:
    missing = next((name for name in expected if name not in value), None)
    if missing is not None:
        return f"{spelled(missing)} is missing"
    extra = next((name for name in value if name not in expected), None)
    return None if extra is None else f"{spelled(extra)} is not expected"


def _no_json(error: ValueError) -> Finding:
    return Finding(holds=False, found=lambda: f"it is no JSON: {error}")


# --- is-json, contains-json ------------------------------------------------------------------------------------------


@time_limit.limited
def _is_json(assertion: Assertion, answer: Answer) -> Finding:
    try:
        value = parse(answer.output)
    except ValueError as error:
        return _no_json(error)
    breach = _breaches(assertion)(value)
    return Finding(breach is None, lambda: breach or f"got {excerpt(answer.output)}")


@time_limit.limited
def _contains_json(assertion: Assertion, answer: Answer) -> Finding:
    first, others = None, -1
    breaches = _breaches(assertion)
    for value in values_in(answer.output):
        breach = breaches(value)
        if breach is None:
            return Finding(holds=True, found=partial(_containing, value))
        if time_limit.left() <= 0:
            raise time_limit.exceeded(f"looking through {others + 2:,} JSON values in the output")
        first, others = first or breach, others + 1
    return Finding(holds=False, found=partial(_none_fits, answer.output, first, others))


def _containing(value: Any) -> str:
    return f"it contains {spelled(value)}"


def _none_fits(output: str, first: str | None, others: int) -> str:
    if first is None:
        return f"no object or array is in {excerpt(output)}"
    return first + (f" (and {others:,} more do not fit)" if others else "")


def _breaches(assertion: Assertion) -> Callable[[Any], str | None]:
    """What tells how a value does not fit the schema of an assertion; None if it does."""
    schema = _schema(assertion)
    return (lambda _: None) if schema is None else json_schemas.breaches(schema)


def _schema(assertion: Assertion) -> Any:
    """The schema of an assertion; a text, as an include gives it, is JSON. Raises ValueError."""
    return parse(assertion.value) if isinstance(assertion.value, str) else assertion.value


def _fault_of_schema(assertion: Assertion) -> Fault | None:
    try:
        schema = _schema(assertion)
    except ValueError as error:
        return Fault(f"the JSON Schema of `{assertion.name}` is no JSON: {error}")
    return None if schema is None else json_schemas.fault(schema)


def _fitting(check: Callable[[Assertion, Answer], Finding], words: str) -> Kind:
    return Kind(
        check=check,
        expectation=lambda assertion: words + ("" if assertion.value is None else " that fits the schema"),
        fault=_fault_of_schema,
        advice="write a JSON Schema as a mapping; one in a file of its own is read with `{% include 'NAME.json' %}`",
    )


# --- json-path -------------------------------------------------------------------------------------------------------

_NAMED_VALUES: Final = 3  # of those that a path leads to


@time_limit.limited
def _json_path(assertion: Assertion, answer: Answer) -> Finding:
    path, wanted = _path(assertion)
    try:
        value = parse(answer.output)
    except ValueError as error:
        return _no_json(error)
    found = json_paths.find(path, value)
    if not found:
        return Finding(holds=False, found=lambda: f"nothing is there in {excerpt(answer.output)}")
    if "value" not in wanted:
        return Finding(holds=True, found=lambda: f"there is {_listed(found)}")
    expected = wanted["value"]
    holds = any(_matching(expected, found))
    if len(found) == 1 and not holds:
        return Finding(holds=False, found=lambda: _at_path(expected, found[0]))
    return Finding(holds, lambda: f"there is {_listed(found)}")


def _at_path(expected: Any, found: Any) -> str:
    differs = difference(expected, found) or ""
    inside = f", which differs {differs}" if isinstance(found, dict | list) and type(found) is type(expected) else ""
    return f"there is {spelled(found)}{inside}"


def _listed(values: list[Any]) -> str:
    more = f" and {len(values) - _NAMED_VALUES:,} more" if len(values) > _NAMED_VALUES else ""
    return ", ".join(spelled(value) for value in values[:_NAMED_VALUES]) + more


def _matching(expected: Any, found: list[Any]) -> Iterator[bool]:
    """Which values are as expected. A text also stands for the number or boolean that it spells: templates give nothing
    but texts.
    """
    meant = _spelled_by(expected) if isinstance(expected, str) else expected
    for value in found:
        if time_limit.left() <= 0:
            raise time_limit.exceeded("comparing what the JSONPath leads to")
        yield difference(meant if isinstance(value, int | float) else expected, value) is None


def _spelled_by(text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        return text


def _path(assertion: Assertion) -> tuple[str, Mapping[str, Any]]:
    value = assertion.value
    return (value, {}) if isinstance(value, str) else (value["path"], value)


def _fault_of_path(assertion: Assertion) -> Fault | None:
    problem = json_paths.problem(_path(assertion)[0])
    return Fault(problem, ("path",)) if problem else None


def _expected_path(assertion: Assertion) -> str:
    path, wanted = _path(assertion)
    there = spelled(wanted["value"]) if "value" in wanted else "something"
    return f"to have {there} at {excerpt(path)}"


KINDS = {
    "is-json": _fitting(_is_json, "to be JSON"),
    "contains-json": _fitting(_contains_json, "to contain JSON"),
    "json-path": Kind(
        check=_json_path,
        expectation=_expected_path,
        fault=_fault_of_path,
        advice="a JSONPath (RFC 9535) starts with `$`, as in `$.items[0].name` or `$..name`",
    ),
}
