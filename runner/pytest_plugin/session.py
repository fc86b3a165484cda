"""What a session of pytest knows of jobs: which files they are, how they are run, and what came of them."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from contextlib import chdir
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.pytest_plugin.failure import harmless, in_pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from runner.cases.plan import CaseList
    from runner.console import Outcomes
    from runner.jobs.job import Overrides
    from runner.running.run import RunOptions
    from runner.running.testing import Ending, Outcome

_SUFFIXES = (".yaml", ".yml")
WORKER_FOLDER = "bedrock_run_folder"  # in the input of xdist's workers: what they share


class Prompts:
    """The jobs of a session. Everything is as if `bedrock-run` were used in the rootdir, so that rows and messages are
    the same wherever pytest is started.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.root = config.rootpath
        self.patterns: Sequence[str] = config.getini("bedrock_jobs")
        self.allow_dirs: Sequence[Path] = config.getini("bedrock_allow_dirs")
        self.outcome: Outcome | None = None  # once the cases of job files have been run
        self.selected: Mapping[Path, set[str]] = {}  # the ids of these cases, by job file
        self.names: dict[Path, Sequence[str]] = {}  # of the cases, by job file
        self._config = config
        self._lists: dict[Path, CaseList] = {}
        self._own_folder: Path | None = None
        self._told_why = False

    @property
    def output(self) -> Path:
        """The folder of the rows."""
        given = self._config.getoption("bedrock_output")
        in_ini = self._ini_folder / self._config.getini("bedrock_output")
        return self._relative(self._config.invocation_params.dir / given if given else in_ini)

    @property
    def folder(self) -> Path:
        """Where the outcome of the session's calls is kept: one folder for all workers of xdist."""
        given: Mapping[str, str] = getattr(self._config, "workerinput", {})
        if WORKER_FOLDER in given:
            return Path(given[WORKER_FOLDER])
        self._own_folder = self._own_folder or Path(tempfile.mkdtemp(prefix="bedrock-run-"))
        return self._own_folder

    def close(self) -> None:
        if self._own_folder:
            shutil.rmtree(self._own_folder, ignore_errors=True)

    # Job files

    @cached_property
    def files(self) -> frozenset[Path]:
        """The job files that the ini option names."""
        return frozenset().union(*self._matched.values())

    @property
    def unmatched_patterns(self) -> Sequence[str]:
        """Those that match no job file."""
        return [pattern for pattern, files in self._matched.items() if not files]

    @cached_property
    def _matched(self) -> Mapping[str, frozenset[Path]]:
        """The job files that each pattern of the ini option matches."""
        return {pattern: frozenset(self._matching(pattern)) for pattern in self.patterns}

    def _matching(self, pattern: str) -> Iterator[Path]:
        folder = self._ini_folder
        # Not Path.glob, which refuses absolute patterns.
        for name in glob.iglob(pattern, root_dir=folder, recursive=True):  # noqa: PTH207
            if name.endswith(_SUFFIXES):
                yield _located(folder / name)

    def is_job(self, path: Path) -> bool:
        """Whether pytest is to take a file for a job."""
        return bool(self.patterns) and path.name.endswith(_SUFFIXES) and _located(path) in self.files

    def collect(self, path: Path) -> CaseList:
        """The cases of a job file of the session. Raises UsageError with everything that is wrong with it."""
        from runner.errors import UsageError
        from runner.jobs.job import same_output

        cases = self.load(path)
        others = [known.job for file, known in self._lists.items() if file != path]
        if problems := same_output([*others, cases.job]):
            raise UsageError(*problems)
        self._lists[path] = cases
        return cases

    def load(self, path: Path, overrides: Overrides | None = None) -> CaseList:
        """The cases of any job file. Raises UsageError with everything that is wrong with it."""
        from runner.cases import loading
        from runner.jobs.job import NO_OVERRIDES

        with chdir(self.root):
            (cases,) = loading.load(
                [self._relative(path)],
                overrides=overrides or NO_OVERRIDES,
                allow_dirs=self.allow_dirs,
                allow_python=self.allow_python,
                written=[self.output],
            )
        return cases

    # Running

    @property
    def allow_python(self) -> bool:
        """Whether assertions may run code of the job."""
        return bool(self._config.getoption("bedrock_allow_python") or self._config.getini("bedrock_allow_python"))

    def run_selected(self, ids: Mapping[Path, set[str]], tell: Callable[[str], None]) -> None:
        """Run the cases with these ids together, by job file. `tell` hears of the progress."""
        self.selected = ids
        lists = [self._lists[path] for path in ids]
        chosen = [
            cases if len(wanted) == len({case.id for case in cases.unrepeated()}) else cases.only(frozenset(wanted))
            for cases, wanted in zip(lists, ids.values(), strict=True)
        ]
        self.outcome = self.run(chosen, self.folder, tell)

    def run(self, lists: Sequence[CaseList], folder: Path, tell: Callable[[str], None]) -> Outcome:
        """Run cases, and end the session if a signal has ended the run."""
        from runner.running import testing

        with chdir(self.root):
            outcome = testing.run_once(lists, self._options, folder=folder, tell=tell)
        if outcome.ending is not None and outcome.ending.by_signal:
            code = outcome.ending.exit_code
            interrupted = code is type(code).INTERRUPTED
            pytest.exit(
                harmless(in_pytest(outcome.ending.told)),
                returncode=pytest.ExitCode.INTERRUPTED if interrupted else int(code),
            )
        return outcome

    def summary(self) -> Sequence[str]:
        """The lines that sum up the run of the session's cases; none if there was none."""
        if self._own_folder is None:
            return ()
        from runner.running import testing

        outcome = self.outcome or testing.outcome_in(self._own_folder)
        if outcome is None:
            return ()
        lines = [*outcome.summary]
        if not self.selected and outcome.ending is not None and outcome.ending.by_signal:
            lines += outcome.ending.told.splitlines()  # a worker was interrupted, whose last words xdist does not tell
        return [harmless(in_pytest(line)) for line in lines]

    def why(self, ending: Ending) -> str:
        """Why a case was not reached: in full for the first one, a line for the others."""
        told = ending.message if self._told_why else ending.told
        self._told_why = True
        return in_pytest(told)

    @cached_property
    def outcomes(self) -> Outcomes:
        """What was told of cases: which hints were given."""
        from runner.console import Outcomes

        return Outcomes(told=None)

    @cached_property
    def _options(self) -> RunOptions:
        from runner.running.run import RunOptions

        option = self._config.getoption
        replies = option("bedrock_replies")
        prices = self._config.getini("bedrock_prices")
        return RunOptions(
            jobs=(),
            output=self.output,
            local=option("bedrock_local"),
            replies=self._config.invocation_params.dir / replies if replies else None,
            fresh=option("bedrock_fresh"),
            replay=option("bedrock_replay"),
            prices=self._relative(self._ini_folder / prices) if prices else None,
            embedded=True,
        )

    @property
    def _ini_folder(self) -> Path:
        return self._config.inipath.parent if self._config.inipath else self.root

    def _relative(self, path: Path) -> Path:
        """As people name it who work in the rootdir."""
        return Path(os.path.relpath(path, self.root))


PROMPTS = pytest.StashKey[Prompts]()


def _located(path: Path) -> Path:
    """The path of a file in its real folder: pytest and globs may have come there on different ways."""
    return path.parent.resolve() / path.name
