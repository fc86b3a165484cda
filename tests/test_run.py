"""The command as its users run it: processes, files, an emulator over HTTP, exit codes."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.words import plural

PROMPTS = Path(__file__).parents[1] / "prompts"
Rows = Callable[..., list[dict[str, Any]]]


# --- the jobs that come with it --------------------------------------------------------------------------------------


def test_the_shipped_jobs_run_without_an_account(bedrock_run: Any, rows: Rows) -> None:
    done = bedrock_run("--local", *sorted(PROMPTS.glob("*.yaml")))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for path in PROMPTS.glob("*.yaml"):
        found = rows(path.stem)
        assert found
        assert {row["status"] for row in found} == {"passed"}
        assert {row["endpoint"] for row in found} == {"local"}
        assert [row["index"] for row in found] == list(range(len(found)))
    assert "red" in rows("image-color")[0]["output"]
    assert len(rows("interview")[0]["replies"]) == 3
    assert "nothing was billed" in done.stderr


def test_the_shipped_jobs_run_against_any_endpoint(bedrock_run: Any, bedrock: Any, rows: Rows) -> None:
    server = bedrock()
    done = bedrock_run(*sorted(PROMPTS.glob("*.yaml")), env=server.env)
    assert done.returncode == 0, done.stderr
    assert rows("tutor")[0]["endpoint"] == server.url
    assert len(server.log) == 23


# --- rows ------------------------------------------------------------------------------------------------------------


def test_a_row_tells_what_was_asked_and_what_came_back(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    shutil.copytree(PROMPTS / "images", write_job("").parent / "images")
    job = write_job(
        """
        name: tell
        inference: {max_tokens: 300, temperature: 0.5}
        vars: {size: one pixel}
        system: Look closely.
        turns: [{user: {text: "What colour has {{ size }}?", images: [images/red-pixel.png]}}]
        assert: [{type: contains, value: "{{ size }}"}]
        """
    )
    assert bedrock_run("--local", job).returncode == 0
    (row,) = rows("tell")
    assert list(row)[:10] == [
        "schema", "job", "case", "index", "repeat", "key", "status", "model", "region", "api",
    ]  # fmt: skip
    assert row["case"] == "1"
    assert row["request"]["system"] == "Look closely."
    (message,) = row["request"]["messages"]
    assert message["text"] == "What colour has one pixel?"
    assert message["images"][0]["path"] == "images/red-pixel.png"
    assert message["images"][0]["media_type"] == "image/png"
    assert row["request"]["inference"]["max_tokens"] == 300
    assert row["vars"] == {"size": "one pixel"}
    assert row["output"] == row["replies"][-1]["text"]
    assert row["assertions"][0]["reason"] == "expected output to contain 'one pixel': holds"
    assert row["cost_usd"] > 0
    assert [attempt["code"] for attempt in row["attempts"]] == [None]


def test_a_second_run_replaces_the_rows(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    bedrock_run("--local", write_job("prompt: one"))
    bedrock_run("--local", write_job("prompt: two"))
    (row,) = rows()
    assert row["request"]["messages"][0]["text"] == "two"


def test_keys_say_what_was_asked_not_how(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    def key(text: str) -> str:
        assert bedrock_run("--local", write_job(text)).returncode == 0
        return str(rows()[0]["key"])

    asked = key("prompt: Hello")
    assert key("prompt: Hello\nstream: true\nregion: eu-west-1\ntimeout: 5m\nname: job\ntags: [a]") == asked
    assert key("prompt: Hello!") != asked
    assert key("prompt: Hello\nsystem: Be nice") != asked
    assert key("prompt: Hello\ninference: {max_tokens: 5}") != asked


def test_no_secret_is_in_rows_or_output(bedrock_run: Any, bedrock: Any, write_job: Any, tmp_path: Path) -> None:
    server = bedrock("- {match: one, fault: denied}\n")
    secrets = (
        server.env["AWS_SECRET_ACCESS_KEY"],
        "session-token-that-no-row-may-hold",
        "Authorization",
        "Credential=",
    )
    env = {**server.env, "AWS_SESSION_TOKEN": secrets[1]}
    done = bedrock_run(
        "-v", "--json", write_job("cases: [{vars: {n: two}}, {vars: {n: one}}]\nprompt: '{{ n }}'"), env=env
    )
    assert done.returncode == 4
    written = done.stdout + done.stderr + (tmp_path / "outputs/job.jsonl").read_text()
    assert not [secret for secret in secrets if secret in written]


# --- exit codes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "value", "code"),
    [
        ("", "Question", 0),
        ("", "no such text", 1),
        ("- {match: Question 2, status: 400, error: ValidationException, message: no}\n", "Question", 3),
        ("- {match: Question 2, status: 400, error: ValidationException, message: no}\n", "no such text", 3),
        ("- {match: Question 2, fault: denied}\n", "Question", 4),
    ],
)
def test_exit_codes(
    faults: str, value: str, code: int, bedrock_run: Any, bedrock: Any, write_job: Any, rows: Rows
) -> None:
    job = write_job(
        f"""
        prompt: Question {{{{ n }}}}
        cases: [{{vars: {{n: 1}}}}, {{vars: {{n: 2}}}}, {{vars: {{n: 3}}}}]
        assert: [{{type: contains, value: {value}}}]
        """
    )
    done = bedrock_run("-j", "1", "--json", job, env=bedrock(faults).env)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["exit_code"] == code
    expected = {0: ["passed"] * 3, 1: ["failed"] * 3, 4: ["passed"]}.get(code)
    if expected:
        assert [row["status"] for row in rows()] == expected


def test_wrong_files_are_told_together_and_nothing_is_sent(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    server = bedrock()
    jobs = [
        write_job("prompt: fine", "fine.yaml"),
        write_job("promt: x", "typo.yaml"),
        write_job("prompt: '{{ nobody }}'", "undefined.yaml"),
        write_job("turns: [{user: {text: x, images: [gone.png]}}]", "image.yaml"),
    ]
    done = bedrock_run(*jobs, "no-such.yaml", env=server.env)
    assert done.returncode == 2
    for expected in ("typo.yaml:2:1", "undefined.yaml:2:9", "image.yaml:2:", "no-such.yaml", "4 problems"):
        assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert server.log == []


def test_a_problem_of_many_cases_is_told_once(bedrock_run: Any, write_job: Any) -> None:
    cases = "".join(f"  - {{id: c{n}, vars: {{a: 1}}}}\n" for n in range(50))
    done = bedrock_run("validate", write_job(f"prompt: '{{{{ b }}}}'\ncases:\n{cases}"))
    assert done.returncode == 2
    assert done.stderr.count("undefined variable") == 1
    assert "(cases c0, c1, c2 and 47 more)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage:"),
        (["run"], "Missing argument"),
        (["--no-such-option", "job.yaml"], "No such option"),
        (["job.yaml", "--var", "x"], "is not NAME=VALUE"),
        (["job.yaml", "--local", "--endpoint-url", "http://x"], "exclude each other"),
        (["job.yaml", "--replies", "x.yaml"], "add --local"),
        (["job.yaml", "-o", "-", "--json"], "both write to standard output"),
        (["job.yaml", "-o", ""], "-o names no folder: it is empty"),
        (["validate", "job.yaml", "-o", ""], "-o names no folder: it is empty"),
        (["job.yaml", "--filter", "nothing*"], "no case matches --filter nothing*"),
        (["job.yaml", "--tag", "absent"], "the tags are: present"),
        (["job.yaml", "--limit", "0"], "0 is not in the range"),
        (["job.yaml", "--max-cost", "0"], "0 is not more than 0"),
        (["job.yaml", "--max-cost", "nan"], "nan is not more than 0"),
        (["job.yaml", "--region", "us east"], "is not a region"),
        (["job.yaml", "--endpoint-url", "foo"], "is not a URL"),
        (["job.yaml", "--var", "x=[.inf]"], "is no number that JSON can hold"),
        (["job.yaml", "--var", "x=.nan"], "is no number that JSON can hold"),
        (["job.yaml", "--var", "loop=1"], "is not NAME=VALUE"),
        (["job.yaml", "--model", "a b"], "is no model id"),
        (["job.yaml", "--prices", "nowhere.yaml"], "nowhere.yaml"),
        (["job.yaml", "--local", "--replies", "nowhere.yaml"], "nowhere.yaml"),
        (["valdate", "job.yaml"], "did you mean `validate`?"),
        (["tidy", "job.yaml"], "there is no command or job file `tidy`"),
        (["job.yaml", "job.yaml"], "given twice"),
        (["emulate", "--fault", "no-such-fault"], "no-such-fault"),
        (["emulate", "--latency", "soon"], "not a duration"),
    ],
)
def test_a_wrong_command_line_is_told_and_leaves_no_folder_behind(
    arguments: list[str], message: str, bedrock_run: Any, write_job: Any, tmp_path: Path
) -> None:
    write_job("prompt: x\ntags: [present]")
    done = bedrock_run(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


def test_an_output_folder_that_cannot_be_is_told_before_anything_is_sent(
    bedrock_run: Any, bedrock: Any, write_job: Any, tmp_path: Path
) -> None:
    server = bedrock()
    (tmp_path / "file").write_text("")
    done = bedrock_run("-o", "file", write_job("prompt: x"), env=server.env)
    assert done.returncode == 2
    assert "rows can't be written to file/job.jsonl" in done.stderr
    assert server.log == []


# --- accounts --------------------------------------------------------------------------------------------------------


def test_without_credentials_nothing_is_sent_and_old_rows_stay(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    job = write_job("prompt: x")
    assert bedrock_run("--local", job).returncode == 0
    done = bedrock_run(job)
    assert done.returncode == 4
    assert "no AWS credentials were found" in done.stderr
    assert "aws configure" in done.stderr
    assert rows()[0]["status"] == "passed"


def test_an_unknown_profile_names_those_there_are(bedrock_run: Any, write_job: Any, clean_environment: Path) -> None:
    config = clean_environment / ".aws" / "config"
    config.parent.mkdir()
    config.write_text("[profile work]\nregion = eu-west-1\n")
    done = bedrock_run("--profile", "wrok", write_job("prompt: x"))
    assert done.returncode == 4
    assert "(wrok) could not be found" in done.stderr
    assert "work" in done.stderr.partition("hint")[2]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("- {match: '', fault: denied}\n", ["denied: AccessDeniedException", "IAM"]),
        ("- {match: '', fault: expired-token}\n", ["credentials: ExpiredTokenException", "new temporary keys"]),
    ],
)
def test_what_concerns_the_account_stops_the_run(
    script: str, told: list[str], bedrock_run: Any, bedrock: Any, write_job: Any
) -> None:
    server = bedrock(script)
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(200))
    done = bedrock_run(write_job(f"prompt: '{{{{ n }}}}'\ncases:\n{cases}"), env=server.env)
    assert done.returncode == 4
    assert all(text in done.stderr for text in told), done.stderr
    assert len(server.log) <= 20  # those in flight
    assert "200 cases were not reached; the same command goes on" in done.stderr


def test_a_model_that_needs_an_inference_profile_is_told_which(bedrock_run: Any, write_job: Any) -> None:
    done = bedrock_run("--local", write_job("model: anthropic.claude-haiku-4-5-20251001-v1:0\nprompt: x"))
    assert done.returncode == 4
    assert "us.anthropic.claude-haiku-4-5-20251001-v1:0" in done.stderr.partition("hint")[2]


def test_regions_count_in_their_order(bedrock_run: Any, write_job: Any, bedrock: Any, rows: Rows) -> None:
    env = bedrock().env

    def region(*arguments: str, job: str = "prompt: x", **variables: str) -> str:
        done = bedrock_run("--fresh", write_job(job), *arguments, env={**env, **variables})
        assert done.returncode == 0, done.stderr
        return str(rows()[0]["region"])

    assert region() == "us-east-1"
    assert region(AWS_DEFAULT_REGION="us-west-1") == "us-west-1"
    assert region(AWS_DEFAULT_REGION="us-west-1", AWS_REGION="us-west-2") == "us-west-2"
    assert region(AWS_REGION="us-west-2", job="prompt: x\nregion: us-east-2") == "us-east-2"
    assert region("--region", "us-gov-west-1", job="prompt: x\nregion: us-east-2") == "us-gov-west-1"


def test_without_any_connection_the_run_stops_when_the_first_cases_have_failed(
    bedrock_run: Any, bedrock: Any, write_job: Any
) -> None:
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(100))
    job = write_job(f"retry: {{max_attempts: 2, max_backoff: 10ms}}\nprompt: '{{{{ n }}}}'\ncases:\n{cases}")
    env = {**bedrock().env, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": "http://127.0.0.1:1"}
    done = bedrock_run(job, env=env)
    assert done.returncode == 4
    assert "stopped: no connection to http://127.0.0.1:1: Connection refused" in done.stderr
    assert done.stderr.count("ERROR") < 30
    assert "0x" not in done.stderr, "no addresses of objects"


# --- faults ----------------------------------------------------------------------------------------------------------

RETRIED = [
    "throttle", "internal", "unavailable", "overloaded", "model-error", "model-timeout", "not-ready", "reset", "hang",
    "drip", "stall", "drop", "cut", "no-stop", "no-output", "bad-crc", "bad-json", "stream-exception",
    "stream-throttle", "stream-internal", "stream-error",
]  # fmt: skip


END_BY_TIMEOUT = {"hang", "drip", "stall", "model-timeout"}
WHOLE_IN_A_STREAM = {"no-output"}  # a stream without text, which a model may well send


@pytest.mark.parametrize("api", ["invoke", "converse"])
@pytest.mark.parametrize("stream", [False, True])
def test_every_passing_fault_is_tried_again_and_costs_no_row(
    api: str, stream: bool, bedrock_run: Any, bedrock: Any, write_job: Any, rows: Rows
) -> None:
    faults = [fault for fault in RETRIED if not (stream and fault in WHOLE_IN_A_STREAM)]
    script = "".join(f"- {{match: 'with {fault}$', fault: {fault}, times: 2}}\n" for fault in faults)
    cases = "".join(f"  - {{id: {fault}, vars: {{fault: {fault}}}}}\n" for fault in faults)
    job = write_job(
        f"api: {api}\nstream: {str(stream).lower()}\ntimeout: 2s\nretry: {{max_attempts: 6, max_backoff: 50ms}}\n"
        f"prompt: A call with {{{{ fault }}}}\nassert: [{{type: contains, value: '{{{{ fault }}}}'}}]\ncases:\n{cases}"
    )
    done = bedrock_run("-j", "50", job, env=bedrock(script).env)
    assert done.returncode == 0, done.stderr
    for row in rows():
        # a machine that is busy for 2 s may add a timeout of its own, which says nothing about the faults
        attempts = [each for each in row["attempts"] if each["code"] != "timeout" or row["case"] in END_BY_TIMEOUT]
        assert len(attempts) == 3, row["case"]
        assert attempts[-1]["code"] is None
        assert all(attempt["code"] and attempt["message"] for attempt in attempts[:-1])
        assert row["replies"][0]["text"] == row["output"]
    billed = {row["case"]: any(each["possibly_billed"] for each in row["attempts"]) for row in rows()}
    unbilled = [row for row in rows() if row["case"] in {"throttle", "unavailable", "overloaded", "not-ready"}]
    assert not any(each["possibly_billed"] for row in unbilled for each in row["attempts"] if each["code"] != "timeout")
    assert all(billed[fault] for fault in ("internal", "hang", "stall", "drop", "no-stop", "cut", "bad-crc"))


def test_a_case_that_fails_for_good_keeps_every_attempt(
    bedrock_run: Any, bedrock: Any, write_job: Any, rows: Rows
) -> None:
    job = write_job("retry: {max_attempts: 3, max_backoff: 10ms}\nprompt: x")
    done = bedrock_run(job, env=bedrock("- {match: x, fault: internal}\n").env)
    assert done.returncode == 3
    (row,) = rows()
    assert [attempt["code"] for attempt in row["attempts"]] == ["transient"] * 3
    assert row["error"]["code"] == "transient"
    assert row["error"]["http_status"] == 500
    assert row["error"]["retryable"] is True
    request_id = row["error"]["request_id"]
    assert done.stderr.splitlines()[1:4] == [
        "ERROR  job (job.yaml:1)",
        f"    transient: {row['error']['message']}",
        f"    3 attempts, the last with request id {request_id}",
    ]


def test_a_wrong_request_is_not_tried_again(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    done = bedrock_run("--local", write_job("extra: {no_such_field: 1}\nprompt: x"))
    assert done.returncode == 3
    (row,) = rows()
    assert len(row["attempts"]) == 1
    assert row["error"]["code"] == "invalid"
    assert "no_such_field" in row["error"]["message"]


def test_a_conversation_that_fails_in_the_middle_keeps_the_replies_so_far(
    bedrock_run: Any, bedrock: Any, write_job: Any, rows: Rows
) -> None:
    job = write_job("retry: {max_attempts: 1}\nturns: [{user: one}, {user: two}, {user: three}]")
    done = bedrock_run(job, env=bedrock("- {match: two, fault: internal}\n").env)
    assert done.returncode == 3
    (row,) = rows()
    assert len(row["replies"]) == 1
    assert row["output"] is None
    assert row["cost_usd"] > 0


def test_a_live_conversation_sends_back_what_the_model_said(
    bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text(
        "- {match: one, reply: 'uno {{ not_a_template }}'}\n- {match: two, reply: dos}\n"
    )
    job = write_job("turns: [{user: one}, {user: two}]\nassert: [{type: equals, value: dos}]")
    assert bedrock_run("--local", "--replies", "replies.yaml", job).returncode == 0
    assert [reply["text"] for reply in rows()[0]["replies"]] == ["uno {{ not_a_template }}", "dos"]


def test_an_empty_reply_ends_a_conversation_with_a_reason(
    bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text("- {match: one, reply: ''}\n")
    done = bedrock_run("--local", "--replies", "replies.yaml", write_job("turns: [{user: one}, {user: two}]"))
    assert done.returncode == 3
    assert "has no text" in rows()[0]["error"]["message"]


@pytest.mark.parametrize("api", ["invoke", "converse"])
def test_a_system_prompt_that_renders_to_nothing_is_none(
    api: str, bedrock_run: Any, write_job: Any, rows: Rows
) -> None:
    job = write_job(
        f"""
        api: {api}
        system: "{{% if tone %}}Be {{{{ tone }}}}.{{% endif %}}"
        prompt: x
        cases: [{{vars: {{tone: kind}}}}, {{vars: {{tone: ""}}}}]
        """
    )
    assert bedrock_run("--local", job).returncode == 0
    assert [row["request"]["system"] for row in rows()] == ["Be kind.", None]


# --- choosing and bounding -------------------------------------------------------------------------------------------

THREE = """
name: three
tags: [all]
prompt: '{{ word }}'
vars: {word: none}
cases:
  - {id: ant, vars: {word: a}, tags: [insect]}
  - {id: bee, vars: {word: b}, tags: [insect]}
  - {id: cat, vars: {word: c}}
"""


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ([], "ant bee cat"),
        (["--filter", "*a*"], "ant cat"),
        (["--filter", "bee", "--filter", "cat"], "bee cat"),
        (["--limit", "2"], "ant bee"),
        (["--filter", "[bc]*", "--limit", "1"], "bee"),
        (["--tag", "insect"], "ant bee"),
        (["--tag", "all"], "ant bee cat"),
        (["--tag", "none", "--tag", "insect"], "ant bee"),
    ],
)
def test_choosing_cases(arguments: list[str], chosen: str, bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    assert bedrock_run("--local", write_job(THREE), *arguments).returncode == 0
    assert [row["case"] for row in rows("three")] == chosen.split()


def test_overriding_model_and_variables(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    job = write_job(THREE)
    done = bedrock_run("--local", job, "--var", "word=no", "--var", "n=3", "--model", "amazon.nova-lite-v1:0")
    assert done.returncode == 0, done.stderr
    for row in rows("three"):
        assert row["vars"] == {"word": "no", "n": 3}
        assert row["model"] == "amazon.nova-lite-v1:0"
        assert row["api"] == "converse"


def test_jobs_without_a_chosen_case_are_left_alone(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    jobs = [write_job(THREE), write_job("prompt: x", "other.yaml")]
    assert bedrock_run("--local", *jobs, "--tag", "insect").returncode == 0
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["three.jsonl"]


def test_rows_to_standard_output_are_in_order(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    done = bedrock_run("--local", "-o", "-", write_job(THREE))
    assert [json.loads(line)["case"] for line in done.stdout.splitlines()] == ["ant", "bee", "cat"]
    assert not (tmp_path / "outputs").exists()


def test_dry_run_counts_and_sends_nothing(bedrock_run: Any, bedrock: Any, write_job: Any, tmp_path: Path) -> None:
    server = bedrock()
    job = write_job(THREE)
    done = bedrock_run("--dry-run", "--json", job, env=server.env)
    estimate = json.loads(done.stdout)
    assert estimate["total"]["cases"] == 3
    assert estimate["total"]["calls"] == 3
    assert estimate["total"]["max_output_tokens"] == 3 * 1024
    assert estimate["total"]["worst_case_cost_usd"] == pytest.approx((3 * 1 * 3 + 3 * 1024 * 15) / 1e6)
    assert "nothing was sent" in bedrock_run("--dry-run", job).stderr
    assert server.log == []
    assert not (tmp_path / "outputs").exists()


def test_a_budget_stops_the_run(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(200))
    job = write_job(f"prompt: '{{{{ n }}}}'\ncases:\n{cases}")
    done = bedrock_run("--local", "--max-cost", "0.03", job)
    assert done.returncode == 4
    assert re.search(r"the budget is spent: \$0.01\d\d of \$0.0300 \(--max-cost\)", done.stderr), done.stderr
    assert re.search(r"nothing for the next case, which may cost up to \$0.015", done.stderr)
    spent = sum(row["cost_usd"] for row in rows())
    assert 0.01 < spent <= 0.03
    first = len(rows())
    assert bedrock_run("--local", "--max-cost", "0.03", job).returncode == 4
    assert len(rows()) > first


def test_a_budget_for_a_model_of_unknown_price_is_refused(bedrock_run: Any, write_job: Any) -> None:
    done = bedrock_run("--local", "--max-cost", "1", write_job("model: acme.brand-new-v1:0\nprompt: x"))
    assert done.returncode == 2
    assert "no price is known" in done.stderr


def test_a_budget_is_for_the_most_that_a_case_may_cost(bedrock_run: Any, write_job: Any) -> None:
    job = write_job("prompt: x\ninference: {max_tokens: 1000}")
    assert bedrock_run("--local", "--max-cost", "0.014", job).returncode == 4
    assert bedrock_run("--local", "--max-cost", "0.016", job).returncode == 0


def test_failures_stop_the_run(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(100))
    job = write_job(f"prompt: '{{{{ n }}}}'\nassert: [{{type: equals, value: no}}]\ncases:\n{cases}")
    done = bedrock_run("--local", "-j", "1", "--max-failures", "2", job)
    assert done.returncode == 4
    assert 2 <= len(rows()) < 20


def test_calls_keep_to_the_pace_that_is_given(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    job = write_job("rate: {requests_per_minute: 600}\nprompt: '{{ n }}'\ncases: [" + "{vars: {n: 1}}, " * 16 + "]")
    assert bedrock_run("--local", job).returncode == 0
    starts = sorted(row["attempts"][0]["started_at"] for row in rows())
    # ten a second, of which one second's worth may come at once: the last starts 0.6 s after the first, or later
    first, last = (float(start[17:-1]) for start in (starts[0], starts[-1]))
    assert (last - first) % 60 > 0.45


def test_prices_can_be_given(bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("anthropic.claude-3-5-sonnet-20241022-v2:0: {input: 1000000, output: 0}\n")
    assert bedrock_run("--local", "--prices", "prices.yaml", write_job("prompt: x")).returncode == 0
    (row,) = rows()
    assert row["cost_usd"] == pytest.approx(row["usage"]["input_tokens"])


# --- other commands --------------------------------------------------------------------------------------------------


def test_validate_needs_no_account_and_says_what_it_found(bedrock_run: Any, write_job: Any) -> None:
    done = bedrock_run("validate", write_job(THREE))
    assert done.returncode == 0
    assert "3 cases" in done.stderr
    assert bedrock_run("validate", "-q", write_job(THREE)).stderr == ""


def test_render_prints_what_is_sent_to_the_byte(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    job = write_job("turns: [{user: one}, {user: two}]\nsystem: S\ninference: {temperature: 0, stop: [X]}")
    (line,) = bedrock_run("render", job).stdout.splitlines()
    request = json.loads(line)
    assert request["operation"] == "invoke"
    assert request["body"] == {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 1024,
        "system": "S",
        "messages": [{"role": "user", "content": "one"}],
        "temperature": 0,
        "stop_sequences": ["X"],
    }
    assert request["then"] == [[{"role": "user", "content": "two"}]]


def test_render_shows_what_later_turns_attach(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of later")
    job = write_job("api: converse\nturns: [{user: one}, {user: {text: two, documents: [notes.txt]}}]")
    ((message,),) = json.loads(bedrock_run("render", job).stdout)["then"]
    assert [*map(list, message["content"])] == [["document"], ["text"]]
    assert base64.b64decode(message["content"][0]["document"]["source"]["bytes"]) == b"of later"


def test_render_goes_on_after_a_case_that_cannot_be_asked(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "one.png").write_bytes((PROMPTS / "images" / "red-pixel.png").read_bytes())
    job = write_job("cases: {glob: '*.png'}\nturns: [{user: {text: x, images: ['{{ file.path }}']}}]")
    done = bedrock_run("render", job)
    assert done.returncode == 3
    assert [json.loads(line)["case"] for line in done.stdout.splitlines()] == ["one.png"]
    assert "empty.png" in done.stderr


@pytest.mark.parametrize("name", ["job", "result", "summary", "preflight"])
def test_schema_prints_a_json_schema(name: str, bedrock_run: Any) -> None:
    assert json.loads(bedrock_run("schema", name).stdout)["$schema"].endswith("2020-12/schema")


def test_raw_bodies_of_other_models(bedrock_run: Any, write_job: Any, rows: Rows) -> None:
    jobs = [
        write_job("model: amazon.titan-embed-text-v2:0\nbody: {inputText: '{{ t }}'}\nvars: {t: hello}", "embed.yaml"),
        write_job("model: meta.llama3-1-8b-instruct-v1:0\nbody: {prompt: hello, max_gen_len: 50}", "llama.yaml"),
        write_job(
            "model: amazon.nova-lite-v1:0\nstream: true\n"
            "body: {messages: [{role: user, content: [{text: hello}]}], inferenceConfig: {maxTokens: 50}}",
            "nova.yaml",
        ),
    ]
    done = bedrock_run("--local", *jobs)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(rows("embed")[0]["output"])["embedding"], list)
    assert "hello" in rows("llama")[0]["output"]
    assert "hello" in rows("nova")[0]["output"]
    assert rows("embed")[0]["request"] == {"body": {"inputText": "hello"}}


def test_an_image_that_looks_whole_and_is_not_can_be_estimated_and_is_refused_by_bedrock(
    bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    whole = (PROMPTS / "images" / "coffee.webp").read_bytes()
    (tmp_path / "torn.webp").write_bytes(whole[:40] + b"\xff" * (len(whole) - 40))
    job = write_job("turns: [{user: {text: x, images: [torn.webp]}}]")
    assert bedrock_run("--dry-run", job).returncode == 0
    done = bedrock_run("--local", "--tpm", "1000000", job)
    assert done.returncode == 3
    assert rows()[0]["error"]["code"] == "invalid"


# --- stops -----------------------------------------------------------------------------------------------------------


def _wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} has not got {count} rows")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=str,
)
def test_a_signal_stops_in_order_and_keeps_every_row(
    number: signal.Signals, code: int, bedrock: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    server = bedrock("- {match: hangs, fault: hang}\n")
    cases = "".join(f"  - vars: {{n: '{n}{' hangs' if n >= 20 else ''}'}}\n" for n in range(100))
    job = write_job(f"prompt: '{{{{ n }}}}'\ncases:\n{cases}")
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "-j", "4", str(job)],
        cwd=tmp_path,
        env={**os.environ, **server.env},
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for_rows(tmp_path / "outputs" / "job.jsonl", 20)
    process.send_signal(number)
    time.sleep(0.3)
    process.send_signal(number)  # a second one does not wait for the calls in flight
    _, told = process.communicate(timeout=60)
    assert process.returncode == code, told
    answered, cut = rows()[:20], rows()[20:]
    assert [row["index"] for row in answered] == list(range(20))
    assert len(cut) <= 4, "those that had begun when the signal came"
    assert {row["error"]["code"] for row in cut} <= {"stopped"}
    assert all(row["attempts"][0]["possibly_billed"] for row in cut)
    cut_short = f", {plural(len(cut), 'case was', 'cases were')} stopped in flight" if cut else ""
    assert f"{80 - len(cut)} cases were not reached{cut_short}; the same command goes on" in told
    assert not cut or re.search(rf"{len(cut)} calls? may be on the bill without a reply to show for it", told)
    assert "Traceback" not in told


def test_under_nohup_a_hang_up_is_ignored(bedrock: Any, write_job: Any, rows: Rows, tmp_path: Path) -> None:
    server = bedrock("- {match: 'case 5$', latency: 1s}\n")
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(40))
    job = write_job(f"prompt: 'case {{{{ n }}}}'\ncases:\n{cases}")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "runner", str(job)],
        cwd=tmp_path,
        env={**os.environ, **server.env},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _wait_for_rows(tmp_path / "outputs" / "job.jsonl", 1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=60) == 0
    assert len(rows()) == 40


@pytest.mark.parametrize("stream", ["1>&-", "2>&-", "1>&- 2>&-"])
def test_closed_standard_streams_change_nothing(stream: str, write_job: Any, tmp_path: Path, rows: Rows) -> None:
    job = write_job("prompt: x\nassert: [{type: equals, value: y}]")
    command = f"{sys.executable} -m runner --local {job} {stream}"
    assert subprocess.run(command, shell=True, cwd=tmp_path, timeout=60, check=False).returncode == 1
    assert len(rows()) == 1


def test_a_full_standard_output_is_told(write_job: Any, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m runner render {write_job('prompt: x')} > /dev/full"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_traceback(write_job: Any, tmp_path: Path) -> None:
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(300))
    job = write_job(f"prompt: '{{{{ n }}}}'\ncases:\n{cases}")
    for command, code in {"-o - --local": 4, "render": 0}.items():
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m runner {command} {job} | head -n 1"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code
        assert len(done.stdout.splitlines()) == 1
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr


def test_an_interrupt_while_credentials_are_fetched_ends_at_once(write_job: Any, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        f"[default]\ncredential_process = {sys.executable} -c 'import time; print(end=\"\"); time.sleep(60)'\n"
    )
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import runpy, sys; print('up', flush=True); runpy.run_module('runner')",
            str(write_job("prompt: x")),
        ],
        cwd=tmp_path,
        env={**os.environ, "AWS_CONFIG_FILE": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("needs /proc to see that the credential process runs")
    for _ in range(1000):
        if any(Path(f"/proc/{thread}/children").read_text().strip() for thread in _threads(process.pid)):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told


def _threads(pid: int) -> list[str]:
    return [f"{pid}/task/{entry.name}" for entry in Path(f"/proc/{pid}/task").iterdir()]


def test_an_endpoint_with_a_password_is_refused_without_telling_it(
    bedrock_run: Any, bedrock: Any, write_job: Any
) -> None:
    server = bedrock()
    env = {**server.env, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": server.url.replace("//", "//user:hunter2@")}
    done = bedrock_run(write_job("prompt: x"), env=env)
    assert done.returncode == 4
    assert "is not an endpoint" in done.stderr
    assert "hunter2" not in done.stderr


# --- open files ------------------------------------------------------------------------------------------------------


def test_many_jobs_run_within_the_usual_limit_of_open_files(start_run: Any, bedrock: Any, write_job: Any) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    jobs = [write_job("prompt: Hello.", f"j{number}.yaml") for number in range(60)]
    patch = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}))"
    process = start_run(*jobs, env=bedrock().env, patch=patch)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 0, told
    assert "60 cases: 60 passed" in told
