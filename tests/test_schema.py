from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from runner import schema, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.errors import Problem

BASE = "model: amazon.nova-lite-v1:0\nprompt: Hi\n"


def check(tmp_path: Path, content: str) -> tuple[Problem, ...]:
    path = tmp_path / "job.yaml"
    path.write_text(content)
    return schema.check(source.read(path))


def subschemas(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property and definition, and every kind of list item, of a schema."""
    if isinstance(node, dict):
        for key in ("properties", "$defs"):
            for name, child in node.get(key, {}).items():
                yield f"{path}/{key}/{name}", child
                yield from subschemas(child, f"{path}/{key}/{name}")
        if "items" in node:
            yield from subschemas(node["items"], f"{path}/items")


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema.load("job"))
    assert json.loads(schema.text("job")) == schema.load("job")


def test_every_property_has_title_description_and_examples_that_hold() -> None:
    root = schema.load("job")
    found = dict(subschemas(root))
    assert len(found) > 40
    for path, child in found.items():
        target = child
        if "$ref" in child:
            target = {**root["$defs"][child["$ref"].rpartition("/")[2]], **child}
        assert {"title", "description", "examples"} <= target.keys(), path
        validator = Draft202012Validator({**child, "$defs": root["$defs"]})
        for example in [*target["examples"], *([target["default"]] if "default" in target else [])]:
            validator.validate(example)


def test_nothing_is_accepted_that_does_nothing() -> None:
    root = schema.load("job")
    free = {"vars", "body", "extra"}
    objects = {path: child for path, child in subschemas(root) if "object" in child.get("type", ())}
    for path, child in objects.items():
        assert path.rpartition("/")[2] in free or child["additionalProperties"] is False, path
    assert root["additionalProperties"] is False
    later = {"matrix", "repeat", "min_pass", "thresholds", "documents"}
    assert not later & {path.rpartition("/")[2] for path, _ in subschemas(root)}


def test_a_right_job_has_no_problems(tmp_path: Path) -> None:
    assert check(tmp_path, BASE) == ()


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("top_p: 1\n", "unknown key `top_p`", "put it under `inference:`, as `top_p`"),
        ("requestsPerMinute: 1\n", "unknown key `requestsPerMinute`", "put it under `rate:`, as `requests_per_minute`"),
        ("max_attempts: 1\n", "unknown key `max_attempts`", "put it under `retry:`, as `max_attempts`"),
        ("Stream: true\n", "unknown key `Stream`", "did you mean `stream`?"),
        ("max-cost: 1\n", "unknown key `max-cost`", "did you mean `max_cost`?"),
        ("descripton: a\n", "unknown key `descripton`", "did you mean `description`?"),
        ("inference: {temprature: 1}\n", "unknown key `temprature` in `inference`", "did you mean `temperature`?"),
        ("stream: 'on'\n", '`stream` must be true or false, not the string "on"', "write `true`"),
        ("description: 1.10\n", "`description` must be a text, not the number 1.10", 'quote it: `"1.10"`'),
        ("name: 2024\n", "`name` must be a text", 'quote it: `"2024"`'),
        ("timeout: 1h30m\n", "`timeout` must be a duration", "as in `500ms`, `30s`, `5m` or `1h`"),
        ("region: us-east-1a\n", "is not an AWS region", "`us-east-1`"),
        ("min_pass: 1\n", "`min_pass` is not supported by this version", "leave it out"),
        ("name: " + "a" * 101 + "\n", "`name` is longer than 100", "shorten it"),
    ],
)
def test_messages(content: str, message: str, hint: str, tmp_path: Path) -> None:
    (problem,) = check(tmp_path, BASE + content)
    assert message in problem.message
    assert hint in (problem.hint or "")
    assert problem.place is not None
    assert problem.place.line == 3


def test_values_are_shortened(tmp_path: Path) -> None:
    (problem,) = check(tmp_path, BASE + f"stream: {'long ' * 1000}\n")
    assert len(problem.message) < 120


def test_a_misspelt_key_is_one_problem(tmp_path: Path) -> None:
    (problem,) = check(tmp_path, "modle: amazon.nova-lite-v1:0\nprompt: Hi\n")
    assert problem.hint == "did you mean `model`?"
    (problem,) = check(tmp_path, "model: amazon.nova-lite-v1:0\nmessages: []\n")
    assert problem.message == "unknown key `messages`"


def test_problems_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    problems = check(tmp_path, "zzz: 1\nmodel: [1]\nturns: {}\nassert:\n  - 1\n  - {}\nstream: 3\n")
    lines = [problem.place.line for problem in problems if problem.place]
    assert lines == sorted(lines) == [1, 2, 3, 5, 6, 7]


def test_only_the_messages_of_jsonschema_are_replaced() -> None:
    theirs = Draft202012Validator(schema.load("job"))
    values: list[Any] = [
        None,
        True,
        -1,
        0,
        0.5,
        1,
        10**9,
        1.0,
        "",
        " ",
        "x",
        "x\n",
        "5s",
        "auto",
        [],
        ["x"],
        {},
        {"x": 1},
    ]
    wrong: list[Any] = [*values, *([value] for value in values), *({"user": value} for value in values)]
    jobs = [{key: value} for key in schema.load("job")["properties"] for value in wrong]
    jobs += [
        {key: {name: value}}
        for key in ("inference", "rate", "retry")
        for name in ("top_p", "stop", "max_attempts", "max_backoff", "requests_per_minute", "max_tokens", "temperature")
        for value in wrong
    ]
    jobs += [{"turns": [{"user": value}]} for value in [{"images": wrong}, {"text": 1, "images": []}, *wrong]]
    jobs += [
        {"assert": [{"type": name, "value": value}]} for name in ("contains", "latency", "x", 1) for value in wrong
    ]
    for job in jobs:
        ours = {(tuple(error.absolute_path), error.validator) for error in schema._validator().iter_errors(job)}
        expected = {(tuple(error.absolute_path), error.validator) for error in theirs.iter_errors(job)}
        if not any("\n" in repr_ for repr_ in map(str, job.values())) and "x\\n" not in str(job):  # see `_whole`
            assert ours == expected, job


def test_importing_does_not_load_jsonschema() -> None:
    code = "import sys, runner.schema; sys.exit('jsonschema' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
