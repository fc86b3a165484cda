"""Wrong job files by kind of mistake: each gives exactly the problems that its head expects, with place and hint.

A head line is `# expect: LINE:COLUMN part of the message => part of the hint`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from runner import source
from runner.jobs import job
from runner.source import composing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.errors import Problem

FILES = sorted((Path(__file__).parent / "wrong_jobs").glob("*.yaml"))
EXPECTATION = re.compile(r"# expect: (\d+):(\d+) (.*) => (.*)")


def problems_of(*paths: Path) -> Sequence[Problem]:
    return job.load(paths)[1]


def check_against_head(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    expected = EXPECTATION.findall(text)
    problems = problems_of(path)
    shown = [f"{problem.place} {problem.message} => {problem.hint}" for problem in problems]
    assert len(problems) == len(expected) > 0, shown
    for (line, column, message, hint), problem in zip(expected, problems, strict=True):
        assert problem.place is not None
        assert (problem.place.line, problem.place.column) == (int(line), int(column)), shown
        assert message in problem.message, shown
        assert hint in (problem.hint or ""), shown
        assert problem.place.path == str(path)
        assert problem.place.source.strip() in text


def test_there_are_more_than_a_hundred_kinds_of_mistakes() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wrong_job(path: Path) -> None:
    check_against_head(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wrong_job_with_the_parser_in_python(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(composing, "_Parser", yaml.SafeLoader)
    check_against_head(path)


RIGHT = b"model: anthropic.claude-3-5-sonnet-20241022-v2:0\nprompt: caf\xc3\xa9\n"


@pytest.mark.parametrize(
    ("content", "place", "message", "hint"),
    [
        (RIGHT + b"description: a\x00b\n", (3, 15), "a NUL byte (U+0000)", r"write `\x00` inside double quotes"),
        (RIGHT + b"description: a\x1b[31m\n", (3, 15), "an escape character (U+001B)", r"`\x1B`"),
        (RIGHT.decode().encode("latin-1"), (2, 12), "not UTF-8: byte 0xE9 at offset 60", "iconv -f LATIN1 -t UTF-8"),
        (RIGHT.decode().encode("utf-16"), (1, 1), "the file is UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (RIGHT.decode().encode("utf-16-le"), (1, 1), "the file is UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (RIGHT.decode().encode("utf-32"), (1, 1), "the file is UTF-32", "iconv -f UTF-32 -t UTF-8"),
        (b"", (1, 1), "the file is empty", "write keys and values, as in `model: ...`"),
    ],
    ids=["nul", "escape", "latin-1", "utf-16", "utf-16-without-bom", "utf-32", "empty"],
)
def test_wrong_bytes(content: bytes, place: tuple[int, int], message: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    (problem,) = problems_of(path)
    assert problem.place is not None
    assert (problem.place.line, problem.place.column) == place
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_every_control_character_is_placed(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(RIGHT + b"description: a\x00b\x07\nname: \x08\n")
    assert [str(problem.place).rpartition("job.yaml:")[2] for problem in problems_of(path)] == ["3:15", "3:17", "4:7"]


def test_problems_of_all_files_come_together() -> None:
    chosen = [FILES[0], FILES[-1]]
    assert {problem.place.path for problem in problems_of(*chosen) if problem.place} == {str(path) for path in chosen}


# --- what is too much ------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = (
    "a0: &a0 {"
    + ", ".join(f"k{n}: {n}" for n in range(100))
    + "}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 50)}]}}\n" for n in range(1, 12))
)
TOO_MUCH = {
    "laughs": (LAUGHS, "stands for more than 500,000 values"),
    "merges": (MERGES, "stands for more than 500,000 values"),
    "brackets": ("a: " + "[" * 10_000 + "]" * 10_000, "more than 100 levels are nested"),
    "braces": ("a: " + "{b: " * 10_000, "more than 100 levels are nested"),
    "dashes": ("a:\n  " + "- " * 10_000 + "x\n", "more than 100 levels are nested"),
    "indentation": ("".join(" " * n + "a:\n" for n in range(3000)), "more than 100 levels are nested"),
    "cycle": ("a: &a {b: *a}\n", "stands inside what it stands for"),
    "large": ("a: " + "x" * source.MAX_BYTES, "is larger than 10 MB"),
    "nul": ("a: \x00\n" * 1_000_000, "a NUL byte"),
    "items": ("a: [" + "0," * 4_900_000 + "]", "stands for more than 500,000 values"),
    "template and spaces": ("a: {{ x" + " " * 60_000, "a text that starts with `{{` must be quoted"),
    "tags": ("a: " + "{{ " * 200_000, "more than 100 levels are nested"),
    "tags in brackets": ("a: [x, " + "{% " * 200_000, "a text that starts with `{%` must be quoted"),
    "quotes": ("a: " + '"' * 1_000_000, "more text follows the closing quote"),
    "colons": ("a: b" + ": c" * 300_000, "a colon and a space inside an unquoted text"),
    "dashes in a text": ("k: text\n  " + "- " * 500_000 + "a:\tb: c\n", "indented further than the value above"),
    "one word": ("a" * 5_000_000 + "\nb: 1\n", "a colon is missing"),
    "lines after a wrong one": ("a: & " + "\n" * 9_000_000, "a text that starts with `&` must be quoted"),
    "long aliases": (f"a: &{'a' * 300_000} 1\nb: *{'a' * 299_999}b\n", "has no anchor"),
    "unknown keys": ("".join(f"modle{n}: 1\n" for n in range(200_000)), "unknown key `modle1`"),
    "wrong items": ("assert: [" + "0," * 490_000 + "]", "`assert[0]` must be a mapping"),
    "aliases of a long text": (
        "a: &a " + "x" * 1_000_000 + "\napi: [" + "*a," * 100_000 + "]\n",
        "`api` must be a text, not a list",
    ),
    "digits": ("a: " + "9" * 5_000_000 + "\n", "a number of 5,000,000 digits"),
}
CHILD = """
import json, re, resource, sys
from pathlib import Path
from runner.jobs import job
_, problems = job.load([Path(sys.argv[1])])
used = resource.getrusage(resource.RUSAGE_SELF)
status = Path("/proc/self/status")  # Linux counts what the parent had before the exec into ru_maxrss
if status.exists():
    megabytes = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1000
else:
    megabytes = used.ru_maxrss / 1_000_000
places = [str(problem.place) for problem in problems]
messages = [problem.message for problem in problems]
print(json.dumps([used.ru_utime + used.ru_stime, megabytes, places, messages]))
"""


@pytest.mark.parametrize("kind", TOO_MUCH)
def test_what_is_too_much_is_refused_with_little_time_and_memory(kind: str, tmp_path: Path) -> None:
    content, message = TOO_MUCH[kind]
    path = tmp_path / "job.yaml"
    path.write_text(content, newline="")
    command = [sys.executable, "-c", CHILD, str(path)]
    # cwd: the checkout, where the package is when it is not installed
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=True, cwd=Path(__file__).parents[1]
    )
    seconds, megabytes, places, messages = json.loads(done.stdout)
    assert any(message in found for found in messages), messages
    assert all(place.startswith(str(path)) for place in places)
    assert megabytes < 300
    assert seconds < 10  # of CPU; 2 s is the promise, and a busy machine must not decide
