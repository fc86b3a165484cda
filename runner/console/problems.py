"""Problems as a person reads them: place, message, the line with a caret, and the hint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.console.text import cells, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.errors import Problem


def render_problems(problems: Sequence[Problem], *, style: Callable[[str, str], str] = lambda text, _: text) -> str:
    """All problems as text: place, message, the line with a caret, and the hint. `style` may colour a part.

    What has a place takes a paragraph of its own.
    """
    lines: list[str] = []
    for before, problem in zip((None, *problems), problems, strict=False):
        if before and (before.place or problem.place):
            lines.append("")
        lines += _problem_lines(problem, style)
    return "\n".join(lines)


def _problem_lines(problem: Problem, style: Callable[[str, str], str]) -> Iterator[str]:
    message = plain(problem.message)
    if problem.place is None:
        yield f"{style('error', 'red')}: {message}"
    else:
        yield f"{style(plain(str(problem.place)), 'bold')}: {message}"
        yield from _excerpt_lines(problem.place.source, problem.place.column, problem.place.line, style)
    if problem.hint:
        yield f"    {style('hint', 'cyan')}: {plain(problem.hint)}"


_EXCERPT_WIDTH = 100


def _excerpt_lines(source: str, column: int, line: int, style: Callable[[str, str], str]) -> Iterator[str]:
    if not source.strip():
        return
    start = max(0, column - 1 - _EXCERPT_WIDTH * 3 // 4)
    before = plain(source[start : column - 1]).replace("\t", " ")
    after = plain(source[column - 1 : start + _EXCERPT_WIDTH]).replace("\t", " ")
    number = f"{line:>6}"
    yield f"{number} | {before}{after}"
    yield f"{' ' * len(number)} | {' ' * cells(before)}{style('^', 'red')}"
