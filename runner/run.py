"""The run command, step by step: load, check, connect, call, keep, report."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import cases, console, models
from runner import job as job_files
from runner.answer import Answerer
from runner.bedrock import Bedrock, Connection
from runner.engine import Engine, Stop, StopReason, Work, cannot_write
from runner.errors import CallError, ExitCode, Problem, UsageError
from runner.limits import Limiter
from runner.records import Rate
from runner.results import HeldByAnotherRunError, RowFile, RowSink, RowStream
from runner.summary import JobSummary, Summary, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from runner.limits import Slot
    from runner.models import Models
    from runner.records import Case, Job, Message, Reply, Row

_IN_FLIGHT = 8  # calls at once, where nothing else is said
_GRACE = 5.0  # seconds that calls in flight are given after Ctrl-C


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The command line of `run`, as values. `output` is None for standard output."""

    jobs: Sequence[Path]
    output: Path | None = Path("outputs")
    local: bool = False
    replies: Path | None = None
    connection: Connection = field(default_factory=Connection)
    overrides: job_files.Overrides = field(default_factory=job_files.Overrides)
    selection: cases.Selection = cases.EVERYTHING
    allow_dirs: Sequence[Path] = ()
    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    max_failures: int | None = None
    prices: Path | None = None
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What is to be done: jobs that are in order, and the cases of each that are to run."""

    options: RunOptions
    jobs: Sequence[Job]
    counts: Mapping[str, int]
    models: Models


def run(options: RunOptions) -> ExitCode:
    """Run jobs to the end. Raises UsageError, before anything is sent, if a job or an option is wrong."""
    plan = _plan(options)
    summary = _empty_summary(plan)
    screen = _console(plan, summary)
    sinks = _open_outputs(plan)
    try:
        with _connection(options) as connection:
            asyncio.run(_call_all(plan, connection, sinks, summary, screen))
    except CallError as error:  # no credentials, say: nothing was sent
        summary.stopped = _account_stop(error)
    finally:
        _close_outputs(sinks, summary)
    screen.end(summary)
    if options.as_json:
        print(json.dumps(summary.to_json(), indent=2))
    return summary.exit_code


def _plan(options: RunOptions) -> _Plan:
    known = models.load() if options.prices is None else models.load().with_prices(options.prices)
    jobs, counts = cases.load(
        options.jobs, overrides=options.overrides, selection=options.selection, allow_dirs=options.allow_dirs
    )
    chosen = [_paced(job, options) for job in jobs if counts[job.name]]
    _check_budgets(chosen, options, known)
    return _Plan(options=options, jobs=chosen, counts=counts, models=known)


async def _call_all(
    plan: _Plan,
    connection: Connection,
    sinks: Mapping[str, RowSink],
    summary: Summary,
    screen: console.Console,
) -> None:
    stop = Stop()
    began = time.monotonic()
    async with Bedrock(connection) as bedrock:
        await bedrock.prepare(job.region for job in plan.jobs)
        answerer = Answerer(
            calls=_Calls(bedrock, plan, stop),
            where=_where(bedrock, plan),
            models=plan.models,
            watcher=screen,
            sleep=stop.sleep,
        )
        engine = Engine(
            answer=answerer.answer,
            write=_writer(sinks),
            events=_Bookkeeper(summary, screen, stop, plan.options),
            stop=stop,
            grace=_GRACE,
        )
        screen.begin()
        with _signals(stop, screen):
            summary.cut_calls = await engine.run([_work(job, plan.options) for job in plan.jobs])
    summary.stopped = stop.reason
    summary.elapsed = time.monotonic() - began


def _work(job: Job, options: RunOptions) -> Work:
    renderer = cases.Renderer(job, options.allow_dirs)
    bounds = [bound for bound in (options.max_concurrency or _IN_FLIGHT, job.max_concurrency) if bound]
    return Work(renderer.cases(options.selection), min(bounds))


class _Calls:
    """Bedrock's calls within the limits of their jobs, and none begun once the run is stopping."""

    def __init__(self, bedrock: Bedrock, plan: _Plan, stop: Stop) -> None:
        in_flight = asyncio.Semaphore(plan.options.max_concurrency or _IN_FLIGHT)
        self._bedrock = bedrock
        self._stop = stop
        self._limiters = {
            job.name: Limiter(in_flight=in_flight, rate=job.rate, clock=time.monotonic, sleep=stop.sleep)
            for job in plan.jobs
        }

    def admit(self, case: Case, messages: Sequence[Message]) -> AbstractAsyncContextManager[Slot]:
        return self._limiters[case.job.name].slot(_reservation(case, messages))

    async def call(
        self, case: Case, messages: Sequence[Message], attempt: int, *, on_text: Callable[[str], None] | None
    ) -> Reply:
        self._stop.check()
        try:
            return await self._bedrock.call(
                case, messages, attempt=attempt, max_attempts=case.job.retry.max_attempts, on_text=on_text
            )
        except CallError as error:
            if error.code.concerns_account:  # at once, before another case begins
                self._stop.request(_account_stop(error))
            raise


def _reservation(case: Case, messages: Sequence[Message]) -> int:
    """The tokens that Bedrock sets aside when the call starts: its input and max_tokens."""
    if case.job.rate.tokens_per_minute is None:
        return 0
    from runner import estimate  # Pillow, for the sizes of images

    if case.request.body is not None:
        usage = estimate.worst_case(case.request).usage
        return usage.input_tokens + usage.output_tokens
    return estimate.input_tokens(messages) + case.request.inference.max_tokens


class _Bookkeeper:
    """Counts finished rows, shows them, and stops the run when a row or a budget says so."""

    def __init__(self, summary: Summary, screen: console.Console, stop: Stop, options: RunOptions) -> None:
        self._summary = summary
        self._screen = screen
        self._stop = stop
        self._options = options

    def started(self, case: Case) -> None:
        self._screen.started(case)

    def finished(self, case: Case, row: Row) -> None:
        self._summary.add(row)
        self._screen.finished(case, row)
        for reason in self._reasons_to_stop(case):
            if self._summary.total.pending:
                self._stop.request(reason)

    def _reasons_to_stop(self, case: Case) -> Iterator[StopReason]:
        total, budget = self._summary.total, self._options.max_cost
        job_cost = self._summary.jobs[case.job.name].tally.cost_usd or 0.0
        if budget is not None and (total.cost_usd or 0.0) >= budget:
            yield _over_budget(total.cost_usd or 0.0, f"--max-cost {budget:g}")
        if case.job.max_cost is not None and job_cost >= case.job.max_cost:
            yield _over_budget(job_cost, f"max_cost: {case.job.max_cost:g} of {case.job.name}")
        bound = self._options.max_failures
        if bound is not None and total.failed + total.errors >= bound:
            yield StopReason(ExitCode.STOPPED, f"{total.failed + total.errors} cases failed (--max-failures {bound})")


def _over_budget(spent: float, limit: str) -> StopReason:
    return StopReason(ExitCode.STOPPED, f"the budget is spent: {console.money(spent)} ({limit})")


def _account_stop(error: CallError) -> StopReason:
    return StopReason(ExitCode.STOPPED, f"{error.code.value}: {error.message}", hint=error.hint)


def _paced(job: Job, options: RunOptions) -> Job:
    """The job with the quotas of the command line, where it gives any."""
    rate = Rate(
        requests_per_minute=options.rpm or job.rate.requests_per_minute,
        tokens_per_minute=options.tpm or job.rate.tokens_per_minute,
    )
    return replace(job, rate=rate)


def _check_budgets(jobs: Sequence[Job], options: RunOptions, known: Models) -> None:
    """A budget can't be held for a model whose price is not known; better to say so than to run on."""
    unpriced = [
        Problem(
            f"no price is known for model {job.model}, so the budget can't be held",
            job.model_place,
            hint="give its price with --prices FILE, or run without --max-cost and max_cost",
        )
        for job in jobs
        if (options.max_cost is not None or job.max_cost is not None) and known.find(job.model) is None
    ]
    if unpriced:
        raise UsageError(*unpriced)


def _empty_summary(plan: _Plan) -> Summary:
    output = plan.options.output
    jobs = {
        job.name: JobSummary(
            name=job.name,
            path=str(job.path),
            output="-" if output is None else str(_rows_path(output, job)),
            tally=Tally(cases=plan.counts[job.name]),
        )
        for job in plan.jobs
    }
    total = Tally(cases=sum(plan.counts.values()))
    return Summary(jobs=jobs, endpoint_is_local=plan.options.local, total=total)


def _console(plan: _Plan, summary: Summary) -> console.Console:
    if plan.options.quiet:
        return console.Quiet()
    if console.on_terminal():
        from runner.terminal import Terminal  # rich, which a pipe does not need

        return Terminal(plan.jobs, summary, verbose=plan.options.verbose)
    return console.Plain(summary, verbose=plan.options.verbose)


def _rows_path(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.jsonl"


def _open_outputs(plan: _Plan) -> dict[str, RowSink]:
    """A place for the rows of each job, by its name. Raises UsageError if rows could not be kept there."""
    if plan.options.output is None:
        return {job.name: RowStream(sys.stdout.buffer, cases.indexes(job, plan.options.selection)) for job in plan.jobs}
    sinks: dict[str, RowSink] = {}
    for job in plan.jobs:
        path = _rows_path(plan.options.output, job)
        try:
            sinks[job.name] = RowFile(path)
        except HeldByAnotherRunError as error:
            raise UsageError(Problem(str(error), hint="wait for it to end, or give another folder with -o")) from None
        except OSError as error:
            reason = f"rows can't be written to {path}: {error.strerror}"
            raise UsageError(Problem(reason, hint="give a folder that can be written with -o")) from None
    return sinks


def _writer(sinks: Mapping[str, RowSink]) -> Callable[[Sequence[Row]], None]:
    def write(rows: Sequence[Row]) -> None:
        by_job: dict[str, list[Row]] = {}
        for row in rows:
            by_job.setdefault(row["job"], []).append(row)
        for name, group in by_job.items():
            sinks[name].write(group)

    return write


def _close_outputs(sinks: Mapping[str, RowSink], summary: Summary) -> None:
    for sink in sinks.values():
        try:
            sink.close()
        except OSError as error:
            summary.stopped = summary.stopped or cannot_write(error)


@contextmanager
def _connection(options: RunOptions) -> Iterator[Connection]:
    """Where to send: what the command line says or, with --local, an emulator that lives as long as the run."""
    if not options.local:
        yield options.connection
        return
    from runner import emulator  # aiohttp's server half, which only --local needs

    try:
        settings = emulator.Settings(replies=options.replies)
        with emulator.running(settings) as url:
            yield Connection(endpoint_url=url, access_key="LOCAL", secret_key="local")  # noqa: S106 - nobody's secret
    except emulator.SettingsError as error:
        raise UsageError(*(Problem(line) for line in str(error).splitlines())) from None


def _where(bedrock: Bedrock, plan: _Plan) -> Callable[[Case], tuple[str, str]]:
    """The region and the endpoint of a case, as its row tells them."""

    def where(job: Job) -> tuple[str, str]:
        region = bedrock.region_for(job.region)
        return region, "local" if plan.options.local else bedrock.endpoint_for(region)

    places = {job.name: where(job) for job in plan.jobs}
    return lambda case: places[case.job.name]


_SIGNALS = {
    signal.SIGINT: StopReason(ExitCode.INTERRUPTED, "interrupted", cuts_calls=True),
    signal.SIGTERM: StopReason(ExitCode.TERMINATED, "terminated", cuts_calls=True),
    signal.SIGHUP: StopReason(ExitCode.HUNG_UP, "the terminal was closed", cuts_calls=True),
}


@contextmanager
def _signals(stop: Stop, screen: console.Console) -> Iterator[None]:
    """While calls are made, a signal stops the run in order; the second one at once."""
    loop = asyncio.get_running_loop()

    def stopping(reason: StopReason) -> None:
        if stop.reason is None:
            screen.stopping(reason, _GRACE)
        stop.request(reason)

    for number, reason in _SIGNALS.items():
        loop.add_signal_handler(number, stopping, reason)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
