"""Regular expressions that cannot hang a run: Python's syntax, searched with a time limit. And the type regex."""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Final

from runner.assertions.kinds import Answer, Finding, Kind, UnjudgedError, text_of
from runner.assertions.wording import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterator

    import regex

    from runner.records import Assertion

TIME_LIMIT: Final = 1.0  # seconds that all searches of one evaluation may take together

_deadline: ContextVar[float] = ContextVar("deadline")  # on the monotonic clock, of the evaluation under way

_HINT = "repetitions within repetitions, as in (a+)+, take exponential time: write it without them"


@contextmanager
def limited() -> Iterator[None]:
    """All searches inside share one time limit; without this each has its own."""
    token = _deadline.set(monotonic() + TIME_LIMIT)
    try:
        yield
    finally:
        _deadline.reset(token)


def search(pattern: str, text: str) -> regex.Match[str] | None:
    """The first match, as `re.search` finds it. Raises UnjudgedError where that takes too long."""
    return _timed(pattern, text, whole=False)


def fullmatch(pattern: str, text: str) -> regex.Match[str] | None:
    """The match of the whole text, as `re.fullmatch` finds it. Raises UnjudgedError where that takes too long."""
    return _timed(pattern, text, whole=True)


def _timed(pattern: str, text: str, *, whole: bool) -> regex.Match[str] | None:
    compiled = _compiled(pattern)
    left = _deadline.get(monotonic() + TIME_LIMIT) - monotonic()
    try:
        return (compiled.fullmatch if whole else compiled.search)(text, timeout=max(left, 0.001))
    except TimeoutError:
        raise UnjudgedError(
            f"the regular expression {excerpt(pattern)} took longer than {TIME_LIMIT:g}s", hint=_HINT
        ) from None


# What `regex` reads otherwise than `re`: a brace that begins no repetition is a fuzzy match to it.
_ESCAPED_OR_BRACE = re.compile(r"(\\N\{[^}]*\}|\\.)|\{(?!\d+(?:,\d*)?\}|,\d*\})", re.DOTALL)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    import regex

    as_re_reads_it = _ESCAPED_OR_BRACE.sub(lambda found: found[1] or r"\{", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return regex.compile(as_re_reads_it)
    except (regex.error, RecursionError) as error:
        raise UnjudgedError(f"{excerpt(pattern)} is not a regular expression: {error}") from None


@lru_cache(maxsize=1024)
def pattern_problem(pattern: str) -> str | None:
    """Why `pattern` is not a regular expression, or None if it is one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what may mean something else in a later Python
            re.compile(pattern)
        _compiled(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{excerpt(pattern)} is not a regular expression: {error}"
    except UnjudgedError as error:
        return error.message
    return None


def _regex(assertion: Assertion, answer: Answer) -> Finding:
    match = search(text_of(assertion), answer.output)
    if match is None:
        return Finding(holds=False, found=lambda: f"got {excerpt(answer.output)}")
    return Finding(holds=True, found=lambda: f"{excerpt(match.group())} matches at character {match.start() + 1}")


KINDS = {
    "regex": Kind(
        check=_regex,
        expectation=lambda assertion: f"to match {excerpt(text_of(assertion))}",
        problem=lambda assertion: pattern_problem(text_of(assertion)),
        advice="put a backslash before characters that are meant literally, or use `type: contains`",
    )
}
