"""`pytest prompts/` runs job files as tests, one for each case; and the fixture `bedrock_job` for tests in Python.

Every pytest of the environment loads this module: it imports nothing that is not there already. What a session with
jobs needs is imported when its first job file is collected, what calls need when they are made.
"""

from __future__ import annotations

import re
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

from runner.pytest_session import PROMPTS, WORKER_FOLDER, Prompts, in_pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from runner.cases import CaseList, Chosen
    from runner.pytest_fixture import JobResult


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
    config.stash[PROMPTS] = Prompts(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    if PROMPTS in config.stash:
        config.stash[PROMPTS].close()


# --- collecting ------------------------------------------------------------------------------------------------------


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> JobFile | None:
    is_job = parent.config.stash[PROMPTS].is_job(file_path)
    return JobFile.from_parent(parent, path=file_path) if is_job else None


class JobFile(pytest.File):
    """A job file."""

    def collect(self) -> Iterator[JobCase]:
        from runner.console import render_problems
        from runner.datasets.files import DataError
        from runner.errors import UsageError

        try:
            cases = self.config.stash[PROMPTS].collect(self.path)
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

        prompts = self.config.stash[PROMPTS]
        if prompts.outcome is None:  # with --setup-only
            return
        result = prompts.outcome.cases.get((self.job, self.case_id))
        if result is not None:  # reports of all kinds know the output of a test
            self.add_report_section("setup", "stdout", testing.transcript(result))
            self.user_properties.extend(testing.properties(result))
        if prompts.outcome.ending is not None and (result is None or len(result.rows) < self._repeats):
            pytest.fail(f"ERROR  {self.label}: not run; {prompts.why(prompts.outcome.ending)}", pytrace=False)
        assert result is not None, "a run that was not stopped has the rows of all its cases"
        if result.status == "error":
            pytest.fail(in_pytest(testing.failure_text(result, self.label)), pytrace=False)

    def runtest(self) -> None:
        from runner import testing

        outcome = self.config.stash[PROMPTS].outcome
        assert outcome is not None
        result = outcome.cases[self.job, self.case_id]
        if result.status == "failed":
            pytest.fail(testing.failure_text(result, self.label), pytrace=False)


# --- running ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Make the calls of all selected cases before the first one's turn: no time limit of a single test counts then."""
    prompts = item.config.stash[PROMPTS]
    if prompts.outcome is None and _is_to_run(item) and not item.config.getoption("setuponly", default=False):
        ids: dict[Path, set[str]] = {}
        for selected in filter(_is_to_run, item.session.items):
            ids.setdefault(selected.path, set()).add(selected.case_id)
        prompts.run_selected(ids, tell=partial(_tell, item.config))
    return (yield)


def _is_to_run(item: pytest.Item) -> TypeGuard[JobCase]:
    """Whether it is a case. Not one that is to be skipped, say by a conftest.py: its call would be for nothing."""
    return isinstance(item, JobCase) and not any(
        mark.name == "skip" or (mark.name == "skipif" and any(condition is True for condition in mark.args))
        for mark in item.iter_markers()
    )


def _tell(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")  # the workers of xdist have none
    if reporter is not None and config.get_verbosity() >= 0:
        reporter.ensure_newline()
        reporter.write_line(f"bedrock-run: {line}")
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
    count = len(prompts.files)
    files = f"{count} job file{'s' * (count != 1)}" if count else f"no job file matches {' '.join(prompts.patterns)}"
    return f"bedrock-run: {files}; rows in {prompts.output}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[PROMPTS].summary()
    if config.get_verbosity() < 0 or not lines:
        return
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
    from runner.pytest_fixture import JobRunner

    return JobRunner(request.node)
