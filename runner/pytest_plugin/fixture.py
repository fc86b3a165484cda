"""The fixture `bedrock_job`: a job run by a test in Python."""

from __future__ import annotations

import asyncio
import json
import os
import re
import tempfile
from contextlib import chdir, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import source
from runner.cases import loading
from runner.console import Outcomes, full_name
from runner.errors import Problem, UsageError
from runner.jobs.job import Overrides
from runner.pytest_plugin.failure import NotPassedError, and_more, in_pytest, of_problems, of_thresholds
from runner.pytest_plugin.session import PROMPTS
from runner.running import testing
from runner.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.cases.plan import CaseList
    from runner.records import Row
    from runner.report.rows import CaseResult
    from runner.thresholds import ThresholdVerdict

_MOST_SHOWN = 10  # cases of a job, of which each is told in a test's failure: the rows have all
_LONGEST_NAME = 150  # bytes of a job's name: that of its file may have 255


@dataclass(frozen=True)
class JobResult:
    """What came of a job that a test has run."""

    cases: tuple[CaseResult, ...]
    thresholds: tuple[ThresholdVerdict, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every case has its reply, and every assertion and threshold of the job held as it asks."""
        return not (self._not_passed or self._broken)

    @property
    def _not_passed(self) -> list[CaseResult]:
        """The cases in error, and those that failed and may not."""
        good = {"passed", "failed"} if testing.allows_failures(self.thresholds) else {"passed"}
        return [case for case in self.cases if case.status not in good]

    @property
    def _broken(self) -> list[ThresholdVerdict]:
        return [verdict for verdict in self.thresholds if not verdict.held]

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
        __tracebackhide__ = True
        if rows[0]["output"] is None:
            self.assert_passed()
        return rows[0]["output"] or ""

    @property
    def cost_usd(self) -> float | None:
        """What the replies cost, whether this session paid for them or an earlier one; None if no price is known."""
        return testing.total_cost(self.rows)

    def assert_passed(self) -> None:
        """Fail the test with what is wrong with the cases and the thresholds, if anything is."""
        __tracebackhide__ = True
        outcomes, not_passed = Outcomes(told=None), self._not_passed
        failures: list[testing.Failure | NotPassedError] = [
            testing.failure_of(case, full_name(case.job, case.id), outcomes=outcomes, in_words=in_pytest)
            for case in not_passed[:_MOST_SHOWN]
        ]
        more = [f"and {left} that did not pass; their rows tell why"] if (left := _left_out(not_passed)) else []
        thresholds = [of_thresholds(self.cases[0].job, self._broken)] if self._broken else []
        if failures or thresholds:
            first = (failures or thresholds)[0]
            told = "\n".join([*(failure.block for failure in failures), *more, *(each.block for each in thresholds)])
            raise NotPassedError(told, reason=first.reason + and_more([*not_passed, *thresholds]))


class JobRunner:
    """Runs the jobs of one test."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node
        self._prompts = node.config.stash[PROMPTS]
        self._names: list[str] = []

    def __call__(self, job: str | os.PathLike[str] | Mapping[str, Any], /, **variables: Any) -> JobResult:
        """See the fixture."""
        __tracebackhide__ = True
        _refuse_event_loop()
        wrong: Sequence[Problem] = ()
        try:
            cases = self._load(job, variables)
        except UsageError as error:
            wrong = error.problems
        if wrong:  # not above, where pytest would tell of the UsageError too
            raise of_problems(wrong)
        with tempfile.TemporaryDirectory(prefix="bedrock-run-") as folder:
            outcome = self._prompts.run([cases], Path(folder), tell=_say_nothing)
        results = tuple(outcome.cases.values())
        self._node.add_report_section("call", "stdout", "\n".join(_transcripts(results)))
        for result in results:
            self._node.user_properties.extend(testing.properties(result))
        if outcome.ending is not None:
            told = in_pytest(outcome.ending.told)
            raise NotPassedError(f"ERROR  {cases.job.name}: {told}", reason=in_pytest(outcome.ending.message))
        return JobResult(results, tuple(outcome.thresholds.get(cases.job.name, ())))

    def _load(self, job: str | os.PathLike[str] | Mapping[str, Any], variables: Mapping[str, Any]) -> CaseList:
        values = _plain(variables, "the variables")
        if isinstance(job, str | os.PathLike):
            overrides = Overrides(name=self._rows_name(Path(job).stem), vars=values)
            cases = self._load_file(Path(job), overrides)
        else:
            overrides = Overrides(name=self._rows_name(str(job.get("name", ""))), vars=values)
            cases = self._load_dict(job, overrides)
        if unused := [*loading.unused_overrides([cases.job], overrides)]:
            raise UsageError(*(Problem(notice.replace(" of --var", "")) for notice in unused))
        return cases

    def _load_file(self, path: Path, overrides: Overrides) -> CaseList:
        """The file lies beside the test or, if there is none, in the rootdir."""
        beside, in_root = self._node.path.parent / path, self._prompts.root / path
        return self._prompts.load(in_root if in_root.exists() and not beside.exists() else beside, overrides)

    def _load_dict(self, job: Mapping[str, Any], overrides: Overrides) -> CaseList:
        """A dict is read as the text that it would be in a file: so it is checked alike, and has places to point at."""
        text = json.dumps(_plain({"name": overrides.name, **job}, "the job"), indent=2, ensure_ascii=False)
        test = self._node.path.with_name(f"{self._node.path.name}::{self._node.name.partition('[')[0]}")
        with chdir(self._prompts.root):
            path = Path(os.path.relpath(test))
            document = source.read_text(text, path, shown_as=str(path))
            return loading.load_document(
                document,
                overrides=overrides,
                allow_dirs=self._prompts.allow_dirs,
                allow_python=self._prompts.allow_python,
            )

    def _rows_name(self, job: str) -> str:
        """A name that no other job of the session has, so that its rows have a file of their own: made of the test's,
        and the same in the next session.
        """
        test = re.sub(r"\.py::|::|/", ".", self._node.nodeid)
        name = f"{test}.{job}" if job else test
        self._names.append(name)
        number = self._names.count(name)
        whole = name if number == 1 else f"{name}.{number}"
        usable = re.sub(r"[^\w.=+-]", "_", whole).strip(".")
        if usable == whole and len(usable.encode()) <= _LONGEST_NAME:
            return usable
        digest = sha256(f"{self._node.nodeid} {whole}".encode(errors="backslashreplace")).hexdigest()[:8]
        return f"{usable.encode()[:_LONGEST_NAME].decode(errors='ignore')}.{digest}"


def _transcripts(cases: Sequence[CaseResult]) -> Iterator[str]:
    """What was said in the cases that did not pass, since nobody who looks for a fault needs the others; or in all."""
    wanted = [case for case in cases if case.status != "passed"] or cases
    for case in wanted[:_MOST_SHOWN]:
        if len(cases) > 1:
            yield f"--- {full_name(case.job, case.id)}"
        yield testing.transcript(case)
    if left := _left_out(wanted):
        yield f"--- and {left}, of which the rows tell"


def _left_out(cases: Sequence[CaseResult]) -> str:
    return plural(len(cases) - _MOST_SHOWN, "more case") if len(cases) > _MOST_SHOWN else ""


def _refuse_event_loop() -> None:
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        hint = "write `await asyncio.to_thread(bedrock_job, ...)`"
        pytest.fail(f"bedrock_job waits for its replies, which would hold up the event loop: {hint}", pytrace=False)


def _plain(data: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The data as a job file could hold it: paths are texts. Raises UsageError."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(data, default=os.fspath, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        hint = "a job is made of dicts, lists, strings, numbers, booleans and None"
        raise UsageError(Problem(f"{what} cannot stand in a job file: {error}", hint=hint)) from None
    return plain


def _say_nothing(_: str) -> None:
    """A test is under way, whose line on the terminal must not be torn."""
