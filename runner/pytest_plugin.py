"""`pytest prompts/` runs job files as tests, one for each case; and the fixture `bedrock_job` for tests in Python.

Every pytest of the environment loads this module: it imports nothing that is not there already. What a session with
jobs needs is imported when its first job file is collected, what calls need when they are made.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.cases import CaseList, Chosen
    from runner.job import Overrides
    from runner.records import Row
    from runner.report.rows import CaseResult
    from runner.run import RunOptions
    from runner.testing import Ending, Outcome

_FOLDER = "bedrock_run_folder"  # in the input of xdist's workers: what they share
_LONGEST_NAME = 150  # of a file of rows, which file systems let be 255 bytes long


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


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("bedrock_replay") and config.getoption("bedrock_fresh"):
        raise pytest.UsageError("--bedrock-replay never calls, and --bedrock-fresh calls every case: leave one out")
    replies = config.getoption("bedrock_replies")
    if replies and not config.getoption("bedrock_local"):
        raise pytest.UsageError("--bedrock-replies is for the local emulator: add --bedrock-local")
    if replies and not (config.invocation_params.dir / replies).is_file():
        raise pytest.UsageError(f"--bedrock-replies: there is no file {replies}")
    config.stash[_PROMPTS] = Prompts(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if _PROMPTS in config.stash:
        config.stash[_PROMPTS].close()


class Prompts:
    """What a test session knows of jobs: which files they are, how they are run, and what came of them."""

    def __init__(self, config: pytest.Config) -> None:
        self.root = config.rootpath
        self.patterns: Sequence[str] = config.getini("bedrock_jobs")
        self.outcome: Outcome | None = None
        self._config = config
        self._lists: dict[Path, CaseList] = {}
        self._told_why = False
        self._own_folder: str | None = None

    @cached_property
    def files(self) -> frozenset[Path]:
        """The job files that the ini option names."""
        folder = self._ini_folder
        # Not Path.glob, which refuses absolute patterns.
        found = (glob.glob(pattern, root_dir=folder, recursive=True) for pattern in self.patterns)  # noqa: PTH207
        return frozenset(_located(folder / name) for names in found for name in names)

    @cached_property
    def options(self) -> RunOptions:
        from runner.run import RunOptions

        option = self._config.getoption
        replies = option("bedrock_replies")
        return RunOptions(
            jobs=(),
            output=self.output,
            local=option("bedrock_local"),
            replies=self._config.invocation_params.dir / replies if replies else None,
            fresh=option("bedrock_fresh"),
            replay=option("bedrock_replay"),
            embedded=True,
        )

    @property
    def output(self) -> Path:
        """The folder of the rows."""
        given = self._config.getoption("bedrock_output")
        return self._relative(
            self._config.invocation_params.dir / given
            if given
            else self._ini_folder / self._config.getini("bedrock_output")
        )

    @property
    def folder(self) -> Path:
        """Where the outcome of the session's calls is kept: one folder for all workers of xdist."""
        given = getattr(self._config, "workerinput", {}).get(_FOLDER)
        if given is None:
            self._own_folder = given = self._own_folder or tempfile.mkdtemp(prefix="bedrock-run-")
        return Path(given)

    def close(self) -> None:
        if self._own_folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    def collect(self, path: Path) -> CaseList:
        """The cases of a job file. Raises UsageError with everything that is wrong with it."""
        from runner.errors import UsageError
        from runner.job import same_output

        cases = self.load(path)
        others = [known.job for file, known in self._lists.items() if file != path]
        if problems := same_output([*others, cases.job]):
            raise UsageError(*problems)
        self._lists[path] = cases
        return cases

    def load(self, path: Path, overrides: Overrides | None = None) -> CaseList:
        """The cases of a job, as `bedrock-run` in the rootdir would find them. Raises UsageError."""
        from runner import loading
        from runner.job import NO_OVERRIDES

        with chdir(self.root):
            (cases,) = loading.load(
                [self._relative(path)], overrides=overrides or NO_OVERRIDES, allow_dirs=self.allow_dirs
            )
        return cases

    @property
    def allow_dirs(self) -> Sequence[Path]:
        return tuple(self._config.getini("bedrock_allow_dirs"))

    def run_selected(self, items: Sequence[pytest.Item]) -> None:
        """Run every selected case of the session, at once; the first item to come asks for it."""
        wanted: dict[Path, set[str]] = {}
        for item in items:
            if isinstance(item, JobCase) and not _is_skipped(item):
                wanted.setdefault(item.path, set()).add(item.case_id)
        lists = [self._lists[path] for path in wanted]
        chosen = [
            cases if len(ids) == len({case.id for case in cases.unrepeated()}) else cases.only(frozenset(ids))
            for cases, ids in zip(lists, wanted.values(), strict=True)
        ]
        self.outcome = self.run(chosen, self.folder)

    def run(self, lists: Sequence[CaseList], folder: Path) -> Outcome:
        """Run cases, and end the session if a signal has ended the run."""
        from runner import testing

        with chdir(self.root):
            outcome = testing.run_once(lists, self.options, folder=folder, tell=self._tell)
        if outcome.ending is not None and outcome.ending.by_signal:
            code = outcome.ending.exit_code
            interrupted = code.name == "INTERRUPTED"
            pytest.exit(outcome.ending.told, returncode=pytest.ExitCode.INTERRUPTED if interrupted else code)
        return outcome

    def why(self, ending: Ending) -> str:
        """Why a case was not reached: in full for the first one, a line for the others."""
        told = ending.message if self._told_why else ending.told
        self._told_why = True
        return told

    @property
    def _ini_folder(self) -> Path:
        return self._config.inipath.parent if self._config.inipath else self.root

    def _relative(self, path: Path) -> Path:
        """As people name it who work in the rootdir."""
        return Path(os.path.relpath(path, self.root))

    def _tell(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")  # the workers of xdist have none
        if reporter is not None and self._config.get_verbosity() >= 0:
            reporter.ensure_newline()
            reporter.write_line(f"bedrock-run: {line}")


_PROMPTS = pytest.StashKey[Prompts]()


def _located(path: Path) -> Path:
    """The path of a file in its real folder: pytest and globs may have come there on different ways."""
    return path.parent.resolve() / path.name


# --- collecting ------------------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> JobFile | None:
    prompts = parent.config.stash[_PROMPTS]
    if not prompts.patterns or file_path.suffix not in {".yaml", ".yml"} or _located(file_path) not in prompts.files:
        return None
    return JobFile.from_parent(parent, path=file_path)


class JobFile(pytest.File):
    """A job file."""

    def collect(self) -> Iterator[JobCase]:
        from runner.console import render_problems
        from runner.datasets.files import DataError
        from runner.errors import UsageError

        try:
            cases = self.config.stash[_PROMPTS].collect(self.path)
            with chdir(self.config.rootpath):
                chosen = list(cases.unrepeated())
        except UsageError as error:
            raise self.CollectError(render_problems(error.problems)) from None
        except DataError as error:
            raise self.CollectError(render_problems([error.problem])) from None
        markers = {tag: _marker(tag, self.config) for case in chosen for tag in case.tags}
        for case in chosen:
            item = JobCase.from_parent(self, name=_item_name(cases, case), cases=cases, chosen=case)
            for tag in sorted(case.tags):
                item.add_marker(markers[tag])
            yield item


def _item_name(cases: CaseList, chosen: Chosen) -> str:
    """What pytest calls a case: its id, on one line and without pytest's own separator; of a single case its job's."""
    from runner.console import one_line

    return one_line(chosen.id if _has_cases(cases) else cases.job.name).replace("::", ": :")


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
        from runner.console import one_line

        super().__init__(**given)
        self.job = cases.job.name
        self.case_id = chosen.id
        self.label = f"{self.job} [{one_line(chosen.id)}]" if _has_cases(cases) else self.job
        self.extra_keyword_matches.add(chosen.id)  # -k may name it as the job file does
        self._line = max(chosen.place.line, 1)
        self._repeats = cases.job.repeat

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, self._line - 1, self.label

    def setup(self) -> None:
        """Have the row of the case; what kept it from coming is an error of the test, not its failure."""
        from runner import testing

        prompts = self.config.stash[_PROMPTS]
        if prompts.outcome is None:  # with --setup-only
            return
        result = prompts.outcome.cases.get((self.job, self.case_id))
        if result is not None:
            _report(self, "setup", [result])
        if prompts.outcome.ending is not None and (result is None or len(result.rows) < self._repeats):
            pytest.fail(f"ERROR  {self.label}: not run; {prompts.why(prompts.outcome.ending)}", pytrace=False)
        assert result is not None, "a run that was not stopped has the rows of all its cases"
        if result.status == "error":
            pytest.fail(testing.failure_text(result, self.label), pytrace=False)

    def runtest(self) -> None:
        from runner import testing

        outcome = self.config.stash[_PROMPTS].outcome
        assert outcome is not None
        result = outcome.cases[self.job, self.case_id]
        if result.status == "failed":
            pytest.fail(testing.failure_text(result, self.label), pytrace=False)


def _report(item: pytest.Item, when: str, results: Sequence[CaseResult]) -> None:
    """Let reports show what was answered (as the test's output, which all of them know), and what it took."""
    from runner import testing

    for result in results:
        item.add_report_section(when, "stdout", testing.transcript(result))
        item.user_properties.extend(testing.properties(result))


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Make all calls before the first case's turn, so that no time limit of a single test counts for them."""
    prompts = item.config.stash[_PROMPTS]
    runs = isinstance(item, JobCase) and not item.config.getoption("setuponly", default=False)
    if runs and prompts.outcome is None and not _is_skipped(item):
        prompts.run_selected(item.session.items)
    return (yield)


def _is_skipped(item: pytest.Item) -> bool:
    """Whether it is marked to be skipped, say by a conftest.py, so that its call would be for nothing."""
    return any(
        mark.name == "skip" or (mark.name == "skipif" and any(condition is True for condition in mark.args))
        for mark in item.iter_markers()
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Of xdist: what a worker is to know, before it starts."""
    prompts = node.config.stash[_PROMPTS]
    if prompts.patterns:
        node.workerinput[_FOLDER] = str(prompts.folder)


def pytest_report_header(config: pytest.Config) -> str | None:
    prompts = config.stash[_PROMPTS]
    if not prompts.patterns:
        return None
    count = len(prompts.files)
    files = f"{count} job file{'s' * (count != 1)}" if count else f"no job file matches {' '.join(prompts.patterns)}"
    return f"bedrock-run: {files}; rows in {prompts.output}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    prompts = config.stash[_PROMPTS]
    if not prompts.patterns or config.get_verbosity() < 0:
        return
    from runner import testing

    lines = testing.summary_in(prompts.folder)
    if lines:
        terminalreporter.section("bedrock-run")
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
    return _JobRunner(request)


class _JobRunner:
    """Runs the jobs of one test."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._node: pytest.Item = request.node
        self._prompts = request.config.stash[_PROMPTS]
        self._names: list[str] = []

    def __call__(self, job: str | os.PathLike[str] | Mapping[str, Any], /, **variables: Any) -> JobResult:
        from runner.console import render_problems
        from runner.errors import UsageError

        _refuse_event_loop()
        try:
            cases = self._load(job, _plain(variables, "the variables"))
        except UsageError as error:
            pytest.fail(render_problems(error.problems), pytrace=False)
        with tempfile.TemporaryDirectory(prefix="bedrock-run-") as folder:
            outcome = self._prompts.run([cases], Path(folder))
        results = tuple(outcome.cases.values())
        _report(self._node, "call", results)
        if outcome.ending is not None:
            pytest.fail(f"ERROR  {cases.job.name}: {outcome.ending.told}", pytrace=False)
        return JobResult(results)

    def _load(self, job: str | os.PathLike[str] | Mapping[str, Any], variables: Mapping[str, Any]) -> CaseList:
        from runner.errors import Problem, UsageError
        from runner.job import Overrides
        from runner.loading import unused_overrides

        given = job.get("name", "") if not isinstance(job, str | os.PathLike) else Path(job).stem
        overrides = Overrides(name=self._rows_name(str(given)), vars=variables)
        if isinstance(job, str | os.PathLike):
            cases = self._prompts.load(self._found(Path(job)), overrides)
        else:
            cases = self._load_dict(job, overrides)
        if unused := list(unused_overrides([cases.job], overrides)):
            raise UsageError(*(Problem(notice.replace(" of --var", "")) for notice in unused))
        return cases

    def _found(self, path: Path) -> Path:
        beside = self._node.path.parent / path
        return beside if beside.exists() or not (self._prompts.root / path).exists() else self._prompts.root / path

    def _load_dict(self, job: Mapping[str, Any], overrides: Overrides) -> CaseList:
        """A dict is read as the text that it would be in a file: so it is checked alike, and has places to point at."""
        from runner import loading, source

        text = json.dumps(_plain({"name": overrides.name, **job}, "the job"), indent=2, ensure_ascii=False)
        test = self._node.path.with_name(f"{self._node.path.name}::{self._node.name.partition('[')[0]}")
        with chdir(self._prompts.root):
            shown = Path(os.path.relpath(test))
            document = source.read_text(text, shown, shown_as=str(shown))
            return loading.load_document(document, overrides=overrides, allow_dirs=self._prompts.allow_dirs)

    def _rows_name(self, job: str) -> str:
        """A name that no other job of the session has: made of the test's, and the same the next time."""
        test = re.sub(r"\.py::|::|/", ".", self._node.nodeid)
        name = f"{test}.{job}" if job else test
        self._names.append(name)
        number = self._names.count(name)
        usable = re.sub(r"[^\w.=+-]", "_", name if number == 1 else f"{name}.{number}").strip(".")
        if usable == name and len(usable.encode()) <= _LONGEST_NAME:
            return usable
        digest = sha256(f"{name}.{number}".encode(errors="backslashreplace")).hexdigest()[:8]
        return f"{usable.encode()[:_LONGEST_NAME].decode(errors='ignore')}.{digest}"


def _refuse_event_loop() -> None:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    pytest.fail(
        "bedrock_job waits for its replies, which an event loop must not; "
        "write `await asyncio.to_thread(bedrock_job, ...)`",
        pytrace=False,
    )


def _plain(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The data as a job file could hold it: paths are texts. Raises UsageError."""
    from runner.errors import Problem, UsageError

    try:
        plain: dict[str, Any] = json.loads(json.dumps(data, default=os.fspath, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        hint = "a job is made of dicts, lists, strings, numbers, booleans and None"
        raise UsageError(Problem(f"{what} cannot stand in a job file: {error}", hint=hint)) from None
    return plain


@dataclass(frozen=True)
class JobResult:
    """What came of a job that a test has run."""

    cases: tuple[CaseResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every case has its reply, and every assertion of the job held as often as it asks."""
        return all(case.status == "passed" for case in self.cases)

    @property
    def rows(self) -> list[Row]:
        """The rows, as they are in the output folder."""
        return [row for case in self.cases for row in case.rows]

    @property
    def output(self) -> str:
        """The reply to the only case. Fails the test if there is none; raises ValueError if there are more."""
        rows = self.rows
        if len(rows) != 1:
            raise ValueError(f"the job has {len(rows)} replies: take them from `rows` or `cases`")
        if rows[0]["output"] is None:
            self.assert_passed()
        return rows[0]["output"] or ""

    @property
    def cost_usd(self) -> float | None:
        """What the replies cost, whether this session paid for them or an earlier one; None if no price is known."""
        from runner import testing

        return testing.total_cost(self.rows)

    def assert_passed(self) -> None:
        """Fail the test with what is wrong with the cases, unless all passed."""
        from runner import testing

        failed = [testing.failure_text(case, _label(case)) for case in self.cases if case.status != "passed"]
        if failed:
            pytest.fail("\n".join(failed), pytrace=False)


def _label(case: CaseResult) -> str:
    from runner.console import one_line

    return f"{case.job} [{one_line(case.id)}]"
