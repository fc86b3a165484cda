"""A suite whose verdicts are known: 50 assertions, each with a reply for which it holds and one for which it does not,
and each turned round with `not-`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

SCHEMA = {"type": "object", "required": ["age"], "properties": {"age": {"type": "integer", "minimum": 0}}}
LONG = "The quick brown fox jumps over the lazy dog and runs away from it. "

# (assertion, a reply for which it holds, a reply for which it does not)
KNOWN: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "equals", "value": "Paris"}, "Paris", "Paris."),
    ({"type": "equals", "value": "{{ capital }}"}, "Vienna", "vienna"),
    ({"type": "equals", "value": {"a": [1, 2]}}, '{"a": [1, 2]}', '{"a": [2, 1]}'),
    ({"type": "equals", "value": "zwölf Boxkämpfer"}, "zwölf Boxkämpfer", "zwolf Boxkampfer"),
    ({"type": "equals", "value": "two\nlines"}, "two\nlines", "two lines"),
    ({"type": "contains", "value": "world"}, "Hello, world!", "Hello, World!"),
    ({"type": "contains", "value": "**2"}, "[x**2 for x in xs]", "[x*2 for x in xs]"),
    ({"type": "contains", "value": "🦊"}, "a 🦊 in the snow", "a fox in the snow"),
    ({"type": "icontains", "value": "WORLD"}, "Hello, world!", "Hello, word!"),
    ({"type": "icontains", "value": "straße"}, "An der STRASSE oder Straße", "An der Gasse"),
    ({"type": "contains-any", "value": ["cat", "dog"]}, "a dog barks", "a bird sings"),
    ({"type": "contains-any", "value": "cat, dog"}, "a cat purrs", "a bird sings"),
    ({"type": "contains-all", "value": ["cat", "dog"]}, "cat and dog", "cat and bird"),
    ({"type": "contains-all", "value": "red, green"}, "green then red", "green then blue"),
    ({"type": "icontains-any", "value": ["CAT", "DOG"]}, "a dog barks", "a bird sings"),
    ({"type": "icontains-all", "value": ["CAT", "DOG"]}, "Cat and dog", "Cat and bird"),
    ({"type": "starts-with", "value": "Yes"}, "Yes, it does.", "It does, yes."),
    ({"type": "ends-with", "value": "."}, "It does.", "It does"),
    ({"type": "regex", "value": r"\d{4}-\d{2}-\d{2}"}, "on 2026-11-22", "on 22 November"),
    ({"type": "regex", "value": "^(yes|no)$"}, "no", "maybe"),
    ({"type": "regex", "value": "(?i)invoice"}, "Your INVOICE", "Your bill"),
    ({"type": "regex", "value": r"(\w)\1"}, "coffee", "tea"),
    ({"type": "is-json"}, '{"a": 1}', "{'a': 1}"),
    ({"type": "is-json"}, "[1, 2]", "[1, 2"),
    ({"type": "is-json", "value": SCHEMA}, '{"age": 4}', '{"age": "4"}'),
    ({"type": "is-json", "value": SCHEMA}, '{"age": 0}', "{}"),
    ({"type": "contains-json"}, 'Here: {"a": 1} is it', "Here: nothing"),
    ({"type": "contains-json", "value": SCHEMA}, 'So: {"age": 4}.', 'So: {"age": -4}.'),
    ({"type": "contains-json", "value": SCHEMA}, '```json\n{"age": 4}\n```', "```json\n{age: 4}\n```"),
    (
        {"type": "json-path", "value": {"path": "$.items[0].name", "value": "a"}},
        '{"items": [{"name": "a"}]}',
        '{"items": []}',
    ),
    ({"type": "json-path", "value": {"path": "$.count", "value": 3}}, '{"count": 3}', '{"count": 4}'),
    ({"type": "json-path", "value": "$.ok"}, '{"ok": false}', '{"no": true}'),
    ({"type": "word-count", "value": 3}, "one two three", "one two"),
    ({"type": "word-count", "value": {"min": 2, "max": 4}}, "one two three", "one two three four five"),
    ({"type": "word-count", "value": {"max": 2}}, "one two", "one two three"),
    ({"type": "levenshtein", "value": "kitten", "threshold": 3}, "sitting", "sitting down"),
    ({"type": "levenshtein", "value": "kitten"}, "mitten", "a bag of mittens"),
    ({"type": "rouge-n", "value": LONG, "threshold": 0.6}, LONG.replace("quick", "fast"), "Nothing alike at all here."),
    ({"type": "latency", "threshold": "1m"}, "quick", ""),
    ({"type": "cost", "threshold": 0.01}, "cheap", ""),
    ({"type": "finish-reason", "value": "stop"}, "done", ""),
    ({"type": "finish-reason", "value": "end_turn"}, "done", ""),
    ({"type": "is-refusal"}, "I'm sorry, but I can't help with that.", "Here is how to do it."),
    ({"type": "python", "value": "len(output) < 10"}, "short", "not quite so short"),
    ({"type": "python", "value": "context['vars']['capital'] in output"}, "It is Vienna.", "It is Rome."),
    ({"type": "python", "value": "checks.py:even"}, "42", "43"),
    (
        {"type": "assert-set", "assert": [{"type": "contains", "value": "a"}, {"type": "contains", "value": "b"}]},
        "ab",
        "a",
    ),
    (
        {
            "type": "assert-set",
            "threshold": 0.5,
            "assert": [{"type": "contains", "value": "a"}, {"type": "contains", "value": "b"}],
        },
        "only b",
        "only c",
    ),
    ({"type": "llm-rubric", "value": "is kind"}, "You did well!", "You fool."),
    (
        {"type": "similar", "value": "the cat sat on the mat", "threshold": 0.7},
        "the cat sat on a mat",
        "stocks fell sharply",
    ),
]

# What can't be told by a reply of the emulator's: there the assertion itself is made one that does not hold.
HARDER: dict[str, dict[str, Any]] = {
    "latency": {"type": "latency", "threshold": "1ms"},
    "cost": {"type": "cost", "threshold": 0.0000001},
    "finish-reason": {"type": "finish-reason", "value": "length"},
}


def write(folder: Path) -> dict[str, str]:
    """Write job.yaml, replies.yaml and checks.py; return the status that each case must get, by id."""
    cases: list[dict[str, Any]] = []
    replies: list[dict[str, Any]] = []
    expected: dict[str, str] = {}
    for number, (assertion, good, bad) in enumerate(KNOWN):
        for holds, reply in ((True, good), (False, bad)):
            for negated in (False, True):
                asserted = assertion if holds or bad else HARDER[assertion["type"]]
                if negated:
                    asserted = {**asserted, "type": f"not-{asserted['type']}"}
                case_id = f"{number:02d}-{asserted['type']}-{'right' if holds else 'wrong'}"
                cases.append({"id": case_id, "vars": {"name": case_id}, "assert": [asserted]})
                slow = {"latency": "30ms"} if assertion["type"] == "latency" else {}
                replies.append({"match": f"^{case_id}$", "reply": reply or good, **slow})
                expected[case_id] = "passed" if holds != negated else "failed"
    replies.append({"match": "You fool", "reply": json.dumps({"reason": "It insults.", "pass": False, "score": 0})})
    job = {
        "model": "anthropic.claude-3-5-sonnet-20241022-v2:0",
        "prompt": "{{ name }}",
        "vars": {"capital": "Vienna"},
        "cases": cases,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job, sort_keys=False, allow_unicode=True))
    (folder / "replies.yaml").write_text(yaml.safe_dump(replies, allow_unicode=True))
    (folder / "checks.py").write_text("def even(output, context):\n    return int(output) % 2 == 0\n")
    return expected
