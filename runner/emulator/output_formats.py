"""Structured output: the JSON Schema that is asked for, what Bedrock finds wrong with it, and a value that fits it."""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from runner.emulator.errors import AwsError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.emulator.models import Model

# --- requests --------------------------------------------------------------------------------------------------------


def of_anthropic(config: Any, model: Model, *, path: str = "output_config") -> dict[str, Any] | None:
    """The schema of `output_config`: an object."""
    if config is None:
        return None
    if not isinstance(config, dict):
        raise invalid(f"{path}: Input should be a valid dictionary")
    _no_extras(config, {"effort", "format"}, path)
    wanted = config.get("format")
    if wanted is None:
        return None
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        raise invalid(f"{path}.format.type: Input should be 'json_schema'")
    _no_extras(wanted, {"type", "schema"}, f"{path}.format")
    if not isinstance(wanted.get("schema"), dict):
        raise invalid(f"{path}.format.schema: Input should be a valid dictionary")
    return _checked(wanted["schema"], model, path=f"{path}.format.schema")


def of_converse(config: Any, model: Model) -> dict[str, Any] | None:
    """The schema of `outputConfig`: JSON in a string."""
    if config is None:
        return None
    if not isinstance(config, dict):
        raise invalid("outputConfig: expected an object")
    _no_extras(config, {"effort", "textFormat"}, "outputConfig")
    wanted = config.get("textFormat")
    if wanted is None:
        return None
    match wanted:
        case {"type": "json_schema", "structure": {"jsonSchema": {"schema": str(text)}}}:
            try:
                schema = json.loads(text)
            except ValueError:
                schema = None
            if not isinstance(schema, dict):
                raise invalid("outputConfig.textFormat.structure.jsonSchema.schema: the string is no JSON Schema")
            return _checked(schema, model, path="outputConfig.textFormat.structure.jsonSchema.schema")
        case _:
            raise invalid(
                "outputConfig.textFormat: expected type json_schema, and the schema as a string in "
                "structure.jsonSchema.schema"
            )


_IN_PROMPT = re.compile(r"<json-schema>\s*(.*?)\s*</json-schema>", re.DOTALL)


def in_prompt(system: str | None) -> dict[str, Any] | None:
    """The schema that a system prompt asks for between `<json-schema>` tags, if it does."""
    found = _IN_PROMPT.search(system or "")
    try:
        schema = json.loads(found[1]) if found else None
    except ValueError:
        return None
    return schema if isinstance(schema, dict) else None


def _no_extras(given: dict[str, Any], known: set[str], path: str) -> None:
    for key in given:
        if key not in known:
            raise invalid(f"{path}.{key}: Extra inputs are not permitted")


# --- the subset ------------------------------------------------------------------------------------------------------

_UNSUPPORTED = {
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    "string": ("minLength", "maxLength"),
    "array": ("maxItems", "uniqueItems", "contains", "prefixItems"),
    "object": ("patternProperties", "propertyNames", "minProperties", "maxProperties"),
}


def _checked(schema: dict[str, Any], model: Model, *, path: str) -> dict[str, Any]:
    if not model.structured:
        raise invalid(f"{path.partition('.')[0]}: structured output is not supported by this model.")
    _check(schema, schema, path, ())
    return schema


def _check(part: Any, root: dict[str, Any], path: str, around: tuple[str, ...]) -> None:
    """Raise for what structured output does not take; `around` are the references that led here."""
    if not isinstance(part, dict):
        raise invalid(f"{path}: Schema should be an object")
    types = part.get("type", [])
    types = [types] if isinstance(types, str) else types
    if "object" in types and part.get("additionalProperties") is not False:
        raise invalid(f"{path}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    for kind, keywords in _UNSUPPORTED.items():
        if unsupported := [name for name in keywords if name in part]:
            raise invalid(f"{path}: For '{kind}' type, properties {', '.join(unsupported)} are not supported")
    if part.get("minItems", 0) not in (0, 1):
        raise invalid(f"{path}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if "$ref" in part:
        reference = str(part["$ref"])
        if reference in around or len(around) > 50:
            raise invalid(f"{path}: Circular reference detected in schema definitions: {reference}")
        _check(_target(root, reference, path), root, path, (*around, reference))
    for inner in _inner(part):
        _check(inner, root, path, around)


def _inner(part: dict[str, Any]) -> Iterator[Any]:
    """The schemas in a schema that a value meets."""
    yield from part.get("properties", {}).values()
    if "items" in part:
        yield part["items"]
    for keyword in ("anyOf", "allOf"):
        yield from part.get(keyword, ())


def _target(root: dict[str, Any], reference: str, path: str) -> Any:
    found: Any = root
    if not reference.startswith("#"):
        raise invalid(f"{path}: External $ref is not supported: {reference}")
    for step in reference[1:].split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            raise invalid(f"{path}: Could not resolve $ref: {reference}")
        found = found[name]
    return found


# --- a value that fits -----------------------------------------------------------------------------------------------

_FORMATS = {
    "date": "2026-11-22",
    "date-time": "2026-11-22T20:00:00Z",
    "duration": "PT1M",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "time": "20:00:00Z",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_DEEP = 8  # levels, from which on only what is required is there
_DEEPEST = 32  # levels of what requires itself
_MOST_REFERENCES = 50  # to each other
_MOST_ITEMS = 20


def example(schema: dict[str, Any], text: str) -> Any:
    """A value that fits the schema, always the same, with `text` wherever any text will do. Of keywords that
    structured output does not take, those about length and size count; patterns do not.
    """
    return _Examples(schema, text).of(schema, 0)


class _Examples:
    """Values that fit the parts of a schema; `depth` is how far inside the value they stand."""

    def __init__(self, root: dict[str, Any], text: str) -> None:
        self._root = root
        self._any_text = text
        self._by_type: dict[str, Callable[[dict[str, Any], int], Any]] = {
            "object": self._object,
            "array": self._array,
            "boolean": lambda *_: True,
            "integer": _number,
            "null": lambda *_: None,
            "number": _number,
            "string": self._text,
        }

    def of(self, part: Any, depth: int) -> Any:
        part = self._resolved(part)
        if "const" in part:
            return part["const"]
        if part.get("enum"):
            return part["enum"][0]
        kind = _type(part) if depth < _DEEPEST else "string"
        build: Callable[[dict[str, Any], int], Any] = self._by_type.get(kind, self._text)
        return build(part, depth)

    def _resolved(self, part: Any) -> dict[str, Any]:
        """The schema without references, of alternatives the first; where it leads nowhere any value will do."""
        for _ in range(_MOST_REFERENCES):
            if not isinstance(part, dict):
                return {}
            if "$ref" in part:
                with suppress(AwsError):
                    part = _target(self._root, str(part["$ref"]), "schema")
            elif alternatives := part.get("anyOf") or part.get("oneOf"):
                part = alternatives[0]
            elif part.get("allOf"):
                part = _merged(part)
            else:
                return part
        return {}

    def _object(self, part: dict[str, Any], depth: int) -> dict[str, Any]:
        properties, required = part.get("properties", {}), part.get("required", [])
        names = [name for name in properties if depth < _DEEP or name in required]
        names += [name for name in required if name not in properties]
        return {name: self.of(properties.get(name, {}), depth + 1) for name in names}

    def _array(self, part: dict[str, Any], depth: int) -> list[Any]:
        count = min(max(1, part.get("minItems", 0)), part.get("maxItems", _MOST_ITEMS), _MOST_ITEMS)
        return [self.of(part.get("items", {}), depth + 1) for _ in range(count)]

    def _text(self, part: dict[str, Any], _: int) -> str:
        text = _FORMATS.get(part.get("format", ""), self._any_text).ljust(part.get("minLength", 0), ".")
        return text[: part.get("maxLength")]


def _merged(part: dict[str, Any]) -> dict[str, Any]:
    """A schema and those of its `allOf` as one."""
    merged = {name: value for name, value in part.items() if name != "allOf"}
    for inner in part["allOf"]:
        for name, value in inner.items():
            known = merged.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                merged[name] = {**known, **value}
            elif isinstance(known, list) and isinstance(value, list):
                merged[name] = [*known, *value]
            else:
                merged[name] = value
    return merged


def _type(part: dict[str, Any]) -> str:
    types = part.get("type")
    if isinstance(types, list):
        return next((kind for kind in types if kind != "null"), "null")
    return types or ("object" if "properties" in part else "array" if "items" in part else "string")


def _number(part: dict[str, Any], _: int) -> float:
    step: float = part.get("multipleOf", 1)
    low: float = part.get("minimum", part["exclusiveMinimum"] + step if "exclusiveMinimum" in part else -math.inf)
    high: float = part.get("maximum", part["exclusiveMaximum"] - step if "exclusiveMaximum" in part else math.inf)
    value = max(low, min(1, high))
    return value if part.get("type") == "number" and "multipleOf" not in part else math.ceil(value / step) * step
