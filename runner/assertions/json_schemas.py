"""JSON Schemas of job files: they fetch nothing, and neither their patterns nor large outputs can hang a run."""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final

from runner.assertions import patterns
from runner.assertions.kinds import UnjudgedError
from runner.assertions.wording import excerpt, shortened, spelled

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jsonschema import SchemaError, ValidationError
    from jsonschema.protocols import Validator
    from referencing import Specification

_MAX_ERRORS: Final = 50  # of one value, of which the one that says most is told
_NAMED_EXTRAS: Final = 5
_MAX_UNEVALUATED: Final = 5_000  # items or keys: to find the unevaluated ones takes jsonschema quadratic time


def problem(schema: Any) -> str | None:
    """Why a JSON value is no JSON Schema that can be used here, or None if it is one."""
    return _problem(json.dumps(schema))


def breach(schema: Any, value: Any) -> str | None:
    """Where and how a JSON value does not fit a schema, as `at /a/0: ...`; None if it fits. Raises UnjudgedError."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    validator = _validator(json.dumps(schema))
    try:
        with patterns.limited():
            errors = [error for error, _ in zip(validator.iter_errors(value), range(_MAX_ERRORS), strict=False)]
    except Unresolvable as error:
        raise UnjudgedError(f"the JSON Schema refers to {error.ref}, which is not in it") from None
    except (ArithmeticError, TypeError, ValueError) as error:  # of numbers as large as 1e999
        raise UnjudgedError(f"the JSON Schema could not be applied: {shortened(str(error))}") from None
    best = best_match(errors)
    return None if best is None else f"at {_pointer(best)}: {_told(best)}"


def escaped(step: str | int) -> str:
    """A step of a JSON pointer."""
    return str(step).replace("~", "~0").replace("/", "~1")


def _pointer(error: ValidationError | SchemaError) -> str:
    return "".join(f"/{escaped(step)}" for step in error.absolute_path) or "the top"


_SAYS_ENOUGH: Final = frozenset({"required", "additionalProperties", "dependentRequired"})  # names keys, no values


def _told(error: ValidationError | SchemaError) -> str:
    if error.schema in (False, _NOTHING):
        return f"nothing may be there, and there is {spelled(error.instance)}"
    keyword = str(error.validator)
    if keyword in _SAYS_ENOUGH:
        return shortened(error.message)
    return f"{spelled(error.instance)} does not fit `{keyword}: {spelled(error.validator_value)}`"


# --- what is wrong with a schema -------------------------------------------------------------------------------------

_DATA: Final = frozenset({"const", "default", "enum", "examples"})  # keywords whose values are no schemas


@lru_cache(maxsize=256)
def _problem(spelled_schema: str) -> str | None:
    from jsonschema import SchemaError

    schema = json.loads(spelled_schema)
    dialect = _dialect(schema)
    try:
        dialect.check_schema(schema)
    except SchemaError as error:
        return f"the JSON Schema is wrong at {_pointer(error)}: {_told(error)}{_older(schema, error)}"
    except RecursionError:
        return "the JSON Schema is nested too deeply"
    keywords = {name for part in _mappings(schema) for name in part}
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        return "`unevaluatedProperties` beside `patternProperties` cannot be checked: write `additionalProperties`"
    return _wrong_reference(schema, dialect)


def _older(schema: Any, error: SchemaError) -> str:
    """Before 2020-12 `items` could be a list; schemas that do not say which dialect they are get the latest."""
    if "$schema" not in schema and error.absolute_path and error.absolute_path[-1] == "items":
        return '; write `prefixItems`, or add `$schema: "http://json-schema.org/draft-07/schema#"`'
    return ""


def _wrong_reference(schema: Any, dialect: type[Validator]) -> str | None:
    """A reference to what is not in the schema, nor one of the published dialects."""
    from jsonschema_specifications import REGISTRY
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import specification_with

    specification = specification_with(dialect.META_SCHEMA["$schema"])
    resource = specification.create_resource(schema)
    for reference, resolver in _references(schema, REGISTRY.resolver_with_root(resource), specification):
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError):
            return f"the JSON Schema refers to {excerpt(reference)}, which is not in it, and nothing is fetched"
    return None


def _references(part: Any, resolver: Any, of: Specification[Any]) -> Iterator[tuple[str, Any]]:
    """Every reference in a schema, with what resolves it there: an `$id` is the base of those within."""
    if isinstance(part, dict):
        if isinstance(part.get("$id"), str):
            resolver = resolver.in_subresource(of.create_resource(part))
        yield from ((part[name], resolver) for name in ("$ref", "$dynamicRef") if isinstance(part.get(name), str))
        part = [value for name, value in part.items() if name not in _DATA]
    for value in part if isinstance(part, list) else ():
        yield from _references(value, resolver, of)


def _mappings(part: Any) -> Iterator[Mapping[str, Any]]:
    """Every mapping in a schema."""
    if isinstance(part, dict):
        yield part
        part = [value for name, value in part.items() if name not in _DATA]
    for value in part if isinstance(part, list) else ():
        yield from _mappings(value)


# --- jsonschema, held to time limits ---------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _validator(spelled_schema: str) -> Validator:
    from referencing.jsonschema import EMPTY_REGISTRY

    schema = json.loads(spelled_schema)
    dialect = _limited(_dialect(schema))
    return dialect(_as_needed(schema), format_checker=dialect.FORMAT_CHECKER, registry=EMPTY_REGISTRY)


def _dialect(schema: Any) -> type[Validator]:
    from jsonschema.validators import Draft202012Validator, validator_for

    dialect: type[Validator] = validator_for(schema, default=Draft202012Validator)
    return dialect


_PROPERTIES: Final = frozenset({"properties", "patternProperties"})
_NOTHING: Final[Mapping[str, Any]] = {"not": {}}


def _as_needed(part: Any) -> Any:
    """A schema as jsonschema needs it.

    Without `$schema`: where it meets one, it goes on with a class without time limits. And with `{"not": {}}` for a
    property that is `false`, since of `false` it does not tell where the value is.
    """
    if isinstance(part, list):
        return [_as_needed(value) for value in part]
    if not isinstance(part, dict):
        return part
    kept = {name: value for name, value in part.items() if name != "$schema" or not isinstance(value, str)}
    return {
        name: value
        if name in _DATA
        else {key: _NOTHING if schema is False else _as_needed(schema) for key, schema in value.items()}
        if name in _PROPERTIES and isinstance(value, dict)
        else _as_needed(value)
        for name, value in kept.items()
    }


@cache
def _limited(dialect: type[Validator]) -> type[Validator]:
    """A class of jsonschema with those keywords replaced that may take exponential or quadratic time."""
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
    limited: type[Validator] = extend(dialect, known, format_checker=dialect.FORMAT_CHECKER)  # type: ignore[no-untyped-call]
    return limited


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
    """Equal for equal JSON values, and `true` is not 1."""
    if isinstance(value, dict):
        return frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return (bool, value) if isinstance(value, bool) else value


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
