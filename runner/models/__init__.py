"""What is known of models: prices and what they refuse. Facts of a date, kept in models.json beside this file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import source
from runner.errors import Problem, UsageError
from runner.models import model_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.records import Usage

_HIGHEST_PRICE = 1_000_000  # USD; infinities and what is no number are beyond any bound
_PRICE_KEYS = ("input", "output", "cache_read", "cache_write")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens. Cache prices are None where the model has none; the input price then serves."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> float:
        """The price of `usage` in USD."""
        cache_read = self.input if self.cache_read is None else self.cache_read
        cache_write = self.input if self.cache_write is None else self.cache_write
        micro_usd = (
            usage.input_tokens * self.input
            + usage.output_tokens * self.output
            + usage.cache_read_tokens * cache_read
            + usage.cache_write_tokens * cache_write
        )
        return micro_usd / 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """One model under one id. Requests with more than `long_context_above` input tokens cost `long_context` instead.

    `refuses` may hold `sampling` (temperature, top_p, top_k) and `prefill` (an assistant message at the end), `takes`
    `json_schema` (structured output).
    `burndown` is how many tokens of the quota a token of output takes; it changes no price.
    """

    price: Price
    long_context: Price | None = None
    long_context_above: int = 0
    refuses: frozenset[str] = frozenset()
    takes: frozenset[str] = frozenset()
    burndown: int = 1

    def cost(self, usage: Usage) -> float:
        """What one call that used `usage` costs, in USD."""
        context = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        if self.long_context is not None and context > self.long_context_above:
            return self.long_context.of(usage)
        return self.price.of(usage)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a model shrinks images to before it looks: `edge` pixels on the longest side, and `tokens` at most."""

    edge: int
    tokens: int


class Models:
    """The models that are known, by model id or inference profile id."""

    def __init__(self, facts: Mapping[str, ModelFacts]) -> None:
        self._facts = facts

    def find(self, model: str) -> ModelFacts | None:
        """The facts of a model id, an inference profile id or an ARN that ends in one; None if it is not known."""
        return self._facts.get(model) or self._facts.get(model_ids.of_arn(model))

    def cost(self, model: str, usage: Usage | None) -> float | None:
        """USD for one call; None, not 0, where the price or the usage is not known."""
        facts = self.find(model)
        return None if facts is None or usage is None else facts.cost(usage)

    def with_prices(self, path: Path) -> Models:
        """These models with the prices of a YAML or JSON file, `{model id: {input: USD, output: USD, ...}}`.

        Prices are USD per million tokens. Raises UsageError with every problem of the file.
        """
        document = source.read(path)
        problems = list(document.problems)
        facts = dict(self._facts)
        for model, prices in document.data.items():
            problem = _price_problem(prices)
            if problem is not None:
                problems.append(Problem(problem, document.place([model]), _PRICE_HINT))
            else:
                price = Price(**prices)
                known = facts.get(model, ModelFacts(price=price))
                facts[model] = replace(known, price=price, long_context=None)  # what else is known stays true
        if problems:
            raise UsageError(*problems)
        return Models(facts)


_PRICE_HINT = "prices are USD per million tokens, as in `my.model-v1: {input: 3, output: 15, cache_read: 0.3}`"


def _price_problem(prices: Any) -> str | None:
    if not isinstance(prices, dict):
        return "the price of a model must be a mapping with `input` and `output`"
    unknown = [key for key in prices if key not in _PRICE_KEYS]
    if unknown:
        return f"unknown key `{unknown[0]}` in a price"
    missing = [key for key in ("input", "output") if key not in prices]
    if missing:
        return f"the price has no `{missing[0]}`"
    for key, value in prices.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _HIGHEST_PRICE:
            return f"`{key}` must be a number of USD from 0 to {_HIGHEST_PRICE:,}"
    return None


def load(prices: Path | None = None) -> Models:
    """The table that comes with the package, and the prices of a file over it. Raises UsageError as `with_prices`."""
    return _packaged() if prices is None else _packaged().with_prices(prices)


@cache
def _packaged() -> Models:
    return Models({model: _facts(entry) for model, entry in _table()["models"].items()})


def as_of() -> str:
    """The date of the packaged table, ISO 8601."""
    return str(_table()["as_of"])


@cache
def image_facts(model: str) -> ImageFacts | None:
    """What becomes of images that a model is shown, whatever its version or geography; None if it is not known."""
    name, families = model_ids.bare(model), _table()["images"]
    family = max((start for start in families if name.startswith(start)), key=len, default=None)
    return ImageFacts(**families[family]) if family else None


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(Path(__file__).with_name("models.json").read_text(encoding="utf-8"))
    return table


def _facts(entry: dict[str, Any]) -> ModelFacts:
    price = Price(**{key: entry[key] for key in _PRICE_KEYS if key in entry})
    long = entry.get("long_context")
    return ModelFacts(
        price=price,
        long_context=Price(
            input=long["input"],
            output=long["output"],
            cache_read=price.cache_read,
            cache_write=price.cache_write,
        )
        if long
        else None,
        long_context_above=long["above_input_tokens"] if long else 0,
        refuses=frozenset(entry.get("refuses", ())),
        takes=frozenset(entry.get("takes", ())),
        burndown=entry.get("burndown", 1),
    )
