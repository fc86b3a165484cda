"""The event loop: rows count when they are durable, stops are in order, bugs are loud. Cases and rows are stand-ins."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from runner.engine import Engine, Work
from runner.errors import ExitCode, Problem, StoppedError, UsageError
from runner.records import Case, Row
from runner.stop import Stop, StopReason

INTERRUPT = StopReason(exit_code=ExitCode.INTERRUPTED, message="interrupted", cuts_calls=True)
DENIED = StopReason(exit_code=ExitCode.STOPPED, message="denied")


def numbers(count: int) -> Iterator[Case]:
    return cast("Iterator[Case]", iter(range(count)))


class Recorder:
    """A run whose every step is noted in `log`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Any]] = []
        self.stop = Stop()
        self.lost_calls = 0

    def finished(self, case: Case, row: Row) -> None:
        self.log.append(("finished", case))

    def write(self, rows: Sequence[Row]) -> None:
        self.log.extend(("written", row) for row in rows)

    def run(self, answer: Callable[[Case], Awaitable[Any]], *works: Work, grace: float = 60.0) -> None:
        async def started(case: Case) -> Any:
            self.log.append(("started", case))
            try:
                return await answer(case)
            except asyncio.CancelledError:
                self.log.append(("cut", case))
                raise

        async def main() -> None:
            engine = Engine(answer=started, write=self.write, finished=self.finished, stop=self.stop, grace=grace)
            try:
                await engine.run(works)
            finally:
                self.lost_calls = engine.lost_calls

        asyncio.run(main())

    def cases(self, event: str) -> list[Any]:
        return [case for name, case in self.log if name == event]


async def echo(case: Case) -> Any:
    await asyncio.sleep(0)
    return case


def test_every_case_is_answered_written_and_only_then_finished() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(50), 4), Work(numbers(0), 4))
    assert sorted(recorder.cases("finished")) == list(range(50))
    for number in range(50):
        order = [name for name, case in recorder.log if case == number]
        assert order == ["started", "written", "finished"]


def test_one_at_a_time_is_the_plain_loop() -> None:
    recorder = Recorder()
    recorder.run(echo, Work(numbers(5), 1))
    assert recorder.cases("started") == list(range(5))


def test_cases_are_made_as_they_are_needed() -> None:
    recorder = Recorder()
    ahead: list[int] = []

    def cases() -> Iterator[Case]:
        for number in range(20):
            ahead.append(number - len(recorder.cases("written")))
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


def test_rows_that_cannot_be_written_stop_the_run_and_do_not_count() -> None:
    recorder = Recorder()

    def full(rows: Sequence[Row]) -> None:
        raise OSError(28, "No space left on device", "outputs/a.jsonl")

    async def paid(case: Case) -> Any:
        await asyncio.sleep(0)
        return {"attempts": [{}]}

    recorder.write = full  # type: ignore[method-assign]
    recorder.run(paid, Work(numbers(5000), 4))
    assert recorder.lost_calls == len(recorder.cases("started"))
    assert recorder.stop.reason is not None
    assert recorder.stop.reason.exit_code is ExitCode.STOPPED
    assert "outputs/a.jsonl: No space left on device" in recorder.stop.reason.message
    assert recorder.cases("finished") == []
    assert len(recorder.cases("started")) < 5000


@pytest.mark.parametrize("where", ["answer", "write", "finished"])
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

    def cases() -> Iterator[Case]:
        yield from numbers(1)
        raise UsageError(Problem("image a.png has gone"))

    recorder.run(echo, Work(cases(), 1))
    assert recorder.cases("finished") == [0]
    assert recorder.stop.reason is not None
    assert "a.png has gone" in recorder.stop.reason.message
