"""A server for benchmarks.py, fast enough not to be what is measured: any request gets the same reply of Claude.

It prints its URL, and when it is terminated what it has seen, as JSON. Times are those of `time.monotonic`, which all
processes of a machine share.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from math import inf, log

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REPLY = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": " ".join(f"word{number}" for number in range(20))}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 12, "output_tokens": 60},
}
_REFUSAL = {"message": "Too many requests, please wait before trying again."}


@dataclass
class Seen:
    """What came to the server."""

    first: float = 0.0  # when the first request came
    granted: int = 0
    throttled: int = 0
    most_in_flight: int = 0


class Bucket:
    """A quota: a token bucket that holds a second's worth and starts full."""

    def __init__(self, per_minute: float) -> None:
        self._per_second = self._level = per_minute / 60
        self._at = time.monotonic()

    def take(self, now: float) -> bool:
        self._level = min(self._per_second, self._level + (now - self._at) * self._per_second)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


def latencies(median: float, sigma: float) -> Iterator[float]:
    """Seconds that the calls take, in the order in which they come: lognormal, and the same in each run."""
    rng = random.Random(1)
    while True:
        yield rng.lognormvariate(log(median), sigma) if sigma else median


class Service:
    """What all connections share."""

    def __init__(self, *, bucket: Bucket | None, latency: Iterator[float]) -> None:
        self.seen = Seen()
        self._bucket = bucket
        self._latency = latency
        self._in_flight = 0

    def take(self, send: asyncio.Transport) -> None:
        """A request has come: answer it when it is time."""
        now = time.monotonic()
        self.seen.first = self.seen.first or now
        if self._bucket is not None and not self._bucket.take(now):
            self.seen.throttled += 1
            send.write(_THROTTLED)
            return
        self.seen.granted += 1
        self._in_flight += 1
        self.seen.most_in_flight = max(self.seen.most_in_flight, self._in_flight)
        asyncio.get_running_loop().call_later(next(self._latency), self._reply, send)

    def _reply(self, send: asyncio.Transport) -> None:
        self._in_flight -= 1
        send.write(_GRANTED)


class Connection(asyncio.Protocol):
    """Requests one after another, each known by its Content-Length."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        length = _LENGTH.search(self._received, 0, head) if head >= 0 else None
        if length and len(self._received) >= head + 4 + int(length[1]):
            self._received.clear()
            self._service.take(self._transport)


def _response(status: str, document: object, *headers: str) -> bytes:
    body = json.dumps(document)
    lines = [
        f"HTTP/1.1 {status}",
        "Content-Type: application/json",
        "x-amzn-RequestId: 1c2f0d0e-0000-4000-8000-000000000001",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", body]).encode()


_GRANTED = _response("200 OK", _REPLY)
_THROTTLED = _response("429 Too Many Requests", _REFUSAL, "x-amzn-ErrorType: ThrottlingException")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds, the median")
    parser.add_argument("--sigma", type=float, default=0.0, help="of the logarithm of latencies")
    parser.add_argument("--rpm", type=float, default=inf, help="requests per minute that are granted")
    options = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    service = Service(
        bucket=Bucket(options.rpm) if options.rpm < inf else None, latency=latencies(options.latency, options.sigma)
    )
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Connection, service), "127.0.0.1", 0, backlog=4096)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await ended.wait()
    print(json.dumps(asdict(service.seen)), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
