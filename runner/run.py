"""The run command, step by step: load, check, connect, call, keep, report."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import cases, console, models
from runner.account import Connection
from runner.answer import Answerer
from runner.bedrock import Bedrock
from runner.calls import LimitedCalls
from runner.engine import Engine, Work, cannot_write
from runner.errors import CallError, ExitCode, FailureCode, Problem, UsageError
from runner.job import NO_OVERRIDES, Overrides
from runner.records import Rate
from runner.results import Outputs
from runner.stop import Stop, StopReason, account_stop, on_signals
from runner.summary import JobSummary, Summary, Tally
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.models import Models
    from runner.records import Case, Job, Row

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
    overrides: Overrides = NO_OVERRIDES
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
    outputs = Outputs(options.output, {job.name: cases.indexes(job, options.selection) for job in plan.jobs})
    try:
        with _connection(options) as connection:
            asyncio.run(_call_all(plan, connection, outputs, summary, screen))
    except CallError as error:  # no credentials, say: nothing was sent
        summary.stopped = account_stop(error)
    finally:
        screen.close()
        misplaced = outputs.close()
    for name, failure in misplaced.items():
        summary.jobs[name].output = outputs.part(name)
        summary.stopped = summary.stopped or cannot_write(failure)
    summary.set_aside = outputs.set_aside()
    screen.end(summary)
    if options.as_json:
        console.emit(json.dumps(summary.to_json(), indent=2))
    return summary.exit_code


def _plan(options: RunOptions) -> _Plan:
    known = models.load(options.prices)
    jobs, counts = cases.load(
        options.jobs, overrides=options.overrides, selection=options.selection, allow_dirs=options.allow_dirs
    )
    chosen = [_at_rate(job, options) for job in jobs if counts[job.name]]
    _check_budgets(chosen, options, known)
    return _Plan(options=options, jobs=chosen, counts=counts, models=known)


async def _call_all(
    plan: _Plan, connection: Connection, outputs: Outputs, summary: Summary, screen: console.Console
) -> None:
    stop = Stop()
    bounds = [_concurrency(job, plan.options) for job in plan.jobs]
    began = time.monotonic()
    async with Bedrock(connection) as bedrock:
        await bedrock.prepare(job.region for job in plan.jobs)
        calls = LimitedCalls(
            bedrock, plan.jobs, in_flight=plan.options.max_concurrency or max(_IN_FLIGHT, *bounds), stop=stop
        )
        answerer = Answerer(
            calls=calls, where=_where(bedrock, plan), models=plan.models, watcher=screen, sleep=stop.sleep
        )

        def finished(case: Case, row: Row) -> None:
            summary.add(row)
            screen.finished(case, row)

        guard = _Guard(answerer, stop, plan.options)
        engine = Engine(answer=guard.answer, write=outputs.write, finished=finished, stop=stop, grace=_GRACE)
        screen.begin()
        with on_signals(stop, lambda reason: screen.stopping(reason, _GRACE)):
            await engine.run(
                [Work(_cases(job, plan.options), bound) for job, bound in zip(plan.jobs, bounds, strict=True)]
            )
    summary.lost_calls = engine.lost_calls
    summary.stopped = None if stop.reason and stop.reason.moot_when_done and summary.complete else stop.reason
    summary.elapsed = time.monotonic() - began


def _cases(job: Job, options: RunOptions) -> Iterator[Case]:
    return cases.Renderer(job, options.allow_dirs).cases(options.selection)


def _concurrency(job: Job, options: RunOptions) -> int:
    """How many cases of a job may be in progress at once: no more than any of its caps."""
    caps = [cap for cap in (options.max_concurrency, job.max_concurrency) if cap is not None]
    return min(caps, default=_IN_FLIGHT)


_UNSENT = {FailureCode.NETWORK, FailureCode.INPUT}  # what fails before a connection is made


class _Guard:
    """Answers cases, and stops the run when an answer says so: a budget spent, too many failures, no connection."""

    def __init__(self, answerer: Answerer, stop: Stop, options: RunOptions) -> None:
        self._answerer = answerer
        self._stop = stop
        self._options = options
        self._spent: defaultdict[str, float] = defaultdict(float)  # USD by job
        self._failed = 0
        self._connected = False  # whether any connection could ever be made

    async def answer(self, case: Case) -> Row:
        row = await self._answerer.answer(case)
        self._spent[case.job.name] += row["cost_usd"] or 0.0
        self._failed += row["status"] != "passed"
        self._connected |= any(attempt["code"] not in _UNSENT for attempt in row["attempts"])
        for reason in self._reasons_to_stop(case.job, row):
            self._stop.request(reason)
        return row

    def _reasons_to_stop(self, job: Job, row: Row) -> Iterator[StopReason]:
        for spent, budget, name in (
            (sum(self._spent.values()), self._options.max_cost, "--max-cost"),
            (self._spent[job.name], job.max_cost, f"max_cost of {job.name}"),
        ):
            if budget is not None and spent >= budget:
                yield _early(
                    f"the budget is spent: {console.money(spent)} ({name} {budget:g}; calls in flight add to it)"
                )
        bound = self._options.max_failures
        if bound is not None and self._failed >= bound:
            yield _early(f"{plural(self._failed, 'case')} failed (--max-failures {bound})")
        if row["error"] is not None and not self._connected:
            yield _early(row["error"]["message"], hint=row["error"]["hint"])


def _early(message: str, hint: str | None = None) -> StopReason:
    return StopReason(exit_code=ExitCode.STOPPED, message=message, hint=hint, moot_when_done=True)


def _at_rate(job: Job, options: RunOptions) -> Job:
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
            output="-" if output is None else str(output / f"{job.name}.jsonl"),
            tally=Tally(cases=plan.counts[job.name]),
        )
        for job in plan.jobs
    }
    total = Tally(cases=sum(plan.counts.values()))
    prices = f"{plan.options.prices} and {models.as_of()}" if plan.options.prices else models.as_of()
    return Summary(jobs=jobs, endpoint_is_local=plan.options.local, prices=prices, total=total)


def _console(plan: _Plan, summary: Summary) -> console.Console:
    if plan.options.quiet:
        return console.Quiet()
    if console.on_terminal():
        from runner.terminal import Terminal  # rich, which a pipe does not need

        return Terminal(plan.jobs, summary, verbose=plan.options.verbose)
    return console.Plain(summary, verbose=plan.options.verbose)


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
