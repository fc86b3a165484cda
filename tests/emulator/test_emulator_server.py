"""The server as a process and as a thread: start, stop, many at once, what it costs to import."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from botocore.eventstream import EventStreamBuffer

from runner.emulator import Settings, SettingsError, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.conftest import Post, Start

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
HELLO = b'{"messages": [{"role": "user", "content": [{"text": "Hello there"}]}]}'
SERVE = """
from runner.emulator import Settings, serve
serve(Settings(), ready=lambda url: print(url, flush=True))
print("stopped", flush=True)
"""


def test_the_front_page_needs_no_authorization(start: Start) -> None:
    url = start(secret_access_key="x")
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", "/")
    response = connection.getresponse()
    page = response.read().decode()
    connection.close()
    assert response.status == 200
    assert f"AWS_ENDPOINT_URL_BEDROCK_RUNTIME={url}" in page
    assert "ConverseStream" in page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_returns_on_a_signal(number: signal.Signals, post: Post, ask: Any) -> None:
    with subprocess.Popen([sys.executable, "-X", "dev", "-c", SERVE], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert post(url, ask()).status == 200
        process.send_signal(number)
        assert process.stdout.read() == "stopped\n"
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_a_port_in_use_is_said(start: Start) -> None:
    port = int(urlsplit(start()).port or 0)
    with pytest.raises(SettingsError, match=f"port {port} of 127.0.0.1 is in use"), running(Settings(port=port)):
        pass


def test_a_host_that_is_not_ours_is_said() -> None:
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:0: "), running(Settings(host="192.0.2.1")):
        pass


def test_nothing_is_left_running() -> None:
    before = threading.active_count()
    with running(Settings()) as url:
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection(urlsplit(url).netloc, timeout=5).connect()


@pytest.mark.parametrize("attempt", range(10))
def test_stopping_cuts_calls_in_flight(attempt: int) -> None:
    """Several times, since the call may be at any stage then: not yet accepted, being read, hanging."""
    with running(Settings(faults={"hang": 1})) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("POST", f"/model/{CLAUDE}/converse", HELLO, {"Authorization": "Bearer x"})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        connection.getresponse()
    connection.close()


def test_an_error_in_the_block_is_passed_on() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), running(Settings()):
        fail()


@pytest.fixture
def _many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 8192:
        pytest.skip(f"2,000 connections to ourselves need more than the {hard} files this machine allows")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("_many_files")
def test_two_thousand_calls_in_flight(start: Start, ask: Any) -> None:
    """They wait together: one after the other would outlast the time a test may take."""
    url = start(latency=1)

    async def every() -> list[int]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(number: int) -> int:
                headers = {"Authorization": "Bearer x"}
                async with session.post(f"{url}/model/{CLAUDE}/invoke", json=ask(f"{number}"), headers=headers) as got:
                    return got.status if f'"{number}' in (await got.json())["content"][0]["text"] else 0

            return await asyncio.gather(*(one(number) for number in range(2000)))

    assert asyncio.run(every()) == [200] * 2000


def test_the_log_has_a_line_for_each_request(start: Start, post: Post, ask: Any) -> None:
    lines: list[str] = []
    url = start(log=lines.append)
    post(url, ask())
    post(url, ask(typo=1))
    post(url, ask(), operation="invoke-with-response-stream", emulator="fault=cut")
    assert [line.partition(" ms ")[0].rsplit(" ", 1)[0] for line in lines] == [
        f"POST /model/{CLAUDE}/invoke 200",
        f"POST /model/{CLAUDE}/invoke 400",
        f"POST /model/{CLAUDE}/invoke-with-response-stream 200",
    ]
    assert "in=4 out=" in lines[0]
    assert lines[1].endswith(" ms ValidationException")
    assert "fault=cut" in lines[2]


def test_latency_by_header(start: Start, post: Post, ask: Any) -> None:
    slow = post(start(), ask(), emulator="latency=0.05")
    assert int(slow.headers["x-amzn-bedrock-invocation-latency"]) >= 50


def test_pace_by_header(start: Start) -> None:
    """The second event would come after an hour: what can be read at once is the first."""
    connection = http.client.HTTPConnection(urlsplit(start()).netloc, timeout=30)
    headers = {"Authorization": "Bearer x", "x-bedrock-emulator": "pace=3600"}
    connection.request("POST", f"/model/{CLAUDE}/converse-stream", HELLO, headers)
    buffer: Any = EventStreamBuffer()
    buffer.add_data(connection.getresponse().read1())
    assert [message.headers[":event-type"] for message in buffer] == ["messageStart"]
    connection.close()


def test_expect_continue(start: Start, ask: Any) -> None:
    address = urlsplit(start())
    raw = json.dumps(ask()).encode()
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as client:
        client.sendall(
            f"POST /model/{CLAUDE}/invoke HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
            f"Expect: 100-continue\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue")
        client.sendall(raw)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")


def test_replies_repeat_exactly(start: Start, post: Post, ask: Any) -> None:
    first, second = (post(start(), ask("Hello")).body for _ in range(2))
    assert first == second


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, runner.emulator; print(*sorted({'aiohttp', 'PIL', 'yaml', 'botocore'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == ""


def test_the_server_does_not_import_the_client() -> None:
    code = (
        "import sys, runner.emulator.server as s;"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in {'botocore', 'boto3', 'PIL'}"
        " or (name.startswith('runner.') and not name.startswith('runner.emulator'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == ""
