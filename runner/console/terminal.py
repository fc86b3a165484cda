"""The same events as console.py, on a terminal: conversations as they come, a progress bar for many cases."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from runner.console import Console, Patient, call_name, case_name, duration, money, plain, retry_line, spent
from runner.console.failures import MOST_TOLD, Outcomes
from runner.console.summaries import stop_lines, summary_lines
from runner.media.formats import kind_of
from runner.records import exchanges
from runner.records.row_facts import cost_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.calling.retry import RetryNotice
    from runner.records import Case, Job, Message, Reply, Row
    from runner.running.summary import Summary, Tally
    from runner.stop import StopReason


_UPDATE_SECONDS = 0.05
_STYLES = {
    "passed": "green",
    "FAILED": "bold red",
    "ERROR": "bold red",
    "BROKEN": "bold red",
    "^": "bold red",
    "hint:": "cyan",
}


class Screen:
    """Prints text from outside so that it can't be markup or control codes."""

    def __init__(self, *, verbose: bool) -> None:
        self.outcomes = Outcomes(told=None if verbose else MOST_TOLD)
        self.rich = RichConsole(file=cast("IO[str]", Patient()), highlight=False)

    def write(self, text: str, style: str = "", *, end: str = "\n") -> None:
        self.rich.print(Text(plain(text), style=style), end=end, soft_wrap=True)

    def tell(self, lines: Iterable[str]) -> None:
        """Lines that are coloured by what they begin with; printed at once, so that a bar below is drawn again once."""
        told = [Text(plain(line), style=_STYLES.get(line.split(maxsplit=1)[0], "")) for line in lines]
        if told:
            self.rich.print(Text("\n").join(told), soft_wrap=True)


Show = Callable[["Section", "Case", "Row"], None]


class Section(Console):
    """One job's part of the screen. It is complete when all its cases are finished."""

    def __init__(self, job: Job, tally: Tally, screen: Screen, *, verbose: bool) -> None:
        self._job = job
        self._tally = tally
        self._screen = screen
        self._verbose = verbose

    @property
    def complete(self) -> bool:
        return self._tally.pending == 0

    def later(self, case: Case, row: Row, show: Show) -> Callable[[], None] | None:
        """What is to be done about a finished case once the section is in front; None if nothing."""
        return partial(show, self, case, row)

    def _tell(self, case: Case, row: Row, *, passed: bool = False) -> None:
        self._screen.tell(self._screen.outcomes.lines(case_name(case), row, passed=passed))


class Conversation(Section):
    """A job of one case: what is said, as it is said."""

    def __init__(self, job: Job, tally: Tally, screen: Screen, *, verbose: bool) -> None:
        super().__init__(job, tally, screen, verbose=verbose)
        self._speaking = False  # in the middle of a streamed reply

    def begin(self) -> None:
        self._screen.rich.rule(Text(plain(f"{self._job.name} · {self._job.model}"), "bold"), align="left", style="dim")

    def asked(self, case: Case, messages: Sequence[Message]) -> None:
        if case.request.system is not None and messages[:1] == case.request.messages[:1]:
            self._say("System", case.request.system, "magenta")
        for message in messages:
            attached = "".join(f"[{kind_of(file.media_type)} {file.path}] " for file in message.attached)
            name, style = ("User", "cyan") if message.role == "user" else ("Assistant (scripted)", "green")
            self._say(name, attached + message.text, style)

    def heard(self, case: Case, text: str) -> None:
        if not self._speaking:
            self._screen.write("Assistant: ", "bold green", end="")
            self._speaking = True
        self._screen.write(text, end="")

    def replied(self, case: Case, reply: Reply) -> None:
        if self._speaking:
            self._end_of_speech()
        else:
            self._say("Assistant", reply.text, "green")

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        self._end_of_speech()
        self._screen.write(f"… {retry_line(notice)}", "yellow")

    def finished(self, case: Case, row: Row) -> None:
        self._end_of_speech()
        self._tell(case, row)
        usage, facts = row["usage"], []
        if row["latency_ms"] is not None:
            facts.append(duration(row["latency_ms"] / 1000))
        if usage is not None:
            facts.append(f"{usage['input_tokens']:,} → {usage['output_tokens']:,} tokens")
        cost = cost_of(row)
        if cost is not None:
            facts.append(money(cost))
        style = {"passed": "green", "failed": "red", "error": "red"}[row["status"]]
        self._screen.write(" · ".join([row["status"], *facts]), f"dim {style}")

    def kept(self, case: Case, row: Row) -> None:
        for messages, reply in zip(exchanges(case.request), row["replies"], strict=False):
            self.asked(case, messages)
            self._say("Assistant", reply["text"], "green")
        for reply in row["replies"][len(list(exchanges(case.request))) :]:
            self._say("Assistant, asked to repair it", reply["text"], "green")
        self._tell(case, row)
        self._screen.write(f"{row['status']} · kept from an earlier run ({row['finished_at'][:10]})", "dim")

    def close(self) -> None:
        self._end_of_speech()

    def _end_of_speech(self) -> None:
        if self._speaking:
            self._screen.write("")
        self._speaking = False

    def _say(self, name: str, text: str, style: str) -> None:
        self._screen.write(f"{name}: ", f"bold {style}", end="")
        self._screen.write(text)


class Bar(Section):
    """A job of many cases: a progress bar, and above it a line for each case that failed or erred."""

    def __init__(self, job: Job, tally: Tally, screen: Screen, *, verbose: bool) -> None:
        super().__init__(job, tally, screen, verbose=verbose)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[spent]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=screen.rich,
            expand=True,
        )
        self._updated_at = -_UPDATE_SECONDS
        self._waiting = 0  # cases to tell of later
        name = Text(plain(job.name)).markup
        self._task = self._progress.add_task(name, total=tally.cases, rate="", spent="", start=False)

    def begin(self) -> None:
        self._progress.start()
        self._progress.start_task(self._task)
        self._update()

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        if self._verbose:
            self._screen.write(f"retry  {call_name(case)}: {retry_line(notice)}", "yellow")
        self._progress.update(self._task, rate=f"{notice.error.code.value}, trying again")

    def finished(self, case: Case, row: Row) -> None:
        self._tell(case, row, passed=self._verbose)
        self._update()

    def kept(self, case: Case, row: Row) -> None:
        self._tell(case, row)
        self._update()

    def _update(self) -> None:
        """Bring the bar up to date; not for each of a thousand rows in a second, since rich takes its time."""
        now = time.monotonic()
        if now - self._updated_at < _UPDATE_SECONDS and not self.complete:
            return
        self._updated_at = now
        speed = self._progress.tasks[self._task].speed
        self._progress.update(
            self._task,
            completed=self._tally.done,
            rate=f"{speed:.1f}/s" if speed else "",
            spent=self._spent(),
        )

    def later(self, case: Case, row: Row, show: Show) -> Callable[[], None] | None:
        """Only what is to be said: what was asked and answered would add up to the whole run. The bar counts alone."""
        outcomes = self._screen.outcomes
        told = outcomes.add(case_name(case), row)
        if told is None or told.passed or (self._waiting == MOST_TOLD and not self._verbose):
            return None
        self._waiting += 1
        return lambda: self._screen.tell(outcomes.tell(told))

    def close(self) -> None:
        self._progress.stop()

    def _spent(self) -> str:
        usage = self._tally.usage
        tokens = f"{usage.input_tokens + usage.output_tokens:,} tokens"
        cost = self._tally.cost_usd
        return tokens if cost is None else f"{tokens} {spent(cost, unpriced=self._tally.unpriced)}"


class Terminal(Console):
    """Jobs run together, but are shown one after another: what a later job has to say waits for its turn."""

    def __init__(self, jobs: Sequence[Job], summary: Summary, *, verbose: bool) -> None:
        self._screen = Screen(verbose=verbose)
        self._sections: dict[str, Section] = {}
        self._waiting: dict[str, deque[Callable[[], None]]] = {}
        for job in jobs:
            tally = summary.jobs[job.name].tally
            kind = Conversation if tally.cases == 1 else Bar
            self._sections[job.name] = kind(job, tally, self._screen, verbose=verbose)
            self._waiting[job.name] = deque()
        self._order = deque(self._sections)
        self._begun = False

    def begin(self) -> None:
        self._begun = True
        self._sections[self._order[0]].begin()

    def asked(self, case: Case, messages: Sequence[Message]) -> None:
        self._converse(case, lambda section: section.asked(case, messages))

    def heard(self, case: Case, text: str) -> None:
        self._converse(case, lambda section: section.heard(case, text))

    def replied(self, case: Case, reply: Reply) -> None:
        self._converse(case, lambda section: section.replied(case, reply))

    def retrying(self, case: Case, notice: RetryNotice) -> None:
        if self._in_front(case) or isinstance(self._sections[case.job.name], Conversation):
            self._show(case, lambda section: section.retrying(case, notice))

    def finished(self, case: Case, row: Row) -> None:
        self._done(case, row, lambda section, case, row: section.finished(case, row))

    def kept(self, case: Case, row: Row) -> None:
        self._done(case, row, lambda section, case, row: section.kept(case, row))

    def _done(self, case: Case, row: Row, event: Show) -> None:
        section = self._sections[case.job.name]
        if self._in_front(case):
            event(section, case, row)
        elif later := section.later(case, row, event):
            self._waiting[case.job.name].append(later)
        while self._order and self._sections[self._order[0]].complete:
            self._next_section()

    def stopping(self, reason: StopReason, grace: float) -> None:
        if reason.cuts_calls:
            again = "Ctrl-C again cuts them now"
            self._screen.write(f"\n{reason.message}: {grace:g}s for the calls in flight; {again}", "bold yellow")

    def close(self) -> None:
        if not self._begun:
            return
        while len(self._order) > 1:
            if self._waiting[self._order[1]]:
                self._next_section()
            else:
                del self._order[1]  # nothing came of it
        if self._order:
            self._sections[self._order.popleft()].close()

    def end(self, summary: Summary) -> None:
        if self._begun:
            self._screen.tell(self._screen.outcomes.rest())
            self._screen.rich.rule(style="dim")
        lines = list(summary_lines(summary, width=self._screen.rich.width))
        for line in lines[:1]:
            self._screen.write(line, "bold")
        self._screen.tell(lines[1:])
        for line in stop_lines(summary, self._screen.outcomes):
            self._screen.write(line, "bold yellow")

    def _in_front(self, case: Case) -> bool:
        return bool(self._order) and self._order[0] == case.job.name

    def _converse(self, case: Case, event: Callable[[Section], None]) -> None:
        if isinstance(self._sections[case.job.name], Conversation):
            self._show(case, event)

    def _show(self, case: Case, event: Callable[[Section], None]) -> None:
        section = self._sections[case.job.name]
        if self._in_front(case):
            event(section)
        else:
            self._waiting[case.job.name].append(partial(event, section))

    def _next_section(self) -> None:
        """Close the section in front, and let the next catch up."""
        self._sections[self._order.popleft()].close()
        if not self._order:
            return
        name = self._order[0]
        self._sections[name].begin()
        while self._waiting[name]:
            self._waiting[name].popleft()()
