"""Figures of speed, each beside its target: `python tests/benchmarks.py`, or only some of them with `--only NAME`.

`call` and `stream` measure client CPU beside a bare boto3 loop in the same run. Each contender is a process of its own
and makes the same calls to one emulator in another process. CPU is user and system time of the contender's process;
what starting costs is taken off by running each with one call as well. Machines are noisy, so contenders take turns,
the median of the rounds counts, and only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What each section has to work with: an emulator, the environment in which clients call it, an empty folder."""

    url: str
    environment: Mapping[str, str]
    folder: Path
    calls: int
    streams: int
    rounds: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured figure. `target` is the most that it may be, `goal` what it should be; None where there is none."""

    name: str
    value: float
    unit: str
    detail: str = ""
    target: float | None = None
    goal: float | None = None

    def __str__(self) -> str:
        aims = [("target", self.target), ("goal", self.goal)]
        verdicts = [f"{aim} {most:g} {'met' if self.met(most) else 'MISSED'}" for aim, most in aims if most is not None]
        return f"{self.name:<28} {self.value:8.2f} {self.unit:<20} {self.detail:<24} {', '.join(verdicts)}".rstrip()

    def met(self, most: float) -> bool:
        return self.value <= most


def main() -> int:
    options = _options()
    figures = []
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as url:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "NO_PROXY": "*",
        }
        for name in options.only or SECTIONS:
            work = Path(folder) / name
            work.mkdir()
            bench = Bench(
                url=url,
                environment=environment,
                folder=work,
                calls=options.calls,
                streams=options.streams,
                rounds=options.rounds,
            )
            for figure in SECTIONS[name](bench):
                print(figure, flush=True)
                figures.append(figure)
    missed = [figure.name for figure in figures if figure.target is not None and not figure.met(figure.target)]
    print(f"targets missed: {', '.join(missed)}" if missed else "all targets met")
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=SECTIONS, metavar="NAME", help=", ".join(SECTIONS))
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


# --- client CPU per call and per stream ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[int], list[str]]  # the command line that makes so many calls


def per_call(bench: Bench) -> Iterator[Figure]:
    """The whole pipeline: read, render, key, sign, send, parse, assert, durable row."""
    return beside_boto3(bench, "call", bench.calls, stream=False, target=0.5, goal=0.35)


def per_stream(bench: Bench) -> Iterator[Figure]:
    """The same with replies that come in EVENTS events."""
    return beside_boto3(bench, f"stream of {EVENTS}", bench.streams, stream=True, target=0.3, goal=None)


def beside_boto3(
    bench: Bench, unit: str, count: int, *, stream: bool, target: float, goal: float | None
) -> Iterator[Figure]:
    field = contenders(bench.folder, stream=stream)
    rounds = [[cpu_of_one(contender, count, bench.environment) for contender in field] for _ in range(bench.rounds)]
    base = [measured[0] for measured in rounds]
    for position, contender in enumerate(field):
        times = [measured[position] for measured in rounds]
        yield Figure(
            name=contender.name,
            value=median(time / boto3 for time, boto3 in zip(times, base, strict=True)),
            unit="of the boto3 loop",
            detail=f"{median(times) * 1000:.3f} ms CPU a {unit}",
            target=target if position else None,
            goal=goal if position else None,
        )


def contenders(folder: Path, *, stream: bool) -> list[Contender]:
    """The bare loop first: the others are measured against it."""

    def bare(calls: int) -> list[str]:
        return [sys.executable, "-c", BARE_LOOP, str(calls), "stream" if stream else "whole"]

    def bedrock_run(*options: str) -> Callable[[int], list[str]]:
        def command(calls: int) -> list[str]:
            job = write_job(folder, calls, stream=stream)
            output = tempfile.mkdtemp(dir=folder)  # no rows to keep, so that all are called
            return [sys.executable, "-m", "runner", "run", "-q", "-o", output, *options, str(job)]

        return command

    return [
        Contender("boto3 loop", bare),
        Contender("bedrock-run -j 1", bedrock_run("-j", "1")),
        Contender("bedrock-run", bedrock_run()),
        Contender("bedrock-run -j 64", bedrock_run("-j", "64")),
    ]


def write_job(folder: Path, calls: int, *, stream: bool) -> Path:
    cases = "".join(f"  - vars: {{number: {number}}}\n" for number in range(calls))
    path = folder / f"job-{calls}.yaml"
    path.write_text(
        f"model: {MODEL}\nstream: {str(stream).lower()}\nprompt: 'Question number {{{{ number }}}}?'\n"
        f"assert: [{{type: contains, value: word}}]\ncases:\n{cases}"
    )
    return path


def cpu_of_one(contender: Contender, count: int, environment: Mapping[str, str]) -> float:
    """CPU seconds of one call, the start taken off."""
    many = cpu_seconds(contender.command(count), environment)
    one = cpu_seconds(contender.command(1), environment)
    return (many - one) / (count - 1)


def cpu_seconds(command: list[str], environment: Mapping[str, str]) -> float:
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime


SECTIONS: dict[str, Callable[[Bench], Iterator[Figure]]] = {"call": per_call, "stream": per_stream}


if __name__ == "__main__":
    sys.exit(main())
