"""The sandboxed Jinja environment: strict about what is undefined, and about what is no text.

Jinja's own whitespace rules hold (`trim_blocks` and `lstrip_blocks` are off, `{%- -%}` strips), except that a line
break at the end is kept. `{% include %}`, `{% import %}` and `{% extends %}` read files of the job file's folder; what
they read is a template too. Values are data: a `{{ }}` inside one is never rendered. What is written depends on its
type: text as it is, numbers as typed, booleans as `true` and `false`, lists and mappings as JSON; null and everything
else is an error.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import stat
from pathlib import Path, PurePosixPath
from types import BuiltinMethodType, FunctionType, MethodType, MethodWrapperType
from typing import TYPE_CHECKING, Any, Final

from jinja2 import meta, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError, UndefinedError
from jinja2.loaders import BaseLoader
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import LRUCache

from runner.errors import Problem, UsageError
from runner.templates.body_images import REFUSED
from runner.templates.problems import (
    Names,
    Noting,
    Strict,
    failure,
    fields_in,
    included_problem,
    line_of,
    misplaced_functions,
    names_in,
    no_file,
    placed,
    syntax_problem,
    undefined_problem,
    unknown_names,
)
from runner.templates.values import (
    MAX_CHARACTERS,
    RANDOM,
    Budget,
    Method,
    NullError,
    RefusedError,
    as_text,
    check_operation,
    guarded_filters,
    joined,
)
from runner.words import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jinja2 import Environment, Template, Undefined
    from jinja2.compiler import Frame
    from jinja2.runtime import Context

    from runner.records import Text

_MAX_PROBLEMS: Final = 100  # of one template; nobody reads more
_COMPILED: Final = 1000  # templates kept compiled; a job rarely has more than a few dozen

_MARKS = re.compile(r"\{[{%#]")


def is_template(text: str) -> bool:
    """Whether rendering could change the text."""
    return "{" in text and _MARKS.search(text) is not None


def is_name(name: str) -> bool:
    """Whether a template can say `{{ name }}`."""
    return name.isidentifier() and name not in _RESERVED


# What Jinja and Python raise when a template nests too deeply for them: they recurse.
_NESTED = (RecursionError, MemoryError, SyntaxError)
_RESERVED = frozenset(
    {"and", "else", "false", "if", "in", "is", "loop", "none", "not", "or", "self", "true", "False", "None", "True"}
)


class Templates:
    """The templates of one job file. Compiled ones are kept. Not for several threads at once."""

    def __init__(self, root: Path) -> None:
        """`root` is the folder that includes may read: the job file's own."""
        self._strict = _Environment(root, Strict)
        self._root = root
        self._noted: dict[tuple[str, int], Undefined] = {}  # by name and owner

    def check(self, text: Text, *, in_body: bool = False) -> list[Problem]:
        """What is wrong with a template whatever its variables: its syntax, unknown filters and tests, its includes,
        and functions that have a meaning only `in_body`.
        """
        if not is_template(text.value):
            return []
        try:
            tree = self._strict.parse(text.value)
            misplaced = () if in_body else misplaced_functions(tree, text)
            found = itertools.chain(
                unknown_names(tree, self._strict, text), misplaced, self._wrong_includes(tree, text)
            )
            problems = list(itertools.islice(found, _MAX_PROBLEMS))
            if not problems:
                self._strict.compiled(text.value)
        except TemplateSyntaxError as error:
            return [syntax_problem(error, text, self._strict)]
        except _NESTED as error:
            return [failure(error, text.place)]
        return problems

    def render(
        self, text: Text, variables: Mapping[str, Any], *, functions: Mapping[str, Callable[..., str]] = REFUSED
    ) -> str:
        """The text with its variables put in. `functions` are those that stand for images; a variable goes before.

        Raises UsageError, placed in the template, where that cannot be done; all undefined names come in one message.
        """
        if not is_template(text.value):
            return text.value
        template: Template | None = None
        try:
            template = self._strict.compiled(text.value)
            return self._strict.written(template, {**functions, **variables})
        except UndefinedError as error:
            line = line_of(error.__traceback__, template)
            problem = self._undefined(text, variables, error, line=line, functions=functions)
        except TemplateSyntaxError as error:
            own = template is None
            problem = syntax_problem(error, text, self._strict) if own else included_problem(error, text)
        except NullError as error:
            place = placed(text, line_of(error.__traceback__, template))
            problem = Problem(self._null_message(text, variables), place, error.hint)
        except Exception as error:  # filters and operators raise anything on values of the wrong type
            problem = failure(error, placed(text, line_of(error.__traceback__, template)))
        raise UsageError(problem)

    def names(self, text: Text) -> Names:
        """The variables that a template names, as far as they can be told without rendering it."""
        return names_in(self._strict.parse(text.value)) if is_template(text.value) else Names()

    def fields(self, text: Text, name: str) -> list[tuple[str, int]]:
        """The fields of a variable that a template cannot do without, each with the line of the template it is on."""
        return list(fields_in(self._strict.parse(text.value), name)) if is_template(text.value) else []

    def written(self, text: Text) -> list[tuple[str, bool]]:
        """A template in pieces that make it up again, each with whether it is text that is written as it stands. The
        template has been rendered, so its syntax is right.
        """
        if not is_template(text.value):
            return [(text.value, True)]
        return [(piece, kind == "data") for _, kind, piece in self._strict.lex(text.value)]

    def _wrong_includes(self, tree: nodes.Template, text: Text) -> Iterator[Problem]:
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            name = getattr(getattr(node, "template", None), "value", None)
            if not isinstance(name, str):
                continue
            place = placed(text, node.lineno)
            try:
                self._strict.get_template(name)
            except TemplateNotFound as error:
                if not getattr(node, "ignore_missing", False):
                    yield no_file(str(error), place)
            except TemplateSyntaxError as error:
                yield included_problem(error, text, node.lineno)
            except RefusedError as error:
                yield Problem(str(error), place, error.hint)

    def _null_message(self, text: Text, variables: Mapping[str, Any]) -> str:
        used = meta.find_undeclared_variables(self._strict.parse(text.value))
        names = [f"`{name}`" for name in sorted(used) if variables.get(name, "") is None]
        return f"{' and '.join(names) or 'a value that the template writes'} is null"

    @functools.cached_property
    def _lenient(self) -> _Environment:
        noted = self._noted

        class Listing(Noting):
            def note(self) -> None:
                if len(noted) < _MAX_PROBLEMS:
                    noted.setdefault(self.identity, self)

        return _Environment(self._root, Listing)

    def _undefined(
        self,
        text: Text,
        variables: Mapping[str, Any],
        error: UndefinedError,
        *,
        line: int,
        functions: Mapping[str, Callable[..., str]],
    ) -> Problem:
        """All names that this rendering misses: it is done once more, noting each and going on."""
        self._noted.clear()
        with contextlib.suppress(Exception):  # follow-up errors of the stand-ins; what was noted until then counts
            self._lenient.written(self._lenient.compiled(text.value), {**functions, **variables})
        tree = self._strict.parse(text.value)
        problem = undefined_problem(self._noted.values(), tree, variables, placed(text, line))
        return problem or Problem(shorten(str(error), 200), placed(text, line), "check the names in the template")


# --- the environment -------------------------------------------------------------------------------------------------


class _Generator(CodeGenerator):
    """Writes `a ~ b` as a call, so that its parts become text as all else and its size is limited; counts loops."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        """Each pass of a loop calls `environment.step`, and each item that its `if` leaves out."""
        own = {"lineno": node.lineno, "environment": self.environment}
        step = nodes.Call(nodes.EnvironmentAttribute("step", **own), [], [], None, None, **own)
        test = nodes.And(step, node.test, **own) if node.test else None
        body = node.body if node.test else [nodes.ExprStmt(step, **own), *node.body]
        super().visit_For(nodes.For(node.target, node.iter, body, node.else_, test, node.recursive, **own), frame)


_METHODS = (BuiltinMethodType, FunctionType, MethodType, MethodWrapperType)


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(joined)

    def __init__(self, root: Path, undefined: type[Undefined]) -> None:
        super().__init__(
            undefined=undefined,
            finalize=as_text,
            keep_trailing_newline=True,
            loader=_Folder(root),
            auto_reload=False,
        )
        self.filters = guarded_filters(self.filters)
        for name in RANDOM:
            self.globals.pop(name, None)
        self.budget = Budget()
        self._compiled: LRUCache = LRUCache(_COMPILED)

    def compiled(self, source: str) -> Template:
        """The template of a text. Raises TemplateSyntaxError."""
        template: Template | None = self._compiled.get(source)
        if template is None:
            template = self.from_string(source)
            template.globals = dict(template.globals)  # a ChainMap, and each rendering goes through it twice
            self._compiled[source] = template
        return template

    def written(self, template: Template, variables: Mapping[str, Any]) -> str:
        """What a template gives, within its budget."""
        self.budget.renew()
        return self.concat(template.root_render_func(template.new_context(dict(variables))))

    def joined(self, parts: Iterable[Any]) -> str:
        """`a ~ b` of a template."""
        return joined(map(as_text, parts))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`row.items` is the row's own `items`, if it has one, and else the method."""
        if isinstance(obj, dict) and attribute in obj:
            return obj[attribute]
        value = super().getattr(obj, attribute)
        return Method(value, obj, attribute) if isinstance(value, _METHODS) else value

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`row["items"]` is never the method."""
        if isinstance(obj, dict):
            try:
                return obj[argument]
            except (KeyError, TypeError):
                return self.undefined(obj=obj, name=argument)
        value = super().getitem(obj, argument)
        return Method(value, obj, argument) if isinstance(value, _METHODS) else value

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operation(operator, left, right)
        return super().call_binop(context, operator, left, right)

    # What can make a short template run for hours passes through one of these: loops, calls of macros, includes.

    def step(self) -> bool:
        """A pass of a loop; it is counted as the call that it is."""
        return True

    def call(self, context: Context, obj: Any, /, *args: Any, **keywords: Any) -> Any:
        self.budget.spend()
        return super().call(context, obj, *args, **keywords)

    def join_path(self, template: str, parent: str) -> str:
        """Included files may include files: those are counted here, the first ones at their loop or call."""
        self.budget.spend()
        return super().join_path(template, parent)


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
                raise RefusedError(f"`{shorten(name, 200)}` is not a regular file", "include a text file")
            with path.open("rb") as file:
                data = file.read(MAX_CHARACTERS + 1)
        except FileNotFoundError:
            raise TemplateNotFound(name) from None
        except (OSError, RuntimeError) as error:  # RuntimeError: a symbolic link to itself, up to Python 3.12
            reason = getattr(error, "strerror", None) or str(error)
            raise RefusedError(
                f"`{shorten(name, 200)}` cannot be read: {shorten(reason, 200)}", "check its permissions"
            ) from None
        if len(data) > MAX_CHARACTERS:
            raise RefusedError(
                f"`{shorten(name, 200)}` is larger than {MAX_CHARACTERS // 1_000_000} MB", "include less"
            )
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise RefusedError(f"`{shorten(name, 200)}` is not UTF-8 (line {line})", "save it as UTF-8") from None


def _outside(name: str) -> RefusedError:
    return RefusedError(
        f"`{shorten(name, 200)}` is not inside the job file's folder", "put the file next to the job file, or below it"
    )
