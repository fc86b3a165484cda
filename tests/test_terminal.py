"""What a person sees: real processes on a real (pseudo) terminal, and without one."""

from __future__ import annotations

import gc
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.cases import loading
from runner.cases.plan import EVERYTHING
from runner.console.terminal import Terminal
from runner.jobs.job import NO_OVERRIDES
from runner.records import Case, Request
from runner.running.summary import Tally

HOSTILE = r"before \e[2J\e[31m\e]0;title\a\r\b after"


def without_colours(seen: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", seen).replace("\r\n", "\n")


def test_a_job_of_one_case_shows_its_conversation(on_terminal: Any, write_job: Any, tmp_path: Path) -> None:
    (tmp_path / "replies.yaml").write_text("- {match: one, reply: uno}\n- {match: two, reply: dos}\n")
    job = write_job("system: Be brief.\nturns: [{user: one}, {user: two}]")
    code, seen = on_terminal("--local", "--replies", "replies.yaml", job)
    assert code == 0
    shown = without_colours(seen)
    order = [
        "System: Be brief.",
        "User: one",
        "Assistant: uno",
        "User: two",
        "Assistant: dos",
        "passed",
        "1 case: 1 passed",
    ]
    positions = [shown.find(text) for text in order]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_a_streamed_reply_is_shown_as_it_comes(on_terminal: Any, write_job: Any) -> None:
    code, seen = on_terminal("--local", write_job("stream: true\nprompt: Where am I?"))
    assert code == 0
    assert 'Assistant: Local emulator, no model was called. You asked: "Where am I?"' in without_colours(seen)


def test_a_reply_that_was_cut_is_shown_again_whole(on_terminal: Any, bedrock: Any, write_job: Any) -> None:
    server = bedrock("- {match: x, fault: no-stop, times: 1}\n- {match: x, reply: the whole reply}\n")
    job = write_job("stream: true\nretry: {max_backoff: 10ms}\nprompt: x")
    code, seen = on_terminal(job, env=server.env)
    assert code == 0
    shown = without_colours(seen)
    assert "incomplete: " in shown
    assert "attempt 2 of 8" in shown
    assert shown.count("Assistant: ") == 2
    assert "Assistant: the whole reply" in shown


@pytest.mark.parametrize("stream", [False, True])
def test_escape_codes_of_a_reply_do_not_reach_the_terminal(
    stream: bool, on_terminal: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text(f'- {{match: x, reply: "{HOSTILE}"}}\n')
    job = write_job(f"stream: {str(stream).lower()}\nprompt: x\nassert: [{{type: equals, value: y}}]")
    code, seen = on_terminal("--local", "--replies", "replies.yaml", job)
    assert code == 1
    assert "before" in seen
    assert "after" in seen
    assert "\x1b[2J" not in seen
    assert "\x1b[31mafter" not in seen
    assert "\x1b]0;" not in seen
    assert "\a" not in seen
    assert "\b" not in seen


def test_many_cases_get_a_bar_and_a_line_for_each_failure(on_terminal: Any, write_job: Any) -> None:
    cases = "".join(f"  - {{id: c{n}, vars: {{n: {n}}}}}\n" for n in range(30))
    job = write_job(
        f"name: many\nprompt: 'Say {{{{ n }}}}'\nassert: [{{type: not-contains, value: Say 7}}]\ncases:\n{cases}"
    )
    code, seen = on_terminal("--local", job)
    shown = without_colours(seen)
    assert code == 1
    assert "30/30" in shown
    assert shown.count("FAILED many [c7] (job.yaml:4)\n    {type: not-contains") == 1
    assert "30 cases: 29 passed, 1 failed" in shown


def test_jobs_are_shown_one_after_another_though_they_run_together(
    on_terminal: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text("- {match: slow, reply: a slow answer, latency: 300ms}\n")
    first = write_job("turns: [{user: slow one}, {user: slow two}]", "first.yaml")
    second = write_job("prompt: quick", "second.yaml")
    code, seen = on_terminal("--local", "--replies", "replies.yaml", first, second)
    shown = without_colours(seen)
    assert code == 0
    assert shown.index("User: slow two") < shown.index("second · ") < shown.index("User: quick")


def test_what_went_wrong_behind_the_job_in_front_is_told_in_its_turn_once_and_not_for_ever(
    on_terminal: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text("- {match: slow, reply: a slow answer, latency: 1500ms}\n")
    first = write_job("prompt: slow", "first.yaml")
    cases = "".join(f"  - {{id: c{n}}}\n" for n in range(130))
    second = write_job(f"prompt: quick\nassert: [{{type: equals, value: x}}]\ncases:\n{cases}", "second.yaml")
    code, seen = on_terminal("--local", "--replies", "replies.yaml", first, second)
    shown = without_colours(seen)
    assert code == 1
    assert shown.index("a slow answer") < shown.index("FAILED second [c")
    assert shown.count("FAILED second [c") == 100 + 20
    assert shown.count("more cases that did not pass are only counted") == 1
    assert "131 cases: 1 passed, 130 failed" in shown


def test_a_job_that_is_not_in_front_keeps_neither_replies_nor_retries(write_job: Any) -> None:
    cases = "".join(f"  - {{id: c{n}}}\n" for n in range(200))
    jobs = [write_job(f"prompt: x\ncases:\n{cases}", f"{name}.yaml") for name in ("front", "behind")]
    lists = loading.load(jobs, overrides=NO_OVERRIDES, selection=EVERYTHING, allow_dirs=())
    tallies = {each.job.name: SimpleNamespace(tally=Tally(cases=200)) for each in lists}
    terminal = Terminal([each.job for each in lists], cast("Any", SimpleNamespace(jobs=tallies)), verbose=False)
    said = "what the model said"
    reply, notice = [said], ["what is tried again"]  # lists, since their holders can be asked for
    failed = {"type": "regex", "passed": False, "line": 4, "reason": "no", "expected": "yes", "actual": "no"}
    row = {
        "status": "failed",
        "error": None,
        "output": said,
        "replies": [reply],
        "repeat": 0,
        "repeats": 1,
        "assertions": [{**failed, "value": "y", "threshold": None}],
        "source": {"path": "job.yaml", "line": 1, "row": None},
    }
    job = lists[1].job
    for number in range(200):
        case = Case(job=job, id=f"c{number}", index=number, key="", vars={}, request=Request(), assertions=())
        terminal.retrying(case, cast("Any", notice))
        terminal.finished(case, cast("Any", dict(row)))
    before = len(gc.get_referrers(reply)), len(gc.get_referrers(notice))
    del terminal
    gc.collect()
    assert before == (len(gc.get_referrers(reply)), len(gc.get_referrers(notice))), "the terminal held none of them"


def test_no_color_counts(on_terminal: Any, write_job: Any) -> None:
    _, coloured = on_terminal("--local", write_job("prompt: x"))
    _, plain = on_terminal("--local", write_job("prompt: x"), env={"NO_COLOR": "1"})
    colours = re.compile(r"\x1b\[[0-9;]*3[0-7][;m]")
    assert colours.search(coloured)
    assert not colours.search(plain)
    _, problem = on_terminal("validate", write_job("promt: x"), env={"NO_COLOR": "1"})
    assert "\x1b" not in problem


def test_without_a_terminal_there_are_no_control_codes(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    (tmp_path / "replies.yaml").write_text(f'- {{match: x, reply: "{HOSTILE}"}}\n')
    job = write_job("prompt: x\nassert: [{type: equals, value: y}]")
    done = bedrock_run("--local", "--replies", "replies.yaml", "-v", job)
    assert done.returncode == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.stderr + done.stdout)
    assert done.stderr.splitlines()[:3] == [
        "FAILED job (job.yaml:3)",
        '    {type: equals, value: "y"}',
        "    expected: output to equal 'y'",
    ]
    assert done.stderr.splitlines()[3].startswith("    actual:   got 'before ")


def test_quiet_says_only_what_failed(bedrock_run: Any, write_job: Any) -> None:
    assert bedrock_run("--local", "-q", write_job("prompt: x")).stderr == ""
    done = bedrock_run("--local", "-q", write_job("prompt: x\nassert: [{type: equals, value: y}]"))
    assert done.stderr.startswith("FAILED job (")
    assert len(done.stderr.splitlines()) == 1


REPEATED = """
    name: tone
    prompt: "{{ n }}"
    repeat: 3
    min_pass: 2
    cases: [{id: nice, vars: {n: nice}}, {id: rude, vars: {n: rude}}]
    assert: [{type: equals, value: "yes"}]
    """
MOODS = "- {match: nice, reply: ['yes', 'no', 'yes']}\n- {match: rude, reply: no}\n- {match: sad, reply: no}\n"


def test_a_case_that_is_repeated_is_told_of_once(
    bedrock_run: Any, on_terminal: Any, write_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "replies.yaml").write_text(MOODS)
    arguments = ("--local", "--fresh", "--replies", "replies.yaml", write_job(REPEATED))
    block = (
        "FAILED tone [rude] (job.yaml:8)  3 of 3 repetitions failed, 2 must pass\n"
        '    3 of 3 times: {type: equals, value: "yes"}\n'
    )
    counted = "2 cases (6 with repetitions): 1 passed, 1 failed"
    for told in (bedrock_run(*arguments).stderr, without_colours(on_terminal(*arguments)[1])):
        assert told.count(block) == 1
        assert told.count("FAILED") == 2, "a block, and a line at the end"
        assert "[nice]" not in told
        assert "no call got to" not in told
        assert counted in told
    for told in (bedrock_run(*arguments, "-v").stderr, without_colours(on_terminal(*arguments, "-v")[1])):
        assert told.count("passed tone [nice]: 2 of 3 repetitions\n") == 1
        assert told.count("note: replies.yaml:3: no call got to the entry `match: sad`\n") == 1


def test_what_is_known_of_a_case_is_told_when_the_run_stops_before_its_end(
    bedrock_run: Any, bedrock: Any, write_job: Any
) -> None:
    server = bedrock("- {match: rude, reply: no}\n- {match: nice, reply: 'yes'}\n")
    done = bedrock_run("-j", "1", "--max-failures", "1", "--json", write_job(REPEATED), env=server.env)
    assert done.returncode == 4
    block = (
        "ERROR  tone [rude] (job.yaml:8)  1 of 3 repetitions failed, 2 not run, 2 must pass\n    1 of 1 times: {type"
    )
    assert done.stderr.count(block) == 1
    assert "2 cases (6 with repetitions): 1 passed, 1 error" in done.stderr
    assert "2 repetitions were not reached" in done.stderr
    total = json.loads(done.stdout)["total"]
    counts = {name: count for name, count in total.items() if name.endswith("_cases")}
    assert counts == {"passed_cases": 1, "failed_cases": 0, "error_cases": 1, "cut_cases": 1, "unreached_cases": 0}
    assert (total["cases"], total["passed"], total["failed"], total["pending"]) == (6, 3, 1, 2)


def test_verdicts_of_the_emulator_in_place_of_a_judge_are_told(bedrock_run: Any, write_job: Any, bedrock: Any) -> None:
    job = write_job(
        """
        prompt: x
        cases: [{}, {}]
        assert:
          - {type: assert-set, assert: [{type: llm-rubric, value: good}, {type: regex, value: .}]}
          - {type: llm-rubric, value: bad}
        """
    )
    note = "note: 4 verdicts of judges are the local emulator's: as --replies scripts them, and otherwise a pass"
    assert note in bedrock_run("--local", job).stderr
    assert note in bedrock_run("--replay", job).stderr
    judge = '- {match: "good|bad", reply: "{\\"pass\\": true, \\"score\\": 1, \\"reason\\": \\"r\\"}"}\n'
    assert "local emulator's" not in bedrock_run(job, env=bedrock(judge).env).stderr


def test_a_cost_that_is_not_known_names_the_models_without_a_price(bedrock_run: Any, write_job: Any) -> None:
    judge = "{type: llm-rubric, value: good, model: cohere.command-r-v1:0}"
    job = write_job(f"model: amazon.nova-lite-v1:0\nprompt: x\nassert: [{judge}]")
    told = bedrock_run("--local", job).stderr
    some = r"would cost about \$0\.\d+ \+ unknown on Bedrock \(nothing was billed; no price for cohere\.command-r-v1:0 "
    assert re.search(some, told)
    told = bedrock_run("--local", "--fresh", "--model", "anthropic.claude-3-haiku-20240307-v1:0", job).stderr
    models = "anthropic.claude-3-haiku-20240307-v1:0, cohere.command-r-v1:0"
    assert f"; cost not known: no price for {models} (--prices FILE gives one)\n" in told


def test_a_dumb_terminal_gets_plain_lines(on_terminal: Any, write_job: Any) -> None:
    code, seen = on_terminal("--local", write_job("prompt: x"), env={"TERM": "dumb"})
    assert code == 0
    assert "\x1b" not in seen
    assert "1 case: 1 passed" in seen


WITH_A_TERMINAL_OF_ITS_OWN = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that it gets SIGHUP
runpy.run_module("runner", run_name="__main__")
"""


def test_a_terminal_that_is_closed_stops_the_run(bedrock: Any, write_job: Any, tmp_path: Path) -> None:
    server = bedrock("", latency=0.2)
    cases = "".join(f"  - vars: {{n: {n}}}\n" for n in range(200))
    job = write_job(f"prompt: '{{{{ n }}}}'\ncases:\n{cases}")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", WITH_A_TERMINAL_OF_ITS_OWN, str(job)],
        cwd=tmp_path,
        env={**os.environ, **server.env, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    while len(server.log) < 10:
        os.read(ours, 65536)
    os.close(ours)
    assert process.wait(timeout=60) == 129
    assert len(server.log) < 100
    assert (tmp_path / "outputs" / "job.jsonl").exists()


# --- variants side by side, and the list at the end ------------------------------------------------------------------

MATRIX = """
    name: tutor
    matrix: {model: [amazon.nova-lite-v1:0, anthropic.claude-3-5-sonnet-20241022-v2:0], tone: [dry, warm]}
    prompt: "case {{ n }}. {{ tone }}"
    cases: [{vars: {n: 1}}, {vars: {n: 2}}]
    assert: [{type: not-regex, value: "2[.] warm"}]
    thresholds: {pass_rate: "> 0.9"}
    """
LABEL = "model=anthropic.claude-3-5-sonnet-20241022-v2:0, tone=warm"


def summary_of(seen: str) -> list[str]:
    shown = without_colours(seen).splitlines()
    return shown[next(number for number, line in enumerate(shown) if line.startswith("8 cases:")) :]


def test_the_variants_of_a_matrix_stand_side_by_side(on_terminal: Any, write_job: Any) -> None:
    code, seen = on_terminal("--local", write_job(MATRIX), columns=120)
    assert code == 1
    shown = summary_of(seen)
    start = shown.index("tutor, by variant:")
    heads = shown[start + 1].split()
    assert heads == ["variant", "passed", "failed", "errors", "cost", "tokens", "p50", "p95"]
    for line, passed, failed in zip(shown[start + 2 : start + 6], (2, 1, 2, 1), (0, 1, 0, 1), strict=True):
        assert line.startswith("  model=")
        assert line.split()[2:5] == [str(passed), str(failed), "0"]
        assert len(line) == len(shown[start + 1]) <= 120


def test_on_a_narrow_terminal_each_variant_has_two_lines(on_terminal: Any, write_job: Any) -> None:
    _, seen = on_terminal("--local", write_job(MATRIX), columns=80)
    shown = summary_of(seen)
    start = shown.index(f"  {LABEL}")
    assert shown[start + 1].split()[:3] == ["1", "1", "0"]
    assert all(len(line) <= 80 for line in shown if not line.startswith("8 calls"))


def test_without_a_terminal_the_table_is_as_wide_as_it_must_be(bedrock_run: Any, write_job: Any) -> None:
    shown = bedrock_run("--local", write_job(MATRIX)).stderr
    assert re.search(rf"^  {re.escape(LABEL)} +1 +1 +0 ", shown, flags=re.MULTILINE)


def test_of_many_variants_the_first_are_shown(bedrock_run: Any, write_job: Any) -> None:
    values = list(range(30))
    shown = bedrock_run("--local", write_job(f"prompt: '{{{{ n }}}}'\nmatrix: {{n: {values}}}")).stderr
    assert shown.count("\n  n=") == 20
    assert "  and 10 more, which --json has and the reports" in shown


def test_thresholds_are_shown_with_what_was_wanted_and_found(on_terminal: Any, write_job: Any) -> None:
    _, seen = on_terminal("--local", write_job(MATRIX))
    assert "  BROKEN  pass_rate > 0.9  is 75% (6 of 8 cases) (job.yaml:7)" in summary_of(seen)
    assert re.search(r"\x1b\[1;31m  BROKEN", seen)


def test_at_the_end_each_case_that_did_not_pass_has_a_line(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    cases = ", ".join(f"{{id: c{n}, vars: {{n: {n}}}}}" for n in range(30))
    job = write_job(f"prompt: 'case {{{{ n }}}}.'\ncases: [{cases}]\nassert: [{{type: equals, value: good}}]")
    refused = "{match: 'case 4[.]', status: 400, error: ValidationException, message: no}"
    server = bedrock(f"- {refused}\n- {{match: '', reply: bad}}\n")
    lines = bedrock_run(job, env=server.env).stderr.splitlines()
    ends = lines[next(number for number, line in enumerate(lines) if line.startswith("30 cases:")) :]
    listed = [line for line in ends if line.startswith(("FAILED", "ERROR"))]
    shown = ["c4", *(f"c{n}" for n in range(20) if n != 4)]
    assert [line.split("[")[1].split("]")[0] for line in listed] == shown, "errors come first"
    assert listed[4] == "FAILED job [c3] (job.yaml:4): got 'bad'; expected output to equal 'good'"
    assert listed[0] == "ERROR  job [c4]: invalid: ValidationException: no"
    assert "and 10 more cases that did not pass" in ends


def test_of_one_case_nothing_is_told_twice(bedrock_run: Any, write_job: Any) -> None:
    done = bedrock_run("--local", write_job("prompt: x\nassert: [{type: equals, value: y}]"))
    assert done.stderr.count("FAILED") == 1


def test_in_github_actions_no_reply_is_a_workflow_command(bedrock_run: Any, write_job: Any, tmp_path: Path) -> None:
    reply = r"x\n::error file=a::forged\r::add-mask::b ##[error]forged ::warning::c"
    (tmp_path / "replies.yaml").write_text(f'- {{match: x, reply: "{reply}"}}\n- {{match: y, fault: internal}}\n')
    job = write_job(
        "prompt: x\ncases: [{}, {}]\nassert: [{type: equals, value: y}, {type: not-contains, value: error}]"
    )
    done = bedrock_run("--local", "--replies", "replies.yaml", job, env={"GITHUB_ACTIONS": "true"})
    assert done.returncode == 1
    assert "##[" not in done.stdout + done.stderr
    lines = done.stderr.replace("\r", "\n").splitlines()
    commands = [line for line in lines if re.match(r"\s*::", line)]
    assert all(line.startswith("::error file=job.yaml,line=4,title=") for line in commands), "annotations of our own"
    assert r"got 'x\n::error file=a::forged" in done.stderr
