"""The code of a `python` assertion: its text or file -> a function -> what it says of an output.

All of this but `function` runs in the process of python_worker.py, so what it gives is plain data.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import sys
import textwrap
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.assertions.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

INLINE: Final = "<the assertion>"  # what Python calls the file of code that stands in the job
_MODULES: Final = ("json", "math", "re")  # that inline code need not import


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What code is asked: its text, or the file and the name of a function; and what it is to judge."""

    code: str
    where: tuple[Path, str] | None
    output: str
    context: Mapping[str, Any]
    threshold: float | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What code has said; `found` says it in words."""

    holds: bool
    found: str
    score: float | None = None


class UnusableError(Exception):
    """Code has raised something, or returned what is no verdict. `hint` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def judge(question: Question) -> Judged:
    """What the code says. Raises UnusableError."""
    where = question.where
    try:
        function = _inline(question.code) if where is None else _of_file(*where)
        return _judged(function(question.output, dict(question.context)), question.threshold)
    except UnusableError:
        raise
    except BaseException as error:  # as sys.exit and pytest.fail raise one
        raise UnusableError(_raised(error, INLINE if where is None else str(where[0])), _RAISED_HINT) from error


# --- the code --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _inline(code: str) -> Callable[[str, dict[str, Any]], Any]:
    """A function of `output` and `context`. Raises SyntaxError."""
    namespace: dict[str, Any] = {name: __import__(name) for name in _MODULES}
    exec(compile(parsed(code), INLINE, "exec"), namespace)  # noqa: S102 - what --allow-python allows
    function: Callable[[str, dict[str, Any]], Any] = namespace["check"]
    return function


def parsed(code: str) -> ast.Module:
    """`def check(output, context)` around an expression or statements; their lines stay what they are.

    Raises SyntaxError.
    """
    code = textwrap.dedent(code).strip("\n")
    module = ast.parse("def check(output, context): pass", INLINE)
    (definition,) = module.body
    assert isinstance(definition, ast.FunctionDef)
    try:
        expression = ast.parse(code.strip(), INLINE, mode="eval")
        definition.body = [ast.copy_location(ast.Return(expression.body), expression.body)]
    except SyntaxError:
        definition.body = ast.parse(code, INLINE).body or definition.body
    return ast.fix_missing_locations(module)


@lru_cache(maxsize=256)
def _of_file(file: Path, name: str) -> Callable[[str, dict[str, Any]], Any]:
    folder = str(file.parent)
    if folder not in sys.path:
        sys.path.append(folder)  # the file may import what lies next to it
    function = getattr(_module(file), name, None)
    if not callable(function):
        raise TypeError(f"{file.name} has no function `{name}`")
    return function  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def _module(file: Path) -> Any:
    spec = spec_from_file_location(f"bedrock_run_assertions_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- what it returns -------------------------------------------------------------------------------------------------

_RETURNS_HINT = "return True or False, a number, or {'pass': True, 'score': 0.5, 'reason': 'text'}"


def _judged(result: Any, threshold: float | None) -> Judged:
    """As promptfoo takes it: a bool, a number (above 0, or at least the threshold), or pass, score and reason.

    Raises UnusableError.
    """
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    if isinstance(result, bool):
        return Judged(holds=result, found=f"it returned {result}")
    score = _number(result)
    if score is not None:
        holds = score > 0 if threshold is None else score >= threshold
        bound = "" if threshold is None else f", and the threshold is {threshold:g}"
        return Judged(holds=holds, found=f"it returned {score:g}{bound}", score=score)
    if isinstance(result, dict):
        return _graded(result, threshold)
    raise UnusableError(f"the code returned {_short(result)}", _RETURNS_HINT)


def _graded(result: dict[Any, Any], threshold: float | None) -> Judged:
    passed, reason = result.get("pass", result.get("pass_")), result.get("reason")
    score = _number(result.get("score"))
    if not isinstance(passed, bool) or (score is None) is not (result.get("score") is None):
        raise UnusableError(f"the code returned {_short(result)}", _RETURNS_HINT)
    told = shortened(str(reason)) if reason else f"it returned {_short(result)}"
    if threshold is not None and score is not None and score < threshold:
        passed, told = False, f"its score {score:g} is below {threshold:g}: {told}"
    return Judged(holds=passed, found=told, score=score)


def _number(value: Any) -> float | None:
    """The number that a value is, if it is one that a row can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _short(value: Any) -> str:
    return shortened(repr(value))


_RAISED_HINT = "the code gets `output`, a text, and `context`, a mapping with `vars`"


def _raised(error: BaseException, filename: str) -> str:
    """What the code raised, and the last of its own lines on the way there."""
    line = error.lineno if isinstance(error, SyntaxError) else _line(error.__traceback__, filename)
    where = "the code" if filename == INLINE else Path(filename).name
    at = f", line {line}" if line else ""
    told = _told(error)
    return f"{where}{at}: {type(error).__name__}" + (f": {shortened(told)}" if told else "")


def _told(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""  # its own code fails


def _line(traceback: TracebackType | None, filename: str) -> int | None:
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == filename:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
