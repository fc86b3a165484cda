"""Types that look for texts: equals, contains and its variants, starts-with, ends-with."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from runner.assertions import jsons, time_limit
from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, text_of
from runner.assertions.wording import as_json, difference, excerpt, listing, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runner.records import Assertion


# --- one text --------------------------------------------------------------------------------------------------------


def _contains(assertion: Assertion, answer: Answer) -> Finding:
    return _found(answer.output, answer.output.find(text_of(assertion)))


def _icontains(assertion: Assertion, answer: Answer) -> Finding:
    return _found(answer.output, answer.output.lower().find(text_of(assertion).lower()))


def _found(output: str, at: int) -> Finding:
    return Finding(at >= 0, lambda: f"got {excerpt(output, max(at, 0))}")


def _equals(assertion: Assertion, answer: Answer) -> Finding:
    """Lists, mappings and null are compared with the JSON of the output; everything else as text, as promptfoo does."""
    value, output = assertion.value, answer.output
    if value is None or isinstance(value, dict | list):
        return jsons.equals(value, output)
    expected = value if isinstance(value, str) else as_json(value)
    return Finding(expected == output, lambda: difference(expected, output))


def _starts_with(assertion: Assertion, answer: Answer) -> Finding:
    start, output = text_of(assertion), answer.output
    return Finding(output.startswith(start), lambda: difference(start, output[: len(start)]))


def _ends_with(assertion: Assertion, answer: Answer) -> Finding:
    output = answer.output
    return Finding(output.endswith(text_of(assertion)), lambda: f"it ends with {excerpt(output, len(output))}")


# --- several texts ---------------------------------------------------------------------------------------------------


@time_limit.limited
def _contains_any(assertion: Assertion, answer: Answer, *, fold: Callable[[str], str] = str) -> Finding:
    output = fold(answer.output)
    first = next((text for text in _in_time(_texts(assertion)) if fold(text) in output), None)
    if first is None:
        return Finding(holds=False, found=lambda: f"got {excerpt(answer.output)}")
    at = output.find(fold(first))
    return Finding(holds=True, found=lambda: f"{excerpt(first)} is in {excerpt(answer.output, at)}")


@time_limit.limited
def _contains_all(assertion: Assertion, answer: Answer, *, fold: Callable[[str], str] = str) -> Finding:
    output = fold(answer.output)
    missing = [text for text in _in_time(_texts(assertion)) if fold(text) not in output]
    told = f"missing: {listing(missing)}; " if missing else ""
    return Finding(not missing, lambda: f"{told}got {excerpt(answer.output)}")


def _in_time(texts: Iterable[str]) -> Iterator[str]:
    """The texts, until the check is over time."""
    for number, text in enumerate(texts):
        if time_limit.left() <= 0:
            raise time_limit.exceeded(f"looking for the first {number:,} texts")
        yield text


def _texts(assertion: Assertion) -> tuple[str, ...]:
    """The texts to look for. Raises UnjudgedError."""
    value = assertion.value
    return _texts_in(value) if isinstance(value, str) else tuple(value)


@lru_cache(maxsize=1024)
def _texts_in(text: str) -> tuple[str, ...]:
    """A text is a list in JSON, as a template writes a variable that is one, or has commas between."""
    if not text.lstrip().startswith("["):
        return comma_separated(text)
    try:
        listed = jsons.parse(text)
    except ValueError:
        return comma_separated(text)
    other = next((item for item in listed if not isinstance(item, str)), None)
    if other is not None:
        raise UnjudgedError(f"{spelled(other)} is no text, in the list {excerpt(text)}")
    return tuple(listed)


def comma_separated(text: str) -> tuple[str, ...]:
    """`a, "b, c"` -> a; b, c. As promptfoo reads it: in quotes a quote is `\\"` or `""`; empty entries do not count.

    Raises UnjudgedError if a quote is not closed or more follows it than a comma.
    """
    texts, position = [], 0
    while position < len(text):
        if text[position].isspace() or text[position] == ",":
            position += 1
        elif text[position] == '"':
            entry, position = _quoted(text, position + 1)
            texts.append(entry)
        else:
            end = text.find(",", position)
            end = len(text) if end < 0 else end
            texts.append(text[position:end].strip())
            position = end
    return tuple(texts)


def _quoted(text: str, position: int) -> tuple[str, int]:
    """The entry whose opening quote is before `position`, and where the next begins."""
    characters: list[str] = []
    while position < len(text):
        pair = text[position : position + 2]
        if pair in ('\\"', "\\\\", '""'):
            characters.append(pair[1])
            position += 2
        elif pair[0] == '"':
            end = position + 1
            while end < len(text) and text[end].isspace():
                end += 1
            if end < len(text) and text[end] != ",":
                raise UnjudgedError(
                    f"a comma is missing after the quote at character {position + 1} of {excerpt(text)}"
                )
            return "".join(characters), end
        else:
            characters.append(pair[0])
            position += 1
    raise UnjudgedError(f"a quote is not closed in {excerpt(text)}")


def _fault_of_list(assertion: Assertion) -> Fault | None:
    try:
        texts = _texts(assertion)
    except UnjudgedError as error:
        return Fault(error.message)
    if not texts:
        return Fault(f"`{assertion.name}` has no texts to look for: {excerpt(assertion.value)}")
    return Fault(f"`{assertion.name}` has an empty text among those to look for") if "" in texts else None


def _fault_of_text(assertion: Assertion) -> Fault | None:
    return None if assertion.value else Fault(f"the value of `{assertion.name}` is empty")


def _expected_value(assertion: Assertion) -> str:
    value = assertion.value
    return f"to equal {excerpt(value if isinstance(value, str) else as_json(value))}"


_EMPTY = "check the variables in it"
_LIST = "write a list of texts; in a text that lists them with commas, quote what has a comma itself"


def _several(check: Callable[[Assertion, Answer], Finding], words: str) -> Kind:
    return Kind(
        check=check,
        expectation=lambda assertion: f"to contain {words} {listing(_texts(assertion))}",
        fault=_fault_of_list,
        advice=_LIST,
    )


def _one(check: Callable[[Assertion, Answer], Finding], words: str, ignoring: str = "") -> Kind:
    return Kind(
        check=check,
        expectation=lambda assertion: f"to {words} {excerpt(assertion.value)}{ignoring}",
        fault=_fault_of_text,
        advice=_EMPTY,
    )


_ANY_CASE = ", ignoring case"

KINDS = {
    "contains": _one(_contains, "contain"),
    "icontains": _one(_icontains, "contain", _ANY_CASE),
    "equals": Kind(check=_equals, expectation=_expected_value),
    "starts-with": _one(_starts_with, "start with"),
    "ends-with": _one(_ends_with, "end with"),
    "contains-any": _several(_contains_any, "any of"),
    "contains-all": _several(_contains_all, "all of"),
    "icontains-any": _several(lambda a, b: _contains_any(a, b, fold=str.lower), "in any case any of"),
    "icontains-all": _several(lambda a, b: _contains_all(a, b, fold=str.lower), "in any case all of"),
}
