"""`pytest prompts/` runs job files as tests, one for each case; and the fixture `bedrock_job` for tests in Python.

Every pytest of the environment loads this module: it imports nothing that is not there already. What a session with
jobs needs is imported when its first job file is collected, what calls need when they are made.
"""

from __future__ import annotations

import re
import shlex
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.pytest_plugin import failure
from runner.pytest_plugin.failure import NotPassedError, in_pytest
from runner.pytest_plugin.session import PROMPTS, WORKER_FOLDER, Prompts
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from runner.cases.plan import CaseList, Chosen
    from runner.pytest_plugin.fixture import JobResult
    from runner.report.rows import CaseResult

_MOST_VARIANTS = 10  # of a case, of which each is named

# --- options ---------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bedrock-run", "bedrock-run (prompts on AWS Bedrock as tests)")
    group.addoption("--bedrock-local", action="store_true", help="Call a private emulator; no AWS account is touched.")
    group.addoption(
        "--bedrock-replies", metavar="FILE", type=Path, help="Scripted replies for --bedrock-local, as YAML."
    )
    group.addoption(
        "--bedrock-replay",
        action="store_true",
        help="Never call: a case that no row in the output folder answers is an error.",
    )
    group.addoption(
        "--bedrock-fresh", action="store_true", help="Call every case again, also those that have their row."
    )
    group.addoption(
        "--bedrock-allow-python",
        action="store_true",
        help="Let `python` assertions run their code.  [default: the ini option bedrock_allow_python]",
    )
    group.addoption(
        "--bedrock-output",
        metavar="DIR",
        type=Path,
        help="Folder for the rows.  [default: the ini option bedrock_output, or outputs in the rootdir]",
    )
    parser.addini(
        "bedrock_jobs", "Job files of bedrock-run that are tests, as globs: prompts/*.yaml", type="args", default=[]
    )
    parser.addini("bedrock_output", "Folder for the rows of bedrock-run.", default="outputs")
    parser.addini(
        "bedrock_allow_dirs", "Folders in which images and files of rows may lie too.", type="paths", default=[]
    )
    parser.addini("bedrock_allow_python", "Let `python` assertions run their code.", type="bool", default=False)
    parser.addini("bedrock_prices", "Prices of models for bedrock-run, as a YAML file.", default="")


def pytest_configure(config: pytest.Config) -> None:
    if problems := list(_wrong_options(config)):
        raise pytest.UsageError("\n".join(problems))
    config.stash[PROMPTS] = prompts = Prompts(config)
    if prompts.unmatched_patterns and not hasattr(config, "workerinput"):
        _warn(config, f"bedrock_jobs: no job file matches {' '.join(prompts.unmatched_patterns)}")


class JobsNotFoundWarning(pytest.PytestWarning):
    """A pattern of `bedrock_jobs` matches no file, so fewer tests are run than somebody thinks."""


def _warn(config: pytest.Config, message: str) -> None:
    """Warn in pytest's summary; where filters make an error of it, one without a traceback."""
    try:
        config.issue_config_time_warning(JobsNotFoundWarning(message), stacklevel=2)
    except JobsNotFoundWarning as error:
        raise pytest.UsageError(message) from error


def _wrong_options(config: pytest.Config) -> Iterator[str]:
    if config.getoption("bedrock_replay") and config.getoption("bedrock_fresh"):
        yield "--bedrock-replay never calls, and --bedrock-fresh calls every case: leave one out"
    replies = config.getoption("bedrock_replies")
    if replies and not config.getoption("bedrock_local"):
        yield "--bedrock-replies is for the local emulator: add --bedrock-local"
    if replies and not (config.invocation_params.dir / replies).is_file():
        yield f"--bedrock-replies: there is no file {replies}"


def pytest_unconfigure(config: pytest.Config) -> None:
    if PROMPTS in config.stash:
        config.stash[PROMPTS].close()


# --- collecting ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Say more where pytest finds no test of a name."""
    try:
        return (yield)
    except pytest.UsageError as error:
        raise pytest.UsageError(*error.args, *_hints_on_names(session.config)) from None


def _hints_on_names(config: pytest.Config) -> Iterator[str]:
    """What to write for names that no case has, but variants of one do: `tutor.yaml::closure`."""
    given = config.invocation_params
    for argument in map(str, given.args):
        file, _, name = argument.partition("::")
        names = config.stash[PROMPTS].names.get((given.dir / file).resolve(), ())
        variants = [shlex.quote(f"{file}::{each}") for each in names if each.startswith(f"{name} [")]
        if variants and name not in names:
            more = ["..."] if len(variants) > _MOST_VARIANTS else []
            listed = " ".join([*variants[:_MOST_VARIANTS], *more])
            yield f"{argument} has {plural(len(variants), 'variant')}: {listed} (name those, or choose with -k)"


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> JobFile | None:
    is_job = parent.config.stash[PROMPTS].is_job(file_path)
    return JobFile.from_parent(parent, path=file_path) if is_job else None


class JobFile(pytest.File):
    """A job file."""

    def collect(self) -> Iterator[JobCase | JobThresholds]:
        from runner.errors import UsageError

        try:
            cases = self.config.stash[PROMPTS].collect(self.path)
            with chdir(self.config.rootpath):
                chosen = list(cases.unrepeated())
        except UsageError as error:
            raise failure.of_problems(error.problems) from None
        markers = {tag: _marker(tag, self.config) for tag in cases.job.tags.union(*(case.tags for case in chosen))}
        names = [_item_name(cases, case) for case in chosen]
        self.config.stash[PROMPTS].names[self.path.resolve()] = names
        for name, case in zip(names, chosen, strict=True):
            # Given as a text, so that pytest reads it as it reads the one in its cache, for --lf: since 9.2 brackets at
            # the end of a name are a part of their own.
            whole = f"{self.nodeid}::{name}"
            item = JobCase.from_parent(self, name=name, nodeid=whole, cases=cases, chosen=case)
            for tag in sorted(case.tags):
                item.add_marker(markers[tag])
            yield item
        if cases.job.thresholds:
            thresholds = JobThresholds.from_parent(
                self, name=_free_name("thresholds", names), cases=cases, ids={case.id for case in chosen}
            )
            for tag in sorted(cases.job.tags):
                thresholds.add_marker(markers[tag])
            yield thresholds

    # As pytest.Collector has it, which leaves out an argument of what all nodes have.
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:  # type: ignore[override]
        if isinstance(excinfo.value, NotPassedError):
            return failure.shown(excinfo)
        return super().repr_failure(excinfo)


def _item_name(cases: CaseList, chosen: Chosen) -> str:
    """What pytest calls a case: its id, on one line; of a single case its job's name. What separates the parts of an id
    for pytest, `::` and brackets that do not end a name, is something like it.
    """
    from runner.console import one_line

    name = one_line(chosen.id if _has_cases(cases) else cases.job.name).replace("::", ": :")
    return name if name.endswith("]") else name.replace("[", "(").replace("]", ")")


def _free_name(name: str, taken: Sequence[str]) -> str:
    """The name or, if a case is called so, one that is like it."""
    while name in taken:
        name += "_"
    return name


def _has_cases(cases: CaseList) -> bool:
    return bool(cases.job.cases or cases.job.variants)


def _marker(tag: str, config: pytest.Config) -> str:
    """The marker of a tag, registered. Characters that -m does not take become underscores; a name that means something
    to pytest, as `skip` does, gets one at its end.
    """
    name = re.sub(r"[^\w.+-]", "_", tag).lstrip("_") or "tag"
    known = [line.partition(":")[0].strip() for line in config.getini("markers")]
    if name in {"and", "or", "not", "None", "True", "False"} or any(line.startswith(f"{name}(") for line in known):
        name += "_"
    if name not in known:
        config.addinivalue_line("markers", f"{name}: a tag of jobs of bedrock-run")
    return name


class JobCase(pytest.Item):
    """A case, with all its repetitions."""

    def __init__(self, *, cases: CaseList, chosen: Chosen, **given: Any) -> None:
        from runner.console import full_name, one_line

        super().__init__(**given)
        self.job = cases.job.name
        self.case_id = chosen.id
        self.label = full_name(self.job, chosen.id) if _has_cases(cases) else one_line(self.job)
        self.extra_keyword_matches.add(chosen.id)  # -k may name it as the job file does
        self._line = max(chosen.place.line, 1)
        self._repeats = cases.job.repeat

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, self.label

    def setup(self) -> None:
        """Have the row of the case; what kept it from coming is an error of the test, not its failure."""
        from runner.running import testing

        prompts = self.config.stash[PROMPTS]
        if prompts.outcome is None:  # with --setup-only
            return
        result = prompts.outcome.cases.get((self.job, self.case_id))
        if result is not None:  # reports of all kinds know the output of a test
            self.add_report_section("setup", "stdout", testing.transcript(result))
            self.user_properties.extend(testing.properties(result))
        ending = prompts.outcome.ending
        if ending is not None and (result is None or len(result.rows) < self._repeats):
            raise NotPassedError(
                f"ERROR  {self.label}: not run; {prompts.why(ending)}",
                reason=f"not run; {ending.message}",
                place=(self.path, self._line),
            )
        assert result is not None, "a run that was not stopped has the rows of all its cases"
        if result.status == "error":
            raise self._not_passed(result)

    def runtest(self) -> None:
        from runner.running import testing

        outcome = self.config.stash[PROMPTS].outcome
        assert outcome is not None
        result = outcome.cases[self.job, self.case_id]
        if result.status == "failed":
            not_passed = self._not_passed(result)
            if testing.allows_failures(outcome.thresholds.get(self.job, ())):
                pytest.xfail(f"{not_passed.reason}; its job's pass_rate allows it")
            raise not_passed

    def _not_passed(self, result: CaseResult) -> NotPassedError:
        from runner.running import testing

        outcomes = self.config.stash[PROMPTS].outcomes
        told = testing.failure_of(result, self.label, outcomes=outcomes, in_words=in_pytest)
        return NotPassedError(told.block, reason=told.reason, place=(self.path, told.line))


class JobThresholds(pytest.Item):
    """What the figures of all cases of a job together must come to."""

    def __init__(self, *, cases: CaseList, ids: set[str], **given: Any) -> None:
        super().__init__(**given)
        self.job = cases.job.name
        self.ids = ids
        self._line = cases.job.thresholds[0].place.line

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, f"{self.job}, thresholds"

    def why_not_judged(self) -> str | None:
        """Why nothing can be said of them."""
        prompts = self.config.stash[PROMPTS]
        selected = prompts.selected.get(self.path, set())
        if selected != self.ids:
            return f"not judged: {len(selected):,} of the {plural(len(self.ids), 'case')} of {self.job} were selected"
        assert prompts.outcome is not None
        if self.job in prompts.outcome.thresholds:
            return None
        ending = prompts.outcome.ending
        return in_pytest("not judged: not every case has its row" + (f"; {ending.message}" if ending else ""))

    def runtest(self) -> None:
        outcome = self.config.stash[PROMPTS].outcome
        assert outcome is not None
        verdicts = outcome.thresholds[self.job]
        self.user_properties.extend((verdict.name, f"{verdict.found}, wanted {verdict.wanted}") for verdict in verdicts)
        if broken := [verdict for verdict in verdicts if not verdict.held]:
            raise failure.of_thresholds(self.job, broken, path=self.path)


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Make the calls of all selected cases before the first one's turn: no time limit of a single test counts then."""
    prompts = item.config.stash[PROMPTS]
    if _is_to_run(item) and not item.config.getoption("setuponly", default=False):
        if prompts.outcome is None and (ids := _selected(item.session.items)):
            prompts.run_selected(ids, tell=partial(_tell, item.config))
        if isinstance(item, JobThresholds) and (why := item.why_not_judged()):
            item.add_marker(pytest.mark.skip(reason=why))
    return (yield)


def _selected(items: Sequence[pytest.Item]) -> dict[Path, set[str]]:
    """The ids of the cases to run, by job file: every one of a job of which the thresholds alone are selected."""
    ids: dict[Path, set[str]] = {}
    for item in items:
        if isinstance(item, JobCase):
            ids.setdefault(item.path, set()).update([item.case_id] if _is_to_run(item) else [])
    for item in items:
        if isinstance(item, JobThresholds) and item.path not in ids and _is_to_run(item):
            ids[item.path] = item.ids
    return {path: wanted for path, wanted in ids.items() if wanted}


def _is_to_run(item: pytest.Item) -> bool:
    """Whether it is of a job. Not one that is to be skipped, say by a conftest.py: its call would be for nothing."""
    return isinstance(item, JobCase | JobThresholds) and not any(
        mark.name == "skip" or (mark.name == "skipif" and any(condition is True for condition in mark.args))
        for mark in item.iter_markers()
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, NotPassedError):
        report.longrepr = failure.shown(call.excinfo)
    return report


def _tell(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")  # the workers of xdist have none
    if reporter is not None and config.get_verbosity() >= 0:
        reporter.ensure_newline()
        reporter.write_line(failure.harmless(f"bedrock-run: {line}"))
        reporter.flush()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of xdist: what a worker is to know, before it starts."""
    prompts = node.config.stash[PROMPTS]
    if prompts.patterns:
        node.workerinput[WORKER_FOLDER] = str(prompts.folder)


def pytest_report_header(config: pytest.Config) -> str | None:
    prompts = config.stash[PROMPTS]
    if not prompts.patterns:
        return None
    return f"bedrock-run: {plural(len(prompts.files), 'job file')}; rows in {prompts.output}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[PROMPTS].summary()
    if config.get_verbosity() < 0 or not lines:
        return
    terminalreporter.write_sep("=", "bedrock-run")
    for line in lines:
        terminalreporter.write_line(line)


# --- tests in Python -------------------------------------------------------------------------------------------------


@pytest.fixture
def bedrock_job(request: pytest.FixtureRequest) -> Callable[..., JobResult]:
    """Run a job of bedrock-run: bedrock_job(path_or_dict, **vars) -> JobResult.

    A path is looked for in the folder of the test file, then in the rootdir; a dict has the keys of a job file, and
    names files relative to the test file. `vars` win over the variables of the job. Rows are kept in the output folder,
    in a file of the test's own: TEST.JOB.jsonl, for a second job of that name in one test TEST.JOB.2.jsonl.
    """
    from runner.pytest_plugin.fixture import JobRunner

    return JobRunner(request.node)
