"""Whether and why a run stops before its end; signals are one reason."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runner.errors import ExitCode, FailureCode, SignalledError, StoppedError
from runner.paths import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from runner.errors import CallError, Place
    from runner.records import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class StopReason:
    """Why a run ends early.

    `cuts_calls`: those in flight get only a moment, as after Ctrl-C. `moot_when_done`: if every case has its row all
    the same, as may be with a budget, nothing was stopped.
    """

    exit_code: ExitCode
    message: str
    hint: str | None = None
    place: Place | None = None  # in a job file, where that is what has to be mended
    cuts_calls: bool = False
    moot_when_done: bool = False


def account_stop(error: CallError, job: Job | None = None) -> StopReason:
    """The stop for a failure that every other call would meet too, or every other one to the model of `job`."""
    message = f"{error.code.value}: {error.message}"
    if job is None or error.code is FailureCode.CREDENTIALS:
        return StopReason(exit_code=ExitCode.STOPPED, message=message, hint=error.hint)
    place = replace(job.model_place, path=shown(job.path))
    about = f"model {job.model} of {job.name}, {place.path}:{place.line}"
    return StopReason(exit_code=ExitCode.STOPPED, message=f"{message} ({about})", hint=error.hint, place=place)


class Stop:
    """The state of stopping. The first reason counts, but for a signal, which outranks the others."""

    def __init__(self) -> None:
        self.reason: StopReason | None = None
        self._requested = asyncio.Event()
        self._cutting = asyncio.Event()
        self._at_once = asyncio.Event()
        self._callbacks: list[Callable[[], None]] = []

    def request(self, reason: StopReason) -> None:
        """Start nothing new. A second request that cuts calls ends the moment they were given."""
        if self.reason is None:
            self.reason = reason
        elif self.reason.cuts_calls:
            if reason.cuts_calls:
                self._at_once.set()
        elif reason.cuts_calls:
            both = f"{reason.message}, after: {self.reason.message}"
            self.reason = replace(reason, message=both, hint=self.reason.hint, place=self.reason.place)
        if not self._requested.is_set():
            self._requested.set()
            for callback in self._callbacks:
                callback()
        if reason.cuts_calls:
            self._cutting.set()

    def when_requested(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the run begins to stop."""
        self._callbacks.append(callback)

    def check(self) -> None:
        """Raise StoppedError if the run is stopping."""
        if self.reason is not None:
            raise StoppedError

    async def sleep(self, seconds: float) -> None:
        """asyncio.sleep that a stop ends with StoppedError."""
        self.check()
        try:
            await asyncio.wait_for(self._requested.wait(), seconds)
        except TimeoutError:
            return
        raise StoppedError

    async def cutting(self) -> None:
        """Wait until calls in flight are to be cut, after a moment."""
        await self._cutting.wait()

    async def at_once(self) -> None:
        """Wait until calls in flight are to be cut without another moment."""
        await self._at_once.wait()


_SIGNALS = {
    signal.SIGINT: StopReason(exit_code=ExitCode.INTERRUPTED, message="interrupted", cuts_calls=True),
    signal.SIGTERM: StopReason(exit_code=ExitCode.TERMINATED, message="terminated", cuts_calls=True),
    signal.SIGHUP: StopReason(exit_code=ExitCode.HUNG_UP, message="the terminal was closed", cuts_calls=True),
}


@contextmanager
def on_signals(stop: Stop, tell: Callable[[StopReason], None]) -> Iterator[None]:
    """Within this context a signal stops the run in order, and the second one at once; `tell` hears of the first.

    A signal that was ignored from the start, as under nohup or in a background job, stays ignored. Signals come to the
    main thread: a run in another one is stopped by whoever waits for it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def stopping(reason: StopReason) -> None:
        first = stop.reason is None or not stop.reason.cuts_calls
        stop.request(reason)  # before anything is said: there may be nobody left to say it to
        if first:
            tell(reason)

    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.getsignal(number) for number in heeded}
    for number in heeded:
        loop.add_signal_handler(number, stopping, _SIGNALS[number])
    try:
        yield
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def raise_on_signals() -> None:
    """Have SIGTERM and SIGHUP raise SignalledError from now on, as Ctrl-C raises KeyboardInterrupt: for the times of a
    run when no call is to be stopped in order. One that is ignored stays ignored.
    """

    def stopping(number: int, _: FrameType | None) -> None:
        reason = _SIGNALS[signal.Signals(number)]
        raise SignalledError(reason.message, reason.exit_code)

    for number in _SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, stopping)
