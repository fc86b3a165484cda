from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from runner import schema, source
from runner.schema import breaches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.errors import Problem

MODEL = "amazon.nova-lite-v1:0"
BASE = f"model: {MODEL}\nprompt: Hi\n"


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
    free = {"vars", "body", "extra", "matrix", "response_schema"}
    objects = {path: child for path, child in subschemas(root) if "object" in child.get("type", ())}
    for path, child in objects.items():
        assert path.rpartition("/")[2] in free or child["additionalProperties"] is False, path
    assert root["additionalProperties"] is False


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
        ("thresholds: {}\n", "`thresholds` is empty", "write `{pass_rate: "),
        ("thresholds: 1\n", "`thresholds` must be a mapping", "write `{pass_rate: "),
        ("pass_rate: '>= 1'\n", "unknown key `pass_rate`", "put it under `thresholds:`, as `pass_rate`"),
        ("thresholds: {p95: '< 1s'}\n", "unknown key `p95` in `thresholds`", "use `p95_latency`"),
        ("thresholds: {max_cost: 5}\n", "unknown key `max_cost`", "belongs at the top level"),
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


SCALARS: list[Any] = [
    None, True, False, -1, 0, 0.5, 1, 2.0, 10**9, float("nan"), float("inf"), "", " ", "x", "x/", "5s", "auto", "on",
    "a" * 3000, "< 1", ">= 95%", "< 1s", "us-east-1", "contains", "latency", MODEL,
]  # fmt: skip
VALUES: list[Any] = [*SCALARS, [], ["x"], ["x", 1], {}, {"x": 1}, *({"user": value} for value in SCALARS)]


def jobs() -> Iterator[dict[str, Any]]:
    """Every value for every key, then keys and values in any order, right ones and wrong ones."""
    names = sorted({path.rpartition("/")[2] for path, _ in subschemas(schema.load("job"))} - {"", "items"} | {"x"})
    for key in names:
        for value in VALUES:
            yield {key: value}
            yield {"model": MODEL, "prompt": "Hi", key: [value]}
            yield {"model": MODEL, "prompt": "Hi", key: {"type": value}}
            yield {section: {key: value} for section in ("inference", "rate", "retry", "thresholds")}
    chance = random.Random(1)

    def anything(depth: int) -> Any:
        kind = chance.random() if depth < 4 else 0
        if kind < 0.4:
            return chance.choice(SCALARS)
        if kind < 0.6:
            return [anything(depth + 1) for _ in range(chance.randint(0, 3))]
        return {chance.choice(names): anything(depth + 1) for _ in range(chance.randint(0, 4))}

    for _ in range(3000):
        keys = chance.sample(list(schema.load("job")["properties"]), 3)
        yield {key: anything(1) for key in keys}
        yield {
            "model": MODEL,
            "prompt": "Hi",
            "assert": [anything(2)],
            "cases": [{"vars": anything(2), "assert": [anything(3)]}],
        }


def test_the_same_breaches_are_found_as_by_jsonschema() -> None:
    theirs = Draft202012Validator(schema.load("job"))
    right = 0
    for job in jobs():
        ours = {(breach.pointer, breach.keyword) for breach in breaches.breaches(job, schema.load("job"))}
        assert ours == {(tuple(error.absolute_path), error.validator) for error in theirs.iter_errors(job)}, job
        right += not ours
    assert right > 100


def test_a_line_break_at_the_end_is_no_part_of_a_name(tmp_path: Path) -> None:
    (problem,) = check(tmp_path, 'model: "a\\n"\nprompt: Hi\n')  # where Python's `$` matches
    assert "cannot be a model id" in problem.message


def test_the_schema_uses_only_keywords_that_are_checked() -> None:
    silent = {"$schema", "$id", "$defs", "title", "description", "examples", "default", "then"}

    def walk(node: dict[str, Any]) -> None:
        assert node.keys() <= silent | breaches._RULES.keys() | breaches._PARTS.keys()
        if node.get("additionalProperties"):
            walk(node["additionalProperties"])
        for key in ("properties", "$defs"):
            for child in node.get(key, {}).values():
                walk(child)
        for child in (*node.get("oneOf", ()), *node.get("allOf", ())):
            walk(child)
        for key in {"items", "not", "if", "then"} & node.keys():
            walk(node[key])

    walk(schema.load("job"))
