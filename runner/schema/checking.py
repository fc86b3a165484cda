"""A job file -> its problems."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from runner.schema.breaches import breaches
from runner.schema.keys import without_consequences
from runner.schema.problems import problems_of
from runner.schema.published import load

if TYPE_CHECKING:
    from runner.errors import Problem
    from runner.source import Document

_MAX_BREACHES: Final = 300  # of one file, and problems of them: far more than anybody reads


def check(document: Document) -> tuple[Problem, ...]:
    """The ways in which a job file breaks its schema, in the order of the file: all of them, up to some hundreds."""
    errors = without_consequences(list(islice(breaches(document.data, load("job")), _MAX_BREACHES)))
    found = (problem for error in errors for problem in problems_of(error, document))
    problems = dict.fromkeys(islice(found, _MAX_BREACHES))  # aliases lead to one place more than once
    return tuple(sorted(problems, key=_position))


def _position(problem: Problem) -> tuple[int, int]:
    assert problem.place is not None
    return problem.place.line, problem.place.column
