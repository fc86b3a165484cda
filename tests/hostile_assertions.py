"""What a hostile job or reply holds, for test_assertions_hostile.py, and a process of little memory to judge it in.

Run as a program it judges everything, and prints a line of JSON for each: its name, and what became of it.
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

SCHEMA_2019 = "https://json-schema.org/draft/2019-09/schema"
SCHEMA_2020 = "https://json-schema.org/draft/2020-12/schema"
DRAFT_7 = "http://json-schema.org/draft-07/schema#"
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
EVIL = "^(a|aa)+$"
SIZE = 100_000

# A value of each type that says nothing of an output, and so is judged by it alone.
TYPES: dict[str, Any] = {
    "equals": {"a": [1, 2.5, True, None, "x"]},
    "contains": "x",
    "icontains": "X",
    "contains-any": ["x", "y"],
    "contains-all": "x, y",
    "icontains-any": "X, Y",
    "icontains-all": ["X", "Y"],
    "starts-with": "x",
    "ends-with": "x",
    "regex": "(?:x|y)*[zq]",
    "is-json": {
        "items": {"type": ["string", "number"], "multipleOf": 0.1, "minimum": 3, "format": "regex"},
        "uniqueItems": True,
        "unevaluatedItems": False,
        "properties": {"a": {"pattern": "^x", "enum": [1, 1e308, "x"]}},
        "additionalProperties": {"const": 10**400},
    },
    "contains-json": {"not": {"minItems": 10}, "contains": {"exclusiveMaximum": 1e300}},
    "json-path": {"path": "$..*[?@ > 1 || search(@, 'x+') || @.a == $[0]]", "value": "1e999"},
    "word-count": {"min": 1, "max": "3"},
    "levenshtein": "x y",
    "rouge-n": "x y",
    "latency": None,
    "first-token-latency": None,
    "cost": None,
    "finish-reason": "stop",
    "is-refusal": None,
    "similar": "x",
    "llm-rubric": "x",
    "python": "len(output) < 10",
}

OUTPUTS = {
    "empty": "",
    "NaN": "[NaN, Infinity, -Infinity]",
    "beyond a double": "[1e999, -1e999, 1e-999]",
    "400 digits": "9" * 400,
    "4300 digits": f"[{'9' * 4300}]",
    "more digits than Python reads": f'{{"a": {"9" * 5000}}}',
    "a fraction of many digits": f"[0.{'9' * SIZE}]",
    "duplicate keys": '{"a": 1, "a": [2], "a": "x"}',
    "lone surrogates": '"\ud800" ["\\udfff", {"\\ud800": 1}]',
    "NUL": '["\\u0000", "\0"]',
    "a text that looks like JSON": json.dumps("[{"),
    "deep": "[" * 900 + "]" * 900,
    "deeper than Python": "[" * SIZE + "]" * SIZE,
    "unclosed": '{"a":' * (SIZE // 5),
    "wide": f"[{','.join(['[]'] * (SIZE // 3))}]",
    "values in a row": "[1]" * (SIZE // 3),
    "long keys": json.dumps({"k" * SIZE: [[]] * SIZE}),
    "numbers of one hash": json.dumps([n * (2**61 - 1) for n in range(20_000)]),
    "words": "x " * (SIZE // 2),
    "one word": "x" * SIZE,
    "apologies": "sorry, i am " * (SIZE // 12),
    "a pattern that explodes": json.dumps(["(?:(?:(?:x{1000}){1000}){1000})"]),
    "a long pattern": json.dumps(["(a|b)?" * (SIZE // 6)]),
    "bidirectional": "\u202e\u2066" * (SIZE // 2),
}


def _alike(keyword: str, *, schema: str = SCHEMA_2020) -> dict[str, Any]:
    """A schema whose branches go the same way down, and differ at the end."""
    branches = [
        {"properties": {"op": {"enum": [name]}, "arg": {"$ref": "#/definitions/e"}}, "required": ["op", "arg"]}
        for name in ("add", "neg")
    ]
    return {
        "$schema": schema,
        "$ref": "#/definitions/e",
        "definitions": {"e": {keyword: [{"type": "number"}, *branches]}},
    }


def _chain(link: Any, **others: Any) -> dict[str, Any]:
    """A schema of 40 links, each of which applies the next one twice."""
    links = {f"d{n}": link({"$ref": f"#/$defs/d{n + 1}"}) for n in range(40)}
    return {"anyOf": [{"$ref": "#/$defs/d0"}], "$defs": {**links, "d40": True}, **others}


def _nested(link: Any, depth: int) -> Any:
    return {"type": "string"} if depth == 0 else link(_nested(link, depth - 1))


OPERATIONS = '{"op":"x","arg":' * 26 + "1" + "}" * 26
ARGUMENTS = '{"arg":' * 60 + "1" + "}" * 60

# (type, value, output), each of which takes hours, or gigabytes, if nobody looks at the clock.
BOMBS: dict[str, tuple[str, Any, str]] = {
    "oneOf": ("is-json", _alike("oneOf"), OPERATIONS),
    "anyOf": ("is-json", _alike("anyOf"), OPERATIONS),
    "oneOf of draft 4": ("is-json", _alike("oneOf", schema=DRAFT_4), OPERATIONS),
    "oneOf in any value": ("contains-json", _alike("oneOf"), OPERATIONS),
    "allOf": ("is-json", _chain(lambda to: {"allOf": [to, to]}), "{}"),
    "if": ("is-json", _chain(lambda to: {"if": to, "then": to}), "{}"),
    "not": ("is-json", _chain(lambda to: {"not": {"anyOf": [{"not": to}, {"not": to}]}}), "{}"),
    "prefixItems": ("is-json", {"prefixItems": [{"$ref": "#"}], "items": {"$ref": "#"}, "contains": {"$ref": "#"}},
                    "[" * 90 + "1" + "]" * 90),
    "dependentSchemas": ("is-json", _chain(lambda to: {"dependentSchemas": {"a": to, "b": to}}), '{"a": 1, "b": 1}'),
    "unevaluatedProperties": ("is-json", _chain(lambda to: {"allOf": [to, to]}, unevaluatedProperties=False), "{}"),
    "unevaluatedItems": ("is-json", _chain(lambda to: {"allOf": [to, to]}, unevaluatedItems=False), "[1]"),
    "$dynamicRef": ("is-json", {"$dynamicAnchor": "n", "properties": {"arg": {"allOf": [{"$dynamicRef": "#n"}] * 2}}},
                    ARGUMENTS),
    "$recursiveRef": ("is-json", {"$schema": SCHEMA_2019, "$recursiveAnchor": True,
                                  "properties": {"arg": {"allOf": [{"$recursiveRef": "#"}] * 2}}}, ARGUMENTS),
    "a schema of schemas": ("is-json", {"$ref": DRAFT_7},
                            json.dumps({"allOf": [{"properties": {str(n): {}}} for n in range(SIZE // 2)]})),
    "a schema that says nothing": ("is-json", {"items": {"title": "x"}}, f"[{','.join('1' * SIZE * 5)}]"),
    "contains among many": ("is-json", {"contains": {"enum": [[n] for n in range(1500)]}, "minContains": 10**9},
                            json.dumps([["x"]] * SIZE)),
    "a pattern behind $schema": ("is-json", {"$defs": {"enum": {"$schema": DRAFT_7, "pattern": EVIL}},
                                             "$ref": "#/$defs/enum"}, json.dumps("a" * 60 + "b")),
    "a pattern in data": ("is-json", {"const": {"$schema": DRAFT_7, "pattern": EVIL}, "anyOf": [{"$ref": "#/const"}]},
                          json.dumps("a" * 60 + "b")),
    "values in a row": ("contains-json", {"type": "object"}, "[1]" * SIZE * 3),
    "wildcards": ("json-path", "$" + "[*,*]" * 40, "[" * 60 + "]" * 60),
    "descendants": ("json-path", "$..*..*..*..*..*..x", "[" * 90 + "]" * 90),
    "descendants in filters": ("json-path", "$[?count($..*) == count(@..*)]", json.dumps([[1] * 100] * 3000)),
    "a wide filter": ("json-path", "$[?@.a == 1]", f"[{','.join(['{}'] * SIZE * 3)}]"),
    "patterns of a reply": ("json-path", "$[?search(@.a, @.b)]",
                            json.dumps([{"a": "x", "b": f"(a{n}|b)?" * 2000} for n in range(20)])),
    "a pattern": ("regex", EVIL, "a" * 60 + "b"),
    "a pattern of large bounds": ("regex", "(?:(?:x{0,1000000}){0,1000000}){0,1000000}[yz]", "x" * SIZE),
    "many texts": ("contains-any", [f"x{n}y" for n in range(SIZE)], "x" * SIZE * 10),
}  # fmt: skip

_WIDE = "(?:(?:(?:x{1000}){1000}){1000})"

# What cannot be used, which is told before anything is sent.
REFUSED: dict[str, tuple[str, Any]] = {
    "repeats": ("regex", f"(?:{_WIDE}{{1000}})"),
    "repeats at least": ("regex", _WIDE.replace("}", ",}")),
    "repeats of what may be nothing": ("regex", "(?:(?:(?:x{1000}|){1000}|){1000})"),
    "repeats of what has no width": ("regex", "(?:(?:(?=x){1000}){1000}){1000}"),
    "repeats with blanks and remarks": ("regex", "(?x)(?: (?:x {1000} )# )\n {1000} # \\\n)\n) {1000}"),
    "repeats with blanks in a group": ("regex", "(?x:(?:(?:x{1000})#)\n{1000})#)\n{1000})"),
    "repeats after sets": ("regex", "(?:(?:x{1000}[[:alpha:](]){1000}[)[:alpha:]]){1000}"),
    "a repeat": ("regex", "x{4000000000}"),
    "a repeat beyond Python's": ("regex", f"x{{{'9' * 5000}}}"),
    "a long pattern": ("regex", "x" * SIZE),
    "repeats in a schema": ("is-json", {"pattern": _WIDE}),
    "repeats in the names of a schema": ("is-json", {"patternProperties": {_WIDE: {}}}),
    "a deep pattern": ("regex", "(" * 5000 + ")" * 5000),
    "a large schema": ("is-json", {"anyOf": [{"const": n} for n in range(SIZE)]}),
    "branches without references": ("is-json", _nested(lambda part: {"if": part, "then": part}, 12)),
    "a deep schema": ("is-json", '{"not":' * 900 + "{}" + "}" * 900),
    "a schema deeper than Python": ("is-json", "[" * SIZE),
    "a $schema that is no text": ("is-json", {"$schema": {"a": 1}}),
    "an $id that is no address": ("is-json", {"$id": "http://[::1"}),
    "a $ref that is no text": ("is-json", {"$ref": 5}),
    "patternProperties in data": ("is-json", {"properties": {"enum": {"unevaluatedProperties": False,
                                                                      "patternProperties": {EVIL: {}}}}}),
    "an infinite number in a path": ("json-path", "$[?@.a == 1e999]"),
    "an index of many digits": ("json-path", f"$[{'9' * 5000}]"),
    "a slice of many digits": ("json-path", f"$[0:{'9' * 5000}]"),
    "a deep path": ("json-path", "$[?" + "(" * 5000 + "@.a"),
    "words of many digits": ("word-count", "9" * 5000),
    "more words than there are": ("word-count", {"min": "9" * 4000}),
    "fewer words than none": ("word-count", "-1"),
    "an unclosed quote": ("contains-any", '"a",' * (SIZE // 4) + '"'),
    "NUL in code": ("python", "\0"),
    "code of many digits": ("python", "9" * 5000),
    "deep code": ("python", "-" * SIZE + "1"),
    "long code": ("python", "1" + "+1" * SIZE),
}  # fmt: skip

# Schemas that are none where a reference leads; the values of types are data that nobody checks before.
ODD: dict[str, tuple[str, Any, str]] = {
    "a reference to no schema": ("is-json", {"const": {"properties": 5}, "anyOf": [{"$ref": "#/const"}]}, "{}"),
    "a reference to no type": ("is-json", {"const": {"type": "text"}, "anyOf": [{"$ref": "#/const"}]}, "{}"),
    "a reference to no reference": ("is-json", {"const": {"$ref": 5}, "anyOf": [{"$ref": "#/const"}]}, "{}"),
    "a reference to a list": ("is-json", {"const": [1], "anyOf": [{"$ref": "#/const"}]}, "{}"),
    "a reference to a pattern": ("is-json", {"const": {"pattern": _WIDE}, "anyOf": [{"$ref": "#/const"}]}, '"x"'),
    "a reference to itself": ("is-json", {"$dynamicAnchor": "a", "$dynamicRef": "#a"}, "{}"),
    "many unlike values": ("is-json", {"$schema": DRAFT_4, "enum": [*range(SIZE), *map(str, range(SIZE))]}, "1"),
    "a number too large to divide": ("is-json", {"multipleOf": 0.1}, "9" * 4000),
    "code that returns a large number": ("python", "10**400", ""),
    "code that grades with a large number": ("python", "{'pass': True, 'score': 10**400}", ""),
    "code that recurses": ("python", "def f(): return f()\nreturn f()", ""),
    "code that fails to fail": ("python", "class E(Exception):\n  def __str__(self): 1 / 0\nraise E", ""),
    "code that cannot be shown": ("python", "class R(dict):\n  def __repr__(self): 1 / 0\nreturn R()", ""),
    "code that raises what is no Exception": ("python", "raise BaseException('x')", ""),
    "a text too long to search": ("regex", "x", "y" * 3_000_000),
}


def main() -> None:
    """Judge everything: within 4 GB, of which some may be shared libraries, and a minute of the processor's time."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    from runner.assertions import time_limit

    setattr(time_limit, "SECONDS", 0.05)  # noqa: B010 - a constant elsewhere; so dozens of bombs take seconds
    for kind, value in TYPES.items():
        for name, output in OUTPUTS.items():
            _tell(f"{kind}: {name}", kind, value, output)
            _tell(f"not-{kind}: {name}", f"not-{kind}", value, output)
    for name, bomb in {**BOMBS, **ODD}.items():
        _tell(name, *bomb)
    for name, (kind, value) in REFUSED.items():
        _tell(f"refused: {name}", kind, value, "x")


def _tell(name: str, kind: str, value: Any, output: str) -> None:
    try:
        outcome = _judged(kind, value, output)
    except BaseException:
        outcome = traceback.format_exc()[-1000:]
    print(json.dumps({"name": name, "outcome": outcome[:1000], "length": len(outcome)}), flush=True)


def _judged(kind: str, value: Any, output: str) -> str:
    """As the program does: what has a problem is never evaluated."""
    from runner.assertions import Answer, UnjudgedError, evaluate, fault_of
    from runner.errors import Place
    from runner.records import Assertion

    assertion = Assertion(
        type=kind.removeprefix("not-"),
        place=Place("job.yaml", 7, 5),
        negated=kind.startswith("not-"),
        value=value,
        threshold=1.0,
    )
    fault = fault_of(assertion)
    if fault is not None:
        return f"refused: {fault.message}"
    try:
        return f"judged: {evaluate(assertion, Answer(output=output, stop_reason='end_turn'))['reason']}"
    except UnjudgedError as error:
        return f"unjudged: {error.message}"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
