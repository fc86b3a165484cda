"""The type python: an expression, the body of a function, or a function of a file next to the job.

The code is the job author's own, and runs only where the command line allows it. It is not a template: what comes from
a row or a model reaches it as data, in `output` and `context`, and never becomes part of the code.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import errno
import math
import re
import sys
import textwrap
import threading
from contextlib import redirect_stdout
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner import paths
from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, text_of
from runner.assertions.wording import excerpt, shortened
from runner.errors import SignalledError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from runner.records import Assertion

_FILE = re.compile(r"(?:file://)?(?P<path>[^\n]+\.py)(?::(?P<function>\w+))?")
_DEFAULT_FUNCTION: Final = "get_assert"  # promptfoo's
_INLINE: Final = "<the assertion>"  # what Python calls the file of code that stands in the job
_MODULES: Final = ("json", "math", "re")  # that inline code need not import


_ALONE = threading.Lock()


def _check(assertion: Assertion, answer: Answer) -> Finding:
    code = text_of(assertion)
    context = {
        "vars": copy.deepcopy(dict(answer.vars)),  # the row shows them as they were
        "latency_ms": answer.latency_ms,
        "first_token_ms": answer.first_token_ms,
        "cost_usd": answer.cost_usd,
        "stop_reason": answer.stop_reason,
    }
    where = _where(assertion)
    try:
        with _ALONE, redirect_stdout(sys.stderr):  # rows may go to standard output, which is one for all threads
            function = _inline(code) if where is None else _of_file(*where)
            result = function(answer.output, context)
            return _judged(result, assertion.threshold)
    except (SignalledError, KeyboardInterrupt, UnjudgedError):
        raise
    except BaseException as error:  # as pytest.fail raises one
        raise UnjudgedError(_raised(error, _INLINE if where is None else str(where[0])), hint=_RAISED_HINT) from error


# --- the code --------------------------------------------------------------------------------------------------------


def _where(assertion: Assertion) -> tuple[Path, str] | None:
    """The file and the function that a value names; None if it is code itself."""
    named = _FILE.fullmatch(text_of(assertion).strip())
    if named is None:
        return None
    folder = Path(assertion.place.path).parent
    return paths.resolved(named["path"], folder), named["function"] or _DEFAULT_FUNCTION


@lru_cache(maxsize=256)
def _inline(code: str) -> Callable[[str, dict[str, Any]], Any]:
    """A function of `output` and `context`. Raises SyntaxError."""
    namespace: dict[str, Any] = {name: __import__(name) for name in _MODULES}
    exec(compile(_function(code), _INLINE, "exec"), namespace)  # noqa: S102 - what --allow-python allows
    function: Callable[[str, dict[str, Any]], Any] = namespace["check"]
    return function


def _function(code: str) -> ast.Module:
    """`def check(output, context)` around an expression or statements; their lines stay what they are."""
    code = textwrap.dedent(code).strip("\n")
    module = ast.parse("def check(output, context): pass", _INLINE)
    (definition,) = module.body
    assert isinstance(definition, ast.FunctionDef)
    try:
        expression = ast.parse(code.strip(), _INLINE, mode="eval")
        definition.body = [ast.copy_location(ast.Return(expression.body), expression.body)]
    except SyntaxError:
        definition.body = ast.parse(code, _INLINE).body or definition.body
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


def _judged(result: Any, threshold: float | None) -> Finding:
    """As promptfoo takes it: a bool, a number (above 0, or at least the threshold), or pass, score and reason.

    What the result is made of may run code of the job, so nothing of it is left for later.
    """
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        result = dataclasses.asdict(result)
    if isinstance(result, bool):
        return Finding(result, lambda: f"it returned {result}")
    score = _number(result)
    if score is not None:
        holds = score > 0 if threshold is None else score >= threshold
        bound = "" if threshold is None else f", and the threshold is {threshold:g}"
        return Finding(holds, lambda: f"it returned {score:g}{bound}", score)
    if isinstance(result, dict):
        return _graded(result, threshold)
    raise UnjudgedError(f"the code returned {_short(result)}", hint=_RETURNS_HINT)


def _graded(result: dict[Any, Any], threshold: float | None) -> Finding:
    passed, reason = result.get("pass", result.get("pass_")), result.get("reason")
    score = _number(result.get("score"))
    if not isinstance(passed, bool) or (score is None) is not (result.get("score") is None):
        raise UnjudgedError(f"the code returned {_short(result)}", hint=_RETURNS_HINT)
    told = shortened(str(reason)) if reason else f"it returned {_short(result)}"
    if threshold is not None and score is not None and score < threshold:
        passed, told = False, f"its score {score:g} is below {threshold:g}: {told}"
    return Finding(passed, lambda: told, score)


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
    where = "the code" if filename == _INLINE else Path(filename).name
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


# --- what can be told beforehand -------------------------------------------------------------------------------------


def _fault(assertion: Assertion) -> Fault | None:
    problem = _problem(assertion)
    return Fault(problem) if problem else None


def _problem(assertion: Assertion) -> str | None:
    """Nothing is run for this: code and files are parsed."""
    try:
        where = _where(assertion)
    except ValueError as error:
        return f"{excerpt(text_of(assertion))} is not a usable path: {error}"
    if where is not None:
        return _problem_with_file(Path(assertion.place.path).parent, *where)
    try:
        compile(_function(text_of(assertion)), _INLINE, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"the code of `{assertion.name}` is not Python: {_wrong(error)}"
    return None


def _problem_with_file(folder: Path, file: Path, function: str) -> str | None:
    if not paths.is_allowed(file, [folder]):
        return f"{file.name} lies outside the job file's folder"
    try:
        tree = _parsed(file)
    except FileNotFoundError:
        return f"there is no file {file.name} (paths start at the job file's folder: {file})"
    except OSError as error:
        return f"{file.name} cannot be read: {error.strerror}"
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"{file.name} is not Python: {_wrong(error)}"
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    imports = any(isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.If | ast.Try) for node in tree.body)
    if function in names or (imports and not names):
        return None
    has = f"it has {', '.join(f'`{name}`' for name in names)}" if names else "it has none"
    return f"{file.name} has no function `{function}`: {has}"


def _parsed(file: Path) -> ast.Module:
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "it is no regular file")  # a pipe might never end
    return ast.parse(file.read_bytes(), file.name)


def _wrong(error: Exception) -> str:
    at = f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    return f"{error.msg if isinstance(error, SyntaxError) else error}{at}"


KINDS = {
    "python": Kind(
        check=_check,
        expectation=lambda assertion: f"to satisfy {excerpt(text_of(assertion).strip())}",
        fault=_fault,
        advice="write an expression over `output`, or lines that end with `return`, or `checks.py:function`",
    )
}
