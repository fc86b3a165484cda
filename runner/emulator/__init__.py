"""A local Bedrock: a real HTTP server on loopback that speaks Bedrock's protocol, quotas and faults.

No model is behind it: replies are deterministic, say that they are from the emulator, and answer from the request. It
shares no code with the rest of `runner`, so that the client cannot be tested against its own mistakes.

    with running(Settings(requests_per_minute=60)) as url:
        boto3.client("bedrock-runtime", endpoint_url=url)

One call can be steered by a header, which outranks the settings:

    x-bedrock-emulator: fault=throttle; latency=0.2; pace=0.01
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.emulator.faults import FAULTS
from runner.emulator.settings import Settings, SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FAULTS", "Settings", "SettingsError", "running", "serve"]


@contextmanager
def running(settings: Settings) -> Iterator[str]:
    """Serve from a thread of its own while the block runs. Yields the base URL, such as `http://127.0.0.1:49152`.

    When the block ends, calls still in flight are cut and every socket is closed. Raises SettingsError when the port is
    taken or the replies file is wrong.
    """
    from runner.emulator import server  # aiohttp takes 0.2 s to import: only those who serve pay for it

    with server.in_thread(settings) as url:
        yield url


def serve(settings: Settings, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM, then return. `ready` gets the base URL once connections are accepted.

    Must be called from the main thread, which is where signals arrive. Raises SettingsError as `running` does.
    """
    from runner.emulator import server

    server.in_foreground(settings, ready=ready)
