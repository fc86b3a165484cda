"""Types that measure how like the output is to a text: levenshtein and rouge-n."""

from __future__ import annotations

import re
from collections import Counter
from decimal import ROUND_DOWN, Context
from typing import TYPE_CHECKING, Final

from runner.assertions.kinds import Answer, Fault, Finding, Kind, UnjudgedError, text_of, threshold_of
from runner.assertions.wording import counted, difference, excerpt

if TYPE_CHECKING:
    from runner.records import Assertion

# --- levenshtein -----------------------------------------------------------------------------------------------------

_EDITS: Final = 5  # promptfoo's default
_EXACT: Final = 2_000_000_000  # pairs of characters compared to say how far texts are apart: a tenth of a second
_MOST: Final = 10_000_000_000  # that are compared at all: a second, in which no signal is read


def _levenshtein(assertion: Assertion, answer: Answer) -> Finding:
    """Beyond what is quickly compared, only whether the threshold is kept is found out, not by how much it is not."""
    from rapidfuzz.distance import Levenshtein

    expected, output = text_of(assertion), answer.output
    limit = int(threshold_of(assertion, _EDITS))
    shorter, longer = sorted((len(expected), len(output)))
    exact = shorter * longer <= _EXACT
    if not exact and min(2 * limit + 1, shorter) * longer > _MOST:
        raise UnjudgedError(
            f"two texts of {len(expected):,} and {len(output):,} characters are too long to count edits between them",
            hint="lower the threshold, or use `type: rouge-n`",
        )
    distance = Levenshtein.distance(expected, output, score_cutoff=None if exact else limit)
    holds = distance <= limit
    far = counted(distance, "edit") if exact or holds else f"more than {counted(limit, 'edit')}"
    score = 1 - distance / max(longer, 1) if exact or holds else None
    return Finding(holds, lambda: f"it is {far} away: {difference(expected, output)}", score)


def _expected_edits(assertion: Assertion) -> str:
    limit = int(threshold_of(assertion, _EDITS))
    return f"to be at most {counted(limit, 'edit')} away from {excerpt(text_of(assertion))}"


# --- rouge-n ---------------------------------------------------------------------------------------------------------

_LIKENESS: Final = 0.75  # promptfoo's default
_WORD = re.compile(r"\w+(?:[-.,:/'’]\w+)*|[^\w\s]")  # noqa: RUF001 - or a punctuation mark
_NAMED_WORDS: Final = 8
_TWO_DIGITS: Final = Context(prec=2, rounding=ROUND_DOWN)


def _rouge(assertion: Assertion, answer: Answer) -> Finding:
    """ROUGE-1, as promptfoo's js-rouge has it: the F1 of words, each counted as often as both texts have it."""
    expected, got = _words(text_of(assertion)), _words(answer.output)
    common = (expected & got).total()
    score = 2 * common / (expected.total() + got.total()) if common else 0.0

    def found() -> str:
        missing = list(expected - got)
        told = f"; without {', '.join(map(repr, missing[:_NAMED_WORDS]))}" if missing else ""
        more = f" and {len(missing) - _NAMED_WORDS:,} more" if len(missing) > _NAMED_WORDS else ""
        return f"it has {two_digits(score)}{told}{more}: got {excerpt(answer.output)}"

    return Finding(score >= threshold_of(assertion, _LIKENESS), found, score)


def _words(text: str) -> Counter[str]:
    return Counter(_WORD.findall(text.lower()))


def two_digits(score: float) -> str:
    """The first two that tell something, 0.0094 as 0.0094. Cut, not rounded: 0.749 must not be told as 0.75."""
    return f"{float(_TWO_DIGITS.create_decimal(repr(score))):g}"


def _fault_of_words(assertion: Assertion) -> Fault | None:
    text = text_of(assertion)
    return None if _WORD.search(text) else Fault(f"{excerpt(text)} has no words to compare with")


KINDS = {
    "levenshtein": Kind(check=_levenshtein, expectation=_expected_edits),
    "rouge-n": Kind(
        check=_rouge,
        expectation=lambda assertion: (
            f"to have a ROUGE-1 of at least {threshold_of(assertion, _LIKENESS):g} with {excerpt(text_of(assertion))}"
        ),
        fault=_fault_of_words,
        advice="check the variables in it",
    ),
}
