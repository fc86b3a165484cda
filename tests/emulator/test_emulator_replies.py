"""Scripted replies, and what is said about files that are wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from runner.emulator import Settings, SettingsError, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.conftest import Post, Start


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "replies.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def say(start: Start, post: Post, ask: Any, script: Any) -> Any:
    """Start an emulator with this script, and get a function from a question to the reply's text or its error."""

    def emulator(text: str) -> Callable[..., Any]:
        url = start(replies=script(text))

        def reply(question: Any, **options: Any) -> Any:
            body = ask(question) if isinstance(question, str) else ask(messages=question)
            answer = post(url, body, **options)
            return answer.document["content"][0]["text"] if answer.status == 200 else (answer.status, answer.error)

        return reply

    return emulator


def test_the_first_match_wins_and_others_get_the_local_model(say: Any) -> None:
    reply = say("""
        - match: h[ae]iku
          reply: An old silent pond
        - match: haiku
          reply: never
        - {match: "^Exactly$", reply: 42}
    """)
    assert reply("Write a haiku") == "An old silent pond"
    assert reply("Exactly") == "42"
    assert reply("Not Exactly").startswith("Local emulator, no model was called.")


def test_replies_may_be_json(say: Any) -> None:
    reply = say(json.dumps([{"match": "joke", "reply": "\U0001f600"}]))
    assert reply("a joke") == "\U0001f600"


def test_lists_rotate(say: Any) -> None:
    reply = say("- {match: weather, reply: [Sunny., Rainy.]}")
    assert [reply("weather?") for _ in range(3)] == ["Sunny.", "Rainy.", "Sunny."]


def test_times_throttle_twice_then_answer(say: Any) -> None:
    reply = say("""
        - match: .*
          times: 2
          fault: throttle
        - match: .*
          reply: at last
    """)
    assert [reply("x") for _ in range(3)] == [(429, "ThrottlingException")] * 2 + ["at last"]


def test_model_and_turn(say: Any) -> None:
    reply = say("""
        - {match: ., model: "us.*", reply: from a profile}
        - {match: ., turn: 2, reply: second}
    """)
    assert reply("x", model="us.anthropic.claude-3-5-sonnet-20241022-v2:0") == "from a profile"
    two = [{"role": role, "content": "x"} for role in ("user", "assistant", "user")]
    assert reply(two) == "second"
    assert reply("x").startswith("Local emulator")


def test_any_error_of_aws(say: Any) -> None:
    reply = say("""
        - match: quota
          error: ServiceQuotaExceededException
          message: Enough.
        - match: odd
          error: SomethingNew
          status: 418
    """)
    assert reply("quota") == (400, "ServiceQuotaExceededException")
    assert reply("odd") == (418, "SomethingNew")


def test_stop_reason_and_latency(start: Start, post: Post, ask: Any, script: Any) -> None:
    url = start(replies=script("- {match: ., stop_reason: refusal, latency: 0.01}"))
    answer = post(url, ask())
    assert answer.document["stop_reason"] == "refusal"
    assert answer.document["content"][0]["text"].startswith("Local emulator")
    assert int(answer.headers["x-amzn-bedrock-invocation-latency"]) >= 10


def test_scripted_replies_keep_to_max_tokens_and_stop_sequences(
    start: Start, post: Post, ask: Any, script: Any
) -> None:
    url = start(replies=script("- {match: ., reply: one two three four}"))
    cut = post(url, ask(max_tokens=2)).document
    assert (cut["content"][0]["text"], cut["stop_reason"]) == ("one two ", "max_tokens")
    stopped = post(url, ask(stop_sequences=["four", "three"])).document
    assert stopped["content"][0]["text"] == "one two "
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "three")


def test_the_header_outranks_the_script(say: Any) -> None:
    reply = say("- {match: ., fault: throttle}")
    assert reply("x", emulator="fault=internal") == (500, "InternalServerException")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("match: x", ":1: a replies file is a list of entries"),
        ("", ":1: a replies file is a list of entries"),
        ("- x", ":1: an entry has keys"),
        ("- reply: x", ":1: match is missing"),
        ("- match: x", ":1: nothing to do: give one of reply, fault"),
        ("- match: a\n  reply: b\n- match: (\n  reply: b", ":3: match: not a regular expression"),
        ("- match: a\n  replay: b", ":2: unknown key replay: did you mean reply?"),
        (
            "- match: a\n  delay: 3s",
            ":2: unknown key delay: known: error, fault, latency, match, message, model",
        ),
        ("- match: a\n  reply:\n", ":2: reply: must be text"),
        ("- match: a\n  reply: []", ":2: reply: the list is empty"),
        ("- match: a\n  reply: {a: b}", ":2: reply: must be text"),
        ("- match: a\n  reply: b\n  reply: c", ":3: reply is given twice"),
        ("- match: a\n  fault: throtle", ":2: fault: unknown fault 'throtle': did you mean throttle?"),
        ("- match: a\n  reply: b\n  times: 0", ":3: times: must be a whole number from 1, not '0'"),
        ("- match: a\n  error: b\n  status: 200", ":3: status: must be a whole number from 400 to 599, not '200'"),
        ("- match: a\n  reply: b\n  latency: soon", ":3: latency: must be a time, as in 300ms or 2s, not 'soon'"),
        ("- match: a\n  reply: b\n  status: 500", ":1: status and message need error"),
        ("- match: [a", ":1: "),
        ("- match: a\n  reply: 'b", ":2: "),
        ("[" * 5000, ": nested too deeply"),
        ("- match: \x00", ":1: "),
    ],
)
def test_wrong_files(script: Any, text: str, problem: str) -> None:
    path = script(text)
    with pytest.raises(SettingsError) as caught, running(Settings(replies=path)):
        pass
    assert str(caught.value).startswith(f"{path}{problem}")
    assert "\n" not in str(caught.value)


def test_entries_that_no_call_got_to_are_told_when_serving_ends(post: Post, ask: Any, script: Any) -> None:
    path = script("- {match: haiku, reply: pond}\n- {match: haiku, reply: never}\n- match: tanka\n  reply: never\n")
    told: list[str] = []
    with running(Settings(replies=path, unused=told.append)) as url:
        post(url, ask("a haiku"))
        assert told == []
    assert told == [
        f"{path}:2: no call got to the entry `match: haiku`",
        f"{path}:3: no call got to the entry `match: tanka`",
    ]


def test_all_problems_at_once(script: Any) -> None:
    path = script("- match: a\n  replay: b\n- reply: c\n")
    with pytest.raises(SettingsError) as caught, running(Settings(replies=path)):
        pass
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"{path}:2", f"{path}:3"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    with pytest.raises(SettingsError, match=r"none\.yaml: No such file"), running(Settings(replies=missing)):
        pass
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"- match: \xe9")
    with pytest.raises(SettingsError, match="not UTF-8"), running(Settings(replies=latin)):
        pass


def test_a_throttled_call_uses_up_no_entry(start: Start, post: Post, ask: Any, script: Any) -> None:
    url = start(replies=script("- {match: x, reply: [one, two]}\n"), tokens_per_minute=1000)
    assert post(url, ask("x", max_tokens=900)).document["content"][0]["text"] == "one"
    assert post(url, ask("x", max_tokens=5000)).status == 429
    assert post(url, ask("x", max_tokens=10)).document["content"][0]["text"] == "two"


def test_the_name_of_an_error_must_fit_a_header(script: Any) -> None:
    with (
        pytest.raises(SettingsError, match="AWS's name for an error"),
        running(Settings(replies=script('- {match: a, error: "a\\nb"}\n'))),
    ):
        pass
