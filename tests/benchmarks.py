"""Figures of speed, each beside its target: `python tests/benchmarks.py`, or only some of them with `--only NAME`.

- `call`, `stream`: client CPU beside a bare boto3 loop that makes the same calls. What starting costs is taken off by
  running each contender with one call as well. They take turns, and the median of the rounds counts. 30 s each.
- `startup`: one case, up to its request and from start to end, beside a minimal boto3 script. 30 s.
- `images`: 300 cases with an image of 1 MB each: peak memory, and CPU beside a loop that reads, encodes, signs and
  sends the same files. 60 s.
- `pictures`: photographs of 12 megapixels made to fit 1568 pixels, in a thread for each core, beside a bare Pillow loop
  with draft mode; and what it takes to see from its header what one is. 60 s.
- `quota`: time and throttled calls under a quota that nobody tells the client. 30 s.
- `latency`: time of calls whose latencies vary, without a quota, beside the ideal with the same latencies. 30 s.
- `million`: peak memory of a job of 1,000,000 cases, all of them called. 10 minutes; less with `--cases`.
- `resume`: the same job when 99 of 100 cases have their rows: time to the first call, and peak memory, with ids and
  without, with the last hundredth left or any. 8 minutes and 5 GB of temporary files; less with `--cases`.

Each client is a process of its own, and so is the server that it calls: the project's emulator for `call` and `stream`,
benchmark_server.py for the others. CPU is user and system time of the client's process, memory is its resident set at
its largest. Machines are noisy: of CPU only the ratios mean anything elsewhere.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median

from benchmark_server import Seen, latencies

from runner import media
from runner.calling.pacing import FIRST_LIMIT
from runner.cases import loading
from runner.cases.rendering import Renderer
from runner.judging.judge import evaluated
from runner.results.lines import from_line, to_line
from runner.running.answer import adopted

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

# Both make the photographs of a folder fit 1568 pixels, and print the seconds and the CPU seconds that it took.
FIT_ALL = """
import json, os, sys, time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
{fit}
def all_of(files):
    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert all(pool.map(fit, files))
    return time.perf_counter() - began, time.process_time() - cpu
files = sorted(Path(sys.argv[1]).iterdir())
all_of(files[:2])
print(json.dumps(all_of(files[2:])))
"""
FIT_BARE = """
from PIL import Image
def fit(file):
    with Image.open(file) as picture:
        picture.draft("RGB", (1568, 1176))
        small = picture.resize((1568, 1176), Image.Resampling.BICUBIC)
    small.save(stream := BytesIO(), "JPEG", quality=90)
    return stream.getvalue()
"""
FIT_OURS = """
from dataclasses import replace
from runner import media
def fit(file):
    image = media.describe(file.name, file.parent)
    return media.content(replace(image, fit=media.plan(image, media.Limits(max_edge=1568))))
"""

MINIMAL_SCRIPT = f"""
import json, boto3
client = boto3.client("bedrock-runtime", region_name="us-east-1")
body = json.dumps({{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024,
                   "messages": [{{"role": "user", "content": "Question number 0?"}}]}})
response = client.invoke_model(modelId="{MODEL}", body=body)
print(json.loads(response["body"].read())["content"][0]["text"])
"""

# What one writes who has pictures to send and no tool: read, encode, sign and send, 16 at once.
IMAGES_BY_HAND = f"""
import asyncio, base64, json, os, sys, aiohttp
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
url = os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] + "/model/{MODEL.replace(":", "%3A")}/invoke"
signer = SigV4Auth(Credentials("any", "any"), "bedrock", "us-east-1")
async def send(http, path):
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    image = {{"type": "image", "source": {{"type": "base64", "media_type": "image/jpeg", "data": data}}}}
    content = [image, {{"type": "text", "text": "What is it?"}}]
    body = json.dumps({{"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024,
                       "messages": [{{"role": "user", "content": content}}]}}).encode()
    request = AWSRequest("POST", url, data=body, headers={{"Content-Type": "application/json"}})
    signer.add_auth(request)
    async with http.post(url, data=body, headers=dict(request.headers)) as response:
        assert (await response.json())["content"]
async def main(paths):
    paths = iter(paths)
    async def work(http):
        for path in paths:
            await send(http, path)
    async with aiohttp.ClientSession() as http:
        await asyncio.gather(*(work(http) for _ in range(16)))
asyncio.run(main(sys.argv[1:]))
"""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What each section has to work with: an empty folder, and how much to do."""

    folder: Path
    calls: int
    streams: int
    rounds: int
    starts: int
    cases: int


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
        return f"{self.name:<36} {self.value:8.2f} {self.unit:<20} {self.detail:<40} {', '.join(verdicts)}".rstrip()

    def met(self, most: float) -> bool:
        return self.value <= most


def main() -> int:
    options = _options()
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only or SECTIONS:
            work = Path(folder) / name
            work.mkdir()
            bench = Bench(
                folder=work,
                calls=options.calls,
                streams=options.streams,
                rounds=options.rounds,
                starts=options.starts,
                cases=options.cases,
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
    parser.add_argument("--calls", type=int, default=2000, help="of `call`")
    parser.add_argument("--streams", type=int, default=300, help="of `stream`")
    parser.add_argument("--rounds", type=int, default=3, help="of `call`, `stream` and `pictures`")
    parser.add_argument("--starts", type=int, default=20, help="of `startup`")
    parser.add_argument("--cases", type=int, default=1_000_000, help="of `million` and `resume`")
    return parser.parse_args()


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a process took. Times are seconds, `began` one of `time.monotonic`; `peak` is in MB."""

    began: float
    wall: float
    cpu: float
    peak: float
    output: str


def measured(command: list[str], url: str, **variables: str | None) -> Measured:
    """Run a client to its end. Whatever AWS settings there are here, it calls `url`. None takes a variable away."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "NO_PROXY": "*",
        **variables,
    }
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        env={name: value for name, value in environment.items() if value is not None},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as stdout:
        output = stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[:4]} ended with {process.returncode}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return Measured(
        began=began,
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss * unit / 1e6,
        output=output,
    )


def bedrock_run(job: Path, output: Path, *options: str) -> list[str]:
    """The command that runs a job and prints its summary as JSON."""
    return [sys.executable, "-m", "runner", "run", "-q", "--json", "-o", str(output), *options, str(job)]


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


@dataclass
class Service:
    """benchmark_server.py in a process of its own. `seen` is there once it has ended."""

    url: str
    seen: Seen = field(default_factory=Seen)


@contextmanager
def service(*options: str) -> Iterator[Service]:
    command = [sys.executable, str(Path(__file__).with_name("benchmark_server.py")), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        running = Service(server.stdout.readline().strip())
        try:
            yield running
        finally:
            server.terminate()
            running.seen = Seen(**json.loads(server.stdout.readline()))


def write_job(folder: Path, cases: int, *, ids: bool = False, stream: bool = False) -> Path:
    """A job whose cases are the rows of a CSV file."""
    with (folder / f"rows-{cases}.csv").open("w") as file:
        file.write("id,number\n" if ids else "number\n")
        file.writelines(f"case-{number},{number}\n" if ids else f"{number}\n" for number in range(cases))
    path = folder / f"job-{cases}.yaml"
    path.write_text(
        f"name: job\nmodel: {MODEL}\nstream: {str(stream).lower()}\nprompt: 'Question number {{{{ number }}}}?'\n"
        f"assert: [{{type: contains, value: word}}]\ncases: rows-{cases}.csv\n"
    )
    return path


# --- client CPU per call and per stream ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    name: str
    command: Callable[[int], list[str]]  # the command line that makes so many calls


def per_call(bench: Bench) -> Iterator[Figure]:
    """The whole pipeline: read row, render, key, sign, send, parse, assert, durable row."""
    return beside_boto3(bench, "call", bench.calls, stream=False, target=0.5, goal=0.35)


def per_stream(bench: Bench) -> Iterator[Figure]:
    """The same with replies that come in EVENTS events."""
    return beside_boto3(bench, f"stream of {EVENTS}", bench.streams, stream=True, target=0.3, goal=None)


def beside_boto3(
    bench: Bench, unit: str, count: int, *, stream: bool, target: float, goal: float | None
) -> Iterator[Figure]:
    rivals = contenders(bench.folder, stream=stream)
    with emulator(bench.folder) as url:
        rounds = [[cpu_of_one(rival, count, url) for rival in rivals] for _ in range(bench.rounds)]
    base = [times[0] for times in rounds]
    for position, contender in enumerate(rivals):
        times = [times[position] for times in rounds]
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

    def ours(*options: str) -> Callable[[int], list[str]]:
        def command(calls: int) -> list[str]:
            output = tempfile.mkdtemp(dir=folder)  # no rows to keep, so that all are called
            return bedrock_run(write_job(folder, calls, stream=stream), Path(output), *options)

        return command

    return [
        Contender("boto3 loop", bare),
        Contender("bedrock-run -j 1", ours("-j", "1")),
        Contender("bedrock-run", ours()),
        Contender("bedrock-run -j 64", ours("-j", "64")),
    ]


def cpu_of_one(contender: Contender, count: int, url: str) -> float:
    """CPU seconds of one call, the start taken off."""
    many = measured(contender.command(count), url)
    one = measured(contender.command(1), url)
    return (many.cpu - one.cpu) / (count - 1)


# --- the start -------------------------------------------------------------------------------------------------------


def startup(bench: Bench) -> Iterator[Figure]:
    """One case. The first start of each compiles what is imported, and does not count."""
    job = write_job(bench.folder, 1)
    commands: dict[str, Callable[[], list[str]]] = {
        "boto3 script": lambda: [sys.executable, "-c", MINIMAL_SCRIPT],
        "bedrock-run": lambda: bedrock_run(job, Path(tempfile.mkdtemp(dir=bench.folder))),
    }
    starts: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands}
    for _ in range(bench.starts + 1):
        for name, command in commands.items():
            with service() as server:
                done = measured(command(), server.url, PYTHONDONTWRITEBYTECODE=None)
            starts[name].append((server.seen.first - done.began, done.wall, done.cpu))
    medians = {name: [median(column) for column in zip(*rows[1:], strict=True)] for name, rows in starts.items()}
    base, own = medians.values()
    for position, (what, target) in enumerate({"first request": 1.3, "whole process": 1.3, "CPU": None}.items()):
        yield Figure(
            name=f"one case: {what}",
            value=own[position] / base[position],
            unit="of the boto3 script",
            detail=f"{own[position] * 1000:.0f} ms, the script {base[position] * 1000:.0f}",
            target=target,
        )


# --- images that are sent as they are --------------------------------------------------------------------------------


def images(bench: Bench) -> Iterator[Figure]:
    """300 photographs as hard to compress as they come: noise."""
    from PIL import Image

    folder = bench.folder / "images"
    folder.mkdir()
    for number in range(300):
        noise = Image.frombytes("RGB", (1000, 1000), random.Random(number).randbytes(3_000_000))
        noise.save(folder / f"{number:03}.jpg", quality=92)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 300
    job = bench.folder / "job.yaml"
    job.write_text(
        f"model: {MODEL}\nturns: [{{user: {{text: What is it?, images: ['{{{{ file.path }}}}']}}}}]\n"
        "cases: {glob: images/*.jpg}\n"
    )
    for options in (["-j", "16"], []):
        with service("--latency", "0.5") as server:
            done = measured(bedrock_run(job, Path(tempfile.mkdtemp(dir=bench.folder)), *options), server.url)
        yield Figure(
            name=" ".join(["300 images, peak memory", *options]),
            value=done.peak,
            unit="MB",
            detail=f"{size / 1e6:.2f} MB each, {server.seen.most_in_flight} at once",
            target=150,
        )
    files = [str(file) for file in sorted(folder.iterdir())]

    def by_hand(count: int) -> list[str]:
        return [sys.executable, "-c", IMAGES_BY_HAND, *files[:count]]

    def ours(count: int) -> list[str]:
        output = tempfile.mkdtemp(dir=bench.folder)
        return bedrock_run(job, Path(output), "-j", "16", "--limit", str(count))

    with service() as server:
        times = [
            [cpu_of_one(Contender(command.__name__, command), len(files), server.url) for command in (by_hand, ours)]
            for _ in range(bench.rounds)
        ]
    yield Figure(
        name="300 images, CPU -j 16",
        value=median(own / hand for hand, own in times),
        unit="of reading, encoding and sending",
        detail=f"{median(own for _, own in times) * 1000:.2f} ms an image",
        target=1.2,
    )


# --- pictures that are made to fit -----------------------------------------------------------------------------------


def pictures(bench: Bench) -> Iterator[Figure]:
    """Photographs as telephones take them: 12 megapixels with some noise, every other one lying on its side."""
    write_photographs(bench.folder / "photographs", 26)
    size = sum(file.stat().st_size for file in (bench.folder / "photographs").iterdir()) / 26
    commands = [[sys.executable, "-c", FIT_ALL.replace("{fit}", fit)] for fit in (FIT_BARE, FIT_OURS)]
    rounds = []
    for _ in range(bench.rounds):
        done = [measured([*command, str(bench.folder / "photographs")], "") for command in commands]
        rounds.append([json.loads(each.output) for each in done])
    for position, what in enumerate(("time", "CPU")):
        ours = median(turn[1][position] for turn in rounds) / 24
        yield Figure(
            name=f"12 megapixels to fit 1568: {what}",
            value=median(turn[1][position] / turn[0][position] for turn in rounds),
            unit="of a bare Pillow loop",
            detail=f"{ours * 1000:.1f} ms each, of {size / 1e6:.1f} MB",
            target=1.1,
        )
    yield from headers(bench.folder / "photographs")


def headers(folder: Path) -> Iterator[Figure]:
    """What it takes to see what each photograph is, from its header alone."""
    names = [file.name for file in folder.iterdir()]
    began = time.process_time()
    for _ in range(100):
        for name in names:
            media.look(name, folder)
    yield Figure(
        name="a look at a photograph",
        value=(time.process_time() - began) / 100 / len(names) * 1e6,
        unit="microseconds CPU",
        target=200,
    )


def write_photographs(folder: Path, count: int) -> None:
    import skimage
    from PIL import Image

    folder.mkdir()
    names = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
    scenes = [Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB") for name in names]
    for number in range(count):
        large = scenes[number % len(scenes)].resize((4032, 3024), Image.Resampling.BICUBIC)
        grain = Image.effect_noise(large.size, 60).convert("RGB")
        exif = Image.Exif()
        exif[0x0112] = 1 if number % 2 else 6
        Image.blend(large, grain, 0.08).save(folder / f"{number:03}.jpg", quality=92, exif=exif)


# --- time under a quota, and with latencies that vary ----------------------------------------------------------------


def unknown_quota(bench: Bench) -> Iterator[Figure]:
    """1,500 calls of 500 ms; 3,000 a minute are granted, as a token bucket of one second: ideal are 29.5 s."""
    calls, per_second, latency = 1500, 50, 0.5
    ideal = (calls - per_second) / per_second + latency
    with service("--rpm", str(60 * per_second), "--latency", str(latency)) as server:
        done = measured(bedrock_run(write_job(bench.folder, calls), bench.folder), server.url)
    attempts = server.seen.granted + server.seen.throttled
    yield Figure(
        name="3,000 rpm, unknown: wall time",
        value=done.wall / ideal,
        unit="of the ideal",
        detail=f"{done.wall:.1f} s of {ideal:.1f} s",
        target=1.05,
        goal=1.02,
    )
    yield Figure(
        name="3,000 rpm, unknown: throttled",
        value=100 * server.seen.throttled / attempts,
        unit="% of the attempts",
        detail=f"{server.seen.throttled} of {attempts}",
        target=2,
    )
    yield Figure(name="3,000 rpm, unknown: rows lost", value=calls - passed(done), unit="rows", target=0)


def latency(bench: Bench) -> Iterator[Figure]:
    """2,000 calls, no quota; 800 ms in the median, lognormal."""
    calls, middle, sigma = 2000, 0.8, 0.5
    ideals: dict[tuple[str, ...], float] = {
        (): ideal_time(calls, middle, sigma, places=calls, ramp=True),
        ("-j", "256"): ideal_time(calls, middle, sigma, places=256),
        ("-j", "2000"): ideal_time(calls, middle, sigma, places=calls),
    }
    job = write_job(bench.folder, calls)
    for options, ideal in ideals.items():
        with service("--latency", str(middle), "--sigma", str(sigma)) as server:
            done = measured(bedrock_run(job, Path(tempfile.mkdtemp(dir=bench.folder)), *options), server.url)
        seen = server.seen
        name = " ".join(["800 ms, no quota", *options])
        yield Figure(
            name=f"{name}: wall time",
            value=done.wall / ideal,
            unit="of the ideal ramp" if not options else "of the ideal",
            detail=f"{done.wall:.1f} s of {ideal:.1f} s, {seen.most_in_flight:,} at once",
            target=None if options == ("-j", "2000") else 1.05,
        )
        yield Figure(name=f"{name}: rows lost", value=calls - passed(done), unit="rows", target=0)


def ideal_time(calls: int, middle: float, sigma: float, *, places: int, ramp: bool = False) -> float:
    """Seconds that so many calls take in so many places; with `ramp` in a few at first and one more for each reply."""
    limit = FIRST_LIMIT if ramp else places
    now, ends = 0.0, list[float]()
    for seconds in islice(latencies(middle, sigma), calls):
        while len(ends) >= limit:
            now = heapq.heappop(ends)
            limit = min(places, limit + ramp)
        heapq.heappush(ends, now + seconds)
    return max(ends)


def passed(done: Measured) -> int:
    """The cases that passed, as the summary says."""
    count: int = json.loads(done.output)["total"]["passed"]
    return count


# --- a million cases -------------------------------------------------------------------------------------------------


def million(bench: Bench) -> Iterator[Figure]:
    with service() as server:
        done = measured(bedrock_run(write_job(bench.folder, bench.cases), bench.folder), server.url)
    assert passed(done) == bench.cases
    yield Figure(
        name=f"{bench.cases:,} cases, peak memory",
        value=done.peak,
        unit="MB",
        detail=f"all called, in {done.wall:.0f} s",
        target=200,
    )


def resume(bench: Bench) -> Iterator[Figure]:
    """99 of 100 cases have their rows, with ids in the file and without; what is left is at its end, or anywhere."""
    every, count = range(bench.cases), bench.cases // 100
    left = {"the last": every[-count:], "any": random.Random(1).sample(every, count)}
    for ids in (False, True):
        folder = bench.folder / ("ids" if ids else "no-ids")
        folder.mkdir()
        job = write_job(folder, bench.cases, ids=ids)
        write_rows(job, folder / "every.jsonl")
        for place, numbers in left.items():
            output = folder / place
            output.mkdir()
            copy_lines(folder / "every.jsonl", output / "job.jsonl", without=frozenset(numbers))
            with service() as server:
                done = measured(bedrock_run(job, output), server.url)
            total = json.loads(done.output)["total"]
            kept = total["kept"]
            assert (kept, total["called"]) == (bench.cases - count, count), "rows are not as a run writes them"
            name = f"{kept:,} kept, all but {place} 1 %, {'ids' if ids else 'no ids'}"
            yield Figure(
                name=f"{name}: first call",
                value=server.seen.first - done.began,
                unit="s",
                detail=f"the whole run {done.wall:.0f} s",
                target=10,
            )
            yield Figure(name=f"{name}: peak memory", value=done.peak, unit="MB", target=200)
            (output / "job.jsonl").unlink()
        (folder / "every.jsonl").unlink()


def write_rows(job: Path, target: Path) -> None:
    """The rows of all cases of a job. One run makes the first, and the others are alike."""
    output = job.parent / "first"
    with service() as server:
        measured([*bedrock_run(job, output), "--limit", "1"], server.url)
    first = from_line((output / "job.jsonl").read_bytes())
    (cases,) = loading.load([job])
    renderer = Renderer(cases.job)
    with target.open("wb") as file:
        for case in map(renderer.case, cases):
            row = evaluated(case, adopted(case, first))
            row["key"] = case.key
            file.write(to_line(row))


def copy_lines(source: Path, target: Path, *, without: Collection[int]) -> None:
    with source.open("rb") as lines, target.open("wb") as copy:
        copy.writelines(line for number, line in enumerate(lines) if number not in without)


SECTIONS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "call": per_call,
    "stream": per_stream,
    "startup": startup,
    "images": images,
    "pictures": pictures,
    "quota": unknown_quota,
    "latency": latency,
    "million": million,
    "resume": resume,
}


if __name__ == "__main__":
    sys.exit(main())
