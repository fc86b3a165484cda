"""Thresholds judge a whole job: how they are written, what they compare with, and what they decide."""

from __future__ import annotations

import json
import random
import re
from itertools import product
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runner import schema, thresholds
from runner.errors import Place
from runner.records import Usage
from runner.records.figures import Distribution, Figures

PLACE = Place("job.yaml", 4, 3)
NAMES = list(schema.load("job")["$defs"]["thresholds"]["properties"])


def parsed(name: str, text: object) -> Any:
    return thresholds.parse(name, text, PLACE)


def verdict(name: str, text: str, **figures: Any) -> thresholds.ThresholdVerdict:
    return thresholds.judge(parsed(name, text), Figures(**figures))


def latencies(*milliseconds: int) -> Distribution:
    made = Distribution()
    for each in milliseconds:
        made.add(each)
    return made


# --- how they are written --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "comparison", "limit"),
    [
        ("pass_rate", ">= 0.95", ">=", 0.95),
        ("pass_rate", ">=95%", ">=", 0.95),
        ("error_rate", "< 0.7 %", "<", 0.007),
        ("p95_latency", "< 8s", "<", 8),
        ("p99_latency", "<= 9ms", "<=", 0.009),
        ("p50_first_token_latency", "< 1.5m", "<", 90),
        ("cost", "< 5", "<", 5),
        ("cost", "< $5.50", "<", 5.5),
        ("output_tokens", "== 100", "==", 100),
        ("input_tokens", "> 0", ">", 0),
    ],
)
def test_what_is_written_is_what_is_wanted(name: str, text: str, comparison: str, limit: float) -> None:
    threshold = parsed(name, text)
    assert (threshold.comparison, threshold.limit, threshold.place) == (comparison, limit, PLACE)


def test_the_schema_and_the_parser_take_the_same_texts() -> None:
    chance = random.Random(4)
    pieces = ["<", "<=", ">", ">=", "==", "=", "=>", " ", "", "0", "95", "0.95", "8", "5.", ".5", "1" * 10]
    pieces += ["%", "s", "ms", "m", "h", "$", "USD", "x", "\n", "-"]
    validators = {
        name: Draft202012Validator(child)
        for name, child in schema.load("job")["$defs"]["thresholds"]["properties"].items()
    }
    right = 0
    for _ in range(20_000):
        text = "".join(chance.choices(pieces, k=chance.randint(1, 4)))
        for name, validator in validators.items():
            fits = validator.is_valid(text) and not text.endswith("\n")  # where Python's `$` matches
            assert fits == (parsed(name, text) is not None), (name, text)
            right += fits
    assert right > 1000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    [None, "", 5, 0.95, True, [], {}, "5", "=> 5", "≥ 5", "< five", "< 5 apples", "< 1,000", "<<< 5", "x" * 999],
)
def test_what_is_wrong_is_said_with_something_right_to_write(name: str, value: Any) -> None:
    if parsed(name, value) is None:
        message, hint = thresholds.explain(name, value)
        assert f"`thresholds.{name}`" in message
        assert len(message) < 120
        (right,) = re.findall(r'`"(.*?)"`', hint)
        assert parsed(name, right) is not None


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("pass_rate", "> 1", "can never hold"),
        ("pass_rate", "> 100%", "can never hold"),
        ("pass_rate", ">= 95", "can never hold"),
        ("pass_rate", "== 2", "can never hold"),
        ("pass_rate", "< 0", "can never hold"),
        ("pass_rate", ">= 0", "always holds"),
        ("error_rate", "<= 1", "always holds"),
        ("p95_latency", "< 0s", "can never hold"),
        ("cost", ">= 0", "always holds"),
        ("cost", "< 0", "can never hold"),
        ("pass_rate", ">= 100%", None),
        ("pass_rate", "== 100%", None),
        ("pass_rate", "== 0", None),
        ("error_rate", "<= 0", None),
        ("cost", "<= 0", None),
        ("p95_latency", "> 0s", None),
    ],
)
def test_one_that_decides_nothing_is_refused(name: str, text: str, says: str | None) -> None:
    wrong = thresholds.futile(parsed(name, text))
    if says is None:
        assert wrong is None
    else:
        assert wrong is not None
        assert says in wrong[0]
        (right,) = re.findall(r'`"(.*?)"`', wrong[1])
        assert thresholds.futile(parsed(name, right)) is None


@pytest.mark.parametrize(
    ("name", "text", "write"),
    [
        ("error_rate", "< 1", "< 1%"),
        ("error_rate", "< 1.0", "< 1%"),
        ("error_rate", "== 1", "== 1%"),
        ("pass_rate", ">= 1", ">= 100%"),
        ("pass_rate", "== 1", "== 100%"),
        ("pass_rate", ">= 0.999", None),
        ("error_rate", "< 1%", None),
        ("cost", "< 1", None),
        ("p95_latency", "< 1s", None),
    ],
)
def test_a_plain_1_is_no_share(name: str, text: str, write: str | None) -> None:
    wrong = thresholds.ambiguous(parsed(name, text))
    assert (wrong and re.findall(r'`"(.*?)"`', wrong[1])) == ([write] if write else None)


@pytest.mark.parametrize("name", NAMES)
def test_every_hint_is_right_when_it_is_followed(name: str) -> None:
    """Whatever is written: what the hint says to write is refused by nothing, the other reading that it names too."""
    operators = ["", "=", "=>", "≥", "~", *thresholds._COMPARISONS]
    amounts = [
        "0",
        "0.5",
        "1",
        "1.0",
        "1%",
        "1 in all",
        "5",
        "95",
        "100",
        "100%",
        "101",
        "950",
        "5s",
        "9999",
        "five",
        "",
    ]
    values: list[Any] = [*map(" ".join, product(operators, amounts)), 0, 1, 1.0, 95, None, True, []]
    for value in values:
        hint = advice_on(name, value)
        for right in [*re.findall(r'`"(.*?)"`', hint or ""), *re.findall(r"if (\S+) is meant", hint or "")]:
            followed = right if right[0] in "<>=" else f">= {right}"
            assert advice_on(name, followed) is None, (value, hint)


def advice_on(name: str, value: Any) -> str | None:
    threshold = parsed(name, value)
    if threshold is None:
        return thresholds.explain(name, value)[1]
    refused = thresholds.futile(threshold) or thresholds.ambiguous(threshold)
    return refused[1] if refused else None


@pytest.mark.parametrize(
    ("name", "value", "write"),
    [
        ("pass_rate", 1, ">= 100%"),
        ("error_rate", 1, "< 1%"),
        ("pass_rate", 95, ">= 95%"),
        ("pass_rate", "> 100", ">= 0.95"),
        ("error_rate", "< 2.5", "< 2.5%"),
    ],
)
def test_a_hint_says_what_was_likely_meant(name: str, value: Any, write: str) -> None:
    assert f'`"{write}"`' in (advice_on(name, value) or "")


@pytest.mark.parametrize(
    ("text", "write"),
    [("< 1 percent", "< 1%"), ("< 0.5 percent", "< 0.5%"), ("< 1 pct", "< 1%"), ("< 5 in all", "< 5%"), (0.95, "0.95")],
)
def test_a_share_in_words_is_a_percentage(text: Any, write: str) -> None:
    _, hint = thresholds.explain("error_rate", text)
    assert f'{write}"`' in hint


# --- what they compare with ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_percentiles_are_by_nearest_rank(seed: int) -> None:
    chance = random.Random(seed)
    times = [chance.choice([chance.randint(0, 20), chance.randint(0, 60_000)]) for _ in range(chance.randint(1, 300))]
    found = latencies(*times)
    for percent in (50, 95, 99):
        least = min(time for time in times if sum(other <= time for other in times) * 100 >= percent * len(times))
        assert found.percentile(percent) == least
    assert Distribution().percentile(50) is None


@pytest.mark.parametrize(
    ("name", "text", "figures", "found", "held"),
    [
        ("pass_rate", ">= 0.95", {"passed": 19, "failed": 1}, "95% (19 of 20 cases)", True),
        ("pass_rate", "> 0.95", {"passed": 19, "failed": 1}, "95% (19 of 20 cases)", False),
        ("pass_rate", ">= 95%", {"passed": 94999, "failed": 5001}, "95% (94,999 of 100,000 cases)", False),
        ("pass_rate", ">= 0.95", {"passed": 19, "errors": 1}, "95% (19 of 20 cases)", True),
        ("error_rate", "< 0.7%", {"passed": 993, "errors": 7}, "0.7% (7 of 1,000 cases)", False),
        ("error_rate", "<= 0.7%", {"passed": 993, "errors": 7}, "0.7% (7 of 1,000 cases)", True),
        ("p95_latency", "< 8s", {"latencies": latencies(9310)}, "9.31s", False),
        ("p50_latency", "< 9ms", {"latencies": latencies(9)}, "9ms", False),
        ("p99_latency", "<= 8s", {"latencies": latencies(8000)}, "8s", True),
        ("p95_first_token_latency", "< 2s", {"first_tokens": latencies(150)}, "150ms", True),
        ("p95_first_token_latency", "< 2s", {}, "not known: no reply was streamed (`stream: true`)", False),
        ("p95_latency", "< 2s", {}, "not known: there is no reply", False),
        ("cost", "< 5", {"cost_usd": 5.0003}, "$5.0003", False),
        ("cost", "<= 0.3", {"cost_usd": 0.1 + 0.2}, "$0.30", True),
        ("cost", "< 5", {}, "$0.00", True),
        ("cost", "< 5", {"unpriced": 2}, "not known: no price for 2 replies (--prices FILE gives one)", False),
        ("cost_per_case", "< $0.01", {"passed": 10, "cost_usd": 0.2}, "$0.02", False),
        ("cost_per_case", "< 1", {}, "not known: there is no case", False),
        ("input_tokens", "< 100000", {"usage": Usage(input_tokens=123456)}, "123,456", False),
        ("output_tokens", "< 100", {"uncounted": 1}, "not known: the service counted no tokens of 1 reply", False),
    ],
)
def test_verdicts(name: str, text: str, figures: dict[str, Any], found: str, held: bool) -> None:
    judged = verdict(name, text, **figures)
    assert (judged.found, judged.held) == (found, held)
    assert (judged.name, judged.wanted, judged.path, judged.line) == (name, text, "job.yaml", 4)


# --- what they decide ------------------------------------------------------------------------------------------------

JOB = """
    prompt: Say {n}
    cases: [{cases}]
    assert: [{{type: not-contains, value: Say 7}}]
    thresholds: {{{thresholds}}}
    """


def job(thresholds: str, *, cases: int = 50) -> str:
    listed = ", ".join(f"{{vars: {{n: {number}}}}}" for number in range(cases))
    return JOB.format(n="'{{ n }}.'".strip("'"), cases=listed, thresholds=thresholds)


def summary_of(done: Any) -> Any:
    return json.loads(done.stdout)["jobs"][0]


def test_a_pass_rate_decides_about_failed_cases(bedrock_run: Any, write_job: Any) -> None:
    assert bedrock_run("--local", write_job(job('cost: "< 5"'))).returncode == 1
    done = bedrock_run("--local", "--json", write_job(job('pass_rate: ">= 0.95"')))
    assert done.returncode == 0, done.stderr
    assert "note: 1 case of job failed, no more than its pass_rate allows; the run has passed\n" in done.stderr
    assert "\nallowed job [" in done.stderr
    assert "held    pass_rate >= 0.95  is 98% (49 of 50 cases)" in done.stderr
    assert "FAILED job [8]" in done.stderr
    assert (summary_of(done)["kept"], summary_of(done)["failed_case_ids"]) == (50, ["8"])  # kept ones count too
    quiet = bedrock_run("--local", "-q", write_job(job('pass_rate: ">= 0.95"'))).stderr
    assert quiet.startswith("allowed job [8] (job.yaml:")
    assert "FAILED" not in quiet
    done = bedrock_run("--local", "--json", write_job(job('pass_rate: "> 99%"')))
    assert done.returncode == 1
    assert "BROKEN  pass_rate > 99%  is 98% (49 of 50 cases) (job.yaml:6)" in done.stderr
    assert summary_of(done)["thresholds"] == [
        {
            "name": "pass_rate",
            "wanted": "> 99%",
            "found": "98% (49 of 50 cases)",
            "held": False,
            "path": "job.yaml",
            "line": 6,
        }
    ]


def test_a_broken_threshold_fails_a_job_whose_cases_passed(bedrock_run: Any, write_job: Any) -> None:
    assert bedrock_run("--local", write_job("prompt: x")).returncode == 0  # the row is kept, and was not streamed
    thresholds = 'p95_latency: "<= 0s", cost: "< 5", p50_first_token_latency: "< 9s"'
    done = bedrock_run("--local", "-q", write_job(f"prompt: x\nthresholds: {{{thresholds}}}\nstream: true"))
    assert done.returncode == 1
    latency, first_token = done.stderr.splitlines()
    assert re.fullmatch(r"BROKEN job \(job.yaml:3\): p95_latency is \d+ms, wanted <= 0s", latency)
    assert first_token.endswith(
        "p50_first_token_latency is not known: no reply was streamed (`stream: true`), wanted < 9s"
    )


def test_errors_outrank_thresholds(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    server = bedrock("- {match: 'Say 3[.]', status: 400, error: ValidationException, message: no}\n")
    done = bedrock_run(write_job(job('error_rate: "< 50%"')), env=server.env)
    assert done.returncode == 3
    assert "held    error_rate < 50%  is 2% (1 of 50 cases)\n" in done.stderr


def test_where_cases_are_missing_nothing_is_judged(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    server = bedrock("- {match: '', reply: Say 7}\n")
    path = write_job(job('cost: "<= 0"'))
    done = bedrock_run("-j", "1", "--max-failures", "2", "--json", path, env=server.env)
    assert done.returncode == 4
    assert re.search(r"note: the thresholds of job were not judged: \d+ cases were not reached", done.stderr)
    assert "BROKEN" not in done.stderr
    assert summary_of(done)["thresholds"] is None


def test_of_chosen_cases_they_judge_those(bedrock_run: Any, write_job: Any) -> None:
    path = write_job(job('pass_rate: ">= 0.95"'))
    done = bedrock_run("--local", "--filter", "8", path)
    assert done.returncode == 1
    assert "BROKEN  pass_rate >= 0.95  is 0% (0 of 1 case)" in done.stderr
    assert "note: the thresholds of job were judged by the cases that were chosen alone" in done.stderr
    assert bedrock_run("--local", "--limit", "5", path).returncode == 0


def test_an_unknown_price_breaks_a_threshold_of_cost(bedrock_run: Any, write_job: Any) -> None:
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef123456"
    done = bedrock_run("--local", write_job(f'model: {profile}\nprompt: x\nthresholds: {{cost: "< 5"}}'))
    assert done.returncode == 1, done.stderr
    assert "BROKEN  cost < 5  is not known: no price for 1 reply (--prices FILE gives one)" in done.stderr
    done = bedrock_run("--local", write_job('prompt: x\nthresholds: {cost: "< 5"}'))
    assert done.returncode == 0


def test_a_pass_rate_counts_cases_not_repetitions(bedrock_run: Any, bedrock: Any, write_job: Any) -> None:
    path = write_job(
        """
        prompt: "{{ n }}"
        repeat: 3
        min_pass: 2
        cases: [{vars: {n: once}}, {vars: {n: twice}}]
        assert: [{type: equals, value: good}]
        thresholds: {pass_rate: ">= 50%"}
        """
    )
    replies = (
        "- {match: once, reply: bad, times: 1}\n- {match: twice, reply: bad, times: 2}\n- {match: '', reply: good}\n"
    )
    done = bedrock_run("--json", path, env=bedrock(replies).env)
    assert done.returncode == 0, done.stderr
    assert "is 50% (1 of 2 cases)" in done.stderr
    assert summary_of(done)["failed"] == 3
    assert summary_of(done)["failed_cases"] == 1
