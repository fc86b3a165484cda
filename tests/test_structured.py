"""Structured replies: how a schema is asked for, what counts as a reply that holds to it, and how one is repaired."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import BedrockRun, StartBedrock, StartRun, WriteJob, interrupt_twice
from made_rows import made_row

from runner.bedrock import structured
from runner.report import tables
from runner.report.rows import Rows
from runner.results.lines import to_line
from runner.running.summary import of_rows

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
NOVA = "amazon.nova-lite-v1:0"
SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["caption", "people"],
    "additionalProperties": False,
}
GOOD = '{"caption": "a cat", "people": 0}'
WRONG = '{"caption": "a cat", "people": "none"}'
WRONG_AT = 'at /people: "none" does not fit `type: "integer"`'


def job_of(model: str = HAIKU, /, schema: Any = SCHEMA, **more: Any) -> str:
    """A job in the YAML of one line for each key; the schema is in the last line."""
    keys = {"model": model, "prompt": "Describe it", **more, "response_schema": schema}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in keys.items())


def render(bedrock_run: BedrockRun, job: Path, *options: str) -> Any:
    done = bedrock_run("render", *options, job)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- how it is asked for ---------------------------------------------------------------------------------------------


def test_a_claude_that_takes_structured_output_is_sent_the_schema(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    request = render(bedrock_run, write_job(job_of(system="Be brief.")))
    assert request["body"]["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert request["body"]["system"] == "Be brief."
    assert request["response_schema"] == {"sent": "native", "why_in_prompt": None}


def test_converse_is_sent_the_schema_as_text(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    body = render(bedrock_run, write_job(job_of(api="converse")))["body"]
    assert body["outputConfig"]["textFormat"]["type"] == "json_schema"
    assert json.loads(body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]) == SCHEMA
    assert "system" not in body


def test_other_models_are_asked_in_the_system_prompt(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    request = render(bedrock_run, write_job(job_of(NOVA, system="Be brief.")))
    (system,) = request["body"]["system"]
    assert system["text"].startswith("Be brief.\n\nAnswer with one JSON value")
    assert json.dumps(SCHEMA) in system["text"]
    assert "outputConfig" not in request["body"]
    assert request["response_schema"]["sent"] == "prompt"
    assert "is not known to take structured output" in request["response_schema"]["why_in_prompt"]


def test_validate_says_why_a_schema_goes_into_the_prompt(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    schema = {**SCHEMA, "additionalProperties": True}
    told = bedrock_run("validate", write_job(job_of(schema=schema))).stderr
    assert "does not take it: `additionalProperties: false` is missing at the top" in told
    assert "output_config" not in render(bedrock_run, write_job(job_of(schema=schema)))["body"]


def test_each_model_of_a_matrix_is_asked_in_its_way(bedrock_run: BedrockRun, write_job: WriteJob, rows: Any) -> None:
    job = write_job(job_of(matrix={"model": [HAIKU, NOVA]}))
    assert bedrock_run("--local", job).returncode == 0
    assert [row["request"]["response_schema"]["sent"] for row in rows()] == ["native", "prompt"]


def test_extra_fields_are_merged_with_the_schema(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    body = render(bedrock_run, write_job(job_of(extra={"output_config": {"effort": "low"}})))["body"]
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"] == SCHEMA


def test_in_a_live_conversation_only_the_last_reply_is_structured(
    bedrock_run: BedrockRun, write_job: WriteJob, rows: Any
) -> None:
    turns = [{"user": "Think about it"}, {"user": "Now the data"}]
    for model in (HAIKU, NOVA):
        job = write_job(job_of(model, turns=turns).replace('prompt: "Describe it"\n', ""))
        assert bedrock_run("--local", "--fresh", job).returncode == 0
        first, last = rows()[0]["replies"]
        assert first["text"].startswith("Local emulator")
        assert json.loads(last["text"]) == rows()[0]["parsed"]


def deep(**inner: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {"a": inner}, "required": ["a"]}


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "string", "format": "date-time", "description": "when"},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["a", "b"]}]},
        {"type": "array", "minItems": 1, "items": {"type": "number"}},
        {"type": "string", "const": "x"},
        {"type": "object", "additionalProperties": False},
    ],
)
def test_the_subset_that_bedrock_takes(inner: dict[str, Any]) -> None:
    assert structured.beyond_subset(deep(**inner)) is None


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ({"type": "integer", "minimum": 1}, "`minimum` stands at /properties/a"),
        ({"type": "string", "maxLength": 9}, "`maxLength` stands"),
        ({"type": "string", "pattern": "^a"}, "`pattern` stands"),
        ({"type": "string", "format": "regex"}, "`format: regex` stands"),
        ({"type": "array", "minItems": 2}, "`minItems: 2` stands"),
        ({"type": "object"}, "`additionalProperties: false` is missing at /properties/a"),
        ({"type": ["object", "null"]}, "`additionalProperties: false` is missing"),
        ({"type": "array", "enum": [["a"]]}, "a constant that is a list"),
        ({}, "a schema without `type`"),
        ({"enum": ["a", 1]}, "a schema without `type`"),
        ({"allOf": [{"$ref": "#/$defs/a"}]}, "a `$ref` in `allOf`"),
        ({"$ref": "#/properties/a"}, "`$ref: #/properties/a` stands"),
    ],
)
def test_what_goes_beyond_it_is_named(inner: dict[str, Any], why: str) -> None:
    assert why in (structured.beyond_subset(deep(**inner)) or "")


def test_recursion_size_and_other_tops_go_beyond_it() -> None:
    assert structured.beyond_subset({"type": "array", "items": {"type": "string"}}) == "its top is no object"
    tree = deep(**{"$ref": "#/$defs/node"})
    tree["$defs"] = {"node": deep(**{"$ref": "#/$defs/leaf"}), "leaf": {"type": "string"}}
    assert structured.beyond_subset(tree) is None
    tree["$defs"]["leaf"] = deep(**{"$ref": "#/$defs/node"})
    assert structured.beyond_subset(tree) == "it refers to itself"
    many = {f"p{n}": {"type": "string"} for n in range(25)}
    assert "25 properties are not required" in str(
        structured.beyond_subset({**SCHEMA, "properties": many, "required": []})
    )
    unions = {name: {"type": ["string", "null"]} for name in list(many)[:17]}
    wide = {**SCHEMA, "properties": unions, "required": list(unions)}
    assert "17 values may be of several types" in str(structured.beyond_subset(wide))


# --- what comes back -------------------------------------------------------------------------------------------------


class Asked:
    """Runs a job whose replies are given, locally and anew."""

    def __init__(self, bedrock_run: BedrockRun, write_job: WriteJob, tmp_path: Path, rows: Any) -> None:
        self._run, self._write_job, self._folder, self._rows = bedrock_run, write_job, tmp_path, rows

    def __call__(self, *replies: str | tuple[str, str], **more: Any) -> list[dict[str, Any]]:
        """The rows of a case for each reply, which may have a stop reason other than end_turn."""
        pairs = [(each, "end_turn") if isinstance(each, str) else each for each in replies]
        script = [
            {"match": f"Describe {number}$", "reply": text, "stop_reason": stop_reason}
            for number, (text, stop_reason) in enumerate(pairs)
        ]
        (self._folder / "replies.yaml").write_text(json.dumps(script))
        more = {"prompt": "Describe {{ n }}", "cases": [{"vars": {"n": n}} for n in range(len(pairs))], **more}
        job = self._write_job(job_of(more.pop("model", HAIKU), **more))
        done = self._run("--local", "--fresh", "--replies", "replies.yaml", job)
        found: list[dict[str, Any]] = self._rows()
        statuses = {row["status"] for row in found}
        assert done.returncode == (3 if "error" in statuses else 1 if "failed" in statuses else 0), done.stderr
        return found


@pytest.fixture
def asked(bedrock_run: BedrockRun, write_job: WriteJob, tmp_path: Path, rows: Any) -> Asked:
    return Asked(bedrock_run, write_job, tmp_path, rows)


def test_a_reply_that_holds_is_parsed(asked: Asked) -> None:
    replies = [
        GOOD,
        f"\n  {GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"```\n{GOOD}```",
        f"Here it is, [as asked]:\n\n{GOOD}\n\nAnything else?",
        f"Here it is:\n```json\n{GOOD}\n```\nDone.",
    ]
    for row, reply in zip(asked(*replies, model=NOVA), replies, strict=True):
        assert row["status"] == "passed"
        assert row["parsed"] == {"caption": "a cat", "people": 0}
        assert row["output"] == reply
        assert row["request"]["response_schema"] == {"schema": SCHEMA, "sent": "prompt"}
        assert row["request"]["system"] is None
        (verdict,) = row["assertions"]
        assert (verdict["type"], verdict["passed"], verdict["line"]) == ("response-schema", True, 4)


def test_a_reply_that_does_not_hold_fails_and_says_why(asked: Asked) -> None:
    told: dict[str | tuple[str, str], str] = {
        WRONG: WRONG_AT,
        '{"caption": "a cat"}': "at the top: 'people' is a required property",
        "A cat.": "it is no JSON: Expecting value at line 1, column 1, in 'A cat.'",
        f"{GOOD} or {GOOD}": "it has more than one JSON value",
        f'{{"a": {GOOD} "b": 1}}': f"it is no JSON: Expecting ',' delimiter at line 1, column {len(GOOD) + 8}",
        f'So {{"a": [{GOOD}': "it has more than one JSON value, or parts of one",
        f"Result: {GOOD} and then [{{": "or parts of one",
        (f'{{"a": {GOOD}, "b', "max_tokens"): "the reply was cut (stop reason max_tokens), and it is no JSON",
        ("I can't.", "refusal"): "the model refused (stop reason refusal), and it is no JSON",
        '{"caption": "a", "people": 1e999}': "it is JSON with a number that is too large",
        "[" * 150 + "]" * 150: "it is JSON of more than 100 levels",
    }
    for row, actual in zip(asked(*told), told.values(), strict=True):
        assert row["status"] == "failed"
        assert row["parsed"] is None
        assert actual in row["assertions"][0]["actual"]
        assert row["assertions"][0]["expected"] == "output to be JSON that holds to `response_schema`"


def test_all_that_is_wrong_is_told_since_a_model_repairs_its_reply_once(asked: Asked) -> None:
    (row,) = asked('{"caption": 5, "people": "x"}')
    told = row["assertions"][0]["actual"]
    assert "at /caption: 5 does not fit" in told
    assert 'at /people: "x" does not fit' in told


def test_a_schema_that_takes_too_long_is_an_error_and_not_a_verdict(asked: Asked) -> None:
    reply = "[" * 40 + "]" * 40
    (row,) = asked(reply, schema={"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}})
    assert row["error"]["code"] == "assertion"
    assert "took longer than 1s" in row["error"]["message"]
    assert row["output"] == reply


def test_its_verdict_is_first_and_the_others_see_the_reply(asked: Asked) -> None:
    (row,) = asked(GOOD, **{"assert": [{"type": "json-path", "value": {"path": "$.people", "value": 0}}]})
    assert [verdict["type"] for verdict in row["assertions"]] == ["response-schema", "json-path"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "api"), [(HAIKU, "invoke"), (HAIKU, "converse"), (NOVA, "converse")])
def test_a_local_run_answers_with_what_holds(
    stream: bool, model: str, api: str, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any
) -> None:
    assert bedrock_run("--local", write_job(job_of(model, stream=stream, api=api))).returncode == 0
    assert rows()[0]["parsed"] == {
        "caption": 'Local emulator, no model was called. You asked: "Describe it".',
        "people": 1,
    }


def test_the_verdict_is_in_junit_and_in_diff(asked: Asked, bedrock_run: BedrockRun, tmp_path: Path) -> None:
    asked(GOOD)
    (tmp_path / "old").mkdir()
    (tmp_path / "outputs" / "job.jsonl").rename(tmp_path / "old" / "job.jsonl")
    asked(WRONG)
    bedrock_run("report", "outputs/job.jsonl", "--junit", "junit.xml")
    assert "response-schema" in ET.tostring(ET.parse(tmp_path / "junit.xml").getroot(), encoding="unicode")
    told = bedrock_run("diff", "old", "outputs", "--fail-on-regression", "--json")
    assert told.returncode == 1
    assert json.loads(told.stdout)["changes"][0]["broken"][0]["type"] == "response-schema"
    asked(WRONG, schema={**SCHEMA, "description": "of a photograph"})
    (changed,) = json.loads(bedrock_run("diff", "old", "outputs", "--json").stdout)["changes"]
    assert changed["question_changed"] == ["response_schema"]


# --- rows are kept ---------------------------------------------------------------------------------------------------


def test_the_schema_is_part_of_what_is_asked_and_repair_is_not(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    def called(**more: Any) -> int:
        done = bedrock_run("--local", "--json", write_job(job_of(**more)))
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["total"]["calls"])

    assert called() == 1
    assert called() == 0
    assert called(response_repair=True) == 0
    assert called(schema={**SCHEMA, "description": "of a photograph"}) == 1


def test_the_key_of_a_job_without_a_schema_is_what_it_was(bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    key = render(bedrock_run, write_job("prompt: Hello\n"))["key"]
    assert key == "7988e318068d89f3c5f4a61ecbc8b31f7549f0f5ff393fc93134f1d0f4aecf49"


# --- repair ----------------------------------------------------------------------------------------------------------

REPAIRED = json.dumps(
    [{"match": "does not hold to the JSON Schema", "reply": GOOD}, {"match": "Describe", "reply": WRONG}]
)


def test_a_reply_is_repaired_in_one_more_turn(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any
) -> None:
    server = bedrock(REPAIRED)
    asserted: Any = {"assert": [{"type": "json-path", "value": {"path": "$.people", "value": 0}}]}
    done = bedrock_run(write_job(job_of(response_repair=True, **asserted)), env=server.env)
    assert done.returncode == 0, done.stderr
    (row,) = rows()
    assert [reply["text"] for reply in row["replies"]] == [WRONG, GOOD]
    assert row["output"] == GOOD
    assert row["parsed"]["people"] == 0
    assert len(row["attempts"]) == 2
    assert row["usage"]["output_tokens"] == sum(reply["usage"]["output_tokens"] for reply in row["replies"])
    assert row["usage"]["input_tokens"] > 2 * row["replies"][0]["usage"]["input_tokens"]
    assert row["cost_usd"] > 0
    assert "2 calls" in done.stderr


@pytest.mark.parametrize(
    ("reply", "stop_reason"), [(WRONG[:20], "max_tokens"), ("I can't.", "refusal"), (" ", "end_turn"), (WRONG, None)]
)
def test_what_would_fail_again_is_not_repaired(
    reply: str,
    stop_reason: str | None,
    bedrock: StartBedrock,
    bedrock_run: BedrockRun,
    write_job: WriteJob,
    rows: Any,
) -> None:
    server = bedrock(json.dumps([{"match": ".*", "reply": reply, "stop_reason": stop_reason or "end_turn"}]))
    job = write_job(job_of(response_repair=True))
    for _ in range(2):
        assert bedrock_run(job, env=server.env).returncode == 1
    calls = 1 if stop_reason else 2  # the last of the four is repaired, in vain, and once
    assert len(rows()[0]["replies"]) == calls
    assert sum("/model/" in line for line in server.log) == calls


def test_a_kept_reply_is_repaired_when_the_job_comes_to_ask_for_it(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any
) -> None:
    server = bedrock(REPAIRED)
    assert bedrock_run(write_job(job_of()), env=server.env).returncode == 1
    job = write_job(job_of(response_repair=True))
    (estimate,) = json.loads(bedrock_run(job, "--dry-run", "--json").stdout)["jobs"]
    assert (estimate["kept"], estimate["calls"]) == (1, 1)
    done = bedrock_run(job, "--json", env=server.env)
    assert done.returncode == 0, done.stderr
    assert rows()[0]["parsed"]["people"] == 0
    assert len(rows()[0]["replies"]) == 2
    total = json.loads(done.stdout)["total"]
    assert (total["kept"], total["calls"]) == (1, 1)
    assert "1 kept from earlier runs, only repairs were asked for" in done.stderr
    assert 0 < total["cost_usd"] < rows()[0]["cost_usd"]
    assert sum("/model/" in line for line in server.log) == 2
    assert bedrock_run(job, "--replay").returncode == 0


def test_a_repair_that_fails_keeps_the_reply_and_is_made_by_the_next_run(
    bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob, rows: Any
) -> None:
    error = {"match": "does not hold", "times": 1, "error": "ValidationException", "status": 400, "message": "no"}
    server = bedrock(json.dumps([error, *json.loads(REPAIRED)]))
    job = write_job(job_of(response_repair=True))
    done = bedrock_run(job, env=server.env)
    assert done.returncode == 3, done.stderr
    (row,) = rows()
    assert (row["status"], row["output"], row["error"]["code"]) == ("error", WRONG, "invalid")
    assert [attempt["code"] for attempt in row["attempts"]] == [None, "invalid"]
    assert row["error"]["message"] == "the reply could not be repaired: ValidationException: no; it is kept"
    assert row["error"]["message"] in done.stderr
    assert [verdict["actual"] for verdict in row["assertions"]] == [WRONG_AT]
    assert WRONG_AT in done.stderr
    assert bedrock_run(job, env=server.env).returncode == 0
    assert [reply["text"] for reply in rows()[0]["replies"]] == [WRONG, GOOD]
    assert sum("/model/" in line for line in server.log) == 3


@pytest.mark.parametrize("stop", [interrupt_twice, subprocess.Popen.kill], ids=["ctrl-c", "kill -9"])
def test_a_stop_before_the_repair_keeps_what_was_paid_for(
    stop: Callable[[subprocess.Popen[str]], None],
    bedrock: StartBedrock,
    bedrock_run: BedrockRun,
    start_run: StartRun,
    write_job: WriteJob,
    rows: Any,
) -> None:
    server = bedrock(json.dumps([{"match": "does not hold", "fault": "hang", "times": 1}, *json.loads(REPAIRED)]))
    job = write_job(job_of(response_repair=True))
    process = start_run(job, env=server.env)
    kept = job.parent / "outputs" / "job.jsonl"
    while not kept.exists() or not kept.read_text():  # the first reply is on disk before the second call
        assert process.poll() is None
        time.sleep(0.02)
    stop(process)
    process.wait(timeout=60)
    (row,) = rows()
    assert (row["status"], row["output"], row["error"]["code"]) == ("error", WRONG, "stopped")
    again = bedrock(REPAIRED)
    assert bedrock_run(job, env=again.env).returncode == 0
    assert [reply["text"] for reply in rows()[0]["replies"]] == [WRONG, GOOD]
    assert len(again.log) == 1


def test_a_repair_is_within_the_budget(bedrock: StartBedrock, bedrock_run: BedrockRun, write_job: WriteJob) -> None:
    server = bedrock(REPAIRED)
    job = write_job(job_of(response_repair=True, inference={"max_tokens": 1000}))
    (estimate,) = json.loads(bedrock_run(job, "--dry-run", "--json").stdout)["jobs"]
    assert estimate["calls"] == 2
    assert estimate["max_output_tokens"] == 2000
    assert estimate["input_tokens"] > 1000  # the reply that is to be repaired is sent again
    most = estimate["worst_case_cost_usd"]
    stopped = bedrock_run(job, "--max-cost", str(most * 0.9), env=server.env)
    assert stopped.returncode == 4
    assert "too small for a case" in stopped.stderr
    assert not any("/model/" in line for line in server.log)
    assert bedrock_run(job, "--max-cost", str(most * 1.01), env=server.env).returncode == 0


# --- the schema's own file -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["caption.json", "caption.yaml", "schemas/caption.schema.json"])
def test_a_schema_may_be_in_a_file(name: str, bedrock_run: BedrockRun, write_job: WriteJob, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(json.dumps(SCHEMA, indent="\t" if name.startswith("schemas") else 2))
    body = render(bedrock_run, write_job(job_of(schema=name)))["body"]
    assert body["output_config"]["format"]["schema"] == SCHEMA


def test_a_file_of_a_schema_stays_within_the_folder(
    bedrock_run: BedrockRun, tmp_path: Path, write_job: WriteJob
) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "caption.json").write_text(json.dumps(SCHEMA))
    job = write_job(job_of(schema="../caption.json"), name="jobs/job.yaml")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "lies outside the job file's folder" in done.stderr
    assert f"--allow-dir {tmp_path}" in done.stderr
    assert bedrock_run("validate", "--allow-dir", tmp_path, job).returncode == 0
    (tmp_path / "jobs" / "link.json").symlink_to(tmp_path / "caption.json")
    assert bedrock_run("validate", write_job(job_of(schema="link.json"), name="jobs/job.yaml")).returncode == 2


def test_what_is_wrong_in_the_file_is_told_with_its_line(
    bedrock_run: BedrockRun, write_job: WriteJob, tmp_path: Path
) -> None:
    (tmp_path / "caption.json").write_text(
        '{\n  "type": "object",\n  "properties": {\n    "a": {"type": "text"}\n  }\n}\n'
    )
    told = bedrock_run("validate", write_job(job_of(schema="caption.json"))).stderr
    assert "caption.json:4:19: the JSON Schema is wrong at /properties/a/type" in told
    (tmp_path / "caption.json").write_text('{"type": "object",\n "type": "array"}')
    assert "caption.json:2:2: " in bedrock_run("validate", write_job(job_of(schema="caption.json"))).stderr
    told = bedrock_run("validate", write_job(job_of(schema="other.json"))).stderr
    assert "the schema 'other.json' is not there" in told


# --- tables ----------------------------------------------------------------------------------------------------------


def table_of(tmp_path: Path, *values: Any) -> list[dict[str, str]]:
    rows = rows_of(tmp_path, *values)
    out = io.StringIO(newline="")
    tables.write_csv(out, rows, of_rows(rows))
    return [
        {name: cell for name, cell in line.items() if name.startswith("parsed")}
        for line in csv.DictReader(io.StringIO(out.getvalue()[1:], newline=""))
    ]


def rows_of(tmp_path: Path, *values: Any) -> Rows:
    file = tmp_path / "rows.jsonl"
    made = (made_row(parsed=value, case=str(index), index=index) for index, value in enumerate(values))
    file.write_bytes(b"".join(map(to_line, made)))
    return Rows([file])


def test_a_structured_reply_is_flattened_into_columns(tmp_path: Path) -> None:
    first = {"caption": "=1+1", "objects": ["a", "b"], "size": {"w": 3, "h": None}}
    assert table_of(tmp_path, first, None, {"size": {"d": {"x": True}}, "new": {}}) == [
        {
            "parsed.caption": "'=1+1",
            "parsed.objects": '["a", "b"]',
            "parsed.size.w": "3",
            "parsed.size.h": "",
            "parsed.size.d.x": "",
            "parsed.new": "",
        },
        dict.fromkeys(
            ["parsed.caption", "parsed.objects", "parsed.size.w", "parsed.size.h", "parsed.size.d.x", "parsed.new"], ""
        ),
        {
            "parsed.caption": "",
            "parsed.objects": "",
            "parsed.size.w": "",
            "parsed.size.h": "",
            "parsed.size.d.x": "true",
            "parsed.new": "{}",
        },
    ]


def test_columns_of_like_names_stay_distinct(tmp_path: Path) -> None:
    (line,) = table_of(tmp_path, {"a.b": 1, "a": {"b": 2}, '"a.b"': 3, "": 4})
    assert line == {'parsed."a.b"': "1", "parsed.a.b": "2", 'parsed."\\"a.b\\""': "3", 'parsed.""': "4"}


def test_a_reply_that_is_no_object_is_one_column(tmp_path: Path) -> None:
    assert table_of(tmp_path, [1, {"a": 2}], "x", 5) == [{"parsed": '[1, {"a": 2}]'}, {"parsed": "x"}, {"parsed": "5"}]


def test_objects_whose_keys_are_data_do_not_become_columns_without_end(tmp_path: Path) -> None:
    found = table_of(tmp_path, *({f"key {n}-{m}": m for m in range(50)} for n in range(50)))
    assert list(found[0]) == ["parsed"]
    assert json.loads(found[49]["parsed"])["key 49-7"] == 7


def test_parquet_has_the_types_of_structured_replies(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {"n": 1, "t": "a", "l": [1]}, {"n": 2.5, "t": None, "l": "x"}, None)
    out = io.BytesIO()
    tables.write_parquet(out, rows, of_rows(rows))
    table = pq.read_table(io.BytesIO(out.getvalue()))
    assert table.column("parsed.n").to_pylist() == [1.0, 2.5, None]
    assert table.column("parsed.t").to_pylist() == ["a", None, None]
    assert table.column("parsed.l").to_pylist() == ["[1]", "x", None]
