from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner import source
from runner.errors import Place, Problem, UsageError
from runner.source import composing


@pytest.fixture(params=["libyaml", "python"], autouse=True)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds for both of PyYAML's parsers."""
    if request.param == "python":
        monkeypatch.setattr(composing, "_Parser", yaml.SafeLoader)


def read(tmp_path: Path, content: str | bytes) -> source.Document:
    path = tmp_path / "job.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return source.read(path, shown_as="job.yaml")


def refusal(tmp_path: Path, content: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, content)
    return caught.value.problems


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("off", "off"),
        ("12:30", "12:30"),
        ("012", "012"),
        ("-07", "-07"),
        ("2024-01-05", "2024-01-05"),
        ("2024-01-05T10:00:00Z", "2024-01-05T10:00:00Z"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.10", 1.1),
        ("0x1F", 31),
        ("0o14", 12),
        ("+3", 3),
        ("-0", 0),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ('"12"', "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("=", "="),
        ("|\n  a\n  b", "a\nb\n"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(typed: str, value: object, tmp_path: Path) -> None:
    found = read(tmp_path, f"a: {typed}\n").data["a"]
    assert found == value
    assert isinstance(found, type(value))


@pytest.mark.parametrize("typed", ["1.10", "2.50", "1e3", "0x1F", "+3", "12", "0.5", "-0", "1E5"])
def test_a_number_is_written_as_typed_and_is_plain_in_json(typed: str, tmp_path: Path) -> None:
    found = read(tmp_path, f"a: {typed}\n").data["a"]
    assert str(found) == typed
    assert json.loads(json.dumps(found)) == found


def test_nan(tmp_path: Path) -> None:
    assert math.isnan(read(tmp_path, "a: .nan\n").data["a"])


def test_bom_and_crlf(tmp_path: Path) -> None:
    document = read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb:\r\n  - caf\xc3\xa9\r\n")
    assert document.data == {"a": 1, "b": ["café"]}
    assert document.place(("b", 0)) == Place("job.yaml", 3, 5, "  - café")


def test_places_of_keys_values_and_what_is_missing(tmp_path: Path) -> None:
    document = read(tmp_path, 'ä: {b: [1, "two"]}\nc:\n  d: |\n    text\n')
    assert document.place(()) == Place("job.yaml", 1, 1, 'ä: {b: [1, "two"]}')
    positions = {
        (("ä",), False): (1, 4),
        (("ä", "b"), True): (1, 5),
        (("ä", "b", 1), False): (1, 12),
        (("ä", "b", 1), True): (1, 12),
        (("c", "d"), True): (3, 3),
        (("c", "d"), False): (3, 6),
        (("c", "missing"), False): (3, 3),  # the nearest ancestor
        (("ä", "b", 7), False): (1, 8),
        (("missing", "deeper"), True): (1, 1),
    }
    for (pointer, key), (line, column) in positions.items():
        place = document.place(pointer, key=key)
        assert (place.line, place.column) == (line, column), pointer


def test_merge_keys_and_aliases(tmp_path: Path) -> None:
    document = read(
        tmp_path,
        "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nx: {<<: *base, a: 9}\ny: {<<: [*more, *base]}\nz: *base\n",
    )
    assert document.data["x"] == {"a": 9, "b": 2}
    assert document.data["y"] == {"a": 1, "b": 3, "c": 4}  # earlier ones win
    assert document.data["z"] == document.data["base"]
    assert not document.problems
    assert document.place(("x", "b")).line == 1  # where it is written
    assert document.place(("z",)).line == 5
    assert read(tmp_path, '"<<": 1\n').data == {"<<": 1}


def test_readable_problems_leave_the_rest_for_further_checks(tmp_path: Path) -> None:
    document = read(tmp_path, "a: 1\na: 2\nb: !foo x\n3: c\nd: {{ e }}\nf: [1]\n")
    assert [problem.place and problem.place.line for problem in document.problems] == [2, 3, 4, 5]
    assert document.data == {"a": 1, "b": "x", "d": "{{ e }}", "f": [1]}


def test_the_number_of_problems_is_bounded(tmp_path: Path) -> None:
    assert len(read(tmp_path, "a: 1\n" * 1000).problems) == source.MAX_PROBLEMS


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "tutor.yaml").write_text("a: 1")
    hints = {
        "tutor.yml": "did you mean",
        "*.yaml": "the shell's pattern matched no file",
        "other/x.yaml": "there is no folder",
        "zzzzz": "check the path",
    }
    for name, hint in hints.items():
        with pytest.raises(UsageError) as caught:
            source.read(tmp_path / name)
        (problem,) = caught.value.problems
        assert problem.message == "there is no such file"
        assert str(problem.place) == str(tmp_path / name)  # no line: there is none
        assert hint in (problem.hint or "")


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    expected = {
        tmp_path: "is a folder, not a YAML file",
        tmp_path / "fifo": "is not a regular file",
        Path("/dev/zero"): "regular file",
    }
    for path, message in expected.items():
        with pytest.raises(UsageError) as caught:
            source.read(path)
        assert message in caught.value.problems[0].message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        source.read(path)


def test_an_impossible_name() -> None:
    with pytest.raises(UsageError):
        source.read(Path("a\0b"))


def test_read_value() -> None:
    values: dict[str, Any] = {"3": 3, "no": "no", "[a, b]": ["a", "b"], "": "", "{a: 1}": {"a": 1}, '"3"': "3"}
    for text, value in values.items():
        assert source.read_value(text, shown_as="--var x") == value
    for wrong in ("[a", "{{ x }}", "a: b: c", "!foo x", "a\0b"):
        with pytest.raises(UsageError) as caught:
            source.read_value(wrong, shown_as="--var x")
        assert caught.value.problems[0].place is not None
        assert caught.value.problems[0].place.path == "--var x"


def test_a_job_of_many_cases_is_not_too_much(tmp_path: Path) -> None:
    cases = "".join(f"  - {{id: c{n}, vars: {{a: {n}}}}}\n" for n in range(2000))
    assert len(read(tmp_path, "cases:\n" + cases).data["cases"]) == 2000


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("a: {{ x }} and {{ y }}  # why", 'quote it: "{{ x }} and {{ y }}"'),
        ("a: [{% if x, y %}z{% endif %}, b]", 'quote it: "{% if x, y %}z{% endif %}"'),
        ("a: [{% if x, b]", 'quote it: "{% if x"'),
        ("a: {% x " + "y" * 300, "put the whole text in quotes, or below a `|`"),
        ('a: {{ x["k"] }} b', "quote it: '{{ x[\"k\"] }} b'"),
    ],
)
def test_what_an_unquoted_template_is(typed: str, hint: str, tmp_path: Path) -> None:
    (problem,) = refusal(tmp_path, typed)
    assert problem.hint == hint


def test_hints_do_not_repeat_a_whole_file(tmp_path: Path) -> None:
    for content in (
        "a: b: " + "c" * 100_000,
        "a" * 100_000 + "\nb: 1",
        "a: {{ " + "x" * 100_000 + " }} y",
        "a: @" * 9999,
    ):
        (problem,) = refusal(tmp_path, content)
        assert len(problem.message + (problem.hint or "")) < 400
    (problem,) = read(tmp_path, f"a: *{'b' * 10_000}\n").problems
    assert len(problem.message) < 150


def test_characters_that_json_escapes_as_two_halves_are_read_and_move_nothing(tmp_path: Path) -> None:
    written = json.dumps({"a \U0001f600": ["\U0001f600 hi", "\\ud83d"], "b": 1})
    document = read(tmp_path, written)
    assert document.data == {"a \U0001f600": ["\U0001f600 hi", "\\ud83d"], "b": 1}
    assert document.problems == ()
    assert document.place(("b",), key=True).column == written.index('"b"') + 1
    elsewhere = read(tmp_path, 'a: \'\\ud83d\'\nb: |\n  "\\ud83d\\ude00"\nc: "\\\\ud83d"\n')
    assert elsewhere.data == {"a": "\\ud83d", "b": '"\\ud83d\\ude00"\n', "c": "\\ud83d"}
    assert elsewhere.problems == ()
