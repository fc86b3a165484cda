"""What to write in assertions, as problems with job files say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the value of a type is, where it is no text to look for.
VALUES: Final[Mapping[str, str]] = {
    "equals": "what the whole output must be, a text or a JSON value",
    "regex": "a regular expression, as in `[0-9]{4}`",
    "contains-any": "a list of texts",
    "contains-all": "a list of texts",
    "icontains-any": "a list of texts",
    "icontains-all": "a list of texts",
    "json-path": "a JSONPath, as in `$.items[0].name`, or `{path: $.items[0].name, value: apple}`",
    "word-count": "a number of words, or `{min: 20, max: 100}`",
    "levenshtein": "the text to compare with",
    "rouge-n": "the text to compare with",
    "similar": "the text to compare with",
    "finish-reason": "a stop reason: `stop`, `length`, `content_filter`, `tool_calls`, or Bedrock's own",
    "python": "an expression over `output`, as in `len(output) < 500`, or `checks.py:function`",
    "llm-rubric": "what the judge is to look at, as in `Is polite`",
}
THRESHOLDS: Final[Mapping[str, str]] = {"cost": "US dollars, as in `0.01`"}


# Assertion types of promptfoo that are not here, and what to use in their place.
_RUBRIC: Final = "use `llm-rubric`, and say in `value:` what to look at"
_CODE: Final = "use `python`"
_WORDS: Final = "use `rouge-n`, or `similar` for the meaning"
PROMPTFOO_TYPES: Final[Mapping[str, str]] = {
    "javascript": _CODE,
    "ruby": _CODE,
    "webhook": _CODE,
    "is-xml": "use `python`, as in `value: checks.py:is_xml`",
    "contains-xml": "use `regex`, or `python`",
    "is-html": "use `regex`, or `python`",
    "contains-html": "use `regex`, or `python`",
    "is-sql": "use `python`, as in `value: checks.py:is_sql`",
    "contains-sql": "use `regex`, or `python`",
    "bleu": _WORDS,
    "gleu": _WORDS,
    "meteor": _WORDS,
    "similar:cosine": "use `similar`, which takes the cosine",
    "similar:dot": "use `similar`",
    "similar:euclidean": "use `similar`",
    "factuality": _RUBRIC,
    "model-graded-factuality": _RUBRIC,
    "model-graded-closedqa": _RUBRIC,
    "g-eval": _RUBRIC,
    "answer-relevance": _RUBRIC,
    "context-faithfulness": _RUBRIC,
    "context-recall": _RUBRIC,
    "context-relevance": _RUBRIC,
    "conversation-relevance": _RUBRIC,
    "search-rubric": _RUBRIC,
    "agent-rubric": _RUBRIC,
    "classifier": _RUBRIC,
    "moderation": _RUBRIC,
    "pi": _RUBRIC,
    "select-best": "use `matrix: {model: [ID, ID]}` to see models side by side, and `llm-rubric` to judge them",
    "max-score": "use `matrix: {model: [ID, ID]}` to see models side by side, and `llm-rubric` to judge them",
    "guardrails": "use `finish-reason` with `value: content_filter`",
    "is-valid-function-call": "use `is-json` with a JSON Schema",
    "is-valid-openai-function-call": "use `is-json` with a JSON Schema",
    "is-valid-openai-tools-call": "use `is-json` with a JSON Schema",
    "perplexity": "there is nothing in its place: Bedrock tells no probabilities",
    "perplexity-score": "there is nothing in its place: Bedrock tells no probabilities",
}
