"""Runs the command for tests: a process that has imported everything forks one for each run.

To start Python and import what a run needs takes three times as long as most runs. Each run is a process of its own all
the same, with its own standard streams, folder and environment, and ends as any other: by its exit code or a signal.
Tests that send signals, need a terminal or change how Python starts begin `python -m runner` themselves.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

_IMPORTED = (
    "boto3",
    "runner.running.run",
    "runner.emulator.server",
    "runner.cli.run",
    "runner.report",
    "runner.comparing",
)


class CommandServer(AbstractContextManager["CommandServer"]):
    """The server, as tests use it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._one_at_a_time = threading.Lock()

    def run(
        self, arguments: Sequence[str], *, folder: Path, env: Mapping[str, str], stdin: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run `python -m runner` with these arguments in a folder, to its end."""
        streams = Path(folder.parent, f"{folder.name}.streams")
        streams.mkdir(exist_ok=True)
        (streams / "stdin").write_text(stdin or "")
        request = {"arguments": list(arguments), "folder": str(folder), "env": dict(env), "streams": str(streams)}
        with self._one_at_a_time:
            returncode = self._ask(request, timeout)
        stdout, stderr = ((streams / name).read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(list(arguments), returncode, stdout, stderr)

    def _ask(self, request: dict[str, Any], timeout: float) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        late = threading.Timer(timeout, self._process.kill)
        late.start()
        try:
            return int(self._process.stdout.readline())
        finally:
            late.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


def serve() -> dict[str, Any]:
    """Fork for each request. Returns the request in the process that is to run it, and never in the server."""
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            request: dict[str, Any] = json.loads(line)
            return request
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Make this the process that the request asks for."""
    streams = Path(request["streams"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        flags = os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        opened = os.open(streams / name, flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - of the process
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    sys.argv = ["-m", *request["arguments"]]


if __name__ == "__main__":
    for module in _IMPORTED:
        __import__(module)
    become(serve())
    runpy.run_module("runner", run_name="__main__", alter_sys=True)
