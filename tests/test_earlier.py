"""The rows of earlier runs: which of them serves which case, and at what cost in memory."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_rows import ERROR, made_row

from runner.results.earlier import Earlier, Fate
from runner.results.lines import to_line

if TYPE_CHECKING:
    from runner.records import Row


def key(asked: str) -> str:
    return hashlib.sha256(asked.encode()).hexdigest()


def row(case: str = "a", **fields: Any) -> Row:
    return made_row(**{"case": case, "key": key(case), **fields})


def earlier(*rows: Row | bytes, accept_local: bool = False) -> Earlier:
    lines = [line if isinstance(line, bytes) else to_line(line) for line in rows]
    return Earlier(io.BytesIO(b"".join(lines)), accept_local=accept_local)


def taken(file: Earlier, asked: str, case: str, repeat: int = 0) -> Row | None:
    found = file.take(key(asked), case, repeat)
    return None if found is None else found.row


def test_a_row_serves_the_case_of_its_key_and_its_name_once() -> None:
    file = earlier(row("a"), row("b", status="failed", output="\ud800", vars={"n": 10**30}))
    assert taken(file, "b", "a") is None
    assert taken(file, "a", "b") is None
    assert taken(file, "b", "b", repeat=1) is None
    assert taken(file, "b", "b") == row("b", status="failed", output="\ud800", vars={"n": 10**30})
    assert taken(file, "b", "b") is None


def test_of_several_rows_for_one_case_the_last_in_the_file_counts() -> None:
    file = earlier(row(output="first"), row("b"), row(output="last"))
    assert taken(file, "a", "a") == row(output="last")


def test_a_case_with_another_name_is_served_by_key() -> None:
    file = earlier(row("1", key=key("x")), row("2", key=key("x")), row("3", key=key("y")))
    assert file.knows(key("x"))
    assert taken(file, "x", "2") is not None
    other = file.take_any(key("x"))
    assert other is not None
    assert (other.number, other.row["case"]) == (0, "1")
    assert file.take_any(key("x")) is None
    assert not file.knows(key("x"))
    assert file.knows(key("y"))
    assert not file.knows(key("z"))


def test_it_tells_whether_a_case_has_a_row_whatever_was_asked() -> None:
    file = earlier(row("a", repeat=2), row("b", status="error", output=None))
    assert file.has("a", 2)
    assert not file.has("a", 0)
    assert not file.has("b", 0), "an error can't serve"
    assert taken(file, "a", "a", repeat=2) is not None
    assert not file.has("a", 2)


def test_rows_of_the_local_emulator_serve_only_where_they_are_wanted() -> None:
    local = row(endpoint="local")
    assert taken(earlier(local), "a", "a") is None
    assert not earlier(local).knows(key("a"))
    assert taken(earlier(local, accept_local=True), "a", "a") == local


@pytest.mark.parametrize("neighbour", [False, True], ids=["alone", "beside another in one bucket"])
def test_rows_that_asked_the_same_are_not_walked_over_again_and_again(neighbour: bool) -> None:
    rows = [row(str(number), key=key("same")) for number in range(2000)]
    bucket = (1 << 11) - 1  # 2000 and a few rows have 2048 buckets
    others = (key(str(number)) for number in count())
    if neighbour:
        rows.append(row(key=next(other for other in others if not (hash(other) ^ hash(key("same"))) & bucket)))
    file = earlier(*rows)
    steps = 0

    class Counted(bytearray):
        def __getitem__(self, at: Any) -> Any:
            nonlocal steps
            steps += 1
            return super().__getitem__(at)

    file._taken = Counted(file._taken)
    served = [file.take_any(key("same")) for _ in range(2001)]
    assert sorted(found.number for found in served if found) == list(range(2000))
    assert steps < 10_000


def test_hashes_that_collide_are_told_apart_by_reading_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.results.earlier.hash", lambda _: 7, raising=False)
    file = earlier(row("a"), row("b"), row("c"))
    assert taken(file, "d", "a") is None
    assert taken(file, "a", "d") is None
    assert file.take_any(key("d")) is None
    assert taken(file, "b", "b") == row("b")
    found = file.take_any(key("a"))
    assert found is not None
    assert found.row == row("a")


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0\0\0\n",
        b"somebody's note\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"7\n",
        b'"text"\n',
        to_line(row("x"))[:-1] + to_line(row("y")),
        to_line(row("x"))[:50] + to_line(row("y")),
        to_line(row("x")).replace(b"passed", b"perhaps"),
        to_line(row("x", index=-1)),
        to_line(row("x", index="1")),
        to_line(row("x", index=10**30)),
        to_line(row("x", repeat=None)),
        to_line(row("x")).replace(b'"case":"x"', b'"case":[]'),
        to_line(row("x", output="reply")).replace(b"reply", b"re\xc3ly"),
        to_line(row("x", output="reply")).replace(b"reply", b"re\0ly"),
    ],
    ids=lambda line: repr(line[:30]),
)
def test_what_is_no_row_is_told_by_its_line_and_harms_no_other(line: bytes) -> None:
    file = earlier(row("a"), b"\n", line, row("b"))
    assert file.damaged_lines() == [3]
    assert list(file.fates(complete=False)) == [Fate.STAYS, Fate.DROPPED, Fate.DAMAGED, Fate.STAYS]
    assert taken(file, "a", "a") == row("a")
    assert taken(file, "b", "b") == row("b")
    assert not file.has("x", 0)


@pytest.mark.parametrize(
    ("text", "tidy"),
    [
        (b"", True),
        (b"\n\n \n", True),
        (b"\xef\xbb\xbf" + to_line(row("a")), False),
        (to_line(row("a")).replace(b"\n", b"\r\n"), False),
        (b"\r\n" + to_line(row("a")), False),
    ],
    ids=["empty", "blank lines", "BOM", "CRLF", "blank CRLF"],
)
def test_what_an_editor_adds_does_no_harm(text: bytes, tidy: bool) -> None:
    file = earlier(text, row("b"))
    assert file.damaged_lines() == []
    assert file.tidy == tidy
    assert taken(file, "a", "a") == (row("a") if b"passed" in text else None)
    assert taken(file, "b", "b") == row("b")


KEPT = row("a")
CHEAP_ERROR = row("a", status="error", output=None, replies=[], attempts=[{"possibly_billed": False}])
UNASKED = row("a", status="error", output=None, replies=[], attempts=[], error={**ERROR, "code": "input"})
BILLED_ERROR = row("a", status="error", output=None, replies=[], attempts=[{"possibly_billed": True}])
HALF_ERROR = row("a", status="error", output=None, attempts=[])
LOCAL = row("a", endpoint="local")


@pytest.mark.parametrize(
    ("old", "of_this_run", "fate", "fate_if_complete"),
    [
        (KEPT, None, Fate.STAYS, Fate.SUPERSEDED),
        (KEPT, row("a"), Fate.REPLACED, Fate.REPLACED),
        (KEPT, row("a", status="failed"), Fate.REPLACED, Fate.REPLACED),
        (KEPT, row("a", status="error", output=None, replies=[]), Fate.STAYS, Fate.SUPERSEDED),
        (KEPT, row("a", status="error"), Fate.REPLACED, Fate.REPLACED),  # answered, but not judged
        (KEPT, row("a", key=key("new")), Fate.STAYS, Fate.SUPERSEDED),  # another case may want it
        (KEPT, row("a", key=key("new"), status="error", output=None, replies=[]), Fate.STAYS, Fate.SUPERSEDED),
        (KEPT, UNASKED, Fate.STAYS, Fate.STAYS),  # its file may come back
        (HALF_ERROR, UNASKED, Fate.STAYS, Fate.STAYS),
        (CHEAP_ERROR, UNASKED, Fate.DROPPED, Fate.DROPPED),
        (BILLED_ERROR, UNASKED, Fate.REPLACED, Fate.REPLACED),
        (KEPT, row("b"), Fate.STAYS, Fate.SUPERSEDED),
        (KEPT, row("a", repeat=1), Fate.STAYS, Fate.SUPERSEDED),
        (CHEAP_ERROR, None, Fate.STAYS, Fate.SUPERSEDED),
        (CHEAP_ERROR, row("a"), Fate.DROPPED, Fate.DROPPED),
        (CHEAP_ERROR, row("a", status="error", output=None, replies=[]), Fate.DROPPED, Fate.DROPPED),
        (BILLED_ERROR, None, Fate.STAYS, Fate.SUPERSEDED),
        (BILLED_ERROR, row("a"), Fate.REPLACED, Fate.REPLACED),
        (BILLED_ERROR, row("a", status="error", output=None, replies=[]), Fate.REPLACED, Fate.REPLACED),
        (HALF_ERROR, row("a"), Fate.REPLACED, Fate.REPLACED),
        (LOCAL, None, Fate.STAYS, Fate.SUPERSEDED),
        (LOCAL, row("a"), Fate.REPLACED, Fate.REPLACED),
        (b"damage\n", None, Fate.DAMAGED, Fate.DAMAGED),
        (b"\n", None, Fate.DROPPED, Fate.DROPPED),
    ],
)
def test_what_becomes_of_a_row_that_this_run_did_not_take(
    old: Row | bytes, of_this_run: Row | None, fate: Fate, fate_if_complete: Fate
) -> None:
    file = earlier(old)
    if of_this_run is not None:
        file.give_way_to(of_this_run, called=True)
    assert list(file.fates(complete=False)) == [fate]
    assert list(file.fates(complete=True)) == [fate_if_complete]


def test_errors_give_way_to_a_row_that_was_taken_and_other_replies_do_not() -> None:
    file = earlier(CHEAP_ERROR, BILLED_ERROR, row("a", key=key("old prompt")), row("a"))
    assert taken(file, "a", "a") == row("a")
    assert list(file.fates(complete=False)) == [Fate.DROPPED, Fate.REPLACED, Fate.STAYS, Fate.STAYS]


def begun(case: str = "a", replies: int = 1, **fields: Any) -> Row:
    return row(case, **{"status": "error", "output": None, "replies": row()["replies"] * replies, **fields})


def replies_taken(file: Earlier, asked: str, case: str, turns: int = 3) -> int | None:
    found = file.take_begun(key(asked), case, 0, turns=turns)
    return None if found is None else len(found.row["replies"])


def test_a_conversation_that_has_begun_serves_its_own_case_or_else_one_that_asks_the_same() -> None:
    file = earlier(begun("b", key=key("a")), begun("a", 2), begun("c", key=key("a")))
    assert not file.has("a", 0)
    assert not file.knows(key("a"))
    assert not file.spare()
    assert replies_taken(file, "x", "a") is None
    assert replies_taken(file, "a", "a") == 2
    assert replies_taken(file, "a", "a", turns=1) is None
    assert replies_taken(file, "a", "a") == 1
    assert replies_taken(file, "a", "a") == 1
    assert replies_taken(file, "a", "a") is None


def test_of_the_rows_of_one_conversation_the_last_holds_all_that_the_others_hold() -> None:
    file = earlier(begun(), begun(replies=2))
    assert replies_taken(file, "a", "a") == 2
    assert replies_taken(file, "a", "a") is None
    assert list(file.fates(complete=False)) == [Fate.DROPPED, Fate.STAYS]
    assert list(earlier(begun(), row()).fates(complete=False)) == [Fate.DROPPED, Fate.STAYS]


def test_a_conversation_is_not_begun_by_one_endpoint_and_ended_by_another() -> None:
    assert replies_taken(earlier(begun(endpoint="local")), "a", "a") is None
    assert replies_taken(earlier(begun(), accept_local=True), "a", "a") is None
    assert replies_taken(earlier(begun(endpoint="local"), accept_local=True), "a", "a") == 1


def test_a_conversation_that_has_begun_waits_for_its_case_whatever_becomes_of_its_name() -> None:
    file = earlier(begun())
    file.give_way_to(row("a", key=key("inserted on top")), called=True)
    assert list(file.fates(complete=False)) == [Fate.STAYS]
    file.give_way_to(row("a"), called=False)
    assert list(file.fates(complete=False)) == [Fate.REPLACED]


MEASURE = """
import sys
from runner.results.earlier import Earlier

def peak():  # ru_maxrss would include that of the parent process
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

before = peak()
with open(sys.argv[1], "rb") as file:
    earlier = Earlier(file)
    assert all(earlier.has(f"case-{number}", 0) for number in range(0, 300_000, 1000))
    assert not earlier.knows("")
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured as Linux tells it")
def test_an_index_of_300_000_rows_takes_little_memory(tmp_path: Path) -> None:
    template = to_line(row("case-NUMBER", key="KEY")).decode().replace('"index":0', '"index":NUMBER')
    with (tmp_path / "job.jsonl").open("w") as file:
        for number in range(300_000):
            file.write(template.replace("NUMBER", str(number)).replace("KEY", f"{number:064x}"))
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "job.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 25_000, "kB: a dict of them would take 60,000"
