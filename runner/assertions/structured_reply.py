"""The reply as one JSON value that holds to the job's `response_schema`: what is asked of the last reply of a case."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from runner.assertions import json_schemas, jsons, time_limit
from runner.assertions.endings import CUT, REFUSING
from runner.assertions.kinds import Answer, Finding, Kind
from runner.assertions.wording import excerpt

if TYPE_CHECKING:
    from runner.records import Assertion

# --- text -> value ---------------------------------------------------------------------------------------------------

# Where only JSON begins: beside a value that was found it tells of another, or of one around it, that is not whole.
_BEGINNING = re.compile(r'\{\s*["}]|\[\s*["{\[]')
_MOST_BREACHES: Final = 5  # that are told: a model that is to repair its reply has one turn
_DEEPEST: Final = 100  # levels of lists and objects: rows and reports hold the value


def _value_of(answer: Answer) -> Any:
    """The one JSON value of a reply: the whole of it, or of a code fence, or the only object or list among its words.

    Raises ValueError, which says what is there instead, and UnjudgedError for what takes too long to look through.
    """
    text = _unfenced(answer.output.strip())
    try:
        value = jsons.parse(text)
    except ValueError:
        if ended_early(answer):  # what can be read may be a part of what was to come
            raise
        value = _among_words(text)
    flaw = _flaw(value)
    if flaw is not None:
        raise ValueError(f"it is JSON {flaw}")
    return value


def _unfenced(text: str) -> str:
    """What is in the code fence that a text is; of any other text, itself."""
    first, _, rest = text.partition("\n")
    return rest[:-3] if first.rstrip().lower() in {"```", "```json"} and rest.endswith("```") else text


def _among_words(text: str) -> Any:
    spans = list(islice(jsons.spans_in(text), 2))
    if not spans or (spans[0].start > 0 and _BEGINNING.match(text)):
        return jsons.parse(text)  # which says where it stops being JSON
    span = spans[0]
    if len(spans) > 1 or _BEGINNING.search(text, 0, span.start) or _BEGINNING.search(text, span.end):
        raise ValueError(f"it has more than one JSON value, or parts of one: {excerpt(text, span.start)}")
    return span.value


def _flaw(value: Any) -> str | None:
    """Why a row cannot hold a value."""
    level = [value]
    for _ in range(_DEEPEST + 1):
        if any(isinstance(each, float) and not isfinite(each) for each in level):
            return "with a number that is too large"
        inside = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [item for items in inside for item in items]
        if not level:
            return None
    return f"of more than {_DEEPEST} levels"


# --- the type --------------------------------------------------------------------------------------------------------


def ended_early(answer: Answer) -> str | None:
    """Why a reply may not be all that the model would have said; to ask again would end alike."""
    reason = answer.stop_reason or ""
    if reason.lower() in CUT:
        return f"the reply was cut (stop reason {reason})"
    return f"the model refused (stop reason {reason})" if reason.lower() in REFUSING else None


class _Read(NamedTuple):
    """What is wrong with a reply, or None and its value."""

    breach: str | None
    value: Any = None


@lru_cache(maxsize=1)  # of the same reply it is asked whether it is to be repaired, and then what the verdict is
@time_limit.limited
def _read(schema: str, output: str, stop_reason: str | None) -> _Read:
    """A reply against a JSON Schema, which is JSON."""
    try:
        value = _value_of(Answer(output=output, stop_reason=stop_reason))
    except ValueError as error:
        return _Read(f"it is no JSON: {error}" if isinstance(error, jsons.NotJsonError) else str(error))
    breach = json_schemas.breaches_of(schema, most=_MOST_BREACHES)(value)
    return _Read(None, value) if breach is None else _Read(breach)


def _holds(assertion: Assertion, answer: Answer) -> Finding:
    found, value = _read(json.dumps(assertion.value), answer.output, answer.stop_reason)
    early = ended_early(answer)
    return Finding(found is None, lambda: f"{early}, and {found}" if early else found or "", value=value)


KINDS = {
    "response-schema": Kind(check=_holds, expectation=lambda _: "to be JSON that holds to `response_schema`"),
}
