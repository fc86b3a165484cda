"""The run command, step by step: load, check, connect, call, keep, report."""

from __future__ import annotations

import asyncio
import gc
import time
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner import console, models, open_files
from runner.bedrock.account import Connection
from runner.bedrock.client import Bedrock
from runner.calling.calls import LimitedCalls
from runner.cases import loading, sidecar
from runner.cases.plan import EVERYTHING, CaseList, Selection
from runner.cases.rendering import Renderer
from runner.cases.resume import cases_and_rows, with_begun
from runner.cases.sidecar import Sidecars
from runner.errors import CallError, ExitCode, Problem, UsageError
from runner.jobs.job import NO_OVERRIDES, Overrides, jobs_of
from runner.judging.questions import judging_jobs
from runner.paths import shown
from runner.records import Rate
from runner.records.figures import Figures
from runner.report import NO_REPORTS, Reports, of_run
from runner.report.rows import Spool, spool
from runner.results import Outputs
from runner.running import summary_json
from runner.running.answer import Answerer
from runner.running.engine import Engine, Work, cannot_write
from runner.running.guard import Guard, GuardedCalls, check_budgets
from runner.running.steps import Calling, Replay, Store
from runner.running.summary import JobSummary, Summary, Tally
from runner.stop import Stop, StopReason, account_stop, on_signals, raise_on_signals
from runner.templates import body_images

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.models import Models
    from runner.records import Case, Job
    from runner.running.engine import Finished

_GRACE = 5.0  # seconds that calls in flight are given after Ctrl-C
_FILES_OF_A_JOB = 3  # that its rows take
_OTHER_FILES = 100
_FEWER_ROWS = StopReason(
    exit_code=ExitCode.STOPPED,
    message="a file changed during the run: it has fewer cases than when the run began",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The command line of `run`, as values. `output` is None for standard output.

    `embedded`: within another program, such as a test session, whose process is left as it is.
    """

    jobs: Sequence[Path]
    output: Path | None = Path("outputs")
    local: bool = False
    replies: Path | None = None
    connection: Connection = field(default_factory=Connection)
    overrides: Overrides = NO_OVERRIDES
    selection: Selection = EVERYTHING
    allow_dirs: Sequence[Path] = ()
    allow_python: bool = False
    max_concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    max_cost: float | None = None
    max_failures: int | None = None
    prices: Path | None = None
    fresh: bool = False
    replay: bool = False
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    reports: Reports = NO_REPORTS
    embedded: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done: the cases of jobs that are in order."""

    options: RunOptions
    lists: Sequence[CaseList]
    counts: Mapping[str, int]  # of cases, by name of the job
    models: Models

    @property
    def jobs(self) -> list[Job]:
        return [cases.job for cases in self.lists]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A run under way: where its rows go, and who is told of them. `spool` keeps them for reports, if there are any."""

    plan: Plan
    outputs: Outputs
    summary: Summary
    screen: console.Console
    spool: Spool | None

    def finished(self, item: Finished) -> None:
        """A row is on disk."""
        made = item.made
        self.summary.add(made)
        (self.screen.kept if made.kept else self.screen.finished)(item.case, item.row)
        if self.spool:
            self.spool.add(item.row)


def run(options: RunOptions) -> ExitCode:
    """Run jobs to the end. Raises UsageError, before anything is sent, if a job or an option is wrong."""
    raise_on_signals()
    lists = loading.load(
        options.jobs,
        overrides=options.overrides,
        selection=options.selection,
        allow_dirs=options.allow_dirs,
        allow_python=options.allow_python,
        written=[*([options.output] if options.output else []), *(path for _, path in options.reports.files())],
    )
    of_run.check([cases.job for cases in lists], options)
    plan = plan_of(lists, options)
    summary = empty_summary(plan)
    screen = _console(plan, summary)
    with spool() if options.reports else nullcontext() as spooled:
        execute(plan, summary=summary, screen=screen, spool=spooled, note=lambda notice: console.say(f"note: {notice}"))
        screen.end(summary)
        if spooled:
            of_run.write(spooled, summary, options)
    if options.as_json:
        console.emit(summary_json.describe(summary))
    return summary.exit_code


def plan_of(lists: Sequence[CaseList], options: RunOptions) -> Plan:
    """The plan to run these cases. Raises UsageError if a budget can't be kept."""
    known = models.load(options.prices)
    counts = {cases.job.name: cases.count() for cases in lists}
    chosen = [cases for cases in lists if counts[cases.job.name]]
    if not options.replay:
        check_budgets([cases.job for cases in chosen], max_cost=options.max_cost, known=known)
    return Plan(options=options, lists=chosen, counts=counts, models=known)


def execute(
    plan: Plan, *, summary: Summary, screen: console.Console, spool: Spool | None, note: Callable[[str], None]
) -> None:
    """Make the calls of a plan and keep the rows. `summary`, which begins as `empty_summary`, says what came of it.

    `note` hears of what is odd and no error. Raises UsageError, before anything is sent, if rows could not be kept.
    """
    open_files.make_room(_FILES_OF_A_JOB * len(plan.jobs) + _OTHER_FILES)
    with _connection(plan.options, summary) as connection:  # what is refused here leaves no folder behind
        outputs = _outputs(plan)
        unused = loading.unused_overrides(plan.jobs, plan.options.overrides)
        left_out = loading.earlier_sidecars(plan.lists)
        told = outputs.notices()
        for notice in (*unused, *left_out, *told, *_nothing_to_replay(plan, outputs)):
            note(notice)
        _finish(_Run(plan=plan, outputs=outputs, summary=summary, screen=screen, spool=spool), connection)
    for notice in outputs.notices():
        if notice not in told:  # found where a row was to be taken
            note(notice)


def _finish(run: _Run, connection: Connection) -> None:
    """Make the calls, and leave the rows in order, whatever happens."""
    outputs, summary = run.outputs, run.summary
    try:
        # With a factory the loop stays this run's own: the thread keeps the one that another program may have set.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(_call_all(run, connection))
    except CallError as error:  # no credentials, say: nothing was sent
        summary.stopped = account_stop(error)
    finally:
        run.screen.close()
        misplaced = outputs.close(complete=_covered(run.plan, summary))
    for failure in misplaced.values():
        summary.stopped = summary.stopped or cannot_write(failure)
    summary.set_aside, summary.replaced = outputs.set_aside(), outputs.replaced()


def _outputs(plan: Plan) -> Outputs:
    options = plan.options
    positions = {cases.job.name: ((case.position, case.repeat) for case in cases) for cases in plan.lists}
    return Outputs(options.output, positions, accept_local=options.local or options.replay, read_only=options.replay)


def _nothing_to_replay(plan: Plan, outputs: Outputs) -> Iterator[str]:
    for job in plan.jobs if plan.options.replay else ():
        if not outputs.earlier(job.name).spare():
            path = plan.options.output / f"{job.name}.jsonl" if plan.options.output else "standard output"
            yield f"{path} has no row that could be replayed; was it committed, and is this the folder (-o)?"


def _covered(plan: Plan, summary: Summary) -> set[str]:
    """The jobs of which every case has its row now, so that what else is in their files is not wanted any more."""
    finished = {
        name
        for name, job in summary.jobs.items()
        # Where a fresh call failed, the row that was there still answers its case.
        if job.tally.pending == 0 and not (plan.options.fresh and job.tally.errors)
    }
    return {cases.job.name for cases in plan.lists if cases.covers_job} & finished


def _tune_garbage_collection() -> None:
    """What is here now stays, and calls leave few cycles: to look for them less often saves a tenth of a call."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def _call_all(run: _Run, connection: Connection) -> None:
    options, summary, screen = run.plan.options, run.summary, run.screen
    stop = Stop()
    began = time.monotonic()
    async with Bedrock(connection) as bedrock:
        if not options.replay:
            await bedrock.prepare(job.region for job in run.plan.jobs)
        sidecars = Sidecars()
        engine = _engine(run, bedrock, stop, sidecars)
        if not options.embedded:
            _tune_garbage_collection()
        screen.begin()
        with on_signals(stop, lambda reason: screen.stopping(reason, _GRACE)):
            await engine.run([_work(cases, run.outputs, options) for cases in run.plan.lists])
    summary.lost_calls = engine.lost_calls
    summary.unwritten_sidecars, summary.edited_sidecars = sidecars.clashes, sidecars.edited
    summary.stopped = _why_stopped(stop, summary)
    if engine.gave_up and stop.reason is not None:
        run.outputs.abandon()
        summary.stopped = replace(stop.reason, message=f"{stop.reason.message}; {_not_written(options.output)}")
    summary.elapsed = time.monotonic() - began


def _engine(run: _Run, bedrock: Bedrock, stop: Stop, sidecars: Sidecars) -> Engine:
    """The engine, and all that stands between it and the service: the guard of the budget, then the limits."""
    plan, options = run.plan, run.plan.options
    calls = LimitedCalls(
        bedrock,
        [_at_rate(each, options) for job in plan.jobs for each in (*jobs_of(job), *judging_jobs(job))],
        in_flight=options.max_concurrency,
        stop=stop,
    )
    guard = Guard(
        stop,
        models=plan.models,
        max_cost=options.max_cost,
        max_cost_of_jobs={job.name: job.max_cost for job in plan.jobs if job.max_cost is not None},
        max_failures=options.max_failures,
    )
    answerer = Answerer(
        calls=GuardedCalls(calls, guard),
        where=_where(bedrock, plan),
        models=plan.models,
        watcher=run.screen,
        sleep=stop.sleep,
        save=run.outputs.save,
    )

    def finished(item: Finished) -> None:
        run.finished(item)
        reason = sidecars.reason_to_stop()
        if reason is not None:
            stop.request(reason)

    return Engine(
        steps=Replay(answerer, run.outputs) if options.replay else Calling(answerer, guard, calls, sidecars),
        store=Store(run.outputs, sidecars),
        finished=finished,
        stop=stop,
        grace=_GRACE,
    )


def _why_stopped(stop: Stop, summary: Summary) -> StopReason | None:
    """Why not every case has its row; None if all have."""
    if stop.reason is not None:
        return None if stop.reason.moot_when_done and summary.complete and not summary.total.cut else stop.reason
    return None if summary.complete else _FEWER_ROWS


def _not_written(output: Path | None) -> str:
    if output is None:
        return "rows could not be written to standard output, since its reader took no more"
    return f"rows in {output} could not be made durable, since its disk does not answer"


def _work(cases: CaseList, outputs: Outputs, options: RunOptions) -> Work:
    job = cases.job
    earlier = None if options.fresh else outputs.earlier(job.name)
    items = cases_and_rows(cases, Renderer(job, cases.allow_dirs), earlier)
    caps = [cap for cap in (options.max_concurrency, job.max_concurrency) if cap is not None]
    return Work(
        items if options.replay else with_begun(sidecar.checked(items, outputs.earlier(job.name)), earlier),
        concurrency=min(caps, default=None),
        # To read files takes long, and so it does to pass over the cases of a long file that are not chosen.
        in_threads=_reads_files(job) or not cases.covers_job,
    )


def _reads_files(job: Job) -> bool:
    """What is attached, or sidecars that are there already."""
    attaches = any(turn.attached for turn in job.turns) or body_images.may_be_named(job.body)
    return attaches or job.sidecar is not None


def _at_rate(job: Job, options: RunOptions) -> Job:
    """The job with the quotas of the command line, where it gives any."""
    rate = Rate(
        requests_per_minute=options.rpm or job.rate.requests_per_minute,
        tokens_per_minute=options.tpm or job.rate.tokens_per_minute,
    )
    return replace(job, rate=rate)


def empty_summary(plan: Plan) -> Summary:
    """The summary of a plan of which nothing is done yet."""
    output = plan.options.output
    whole = {cases.job.name for cases in plan.lists if cases.covers_job}
    jobs = {
        job.name: JobSummary(
            name=job.name,
            path=shown(job.path),
            output="-" if output is None else str(output / f"{job.name}.jsonl"),
            tally=Tally(cases=plan.counts[job.name]),
            repeat=job.repeat,
            min_pass=job.min_pass,
            unnamed=not job.cases and not job.variants and job.repeat == 1,
            partial=job.name not in whole,
            wanted=job.thresholds,
            variants={variant.label: Figures() for variant in job.variants},
        )
        for job in plan.jobs
    }
    total = Tally(cases=sum(plan.counts[job.name] for job in plan.jobs))
    prices = f"{plan.options.prices} and {models.as_of()}" if plan.options.prices else models.as_of()
    return Summary(
        jobs=jobs,
        endpoint_is_local=plan.options.local,
        prices=prices,
        total=total,
        fresh=plan.options.fresh,
        replay=plan.options.replay,
        keeps_rows=output is not None,
    )


def _console(plan: Plan, summary: Summary) -> console.Console:
    if plan.options.quiet:
        return console.Quiet()
    if console.on_terminal():
        from runner.console.terminal import Terminal  # rich, which a pipe does not need

        return Terminal(plan.jobs, summary, verbose=plan.options.verbose)
    return console.Plain(summary, verbose=plan.options.verbose)


@contextmanager
def _connection(options: RunOptions, summary: Summary) -> Iterator[Connection]:
    """Where to send: what the command line says or, with --local, an emulator that lives as long as the run."""
    if not options.local:
        yield options.connection
        return
    from runner import emulator  # aiohttp's server half, which only --local needs

    try:
        unused = summary.unused_replies.append if options.verbose else None
        settings = emulator.Settings(replies=options.replies, unused=unused)
        with emulator.running(settings) as url:
            yield Connection(endpoint_url=url, access_key="LOCAL", secret_key="local")  # noqa: S106 - nobody's secret
    except emulator.SettingsError as error:
        raise UsageError(*(Problem(line) for line in str(error).splitlines())) from None


def _where(bedrock: Bedrock, plan: Plan) -> Callable[[Case], tuple[str, str]]:
    """The region and the endpoint of a case, as its row tells them."""

    def where(job: Job) -> tuple[str, str]:
        region = bedrock.region_for(job.region)
        return region, "local" if plan.options.local else bedrock.endpoint_for(region)

    places = {job.name: where(job) for job in plan.jobs}
    return lambda case: places[case.job.name]
