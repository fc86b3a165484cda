"""The type python: an expression, the body of a function, or a function of a file next to the job.

The code is the job author's own, and runs only where the command line allows it. It is not a template: what comes from
a row or a model reaches it as data, in `output` and `context`, and never becomes part of the code.
"""

from __future__ import annotations

import ast
import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner import paths
from runner.assertions import python_code, python_worker
from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, text_of
from runner.assertions.wording import excerpt, shortened
from runner.words import nearest

if TYPE_CHECKING:
    from runner.records import Assertion

_FILE = re.compile(r"(?:file://)?(?P<path>[^\n]+\.py)(?::(?P<function>\w+))?")
_DEFAULT_FUNCTION: Final = "get_assert"  # promptfoo's

_WORKER: Final = python_worker.Worker()


def _check(assertion: Assertion, answer: Answer) -> Finding:
    question = python_code.Question(
        code=text_of(assertion),
        where=_where(assertion),
        output=answer.output,
        context={
            "vars": dict(answer.vars),
            "latency_ms": answer.latency_ms,
            "first_token_ms": answer.first_token_ms,
            "cost_usd": answer.cost_usd,
            "stop_reason": answer.stop_reason,
        },
        threshold=assertion.threshold,
    )
    try:
        judged = _WORKER.ask(question)
    except python_code.UnusableError as error:
        raise UnjudgedError(error.message, hint=error.hint) from None
    return Finding(judged.holds, lambda: judged.found, judged.score)


def _where(assertion: Assertion) -> tuple[Path, str] | None:
    """The file and the function that a value names; None if it is code itself."""
    named = _FILE.fullmatch(text_of(assertion).strip())
    if named is None:
        return None
    folder = Path(assertion.place.path).parent
    return paths.resolved(named["path"], folder), named["function"] or _DEFAULT_FUNCTION


# --- what can be told beforehand -------------------------------------------------------------------------------------


def _fault(assertion: Assertion) -> Fault | None:
    """Nothing is run for this: code and files are parsed."""
    try:
        where = _where(assertion)
    except ValueError as error:
        return Fault(f"{excerpt(text_of(assertion))} is not a usable path: {error}")
    if where is not None:
        return _fault_of_file(Path(assertion.place.path).parent, *where)
    try:
        compile(python_code.parsed(text_of(assertion)), python_code.INLINE, "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Fault(f"the code of `{assertion.name}` is not Python: {_wrong(error)}")
    return None


def _fault_of_file(folder: Path, file: Path, function: str) -> Fault | None:
    if not paths.is_allowed(file, [folder]):
        return Fault(f"{file.name} lies outside the job file's folder", hint="move it there")
    try:
        tree = _parsed(file)
    except FileNotFoundError:
        return Fault(f"there is no file {file.name}", hint=f"paths start at the job file's folder: {file}")
    except OSError as error:
        return Fault(f"{file.name} cannot be read: {error.strerror}", hint="check the path and its permissions")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return Fault(f"{file.name} is not Python: {_wrong(error)}", hint=f"mend {file}")
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    imports = any(isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.If | ast.Try) for node in tree.body)
    if function in names or (imports and not names):
        return None
    has = f"it has {', '.join(f'`{name}`' for name in names)}" if names else "it has none"
    meant = nearest(function, names) or (names[0] if names else "NAME")
    return Fault(f"{file.name} has no function `{function}`: {has}", hint=f"name the function: `{file.name}:{meant}`")


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
        expectation=lambda assertion: f"to satisfy `{shortened(text_of(assertion).strip())}`",
        fault=_fault,
        advice="write an expression over `output`, or lines that end with `return`, or `checks.py:function`",
    )
}
