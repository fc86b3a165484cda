"""The event loop: rows count when they are durable, stops are in order, bugs are loud. Cases and rows are stand-ins."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.cases.resume import Kept
from runner.errors import ExitCode, Problem, StoppedError, UsageError
from runner.records import Case, Row
from runner.results.earlier import EarlierRow
from runner.running import engine
from runner.running.engine import Engine, Finished, Work
from runner.stop import Stop, StopReason

INTERRUPT = StopReason(exit_code=ExitCode.INTERRUPTED, message="interrupted", cuts_calls=True)
DENIED = StopReason(exit_code=ExitCode.STOPPED, message="denied")


def numbers(count: int) -> Iterator[Case | Kept | None]:
    return cast("Iterator[Case | Kept | None]", iter(range(count)))


class Recorder:
    """A run whose every step is noted in `log`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.stop = Stop()
        self.lost_calls = 0
        self.gave_up = False

    async def admit(self, case: Case) -> None:
        self.log.append(("admitted", case))

    async def keep(self, kept: Kept) -> Row | None:
        return kept.earlier.row

    def finished(self, item: Finished) -> None:
        self.log.append(("kept" if item.earlier else "finished", item.case))

    def append(self, item: Finished) -> None:
        self.log.append(("appended", item.case))

    def end(self) -> None:
        self.log.append(("ended", None))

    def sync(self) -> None:
        synced = set(self.cases("synced"))
        self.log.extend(("synced", case) for case in self.cases("appended") if case not in synced)

    def has_written(self, row: Row) -> bool:
        return False

    def run(
        self,
        answer: Callable[[Case], Awaitable[Any]],
        *works: Work,
        grace: float = 60.0,
    ) -> None:
        async def started(case: Case) -> Any:
            self.log.append(("started", case))
            try:
                return await answer(case)
            except asyncio.CancelledError:
                self.log.append(("cut", case))
                raise

        async def main() -> None:
            steps = SimpleNamespace(keep=self.keep, admit=self.admit, answer=started)
            running = Engine(
                steps=steps,
                store=SimpleNamespace(append=self.append, sync=self.sync, end=self.end, has_written=self.has_written),
                finished=self.finished,
                stop=self.stop,
                grace=grace,
            )
            try:
                await running.run(works)
            finally:
                self.lost_calls = running.lost_calls
                self.gave_up = running.gave_up

        asyncio.run(main())

    def cases(self, event: str) -> list[Any]:
        return [case for name, case in self.log if name == event]


async def echo(case: Case) -> Any:
    await asyncio.sleep(0)
    return case


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - whatever it is that makes it true
        await asyncio.sleep(0)


def test_every_case_is_answered_written_and_only_then_finished() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(50), 4), Work(numbers(0), 4))
    assert sorted(recorder.cases("finished")) == list(range(50))
    for number in range(50):
        order = [name for name, case in recorder.log if case == number]
        assert order == ["admitted", "started", "appended", "synced", "finished"]


def test_one_at_a_time_is_the_plain_loop() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(5), 1))
    assert recorder.cases("started") == list(range(5))


def test_cases_are_made_as_they_are_needed() -> None:
    recorder = Recorder()
    ahead: list[int] = []

    def cases() -> Iterator[Case | Kept | None]:
        for number in range(20):
            ahead.append(number - len(recorder.cases("synced")))
            yield cast("Case", number)

    async def slow(case: Case) -> Any:
        await asyncio.sleep(0.001)
        return case

    recorder.run(slow, Work(cases(), 3))
    assert len(ahead) == 20
    assert max(ahead) < 15


def test_an_account_stop_starts_nothing_more_and_lets_calls_in_flight_finish() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        if cast("int", case) == 2:
            await asyncio.sleep(0)  # the others have started
            recorder.stop.request(DENIED)
            return case
        await asyncio.sleep(0.01)
        return case

    recorder.run(answer, Work(numbers(100), 4))
    assert sorted(recorder.cases("finished")) == [0, 1, 2, 3]
    assert len(recorder.cases("cut")) == 0


def test_an_interrupt_cuts_calls_after_their_moment() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        if cast("int", case) == 0:
            return case
        if cast("int", case) == 3:
            asyncio.get_running_loop().call_later(0.01, recorder.stop.request, INTERRUPT)
        return await asyncio.sleep(3600)

    recorder.run(answer, Work(numbers(100), 3), grace=0.01)
    assert recorder.cases("finished") == [0]
    assert len(recorder.cases("cut")) == 3


def test_a_second_interrupt_does_not_wait_for_the_moment() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        recorder.stop.request(INTERRUPT)
        recorder.stop.request(INTERRUPT)
        await asyncio.sleep(3600)

    recorder.run(answer, Work(numbers(3), 1), grace=3600)
    assert len(recorder.cases("cut")) == 1


def test_an_interrupt_during_an_account_stop_gives_the_calls_their_moment_and_tells_both() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        recorder.stop.request(DENIED)
        asyncio.get_running_loop().call_later(0.01, recorder.stop.request, INTERRUPT)
        await asyncio.sleep(3600)

    recorder.run(answer, Work(numbers(3), 1), grace=0.05)
    assert recorder.stop.reason is not None
    assert recorder.stop.reason.exit_code is ExitCode.INTERRUPTED
    assert recorder.stop.reason.message == "interrupted, after: denied"


def test_a_stop_ends_backoff_at_once_and_leaves_the_case_pending() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        if cast("int", case) == 1:
            recorder.stop.request(INTERRUPT)
        await recorder.stop.sleep(3600)
        pytest.fail("the sleep must not end as if nothing had happened")

    recorder.run(answer, Work(numbers(100), 2), grace=3600)
    assert recorder.cases("finished") == []
    assert len(recorder.cases("cut")) == 0


def test_sleep_passes_time_when_nothing_stops_it() -> None:
    async def main() -> None:
        stop = Stop()
        await stop.sleep(0.001)
        stop.request(DENIED)
        with pytest.raises(StoppedError):
            await stop.sleep(0.001)

    asyncio.run(main())


@pytest.mark.parametrize("step", ["append", "sync"])
def test_rows_that_cannot_be_written_stop_the_run_and_do_not_count(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", "outputs/a.jsonl")

    async def paid(case: Case) -> Any:
        await asyncio.sleep(0)
        return {"attempts": [{}], "judgements": []}

    monkeypatch.setattr(recorder, step, full)
    recorder.run(paid, Work(numbers(5000), 4))
    assert recorder.lost_calls == len(recorder.cases("started"))
    assert recorder.stop.reason is not None
    assert recorder.stop.reason.exit_code is ExitCode.STOPPED
    assert "outputs/a.jsonl: No space left on device" in recorder.stop.reason.message
    assert recorder.cases("finished") == []
    assert len(recorder.cases("started")) < 5000


def test_of_rows_whose_sync_failed_those_that_were_written_count(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    def gone() -> None:
        raise BrokenPipeError

    async def paid(case: Any) -> Any:
        await asyncio.sleep(0)
        return {"case": case, "attempts": [{}], "judgements": []}

    monkeypatch.setattr(recorder, "sync", gone)
    monkeypatch.setattr(recorder, "has_written", lambda row: row["case"] == 0)
    recorder.run(paid, Work(numbers(5000), 4))
    assert recorder.cases("finished") == [0]
    assert recorder.lost_calls == len(recorder.cases("started")) - 1


@pytest.mark.parametrize("where", ["answer", "append", "sync", "finished"])
def test_a_bug_ends_the_run_and_is_raised(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    async def answer(case: Case) -> Any:
        return broken() if where == "answer" else await echo(case)

    if where != "answer":
        monkeypatch.setattr(recorder, where, broken)
    with pytest.raises(ZeroDivisionError):
        recorder.run(answer, Work(numbers(5000), 4))
    assert recorder.stop.reason is not None
    assert recorder.stop.reason.exit_code is ExitCode.BUG


def test_a_file_that_changed_meanwhile_stops_the_run() -> None:
    recorder = Recorder()

    def cases() -> Iterator[Case | Kept | None]:
        yield from numbers(1)
        raise UsageError(Problem("image a.png has gone"))

    recorder.run(echo, Work(cases(), 1))
    assert recorder.cases("finished") == [0]
    assert recorder.stop.reason is not None
    assert "a.png has gone" in recorder.stop.reason.message


def test_a_kept_row_is_written_and_told_without_a_call() -> None:
    recorder = Recorder()
    kept = cast("Any", [Kept(cast("Case", 7), EarlierRow(0, cast("Row", {}))), None, 8])
    recorder.run(echo, Work(iter(kept), 1))
    assert recorder.cases("started") == [8]
    assert recorder.cases("kept") == [7]
    assert sorted(recorder.cases("appended")) == [7, 8]


def test_a_case_waits_until_it_is_admitted_and_the_others_go_on() -> None:
    recorder = Recorder()

    async def admit(case: Case) -> None:
        if cast("int", case) == 2:
            await until(lambda: len(recorder.cases("finished")) == 2)

    recorder.admit = admit  # type: ignore[method-assign]
    recorder.run(echo, Work(numbers(5)))
    assert recorder.cases("started").index(2) == 2
    assert sorted(recorder.cases("finished")) == [0, 1, 2, 3, 4]


def test_a_slow_job_does_not_hold_up_another() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        if cast("Any", case) in {"a", "b"}:
            await until(lambda: len(recorder.cases("finished")) >= 20)
        return await echo(case)

    recorder.run(answer, Work(cast("Any", iter("ab")), 1), Work(numbers(20), 2))
    assert recorder.cases("finished") == [*range(20), "a", "b"]


def test_making_cases_in_threads_gives_the_same() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(50), 4, in_threads=True))
    assert sorted(recorder.cases("finished")) == list(range(50))


def test_making_cases_for_long_does_not_hold_up_the_calls() -> None:
    recorder = Recorder()

    def cases() -> Iterator[Case | Kept | None]:
        yield from numbers(1)
        while not recorder.cases("finished"):  # without its turn the case could never be finished
            time.sleep(0.001)
            yield None

    recorder.run(echo, Work(cases()))
    assert recorder.cases("finished") == [0]


def test_a_case_is_in_progress_until_its_row_is_on_disk() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(40), 3))
    begun = written = 0
    for event, _ in recorder.log:
        begun += event == "started"
        written += event == "synced"
        assert begun - written <= 3
    assert written == 40


def test_an_interrupt_cuts_the_calls_also_while_a_case_waits_for_a_place() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        recorder.stop.request(INTERRUPT)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            return {"attempts": [{}], "judgements": []}  # its reply may be on the bill

    recorder.run(answer, Work(numbers(3), 1), grace=0.01)
    assert recorder.cases("finished") == [0]


@pytest.mark.parametrize("signals", [1, 2], ids=["the moment is over", "a second interrupt"])
def test_an_interrupt_does_not_wait_for_a_sync_that_hangs(signals: int, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    loops: list[asyncio.AbstractEventLoop] = []

    def hang() -> None:
        for _ in range(signals):
            loops[0].call_soon_threadsafe(recorder.stop.request, INTERRUPT)
        threading.Event().wait()

    async def answer(case: Case) -> Any:
        loops.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return {"attempts": [{}], "judgements": []}

    monkeypatch.setattr(engine, "_LAST_SYNC_SECONDS", 0.05)
    monkeypatch.setattr(recorder, "sync", hang)
    recorder.run(answer, Work(numbers(5000), 4), grace=0.05 if signals == 1 else 3600)
    assert recorder.gave_up
    assert recorder.cases("finished") == []
    assert recorder.lost_calls == len(recorder.cases("appended")) > 0


def test_rows_of_calls_that_were_cut_are_still_synced() -> None:
    recorder = Recorder()

    async def answer(case: Case) -> Any:
        recorder.stop.request(INTERRUPT)
        recorder.stop.request(INTERRUPT)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return {"attempts": [{}], "judgements": []}

    recorder.run(answer, Work(numbers(3), 1), grace=3600)
    assert recorder.cases("finished") == [0]
    assert not recorder.gave_up
    assert recorder.lost_calls == 0


def test_the_store_hears_that_no_more_rows_come_before_the_last_sync() -> None:
    recorder = Recorder()
    late: list[bool] = []
    sync = recorder.sync

    def watched() -> None:
        late.append(bool(recorder.cases("ended")))
        sync()

    recorder.sync = watched  # type: ignore[method-assign]
    recorder.run(echo, Work(numbers(5)))
    assert late[-1]
