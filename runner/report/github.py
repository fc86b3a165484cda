"""What GitHub Actions shows by itself: annotations on the lines of the job files, and the summary of the step."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from runner.console import cut, full_name, one_line
from runner.paths import in_workspace
from runner.records.row_facts import failed_assertions
from runner.report import markdown
from runner.words import plural

if TYPE_CHECKING:
    from pathlib import Path

    from runner.report.rows import CaseResult, Rows
    from runner.running.summary import Summary

_MOST_SHOWN = 10  # of each level that GitHub shows of a step
_MOST_NAMED = 5  # cases in one annotation
_LONGEST = 300  # characters told of one case: GitHub cuts a message at 4,096
_SUMMARY_LIMIT = 1024 * 1024  # bytes of a step's summary, of which GitHub shows nothing if it is longer


def write(out: TextIO, rows: Rows, summary: Summary) -> None:
    """Write the annotations: one for each line of a job file that says something which did not hold. It is a warning
    where the job's thresholds allow it.

    GitHub's runner reads both streams of a step for them. Raises OSError.
    """
    if summary.stopped:
        out.write(_command("error", one_line(f"the run stopped: {summary.stopped.message}"), title="bedrock-run"))
    found = _annotations(rows, summary)
    shown = found[: _MOST_SHOWN - bool(summary.stopped)]
    for annotation in shown:
        out.write(annotation.command())
    if len(found) > len(shown):
        more = f"{plural(len(found) - len(shown), 'more line')} of job files with failures: see the summary or the rows"
        out.write(_command("notice", more, title="bedrock-run"))


def append_summary(path: Path, rows: Rows, summary: Summary) -> None:
    """Add the Markdown report to the file of GITHUB_STEP_SUMMARY. Raises OSError, also if GitHub would not show it."""
    text = io.StringIO()
    markdown.write(text, rows, summary)
    report = text.getvalue().encode(errors="backslashreplace") + b"\n"
    with path.open("ab") as file:
        if file.tell() + len(report) > _SUMMARY_LIMIT:
            raise OSError("with what the step has written before it would be longer than GitHub shows")
        file.write(report)


@dataclass(slots=True)
class _Annotation:
    """What happened because of one line of a job file, in how many cases."""

    path: str
    line: int
    title: str
    level: Literal["error", "warning"] = "error"
    cases: int = 0
    told: list[str] = field(default_factory=list)

    def add(self, case: str, what: str) -> None:
        self.cases += 1
        if len(self.told) < _MOST_NAMED:
            self.told.append(cut(f"{case}: {what}", _LONGEST))

    def command(self) -> str:
        more = [f"and {self.cases - len(self.told):,} more"] if self.cases > len(self.told) else []
        title = self.title + (f" in {plural(self.cases, 'case')}" if self.cases > 1 else "")
        message = "\n".join([*self.told, *more])
        return _command(self.level, message, file=in_workspace(self.path), line=str(self.line), title=title)


def _annotations(rows: Rows, summary: Summary) -> list[_Annotation]:
    found: dict[_Fault, _Annotation] = {}
    tolerant = summary.tolerant_jobs
    for case in rows.cases():
        if case.status != "passed":
            for fault, what in _faults(case).items():
                tolerated = case.status == "failed" and case.job in tolerant
                annotation = found.setdefault(fault, _Annotation(*fault, level="warning" if tolerated else "error"))
                annotation.add(full_name(case.job, case.id), what)
    for job in summary.jobs.values():
        for broken in job.broken_thresholds:
            fault = _Fault(broken.path, broken.line, f"{broken.name} of {job.name} does not hold")
            found[fault] = _Annotation(*fault, told=[one_line(broken.told)])
    return sorted(found.values(), key=lambda annotation: annotation.level)


class _Fault(NamedTuple):
    """A line of a job file, and what did not hold there."""

    path: str
    line: int
    title: str


def _faults(case: CaseResult) -> dict[_Fault, str]:
    """What did not hold in a case, and what is told of it: once, though it may be so in several repetitions."""
    faults: dict[_Fault, str] = {}
    for row in case.rows:
        source, error = row["source"], row["error"]
        if error is not None:
            faults.setdefault(_Fault(source["path"], source["line"], error["code"]), error["message"])
        for verdict in failed_assertions(row):
            faults.setdefault(_Fault(source["path"], verdict["line"], f"{verdict['type']} failed"), verdict["reason"])
    if not faults:
        source = case.rows[0]["source"]
        faults[_Fault(source["path"], source["line"], "not run")] = (
            plural(case.missing, "repetition is", "repetitions are") + " missing"
        )
    return faults


def _command(name: str, message: str, **properties: str) -> str:
    """A workflow command as a line, with everything escaped that would end a part of it."""
    given = ",".join(f"{key}={_escape(one_line(value), ':,')}" for key, value in properties.items())
    return f"::{name} {given}::{_escape(message)}\n"


def _escape(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text
