"""Structured output in the emulator: what Bedrock would refuse, and values that hold to the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner.emulator import output_formats
from runner.emulator.bodies import anthropic, converse
from runner.emulator.errors import AwsError
from runner.emulator.models import resolve

HAIKU = resolve("us.anthropic.claude-haiku-4-5-20251001-v1:0").model
NEWEST = resolve("us.anthropic.claude-opus-5-5").model
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}


def invoke(schema: Any, kind: str = "json_schema") -> dict[str, Any]:
    return {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Hi"}],
        "output_config": {"format": {"type": kind, "schema": schema}},
    }


def conversation(schema: Any) -> dict[str, Any]:
    structure = {"jsonSchema": {"schema": schema, "name": "x"}}
    return {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "outputConfig": {"textFormat": {"type": "json_schema", "structure": structure}},
    }


def test_the_schema_is_an_object_for_claude_and_a_string_for_converse() -> None:
    assert anthropic.read(invoke(SCHEMA), HAIKU).schema == SCHEMA
    assert converse.read(conversation(json.dumps(SCHEMA)), HAIKU).schema == SCHEMA
    with pytest.raises(AwsError, match=r"output_config\.format\.schema: Input should be a valid dictionary"):
        anthropic.read(invoke(json.dumps(SCHEMA)), HAIKU)
    with pytest.raises(AwsError, match="the schema as a string"):
        converse.read(conversation(SCHEMA), HAIKU)
    with pytest.raises(AwsError, match="the string is no JSON Schema"):
        converse.read(conversation("{"), HAIKU)


def test_models_without_structured_output_refuse_it() -> None:
    for read, document in ((anthropic.read, invoke(SCHEMA)), (converse.read, conversation(json.dumps(SCHEMA)))):
        with pytest.raises(AwsError, match="structured output is not supported by this model"):
            read(document, NEWEST)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"additionalProperties": True}, "'additionalProperties' must be explicitly set to false"),
        ({"properties": {"a": {"type": "integer", "minimum": 1}}}, "properties minimum are not supported"),
        ({"properties": {"a": {"type": "string", "maxLength": 1}}}, "properties maxLength are not supported"),
        ({"properties": {"a": {"type": "array", "minItems": 2}}}, "'minItems' values other than 0 or 1"),
        ({"properties": {"a": {"$ref": "#"}}}, "Circular reference"),
        ({"properties": {"a": {"$ref": "https://example.com"}}}, "External"),
    ],
)
def test_what_the_subset_has_not_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(AwsError, match=told) as refused:
        anthropic.read(invoke({**SCHEMA, **change}), HAIKU)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {"type": "integer", "minimum": 7, "multipleOf": 5},
        {"type": "number", "exclusiveMaximum": -3},
        {"type": "string", "minLength": 30, "maxLength": 40},
        {"type": "array", "minItems": 3, "maxItems": 4, "items": {"enum": ["x", "y"]}},
        {"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}, {"required": ["b"]}]},
        {"anyOf": [{"type": "null"}, {"type": "string"}]},
        {"type": ["null", "boolean"]},
        {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}},
        {"type": "string", "format": "date-time"},
        {"type": "array", "maxItems": 0},
        {},
    ],
)
def test_what_it_answers_holds_to_the_schema(schema: dict[str, Any]) -> None:
    value = output_formats.example(schema, "what was seen")
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(value)
    assert value == output_formats.example(schema, "what was seen")


def test_a_schema_that_requires_itself_ends() -> None:
    endless = {"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}, "required": ["a"]}
    assert len(json.dumps(output_formats.example(endless, "x"))) < 100_000
    assert output_formats.example({"$ref": "#"}, "x") == "x"
    assert output_formats.example({"$ref": "#anchor"}, "x") == "x"


def test_only_json_between_the_tags_is_a_schema() -> None:
    assert output_formats.in_prompt(f"Be brief. <json-schema>{json.dumps(SCHEMA)}</json-schema>") == SCHEMA
    assert output_formats.in_prompt("<json-schema>none</json-schema>") is None
    assert output_formats.in_prompt(None) is None
