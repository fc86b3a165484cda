"""Regular expressions that cannot hang a run: Python's syntax, searched with a time limit. And the type regex."""

from __future__ import annotations

import re
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from runner.assertions import pattern_syntax, time_limit
from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, text_of
from runner.assertions.wording import excerpt

if TYPE_CHECKING:
    import regex

    from runner.records import Assertion

_MAX_SIZE: Final = 50_000  # of a pattern: that many characters take half a second to compile, and up to 40 MB

_MAX_TEXT: Final = 2_000_000  # characters: in longer texts `regex` looks at the clock too seldom

_HINT = "repetitions within repetitions, as in (a+)+, take exponential time: write it without them"


def search(pattern: str, text: str) -> regex.Match[str] | None:
    """The first match, as `re.search` finds it. Raises UnjudgedError where that takes too long."""
    return _timed(pattern, text, whole=False)


def fullmatch(pattern: str, text: str) -> regex.Match[str] | None:
    """The match of the whole text, as `re.fullmatch` finds it. Raises UnjudgedError where that takes too long."""
    return _timed(pattern, text, whole=True)


def _timed(pattern: str, text: str, *, whole: bool) -> regex.Match[str] | None:
    if len(text) > _MAX_TEXT:
        raise UnjudgedError(f"a text of {len(text):,} characters is too long for a regular expression")
    compiled = _compiled(pattern)
    left = time_limit.left()
    try:
        if left > 0:
            return (compiled.fullmatch if whole else compiled.search)(text, timeout=left)
    except TimeoutError:
        pass
    raise time_limit.exceeded(f"the regular expression {excerpt(pattern)}", _HINT)


@lru_cache(maxsize=64)  # few, since one may take megabytes
def _compiled(pattern: str) -> regex.Pattern[str]:
    import regex

    if len(pattern) > _MAX_SIZE:
        raise UnjudgedError(f"{excerpt(pattern)} is too long for a regular expression: {len(pattern):,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what may mean something else in a later Python
            translation = pattern_syntax.translated(pattern)
            if translation.size > _MAX_SIZE:
                raise UnjudgedError(
                    f"{excerpt(pattern)} repeats so much that it cannot be compiled: more than {_MAX_SIZE:,} characters"
                )
            return regex.compile(translation.pattern, cache_pattern=False)
    except (re.error, regex.error, RecursionError, OverflowError, ValueError) as error:
        raise UnjudgedError(f"{excerpt(pattern)} is not a regular expression: {error}") from None


@lru_cache(maxsize=1024)
def pattern_problem(pattern: str) -> str | None:
    """Why `pattern` is not a regular expression that can be used here, or None if it is one."""
    try:
        _compiled(pattern)
    except UnjudgedError as error:
        return error.message
    return None


def fault(pattern: str) -> Fault | None:
    """As `pattern_problem`, with what to write in place of JavaScript's syntax. One in slashes with flags is at fault
    although it may be a regular expression: it would look for the slashes.
    """
    problem = pattern_problem(pattern)
    if problem is None and _LITERAL.fullmatch(pattern):
        problem = f"{excerpt(pattern)} is a regular expression in slashes, as JavaScript has it"
    return Fault(problem, hint=_in_python(pattern)) if problem else None


_ESCAPES: Final = r"(?<!\\)(?P<escapes>(?:\\\\)*)"  # an even number of backslashes: what follows is not escaped
_LITERAL: Final = re.compile(r"/(?P<pattern>(?:[^/\\\n]|\\.)+)/(?P<flags>[dgimsuvy]+)")
_GROUP: Final = re.compile(rf"{_ESCAPES}\(\?<(?=[^\W\d])")
_REFERENCE: Final = re.compile(rf"{_ESCAPES}\\k<(?P<name>\w+)>")


def _in_python(pattern: str) -> str | None:
    """What to write for a regular expression that is one in JavaScript's syntax."""
    literal = _LITERAL.fullmatch(pattern)
    flags = "".join(flag for flag in "ims" if literal and flag in literal["flags"])
    written = (f"(?{flags})" if flags else "") + (literal["pattern"].replace(r"\/", "/") if literal else pattern)
    written = _REFERENCE.sub(r"\g<escapes>(?P=\g<name>)", _GROUP.sub(r"\g<escapes>(?P<", written))
    if written == pattern or pattern_problem(written):
        return None
    return f"write `{written}`: the syntax is Python's"


ADVICE: Final = "put a backslash before characters that are meant literally"


@time_limit.limited
def _regex(assertion: Assertion, answer: Answer) -> Finding:
    match = search(text_of(assertion), answer.output)
    if match is None:
        return Finding(holds=False, found=lambda: f"got {excerpt(answer.output)}")
    return Finding(holds=True, found=lambda: f"{excerpt(match.group())} matches at character {match.start() + 1}")


KINDS = {
    "regex": Kind(
        check=_regex,
        expectation=lambda assertion: f"to match {excerpt(text_of(assertion))}",
        fault=lambda assertion: fault(text_of(assertion)),
        advice=f"{ADVICE}, or use `type: contains`",
    )
}
