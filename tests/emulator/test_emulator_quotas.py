"""Quota arithmetic, with a clock that the test turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.emulator.errors import AwsError
from runner.emulator.quotas import Quotas

if TYPE_CHECKING:
    from emulator.conftest import Post, Start


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def allowed(quotas: Quotas, *, key: str = "model", input_tokens: int = 1, max_tokens: int = 1) -> str | None:
    """None when a call may start, and otherwise what throttles it."""
    try:
        quotas.reserve(key, input_tokens=input_tokens, max_tokens=max_tokens)
    except AwsError as error:
        return error.message if (error.code, error.status) == ("ThrottlingException", 429) else str(error)
    return None


def test_requests_start_with_a_minutes_worth_and_come_back_evenly(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=60, tokens_per_minute=None, clock=clock)
    assert [allowed(quotas) for _ in range(60)] == [None] * 60
    assert allowed(quotas) == "Too many requests, please wait before trying again."
    clock.now += 0.99
    assert allowed(quotas) is not None
    clock.now += 0.02
    assert allowed(quotas) is None
    assert allowed(quotas) is not None
    clock.now += 3600
    assert [allowed(quotas) for _ in range(61)].count(None) == 60


def test_a_shorter_burst_holds_less_and_grants_the_same(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=600, tokens_per_minute=None, clock=clock, burst=1)
    assert [allowed(quotas) for _ in range(20)].count(None) == 10
    clock.now += 0.5
    assert [allowed(quotas) for _ in range(20)].count(None) == 5
    clock.now += 3600
    assert [allowed(quotas) for _ in range(20)].count(None) == 10


def test_a_call_larger_than_a_burst_waits_for_a_full_bucket(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=None, tokens_per_minute=6000, clock=clock, burst=1)
    assert allowed(quotas, input_tokens=50, max_tokens=450) is None
    clock.now += 4.9
    assert allowed(quotas, input_tokens=50, max_tokens=450) is not None
    clock.now += 0.2
    assert allowed(quotas, input_tokens=50, max_tokens=450) is None
    assert allowed(quotas, input_tokens=1, max_tokens=6000) is not None


def test_tokens_are_reserved_with_the_whole_of_max_tokens(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=None, tokens_per_minute=1000, clock=clock)
    assert allowed(quotas, input_tokens=100, max_tokens=500) is None
    too_many = "Too many tokens, please wait before trying again."
    assert allowed(quotas, input_tokens=1, max_tokens=400) == too_many
    assert allowed(quotas, input_tokens=0, max_tokens=400) is None


def test_settling_returns_what_was_not_used(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=None, tokens_per_minute=1000, clock=clock)
    reservation = quotas.reserve("model", input_tokens=100, max_tokens=900)
    assert allowed(quotas) is not None
    reservation.settle(input_tokens=100, output_tokens=50, burndown=5)  # 100 + 5 * 50 are used, 650 are left
    assert allowed(quotas, input_tokens=0, max_tokens=651) is not None
    assert allowed(quotas, input_tokens=0, max_tokens=650) is None


def test_burndown_can_cost_more_than_was_reserved(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=None, tokens_per_minute=600, clock=clock)
    quotas.reserve("model", input_tokens=0, max_tokens=600).settle(input_tokens=0, output_tokens=100, burndown=10)
    clock.now += 39  # 400 below zero; 10 come back each second
    assert allowed(quotas, input_tokens=0, max_tokens=1) is not None
    clock.now += 2
    assert allowed(quotas, input_tokens=0, max_tokens=10) is None


def test_a_call_that_came_to_nothing_costs_no_tokens(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=None, tokens_per_minute=1000, clock=clock)
    quotas.reserve("model", input_tokens=100, max_tokens=900).cancel()
    assert allowed(quotas, input_tokens=0, max_tokens=1000) is None


def test_a_throttled_call_takes_nothing(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=2, tokens_per_minute=1000, clock=clock)
    for _ in range(5):
        assert allowed(quotas, max_tokens=5000) is not None
    assert [allowed(quotas) for _ in range(3)].count(None) == 2


def test_keys_do_not_share(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=1, tokens_per_minute=None, clock=clock)
    assert [allowed(quotas, key="a"), allowed(quotas, key="b")] == [None, None]
    assert allowed(quotas, key="a") is not None


def test_less_than_one_request_per_minute_still_comes(clock: Clock) -> None:
    quotas = Quotas(requests_per_minute=0.5, tokens_per_minute=None, clock=clock)
    assert [allowed(quotas), allowed(quotas) is None] == [None, False]
    clock.now += 121
    assert allowed(quotas) is None


def test_over_http_requests_are_throttled_per_model(start: Start, post: Post, ask: Any) -> None:
    url = start(requests_per_minute=3)
    answers = [post(url, ask()) for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert answers[-1].error == "ThrottlingException"
    assert post(url, ask(), model="us.anthropic.claude-3-5-sonnet-20241022-v2:0").status == 200


def test_over_http_an_unset_limit_reserves_the_models_maximum(start: Start, post: Post) -> None:
    url = start(tokens_per_minute=8000)
    unlimited = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
    limited = {**unlimited, "inferenceConfig": {"maxTokens": 100}}
    answer = post(url, unlimited, operation="converse")
    assert (answer.status, answer.document["message"]) == (429, "Too many tokens, please wait before trying again.")
    assert [post(url, limited, operation="converse").status for _ in range(5)] == [200] * 5


def test_over_http_invalid_requests_cost_nothing(start: Start, post: Post, ask: Any) -> None:
    url = start(requests_per_minute=1)
    assert [post(url, ask(typo=1)).status for _ in range(3)] == [400] * 3
    assert post(url, ask()).status == 200


def test_over_http_failed_calls_give_their_tokens_back(start: Start, post: Post, ask: Any) -> None:
    url = start(tokens_per_minute=1100)
    assert [post(url, ask(), emulator="fault=internal").status for _ in range(3)] == [500] * 3
    assert post(url, ask()).status == 200
