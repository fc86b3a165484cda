"""The rows that earlier runs left in a row file: found by key and by id, and never held in memory."""

from __future__ import annotations

from array import array
from enum import Enum, auto
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from runner.errors import FailureCode
from runner.results.chains import Chains
from runner.results.checking import SCHEMA, NewerRowError, as_row, refuse_newer
from runner.results.files import NOT_A_ROW, skip_bom, superseded
from runner.results.lines import from_line, parse
from runner.results.sidecars import SidecarIndex, WrittenSidecars

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from runner.records import Row


class EarlierRow(NamedTuple):
    """A row of an earlier run that serves a case of this one. `number` is that of its line, from 0."""

    number: int
    row: Row
    as_stored: bool = True  # its line lacks no field that the row has


class Fate(Enum):
    """What becomes of a line of an earlier run when this run ends."""

    STAYS = auto()
    SUPERSEDED = auto()  # moved aside, because it was or may have been paid for, though no case wants it any more
    REPLACED = auto()  # moved aside for the same reason: its case has a newer row
    DROPPED = auto()  # an error that cost nothing, of a case that has a newer row; or a blank line
    DAMAGED = auto()  # moved aside as it is


_NAMED_LINES = 5  # how many damaged lines are told by number before it is said how many more there are

# What a line is, as one byte.
_BLANK = 0
_DAMAGED = 1
_UNPAID = 2  # an error that cost nothing
_PAID = 3  # not good, but perhaps on the bill; also any row of the local emulator where none is wanted
_BEGUN = 4  # an error with the first replies of a conversation, of the kind of endpoint that would go on with it
_GOOD = 5  # answered, by an endpoint that counts here: it can serve a case, whose assertions judge it anew


class Earlier:
    """The lines of a row file. Each good row serves one case, which then needs no call; one that has but begun a
    conversation serves a case too, which then needs fewer.

    A line takes 36 bytes here and as many as 24 in the indexes (and 30 more if it tells of a sidecar): places, and
    64-bit hashes of key and name (case and repeat). A hash only says where to look; what is taken is read back, checked
    and compared whole. Rows of the local emulator are good only if `accept_local`.
    """

    def __init__(self, file: BinaryIO, *, path: Path | None = None, accept_local: bool = False) -> None:
        """`file` is at its start, and stays open as long as this is in use; `path` is where it is, if it has a name. A
        torn last line counts as damaged.

        Raises NewerRowError: to take the rows of a newer version for damaged would pay for their replies again.
        """
        self._file = file
        self.path = path
        self.accept_local = accept_local
        self.positions = array("Q")
        self.offsets = array("Q")
        self._keys = array("q")
        self._names = array("q")
        self._kinds = bytearray()
        self._sidecars = SidecarIndex()
        self._whole_drafts = array("Q")  # rows whose verdicts were to come, and came in a later row of the same call
        self._found_damaged = array("Q")  # the numbers of the rows that could not be taken, though the index has them
        self.tidy = True  # neither BOM nor CRLF
        self.damaged = False  # whether there are lines that can't be read as rows
        self._index()
        self._by_name = Chains(self._names, map(_UNPAID.__le__, self._kinds))
        self._taken = bytearray(len(self._kinds))  # or found to be damaged when it was to be taken
        self._displaced = bytearray(len(self._kinds))
        self._renewed = bytearray(len(self._kinds))
        self._awaited = bytearray(len(self._kinds))
        for number in self._whole_drafts:
            self._renewed[number] = self._taken[number] = True

    @cached_property
    def _by_key(self) -> Chains:
        """Made when it is needed: most runs find every row by its name."""
        return Chains(self._keys, map(_GOOD.__eq__, self._kinds))

    @cached_property
    def _begun_by_key(self) -> Chains:
        return Chains(self._keys, map(_BEGUN.__eq__, self._kinds))

    @cached_property
    def _superseded(self) -> WrittenSidecars:
        """What the rows tell that were set aside: looked at where a file is there that no other row tells of."""
        return WrittenSidecars([superseded(self.path)] if self.path else [])

    def has(self, case_id: str, repeat: int) -> bool:
        """Whether there is a good row of that name which has not been taken, whatever it asked."""
        for number in self._by_name.find(hash((case_id, repeat))):  # any() would take half as long again
            if self._kinds[number] == _GOOD and not self._taken[number]:
                return True
        return False

    def names(self, case_id: str, repeat: int) -> bool:
        """Whether there is a row of that name, good or not."""
        return any(self._kinds[number] != _DAMAGED for number in self._by_name.find(hash((case_id, repeat))))

    def sidecars(self, path: str) -> tuple[str, ...]:
        """What the rows of any name, good or not, say that was written to a sidecar, as SHA-256: the last row first,
        and those that were set aside at the end.
        """
        return (*self._sidecars.digests(path, self._file), *self._superseded.digests(path))

    def knows(self, key: str) -> bool:
        """Whether there is a good row which asked just that and has not been taken."""
        return any(True for _ in self._by_key.find(hash(key), gone=self._taken))

    def take(self, key: str, case_id: str, repeat: int) -> EarlierRow | None:
        """The good row of that key and name; the last one, if there are several. Errors of that name give way to it."""
        for number in self._by_name.find(hash((case_id, repeat))):
            if self._is_free(number) and self._keys[number] == hash(key):
                found = self._read(number)
                if found and (found.row["key"], found.row["case"], found.row["repeat"]) == (key, case_id, repeat):
                    self._taken[number] = True
                    self.give_way_to(found.row, called=False)
                    return found
        return None

    def take_any(self, key: str) -> EarlierRow | None:
        """A good row of that key, whatever its name: for a case that has found none of its own."""
        for number in self._by_key.find(hash(key), gone=self._taken):
            found = self._read(number)
            if found and found.row["key"] == key:
                self._taken[number] = True
                return found
        return None

    def take_begun(self, key: str, case_id: str, repeat: int, *, turns: int) -> EarlierRow | None:
        """The last row of that key with replies to the first of so many `turns`: of that name, or else of any."""
        own = self._by_name.find(hash((case_id, repeat)))
        for number in chain(own, self._begun_by_key.find(hash(key), gone=self._taken)):
            if self._kinds[number] == _BEGUN and not self._taken[number] and self._keys[number] == hash(key):
                found = self._read(number)
                if found and found.row["key"] == key and _can_go_on(found.row, turns=turns):
                    self._taken[number] = True
                    return found
        return None

    def spare(self) -> int:
        """How many good rows no case has taken, nor waits for."""
        flags = zip(self._kinds, self._taken, self._awaited, strict=True)
        return sum(kind == _GOOD and not taken and not awaited for kind, taken, awaited in flags)

    def wait(self, case_id: str, repeat: int) -> None:
        """Note that the case of that name can't be asked now: what its rows have may serve it when it can."""
        for number in self._by_name.find(hash((case_id, repeat))):
            self._awaited[number] = self._kinds[number] >= _BEGUN

    def give_way_to(self, row: Row, *, called: bool) -> None:
        """Note that this run has a row of that name. Earlier errors of the name give way to any row, but a conversation
        that has begun only to a good one that asked the same, and a good earlier row only if it was `called` for too.
        Another case may still want what they have, and so may the case itself that could not be asked.
        """
        if row["error"] is not None and row["error"]["code"] == FailureCode.INPUT and not row["replies"]:
            self.wait(row["case"], row["repeat"])
        good_key = hash(row["key"]) if row["output"] is not None else None
        for number in self._by_name.find(hash((row["case"], row["repeat"]))):
            kind = self._kinds[number]
            if kind < _BEGUN or (self._keys[number] == good_key and (called or kind == _BEGUN)):
                self._displaced[number] = True

    def renew(self, earlier: EarlierRow) -> None:
        """Note that a row of this run holds all that a row which was taken held, and more."""
        self._renewed[earlier.number] = True

    def fates(self, *, complete: bool) -> Iterator[Fate]:
        """What becomes of each line, in the order of the file. `complete`: whether the run covered the whole job, so
        that what it has not taken is not wanted any more.
        """
        for kind, taken, displaced, renewed, awaited in zip(
            self._kinds, self._taken, self._displaced, self._renewed, self._awaited, strict=True
        ):
            if renewed:
                yield Fate.DROPPED
            elif kind == _DAMAGED:
                yield Fate.DAMAGED
            elif taken:
                yield Fate.STAYS
            elif kind == _BLANK or (kind == _UNPAID and displaced):
                yield Fate.DROPPED
            elif displaced:
                yield Fate.REPLACED
            elif complete and not awaited:
                yield Fate.SUPERSEDED
            else:
                yield Fate.STAYS

    def damaged_lines(self) -> list[int]:
        """The numbers of the damaged lines, as editors count."""
        return [number for number, kind in enumerate(self._kinds, 1) if kind == _DAMAGED]

    def damage(self) -> str | None:
        """Which lines are damaged, as `lines 2, 5 can't be read as rows`; None if none is."""
        return _damage(self.damaged_lines())

    def late_damage(self) -> str | None:
        """Likewise, which lines turned out to be damaged when their rows were to be taken."""
        return _damage([number + 1 for number in sorted(self._found_damaged)])

    def _is_free(self, number: int) -> bool:
        return self._kinds[number] == _GOOD and not self._taken[number]

    def _read(self, number: int) -> EarlierRow | None:
        """A row that is to be taken. None if it can't be one, or the file was changed meanwhile: it is damaged then."""
        self._file.seek(self.offsets[number])
        try:
            stored = from_line(self._file.readline())
            row = as_row(stored)
        except ValueError:
            self._kinds[number] = _DAMAGED
            self._taken[number] = self.damaged = True
            self._found_damaged.append(number)
            return None
        return EarlierRow(number, row, as_stored=row is stored)

    def _index(self) -> None:
        """Read the whole file once. Whoever changes this loop measures it: a million rows pass here before any call.

        So it looks only at what it needs; rows that are taken are checked whole.
        """
        offset = skip_bom(self._file)
        self.tidy = offset == 0
        accept_local = self.accept_local
        drafts: dict[tuple[int, int, str], int] = {}  # of runs that were killed: mostly there are none
        for line in self._file:
            try:
                row: Any = parse(line)
                if row["schema"] != SCHEMA:
                    refuse_newer(row)
                position, name, key, kind = _facts(row, accept_local)
                if row.get("sidecar"):
                    self._sidecars.add(row["sidecar"], offset)
                self.positions.append(position)
                if drafts and (name, key, row["started_at"]) in drafts:
                    self._whole_drafts.append(drafts.pop((name, key, row["started_at"])))
                if kind >= _BEGUN and row["status"] == "error":
                    drafts[name, key, row["started_at"]] = len(self.offsets)
            except NewerRowError:
                raise
            except NOT_A_ROW:
                self.positions.append(0)
                name, key, kind = 0, 0, _BLANK if line.isspace() else _DAMAGED
                self.damaged |= kind == _DAMAGED
            if line.endswith(b"\r\n"):
                self.tidy = False
            self.offsets.append(offset)
            self._names.append(name)
            self._keys.append(key)
            self._kinds.append(kind)
            offset += len(line)


def position_of(row: Row) -> int:
    """Index and repeat as one number that sorts as they do."""
    return (row["index"] << 24) + row["repeat"]


def _facts(row: Any, accept_local: bool) -> tuple[int, int, int, int]:  # noqa: FBT001 - by name it takes twice as long
    """The position of a row, the hashes of its name and its key, and its kind. Raises one of NOT_A_ROW."""
    status = row["status"]
    if status in {"passed", "failed"} or (status == "error" and row["output"] is not None):
        row["output"], row["latency_ms"], row["finished_at"]  # what keeping it takes
        kind = _GOOD if accept_local or row["endpoint"] != "local" else _PAID
    elif status == "error":
        if row["replies"] and (row["endpoint"] == "local") == accept_local:  # an emulator can't go on for a model
            kind = _BEGUN
        else:
            paid = row["replies"] or any(attempt["possibly_billed"] for attempt in row["attempts"])
            kind = _PAID if paid else _UNPAID
    else:
        raise ValueError(status)
    return position_of(row), hash((row["case"], row["repeat"])), hash(row["key"]), kind


def _can_go_on(row: Row, *, turns: int) -> bool:
    """Whether turns are left to be asked; none can be after a reply without text, which Bedrock does not take."""
    return len(row["replies"]) < turns and all(reply["text"].strip() for reply in row["replies"])


def _damage(numbers: Sequence[int]) -> str | None:
    if not numbers:
        return None
    if len(numbers) == 1:
        return f"line {numbers[0]} can't be read as a row"
    named = ", ".join(str(number) for number in numbers[:_NAMED_LINES])
    more = f" and {len(numbers) - _NAMED_LINES:,} more" if len(numbers) > _NAMED_LINES else ""
    return f"lines {named}{more} can't be read as rows"
