"""JSON Schemas of job files: they fetch nothing, and neither they nor large outputs can hang a run."""

from __future__ import annotations

import json
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, cast

from runner.assertions import patterns, time_limit
from runner.assertions.kinds import Fault, UnjudgedError
from runner.assertions.wording import excerpt, pointer, shortened, spelled
from runner.words import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jsonschema import FormatChecker, ValidationError
    from jsonschema.protocols import Validator
    from referencing import Specification

_MAX_ERRORS: Final = 50  # of one value, of which the one that says most is told
_HINT: Final = (
    "branches that are alike, as of a oneOf in itself, take exponential time: tell them apart with if and then"
)
_NAMED_EXTRAS: Final = 5
# Of numbers as large as 1e999, and where a reference leads to what is no schema.
_NOT_APPLICABLE: Final = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_MAX_KEYS: Final = 5_000  # of a schema: to check them takes jsonschema a second or two
_MAX_UNEVALUATED: Final = 5_000  # items or keys: to find the unevaluated ones takes jsonschema quadratic time


def fault(schema: Any) -> Fault | None:
    """Why a JSON value is no JSON Schema that can be used here, and where in it; None if it is one."""
    return _fault(json.dumps(schema))


def has_known_dialect(schema: Mapping[str, Any]) -> bool:
    """Whether `$schema`, if given, is one of the published dialects; any other counts as the latest."""
    from jsonschema.validators import validator_for

    unknown: Any = None
    return "$schema" not in schema or validator_for(schema, default=unknown) is not None


def breaches(schema: Any) -> Callable[[Any], str | None]:
    """What tells where and how a JSON value does not fit a schema, as `at /a/0: ...`; None if it fits.

    It raises UnjudgedError, also where the check under way is over time.
    """
    return breaches_of(json.dumps(schema))


def breaches_of(schema: str, *, most: int = 1) -> Callable[[Any], str | None]:
    """As `breaches`, for a schema that is given as JSON; tells up to so many breaches, the one that says most first."""
    return partial(_breach, _validator(schema), most=most)


def _breach(validator: Validator, value: Any, *, most: int) -> str | None:
    from jsonschema.exceptions import UnknownType, best_match, relevance
    from referencing.exceptions import Unresolvable

    try:
        errors = [error for error, _ in zip(validator.iter_errors(value), range(_MAX_ERRORS), strict=False)]
    except Unresolvable as error:
        raise UnjudgedError(f"the JSON Schema refers to {excerpt(str(error.ref))}, which is not in it") from None
    except _NOT_APPLICABLE as error:
        raise UnjudgedError(f"the JSON Schema could not be applied: {shortened(str(error))}") from None
    except RecursionError:
        raise UnjudgedError(
            "the JSON Schema refers to itself without end, or the output is nested too deeply"
        ) from None
    except UnknownType as error:
        raise UnjudgedError(f"the JSON Schema has an unknown type: {spelled(error.type)}") from None
    told = []
    for breach in sorted(errors, key=relevance, reverse=True)[:most]:
        best = best_match([breach])  # of what is inside it, where none of several schemas fits
        assert best is not None
        told.append(f"at {pointer(best.absolute_path)}: {_told(best)}")
    more = [f"and {len(errors) - most} more"] if len(errors) > most > 1 else []
    return "; ".join(told + more) or None


_SAYS_ENOUGH: Final = frozenset({"required", "additionalProperties", "dependentRequired"})  # names keys, no values


def _told(error: ValidationError) -> str:
    if error.schema in (False, _NOTHING):
        return f"nothing may be there, and there is {spelled(error.instance)}"
    keyword = str(error.validator)
    if keyword in _SAYS_ENOUGH:
        return shortened(error.message)
    return f"{spelled(error.instance)} does not fit `{keyword}: {spelled(error.validator_value)}`"


# --- what is wrong with a schema -------------------------------------------------------------------------------------

_DATA: Final = frozenset({"const", "default", "enum", "examples"})  # keywords whose values are no schemas


@lru_cache(maxsize=256)
def _fault(spelled_schema: str) -> Fault | None:
    schema = json.loads(spelled_schema)
    if isinstance(schema, dict) and not isinstance(schema.get("$schema", ""), str):
        return Fault("the JSON Schema is wrong at /$schema: it is no text", ("$schema",))
    try:
        return _misfit(schema) or _wrong_reference(schema, _dialect(schema))
    except RecursionError:
        return Fault("the JSON Schema is nested too deeply")


def _misfit(schema: Any) -> Fault | None:
    """What does not fit the schema of schemas, or cannot be checked here."""
    names = list(_names(schema))
    if len(names) > _MAX_KEYS:
        return Fault(
            f"the JSON Schema is too large: it has {len(names):,} keys, and more than {_MAX_KEYS:,} take too long"
        )
    dialect = _dialect(schema)
    error = next(_applied(dialect.META_SCHEMA, dialect).iter_errors(schema), None)
    if error is not None:
        what, steps, hint = _wrong(error)
        is_older = steps[-1:] == ("items",) and isinstance(error.instance, list) and "$schema" not in schema
        return Fault(f"the JSON Schema is wrong at {pointer(steps)}: {what}", steps, _OLDER_ITEMS if is_older else hint)
    if {"patternProperties", "unevaluatedProperties"} <= set(names):
        told = "`unevaluatedProperties` beside `patternProperties` cannot be checked"
        return Fault(told, hint="write `additionalProperties`")
    return None


# Before 2020-12 `items` could be a list; schemas that do not say which dialect they are get the latest.
_OLDER_ITEMS: Final = 'write `prefixItems`, or add `$schema: "http://json-schema.org/draft-07/schema#"`'
_TYPES: Final = ("string", "number", "integer", "boolean", "object", "array", "null")
_OTHER_NAMES: Final[Mapping[str, str]] = {  # what other languages call them
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "double": "number",
    "bool": "boolean",
    "dict": "object",
    "map": "object",
    "mapping": "object",
    "list": "array",
    "none": "null",
}
_MAX_NAME: Final = 100  # characters of a name that is compared with others
_SHAPES: Final[Mapping[str, str]] = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "`true` or `false`",
    "object": "a mapping",
    "array": "a list",
}


def _wrong(error: ValidationError) -> Fault:
    """What a part of a schema breaks in the schema of schemas, in plain words, with the steps to it."""
    steps = tuple(error.absolute_path)
    value, wanted = cast("tuple[Any, Any]", (error.instance, error.validator_value))
    keyword = str(error.validator)
    if keyword == "anyOf" and "simpleTypes" in str(wanted):
        return _wrong_type(value, steps)
    if (keyword, wanted) == ("format", "regex"):
        found = patterns.fault(value)
        return Fault(found.message, steps, found.hint or patterns.ADVICE) if found else Fault(_told(error), steps)
    if keyword == "type":
        shapes = " or ".join(_SHAPES[name] for name in ([wanted] if isinstance(wanted, str) else wanted))
        return Fault(f"{spelled(value)} is not {shapes}", steps, f"write {shapes}")
    if keyword in _BREACHES:
        told, hint = _BREACHES[keyword]
        return Fault(f"{spelled(value)} {told.format(wanted)}", steps, hint.format(wanted))
    return Fault(_told(error), steps)


_BREACHES: Final[Mapping[str, tuple[str, str]]] = {  # by keyword: what a value does, and what to do
    "minimum": ("is less than {}", "write {} or more"),
    "exclusiveMinimum": ("is not more than {}", "write a number above {}"),
    "minItems": ("is empty", "add something to it, or leave it out"),
    "uniqueItems": ("has an item twice", "remove one of them"),
}


def _wrong_type(value: Any, steps: tuple[str | int, ...]) -> Fault:
    """What `type` has that is neither the name of a type nor a list of some."""
    if isinstance(value, list):
        wrong = next((index for index, name in enumerate(value) if name not in _TYPES), None)
        if wrong is None:
            told, hint = ("has a type twice", "remove one of them") if value else _BREACHES["minItems"]
            return Fault(f"{spelled(value)} {told}", steps, hint)
        value, steps = value[wrong], (*steps, wrong)
    meant = nearest(value.lower()[:_MAX_NAME], (*_TYPES, *_OTHER_NAMES)) if isinstance(value, str) else None
    hint = f"did you mean `{_OTHER_NAMES.get(meant, meant)}`?" if meant else f"the types are {', '.join(_TYPES)}"
    return Fault(f"{spelled(value)} is no type", steps, hint)


def _wrong_reference(schema: Any, dialect: type[Validator]) -> Fault | None:
    """A reference to what is not in the schema, nor one of the published dialects."""
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification = specification_with(dialect.META_SCHEMA["$schema"])
    resource = specification.create_resource(schema)
    try:
        references = list(_references(schema, REGISTRY.resolver_with_root(resource), specification))
    except (Unresolvable, *_NOT_APPLICABLE) as error:
        return Fault(f"the JSON Schema has a wrong `$id`: {shortened(str(error))}")
    for reference, steps, resolver in references:
        try:
            resolver.lookup(reference)
        except (Unresolvable, *_NOT_APPLICABLE):
            told = f"the JSON Schema refers to {excerpt(reference)}, which is not in it, and nothing is fetched"
            return Fault(told, steps, "put that schema under `$defs` of this one, and refer to `#/$defs/NAME`")
    return None


def _references(
    part: Any, resolver: Any, of: Specification[Any], steps: tuple[str | int, ...] = ()
) -> Iterator[tuple[str, tuple[str | int, ...], Any]]:
    """Every reference in a schema, the steps to it and what resolves it: an `$id` is the base of those within."""
    inside: Iterable[tuple[str | int, Any]] = enumerate(part) if isinstance(part, list) else ()
    if isinstance(part, dict):
        if isinstance(part.get("$id"), str):
            resolver = resolver.in_subresource(of.create_resource(part))
        for name in ("$ref", "$dynamicRef"):
            if isinstance(part.get(name), str):
                yield part[name], (*steps, name), resolver
        inside = ((name, value) for name, value in part.items() if name not in _DATA)
    for step, value in inside:
        yield from _references(value, resolver, of, (*steps, step))


def _names(part: Any) -> Iterator[str]:
    """Every key of every mapping in a schema, also in its data: a reference may lead there."""
    if isinstance(part, dict):
        yield from part
        part = list(part.values())
    for value in part if isinstance(part, list) else ():
        yield from _names(value)


# --- jsonschema, held to a time limit --------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _validator(spelled_schema: str) -> Validator:
    schema = json.loads(spelled_schema)
    return _applied(_as_needed(schema), _dialect(schema))


def _applied(schema: Any, dialect: type[Validator]) -> Validator:
    from referencing.jsonschema import EMPTY_REGISTRY

    limited = _limited(dialect)
    return limited(schema, format_checker=limited.FORMAT_CHECKER, registry=EMPTY_REGISTRY)


def _dialect(schema: Any) -> type[Validator]:
    from jsonschema.validators import Draft202012Validator, validator_for

    dialect: type[Validator] = validator_for(schema, default=Draft202012Validator)
    return dialect


_PROPERTIES: Final = frozenset({"properties", "patternProperties"})
_NOTHING: Final[Mapping[str, Any]] = {"not": {}}


def _as_needed(part: Any) -> Any:
    """A schema with `{"not": {}}` for a property that is `false`: of `false` jsonschema does not tell where it is."""
    if isinstance(part, list):
        return [_as_needed(value) for value in part]
    if not isinstance(part, dict):
        return part
    return {
        name: value
        if name in _DATA
        else {key: _NOTHING if schema is False else _as_needed(schema) for key, schema in value.items()}
        if name in _PROPERTIES and isinstance(value, dict)
        else _as_needed(value)
        for name, value in part.items()
    }


@cache
def _limited(dialect: type[Validator]) -> type[Validator]:
    """A class of jsonschema that looks at the clock, without those keywords that may take quadratic time or more."""
    from jsonschema.validators import extend

    ours = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "uniqueItems": _unique_items,
        "unevaluatedItems": _few(dialect, "unevaluatedItems"),
        "unevaluatedProperties": _few(dialect, "unevaluatedProperties"),
    }
    known = {name: check for name, check in ours.items() if name in dialect.VALIDATORS}
    limited: type[Validator] = extend(dialect, known, format_checker=_formats(dialect))  # type: ignore[no-untyped-call]
    _watch(limited)
    return limited


def _watch(limited: type[Validator]) -> None:
    """Let a class of our own look at the clock whenever a schema within the schema is applied to a value.

    It is then evolved, or asked for its errors. To evolve also keeps the class: jsonschema goes on with one of its own
    where it meets `$schema`.
    """
    evolve, iter_errors = limited.evolve, limited.iter_errors

    def evolve_in_time(self: Validator, **changes: Any) -> Validator:
        _look_at_clock()
        schema = changes.get("schema")
        if isinstance(schema, dict) and "$schema" in schema:
            changes["schema"] = {name: value for name, value in schema.items() if name != "$schema"}
        return evolve(self, **changes)

    def iter_errors_in_time(self: Validator, instance: Any) -> Iterator[ValidationError]:
        _look_at_clock()
        return iter_errors(self, instance)

    limited.evolve = evolve_in_time  # type: ignore[method-assign]
    limited.iter_errors = iter_errors_in_time  # type: ignore[method-assign]


def _look_at_clock() -> None:
    if time_limit.left() <= 0:
        raise time_limit.exceeded("the JSON Schema", _HINT)


def _formats(dialect: type[Validator]) -> FormatChecker:
    """The formats of a dialect, with a limit of what is compiled as a regular expression."""
    from jsonschema import FormatChecker

    formats = FormatChecker(formats=())
    formats.checkers = {**dialect.FORMAT_CHECKER.checkers}
    formats.checks("regex")(lambda value: not isinstance(value, str) or patterns.pattern_problem(value) is None)
    return formats


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not patterns.search(pattern, instance):
        yield _error(f"does not match {pattern!r}")


def _pattern_properties(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    for pattern, schema in wanted.items() if validator.is_type(instance, "object") else ():
        for name, value in instance.items():
            if patterns.search(pattern, name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, matching = schema.get("properties", {}), schema.get("patternProperties", {})
    extras = [
        name for name in instance if name not in named and not any(patterns.search(each, name) for each in matching)
    ]
    if wanted is False and extras:
        named_extras = ", ".join(map(spelled, extras[:_NAMED_EXTRAS]))
        yield _error(f"{named_extras}{', ...' if extras[_NAMED_EXTRAS:] else ''}: not among the properties")
    elif isinstance(wanted, dict):
        for name in extras:
            yield from validator.descend(instance[name], wanted, path=name)


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if wanted and validator.is_type(instance, "array") and len(set(map(_hashable, instance))) < len(instance):
        yield _error("has items that are the same")


def _hashable(value: Any) -> Any:
    """Equal for equal JSON values, and `true` is not 1. Numbers are texts: many may be chosen that have one hash."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, str):
        return (str, value)
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else repr(value)


def _few(dialect: type[Validator], keyword: str) -> Any:
    """The check of a keyword, which refuses large values."""
    original = dialect.VALIDATORS.get(keyword)

    def check(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        assert original is not None
        if isinstance(instance, list | dict) and len(instance) > _MAX_UNEVALUATED:
            raise UnjudgedError(f"`{keyword}` is not checked in values of more than {_MAX_UNEVALUATED:,} items")
        yield from original(validator, wanted, instance, schema) or ()

    return check


def _error(message: str) -> ValidationError:
    from jsonschema import ValidationError

    return ValidationError(message)
