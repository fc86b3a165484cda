"""Client CPU per call, beside a bare boto3 loop in the same run: `python tests/benchmarks.py`.

Each contender is a process of its own and makes the same calls to one emulator in another process. CPU is user and
system time of the contender's process; what starting costs is taken off by running each with one call as well. Machines
are noisy, so contenders take turns, the median counts, and only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODEL = "anthropic.claude-3-5-sonnet-20241022-v2:0"
EVENTS = 200  # text events of one streamed reply

BARE_LOOP = f"""
import json, sys, boto3
client = boto3.client("bedrock-runtime", region_name="us-east-1")
calls, stream = int(sys.argv[1]), sys.argv[2] == "stream"
for number in range(calls):
    body = json.dumps({{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024,
                       "messages": [{{"role": "user", "content": f"Question number {{number}}?"}}]}})
    if stream:
        response = client.invoke_model_with_response_stream(modelId="{MODEL}", body=body)
        text = ""
        for event in response["body"]:
            chunk = json.loads(event["chunk"]["bytes"])
            if chunk["type"] == "content_block_delta":
                text += chunk["delta"]["text"]
    else:
        response = client.invoke_model(modelId="{MODEL}", body=body)
        text = json.loads(response["body"].read())["content"][0]["text"]
    assert text
"""


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[int], list[str]]  # the command line that makes so many calls


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as url:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "NO_PROXY": "*",
        }
        print(f"{options.calls} calls, {options.streams} streams of {EVENTS} events, median of {options.rounds} rounds")
        report("call", contenders(Path(folder), stream=False), options.calls, options.rounds, environment)
        report("stream", contenders(Path(folder), stream=True), options.streams, options.rounds, environment)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """The local emulator in a process of its own. It streams two words an event, so a reply has EVENTS of them."""
    replies = folder / "replies.yaml"
    words = " ".join(f"word{number}" for number in range(2 * EVENTS))
    replies.write_text(json.dumps([{"match": "Question", "reply": words}]))
    command = [sys.executable, "-m", "runner", "emulate", "--port", "0", "--replies", str(replies)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split("=")[1].split()[0]
        finally:
            server.terminate()


def contenders(folder: Path, *, stream: bool) -> list[Contender]:
    """The bare loop first: the others are measured against it."""

    def bare(calls: int) -> list[str]:
        return [sys.executable, "-c", BARE_LOOP, str(calls), "stream" if stream else "whole"]

    def bedrock_run(concurrency: int) -> Callable[[int], list[str]]:
        def command(calls: int) -> list[str]:
            job = write_job(folder, calls, stream=stream)
            run = [sys.executable, "-m", "runner", "run", "-q", "-o", str(folder / "rows")]
            return [*run, "-j", str(concurrency), str(job)]

        return command

    return [
        Contender("boto3 loop", bare),
        Contender("bedrock-run -j 1", bedrock_run(1)),
        Contender("bedrock-run", bedrock_run(8)),
        Contender("bedrock-run -j 64", bedrock_run(64)),
    ]


def write_job(folder: Path, calls: int, *, stream: bool) -> Path:
    cases = "".join(f"  - vars: {{number: {number}}}\n" for number in range(calls))
    path = folder / f"job-{calls}.yaml"
    path.write_text(
        f"model: {MODEL}\nstream: {str(stream).lower()}\nprompt: 'Question number {{{{ number }}}}?'\n"
        f"assert: [{{type: contains, value: word}}]\ncases:\n{cases}"
    )
    return path


def report(unit: str, field: list[Contender], count: int, rounds: int, environment: dict[str, str]) -> None:
    measured: dict[str, list[float]] = {contender.name: [] for contender in field}
    for _ in range(rounds):
        for contender in field:
            many = cpu_seconds(contender.command(count), environment)
            one = cpu_seconds(contender.command(1), environment)
            measured[contender.name].append((many - one) / (count - 1))
    base = statistics.median(measured[field[0].name])
    for name, times in measured.items():
        middle = statistics.median(times)
        print(f"{name:<20} {middle * 1000:7.3f} ms CPU per {unit}   {middle / base:5.2f} of the boto3 loop", flush=True)


def cpu_seconds(command: list[str], environment: dict[str, str]) -> float:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
