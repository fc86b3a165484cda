"""A file beside each input: whole, after its row, and never over one that the run did not write."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

Rows = Callable[..., list[dict[str, Any]]]

_JOB = """\
model: amazon.nova-lite-v1:0
turns:
  - user:
      text: "What is {{ file.stem }}{{ ask }}?"
      images: ["{{ file.path }}"]
cases: {glob: "photos/*.png"}
vars: {ask: ""}
sidecar: "{{ file.stem }}.txt"
"""
REPLY = "- {match: 'What is (.*)', reply: A red square.}\n"


class Photos:
    """A folder of pictures with a job that captions them, and what runs it."""

    def __init__(self, folder: Path, run: Any, rows: Rows) -> None:
        self.folder = folder
        self.photos = folder / "photos"
        self.run_command = run
        self.rows = rows
        self.job(_JOB)

    def job(self, text: str) -> None:
        (self.folder / "job.yaml").write_text(text)

    def change(self, old: str, new: str) -> None:
        text = (self.folder / "job.yaml").read_text()
        assert old in text
        self.job(text.replace(old, new))

    def save(self, *names: str) -> None:
        for name in names:
            (self.photos / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (1, 1), "red").save(self.photos / name, "PNG")

    def run(self, *options: str | Path, env: Any = None, code: int = 0) -> subprocess.CompletedProcess[str]:
        where = [] if env else ["--local"]
        done: subprocess.CompletedProcess[str] = self.run_command("run", "job.yaml", *where, *options, env=env)
        assert done.returncode == code, done.stderr
        return done

    def sidecars(self) -> dict[str, str]:
        return {
            path.name: path.read_text() for path in self.photos.rglob("*") if path.suffix not in (".png", ".jpg", "")
        }

    def holds(self) -> None:
        """Every row that passed has its sidecar, and nothing else is there."""
        passed = [row for row in self.rows() if row["status"] == "passed"]
        said = {row["sidecar"]["path"]: row["sidecar"]["sha256"] for row in passed}
        found = {path for path in self.photos.iterdir() if path.suffix != ".png"}
        assert {str(path.relative_to(self.folder)) for path in found} == set(said)
        assert {sha256((self.folder / path).read_bytes()).hexdigest() for path in said} == set(said.values())


@pytest.fixture
def photos(bedrock_run: Any, rows: Rows, tmp_path: Path) -> Photos:
    return Photos(tmp_path, bedrock_run, rows)


def test_each_input_gets_its_reply_beside_it(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png")
    server = bedrock(REPLY)
    photos.run(env=server.env)
    assert photos.sidecars() == {"a.txt": "A red square.", "b.txt": "A red square."}
    digest = sha256(b"A red square.").hexdigest()
    assert [row["sidecar"] for row in photos.rows()] == [
        {"path": "photos/a.txt", "sha256": digest},
        {"path": "photos/b.txt", "sha256": digest},
    ]
    written = (photos.photos / "a.txt", photos.folder / "outputs" / "job.jsonl")
    before = [path.stat() for path in written]
    photos.run(env=server.env)
    assert len(server.log) == 2
    assert [path.stat().st_mtime_ns for path in written] == [found.st_mtime_ns for found in before]


def test_a_file_that_the_run_did_not_write_is_never_replaced(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png")
    (photos.photos / "a.txt").write_text("mine")
    server = bedrock(REPLY)
    for _ in range(2):
        done = photos.run(env=server.env, code=3)
        assert "the sidecar 'photos/a.txt' is there already" in done.stderr
        assert len(server.log) == 1, "nothing is paid for a reply that has no place"
        assert photos.sidecars() == {"a.txt": "mine", "b.txt": "A red square."}
    wrong, right = photos.rows()
    assert (wrong["error"]["code"], wrong["sidecar"], right["status"]) == ("input", None, "passed")
    dry = json.loads(photos.run("--dry-run", "--json", env=server.env, code=3).stdout)
    assert dry["jobs"][0]["faults"] == 1
    (photos.photos / "a.txt").unlink()
    photos.run(env=server.env)
    photos.holds()


def test_a_new_reply_replaces_the_sidecar_of_the_earlier_one(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    photos.run(env=bedrock(REPLY).env)
    photos.change('ask: ""', "ask: ' now'")
    photos.run(env=bedrock("- {match: now, reply: A blue square.}\n").env)
    assert photos.sidecars() == {"a.txt": "A blue square."}
    photos.holds()


def test_a_real_run_replaces_what_a_local_one_has_written(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    photos.run()
    assert "Local emulator" in photos.sidecars()["a.txt"]
    photos.run(env=bedrock(REPLY).env)
    assert photos.sidecars() == {"a.txt": "A red square."}
    photos.run()
    photos.holds()
    assert photos.sidecars() == {"a.txt": "A red square."}


def test_a_sidecar_that_somebody_has_mended_is_left_alone(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    server = bedrock(REPLY)
    photos.run(env=server.env)
    before = photos.rows()
    (photos.photos / "a.txt").write_text("a better caption")
    assert "note: 1 sidecar was changed by hand and left alone" in photos.run(env=server.env).stderr
    assert photos.sidecars() == {"a.txt": "a better caption"}
    assert photos.rows() == before
    photos.change("sidecar: ", "assert: [{type: contains, value: blue}]\nsidecar: ")
    photos.run(env=server.env, code=1)
    photos.change("value: blue", "value: red")
    photos.run(env=server.env)
    assert photos.rows()[0]["sidecar"] == before[0]["sidecar"]
    for _ in range(2):
        told = photos.run("--fresh", env=server.env, code=3).stderr
        assert "the sidecar 'photos/a.txt' was changed since this job wrote it" in told
    assert len(server.log) == 1
    (photos.photos / "a.txt").rename(photos.folder / "kept.txt")
    photos.run(env=server.env)
    assert len(server.log) == 1
    photos.holds()


def test_a_kept_row_gets_back_the_sidecar_that_is_missing(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png")
    server = bedrock(REPLY)
    photos.run(env=server.env)
    (photos.photos / "a.txt").unlink()
    assert "nothing was called" in photos.run(env=server.env).stderr
    photos.holds()


def test_sidecars_are_the_jobs_own_whatever_case_they_were_written_for(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png", "c.png")
    photos.change('{glob: "photos/*.png"}', "rows.csv")
    photos.change("{{ file.path }}", "photos/{{ n }}.png")
    photos.change("{{ file.stem }}{{ ask }}", "{{ n }}{{ ask }}")
    photos.change("{{ file.stem }}.txt", "{{ n }}.txt")
    (photos.folder / "rows.csv").write_text("n\na\nb\n")
    photos.run(env=bedrock(REPLY).env)
    (photos.folder / "rows.csv").write_text("n\nc\na\nb\n")
    photos.change('ask: ""', "ask: ' now'")
    server = bedrock("- {match: now, reply: A blue square.}\n")
    dry = json.loads(photos.run("--dry-run", "--fresh", "--json", env=server.env).stdout)
    assert (dry["jobs"][0]["faults"], dry["jobs"][0]["calls"]) == (0, 3)
    photos.run(env=server.env)
    assert set(photos.sidecars().values()) == {"A blue square."}
    photos.holds()


def test_replies_whose_sidecars_fail_count_as_failures(photos: Photos, bedrock: Any) -> None:
    photos.save(*(f"{number}.png" for number in range(5)))
    photos.change(f'"{_STEM}"', f'{{path: "{_STEM}", text: "{{{{ parsed.title }}}}"}}')
    server = bedrock(REPLY)
    told = photos.run("--max-failures", "2", "-j", "1", env=server.env, code=4).stderr
    assert "2 cases failed (--max-failures 2)" in told
    assert len(server.log) == 2


def test_a_file_with_a_new_name_gets_a_sidecar_without_a_call(photos: Photos, bedrock: Any) -> None:
    photos.job(_JOB.replace("{{ file.stem }}{{ ask }}", "it"))
    photos.save("a.png")
    server = bedrock(REPLY)
    photos.run(env=server.env)
    (photos.photos / "a.png").rename(photos.photos / "z.png")
    photos.run(env=server.env)
    assert len(server.log) == 1
    assert photos.sidecars() == {"a.txt": "A red square.", "z.txt": "A red square."}, "what is not wanted stays"


def test_what_is_written_may_be_a_template_of_what_came(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    server = bedrock("- {match: '', reply: '{{ file.name }} & more'}\n")
    photos.change('sidecar: "{{ file.stem }}.txt"', 'sidecar: {path: "captions/{{ file.name }}.caption"}')
    photos.run(env=server.env)
    assert photos.sidecars() == {"a.png.caption": "{{ file.name }} & more"}
    photos.change('.caption"}', '.caption", text: "{{ ask }}{{ file.width }}: {{ output }}\\n"}')
    photos.run(env=server.env)
    assert photos.sidecars() == {"a.png.caption": "1: {{ file.name }} & more\n"}
    assert len(server.log) == 1
    photos.run(env=server.env)
    assert photos.rows()[0]["sidecar"]["sha256"] == sha256(b"1: {{ file.name }} & more\n").hexdigest()


def test_a_mended_sidecar_may_move_with_its_picture(photos: Photos, bedrock: Any) -> None:
    photos.job(_JOB.replace("photos/*", "photos/**/*").replace("{{ file.stem }}{{ ask }}", "it{{ ask }}"))
    photos.save("a.png", "b.png")
    server = bedrock(REPLY)
    photos.run(env=server.env)
    (photos.photos / "a.txt").write_text("a better caption")
    (photos.photos / "best").mkdir()
    for name in ("a.png", "a.txt", "b.png", "b.txt"):
        (photos.photos / name).rename(photos.photos / "best" / name)
    for _ in range(2):
        assert "note: 1 sidecar was changed by hand and left alone" in photos.run(env=server.env).stderr
    assert photos.sidecars() == {"a.txt": "a better caption", "b.txt": "A red square."}
    assert len(server.log) == 2
    photos.change('ask: ""', "ask: ' now'")
    told = photos.run(env=server.env, code=3).stderr
    assert "the sidecar 'photos/best/a.txt' was changed since this job wrote it" in told
    assert photos.sidecars()["a.txt"] == "a better caption"


def test_a_file_where_the_job_is_to_write_from_now_on_is_not_taken_for_a_mended_one(photos: Photos) -> None:
    photos.save("a.png")
    photos.run()
    (photos.photos / "a.caption").write_text("mine")
    photos.change(".txt", ".caption")
    for options in (["--dry-run"], []):
        assert "the sidecar 'photos/a.caption' is there already" in photos.run(*options, code=3).stderr
    assert photos.sidecars()["a.caption"] == "mine"


def test_the_sidecar_of_a_picture_that_came_back_is_still_the_jobs_own(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png")
    photos.run(env=bedrock(REPLY).env)
    (photos.photos / "a.png").unlink()
    photos.run(env=bedrock(REPLY).env)
    photos.save("a.png")
    photos.run(env=bedrock("- {match: '', reply: A blue square.}\n").env)
    assert photos.sidecars() == {"a.txt": "A blue square.", "b.txt": "A red square."}
    photos.holds()


def test_validate_tells_of_files_in_the_place_of_sidecars(photos: Photos, bedrock: Any) -> None:
    def validate(*options: str) -> tuple[int, str]:
        done = photos.run_command("validate", "job.yaml", *options)
        return done.returncode, done.stderr

    photos.job(_JOB.replace("{{ file.stem }}{{ ask }}", "it{{ ask }}"))
    photos.save("a.png", "b.png")
    (photos.photos / "a.txt").write_text("mine")
    code, told = validate()
    assert code == 3
    assert "1 of 2 cases cannot be asked" in told
    assert "the sidecar 'photos/a.txt' is there already, and no row in outputs/job.jsonl says" in told
    (photos.photos / "a.txt").unlink()
    photos.run("-o", "rows", env=bedrock(REPLY).env)
    assert (validate()[0], validate("-o", "rows")[0]) == (3, 0)
    (photos.photos / "a.txt").write_text("a better caption")
    assert validate("-o", "rows")[0] == 0, "its reply is kept"
    photos.change('ask: ""', "ask: ' now'")
    assert "the sidecar 'photos/a.txt' was changed since this job wrote it" in validate("-o", "rows")[1]


def test_rows_in_another_folder_are_looked_for_with_o(photos: Photos) -> None:
    photos.save("a.png")
    photos.run("-o", "rows")
    told = photos.run(code=3).stderr
    assert "is there already, and no row in outputs/job.jsonl says that this job wrote it" in told
    assert "name the folder of those rows with -o" in told
    photos.run("-o", "rows")


def test_a_template_that_fails_on_a_reply_keeps_the_reply(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    server = bedrock(REPLY)
    photos.change(f'"{_STEM}"', f'{{path: "{_STEM}", text: "{{{{ parsed.title }}}}"}}')
    assert "input" in photos.run(env=server.env, code=3).stderr
    (row,) = photos.rows()
    assert (row["output"], row["sidecar"]) == ("A red square.", None)
    photos.change("parsed.title", "output")
    photos.run(env=server.env)
    assert len(server.log) == 1
    photos.holds()


def test_the_parsed_reply_is_written_as_json_or_in_a_template(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    server = bedrock("""- {match: 'What is', reply: '```json\n{"title": "Déjà vu", "n": 1}\n```'}\n""")
    photos.job(_JOB.replace(".txt", ".json") + "response_schema: {type: object, required: [title]}\n")
    photos.run(env=server.env)
    assert photos.sidecars() == {"a.json": '{\n  "title": "Déjà vu",\n  "n": 1\n}\n'}
    photos.change(
        'sidecar: "{{ file.stem }}.json"', "sidecar: {path: '{{ file.stem }}.md', text: '# {{ parsed.title }}'}"
    )
    photos.run(env=server.env)
    assert photos.sidecars()["a.md"] == "# Déjà vu"
    assert len(server.log) == 1


@pytest.mark.parametrize("path", ["{{ file.stem }}.txt", "{{ file.name }}.txt", "captions/{{ file.stem }}.txt"])
def test_sidecars_that_the_pattern_matches_are_no_cases(path: str, photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "b.png")
    photos.job(_JOB.replace("photos/*.png", "photos/**/*").replace("{{ file.stem }}.txt", path))
    server = bedrock(REPLY)
    photos.run(env=server.env)
    photos.save("c.png")
    for options in (["--limit", "1"], []):
        photos.run(*options, env=server.env)
    assert [row["case"] for row in photos.rows()] == ["photos/a.png", "photos/b.png", "photos/c.png"]
    assert len(server.log) == 3


def test_a_pattern_that_matches_only_sidecars_is_told(photos: Photos) -> None:
    photos.save("a.png", "a.jpg")
    photos.change("*.png", "*")
    photos.change("}}.txt", "}}.{{ 'png' if file.suffix == '.jpg' else 'jpg' }}")
    assert "every file that `photos/*` matches is a sidecar of this job" in photos.run(code=2).stderr


def test_an_input_that_would_be_its_own_sidecar_is_told_and_not_dropped(photos: Photos) -> None:
    photos.save("a.png")
    photos.change("*.png", "*")
    (photos.photos / "b.txt").write_text("an input")
    assert "the sidecar of 'photos/b.txt' is the file itself" in photos.run(code=2).stderr
    (photos.photos / "c.txt").write_text("another")
    told = "the sidecars of 2 files are the files themselves: photos/b.txt, photos/c.txt"
    assert told in photos.run_command("validate", "job.yaml").stderr


def test_the_sidecar_of_an_input_that_is_gone_is_no_input(photos: Photos) -> None:
    photos.save("a.png", "b.png")
    photos.change("*.png", "*")
    photos.run()
    (photos.photos / "b.png").unlink()
    for _ in range(2):  # by then its row is set aside
        photos.run()
        assert "1 case (2 files are sidecars)" in photos.run_command("validate", "job.yaml").stderr
    assert set(photos.sidecars()) == {"a.txt", "b.txt"}


def test_sidecars_of_a_former_name_are_no_cases(photos: Photos) -> None:
    photos.save("a.png", "b.png", "c.png")
    photos.run()
    photos.change("*.png", "*")
    (photos.photos / "c.txt").unlink()
    photos.change(_STEM, "{{ file.name }}.caption")
    for options in (["--dry-run"], []):
        told = photos.run(*options).stderr
        assert "note: job: 2 files are sidecars that earlier runs of the job wrote, and no cases" in told
    assert [row["case"] for row in photos.rows()] == ["photos/a.png", "photos/b.png", "photos/c.png"]
    assert "3 cases (5 files are sidecars)" in photos.run_command("validate", "job.yaml").stderr
    photos.change('sidecar: "{{ file.name }}.caption"', "")
    assert "3 cases (5 files are sidecars)" in photos.run_command("validate", "job.yaml").stderr


def test_an_input_under_the_name_of_a_former_sidecar_is_a_case(photos: Photos) -> None:
    photos.save("a.png")
    photos.run()
    photos.change("*.png", "*")
    photos.change(_STEM, "{{ file.name }}.caption")
    Image.new("RGB", (1, 1), "blue").save(photos.photos / "a.txt", "PNG")
    photos.run()
    assert [row["case"] for row in photos.rows()] == ["photos/a.png", "photos/a.txt"]


def test_how_many_files_are_sidecars_is_told(photos: Photos) -> None:
    photos.save("a.png", "b.png")
    (photos.folder / "link").symlink_to("photos")
    photos.change("photos/*.png", "link/*")
    photos.run()
    assert "2 cases (2 files are sidecars)" in photos.run_command("validate", "job.yaml").stderr


@pytest.mark.parametrize("value", ["blue", "red"])
def test_only_a_case_that_passes_has_a_sidecar(value: str, photos: Photos, bedrock: Any) -> None:
    photos.save("a.png", "bad.png")
    photos.job(_JOB + f"assert: [{{type: contains, value: {value}}}]\n")
    server = bedrock("- {match: bad, error: ValidationException, status: 400}\n" + REPLY)
    photos.run(env=server.env, code=3)
    assert photos.sidecars() == ({"a.txt": "A red square."} if value == "red" else {})
    photos.holds()


def test_the_sidecar_of_an_earlier_reply_stays_known_while_newer_ones_fail(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    photos.run(env=bedrock(REPLY).env)
    (first,) = photos.rows()
    photos.change('ask: ""', "ask: ' now'")
    photos.run(env=bedrock("- {match: now, error: ValidationException, status: 400}\n").env, code=3)
    assert photos.rows()[0]["sidecar"] == first["sidecar"]
    photos.run(env=bedrock("- {match: now, reply: A blue square.}\n").env)
    assert photos.sidecars() == {"a.txt": "A blue square."}


_NO_LINKS = """\
import errno, os
def link(*args, **folders): raise OSError(errno.EPERM, os.strerror(errno.EPERM))
os.link = link
"""
_STEM = "{{ file.stem }}.txt"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("*.png", "*", "the sidecar 'photos/a.txt' would be written by 2 cases: photos/a.jpg, photos/a.png"),
        ("vars: ", "matrix: {temperature: [0, 1]}\nvars: ", "the sidecar 'photos/a.txt' would be written by 2 cases"),
        ("vars: ", "repeat: 2\nvars: ", "all of its repetitions would write one sidecar"),
        (_STEM, "{{ file.stam }}.txt", "did you mean `file.stem`?"),
        (f'"{_STEM}"', '{path: "{{ file.name }}.x", text: "{{ ouput }}"}', "did you mean `output`?"),
        (f'"{_STEM}"', '{path: "{{ file.name }}.x", text: "{{ output | upperr }}"}', "no filter `upperr`"),
        (f'"{_STEM}"', '{file: "{{ file.name }}.x"}', "use `path: NAME`"),
        (f'"{_STEM}"', '{text: "{{ file.name }}.x"}', "`path` is missing"),
        (f'"{_STEM}"', '""', "`sidecar` is empty"),
    ],
)
def test_what_cannot_work_is_found_before_anything_is_sent(old: str, new: str, told: str, photos: Photos) -> None:
    photos.save("a.png")
    if old == "*.png":
        photos.save("a.jpg")
    photos.change(old, new)
    assert told in photos.run_command("validate", "job.yaml").stderr
    assert told in photos.run(code=2).stderr


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../../{{ file.stem }}.txt", "lies outside the job file's folder"),
        ("out/{{ file.stem }}.txt", "lies outside the job file's folder"),
        ("/tmp/{{ file.stem }}.txt", "lies outside the job file's folder"),
        ("{{ ask }}", "the path of the sidecar is empty"),
        ("{{ file.stem }}/", "is a folder"),
        ("..", "is a folder"),
        ("{{ file.name }}/x.txt", "Not a directory"),
        ("../job.yaml", "is there already"),
        ("{{ 'x' * 300 }}", "File name too long"),
    ],
)
def test_a_path_that_cannot_be_is_an_error_of_its_case(
    path: str, told: str, photos: Photos, bedrock: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    photos.save("a.png")
    (photos.photos / "out").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    photos.change(_STEM, path)
    before = (photos.photos / "a.png").read_bytes()
    server = bedrock(REPLY)
    assert told in photos.run(env=server.env, code=3).stderr
    assert server.log == []
    assert [path.name for path in sorted(photos.photos.iterdir())] == ["a.png", "out"]
    assert (photos.photos / "a.png").read_bytes() == before


def test_two_cases_of_a_list_cannot_have_one_sidecar(photos: Photos) -> None:
    photos.save("a.png")
    photos.job(
        "model: amazon.nova-lite-v1:0\nturns: [{user: {text: '{{ n }}', images: [photos/a.png]}}]\n"
        "cases: [{id: x, vars: {n: 1}}, {id: y, vars: {n: 2}}]\nsidecar: caption.txt\n"
    )
    done = photos.run(code=2)
    assert "the sidecar 'photos/caption.txt' would be written by 2 cases: x, y" in done.stderr
    photos.change("caption.txt", "'{{ n }}.txt'")
    photos.run()
    assert set(photos.sidecars()) == {"1.txt", "2.txt"}


def test_two_jobs_of_a_run_cannot_have_one_sidecar(photos: Photos) -> None:
    photos.save("a.png", "b.png")
    (photos.folder / "other.yaml").write_text(_JOB.replace("photos/*.png", "photos/b.*"))
    told = photos.run("other.yaml", "--filter", "*/a.png", code=2).stderr
    assert "the sidecar 'photos/b.txt' would be written by 2 cases: photos/b.png of job, photos/b.png of other" in told


@pytest.mark.parametrize(
    ("sidecar", "options"),
    [("../outputs/{{ file.stem }}.jsonl", ()), ("../report.html", ("--report-html", "report.html"))],
)
def test_a_sidecar_cannot_take_a_name_of_the_run_itself(sidecar: str, options: list[str], photos: Photos) -> None:
    photos.save("job.png")
    photos.run("-o", "photos")
    photos.change(_STEM, sidecar)
    assert "has a name that the run keeps for its rows and reports" in photos.run(*options, code=2).stderr


def test_a_case_that_is_not_chosen_has_its_sidecar_all_the_same(photos: Photos) -> None:
    photos.save("a.png", "a.jpg")
    photos.change("*.png", "*")
    assert "would be written by 2 cases: photos/a.jpg, photos/a.png" in photos.run("--limit", "1", code=2).stderr


def test_without_an_image_the_sidecar_is_in_the_folder_of_the_job(photos: Photos) -> None:
    photos.job("model: amazon.nova-lite-v1:0\nprompt: '{{ n }}'\ncases: rows.csv\nsidecar: 'out/{{ n }}.txt'\n")
    (photos.folder / "rows.csv").write_text("n\n1\n2\n")
    photos.run()
    assert {path.name for path in (photos.folder / "out").iterdir()} == {"1.txt", "2.txt"}


def test_a_folder_outside_can_be_allowed(photos: Photos, tmp_path_factory: pytest.TempPathFactory) -> None:
    photos.save("a.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    photos.change('"{{ file.stem }}.txt"', f'"{elsewhere}/{{{{ file.stem }}}}.txt"')
    photos.run("--allow-dir", elsewhere)
    assert photos.rows()[0]["sidecar"]["path"] == f"{elsewhere}/a.txt"
    assert (elsewhere / "a.txt").exists()


def test_a_link_in_the_place_of_a_sidecar_is_not_written_through(photos: Photos) -> None:
    photos.save("a.png")
    (photos.photos / "a.txt").symlink_to(photos.folder / "precious")
    photos.run(code=3)
    assert not (photos.folder / "precious").exists()


def test_a_replay_writes_no_sidecars(photos: Photos, bedrock: Any) -> None:
    photos.save("a.png")
    photos.run()
    (photos.photos / "a.txt").unlink()
    photos.run("--replay")
    assert photos.sidecars() == {}


def test_with_rows_on_standard_output_nothing_is_replaced_either(photos: Photos) -> None:
    photos.save("a.png")
    photos.run("-o", "-")
    assert set(photos.sidecars()) == {"a.txt"}
    (photos.photos / "a.txt").write_text("mine")
    photos.run("-o", "-", code=3)
    assert photos.sidecars() == {"a.txt": "mine"}


def test_odd_names_have_sidecars_too(photos: Photos) -> None:
    names = ["a b", "new\nline", 'it\'s "so"', "caf\u00e9", "caf\udce9", "x" * 250]
    photos.save(*(f"{name}.png" for name in names))
    photos.run()
    assert {path.name for path in photos.photos.iterdir() if path.suffix == ".txt"} == {f"{name}.txt" for name in names}
    photos.run()
    photos.holds()


def test_a_file_that_appears_during_the_call_is_kept_and_so_is_the_reply(
    photos: Photos, bedrock: Any, start_run: Any
) -> None:
    photos.save("a.png", "b.png")
    server = bedrock(f"- {{match: 'What is a', latency: 2s, reply: slow}}\n{REPLY}")
    process = start_run("run", "job.yaml", env=server.env)
    wait_for((photos.photos / "b.txt").exists)
    (photos.photos / "a.txt").write_text("mine")
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 3
    assert "the sidecar 'photos/a.txt' is there already" in told
    assert "the reply is kept" in told
    assert told.count("job.yaml:") == 1, told
    assert photos.sidecars() == {"a.txt": "mine", "b.txt": "A red square."}
    assert photos.rows()[0]["output"] == "slow"
    (photos.photos / "a.txt").unlink()
    photos.run(env=server.env)
    assert len(server.log) == 2
    photos.holds()


def test_a_file_that_appears_in_the_last_moment_is_kept_and_told_of(
    photos: Photos, bedrock: Any, start_run: Any
) -> None:
    photos.save("a.png")
    server = bedrock(REPLY)
    patch = (
        "import os, pathlib; link = os.link\n"
        "def late(source, target, **folders):\n"
        "    pathlib.Path('photos', target).write_text('mine')\n"
        "    link(source, target, **folders)\n"
        "os.link = late\n"
    )
    process = start_run("run", "job.yaml", "--json", env=server.env, patch=patch, stdout=subprocess.PIPE)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "the sidecar 'photos/a.txt' was not written: a file appeared there" in told
    assert json.loads(printed)["unwritten_sidecars"] == ["photos/a.txt"]
    assert photos.sidecars() == {"a.txt": "mine"}
    assert photos.rows()[0]["output"] == "A red square."
    assert "1 sidecar was changed by hand" in photos.run(env=server.env).stderr
    (photos.photos / "a.txt").unlink()
    photos.run(env=server.env)
    assert len(server.log) == 1
    photos.holds()


@pytest.mark.parametrize("call", ["link", "open"])
def test_a_disk_without_room_for_a_sidecar_stops_the_run_and_loses_no_row(
    call: str, photos: Photos, bedrock: Any, start_run: Any
) -> None:
    photos.save(*(f"{number}.png" for number in range(30)))
    server = bedrock(REPLY, latency=0.01)
    patch = (
        "import errno, os; opened, calls = os.open, []\n"
        "def full(path, flags, *args, **keywords):\n"
        "    if '.bedrock-run' in str(path) and flags & os.O_CREAT:\n"
        "        calls.append(path)\n"
        "        if len(calls) > 5: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "    return opened(path, flags, *args, **keywords)\n"
        "os.open = full\n"
    )
    if call == "link":
        patch = (
            "import errno, os; link, calls = os.link, []\n"
            "def full(*args, **folders):\n"
            "    calls.append(args)\n"
            "    if len(calls) > 5: raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
            "    link(*args, **folders)\n"
            "os.link = full\n"
        )
    process = start_run("run", "job.yaml", "-j", "2", env=server.env, patch=patch)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert told.count("can't be written: No space left on device") == 1
    rows = photos.rows()
    assert 5 < len(rows) < 30
    assert len(server.log) == len(rows)
    assert len(photos.sidecars()) == 5
    photos.run(env=server.env)
    assert len(server.log) == 30
    photos.holds()


def test_a_row_that_is_not_durable_has_no_sidecar(photos: Photos, bedrock: Any, start_run: Any) -> None:
    photos.save("a.png")
    server = bedrock(REPLY)
    patch = (
        "import errno, os; real = os.fsync\n"
        "def fsync(file):\n"
        "    if os.readlink(f'/proc/self/fd/{file}').endswith('job.jsonl'):\n"
        "        raise OSError(errno.EIO, os.strerror(errno.EIO))\n"
        "    real(file)\n"
        "os.fsync = fsync\n"
    )
    process = start_run("run", "job.yaml", env=server.env, patch=patch)
    assert process.wait(60) == 4
    assert photos.sidecars() == {}
    photos.run(env=server.env)
    assert len(server.log) == 1, "what was handed to the system may well be on disk"
    photos.holds()


def test_file_systems_without_links_have_sidecars_too(photos: Photos, bedrock: Any, start_run: Any) -> None:
    photos.save("a.png")
    process = start_run("run", "job.yaml", env=bedrock(REPLY).env, patch=_NO_LINKS)
    assert process.wait(60) == 0
    photos.holds()


def test_a_name_that_a_killed_run_had_claimed_is_its_own(photos: Photos, bedrock: Any, start_run: Any) -> None:
    photos.save("a.png")
    server = bedrock(REPLY)
    patch = f"{_NO_LINKS}def die(*args, **folders): os.kill(os.getpid(), 9)\nos.replace = die\n"
    start_run("run", "job.yaml", env=server.env, patch=patch).wait(60)
    assert photos.sidecars().pop("a.txt") == ""
    photos.run(env=server.env)
    assert len(server.log) == 1
    photos.holds()


def test_a_folder_that_becomes_a_link_is_not_written_through(
    photos: Photos, bedrock: Any, start_run: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    photos.save("a.png")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    server = bedrock(f"- {{match: 'What is a', latency: 1s, reply: slow}}\n{REPLY}")
    process = start_run("run", "job.yaml", env=server.env)
    wait_for(lambda: server.log)
    photos.photos.rename(photos.folder / "moved")
    photos.photos.symlink_to(elsewhere)
    assert "the sidecar 'photos/a.txt' can't be written: Not a directory" in process.communicate(timeout=60)[1]
    assert process.returncode == 4
    assert list(elsewhere.iterdir()) == []
    photos.photos.unlink()
    (photos.folder / "moved").rename(photos.photos)
    photos.run(env=server.env)
    assert len(server.log) == 1
    photos.holds()


def test_ctrl_c_leaves_no_row_without_its_sidecar(photos: Photos, bedrock: Any, start_run: Any) -> None:
    photos.save(*(f"{number}.png" for number in range(60)))
    server = bedrock(REPLY, latency=0.02)
    process = start_run("run", "job.yaml", "-j", "4", env=server.env)
    wait_for(lambda: len(server.log) > 12)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert 0 < len(photos.rows()) < 60
    photos.holds()
    photos.run(env=server.env)
    photos.holds()


@pytest.mark.parametrize("changed", [False, True])
def test_what_a_killed_run_left_is_removed_and_not_written_through(
    changed: bool, photos: Photos, bedrock: Any, start_run: Any
) -> None:
    """Killed after the file had its name, and before it had lost the other."""
    photos.save("a.png")
    patch = (
        "import os, pathlib; link = os.link\n"
        "def die(*args, **folders):\n"
        "    link(*args, **folders)\n"
        "    os.kill(os.getpid(), 9)\n"
        "os.link = die\n"
    )
    server = bedrock(f"- {{match: now, reply: A blue square.}}\n{REPLY}")
    start_run("run", "job.yaml", env=server.env, patch=patch).wait(60)
    assert len(list(photos.photos.iterdir())) == 3
    (photos.folder / "link").hardlink_to(photos.photos / "a.txt")
    if changed:
        photos.change('ask: ""', "ask: ' now'")
    photos.run(env=server.env)
    assert (photos.folder / "link").read_text() == "A red square."
    assert photos.sidecars() == {"a.txt": "A blue square." if changed else "A red square."}
    photos.holds()


@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_after_kills_the_next_run_writes_what_is_missing(
    kills: int, photos: Photos, bedrock: Any, start_run: Any
) -> None:
    photos.save(*(f"{number}.png" for number in range(60)))
    server = bedrock(REPLY, latency=0.005)
    chance = random.Random(kills)
    for number in range(kills):
        if number % 3 == 2:  # so that there are sidecars to be replaced, too
            text = (photos.folder / "job.yaml").read_text()
            photos.job(text.replace(text[text.index("vars:") : text.index("sidecar:")], f"vars: {{ask: {number}}}\n"))
        wanted = len(server.log) + chance.randrange(50)
        process = start_run("run", "job.yaml", "-j", "8", env=server.env)
        wait_for(partial(ended_or_called, process, server.log, wanted))
        time.sleep(chance.random() * 0.02)
        process.kill()
        process.wait()
    photos.run(env=server.env)
    assert len(photos.rows()) == 60
    photos.holds()


def ended_or_called(process: subprocess.Popen[str], log: list[str], wanted: int) -> bool:
    return process.poll() is not None or len(log) >= wanted


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
