"""Assertions from the job file to the row: templates in values, what validate finds, and leave to run code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.assertions import Answer, evaluate
from runner.cases import loading
from runner.cases.rendering import Renderer
from runner.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from runner.records import Assertion

HEAD = "model: amazon.nova-lite-v1:0\nprompt: Hi\n"


def load(tmp_path: Path, content: str, *, allow_python: bool = True) -> Any:
    path = tmp_path / "job.yaml"
    path.write_text(HEAD + content)
    return loading.load([path], allow_python=allow_python)


def assertions_of(tmp_path: Path, content: str) -> tuple[Assertion, ...]:
    """Those of the first case, rendered."""
    (cases,) = load(tmp_path, content)
    return Renderer(cases.job).case(next(iter(cases))).assertions


def problems_of(tmp_path: Path, content: str, *, allow_python: bool = True) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, content, allow_python=allow_python)
    return [f"{problem.place.line if problem.place else 0}: {problem.message}" for problem in caught.value.problems]


def test_strings_anywhere_in_a_value_are_templates(tmp_path: Path) -> None:
    (path, schema, texts, listed, part) = assertions_of(
        tmp_path,
        """\
vars: {name: Ada, n: 3, names: [Ada, "Lovelace, \\"A\\""]}
assert:
  - {type: json-path, value: {path: "$.{{ name }}", value: ["{{ n }}", 3]}}
  - {type: is-json, value: {const: "{{ name }}", pattern: "^a{2}$"}}
  - {type: contains-any, value: ["{{ name }}", "{% if n > 2 %}many{% endif %}"]}
  - {type: contains-all, value: "{{ names }}"}
  - type: assert-set
    threshold: 0.5
    assert:
      - {type: word-count, value: {min: "{{ n }}"}, weight: 2}
      - {type: not-cost, threshold: 1}
""",
    )
    assert path.value == {"path": "$.Ada", "value": ["3", 3]}
    assert schema.value == {"const": "Ada", "pattern": "^a{2}$"}
    assert texts.value == ["Ada", "many"]
    verdict = evaluate(listed, Answer(output='Ada Lovelace, "A"'))
    assert verdict["expected"] == "output to contain all of 'Ada', 'Lovelace, \"A\"'"
    assert verdict["passed"]
    assert part.threshold == 0.5
    assert [(each.name, each.weight, each.threshold) for each in part.assertions] == [
        ("word-count", 2, None),
        ("not-cost", 1, 1),
    ]
    assert part.assertions[0].value == {"min": "3"}


def test_values_of_models_that_judge_are_kept(tmp_path: Path) -> None:
    (similar, rubric) = assertions_of(
        tmp_path,
        """\
assert:
  - {type: similar, value: [hello, hi], threshold: 0.8, model: "amazon.titan-embed-text-v2:0"}
  - {type: llm-rubric, value: Is polite}
""",
    )
    assert (similar.value, similar.threshold, similar.model) == (["hello", "hi"], 0.8, "amazon.titan-embed-text-v2:0")
    assert (rubric.value, rubric.threshold, rubric.model) == ("Is polite", None, None)


def test_a_schema_may_be_included_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "answer.json").write_text('{"type": "object", "required": ["name"]}')
    (assertion,) = assertions_of(tmp_path, "assert: [{type: is-json, value: \"{% include 'answer.json' %}\"}]\n")
    assert assertion.value == '{"type": "object", "required": ["name"]}'


def test_what_cannot_work_once_it_is_rendered_is_a_problem_before_anything_is_sent(tmp_path: Path) -> None:
    content = """\
vars: {pattern: "(a", empty: "", most: few}
assert:
  - {type: regex, value: "{{ pattern }}"}
  - {type: contains, value: "{{ empty }}"}
  - type: assert-set
    assert:
      - {type: word-count, value: {max: "{{ most }}"}}
  - {type: contains, value: "{{ missing }}"}
"""
    assert problems_of(tmp_path, content) == [
        "5: '(a' is not a regular expression: missing ), unterminated subpattern at position 0",
        "6: the value of `contains` is empty",
        "9: `word-count` takes whole numbers, not '{'max': 'few'}'",
        "10: undefined variable: `missing`",
    ]


def test_names_in_the_values_of_sets_are_known_to_files_of_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,topic\n1,a\n")
    content = """\
cases: rows.csv
assert:
  - type: assert-set
    assert: [{type: contains-all, value: ["{{ topic }}", "{{ tpoic }}"]}]
"""
    assert problems_of(tmp_path, content) == ["6: undefined variable: `tpoic`"]


def test_assertions_of_files_of_rows_are_checked_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("id,topic\n1,a\n")
    assert problems_of(tmp_path, "cases: rows.csv\nassert: [{type: json-path, value: topic}]\n") == [
        "4: 'topic' is not a JSONPath: it does not start with `$`"
    ]


def test_first_token_latency_is_for_streams(tmp_path: Path) -> None:
    content = "assert: [{type: first-token-latency, threshold: 2s}]\n"
    assert problems_of(tmp_path, content) == ["3: `first-token-latency` needs a reply that is streamed"]
    assert assertions_of(tmp_path, f"stream: true\n{content}")[0].threshold == 2


def test_code_is_not_a_template(tmp_path: Path) -> None:
    (assertion,) = assertions_of(tmp_path, "assert: [{type: python, value: \"output == '{' + '}'\"}]\n")
    assert assertion.value == "output == '{' + '}'"
    assert problems_of(tmp_path, "vars: {x: 1}\nassert: [{type: python, value: \"'{{ x }}' in output\"}]\n") == [
        "4: the code of `python` is not a template, so that no data becomes code"
    ]


def test_every_use_of_code_is_a_problem_without_leave(tmp_path: Path) -> None:
    content = """\
cases:
  - assert: [{type: not-python, value: "True"}]
assert:
  - {type: python, value: "True"}
  - type: assert-set
    assert:
      - {type: python, value: "checks.py"}
"""
    (tmp_path / "checks.py").write_text("def get_assert(output, context): ...\n")
    told = "a `python` assertion runs code, which has to be allowed"
    assert sorted(problems_of(tmp_path, content, allow_python=False)) == [f"4: {told}", f"6: {told}", f"9: {told}"]
    assert load(tmp_path, content)


def test_run_needs_leave_for_code_and_validate_does_not(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    job = write_job("prompt: Hi\nassert: [{type: python, value: \"open('ran', 'w').close() or True\"}]")
    assert bedrock_run("validate", job).returncode == 0
    assert bedrock_run("--local", "--dry-run", job).returncode == 0
    refused = bedrock_run("--local", job)
    assert refused.returncode == 2
    assert "--allow-python" in refused.stderr
    assert not (tmp_path / "ran").exists()
    done = bedrock_run("--local", "--allow-python", job)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ran").exists()


def test_a_row_tells_the_verdicts_on_the_parts_of_a_set(bedrock_run: Any, write_job: Any, rows: Any) -> None:
    job = write_job(
        "prompt: Hi\n"
        "assert:\n"
        "  - type: assert-set\n"
        "    threshold: 0.4\n"
        "    assert: [{type: contains, value: Hi}, {type: is-json, weight: 2}]\n"
        "  - {type: cost, threshold: 1}\n"
        "  - {type: finish-reason, value: stop}\n"
    )
    assert bedrock_run("--local", job).returncode == 1
    first, *others = rows()[0]["assertions"]
    assert (first["passed"], first["threshold"]) == (False, 0.4)
    assert [(part["type"], part["passed"]) for part in first["assertions"]] == [("contains", True), ("is-json", False)]
    assert all(verdict["passed"] and "assertions" not in verdict for verdict in others)


def test_code_that_raises_is_an_error_that_shows_its_line(bedrock_run: Any, write_job: Any, rows: Any) -> None:
    job = write_job("prompt: Hi\nassert:\n  - type: python\n    value: |\n      x = 1\n      return missing\n")
    assert bedrock_run("--local", "--allow-python", job).returncode == 3
    error = rows()[0]["error"]
    assert error["code"] == "assertion"
    assert "the code, line 2: NameError: name 'missing' is not defined" in error["message"]
