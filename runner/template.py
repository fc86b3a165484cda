"""The sandboxed Jinja environment: strict about what is undefined, and about what is no text.

Jinja's own whitespace rules hold (`trim_blocks` and `lstrip_blocks` are off, `{%- -%}` strips), except that a line
break at the end is kept. `{% include %}`, `{% import %}` and `{% extends %}` read files of the job file's folder; what
they read is a template too. Values are data: a `{{ }}` inside one is never rendered. What is written depends on its
type: text as it is, numbers as typed, booleans as `true` and `false`, lists and mappings as JSON; null and everything
else is an error.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import re
import stat
from pathlib import Path, PurePosixPath
from types import BuiltinMethodType, FunctionType, MethodType, MethodWrapperType
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Undefined, meta, nodes, pass_environment
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError, TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.filters import make_attrgetter
from jinja2.loaders import BaseLoader
from jinja2.runtime import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import LRUCache, missing

from runner.errors import Place, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from jinja2 import Environment, Template
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

    from runner.records import Text

MAX_CHARACTERS: Final = 10_000_000  # of one rendered text, and of anything built on the way to it
_MAX_NUMBER: Final = 1_000_000  # as an argument of a filter or method: widths, counts
_MAX_BITS: Final = 10_000  # of the result of `**`
_COMPILED: Final = 1000  # templates kept compiled; a job rarely has more than a few dozen

_MARKS = re.compile(r"\{[{%#]")


def is_template(text: str) -> bool:
    """Whether rendering could change the text."""
    return "{" in text and _MARKS.search(text) is not None


def is_name(name: str) -> bool:
    """Whether a template can say `{{ name }}`."""
    return name.isidentifier() and name not in _RESERVED


_RESERVED = frozenset(
    {"and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "self", "true", "False", "None", "True"}
)


class Templates:
    """The templates of one job file. Compiled ones are kept. Not for several threads at once."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder that includes may read: the job file's own."""
        self._strict = _Environment(root, _Strict)
        self._root = root
        self._noted: list[Undefined] = []

    def check(self, text: Text) -> list[Problem]:
        """What is wrong with a template whatever its variables: its syntax, unknown filters and tests, its includes."""
        if not is_template(text.value):
            return []
        try:
            tree = self._strict.parse(text.value)
        except TemplateSyntaxError as error:
            return [_syntax_problem(error, text)]
        problems = [*_unknown_names(tree, self._strict, text), *self._wrong_includes(tree, text)]
        if not problems:
            try:
                self._strict.compiled(text.value)
            except TemplateSyntaxError as error:
                problems.append(_syntax_problem(error, text))
        return problems

    def render(self, text: Text, variables: Mapping[str, Any]) -> str:
        """The text with its variables put in.

        Raises UsageError, placed in the template, where that cannot be done; all undefined names come in one message.
        """
        if not is_template(text.value):
            return text.value
        template: Template | None = None
        try:
            template = self._strict.compiled(text.value)
            return self._strict.concat(template.root_render_func(template.new_context(dict(variables))))
        except UndefinedError as error:
            problem = self._undefined(text, variables, error, _line(error.__traceback__, template))
        except TemplateSyntaxError as error:
            problem = _syntax_problem(error, text) if template is None else _included_problem(error, text)
        except _NullError as error:
            place = _placed(text, _line(error.__traceback__, template))
            problem = Problem(self._null_message(text, variables), place, error.hint)
        except Exception as error:  # filters and operators raise anything on values of the wrong type
            problem = _failure(error, _placed(text, _line(error.__traceback__, template)))
        raise UsageError(problem)

    def _wrong_includes(self, tree: nodes.Template, text: Text) -> Iterator[Problem]:
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            name = getattr(getattr(node, "template", None), "value", None)
            if not isinstance(name, str):
                continue
            place = _placed(text, node.lineno)
            try:
                self._strict.get_template(name)
            except TemplateNotFound as error:
                if not getattr(node, "ignore_missing", False):
                    yield _no_file(str(error), place)
            except TemplateSyntaxError as error:
                yield _included_problem(error, text, node.lineno)
            except _RefusedError as error:
                yield Problem(str(error), place, error.hint)

    def _null_message(self, text: Text, variables: Mapping[str, Any]) -> str:
        used = meta.find_undeclared_variables(self._strict.parse(text.value))
        names = [f"`{name}`" for name in sorted(used) if variables.get(name, "") is None]
        return f"{' and '.join(names) or 'a value that the template writes'} is null"

    @functools.cached_property
    def _lenient(self) -> _Environment:
        noted = self._noted

        class Noting(_Noting):
            def note(self) -> None:
                noted.append(self)

        return _Environment(self._root, Noting)

    def _undefined(self, text: Text, variables: Mapping[str, Any], error: UndefinedError, line: int) -> Problem:
        """All names that this rendering misses: it is done once more, noting each and going on."""
        place = _placed(text, line)
        self._noted.clear()
        with contextlib.suppress(Exception):  # follow-up errors of the stand-ins; what was noted until then counts
            template = self._lenient.compiled(text.value)
            self._lenient.concat(template.root_render_func(template.new_context(dict(variables))))
        tree = self._strict.parse(text.value)
        absent = {name: noted for noted in self._noted if (name := _expression(tree, noted, variables)) is not None}
        if not absent:
            return Problem(_short(str(error)), place, "check the names in the template")
        return _missing_problem(absent, variables, place)


# --- problems --------------------------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """A template does what it may not, or what cannot be meant."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def _short(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


_LITERAL_BLOCK = re.compile(r"(?:[&!]\S*\s+)*\|[0-9+-]*\s*(?:#.*)?$")


def _placed(text: Text, line: int) -> Place:
    """The place of a line of the template, counted from 1.

    Only in a block that starts with `|` do lines of the template correspond to lines of the file; elsewhere it is the
    start of the text.
    """
    place = text.place
    lines = text.value.split("\n")
    if not _LITERAL_BLOCK.match(place.source, place.column - 1) or not 1 <= line <= len(lines):
        return place
    return Place(place.path, place.line + line, 1, lines[line - 1])


def _line(traceback: TracebackType | None, template: Template | None) -> int:
    """The line of a template in which an exception went through it."""
    if template is None:
        return 1
    while traceback is not None:
        running: object = traceback.tb_frame.f_globals.get("__jinja_template__")
        if running is template:
            return int(template.get_corresponding_lineno(traceback.tb_lineno))
        traceback = traceback.tb_next
    return 1


def _failure(error: Exception, place: Place) -> Problem:
    """Whatever else goes wrong while a template is rendered."""
    match error:
        case _RefusedError():
            return Problem(str(error), place, error.hint)
        case TemplateNotFound():
            return _no_file(str(error), place)
        case SecurityError():
            return Problem(_short(str(error)), place, "a template can read its variables, and change nothing")
        case OverflowError():
            return Problem("a number or `range` in the template is too large", place, "use a smaller number")
        case RecursionError():
            return Problem("the template calls or includes itself without end", place, "end the recursion")
        case _:
            return Problem(f"the template fails: {_short(str(error))}", place, "check the types of the values in it")


def _syntax_problem(error: TemplateSyntaxError, text: Text) -> Problem:
    message = _short((error.message or "").rstrip("."))
    return Problem(
        f"the template has an error: {message}", _placed(text, error.lineno), _syntax_hint(message, text.value)
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


def _included_problem(error: TemplateSyntaxError, text: Text, line: int = 1) -> Problem:
    where = f"`{error.name}`, line {error.lineno}"
    return Problem(
        f"the included file {where} has an error: {_short((error.message or '').rstrip('.'))}",
        _placed(text, line),
        "an included file is a template too: write braces that are meant literally inside {% raw %}...{% endraw %}",
    )


def _no_file(name: str, place: Place) -> Problem:
    return Problem(
        f"there is no file `{_short(name)}` to include", place, "paths are relative to the job file's folder"
    )


def _unknown_names(tree: nodes.Template, environment: Environment, text: Text) -> Iterator[Problem]:
    kinds: tuple[tuple[type[nodes.Node], str, Mapping[str, Any]], ...] = (
        (nodes.Filter, "filter", environment.filters),
        (nodes.Test, "test", environment.tests),
    )
    for kind, word, known in kinds:
        for node in tree.find_all(kind):
            name = str(getattr(node, "name", ""))
            if name not in known:
                yield Problem(f"there is no {word} `{name}`", _placed(text, node.lineno), _did_you_mean(name, known))


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean `{close[0]}`?" if close else "see the list in Jinja's template designer documentation"


def _missing_problem(absent: Mapping[str, Undefined], variables: Mapping[str, Any], place: Place) -> Problem:
    names = ", ".join(f"`{name}`" for name in absent)
    message = f"undefined variable{'s' if len(absent) > 1 else ''}: {names}"
    guesses = [f"`{guess}`" for undefined in absent.values() if (guess := _guess(undefined, variables))]
    parts = [f"did you mean {', '.join(dict.fromkeys(guesses))}?"] if guesses else []
    parts.append(f"Defined: {_short(', '.join(sorted(variables)))}" if variables else "define it under `vars:`")
    return Problem(message, place, " ".join(parts))


def _guess(undefined: Undefined, variables: Mapping[str, Any]) -> str | None:
    owner = undefined._undefined_obj  # noqa: SLF001 - the only way to learn what is undefined
    known = owner if isinstance(owner, dict) else variables
    name = str(undefined._undefined_name)  # noqa: SLF001
    close = difflib.get_close_matches(name, [str(key) for key in known], n=1)
    return close[0] if close else None


def _expression(tree: nodes.Template, undefined: Undefined, variables: Mapping[str, Any]) -> str | None:
    """What is undefined as the template writes it: `row.typo` for `typo` of a row; None where it has no name."""
    if undefined._undefined_name is None:  # noqa: SLF001
        return None
    name = str(undefined._undefined_name)  # noqa: SLF001
    owner = undefined._undefined_obj  # noqa: SLF001
    if owner is missing:
        return name
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        path = _path(node)
        if path[-1:] == (name,) and _may_be(path[:-1], owner, variables):
            return ".".join(path)
    return name


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


# --- undefined names -------------------------------------------------------------------------------------------------


class _Strict(StrictUndefined):
    """Fails on any use but `is defined` and `default`; on `repr` too, through which it would get out of a list."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class _Noting(Undefined):
    """Is noted where `_Strict` fails, and lets the rendering go on."""

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


# --- values -> text --------------------------------------------------------------------------------------------------


def _joined(pieces: Iterable[str]) -> str:
    """The pieces as one text, stopping as soon as they are too much."""
    kept = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise _too_large()
        kept.append(piece)
    return "".join(kept)


def _too_large() -> _RefusedError:
    return _RefusedError(
        f"the template makes more than {MAX_CHARACTERS:,} characters", "look for a count that is too large"
    )


def _as_text(value: Any) -> str:
    """What a template writes for a value. Raises for what is no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float, Undefined)):
        return str(value)
    if value is None:
        raise _NullError
    if isinstance(value, (list, tuple, dict)):
        return _json(value)
    raise _not_text(value)


def _not_text(value: Any) -> _RefusedError:
    name = type(value).__name__
    if callable(value):
        return _RefusedError(
            f"the template writes a function (`{_function_name(value)}`), not a text", "call it: add `()`"
        )
    if hasattr(value, "__iter__"):
        return _RefusedError(f"the template writes a {name}, not a text", "add `| list` or `| join(', ')`")
    return _RefusedError(f"the template writes a {name}, not a text", "write a text, a number, a list or a mapping")


def _function_name(value: Any) -> str:
    return str(getattr(value, "name", None) or getattr(value, "__name__", None) or type(value).__name__)


def _encodable(value: Any) -> str:
    """For what JSON has no type for: an undefined name fails by itself."""
    if isinstance(value, Undefined):
        return str(value)
    raise _not_text(value)


def _json(value: Any, indent: int | None = None) -> str:
    """Compact as `json.dumps` makes it; not escaped for HTML as Jinja's own `tojson` is."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, indent=indent, default=_encodable)
    return _joined(encoder.iterencode(value))


class _NullError(_RefusedError):
    """A template writes null."""

    def __init__(self) -> None:
        super().__init__("a value is null", "give it a value, or write `| default('', true)`")


class _Method:
    """A method of a value. It can be called, and used for nothing else: written out it would be a memory address."""

    __slots__ = ("_function", "_owner", "name")

    def __init__(self, function: Callable[..., Any], owner: Any, name: str) -> None:
        self._function = function
        self._owner = owner
        self.name = name

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        if isinstance(self._owner, str):
            _check_text_method(self._owner, self.name, args, keywords)
        return self._function(*args, **keywords)

    def __str__(self) -> str:
        raise _not_text(self)

    def __bool__(self) -> bool:
        raise _not_text(self)

    def __len__(self) -> int:
        raise _not_text(self)

    def __iter__(self) -> Iterator[Any]:
        raise _not_text(self)

    __repr__ = __str__


# --- limits ----------------------------------------------------------------------------------------------------------


def _check_operation(operator: str, left: Any, right: Any) -> None:
    """Refuse what would take much memory or time before it does."""
    if operator == "%" and isinstance(left, str):
        _check_format(left, right if isinstance(right, tuple) else (right,))
    elif operator == "+" and isinstance(left, (str, list)) and isinstance(right, (str, list)):
        _check_length(len(left) + len(right))
    elif operator == "*":
        _check_product(left, right)
    elif operator == "**" and isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * abs(right))


def _check_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    elif isinstance(left, (str, list, tuple)) and isinstance(right, int):
        _check_length(len(left) * right)
    elif isinstance(right, (str, list, tuple)) and isinstance(left, int):
        _check_length(len(right) * left)


def _check_length(length: int) -> None:
    if length > MAX_CHARACTERS:
        raise _too_large()


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise _RefusedError("the template computes a number of thousands of digits", "use smaller numbers")


def _check_numbers(values: Iterable[Any]) -> None:
    if any(isinstance(value, int) and value > _MAX_NUMBER for value in values):
        raise _RefusedError(f"a width or count in the template is more than {_MAX_NUMBER:,}", "use a smaller number")


_LONG_WIDTH = re.compile(r"[0-9]{7,}")
_WIDTH_ARGUMENT = re.compile(r"%[^%a-zA-Z]*\*|\{[^{}]*:[^{}]*\{")


def _check_format(text: str, values: Iterable[Any]) -> None:
    values = list(values)
    if _LONG_WIDTH.search(text) or _WIDTH_ARGUMENT.search(text):
        _check_numbers([int(number[:9]) for number in _LONG_WIDTH.findall(text)] + values)
    for value in values:
        _as_text(value)  # for its refusals: `%s` writes None and functions as Python does


def _check_replacement(text: str, old: str, new: str) -> None:
    _check_length(len(text) + text.count(old) * len(new))


def _check_text_method(text: str, name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
    if name == "format":
        _check_format(text, (*args, *keywords.values()))
    elif name == "replace" and len(args) >= 2:
        _check_replacement(text, str(args[0]), str(args[1]))
    elif name == "join" and args and isinstance(args[0], (list, tuple)):
        _check_length(sum(len(piece) + len(text) for piece in args[0] if isinstance(piece, str)))
    else:
        _check_numbers((*args, *keywords.values()))


# --- filters ---------------------------------------------------------------------------------------------------------

# These take a text; of anything else they would take Python's spelling, memory addresses included.
_TEXT_FILTERS: Final = (
    "capitalize",
    "center",
    "e",
    "escape",
    "forceescape",
    "format",
    "indent",
    "lower",
    "replace",
    "string",
    "striptags",
    "title",
    "trim",
    "truncate",
    "upper",
    "wordcount",
    "wordwrap",
)
# A prompt has to be the same each time: these two are random.
_RANDOM: Final = ("random", "lipsum")


def _text_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja whose value becomes a text as the templates write it, within the limits."""
    position = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def guarded(*args: Any, **keywords: Any) -> Any:
        text = _as_text(args[position])
        others = (*args[position + 1 :], *keywords.values())
        if name == "format":
            _check_format(text, others)
        elif name == "replace" and len(others) >= 2:
            _check_replacement(text, str(others[0]), str(others[1]))
        elif name == "indent":
            _check_indent(text, others)
        else:
            _check_numbers(others)
        return function(*args[:position], text, *args[position + 1 :], **keywords)

    return guarded


def _check_indent(text: str, others: Iterable[Any]) -> None:
    widths = [other if isinstance(other, int) else len(other) for other in others if isinstance(other, (int, str))]
    _check_length(len(text) + (text.count("\n") + 1) * max(widths, default=4))


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja whose arguments may not be large numbers."""

    @functools.wraps(function)
    def guarded(value: Any, *args: Any, **keywords: Any) -> Any:
        _check_numbers((*args, *keywords.values()))
        return function(value, *args, **keywords)

    return guarded


@pass_environment
def _join(environment: Environment, values: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
    """Jinja's `join`, whose items are written as the templates write them."""
    if attribute is not None:
        values = map(make_attrgetter(environment, attribute), values)
    separator = _as_text(d)
    return _joined(separator * (position > 0) + _as_text(value) for position, value in enumerate(values))


def _tojson(value: Any, indent: int | None = None) -> str:
    """Jinja's `tojson`, but for prompts rather than for HTML."""
    _check_numbers([indent])
    return _json(value, indent)


def _filters(jinja: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    filters = {name: function for name, function in jinja.items() if name not in _RANDOM}
    filters |= {name: _text_filter(name, filters[name]) for name in _TEXT_FILTERS}
    filters |= {name: _counted(filters[name]) for name in ("batch", "slice")}
    return filters | {"join": _join, "tojson": _tojson}


# --- the environment -------------------------------------------------------------------------------------------------


class _Generator(CodeGenerator):
    """Writes `a ~ b` as a call, so that its parts become text as everything else and its size is limited."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


_METHODS = (BuiltinMethodType, FunctionType, MethodType, MethodWrapperType)


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(_joined)

    def __init__(self, root: Path, undefined: type[Undefined]) -> None:
        super().__init__(
            undefined=undefined,
            finalize=_as_text,
            keep_trailing_newline=True,
            loader=_Folder(root),
            auto_reload=False,
        )
        self.filters = _filters(self.filters)
        for name in _RANDOM:
            self.globals.pop(name, None)
        self._compiled: LRUCache = LRUCache(_COMPILED)

    def compiled(self, source: str) -> Template:
        """The template of a text. Raises TemplateSyntaxError."""
        template: Template | None = self._compiled.get(source)
        if template is None:
            template = self.from_string(source)
            self._compiled[source] = template
        return template

    def joined(self, parts: Iterable[Any]) -> str:
        """`a ~ b` of a template."""
        return _joined(map(_as_text, parts))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`row.items` is the row's own `items`, if it has one, and else the method."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        value = super().getattr(obj, attribute)
        return _Method(value, obj, attribute) if isinstance(value, _METHODS) else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`row["items"]` is never the method."""
        if isinstance(obj, dict):
            try:
                return obj[argument]
            except (KeyError, TypeError):
                return self.undefined(obj=obj, name=argument)
        value = super().getitem(obj, argument)
        return _Method(value, obj, argument) if isinstance(value, _METHODS) else value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)


class _Folder(BaseLoader):
    """Reads the files of one folder, and nothing outside it."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def get_source(self, _environment: Environment, template: str) -> tuple[str, str, None]:
        return self._read(template), template, None

    def _read(self, name: str) -> str:
        parts = PurePosixPath(name).parts
        if "\0" in name or "\\" in name or ".." in parts or name.startswith("/"):
            raise _outside(name)
        try:
            path = (self._root / name).resolve(strict=True)
            if not path.is_relative_to(self._root):
                raise _outside(name)
            if not stat.S_ISREG(path.stat().st_mode):
                raise _RefusedError(f"`{_short(name)}` is not a regular file", "include a text file")
            with path.open("rb") as file:
                data = file.read(MAX_CHARACTERS + 1)
        except FileNotFoundError:
            raise TemplateNotFound(name) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link to itself, up to Python 3.12
            reason = getattr(error, "strerror", None) or str(error)
            raise _RefusedError(f"`{_short(name)}` cannot be read: {_short(reason)}", "check its permissions") from None
        if len(data) > MAX_CHARACTERS:
            raise _RefusedError(f"`{_short(name)}` is larger than {MAX_CHARACTERS // 1_000_000} MB", "include less")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise _RefusedError(f"`{_short(name)}` is not UTF-8 (line {line})", "save it as UTF-8") from None


def _outside(name: str) -> _RefusedError:
    return _RefusedError(
        f"`{_short(name)}` is not inside the job file's folder", "put the file next to the job file, or below it"
    )
