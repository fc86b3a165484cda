"""JSONPath as RFC 9535 has it; the regular expressions of its filters have a time limit."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from runner.assertions import patterns
from runner.assertions.kinds import UnjudgedError
from runner.assertions.wording import excerpt, shortened

if TYPE_CHECKING:
    from jsonpath import CompoundJSONPath, JSONPath, JSONPathEnvironment


def find(path: str, value: Any) -> list[Any]:
    """What a path leads to in a JSON value. Raises UnjudgedError."""
    from jsonpath import JSONPathError

    try:
        return [match.obj for match in _compiled(path).finditer(value)]
    except JSONPathError as error:
        raise UnjudgedError(f"{excerpt(path)} could not be followed: {_cause(error)}") from None


@lru_cache(maxsize=1024)
def problem(path: str) -> str | None:
    """Why a text is no JSONPath, or None if it is one."""
    from jsonpath import JSONPathError

    if not path.startswith("$"):
        return f"{excerpt(path)} is not a JSONPath: it does not start with `$`"
    try:
        _compiled(path)
    except (JSONPathError, RecursionError) as error:
        return f"{excerpt(path)} is not a JSONPath: {_cause(error)}"
    return None


def _cause(error: Exception) -> str:
    """The first line of a message; what follows draws the path."""
    return shortened(str(error).partition("\n")[0].strip())


@lru_cache(maxsize=1024)
def _compiled(path: str) -> JSONPath | CompoundJSONPath:
    return _environment().compile(path)


@cache
def _environment() -> JSONPathEnvironment:
    from jsonpath import JSONPathEnvironment
    from jsonpath.function_extensions import ExpressionType, FilterFunction

    def filter_function(matches: Any) -> FilterFunction:
        class Timed(FilterFunction):
            arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - as its base declares it
            return_type = ExpressionType.LOGICAL

            def __call__(self, text: object, pattern: object) -> bool:
                """RFC 9535: whatever cannot match, does not."""
                if not isinstance(text, str) or not isinstance(pattern, str) or patterns.pattern_problem(pattern):
                    return False
                return matches(pattern, text) is not None

        return Timed()

    environment = JSONPathEnvironment(strict=True)
    environment.function_extensions["match"] = filter_function(patterns.fullmatch)
    environment.function_extensions["search"] = filter_function(patterns.search)
    return environment
