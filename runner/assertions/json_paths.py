"""JSONPath as RFC 9535 has it; neither its paths nor the regular expressions of its filters can hang a run."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from runner.assertions.kinds import UnjudgedError
from runner.assertions.wording import excerpt, shortened

if TYPE_CHECKING:
    from jsonpath import JSONPath


def find(path: str, value: Any) -> list[Any]:
    """What a path leads to in a JSON value. Raises UnjudgedError."""
    from jsonpath import JSONPathError

    from runner.assertions import json_path_engine

    try:
        return json_path_engine.find(_compiled(path), value)
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
    except (JSONPathError, RecursionError, ArithmeticError, ValueError) as error:  # of numbers as large as 1e999
        return f"{excerpt(path)} is not a JSONPath: {_cause(error)}"
    return None


def _cause(error: Exception) -> str:
    """The first line of a message; what follows draws the path."""
    return shortened(str(error).partition("\n")[0].strip())


@lru_cache(maxsize=1024)
def _compiled(path: str) -> JSONPath:
    from runner.assertions import json_path_engine

    return json_path_engine.compiled(path)
