"""Replies that were repaired: which they are, and what was asked for it, which rows do not tell."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from runner import assertions
from runner.assertions import Answer, UnjudgedError
from runner.bedrock import structured
from runner.errors import Place
from runner.records import Assertion

if TYPE_CHECKING:
    from runner.records import Row


def was_repaired(row: Row) -> bool:
    """Whether its last reply was asked for because the one before did not hold to the job's `response_schema`."""
    if not row["request"].get("response_schema"):
        return False
    roles = [message["role"] for message in row["request"]["messages"]]
    scripted: int = 1 + sum(before == after == "user" for before, after in pairwise(roles))
    return len(row["replies"]) > scripted


def question_of(row: Row) -> str:
    """What was asked for the repair of a row that was repaired: what is wrong with its reply is found out again."""
    place = Place(row["source"]["path"], row["source"]["line"], 1)
    wanted = Assertion(type=structured.ASSERTION, place=place, value=row["request"]["response_schema"]["schema"])
    try:
        wrong = assertions.evaluate(wanted, Answer(output=row["replies"][-2]["text"]))["actual"]
    except UnjudgedError:
        wrong = None
    return structured.repair_turn(wrong or "").text
