"""What goes wrong with a template -> problems in the job file: errors of Jinja, and names that are undefined."""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Undefined, meta, nodes
from jinja2.exceptions import SecurityError, TemplateNotFound, TemplateSyntaxError
from jinja2.runtime import StrictUndefined
from jinja2.utils import missing

from runner.errors import Place, Problem
from runner.templates import body_images
from runner.templates.values import LazyMapping, RefusedError
from runner.words import named, nearest, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    from jinja2 import Environment, Template

    from runner.records import Text

_MAX_NAME: Final = 100  # characters of a name that is compared with others; the time grows with their square

# --- errors of Jinja -------------------------------------------------------------------------------------------------


_LITERAL_BLOCK = re.compile(r"(?:[&!]\S*\s+)*\|[0-9+-]*\s*(?:#.*)?$")


def placed(text: Text, line: int) -> Place:
    """The place of a line of the template, counted from 1.

    Only in a block that starts with `|` do lines of the template correspond to lines of the file; elsewhere it is the
    start of the text.
    """
    place = text.place
    lines = text.value.split("\n")
    if not _LITERAL_BLOCK.match(place.source, place.column - 1) or not 1 <= line <= len(lines):
        return place
    return Place(place.path, place.line + line, 1, lines[line - 1])


def line_of(traceback: TracebackType | None, template: Template | None) -> int:
    """The line of a template in which an exception went through it."""
    if template is None:
        return 1
    while traceback is not None:
        running: object = traceback.tb_frame.f_globals.get("__jinja_template__")
        if running is template:
            return int(template.get_corresponding_lineno(traceback.tb_lineno))
        traceback = traceback.tb_next
    return 1


def failure(error: BaseException, place: Place) -> Problem:
    """Whatever else goes wrong while a template is compiled or rendered."""
    if isinstance(error, TemplateNotFound):
        return no_file(str(error), place)
    message, hint = _failure(error)
    return Problem(message, place, hint)


def _failure(error: BaseException) -> tuple[str, str]:
    match error:
        case RefusedError():
            return str(error), error.hint
        case SecurityError():
            return shorten(str(error), 200), "a template can read its variables, and change nothing"
        case OverflowError():
            return "a number or `range` in the template is too large", "use a smaller number"
        case RecursionError():
            return (
                "the template calls or includes itself without end, or nests too deeply",
                "end the recursion, or use fewer blocks and brackets inside one another",
            )
        case SyntaxError() | MemoryError():  # of Python, which compiles what Jinja makes of the template
            return "the template nests too deeply", "use fewer blocks and brackets inside one another"
        case _:
            return f"the template fails: {shorten(str(error), 200)}", "check the types of the values in it"


# `{{ Ticket Text }}`: words and signs, with neither quotes nor brackets nor filters. First what is not looked into.
_WORDS: Final = re.compile(
    r"""\{\# .*? (?: \#\} | \Z)
      | \{% [-+]? \s* raw\b .*? (?: \bendraw \s* [-+]? %\} | \Z)
      | \{\{ [-+]? \s* (?P<words> \w [^{}()\[\]"'`|~+*=<>,:]* ) \+? \}\}""",
    re.DOTALL | re.VERBOSE,
)


def syntax_problem(error: TemplateSyntaxError, text: Text, environment: Environment) -> Problem:
    found = [match for match in _WORDS.finditer(text.value) if match["words"] and not _is_right(match[0], environment)]
    if found:
        names = dict.fromkeys(shorten(match["words"].removesuffix("-"), 200) for match in found)
        return _wordy_names(list(names), text, at=found[0].start())
    message = shorten((error.message or "").rstrip("."), 200)
    return Problem(
        f"the template has an error: {message}", placed(text, error.lineno), _syntax_hint(message, text.value)
    )


def _syntax_hint(message: str, source: str) -> str:
    if "Missing end of" in message or "unexpected end of template" in message:
        opened = source.count("{{") > source.count("}}")
        return "close it with `}}`" if opened else "close it with `%}`, or the comment with `#}`"
    if "Unexpected end of template" in message:
        return "close the block, as in `{% if x %}...{% endif %}`"
    if "Unknown tag" in message or "unknown tag" in message:
        return "use `if`, `for`, `set`, `include`, `macro`, `raw`"
    return "write braces that are meant literally inside {% raw %}...{% endraw %}, or as `{{ '{{' }}`"


def _is_right(template: str, environment: Environment) -> bool:
    try:
        environment.parse(template)
    except TemplateSyntaxError:
        return False
    return True


def _wordy_names(names: Sequence[str], text: Text, *, at: int) -> Problem:
    """The commonest mistake with spreadsheets: columns are named in words."""
    several = "s" if len(names) > 1 else ""
    told = named([f"`{shorten(name)}`" for name in names])
    right = named([f"`{{{{ {of_item('row', name, text.place)} }}}}`" for name in names])
    return Problem(
        f"a template cannot name the variable{several} {told}",
        placed(text, text.value.count("\n", 0, at) + 1),
        f"write {right} for {'columns' if several else 'a column'} of the rows; other variables have names of one word",
    )


def of_item(owner: str, name: str, place: Place) -> str:
    """How a template at `place` says `row["Ticket Text"]`: in quotes that do not end YAML's own."""
    in_double_quotes = place.source[place.column - 1 : place.column] == '"'
    return (
        f"{owner}['{name}']"
        if in_double_quotes and "'" not in name
        else f"{owner}[{json.dumps(name, ensure_ascii=False)}]"
    )


def included_problem(error: TemplateSyntaxError, text: Text, line: int = 1) -> Problem:
    where = f"`{shorten(error.name or '', 200)}`, line {error.lineno}"
    return Problem(
        f"the included file {where} has an error: {shorten((error.message or '').rstrip('.'), 200)}",
        placed(text, line),
        "an included file is a template too: write braces that are meant literally inside {% raw %}...{% endraw %}",
    )


def no_file(name: str, place: Place) -> Problem:
    return Problem(
        f"there is no file `{shorten(name, 200)}` to include", place, "paths are relative to the job file's folder"
    )


def unknown_names(tree: nodes.Template, environment: Environment, text: Text) -> Iterator[Problem]:
    kinds: tuple[tuple[type[nodes.Node], str, Mapping[str, Any]], ...] = (
        (nodes.Filter, "filter", environment.filters),
        (nodes.Test, "test", environment.tests),
    )
    for kind, word, known in kinds:
        for node in tree.find_all(kind):
            name = str(getattr(node, "name", ""))
            if name not in known:
                yield Problem(
                    f"there is no {word} `{shorten(name)}`", placed(text, node.lineno), _did_you_mean(name, known)
                )


def misplaced_functions(tree: nodes.Template, text: Text) -> Iterator[Problem]:
    """Calls of what has a meaning only in a raw body."""
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in body_images.FUNCTIONS:
            message = f"`{call.node.name}` has a meaning only in `body:`"
            yield Problem(message, placed(text, call.lineno), body_images.HINT)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    meant = nearest(name[:_MAX_NAME], sorted(known))
    return f"did you mean `{meant}`?" if meant else "see the list in Jinja's template designer documentation"


# --- names -----------------------------------------------------------------------------------------------------------


_CHECKS_OF_DEFINED: Final = frozenset({"defined", "undefined", "default", "d"})


@dataclass(frozen=True, slots=True)
class Names:
    """The variables that a template names. `needed`: those it cannot do without, each with the first line it is on.

    With `includes` there are other files, which may name more.
    """

    all: frozenset[str] = frozenset()
    needed: Mapping[str, int] = field(default_factory=dict)
    includes: bool = False


def names_in(tree: nodes.Template) -> Names:
    """The variables of a parsed template. What it tests with `is defined` or gives a `default` is not needed."""
    free = meta.find_undeclared_variables(tree)
    checks = [*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter)]
    optional = {
        check.node.name for check in checks if check.name in _CHECKS_OF_DEFINED and isinstance(check.node, nodes.Name)
    }
    needed: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        if node.name in free - optional:
            needed.setdefault(node.name, node.lineno)
    includes = next(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)), None)
    return Names(frozenset(free), needed, includes is not None)


def fields_in(tree: nodes.Template, name: str) -> Iterator[tuple[str, int]]:
    """The fields of a variable that a parsed template cannot do without, each with its line: `width` for `file.width`.
    What is called is a method, and no field.
    """
    if name not in meta.find_undeclared_variables(tree):
        return
    checks = [*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter)]
    others = {id(check.node) for check in checks if check.name in _CHECKS_OF_DEFINED}
    others |= {id(call.node) for call in tree.find_all(nodes.Call)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if len(path) == 2 and path[0] == name and id(node) not in others:
            yield path[1], node.lineno


# --- undefined names -------------------------------------------------------------------------------------------------


def undefined_problem(
    noted: Iterable[Undefined], tree: nodes.Template, variables: Mapping[str, Any], place: Place
) -> Problem | None:
    """One problem of all undefined names that were noted, if any has a name."""
    paths: dict[str, list[tuple[str, ...]]] = defaultdict(list)  # by what they end in
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if path := _path(node):
            paths[path[-1]].append(path)
    absent = {name: undefined for undefined in noted if (name := _expression(paths, undefined, variables)) is not None}
    if not absent:
        return None
    names = ", ".join(f"`{shorten(name)}`" for name in absent)
    message = f"undefined variable{'s' if len(absent) > 1 else ''}: {names}"
    guesses = [f"`{guess}`" for undefined in absent.values() if (guess := _guess(undefined, variables))]
    parts = [f"did you mean {', '.join(dict.fromkeys(guesses))}?"] if guesses else []
    parts.append(f"Defined: {shorten(', '.join(sorted(variables)), 200)}" if variables else "define it under `vars:`")
    return Problem(message, place, " ".join(parts))


def _guess(undefined: Undefined, variables: Mapping[str, Any]) -> str | None:
    owner = undefined._undefined_obj  # noqa: SLF001 - the only way to learn what is undefined
    known = owner.names if isinstance(owner, LazyMapping) else owner if isinstance(owner, dict) else variables
    name = str(undefined._undefined_name)  # noqa: SLF001
    return nearest(name[:_MAX_NAME], itertools.islice((key for key in map(str, known) if len(key) <= _MAX_NAME), 500))


def _expression(
    paths: Mapping[str, list[tuple[str, ...]]], undefined: Undefined, variables: Mapping[str, Any]
) -> str | None:
    """What is undefined as the template writes it: `row.typo` for `typo` of a row; None where it has no name."""
    if undefined._undefined_name is None:  # noqa: SLF001
        return None
    name = str(undefined._undefined_name)  # noqa: SLF001
    owner = undefined._undefined_obj  # noqa: SLF001
    if owner is missing:
        return name
    written = (path for path in paths.get(name, ()) if _may_be(path[:-1], owner, variables))
    return ".".join(next(written, (name,)))


def _may_be(path: tuple[str, ...], owner: Any, variables: Mapping[str, Any]) -> bool:
    """Whether a path leads to an object, as far as the variables tell: those of a loop are not among them."""
    if not path or path[0] not in variables:
        return bool(path)
    node: Any = dict(variables)
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node is owner


def _path(node: nodes.Node) -> tuple[str, ...]:
    """`("row", "typo")` for `row.typo` and `row["typo"]`; empty for what is not written so."""
    if isinstance(node, nodes.Name):
        return (node.name,)
    name = node.attr if isinstance(node, nodes.Getattr) else None
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        name = str(node.arg.value)
    if name is None or not isinstance(node, (nodes.Getattr, nodes.Getitem)):
        return ()
    inner = _path(node.node)
    return (*inner, name) if inner else ()


class Strict(StrictUndefined):
    """Fails on any use but `is defined` and `default`; on `repr` too, through which it would get out of a list."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Noting(Undefined):
    """Is noted where `Strict` fails, and lets the rendering go on."""

    @property
    def identity(self) -> tuple[str, int]:
        """What is undefined: a name, and of which object."""
        return str(self._undefined_name), id(self._undefined_obj)

    def note(self) -> None:
        raise NotImplementedError

    def _go_on(self, *_args: Any, **_keywords: Any) -> Any:
        self.note()
        return self

    def __str__(self) -> str:
        self.note()
        return ""

    __repr__ = __str__

    def __iter__(self) -> Iterator[Any]:
        self.note()
        return iter(())

    def __bool__(self) -> bool:
        self.note()
        return False

    def __len__(self) -> int:
        self.note()
        return 0

    def __eq__(self, _other: object) -> bool:
        self.note()
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._go_on()

    __hash__ = None  # type: ignore[assignment]  # as StrictUndefined: no key of a mapping
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _go_on
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __pos__ = __neg__ = _go_on
    __call__ = __getitem__ = __lt__ = __le__ = __gt__ = __ge__ = _go_on
