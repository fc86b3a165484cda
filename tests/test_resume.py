"""Nothing is paid for twice: what a second run keeps and what it calls, as its user sees it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PROMPTS = Path(__file__).parents[1] / "prompts"
Rows = Callable[..., list[dict[str, Any]]]


class Runs:
    """A job that is run again and again against one emulator, which counts the calls."""

    def __init__(self, run: Any, server: Any, folder: Path) -> None:
        self._run = run
        self._server = server
        self.folder = folder
        self.file = folder / "outputs" / "job.jsonl"
        self.superseded = folder / "outputs" / "job.superseded.jsonl"

    def __call__(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, expect: int = 0
    ) -> tuple[int, str]:
        """Run the job: how many calls it made, and what it said."""
        before = len(self._server.log)
        done = self._run(*arguments, "job.yaml", env={**self._server.env, **(env or {})})
        assert done.returncode == expect, done.stderr
        return len(self._server.log) - before, done.stderr

    def write(self, text: str, name: str = "job.yaml") -> None:
        model = "model: anthropic.claude-3-5-sonnet-20241022-v2:0\n" if name.endswith(".yaml") else ""
        (self.folder / name).write_text(model + text, newline="")

    def set_aside(self) -> list[dict[str, Any]]:
        return (
            [json.loads(line) for line in self.superseded.read_text().splitlines()] if self.superseded.exists() else []
        )


@pytest.fixture
def runs(bedrock_run: Any, bedrock: Any, tmp_path: Path) -> Runs:
    return Runs(bedrock_run, bedrock(), tmp_path)


def animals(*names: str) -> str:
    return "animal\n" + "".join(f"{name}\n" for name in names)


FILE = "prompt: Describe the {{ animal }}.\ncases: rows.csv\n"
LIST = "prompt: Say {{ word }}.\ncases:\n- vars: {word: one}\n- vars: {word: two}\n- vars: {word: three}\n"


def test_a_second_run_calls_nothing_and_changes_no_byte(runs: Runs) -> None:
    runs.write(LIST)
    assert runs()[0] == 3
    before, inode = runs.file.read_bytes(), runs.file.stat().st_ino
    calls, told = runs()
    assert calls == 0
    assert "3 kept from earlier runs, nothing was called" in told
    assert (runs.file.read_bytes(), runs.file.stat().st_ino) == (before, inode)
    assert [path.name for path in runs.file.parent.iterdir()] == ["job.jsonl"]


def test_what_changed_is_called_and_its_earlier_row_set_aside(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    runs()
    runs.write(LIST.replace("two", "zwei"))
    calls, told = runs()
    assert calls == 1
    assert "2 kept from earlier runs, 1 called" in told
    assert [row["vars"]["word"] for row in rows()] == ["one", "zwei", "three"]
    assert [row["vars"]["word"] for row in runs.set_aside()] == ["two"]
    assert "note: 1 earlier row that no case wants any more went to outputs/job.superseded.jsonl" in told


def test_an_edited_prompt_calls_every_case(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    runs()
    runs.write(LIST.replace("Say", "Please say"))
    assert runs()[0] == 3
    assert len(rows()) == len(runs.set_aside()) == 3


def test_a_row_inserted_on_top_is_the_only_one_called(runs: Runs, rows: Rows) -> None:
    runs.write(FILE)
    runs.write(animals("cat", "dog", "emu"), "rows.csv")
    assert runs()[0] == 3
    runs.write(animals("ant", "cat", "dog", "emu"), "rows.csv")
    assert runs()[0] == 1
    assert [(row["case"], row["index"], row["vars"]["animal"]) for row in rows()] == [
        ("1", 0, "ant"),
        ("2", 1, "cat"),
        ("3", 2, "dog"),
        ("4", 3, "emu"),
    ]
    assert runs.set_aside() == []
    assert runs()[0] == 0


def test_a_case_that_is_gone_is_set_aside_and_called_when_it_comes_back(runs: Runs, rows: Rows) -> None:
    runs.write(FILE)
    runs.write(animals("cat", "dog", "emu"), "rows.csv")
    runs()
    runs.write(animals("cat", "emu"), "rows.csv")
    assert runs()[0] == 0
    assert [row["vars"]["animal"] for row in rows()] == ["cat", "emu"]
    assert [row["vars"]["animal"] for row in runs.set_aside()] == ["dog"]


def test_a_changed_image_is_asked_about_again_and_a_renamed_one_is_not(runs: Runs, rows: Rows) -> None:
    for name, colour in {"red.png": "red", "blue.png": "blue"}.items():
        Image.new("RGB", (8, 8), colour).save(runs.folder / name)
    job = "turns: [{user: {text: What is this?, images: ['{{ file }}']}}]\ncases: rows.csv\n"
    runs.write(job)
    runs.write("file\nred.png\nblue.png\n", "rows.csv")
    assert runs()[0] == 2
    (runs.folder / "red.png").rename(runs.folder / "rouge.png")
    runs.write("file\nrouge.png\nblue.png\n", "rows.csv")
    assert runs()[0] == 0
    assert rows()[0]["request"]["messages"][0]["images"][0]["path"] == "rouge.png"
    Image.new("RGB", (8, 8), "green").save(runs.folder / "blue.png")
    assert runs()[0] == 1
    assert "green" in rows()[1]["output"]
    (runs.folder / "blue.png").rename(runs.folder / "away.png")
    told = runs("--dry-run", expect=3)[1]
    assert "set aside" not in told
    assert runs(expect=3)[0] == 0
    (runs.folder / "away.png").rename(runs.folder / "blue.png")
    assert runs()[0] == 0
    assert [row["status"] for row in rows()] == ["passed", "passed"]


def test_how_it_is_asked_calls_nothing(runs: Runs) -> None:
    runs.write("vars: {a: 1, b: {x: 1, y: 2}}\ninference: {max_tokens: 9, temperature: 0}\n" + LIST)
    assert runs(env={"PYTHONHASHSEED": "1"})[0] == 3
    runs.write("inference: {temperature: 0, max_tokens: 9}\nvars: {b: {y: 2, x: 1}, a: 1}\n" + LIST)
    assert runs("-j", "1", env={"PYTHONHASHSEED": "2"})[0] == 0
    crlf = (runs.folder / "job.yaml").read_text().replace("\n", "\r\n")
    (runs.folder / "job.yaml").write_text(crlf, newline="")
    assert runs("-j", "7", "--region", "eu-central-1", env={"PYTHONHASHSEED": "3"})[0] == 0
    runs.write(
        "stream: true\ntimeout: 1m\nvars: {a: 1, b: {x: 1, y: 2}}\ninference: {max_tokens: 9, temperature: 0}\n" + LIST
    )
    assert runs()[0] == 0


def test_line_ends_of_a_file_of_rows_call_nothing(runs: Runs) -> None:
    runs.write(FILE)
    runs.write(animals("cat", "dog"), "rows.csv")
    assert runs()[0] == 2
    runs.write(animals("cat", "dog").replace("\n", "\r\n"), "rows.csv")
    assert runs()[0] == 0


def test_cases_that_ask_the_same_are_called_one_by_one_and_each_row_serves_one(runs: Runs, rows: Rows) -> None:
    runs.write(FILE)
    runs.write(animals("cat", "cat"), "rows.csv")
    assert runs()[0] == 2
    assert len({row["key"] for row in rows()}) == 1
    runs.write(animals("cat", "cat", "cat"), "rows.csv")
    assert runs()[0] == 1


def test_assertions_of_kept_rows_are_evaluated_again(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    runs()
    runs.write(LIST + "assert: [{type: contains, value: two}]\n")
    calls, told = runs(expect=1)
    assert calls == 0
    assert [row["status"] for row in rows()] == ["failed", "passed", "failed"]
    assert told.count("FAILED job [") == 4  # a block each, and a line each at the end
    runs.write(LIST)
    assert runs()[0] == 0
    assert {row["status"] for row in rows()} == {"passed"}
    assert runs.set_aside() == []


def test_a_case_in_error_is_called_again(runs: Runs, bedrock: Any, rows: Rows) -> None:
    runs.write(LIST + "retry: {max_attempts: 1}\n")
    broken = bedrock("- {match: two, fault: throttle}\n")
    assert runs(env=broken.env, expect=3)[0] == 0
    assert [row["status"] for row in rows()] == ["passed", "error", "passed"]
    assert runs()[0] == 1
    assert {row["status"] for row in rows()} == {"passed"}
    assert runs.set_aside() == []  # nobody paid for the row in error


def test_fresh_calls_every_case_and_sets_the_earlier_rows_aside(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    runs()
    earlier = rows()
    calls, told = runs("--fresh")
    assert calls == 3
    assert runs.set_aside() == earlier
    assert "note: 3 earlier rows that newer ones replace went to outputs/job.superseded.jsonl" in told
    assert "no case wants" not in told
    assert len(rows()) == 3


def test_a_fresh_call_that_fails_does_not_cost_the_row_that_was_there(runs: Runs, bedrock: Any, rows: Rows) -> None:
    runs.write(LIST + "retry: {max_attempts: 1}\n")
    runs()
    broken = bedrock("- {match: two, fault: throttle}\n")
    runs("--fresh", env=broken.env, expect=3)
    assert runs()[0] == 0
    assert [row["status"] for row in rows()] == ["passed"] * 3
    assert len(runs.set_aside()) == 2


def test_an_inserted_row_and_a_limit_cost_nothing_that_was_paid_for(runs: Runs, rows: Rows) -> None:
    runs.write(FILE)
    runs.write(animals("cat", "dog"), "rows.csv")
    runs()
    runs.write(animals("ant", "cat", "dog"), "rows.csv")
    assert runs("--limit", "1")[0] == 1
    assert runs()[0] == 0
    assert [row["vars"]["animal"] for row in rows()] == ["ant", "cat", "dog"]


def test_a_part_of_the_cases_leaves_the_rows_of_the_others(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    assert runs("--limit", "1")[0] == 1
    assert runs("--filter", "3")[0] == 1
    assert [row["case"] for row in rows()] == ["1", "3"]
    runs.write(LIST.replace("Say", "Tell"))
    assert runs("--filter", "1")[0] == 1
    assert [row["case"] for row in rows()] == ["1", "1", "3"]  # a case that did not run might want the earlier row
    runs.write(LIST)
    assert runs()[0] == 1
    assert [row["case"] for row in rows()] == ["1", "2", "3"]
    assert [row["case"] for row in runs.set_aside()] == ["1"]


def test_rows_of_the_local_emulator_do_not_answer_for_bedrock(runs: Runs, rows: Rows) -> None:
    runs.write(LIST)
    runs("--local")
    assert runs("--local")[0] == 0
    assert runs("--replay")[0] == 0
    assert runs()[0] == 3
    assert "local" not in {row["endpoint"] for row in rows()}
    assert runs("--local")[0] == 0
    assert "local" not in {row["endpoint"] for row in rows()}, "replies that were paid for go before the emulator's"


def test_matrix_and_repeat(runs: Runs, rows: Rows) -> None:
    runs.write("prompt: Say {{ tone }} {{ word }}.\nmatrix: {tone: [dry, warm]}\nrepeat: 2\ncases: rows.csv\n")
    runs.write("id,word\na,one\nb,two\n", "rows.csv")
    assert runs()[0] == 8
    assert [(row["case"], row["repeat"], row["index"], row["matrix"]) for row in rows()] == [
        (f"{case} [tone={tone}]", repeat, index, {"tone": tone})
        for index, (case, tone) in enumerate([("a", "dry"), ("a", "warm"), ("b", "dry"), ("b", "warm")])
        for repeat in (0, 1)
    ]
    assert len({row["key"] for row in rows()}) == 8
    assert runs()[0] == 0
    runs.write("prompt: Say {{ tone }} {{ word }}.\nmatrix: {tone: [dry, warm]}\nrepeat: 3\ncases: rows.csv\n")
    assert runs()[0] == 4
    assert runs("--filter", "a")[0] == 0


@pytest.mark.parametrize(("min_pass", "code"), [(2, 0), (3, 1)])
def test_min_pass_says_how_many_repetitions_must_pass(min_pass: int, code: int, runs: Runs, bedrock: Any) -> None:
    replies = "- {match: '', reply: bad, times: 1}\n- {match: '', reply: good}\n"
    job = f"prompt: Hi\nrepeat: 3\nmin_pass: {min_pass}\nassert: [{{type: contains, value: good}}]\n"
    runs.write(job)
    _, told = runs(env=bedrock(replies).env, expect=code)
    assert told.count("FAILED job [1] (job.yaml:5)  1 of 3 repetitions failed, 3 must pass") == code
    assert ("FAILED" in told) == (code == 1), "of a case that passed there is no block"
    assert ("as min_pass asks" in told) == (code == 0)


def test_a_row_that_cannot_be_rendered_is_an_error_and_the_rest_goes_on(runs: Runs, rows: Rows) -> None:
    runs.write("prompt: '{{ 10 // (n | int) }} {{ n }}'\ncases: rows.csv\n")
    runs.write("n\n5\n0\n2\n", "rows.csv")
    calls, told = runs(expect=3)
    assert calls == 2
    assert [row["status"] for row in rows()] == ["passed", "error", "passed"]
    error = rows()[1]["error"]
    assert error["code"] == "input"
    assert "rows.csv:3: " in error["message"]
    assert "job.yaml:2:" in error["message"]
    assert "ERROR  job [2]: input: rows.csv:3" in told
    runs.write("n\n5\n1\n2\n", "rows.csv")
    assert runs()[0] == 1


def test_an_image_that_has_gone_is_its_rows_error(runs: Runs, rows: Rows) -> None:
    shutil.copytree(PROMPTS / "images", runs.folder / "images")
    (name, *_) = sorted(path.name for path in (runs.folder / "images").glob("*.png"))
    runs.write("turns: [{user: {text: What?, images: ['images/{{ file }}']}}]\ncases: rows.csv\n")
    runs.write(f"file\n{name}\nmissing.png\n", "rows.csv")
    assert runs(expect=3)[0] == 1
    assert [row["status"] for row in rows()] == ["passed", "error"]
    assert "there is no image 'images/missing.png'" in rows()[1]["error"]["message"]


def test_a_column_that_is_missing_is_told_before_anything_is_sent(runs: Runs) -> None:
    runs.write("system: '{{ languge }}'\nprompt: '{{ word }} {{ note | default(1) }}'\ncases: rows.csv\n")
    runs.write("id,language,wort\n1,de,x\n", "rows.csv")
    calls, told = runs(expect=2)
    assert calls == 0
    assert "job.yaml:2:9: undefined variable: `languge`" in told
    assert "did you mean `language`? the columns of rows.csv are `id`, `language`, `wort`" in told
    assert "undefined variable: `word`" in told
    assert "`note`" not in told


def test_a_variable_of_the_matrix_that_nothing_uses_is_told(runs: Runs) -> None:
    runs.write("prompt: Hi\nmatrix: {temprature: [0, 1]}\n")
    calls, told = runs(expect=2)
    assert calls == 0
    assert "no template uses `temprature` of the matrix" in told
    assert "did you mean `temperature`?" in told


def test_a_second_writer_is_refused_at_once_and_told_who_holds_the_file(
    runs: Runs, bedrock: Any, bedrock_run: Any
) -> None:
    runs.write(LIST)
    slow = bedrock(latency=60.0)
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "job.yaml"], cwd=runs.folder, env={**os.environ, **slow.env}, stderr=-3
    ) as first:
        wait_for(lambda: len(slow.log) == 3 or first.poll() is not None or runs.file.exists())
        began = time.monotonic()
        calls, told = runs(expect=2)
        assert time.monotonic() - began < 20  # a hang, not slowness, is what this would show
        assert calls == 0
        assert f"outputs/job.jsonl is being written by another run (process {first.pid} on " in told
        first.kill()
    assert runs()[0] == 3


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- killed runs -----------------------------------------------------------------------------------------------------

LONG = "us.anthropic.claude-opus-4-6-v1"  # writes up to 128,000 tokens
REPLIES = "".join(
    f"- {{match: 'number {number}[.]', reply: '{'x' * (300 * 10 ** (number % 4))} {number}'}}\n" for number in range(60)
)


@pytest.mark.parametrize("kills", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_runs_that_are_killed_at_any_moment_lose_and_repeat_nothing(
    kills: int, bedrock: Any, bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    """Replies have from 300 bytes to 300 KB. Each run is killed after a different share of its calls."""
    concurrency, cases = 4, 60
    write_job(
        f"model: {LONG}\ninference: {{max_tokens: 128000}}\nmax_concurrency: {concurrency}\n"
        "prompt: 'number {{ n }}.'\ncases: rows.csv\n"
    )
    (tmp_path / "rows.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(cases)))
    server = bedrock(REPLIES, latency=0.005)
    file = tmp_path / "outputs" / "job.jsonl"
    for kill in range(kills):
        if kill % 20 == 0:  # begin anew, or soon all rows would be there
            calls_before, killed = len(server.log), 0
            shutil.rmtree(file.parent, ignore_errors=True)
        calls = len(server.log)
        command = [sys.executable, "-m", "runner", "-q", "job.yaml"]
        with subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **server.env}) as process:
            kill_after(process, partial(lambda wanted: len(server.log) > wanted, calls + kill % 7))
        killed += process.returncode == -signal.SIGKILL
        whole = whole_rows(file)
        assert max(Counter(whole).values(), default=1) == 1
        assert len(server.log) - calls_before <= len(whole) + killed * concurrency
    done = bedrock_run("-q", "job.yaml", env=server.env)
    assert done.returncode == 0, done.stderr
    found = rows()
    assert [row["index"] for row in found] == list(range(cases))
    assert all(row["output"].endswith(f" {row['index']}") for row in found)
    assert len(server.log) - calls_before <= cases + killed * concurrency
    calls = len(server.log)
    assert bedrock_run("-q", "job.yaml", env=server.env).returncode == 0
    assert len(server.log) == calls


def kill_after(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    wait_for(lambda: condition() or process.poll() is not None)
    process.kill()


def whole_rows(file: Path) -> list[str]:
    """The cases of the whole lines of a file that its writer was killed over."""
    data = file.read_bytes() if file.exists() else b""
    return [json.loads(line)["case"] for line in data.split(b"\n")[:-1]]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_after_a_signal_the_same_command_goes_on(
    signal_number: int, bedrock: Any, bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    write_job("prompt: 'number {{ n }}.'\ncases: rows.csv\nmax_concurrency: 2\n")
    (tmp_path / "rows.csv").write_text("n\n" + "".join(f"{number}\n" for number in range(30)))
    server = bedrock(latency=0.02)
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "job.yaml"],
        cwd=tmp_path,
        env={**os.environ, **server.env},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: len(server.log) > 5 or process.poll() is not None)
        process.send_signal(signal_number)
        _, told = process.communicate()
    assert process.returncode == 128 + signal_number
    assert "the same command goes on" in told
    answered = len(rows())
    assert answered == len(server.log)
    done = bedrock_run("job.yaml", env=server.env)
    assert done.returncode == 0
    assert f"{answered} kept from earlier runs, {30 - answered} called" in done.stderr
    assert len(server.log) == 30


@pytest.mark.parametrize(
    "text",
    ["a\ud800b", "nul \0 in it", "line\u2028separators\u2029and\u0085nel", "x" * 500_000],
    ids=["half a surrogate pair", "nul", "line separators", "half a megabyte"],
)
def test_odd_replies_are_stored_and_kept_as_they_came(text: str, runs: Runs, bedrock: Any, rows: Rows) -> None:
    (runs.folder / "job.yaml").write_text(f"model: {LONG}\ninference: {{max_tokens: 128000}}\nprompt: Hi\n")
    server = bedrock(json.dumps([{"match": "Hi", "reply": text}]))
    runs(env=server.env)
    stored = rows()[0]["output"]
    assert ascii(stored)[:200] == ascii(text)[:200]
    assert len(stored) == len(text)
    assert runs()[0] == 0
    assert ascii(rows()[0]["output"])[:200] == ascii(text)[:200]
    assert len(runs.file.read_bytes().splitlines()) == 1


# --- credentials ----------------------------------------------------------------------------------------------------


def profile(folder: Path, token: str) -> None:
    """Write lasting keys with a session token, as tools that log in do."""
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = a-secret-that-no-row-may-hold\n"
        f"aws_session_token = {token}\n"
    )


@pytest.mark.parametrize("renewed", [True, False])
def test_credentials_that_end_stop_the_run_unless_they_were_renewed_on_disk(
    renewed: bool, bedrock: Any, bedrock_run: Any, write_job: Any, rows: Rows, tmp_path: Path
) -> None:
    write_job(LIST)
    server = bedrock("- {match: two, fault: expired-token, times: 1}\n- {match: '', reply: yes}\n", latency=0.3)
    env = {name: value for name, value in server.env.items() if "ACCESS_KEY" not in name}
    env["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")
    profile(tmp_path, "the-old-token")
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "-j", "1", "job.yaml"],
        cwd=tmp_path,
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: len(server.log) > 0 or process.poll() is not None)
        if renewed:
            profile(tmp_path, "a-new-token")
        _, told = process.communicate()
    if renewed:
        assert process.returncode == 0, told
    else:
        assert process.returncode == 4
        assert "ExpiredTokenException" in told
        assert "the same command goes on" in told
        assert [row["case"] for row in rows()] == ["1"]
        assert bedrock_run("job.yaml", env=env).returncode == 0
    assert [row["status"] for row in rows()] == ["passed"] * 3
    assert len(server.log) == 4


# --- what is told ----------------------------------------------------------------------------------------------------


def test_a_misspelt_variable_of_the_command_line_is_noted(runs: Runs) -> None:
    runs.write(LIST)
    _, told = runs("--var", "wrod=x")
    assert "note: no job uses the variable `wrod` of --var; did you mean `word`?" in told
    assert "no job uses" not in runs("--var", "word=x")[1]


def test_a_column_that_no_template_can_name_is_an_entry_of_row(runs: Runs, rows: Rows) -> None:
    runs.write("Ticket Text;n\nHello;1\n", "rows.csv")
    runs.write("prompt: '{{ ticket_text }}'\ncases: rows.csv\n")
    assert 'did you mean `row["Ticket Text"]`?' in runs(expect=2)[1]
    runs.write("prompt: '{{ row[\"Ticket Text\"] }} {{ n }}'\ncases: rows.csv\n")
    runs()
    assert rows()[0]["request"]["messages"][0]["text"] == "Hello 1"
    assert rows()[0]["vars"] == {"Ticket Text": "Hello", "n": "1"}


def test_a_matrix_of_models_needs_no_other(runs: Runs, rows: Rows) -> None:
    (runs.folder / "job.yaml").write_text(
        "prompt: Hi\nmatrix: {model: [amazon.nova-lite-v1:0, amazon.nova-pro-v1:0]}\n"
    )
    assert runs()[0] == 2
    assert [row["model"] for row in rows()] == ["amazon.nova-lite-v1:0", "amazon.nova-pro-v1:0"]


def test_a_filter_takes_an_id_as_it_is_told(runs: Runs) -> None:
    runs.write("prompt: '{{ n }}'\nmatrix: {n: [1, 2]}\ncases: [{id: a}, {id: b}]\n")
    assert runs("--filter", "a [n=2]")[0] == 1
    assert runs("--filter", "a")[0] == 1


def test_a_dry_run_tells_what_is_kept_called_and_set_aside(runs: Runs) -> None:
    runs.write(LIST)
    runs()
    runs.write(LIST.replace("two", "zwei"))
    calls, told = runs("--dry-run", "--max-cost", "0.001")
    assert calls == 0
    assert "job: 3 cases (2 kept from earlier runs), 1 call, " in told
    assert "1 earlier row would be set aside" in told
    assert "more than --max-cost 0.001" in told
    runs.write(LIST + "repeat: 2\n")
    assert "job: 3 cases (6 with repetitions, 3 kept from earlier runs), 3 calls" in runs("--dry-run")[1]


def test_of_many_failures_the_first_hundred_are_told(runs: Runs) -> None:
    runs.write("prompt: '{{ n }}'\ncases: rows.csv\nassert: [{type: equals, value: no}]\n")
    runs.write("n\n" + "".join(f"{n}\n" for n in range(150)), "rows.csv")
    _, told = runs(expect=1)
    assert told.count("FAILED job [") == 100 + 20
    assert "more cases that did not pass are only counted" in told
    assert "and 130 more cases that did not pass" in told
    assert runs("-v", expect=1)[1].count("FAILED job [") == 150 + 20


def test_throttles_for_a_needless_max_tokens_are_told_with_a_figure_that_would_do(runs: Runs, bedrock: Any) -> None:
    runs.write("inference: {max_tokens: 4000}\nprompt: '{{ n }}'\ncases: rows.csv\n")
    runs.write("n\n" + "".join(f"{n}\n" for n in range(30)), "rows.csv")
    _, told = runs(env=bedrock(tokens_per_minute=480_000, burst=1, latency=0.1).env)
    assert "throttled for tokens: each reserves max_tokens of 4,000, and the longest reply of job had" in told
    assert "`max_tokens: 50` would do" in told


def test_too_few_passes_name_the_case(runs: Runs, bedrock: Any) -> None:
    runs.write("prompt: '{{ n }}'\nrepeat: 3\nmin_pass: 2\nassert: [{type: equals, value: good}]\ncases: rows.csv\n")
    runs.write("id,n\na,1\nb,2\n", "rows.csv")
    replies = "- {match: 1, reply: bad, times: 1}\n- {match: 2, reply: bad, times: 2}\n- {match: '', reply: good}\n"
    _, told = runs(env=bedrock(replies).env, expect=1)
    counted = "2 of 3 repetitions failed, 2 must pass"
    assert f"FAILED job [b] (job.yaml:5)  {counted}\n    2 of 3 times: {{type: equals" in told
    assert "FAILED job [b] (job.yaml:5): 2 of 3 failed: got 'bad'; expected output to equal 'good'\n" in told
    assert "job [a]" not in told


def test_an_id_from_a_file_forges_no_line(runs: Runs) -> None:
    runs.write("prompt: '{{ id }}'\nassert: [{type: equals, value: no}]\ncases: rows.jsonl\n")
    runs.write(json.dumps({"id": "a\n::error file=x::forged\nstopped: all passed"}) + "\n", "rows.jsonl")
    _, told = runs(expect=1)
    assert not [line for line in told.splitlines() if line.startswith(("::", "stopped"))]
    assert r"FAILED job [a\n::error file=x::forged" in told


def test_a_file_of_rows_that_changes_during_the_run_stops_it_and_costs_nothing_twice(
    runs: Runs, bedrock: Any, bedrock_run: Any, rows: Rows
) -> None:
    runs.write(FILE)
    names = [f"animal{number}" for number in range(60)]
    runs.write(animals(*names), "rows.csv")
    server = bedrock(latency=0.05)
    with subprocess.Popen(
        [sys.executable, "-m", "runner", "-j", "2", "job.yaml"],
        cwd=runs.folder,
        env={**os.environ, **server.env},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(lambda: len(server.log) > 5 or process.poll() is not None)
        runs.write(animals("new", *names), "new.csv")
        (runs.folder / "new.csv").replace(runs.folder / "rows.csv")
        _, told = process.communicate()
    assert process.returncode == 4
    assert "rows.csv was changed while its rows were read" in told
    assert "Traceback" not in told
    assert bedrock_run("job.yaml", env=server.env).returncode == 0
    assert len(server.log) == 61
    assert [row["vars"]["animal"] for row in rows()] == ["new", *names]
