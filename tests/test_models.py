"""Prices: what calls cost, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import models
from runner.errors import UsageError
from runner.models import model_ids
from runner.records import Usage

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def test_cost_counts_every_kind_of_token() -> None:
    usage = Usage(input_tokens=1000, output_tokens=100, cache_read_tokens=2000, cache_write_tokens=400)
    expected = (1000 * 3.3 + 100 * 16.5 + 2000 * 0.33 + 400 * 4.125) / 1_000_000
    assert models.load().cost(SONNET, usage) == pytest.approx(expected)


def test_a_long_context_costs_more() -> None:
    usage = Usage(input_tokens=200_001, output_tokens=10)
    assert models.load().cost(SONNET, usage) == pytest.approx((200_001 * 6.6 + 10 * 24.75) / 1_000_000)


def test_geography_decides_the_price() -> None:
    usage = Usage(input_tokens=1_000_000)
    known = models.load()
    assert known.cost(f"global{SONNET.removeprefix('us')}", usage) == pytest.approx(6.0)
    assert known.cost(SONNET, usage) == pytest.approx(6.6)


def test_an_arn_that_ends_in_an_id_is_known_and_an_opaque_one_is_not() -> None:
    known, usage = models.load(), Usage(input_tokens=1000)
    assert known.cost(f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{SONNET}", usage) is not None
    opaque = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123"
    assert known.cost(opaque, usage) is None


def test_an_unknown_model_or_usage_has_no_cost_rather_than_0() -> None:
    assert models.load().cost("acme.model-v1", Usage(input_tokens=5)) is None
    assert models.load().cost(SONNET, None) is None


def test_prices_of_a_file_go_first(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(f"acme.model-v1: {{input: 1, output: 2.5}}\n{SONNET}: {{input: 0, output: 0}}\n")
    known = models.load(path)
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000)
    assert known.cost("acme.model-v1", usage) == pytest.approx(3.5)
    assert known.cost(SONNET, usage) == 0.0
    assert models.load().cost("acme.model-v1", usage) is None


def test_every_wrong_price_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(
        "a: 3\nb: {input: 1}\nc: {input: 1, output: -2}\nd: {input: 1, output: 2, cached: 3}\n"
        f"e: {{input: .nan, output: 1}}\nf: {{input: 1, output: .inf}}\ng: {{input: 1, output: 1{'0' * 400}}}\n"
        "h: {input: 1, output: true}\n"
    )
    with pytest.raises(UsageError) as caught:
        models.load(path)
    problems = caught.value.problems
    assert [problem.place.line for problem in problems if problem.place] == [*range(1, 9)]
    assert "`output`" in problems[1].message
    assert "`cached`" in problems[3].message
    assert all(problem.hint for problem in problems)


@pytest.mark.parametrize(
    ("model", "burndown"),
    [
        ("us.anthropic.claude-opus-4-8", 15),
        ("anthropic.claude-opus-5-5", 10),
        ("global.anthropic.claude-sonnet-5", 10),
        ("eu.anthropic.claude-3-7-sonnet-20250219-v1:0", 5),
        (SONNET, 5),
        ("anthropic.claude-opus-4-7", 5),
        ("anthropic.claude-sonnet-5-5", 1),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", 1),
        ("amazon.nova-pro-v1:0", 1),
    ],
)
def test_how_many_tokens_of_a_quota_a_token_of_output_takes(model: str, burndown: int, tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(f"{model}: {{input: 1, output: 2}}\n")
    for known in (models.load(), models.load(path)):
        facts = known.find(model)
        assert facts is not None
        assert facts.burndown == burndown


def test_the_table_has_a_date() -> None:
    assert models.as_of() == "2026-11-22"


# --- ids -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic"),
        ("us-gov.anthropic.claude-x", "anthropic"),
        ("ca.anthropic.claude-x", "anthropic"),
        ("global.amazon.nova-2-lite-v1:0", "amazon"),
        ("xai.grok-4.6", "xai"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-8b-instruct-v1:0", "meta"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-x", "anthropic"),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc", None),
        ("arn:aws:bedrock:us-east-1:1:custom-model/anthropic.x/a1b2c3d4e5f6", None),
        ("arn:aws:bedrock:us-east-1:1:default-prompt-router/anthropic.claude:1", None),
        ("arn:aws:sagemaker:us-east-1:1:endpoint/a.b", None),
        ("my-imported-model", None),
        ("us.anthropic", None),
        ("anthropic.", None),
        ("", None),
    ],
)
def test_who_made_a_model(model: str, provider: str | None) -> None:
    assert model_ids.provider(model) == provider


@pytest.mark.parametrize(
    ("model", "region", "profiles"),
    [
        ("x.unknown-v1:0", "us-west-2", ["us.x.unknown-v1:0", "global.x.unknown-v1:0"]),
        ("x.unknown", "eu-central-1", ["eu.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-northeast-1", ["jp.x.unknown", "apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-southeast-2", ["au.x.unknown", "apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "ap-southeast-1", ["apac.x.unknown", "global.x.unknown"]),
        ("x.unknown", "us-gov-west-1", ["us-gov.x.unknown", "global.x.unknown"]),
        ("x.unknown", "sa-east-1", ["global.x.unknown"]),
        ("arn:aws:bedrock:us-east-1::foundation-model/x.unknown", "us-east-1", ["us.x.unknown", "global.x.unknown"]),
        ("us.x.unknown", "eu-west-1", ["eu.x.unknown", "global.x.unknown"]),
    ],
)
def test_inference_profiles_by_region(model: str, region: str, profiles: list[str]) -> None:
    assert model_ids.inference_profiles(model, region) == profiles


def test_a_price_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        models.load(tmp_path / "prices.yaml")
    (problem,) = caught.value.problems
    assert "job" not in f"{problem.message} {problem.hint}"


def test_an_own_price_changes_nothing_else_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("anthropic.claude-opus-4-7: {input: 1, output: 2}\n")
    ours, theirs = models.load(path).find("anthropic.claude-opus-4-7"), models.load().find("anthropic.claude-opus-4-7")
    assert ours is not None
    assert theirs is not None
    assert ours.price.output == 2
    assert (ours.refuses, ours.burndown) == (theirs.refuses, theirs.burndown)
    assert ours.refuses


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "edge", "tokens"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1568, 1568),
        ("us.anthropic.claude-opus-4-20250514-v1:0", 1568, 1568),
        ("global.anthropic.claude-opus-4-6-v1", 1568, 1568),
        ("anthropic.claude-sonnet-4-6", 1568, 1568),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-haiku-4-5-x", 1568, 1568),
        ("us.anthropic.claude-opus-4-7", 2576, 4784),
        ("anthropic.claude-sonnet-5", 2576, 4784),
        ("anthropic.claude-one-that-is-not-known-yet", 2576, 4784),
    ],
)
def test_what_a_model_shrinks_images_to(model: str, edge: int, tokens: int) -> None:
    assert models.image_facts(model) == models.ImageFacts(edge, tokens)


def test_of_other_models_it_is_not_known() -> None:
    assert models.image_facts("amazon.nova-lite-v1:0") is None
    assert models.image_facts("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc") is None
