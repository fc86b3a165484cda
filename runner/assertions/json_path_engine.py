"""python-jsonpath, held to the time limit of assertions and to the memory that matches take."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jsonpath import JSONPath, JSONPathEnvironment, JSONPathMatch
from jsonpath.function_extensions import ExpressionType, FilterFunction
from jsonpath.parse import Parser
from jsonpath.segments import JSONPathChildSegment, JSONPathRecursiveDescentSegment

from runner.assertions import patterns, time_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jsonpath.segments import JSONPathSegment
    from jsonpath.stream import TokenStream

_HINT: Final = "each `..` and each selector among several goes through the whole output again: write a narrower path"


class _Node(JSONPathMatch):
    """A place in a JSON value that does not know where it is: a path of long keys, in each node, takes gigabytes."""

    __slots__ = ()

    def new_child(self, obj: object, key: int | str) -> _Node:  # noqa: ARG002 - as its base has it
        _look_at_clock()
        return _node(obj, self.root)

    def add_child(self, *children: JSONPathMatch) -> None:
        """Nobody asks for them."""


def _node(value: Any, root: Any) -> _Node:
    return _Node(filter_context={}, obj=value, parent=None, path="", parts=(), root=root)


def _nodes(matches: Iterable[JSONPathMatch]) -> Iterable[_Node]:
    """The library starts at a match of its own, also in each filter."""
    return (match if isinstance(match, _Node) else _node(match.obj, match.root) for match in matches)


class _ChildSegment(JSONPathChildSegment):
    __slots__ = ()

    def resolve(self, nodes: Iterable[JSONPathMatch]) -> Iterable[JSONPathMatch]:
        return super().resolve(_nodes(nodes))


class _DescendantSegment(JSONPathRecursiveDescentSegment):
    __slots__ = ()

    def resolve(self, nodes: Iterable[JSONPathMatch]) -> Iterable[JSONPathMatch]:
        return super().resolve(_nodes(nodes))


class _Parser(Parser):
    def parse_query(self, stream: TokenStream) -> Iterable[JSONPathSegment]:
        for segment in super().parse_query(stream):
            descends = isinstance(segment, JSONPathRecursiveDescentSegment)
            ours = _DescendantSegment if descends else _ChildSegment
            yield ours(env=segment.env, token=segment.token, selectors=segment.selectors)


class _Environment(JSONPathEnvironment):
    parser_class = _Parser

    def setup_function_extensions(self) -> None:
        super().setup_function_extensions()
        self.function_extensions["match"] = _PatternFunction(patterns.fullmatch)
        self.function_extensions["search"] = _PatternFunction(patterns.search)

    def is_truthy(self, obj: object) -> bool:
        """Asked for each item that a filter looks at."""
        _look_at_clock()
        return super().is_truthy(obj)


class _PatternFunction(FilterFunction):
    arg_types = [ExpressionType.VALUE, ExpressionType.VALUE]  # noqa: RUF012 - as its base declares it
    return_type = ExpressionType.LOGICAL

    def __init__(self, matches: Callable[[str, str], Any]) -> None:
        self._matches = matches

    def __call__(self, text: object, pattern: object) -> bool:
        """RFC 9535: whatever cannot match, does not."""
        if not isinstance(text, str) or not isinstance(pattern, str) or patterns.pattern_problem(pattern):
            return False
        return self._matches(pattern, text) is not None


def _look_at_clock() -> None:
    if time_limit.left() <= 0:
        raise time_limit.exceeded("the JSONPath", _HINT)


def compiled(path: str) -> JSONPath:
    """Raises JSONPathError, and what Python raises of numbers that are too large and of brackets that are too deep."""
    found = _environment().compile(path)
    assert isinstance(found, JSONPath), "unions of paths are not strictly JSONPath"
    return found


@cache
def _environment() -> JSONPathEnvironment:
    return _Environment(strict=True)


def find(path: JSONPath, value: Any) -> list[Any]:
    """What a compiled path leads to. Raises JSONPathError and UnjudgedError."""
    nodes: Iterable[JSONPathMatch] = [_node(value, value)]
    for segment in path.segments:  # as its `finditer` does, which reads a text as JSON
        nodes = segment.resolve(nodes)
    return [node.obj for node in nodes]
