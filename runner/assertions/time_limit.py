"""The second that an assertion may take.

Replies are judged on the event loop (but with `python`, in a thread), and while one is judged no signal is read and no
other reply is kept. So whatever may take longer than it takes to read the output looks at this clock as it goes. The
code of `python` cannot: it has a process and a limit of its own, see python_worker.py.

Between two looks nothing is cut off: one pass over a large output may take longer, as may a busy machine, since `regex`
counts the processor's time. And a case of many assertions may take as many seconds.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from runner.assertions.kinds import UnjudgedError

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS: Final = 1.0  # for one assertion; each part of a set has its own

_deadline: ContextVar[float] = ContextVar("deadline")  # on the monotonic clock, of the check under way

_P = ParamSpec("_P")
_T = TypeVar("_T")


def limited(check: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let one call of `check` take SECONDS, with all that it calls."""

    @wraps(check)
    def within(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        token = _deadline.set(monotonic() + SECONDS)
        try:
            return check(*args, **kwargs)
        finally:
            _deadline.reset(token)

    return within


def left() -> float:
    """Seconds that the check under way may still take; all of them where none is. Below zero when it is over time."""
    now = monotonic()
    return _deadline.get(now + SECONDS) - now


def exceeded(what: str, hint: str | None = None) -> UnjudgedError:
    """The error of a check that is over time."""
    return UnjudgedError(f"{what} took longer than {SECONDS:g}s", hint=hint)
