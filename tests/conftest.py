"""What every test starts from: no AWS set-up, no proxy and an empty HOME, whatever the machine has."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import pytest
from command_server import CommandServer
from hostile import HOSTILE
from jsonschema import Draft202012Validator

from runner.emulator import Settings, running
from runner.records import Row
from runner.results.lines import to_line
from runner.schema import load as load_schema

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from report_pages import Open, Opened


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are cores: most tests wait for processes that they have started."""
    return 2 * (os.cpu_count() or 1)


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes that tests start share bytecode: to compile it takes a third of what a short command does."""
    cache = getattr(config, "cache", None)  # there is none with `-p no:cacheprovider`
    if cache is not None and os.environ.pop("PYTHONDONTWRITEBYTECODE", None) is not None:
        os.environ["PYTHONPYCACHEPREFIX"] = str(cache.mkdir("bytecode"))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their parameter: some hold the time at which they were made, and workers must agree on names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty HOME. AWS config files are looked for in its folder `.aws`, which does not exist."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GITHUB_")) or name.lower().endswith("_proxy") or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / ".aws" / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / ".aws" / "credentials"))
    return home


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium to look at pages with."""
    from playwright.sync_api import Error, sync_playwright

    installed = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=installed)
        except Error as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no Chromium to look at the page with: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture(scope="module")
def tab(browser: Browser) -> Opened:
    """A tab for the reports of many tests."""
    from report_pages import Opened

    return Opened(browser.new_context(viewport={"width": 1280, "height": 800}))


@pytest.fixture
def opened(browser: Browser, tab: Opened) -> Iterator[Open]:
    """Open reports. Whatever a test does with them, the network must stay silent, and no error be told."""
    tabs = [tab]

    def start(path: Path, fragment: str = "", **options: Any) -> Opened:
        if options:
            tabs.append(type(tab)(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})))
        tabs[-1].show(path, fragment)
        return tabs[-1]

    yield start
    for each in tabs:
        assert each.page.evaluate("window.__pwned") is None
        noise = [*each.noise]
        each.noise.clear()
        assert noise == []
    for each in tabs[1:]:
        each.page.context.close()
    tab.page.emulate_media(media="screen")


class BedrockRun(Protocol):
    """Runs the command in a process of its own, without a terminal, in the test's folder."""

    def __call__(
        self, *args: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def command_server() -> Iterator[CommandServer]:
    with CommandServer() as server:
        yield server


@pytest.fixture
def bedrock_run(tmp_path: Path, command_server: CommandServer) -> BedrockRun:
    def run(
        *args: str | Path, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = command_server.run(
            [*map(str, args)], folder=tmp_path, env={**os.environ, **(env or {})}, stdin=stdin, timeout=100
        )
        for path in tmp_path.glob("outputs/*.jsonl"):
            read_rows(path.read_text())
        if "-o" in args and "-" in args:
            read_rows(done.stdout)
        if "--json" in args and '"bedrock-run/summary/' in done.stdout:
            _SUMMARY.validate(json.loads(done.stdout))
        if "--json" in args and '"bedrock-run/preflight/' in done.stdout:
            _PREFLIGHT.validate(json.loads(done.stdout))
        return done

    return run


class StartRun(Protocol):
    """Starts the command as `bedrock_run` does, and leaves it running."""

    def __call__(
        self, *args: str | Path, env: Mapping[str, str], patch: str = "", **options: Any
    ) -> subprocess.Popen[str]: ...


@pytest.fixture
def start_run(tmp_path: Path) -> Iterator[StartRun]:
    """Processes that a test leaves behind are killed. `patch` is Python that the process runs first."""
    with ExitStack() as processes:

        def start(*args: str | Path, env: Mapping[str, str], patch: str = "", **options: Any) -> subprocess.Popen[str]:
            module = f"{patch}\nimport runpy; runpy.run_module('runner', run_name='__main__', alter_sys=True)"
            process = subprocess.Popen(
                [sys.executable, *(["-c", module] if patch else ["-m", "runner"]), *map(str, args)],
                cwd=tmp_path,
                env={**os.environ, **env},
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            processes.enter_context(process)
            processes.callback(process.kill)
            return process

        yield start


def interrupt_twice(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, and again once a run has told of the first: two at once are one."""
    assert process.stderr is not None
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if line.startswith("interrupted: stopping"):
            break
    process.send_signal(signal.SIGINT)


class OnTerminal(Protocol):
    """Runs the command with a terminal as its standard streams; its exit code and all that the terminal got."""

    def __call__(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, columns: int = 200
    ) -> tuple[int, str]: ...


@pytest.fixture
def on_terminal(tmp_path: Path) -> OnTerminal:
    def run(*arguments: str | Path, env: Mapping[str, str] | None = None, columns: int = 200) -> tuple[int, str]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **(env or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux: all other ends are closed
                break
            if not data:
                break
            seen += data
        os.close(ours)
        return process.wait(timeout=60), seen.decode()

    return run


_MIXED_JOB = """\
name: mixed
model: amazon.nova-lite-v1:0
prompt: "{{ ask }} {{ tone }}"
matrix: {tone: [dry, warm]}
repeat: 2
min_pass: 1
tags: [smoke]
cases:
  - {id: right, vars: {ask: right, size: 3}}
  - {id: wrong, vars: {ask: wrong, size: 2.5}}
  - {id: differs, vars: {ask: differs}}
  - {id: refused, vars: {ask: refused}}
  - {id: flaky, vars: {ask: flaky}}
  - {id: hostile, vars: {ask: hostile}}
assert:
  - {type: contains, value: Paris}
  - {type: not-contains, value: Rome}
"""
_MIXED_REPLIES = [
    {"match": "right|differs dry", "reply": "It is Paris."},
    {"match": "wrong", "reply": "London, not Rome."},
    {"match": "differs warm", "reply": "London."},
    {"match": "refused", "error": "ValidationException", "status": 400, "message": "too <b>bold</b>"},
    {"match": "flaky", "reply": ["London", "Paris", "London", "Paris"]},
    {"match": "hostile", "reply": "\x1b[2J]]> <script>\n::error::x ##[error]y @team #1 `a` | ![i](http://x)"},
]


@pytest.fixture(scope="session")
def mixed_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rows of a real run of a job with a matrix of two variants, each case asked twice, of which one must hold.

    `right` passes, `flaky` in its second repetition, `wrong` and `hostile` fail, `refused` is in error, `differs`
    passes in one variant only. The job file is `job.yaml`, its assertions stand in lines 16 and 17.
    """
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "job.yaml").write_text(_MIXED_JOB)
    (folder / "replies.yaml").write_text(json.dumps(_MIXED_REPLIES))
    command = [sys.executable, "-m", "runner", "--local", "--replies", "replies.yaml", "-j", "1", "-q", "job.yaml"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GITHUB_"))}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3, done.stderr
    path = folder / "outputs" / "mixed.jsonl"
    read_rows(path.read_text())
    return path


@pytest.fixture
def at_the_job(mixed_rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder in which the job of `mixed_rows` was run: reports name its file from where they are made."""
    monkeypatch.chdir(mixed_rows.parents[1])


class Tolerant(NamedTuple):
    """The folder of a run whose threshold tolerates the one case that failed, and what it said."""

    folder: Path
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def tolerant(tmp_path_factory: pytest.TempPathFactory) -> Tolerant:
    """It passed. Its workspace is the folder above, and has its step summary in `step.md`; `r.*` are its reports."""
    folder = tmp_path_factory.mktemp("workspace") / "prompts"
    folder.mkdir()
    (folder / "job.yaml").write_text(
        "prompt: say {{ n }}\nmodel: amazon.nova-lite-v1:0\nthresholds: {pass_rate: '>= 0.5'}\n"
        "cases: [{id: good, vars: {n: one}}, {id: bad, vars: {n: two}}]\nassert: [{type: contains, value: one}]\n"
    )
    reports = ("--report-junit", "r.xml", "--report-html", "r.html", "--report-markdown", "r.md")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GITHUB_"))}
    env |= {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(folder.parent), "GITHUB_STEP_SUMMARY": "step.md"}
    command = [sys.executable, "-m", "runner", "--local", "-q", *reports, "job.yaml"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return Tolerant(folder, done)


def hostile_row(row: dict[str, Any], text: str) -> dict[str, Any]:
    """The row with `text` wherever a job, a model or AWS decides what stands there; names hold only its beginning.

    The cases of the mixed job become three, each with two variants that differ.
    """
    name = text[:1000]
    case, variant = divmod(row["index"] // 2, 2)
    tone = f"{name}{variant}"
    verdicts = [{**each, "reason": text, "expected": text, "actual": text, "value": name} for each in row["assertions"]]
    attempts = [{**each, "message": text, "request_id": name} for each in row["attempts"]]
    error = row["error"] and {**row["error"], "message": text, "hint": name, "request_id": name}
    return {
        **row,
        "job": f"{name}mixed",
        "case": f"{name}{case} [tone={tone}]",
        "output": None if row["output"] is None else text,
        "model": name or "empty",
        "region": name or "empty",
        "vars": {"ask": name, name: [name]},
        "matrix": {"tone": tone},
        "tags": [name],
        "stop_reason": name,
        "assertions": verdicts,
        "attempts": attempts,
        "error": error,
        "source": {**row["source"], "path": name or "empty", "row": name},
    }


_ROW = Draft202012Validator(load_schema("result"))
_SUMMARY = Draft202012Validator(load_schema("summary"))
_PREFLIGHT = Draft202012Validator(load_schema("preflight"))


def read_rows(text: str) -> list[dict[str, Any]]:
    """The rows of a text of whole lines, each of them checked against the published schema."""
    found = [json.loads(line) for line in text.split("\n")[:-1]]
    for row in found:
        _ROW.validate(row)
    return found


class Bedrock(NamedTuple):
    """An emulator and the environment in which clients call it. `log` has a line for each request."""

    url: str
    env: dict[str, str]
    log: list[str]


class StartBedrock(Protocol):
    def __call__(self, replies: str = "", **settings: Any) -> Bedrock: ...


@pytest.fixture
def bedrock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartBedrock]:
    """Start emulators that stop with the test. `replies` is the text of a replies file."""
    with ExitStack() as emulators:

        def start(replies: str = "", **settings: Any) -> Bedrock:
            if replies:
                settings["replies"] = tmp_path_factory.mktemp("replies") / "replies.yaml"
                settings["replies"].write_text(replies)
            log: list[str] = []
            settings |= {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "a-secret-that-no-row-may-hold"}
            url = emulators.enter_context(running(Settings(log=log.append, **settings)))
            env = {
                "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
                "AWS_ACCESS_KEY_ID": settings["access_key_id"],
                "AWS_SECRET_ACCESS_KEY": settings["secret_access_key"],
            }
            return Bedrock(url, env, log)

        yield start


class WriteJob(Protocol):
    def __call__(self, text: str, name: str = "job.yaml") -> Path: ...


@pytest.fixture
def write_job(tmp_path: Path) -> WriteJob:
    """Write a job file into the test's folder. A text without a `model:` gets one of Anthropic's."""

    def write(text: str, name: str = "job.yaml") -> Path:
        text = textwrap.dedent(text)
        if "model:" not in text:
            text = f"model: anthropic.claude-3-5-sonnet-20241022-v2:0\n{text}"
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Read the rows of a job, each of them checked against the published schema."""

    def read(name: str = "job", folder: str = "outputs") -> list[dict[str, Any]]:
        return read_rows((tmp_path / folder / f"{name}.jsonl").read_text())

    return read


Untouched = Callable[[Path], AbstractContextManager[None]]


@pytest.fixture
def untouched() -> Untouched:
    """See that nothing in a folder is made, changed or removed meanwhile, not even for a moment."""

    @contextmanager
    def check(folder: Path) -> Iterator[None]:
        before = _state(folder)
        yield
        assert _state(folder) == before

    return check


def _state(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Of a folder and all that is in it: inode, time of the last change, content. Empty if there is no such folder."""
    paths = [folder, *folder.rglob("*")] if folder.exists() else []
    stats = [(path, path.stat()) for path in paths]
    return {path: (stat.st_ino, stat.st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path, stat in stats}


class Edited(Protocol):
    def __call__(self, change: Callable[[dict[str, Any]], dict[str, Any]], chosen: slice = ...) -> Path: ...


@pytest.fixture
def edited(mixed_rows: Path, tmp_path: Path) -> Edited:
    """Write the mixed rows, or those chosen, with a change to each, into a file of their own."""

    def edit(change: Callable[[dict[str, Any]], dict[str, Any]], chosen: slice = slice(None)) -> Path:
        found = [json.loads(line) for line in mixed_rows.read_text().splitlines()[chosen]]
        path = tmp_path / "edited.jsonl"
        path.write_bytes(b"".join(to_line(cast("Row", change(row))) for row in found))
        return path

    return edit


@pytest.fixture(params=HOSTILE, ids=range(len(HOSTILE)))
def hostile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def edited_hostile(hostile: str, edited: Edited) -> Path:
    """One of the mixed rows for each of the six cases, with the hostile text everywhere."""
    return edited(lambda row: hostile_row(row, hostile), slice(None, None, 4))
