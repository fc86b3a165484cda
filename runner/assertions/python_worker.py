"""The process in which the code of jobs runs: both its ends.

So code that never ends, or that ends its process, costs one verdict and not the run. The process is started when code
is first asked, and kept. It is in a session of its own: Ctrl-C reaches the run, which ends it.

Questions go to it as pickles. What comes back is JSON, one object at a time: what the code prints, then what it says.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from runner.assertions import python_code
from runner.assertions.python_code import Judged, Question, UnusableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

SECONDS: Final = 30.0  # for one question; the first may well import libraries and load a model

_LEAVING_SECONDS: Final = 1.0  # for an idle process to end in order
_SLOW_HINT = "look for a loop that does not end, or have the code do less"
_ENDED_HINT = "have the code return its verdict: `os._exit`, a library that crashes or a lack of memory ends a process"


# --- this end --------------------------------------------------------------------------------------------------------


class Worker:
    """Asks the process, one question at a time; starts it anew where it has ended."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._closed = False

    def ask(self, question: Question) -> Judged:
        """What the code says. Raises UnusableError, also where it takes more than SECONDS or ends its process."""
        asked = pickle.dumps((_folder(), SECONDS, question))
        with self._turn:
            connection = self._started()
            try:
                return self._answer(connection, asked)
            except UnusableError:
                raise
            except BaseException:  # of this end: what the process still does is nobody's answer
                self._end()
                raise

    def close(self) -> None:
        """End the process, and start none any more. One that is idle may end in order, as code may ask for."""
        self._closed = True
        if self._turn.acquire(blocking=False):
            if self._connection is not None and self._process is not None:
                self._connection.close()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LEAVING_SECONDS)
            self._turn.release()
        self._kill()

    def _started(self) -> Connection:
        if self._closed:
            raise UnusableError("the run has ended", "run the same command again")
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        self._end()
        self._process, self._connection = _start()
        atexit.unregister(self.close)
        atexit.register(self.close)
        return self._connection

    def _answer(self, connection: Connection, asked: bytes) -> Judged:
        deadline = monotonic() + SECONDS
        try:
            connection.send_bytes(asked)
            while (left := deadline - monotonic()) > 0 and connection.poll(left):
                told = json.loads(connection.recv_bytes())
                if "said" in told:
                    _say(told["said"])
                elif "message" in told:
                    raise UnusableError(**told)
                else:
                    return Judged(**told)
        except (EOFError, OSError):
            raise UnusableError(f"the code ended its process ({self._ending()})", _ENDED_HINT) from None
        self._end()
        raise UnusableError(f"the code took longer than {SECONDS:g}s", _SLOW_HINT)

    def _ending(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVING_SECONDS)
        code = self._process.returncode
        self._end()
        if code is None:
            return "it closed what connects it to the run"
        with suppress(ValueError):  # a signal without a name
            return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"

    def _end(self) -> None:
        self._kill()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    def _kill(self) -> None:
        """With all that it has started, unless it has ended by itself."""
        if self._process is None or self._process.poll() is not None:
            return
        with suppress(ProcessLookupError, PermissionError):  # it has just ended; macOS says so in another way
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _start() -> tuple[subprocess.Popen[bytes], Connection]:
    """A process that imports from where this one does, and its connection. Raises UnusableError."""
    from multiprocessing import Pipe

    try:
        ours, theirs = Pipe()
        with theirs:
            return _process(theirs.fileno()), ours  # which closes itself where it cannot be given
    except OSError as error:
        message = f"no process for the code could be started: {error.strerror}"
        raise UnusableError(message, "make room for one more process, and run the same command again") from None


def _process(number: int) -> subprocess.Popen[bytes]:
    """The process, which answers on file descriptor `number`."""
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({number})"
    return subprocess.Popen(  # noqa: S603 - this very Python
        [sys.executable, "-c", program], stdin=subprocess.DEVNULL, pass_fds=[number], start_new_session=True
    )


def _folder() -> Path:
    """Where code runs. Raises UnusableError."""
    try:
        return Path.cwd()
    except OSError:
        raise UnusableError("the folder of the run is not there any more", "run it in a folder that stays") from None


def _say(text: str) -> None:
    """To whatever standard error is just now: above a progress bar, or in what pytest shows of a test."""
    with suppress(OSError, ValueError):  # nobody reads it
        if sys.stderr is not None:
            sys.stderr.write(text)


# --- the other end ---------------------------------------------------------------------------------------------------


class _Said(io.RawIOBase):
    """What code prints, as a file that is written."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = bytes(data)
        self._send({"said": written.decode(errors="replace")})
        return len(written)

    def fileno(self) -> int:
        return 2


def serve(number: int) -> None:
    """Answer the questions that come from file descriptor `number`, until nobody can ask any more."""
    from multiprocessing.connection import Connection

    os.set_inheritable(number, False)  # noqa: FBT003 - a program that outlives this process must not hide its end
    connection, turn = Connection(number), threading.Lock()

    def send(told: dict[str, Any]) -> None:
        with turn:  # threads of the code may print
            connection.send_bytes(json.dumps(told).encode())

    with suppress(OSError):  # there is no standard error
        os.dup2(2, 1)  # rows may go to standard output: programs that code starts must not write there
    # Unbuffered, as with `python -u`: what is printed before code hangs tells where.
    sys.stdout = sys.stderr = io.TextIOWrapper(_Said(send), "utf-8", "backslashreplace", write_through=True)
    os.register_at_fork(after_in_child=lambda: _detach(connection))
    with suppress(EOFError, OSError):
        while True:
            folder, seconds, question = pickle.loads(connection.recv_bytes())  # noqa: S301 - of the run itself
            os.chdir(folder)
            signal.setitimer(signal.ITIMER_REAL, 2 * seconds)  # the run may have been killed: then nobody else ends it
            told = _told(question)
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(told)


def _detach(connection: Connection) -> None:
    """Have a process that code forks neither answer nor write between the lines of this one."""
    connection.close()
    sys.stdout = sys.stderr = os.fdopen(2, "w", 1, "utf-8", "backslashreplace", closefd=False)


def _told(question: Question) -> dict[str, Any]:
    try:
        return asdict(python_code.judge(question))
    except UnusableError as error:
        return {"message": error.message, "hint": error.hint}
