"""The reports of a run: what they would overwrite is found before anything is sent, they are made when all is done."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

from runner import report
from runner.console import say
from runner.errors import UsageError
from runner.records import CaseFile
from runner.report.files import STDOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.records import Job
    from runner.report.rows import Spool
    from runner.running.run import RunOptions
    from runner.running.summary import Summary


def check(jobs: Sequence[Job], options: RunOptions) -> None:
    """Raise UsageError for reports that would overwrite what the run reads or writes."""
    taken = {path: "a file that the run reads" for path in (options.prices, options.replies) if path is not None}
    for job in jobs:
        taken[job.path] = "the job file"
        if isinstance(job.cases, CaseFile):
            taken[job.path.parent / job.cases.path] = f"the cases of {job.name}"
        if options.output is not None:
            taken[options.output / f"{job.name}.jsonl"] = f"the rows of {job.name}"
    if options.output is None or options.as_json:
        taken[STDOUT] = "the rows" if options.output is None else "the summary"
    problems = list(options.reports.problems(taken))
    if problems:
        raise UsageError(*problems)


def write(spooled: Spool, summary: Summary, options: RunOptions) -> None:
    """Make the reports. What goes wrong with them changes nothing about the run."""
    try:
        rows = spooled.rows()
    except OSError as error:
        why = f"their rows could not be kept in {tempfile.gettempdir()}: {error.strerror or error}"
        say(f"note: no report was written, since {why}")
        return
    tell = None if options.quiet else say
    made = report.write(options.reports, rows, summary, tell=tell, verbose=options.verbose)
    for written in made.written if not options.quiet else ():
        say(f"report: {written}")
    for failure in made.failures:
        say(f"note: {failure}")
