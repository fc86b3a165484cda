"""What is wrong, told as pytest tells it: why in one line for its summary, and above that the block of the terminal."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pytest

    from runner.errors import Problem
    from runner.thresholds import ThresholdVerdict


class NotPassedError(AssertionError):
    """A test has not passed. `block` is all there is to say; `reason` says why in one line, about a line of a file.

    Without a place it is about the line of the test that it went through.
    """

    def __init__(self, block: str, *, reason: str, place: tuple[Path, int] | None = None) -> None:
        self.block = harmless(block)
        self.reason = harmless(reason)
        super().__init__(self.block)
        self.place = place


def shown(excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """What a report shows of a NotPassedError: no traceback, since no code of the project is at fault."""
    error = excinfo.value
    assert isinstance(error, NotPassedError)
    told = excinfo.getrepr(style="value", chain=False)
    if told.reprcrash is not None:  # what --tb=line, the short summary and JUnit's `message` are made of
        told.reprcrash.message = error.reason
        if error.place:
            path, told.reprcrash.lineno = error.place
            told.reprcrash.path = os.fspath(path)
    return told


def of_problems(problems: Sequence[Problem]) -> NotPassedError:
    """What is wrong with a job, as the command prints it."""
    from runner.console import one_line, render_problems

    worded = [replace(each, hint=each.hint and in_pytest(each.hint)) for each in problems]
    first = worded[0]
    where = "" if not first.place else f"line {first.place.line}: " if first.place.line else f"{first.place}: "
    return NotPassedError(render_problems(worded), reason=where + one_line(first.message) + and_more(worded))


def of_thresholds(job: str, broken: Sequence[ThresholdVerdict], *, path: Path | None = None) -> NotPassedError:
    """The thresholds of a job that do not hold, at least one. `path` is that of the job file, if it is the test."""
    from runner.console import broken_line

    block = "\n".join(broken_line(job, verdict) for verdict in broken)
    reason = broken[0].told + and_more(broken)
    return NotPassedError(in_pytest(block), reason=in_pytest(reason), place=(path, broken[0].line) if path else None)


def harmless(told: str) -> str:
    """What is told as it may be printed: what comes from a model or a service in it is read by nobody but people."""
    from runner.console import no_command, plain

    return no_command(plain(told))


def and_more(told: Sequence[object]) -> str:
    """What follows the first one where there is room for one only."""
    return f" (and {len(told) - 1} more)" if len(told) > 1 else ""


# --- options ---------------------------------------------------------------------------------------------------------

# Options of the command, and where pytest has what they are for.
_NAMES: Final[Mapping[str, str]] = {
    "--allow-dir": "the ini option bedrock_allow_dirs:",
    "--allow-python": "--bedrock-allow-python",
    "--fresh": "--bedrock-fresh",
    "--local": "--bedrock-local",
    "--prices FILE": "the ini option bedrock_prices",
    "--replay": "--bedrock-replay",
    "--rpm": "`rate.requests_per_minute`",
    "--tpm": "`rate.tokens_per_minute`",
    "-j": "`max_concurrency`",
    "-o": "--bedrock-output",
    "with --profile": "with AWS_PROFILE",
}
_OPTION = re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, _NAMES))})(?![\w-])")


def in_pytest(told: str) -> str:
    """What the command tells, with pytest's names for its options."""
    return _OPTION.sub(lambda found: _NAMES[found[0]], told)
