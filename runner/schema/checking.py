"""A job file -> its problems."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from runner.schema.breaches import breaches
from runner.schema.keys import without_consequences
from runner.schema.problems import problems_of
from runner.schema.published import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.errors import Problem
    from runner.schema.breaches import Breach
    from runner.source import Document

_MAX_BREACHES: Final = 300  # of one file, and problems of them: far more than anybody reads


def check(document: Document) -> tuple[Problem, ...]:
    """The ways in which a job file breaks its schema, in the order of the file: all of them, up to some hundreds."""
    errors = without_consequences(_narrowest(list(islice(breaches(document.data, load("job")), _MAX_BREACHES))))
    found = (problem for error in errors for problem in problems_of(error, document))
    problems = dict.fromkeys(islice(found, _MAX_BREACHES))  # aliases lead to one place more than once
    return tuple(sorted(problems, key=_position))


def _narrowest(errors: Sequence[Breach]) -> list[Breach]:
    """The breaches, of several wrong types at one value the last: what the type of an assertion asks says more than
    what every assertion may have.
    """
    last = {error.pointer: error for error in errors if error.keyword == "type"}
    return [error for error in errors if error.keyword != "type" or error is last[error.pointer]]


def _position(problem: Problem) -> tuple[int, int]:
    assert problem.place is not None
    return problem.place.line, problem.place.column
