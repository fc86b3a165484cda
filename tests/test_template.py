from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import Place, Problem, UsageError
from runner.records import Text
from runner.templates import values as template_values
from runner.templates.environment import Templates, is_name, is_template
from runner.templates.values import MAX_CHARACTERS

if TYPE_CHECKING:
    from pathlib import Path

VARIABLES: dict[str, Any] = {
    "topic": "lists",
    "code": "{{ topic }} {% raw",
    "count": 3,
    "half": 0.5,
    "flag": True,
    "nothing": None,
    "row": {"name": "x", "deep": {"a": [1, None, True, "ä"]}},
    "shadow": {"items": "own"},
    "names": ["a", "b"],
    "long": "x" * 1000,
}


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    return Templates(tmp_path)


def text(value: str, source: str = "prompt: ...") -> Text:
    return Text(value, Place("job.yaml", 7, 9, source))


def render(templates: Templates, value: str, **more: object) -> str:
    return templates.render(text(value), VARIABLES | more)


def refusal(templates: Templates, value: str, source: str = "prompt: ...") -> Problem:
    with pytest.raises(UsageError) as caught:
        templates.render(text(value, source), VARIABLES)
    (problem,) = caught.value.problems
    assert problem.place is not None
    assert problem.hint
    return problem


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain { text } 100%", "plain { text } 100%"),
        ("{{ topic }}", "lists"),
        ("{{ topic }}\n", "lists\n"),
        ("{{ code }}", "{{ topic }} {% raw"),  # data is never rendered
        ("{{ count }} {{ half }} {{ flag }} {{ not flag }}", "3 0.5 true false"),
        ("{{ names }} {{ row.deep }}", '["a", "b"] {"a": [1, null, true, "ä"]}'),
        ("{{ '<b>' | tojson }}", '"<b>"'),
        ("{{ names | tojson(indent=1) }}", '[\n "a",\n "b"\n]'),
        ("{{ flag ~ ' ' ~ names }}", 'true ["a", "b"]'),
        ("{{ [flag, 1] | join(', ') }}", "true, 1"),
        ("{{ [row] | join(', ', attribute='name') }}", "x"),
        ("{{ names | map('upper') | join }}", "AB"),
        ("{{ flag | upper }}", "TRUE"),
        ("{{ shadow.items }} {{ shadow['items'] }}", "own own"),
        ("{% for k, v in row.items() if k == 'name' %}{{ k }}={{ v }}{% endfor %}", "name=x"),
        ("{% for n in names %}{{ loop.index }}{{ loop.cycle('x', 'y') }}{% endfor %}", "1x2y"),
        ("{{ typo | default('d') }}{% if typo is defined %}no{% endif %}", "d"),
        ("{{ nothing | default('d', true) }}", "d"),
        ("{% if nothing %}no{% endif %}", ""),
        ("{{ 'a' if false }}", ""),
        ("{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(1) }}", "[1]"),
        ("{% set x %}a{{ topic }}{% endset %}{{ x }}", "alists"),
        ("{{ topic.upper() }} {{ 'a,b'.split(',') }}", 'LISTS ["a", "b"]'),
        ("{{ '%s of %d' % (topic, 5000000) }} {{ '{}'.format(5000000) }}", "lists of 5000000 5000000"),
        ("{{ 'ab' * 2 }}{{ 2 ** 3 }}{{ 5000000 }}", "abab85000000"),
    ],
)
def test_what_templates_write(template: str, expected: str, templates: Templates) -> None:
    assert templates.check(text(template)) == []
    assert render(templates, template) == expected


def test_text_filters(templates: Templates) -> None:
    assert (
        render(templates, "{{ topic | replace('l', 'L') | center(9) }}|{{ 'a\nb' | indent(2) }}") == "  Lists  |a\n  b"
    )


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{{ typo }}", ["typo"]),
        ("{{ one }} {{ [two] }} {{ {'a': three} }} {{ four ~ 'x' }}", ["one", "two", "three", "four"]),
        ("{{ [[typo]] }}", ["typo"]),
        ("{{ [typo] | string }}", ["typo"]),
        ("{{ 'a' ~ [typo] }}", ["typo"]),
        ("{{ '%s' % [typo] }}", ["typo"]),
        ("{{ '{}'.format([typo]) }}", ["typo"]),
        ("{{ [typo] | tojson }}", ["typo"]),
        ("{{ row.typo }} {{ row['typ'] }}", ["row.typo", "row.typ"]),
        ("{{ row.deep.b.c }}", ["row.deep.b"]),
        ("{{ row['items'] }}", ["row.items"]),
        ("{{ topic.typo }}", ["topic.typo"]),
        ("{% for n in names %}{{ n.typo }}{% endfor %}", ["n.typo"]),
        ("{% for x in typo %}{% endfor %}{% if other %}{% endif %}{{ more() }}", ["typo", "other", "more"]),
        ("{{ a + 1 }}{{ -b }}{{ c > 1 }}{{ d.e }}{{ f | length }}{{ g == 1 }}", list("abcdfg")),
        ("{{ loop }}", ["loop"]),
    ],
)
def test_undefined_names_come_in_one_message(template: str, names: list[str], templates: Templates) -> None:
    problem = refusal(templates, template)
    plural = "s" if len(names) > 1 else ""
    assert problem.message == f"undefined variable{plural}: " + ", ".join(f"`{name}`" for name in names)


def test_undefined_names_have_a_hint(templates: Templates) -> None:
    assert (refusal(templates, "{{ topc }}").hint or "").startswith("did you mean `topic`? Defined: code, count")
    assert "did you mean `name`?" in (refusal(templates, "{{ row.nam }}").hint or "")
    with pytest.raises(UsageError) as caught:
        templates.render(text("{{ a }}"), {})
    assert caught.value.problems[0].hint == "define it under `vars:`"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ row.items }}", "writes a function (`items`)"),
        ("{{ [row.items] }}", "writes a function (`items`)"),
        ("{{ 'a' ~ row.items }}", "writes a function (`items`)"),
        ("{{ row.items | upper }}", "writes a function (`items`)"),
        ("{{ row.items | length }}", "writes a function (`items`)"),
        ("{% if row.items %}{% endif %}", "writes a function (`items`)"),
        ("{% for x in row.items %}{% endfor %}", "writes a function (`items`)"),
        ("{{ '%s' % row.items }}", "writes a function (`items`)"),
        ("{{ '{}'.format(row.items) }}", "writes a function (`items`)"),
        ("{{ range }}", "writes a function"),
        ("{{ dict }}", "writes a function"),
        ("{{ names | map('upper') }}", "writes a generator"),
        ("{{ names | map('upper') | upper }}", "writes a generator"),
        ("{{ row.keys() }}", "writes a dict_keys"),
        ("{{ namespace(a=1) }}", "writes a Namespace"),
        ("{{ topic.encode() }}", "writes a bytes"),
        ("{{ nothing }}", "`nothing` is null"),
        ("{{ nothing | upper }}", "`nothing` is null"),
        ("{{ 'a' ~ nothing }}", "`nothing` is null"),
        ("{{ '%s' % nothing }}", "`nothing` is null"),
        ("{{ [none] | join }}", "a value that the template writes is null"),
        ("{{ ''.__class__ }}", "unsafe"),
        ("{{ names.append(1) }}", "unsafe"),
        ("{{ 1 / 0 }}", "the template fails: division by zero"),
        ("{{ topic + 1 }}", "the template fails"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "without end"),
    ],
)
def test_what_is_no_text(template: str, message: str, templates: Templates) -> None:
    problem = refusal(templates, template)
    assert message in problem.message
    assert " at 0x" not in problem.message


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ [1] * 10**9 }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(99999) %}{{ long }}{% endfor %}",
        "{{ 10 ** 10 ** 9 }}{{ 10 ** 1000000 }}",
        "{{ 'x'.ljust(10**9) }}",
        "{{ 'x' | center(10**9) }}",
        "{{ 'x' | indent(10**9, true) }}",
        "{{ long | replace('x', long) | replace('x', long) }}",
        "{{ long.replace('x', long).replace('x', long) }}",
        "{{ long.join(['x'] * 100000) }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (10**9, 1) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '{:>999999999}'.format(1) }}",
        "{{ '{:>{}}'.format(1, 10**9) }}",
        "{{ [1] | batch(10**9, 0) | list }}",
        "{{ [1] | tojson(indent=10**9) }}",
        "{{ [long * 1000] * 100000 }}",
        "{% set ns = namespace(x=long) %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x=long) %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set n = namespace(x=long) %}{% for i in range(40) %}{% set n.x %}{{ n.x ~ n.x }}{% endset %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    ],
)
def test_what_is_too_much(template: str, templates: Templates) -> None:
    started = time.process_time()
    problem = refusal(templates, template)
    assert time.process_time() - started < 5
    assert any(word in problem.message for word in ("more than", "too large", "thousands of digits")), problem


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if loop %}{% endfor %}{% endfor %}",
        "{% for i in [1] * 999 recursive %}{% if loop.depth < 9 %}{{ loop([1] * 999) }}{% endif %}{% endfor %}",
        "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(99) }}",
        "{% set n = 50 %}{% include 'twice.txt' %}",
        "{% set n = 50 %}{% include ['twice.txt'] %}",
    ],
)
def test_steps_are_limited(
    template: str, templates: Templates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_values, "MAX_STEPS", 2000)
    monkeypatch.setattr(templates._strict, "budget", template_values.Budget(clock=lambda: 0.0))
    (tmp_path / "twice.txt").write_text(
        "{% set n = n - 1 %}{% if n > 0 %}{% include 'twice.txt' %}{% include 'twice.txt' %}{% endif %}"
    )
    problem = refusal(templates, "a\n" + template, "prompt: |")
    assert problem.message == "the template takes more than 2,000 steps"
    assert problem.place == Place("job.yaml", 9, 1, template)


def test_each_rendering_has_its_own_steps(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_values, "MAX_STEPS", 11)
    for _ in range(3):
        assert render(templates, "{% for i in range(10) %}{{ i }}{% endfor %}") == "0123456789"
        assert render(templates, "{% for i in range(10) if i > 7 %}{{ i }}{{ loop.last }}{% endfor %}") == "8false9true"
    assert "11 steps" in refusal(templates, "{% for i in range(11) %}{{ i }}{% endfor %}").message


def test_time_is_limited(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(templates._strict, "budget", template_values.Budget(clock=lambda: float(next(ticks))))
    assert "to render" in refusal(templates, "{% for i in range(99) %}{% endfor %}").message


def test_a_loop_over_what_lacks_a_name_is_noted_once(templates: Templates) -> None:
    problem = refusal(templates, "{% for i in range(9999) %}{{ typo }}{{ row.no }}{% endfor %}{{ last }}")
    assert problem.message == "undefined variables: `typo`, `row.no`, `last`"


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 20_000,
        "{{ " + "not " * 20_000 + "a }}",
        "{% for a in names %}" * 30 + "{% endfor %}" * 30,
        "{% if a %}" * 500 + "{% endif %}" * 500,
    ],
    ids=["brackets", "operators", "loops", "conditions"],
)
def test_what_nests_too_deeply(template: str, templates: Templates) -> None:
    (problem,) = templates.check(text(template))
    assert "too deeply" in problem.message
    assert refusal(templates, template).message == problem.message


def test_the_problems_of_one_template_are_bounded(templates: Templates) -> None:
    problems = templates.check(text("{{ a | uper }}{{ a | " + "b" * 10_000 + " }}" * 1 + "{{ a | c }}" * 1000))
    assert len(problems) == 100
    assert max(len(problem.message) for problem in problems) < 100


def test_output_up_to_the_limit(templates: Templates) -> None:
    assert len(render(templates, "{{ big }}", big="x" * MAX_CHARACTERS)) == MAX_CHARACTERS
    with pytest.raises(UsageError):
        render(templates, "{{ big }}x", big="x" * MAX_CHARACTERS)


def test_all_unknown_filters_and_tests_at_once(templates: Templates) -> None:
    problems = templates.check(text("{{ a | uper }}{% if a is defnied %}{{ b | nope }}{% endif %}"))
    assert [problem.message for problem in problems] == [
        "there is no filter `uper`",
        "there is no filter `nope`",
        "there is no test `defnied`",
    ]
    assert problems[0].hint == "did you mean `upper`?"


@pytest.mark.parametrize("template", ["{{ a", "{% if a %}", "{% endif %}", "{% foo %}", "{{ a + }}", "{# a", "{{ }}"])
def test_syntax_errors(template: str, templates: Templates) -> None:
    (problem,) = templates.check(text(template))
    assert problem.message.startswith("the template has an error")
    assert problem.hint
    assert refusal(templates, template) == problem


def test_random_filters_are_gone(templates: Templates) -> None:
    assert templates.check(text("{{ names | random }}"))
    assert "lipsum" in refusal(templates, "{{ lipsum() }}").message


def test_places(templates: Templates) -> None:
    block = "one\ntwo {{ typo }}\n"
    assert refusal(templates, block, "prompt: |-").place == Place("job.yaml", 9, 1, "two {{ typo }}")
    assert refusal(templates, block, "prompt: >").place == Place("job.yaml", 7, 9, "prompt: >")
    assert refusal(templates, block, 'prompt: "one"').place == Place("job.yaml", 7, 9, 'prompt: "one"')
    (problem,) = templates.check(text("one\n\n{{ a | nope }}", "prompt: | # text"))
    assert problem.place == Place("job.yaml", 10, 1, "{{ a | nope }}")


def test_includes(templates: Templates, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("about {{ topic }}\n", encoding="utf-8-sig")
    (tmp_path / "macros.txt").write_text("{% macro m(x) %}<{{ x }}>{% endmacro %}")
    (tmp_path / "base.txt").write_text("[{% block body %}{% endblock %}]")
    assert render(templates, "{% include 'sub/a.txt' %}.") == "about lists\n."
    assert render(templates, "{% from 'macros.txt' import m %}{{ m(1) }}") == "<1>"
    assert render(templates, "{% extends 'base.txt' %}{% block body %}x{% endblock %}") == "[x]"
    assert render(templates, "{% include 'no.txt' ignore missing %}x") == "x"
    assert templates.check(text("{% include 'no.txt' ignore missing %}")) == []
    (tmp_path / "undefined.txt").write_text("\n\n{{ typo }}")
    problem = refusal(templates, "x\n{% include 'undefined.txt' %}", "prompt: |")
    assert problem.message == "undefined variable: `typo`"
    assert problem.place == Place("job.yaml", 9, 1, "{% include 'undefined.txt' %}")


def test_includes_stay_in_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "jobs"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    os.mkfifo(root / "fifo")
    (root / "latin").write_bytes(b"ok\ncaf\xe9")
    (root / "bad.txt").write_text("{% if %}")
    (root / "large").write_bytes(b"x" * (MAX_CHARACTERS + 1))
    (root / "self.txt").write_text("{% include 'self.txt' %}")
    templates = Templates(root)
    expected = {
        "../secret.txt": "not inside the job file's folder",
        "a/../../secret.txt": "not inside the job file's folder",
        str(tmp_path / "secret.txt"): "not inside the job file's folder",
        "link": "not inside the job file's folder",
        "up/secret.txt": "not inside the job file's folder",
        "a\\\\b": "not inside the job file's folder",
        "loop": "",
        "fifo": "not a regular file",
        ".": "not a regular file",
        "latin": "is not UTF-8 (line 2)",
        "bad.txt": "the included file `bad.txt`, line 1 has an error",
        "large": "larger than 10 MB",
        "no.txt": "there is no file `no.txt` to include",
    }
    for name, message in expected.items():
        (problem,) = templates.check(text(f"{{% include '{name}' %}}"))
        assert message in problem.message, name
        assert message in refusal(templates, "{% include '" + name[:1] + "' ~ '" + name[1:] + "' %}").message
    assert "without end" in refusal(templates, "{% include 'self.txt' %}").message


def test_compiled_templates_are_kept_but_not_all(templates: Templates) -> None:
    for number in range(1500):
        render(templates, f"{number} {{{{ topic }}}}")
    compiled = templates._strict._compiled
    assert len(compiled) == 1000
    first = compiled["1499 {{ topic }}"]
    render(templates, "1499 {{ topic }}")
    assert compiled["1499 {{ topic }}"] is first


def test_names() -> None:
    assert is_name("topic")
    assert is_name("größe")
    for name in ("my-topic", "1a", "", "a b", "loop", "true", "not", "a.b"):
        assert not is_name(name)


def test_plain_text_is_no_template() -> None:
    assert not is_template("a { b } % #")
    assert is_template("{# a #}")
