from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner import schema, times
from runner.cases.plan import CaseList
from runner.cases.rendering import Renderer
from runner.errors import Place, UsageError
from runner.jobs import job
from runner.jobs.job import Overrides
from runner.models import model_ids
from runner.records import AssertionSpec, CaseFile, CaseGlob, CaseSpec, Inference, Job, Rate, RetrySettings, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

CLAUDE = "anthropic.claude-3-5-sonnet-20241022-v2:0"
MINIMAL = f"model: {CLAUDE}\nprompt: Hello\n"
DESIGN = """\
# yaml-language-server: $schema=../schemas/job.schema.json
name: tutor                    # default: the file's stem; names outputs/tutor.jsonl
description: Does the tutor stay concise?
tags: [smoke]
model: anthropic.claude-3-5-sonnet-20241022-v2:0   # model id, inference profile id or ARN
region: us-east-1
api: auto                      # auto | invoke | converse; auto: invoke for Anthropic models, converse for all others
stream: false
inference: {max_tokens: 1024, temperature: 0}      # also top_p, top_k, stop
vars: {language: Python}
system: You are a helpful {{ language }} programming tutor. Keep answers concise.
turns:
  - user: What's a list comprehension?
  - assistant: A list comprehension is a concise way to create lists in {{ language }}.
  - user:
      text: Give me a quick example like the one in this picture.
      images: [images/example.png]
cases:                         # optional; without it the job is one case
  - id: squares
    vars: {topic: squares}
    assert: [{type: contains, value: "**2"}]
assert:                        # for every case
  - {type: contains, value: "["}
  - {type: latency, threshold: 20s}
"""


def write(tmp_path: Path, content: str, name: str = "job.yaml") -> Path:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    return path


def load(tmp_path: Path, content: str, overrides: Overrides = job.NO_OVERRIDES) -> Job:
    (loaded,) = sound([write(tmp_path, content)], overrides)
    return loaded


def sound(paths: Sequence[Path], overrides: Overrides = job.NO_OVERRIDES) -> tuple[Job, ...]:
    """The jobs of files that must have no problem. Raises UsageError with those there are."""
    jobs, problems = job.load(paths, overrides=overrides)
    if problems:
        raise UsageError(*problems)
    return jobs


def messages(*paths: Path) -> list[str]:
    return [problem.message for problem in job.load(paths)[1]]


def test_the_example_of_the_design(tmp_path: Path) -> None:
    loaded = load(tmp_path, DESIGN)
    shown = str(tmp_path / "job.yaml")
    lines = DESIGN.splitlines()

    def place(line: int, column: int) -> Place:
        return Place(shown, line, column, lines[line - 1])

    assert loaded.path == tmp_path / "job.yaml"
    assert (loaded.name, loaded.description, loaded.tags) == (
        "tutor",
        "Does the tutor stay concise?",
        frozenset({"smoke"}),
    )
    assert (loaded.model, loaded.region, loaded.api, loaded.stream) == (CLAUDE, "us-east-1", "invoke", False)
    assert (loaded.place, loaded.model_place) == (place(2, 7), place(5, 8))
    assert loaded.inference == Inference(max_tokens=1024, temperature=0.0)
    assert loaded.vars == {"language": "Python"}
    assert loaded.system == Text(
        "You are a helpful {{ language }} programming tutor. Keep answers concise.", place(11, 9)
    )
    assert [(turn.role, turn.text.place.line, len(turn.images)) for turn in loaded.turns] == [
        ("user", 13, 0),
        ("assistant", 14, 0),
        ("user", 16, 1),
    ]
    assert loaded.turns[2].images == (Text("images/example.png", place(17, 16)),)
    (case,) = listed(loaded)
    assert (case.id, case.vars, case.place) == ("squares", {"topic": "squares"}, place(19, 5))
    assert case.assertions == (AssertionSpec(type="contains", place=place(21, 14), value=Text("**2", place(21, 38))),)
    assert loaded.assertions == (
        AssertionSpec(type="contains", place=place(23, 5), value=Text("[", place(23, 29))),
        AssertionSpec(type="latency", place=place(24, 5), threshold=20.0),
    )


def test_defaults_are_those_of_the_schema(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL)
    properties = schema.load("job")["properties"]
    definitions = schema.load("job")["$defs"]
    assert loaded.name == "job"
    assert loaded.description == properties["description"]["default"]
    assert loaded.stream is properties["stream"]["default"]
    assert loaded.timeout == times.seconds(properties["timeout"]["default"])
    assert loaded.inference == Inference(max_tokens=definitions["inference"]["properties"]["max_tokens"]["default"])
    retry = {name: value.get("default") for name, value in definitions["retry"]["properties"].items()}
    assert loaded.retry == RetrySettings(
        max_attempts=retry["max_attempts"], max_backoff=times.seconds(retry["max_backoff"])
    )
    assert (loaded.rate, loaded.max_concurrency, loaded.max_cost) == (Rate(), None, None)
    assert (loaded.region, loaded.system, loaded.body, loaded.cases, loaded.assertions) == (None, None, None, (), ())
    assert [(turn.role, turn.text.value) for turn in loaded.turns] == [("user", "Hello")]


def test_every_setting(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        MINIMAL + "inference: {max_tokens: 5, temperature: 0.50, top_p: 1, top_k: 0x10, stop: [END]}\n"
        "rate: {requests_per_minute: 250, tokens_per_minute: 4e5}\nmax_concurrency: 8\n"
        "retry: {max_attempts: 3, max_backoff: 500ms}\ntimeout: 1.5m\nmax_cost: 2.50\nextra: {a: [1.50, {b: yes}]}\n"
        "vars: {version: 1.10}\n",
    )
    assert loaded.inference == Inference(max_tokens=5, temperature=0.5, top_p=1.0, top_k=16, stop=("END",))
    assert loaded.rate == Rate(requests_per_minute=250.0, tokens_per_minute=400_000.0)
    assert loaded.retry == RetrySettings(max_attempts=3, max_backoff=0.5)
    assert (loaded.max_concurrency, loaded.timeout, loaded.max_cost) == (8, 90.0, 2.5)
    assert loaded.extra == {"a": [1.5, {"b": "yes"}]}
    for value in (loaded.inference.temperature, loaded.max_cost, loaded.extra["a"][0]):
        assert type(value) is float
    assert type(loaded.inference.top_k) is int
    assert str(loaded.vars["version"]) == "1.10"  # rendered as typed


def test_body(tmp_path: Path) -> None:
    loaded = load(tmp_path, "model: amazon.titan-embed-text-v2:0\nbody: {inputText: 'a {{ b }}', list: [x, 1, true]}\n")
    assert (loaded.api, loaded.turns) == ("invoke", ())
    assert loaded.body["inputText"].value == "a {{ b }}"
    assert loaded.body["inputText"].place.column == 19
    assert [loaded.body["list"][0].value, *loaded.body["list"][1:]] == ["x", 1, True]


def test_turns(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, f"model: {CLAUDE}\nturns:\n- user: a\n- user: {{images: [x.png]}}\n- assistant: {{text: prefill}}\n"
    )
    assert [(turn.role, turn.text.value, len(turn.images)) for turn in loaded.turns] == [
        ("user", "a", 0),
        ("user", "", 1),
        ("assistant", "prefill", 0),
    ]


def test_cases_and_assertions(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        MINIMAL + "cases:\n- {}\n- {id: 7, tags: [a], assert: [{type: not-regex, value: 'x+'}]}\n"
        "- {assert: [{type: not-latency, threshold: 1m}, {type: regex, value: '{{ a }}('}]}\n",
    )
    specs_of_cases = listed(loaded)
    assert [case.id for case in specs_of_cases] == [None, "7", None]
    assert specs_of_cases[1].tags == {"a"}
    specs = [*specs_of_cases[1].assertions, *specs_of_cases[2].assertions]
    assert [(spec.type, spec.negated, spec.threshold) for spec in specs] == [
        ("regex", True, None),
        ("latency", True, 60.0),
        ("regex", False, None),
    ]


def test_overrides_win_over_job_and_case(tmp_path: Path) -> None:
    content = MINIMAL + "vars: {a: 1, b: 1}\ncases:\n- vars: {a: 2, c: 2}\n"
    loaded = load(tmp_path, content, Overrides(model="amazon.nova-lite-v1:0", vars={"a": 9, "d": 9}))
    assert (loaded.model, loaded.api) == ("amazon.nova-lite-v1:0", "converse")
    (case,) = map(Renderer(loaded).case, CaseList(loaded))
    assert case.vars == {"a": 9, "b": 1, "c": 2, "d": 9}


def test_a_matrix_makes_a_variant_of_each_combination(tmp_path: Path) -> None:
    matrix = "matrix: {model: [amazon.nova-lite-v1:0, us.amazon.nova-pro-v1:0], temperature: [0, 1], tone: [dry]}\n"
    loaded = load(tmp_path, MINIMAL + "inference: {max_tokens: 5}\n" + matrix)
    found = [
        (variant.label, variant.job.model, variant.job.api, variant.job.inference.temperature, variant.job.vars)
        for variant in loaded.variants
    ]
    lite, pro = "amazon.nova-lite-v1:0", "us.amazon.nova-pro-v1:0"
    assert found == [
        (f"model={model}, temperature={temperature}, tone=dry", model, "converse", temperature, {"tone": "dry"})
        for model in (lite, pro)
        for temperature in (0, 1)
    ]
    assert {variant.job.inference.max_tokens for variant in loaded.variants} == {5}


def test_what_the_command_line_sets_is_no_longer_varied(tmp_path: Path) -> None:
    matrix = "matrix: {model: [amazon.nova-lite-v1:0], n: [1, 2]}\n"
    (one, two) = load(tmp_path, MINIMAL + matrix, Overrides(model="amazon.nova-pro-v1:0")).variants
    assert {one.job.model, two.job.model} == {"amazon.nova-pro-v1:0"}
    assert load(tmp_path, MINIMAL + matrix, Overrides(model="amazon.nova-pro-v1:0", vars={"n": 3})).variants == ()


def test_repeat_and_min_pass(tmp_path: Path) -> None:
    assert (load(tmp_path, MINIMAL).repeat, load(tmp_path, MINIMAL).min_pass) == (1, 1)
    assert load(tmp_path, MINIMAL + "repeat: 5\n").min_pass == 5
    assert load(tmp_path, MINIMAL + "repeat: 5\nmin_pass: 4\n").min_pass == 4


def test_cases_from_a_file_or_a_glob(tmp_path: Path) -> None:
    short = load(tmp_path, MINIMAL + "cases: rows.csv\n").cases
    assert isinstance(short, CaseFile)
    assert (short.path, short.delimiter, short.place.line) == ("rows.csv", None, 3)
    long = load(tmp_path, MINIMAL + "cases: {file: rows.csv, delimiter: ';'}\n").cases
    assert isinstance(long, CaseFile)
    assert long.delimiter == ";"
    glob = load(tmp_path, MINIMAL + "cases: {glob: '*.jpg'}\n").cases
    assert isinstance(glob, CaseGlob)
    assert glob.pattern == "*.jpg"


@pytest.mark.parametrize(
    ("model", "maker", "api"),
    [
        (CLAUDE, "anthropic", "invoke"),
        (f"us.{CLAUDE}", "anthropic", "invoke"),
        (f"us-gov.{CLAUDE}", "anthropic", "invoke"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", "invoke"),
        ("amazon.nova-lite-v1:0", "amazon", "converse"),
        ("eu.amazon.nova-lite-v1:0", "amazon", "converse"),
        ("xai.grok-4.6", "xai", "converse"),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{CLAUDE}", "anthropic", "invoke"),
        (f"arn:aws-us-gov:bedrock:us-gov-west-1:123456789012:inference-profile/us-gov.{CLAUDE}", "anthropic", "invoke"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6", None, "converse"),
        ("arn:aws:bedrock:us-east-1:123456789012:provisioned-model/a1b2c3d4e5f6", None, "converse"),
        ("arn:aws:bedrock:us-east-1:123456789012:custom-model/anthropic.x/a1b2c3d4e5f6", None, "converse"),
        ("arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ:1", None, "converse"),
        ("arn:aws:sagemaker:us-east-1:123456789012:endpoint/name", None, "converse"),
        ("my-provisioned-model", None, "converse"),
    ],
)
def test_auto_takes_invoke_for_what_is_known_to_be_anthropics(model: str, maker: str, api: str, tmp_path: Path) -> None:
    assert model_ids.provider(model) == maker
    assert load(tmp_path, f"model: {model}\nprompt: Hi\n").api == api
    assert load(tmp_path, f"model: {model}\nbody: {{a: 1}}\n").api == "invoke"
    assert load(tmp_path, f"model: {model}\napi: converse\nprompt: Hi\n").api == "converse"


def test_invoke_with_an_opaque_model_is_taken_at_its_word(tmp_path: Path) -> None:
    assert load(tmp_path, "model: my-model\napi: invoke\nprompt: Hi\n").api == "invoke"


def test_a_file_given_twice(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    assert "is given twice" in messages(path, path)[0]
    (found,) = messages(path, tmp_path / "x" / ".." / "job.yaml")
    assert "is given twice" in found


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("tutor", "Tutor"), ("\u00e9", "e\u0301")])
def test_two_jobs_of_one_name(one: str, other: str, tmp_path: Path) -> None:
    first = write(tmp_path, MINIMAL + f"name: {one}\n", "first.yaml")
    second = write(tmp_path, MINIMAL + f"name: {other}\n", "second.yaml")
    _, (problem,) = job.load([first, second])
    assert str(problem.place) == f"{second}:3:7"
    assert f"{first}:3:7" in problem.message


def test_names_of_files_serve_as_names_unless_they_cannot(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL).name == "job"
    assert "the name of its file cannot be one" in messages(write(tmp_path, MINIMAL, "a:b.yaml"))[0]
    both = [write(tmp_path, MINIMAL, "x/same.yaml"), write(tmp_path, MINIMAL, "y/same.yaml")]
    assert "would write the same output" in messages(*both)[0]


def test_all_problems_of_all_files(tmp_path: Path) -> None:
    wrong = write(
        tmp_path, MINIMAL + "prompt: again\nstrem: true\ntags: [{{ a }}]\nsystem: '{{ a | foo }}'\n", "wrong.yaml"
    )
    missing = tmp_path / "missing.yaml"
    assert messages(wrong, missing, write(tmp_path, MINIMAL)) == [
        "duplicate key `prompt`: line 2 has it already",
        "unknown key `strem`",
        "a text that starts with `{{` is a mapping to YAML unless it is quoted",
        "there is no filter `foo`",
        "there is no such file",
    ]


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h", 3600.0), ("1.5m", 90.0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert times.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "30 s", "-1s", "1d", "1e3s", "30s\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        times.seconds(text)


# --- damaged files ---------------------------------------------------------------------------------------------------

PIECES = [
    "{{ x }}",
    "{% if %}",
    ": ",
    "- ",
    "\t",
    '"',
    "'",
    "[",
    "]",
    "{",
    "}",
    "*a",
    "&a ",
    "!t ",
    "<<: ",
    "---\n",
    "#",
    "\x00",
    "\x85",
    "\u2028",
    "\ufeff",
    "é",
    "0x",
    ".inf",
    "null",
    "1e999",
    "~",
    "? ",
    "%",
    "@",
    "`",
    ",",
    "\r",
    "\n",
    "\\",
    ">",
]


def mutated(chooser: random.Random, content: str) -> bytes:
    for _ in range(chooser.randint(1, 4)):
        start = chooser.randrange(len(content) + 1)
        end = min(len(content), start + chooser.choice([0, 0, 1, 3, 20]))
        lines = content.splitlines(keepends=True)
        match chooser.randrange(4):
            case 0:
                content = content[:start] + chooser.choice(PIECES) + content[end:]
            case 1:
                content = content[:start] + content[end:]
            case 2 if lines:
                chooser.shuffle(lines)
                content = "".join(lines)
            case _:
                content = content[:start] + content[chooser.randrange(len(content) + 1) :][:30] + content[end:]
    data = content.encode()
    if chooser.random() < 0.05:
        cut = chooser.randrange(len(data) + 1)
        data = data[:cut] + bytes([chooser.randrange(256)]) + data[cut:]
    return data


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_is_a_job_or_a_usage_error(seed: int, tmp_path: Path) -> None:
    chooser = random.Random(seed)
    corpus = [path.read_text() for path in sorted((Path(__file__).parent / "wrong_jobs").glob("*.yaml"))]
    corpus += [DESIGN] * len(corpus)
    path = tmp_path / "job.yaml"
    outcomes = set()
    for _ in range(250):
        path.write_bytes(mutated(chooser, chooser.choice(corpus)))
        try:
            (loaded,) = sound([path])
        except UsageError as error:
            outcomes.add("refused")
            for problem in error.problems:
                assert problem.place is not None
                assert problem.message
                assert problem.hint
        else:
            outcomes.add("loaded")
            assert_whole(loaded)
    assert outcomes == {"refused", "loaded"}


def listed(loaded: Job) -> tuple[CaseSpec, ...]:
    assert isinstance(loaded.cases, tuple)
    return loaded.cases


def assert_whole(loaded: Job) -> None:
    assert bool(loaded.turns) != (loaded.body is not None)
    json.dumps([loaded.vars, loaded.extra, [case.vars for case in listed(loaded)]], allow_nan=False)
    values: dict[str, Any] = {field.name: getattr(loaded, field.name) for field in fields(loaded)}
    assert values["name"]
    assert values["timeout"] > 0


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("turns: [{user: a}, {assistant: b}]", 2, "takes no assistant turn at the end"),
        ("prompt: a\ninference: {temperature: 0}", 3, "takes no `temperature`"),
        ("prompt: a\ninference: {top_k: 5}", 3, "takes no `top_k`"),
    ],
)
def test_what_the_model_is_known_to_refuse(text: str, line: int, message: str, tmp_path: Path) -> None:
    refusing = write(tmp_path, f"model: us.anthropic.claude-opus-4-7\n{text}\n")
    (loaded,), (problem,) = job.load([refusing])
    assert loaded.turns  # so that its cases can be rendered, and all be told at once
    assert message in problem.message
    assert problem.place is not None
    assert problem.place.line == line
    sound([write(tmp_path, f"model: anthropic.claude-3-5-sonnet-20241022-v2:0\n{text}\n")])


def test_a_default_temperature_is_not_refused(tmp_path: Path) -> None:
    load(tmp_path, "model: us.anthropic.claude-opus-4-7\nprompt: a\ninference: {temperature: 1.0}\n")
