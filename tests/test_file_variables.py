from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import BedrockRun
from PIL import Image

from runner import media
from runner.media import exif

_JOB = """\
name: photos
model: amazon.nova-lite-v1:0
prompt: "{prompt}"
cases: {{glob: "{glob}"}}
"""
ODD_NAMES = ["a b.png", "new\nline.png", 'it\'s "so".png', "caf\u00e9 \U0001f600.png", os.fsdecode(b"caf\xe9.png")]


def write_job(folder: Path, prompt: str, glob: str = "photos/*") -> Path:
    (folder / "photos").mkdir(exist_ok=True)
    job = folder / "job.yaml"
    job.write_text(_JOB.format(prompt=prompt.replace('"', '\\"'), glob=glob))
    return job


def save(path: Path, size: tuple[int, int] = (6, 4), **tags: Any) -> None:
    """An image with EXIF `taken`, `changed` and `orientation`, where given."""
    picture = Image.new("RGB", size, "red")
    data = Image.Exif()
    if "orientation" in tags:
        data[0x0112] = tags["orientation"]
    if "changed" in tags:
        data[0x0132] = tags["changed"]
    if "taken" in tags:
        data.get_ifd(0x8769)[0x9003] = tags["taken"]
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, exif=data)


def taken(path: Path) -> str:
    return exif.taken(media.look(path.name, path.parent))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "outputs" / "photos.jsonl").read_text().splitlines()]


def asked(row: dict[str, Any]) -> str:
    return str(row["request"]["messages"][0]["text"])


def test_what_is_in_a_file_is_known_to_its_templates(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    job = write_job(
        tmp_path, "{{ file.stem }}: {{ file.width }}x{{ file.height }}, {{ file.bytes }}, {{ file.taken }}."
    )
    save(tmp_path / "photos" / "upright.jpg", taken="2026:11:22 20:00:00", changed="2027:01:01 00:00:00")
    save(tmp_path / "photos" / "turned.jpg", orientation=6, changed="2026:11:23 01:02:03")
    save(tmp_path / "photos" / "plain.png")
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 0, done.stderr
    sizes = {path.stem: path.stat().st_size for path in (tmp_path / "photos").iterdir()}
    assert sorted(map(asked, rows(tmp_path))) == [
        f"plain: 6x4, {sizes['plain']}, .",
        f"turned: 4x6, {sizes['turned']}, 2026-11-23T01:02:03.",
        f"upright: 6x4, {sizes['upright']}, 2026-11-22T20:00:00.",
    ]
    assert rows(tmp_path)[0]["vars"]["file"].keys() == {
        "path", "name", "stem", "suffix", "width", "height", "bytes", "taken"
    }  # fmt: skip


def test_what_no_template_asks_for_is_not_looked_at_and_not_in_the_row(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    job = write_job(
        tmp_path, "{{ file.name }} {{ file.bytes }}{% if file.suffix == '.jpg' %} {{ file.width }}{% endif %}"
    )
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    (tmp_path / "photos" / "empty.txt").write_text("")
    save(tmp_path / "photos" / "x.jpg")
    assert bedrock_run("run", job, "--local").returncode == 0
    empty, notes, photo = rows(tmp_path)
    assert (asked(empty), asked(notes)) == ("empty.txt 0", "notes.txt 8")
    assert "width" not in notes["vars"]["file"]
    assert photo["vars"]["file"]["width"] == 6
    assert "height" not in photo["vars"]["file"]


def test_the_width_of_what_is_no_image_is_the_fault_of_its_row(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    job = write_job(tmp_path, "{{ file.width }}")
    (tmp_path / "photos" / "a.txt").write_text("no image")
    (tmp_path / "photos" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
    save(tmp_path / "photos" / "z.png")
    assert bedrock_run("run", job, "--local").returncode == 3
    wrong, cut, right = rows(tmp_path)
    assert [wrong["error"]["code"], cut["error"]["code"], right["status"]] == ["input", "input", "passed"]
    assert "'photos/a.txt' is of a format that is not known here" in wrong["error"]["message"]
    assert "'photos/cut.jpg' is damaged" in cut["error"]["message"]
    assert "\n" not in wrong["error"]["message"] + cut["error"]["message"]


@pytest.mark.parametrize("name", ["widht", "['widht']"])
def test_a_misspelt_variable_of_a_file_is_found_before_anything_is_sent(
    name: str, bedrock_run: BedrockRun, tmp_path: Path
) -> None:
    write = "file" + (name if name.startswith("[") else f".{name}")
    job = write_job(tmp_path, f"{{{{ {write} }}}}")
    save(tmp_path / "photos" / "x.jpg")
    for command in (["validate"], ["run", "--local"]):
        done = bedrock_run(*command, job)
        assert done.returncode == 2
        assert "undefined variable: `file.widht`" in done.stderr
        assert "did you mean `file.width`?" in done.stderr


def test_a_template_may_ask_whether_a_file_has_what_none_has(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    told = "{% if file.caption is defined %}no{% endif %}{{ file.lens | default('?') }}{{ file.get('path') }}"
    job = write_job(tmp_path, told + "{{ file.keys() | list }}")
    save(tmp_path / "photos" / "x.jpg")
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 0, done.stderr
    assert asked(rows(tmp_path)[0]) == '?photos/x.jpg["path", "name", "stem", "suffix"]'


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026:11:22 20:00:00", "2026-11-22T20:00:00"),
        ("2026:11:22 20:00:00\0", "2026-11-22T20:00:00"),
        ("2026-11-22T20:00:00Z", "2026-11-22T20:00:00"),
        ("0000:00:00 00:00:00", ""),
        ("    :  :     :  :  ", ""),
        ("2026:13:45 20:00:00", ""),
        ("2026:11:22 25:00:00", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_only_a_sensible_time_is_a_time(value: str, expected: str, tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", taken=value)
    assert taken(tmp_path / "x.jpg") == expected


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_every_format_may_tell_when_it_was_taken(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / f"x{suffix}", changed="2026:11:22 20:00:00", orientation=8)
    assert taken(tmp_path / f"x{suffix}") == "2026-11-22T20:00:00"


def test_photographs_of_iphones_tell_it_too(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    save(tmp_path / "x.jpg", (64, 48), taken="2026:11:22 20:00:00")
    with Image.open(tmp_path / "x.jpg") as picture:
        heif.from_pillow(picture).save(tmp_path / "x.heic", exif=picture.getexif().tobytes())
    assert taken(tmp_path / "x.heic") == "2026-11-22T20:00:00"


def test_a_photograph_of_200_megapixels_tells_it_too(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", taken="2026:11:22 20:00:00")
    content = bytearray((tmp_path / "x.jpg").read_bytes())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = (12_240).to_bytes(2, "big") + (16_320).to_bytes(2, "big")
    (tmp_path / "x.jpg").write_bytes(content)
    assert taken(tmp_path / "x.jpg") == "2026-11-22T20:00:00"


def test_damaged_exif_says_nothing(tmp_path: Path) -> None:
    save(tmp_path / "x.jpg", taken="2026:11:22 20:00:00")
    whole = (tmp_path / "x.jpg").read_bytes()
    image = replace(media.look("x.jpg", tmp_path), file=tmp_path / "y.jpg")
    for at in range(20, len(whole), 7):
        (tmp_path / "y.jpg").write_bytes(whole[:at] + b"\xff\xff" + whole[at + 2 :])
        assert len(exif.taken(image)) in (0, len("2026-11-22T20:00:00"))
        (tmp_path / "y.jpg").write_bytes(whole[:at])
        assert exif.taken(image) in ("", "2026-11-22T20:00:00")


def test_names_may_be_anything_from_glob_to_row_and_key(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    job = write_job(tmp_path, "{{ file.width }}", "photos/*.png")
    job.write_text(
        job.read_text().replace(
            'prompt: "{{ file.width }}"', 'turns: [{user: {text: "{{ file.width }}", images: ["{{ file.path }}"]}}]'
        )
    )
    for number, name in enumerate(ODD_NAMES, start=1):
        save(tmp_path / "photos" / name, (number, 1))
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 0, done.stderr
    found = {row["case"]: row for row in rows(tmp_path)}
    assert set(found) == {f"photos/{name}" for name in ODD_NAMES}
    for number, name in enumerate(ODD_NAMES, start=1):
        message = found[f"photos/{name}"]["request"]["messages"][0]
        assert (message["text"], message["images"][0]["path"]) == (str(number), f"photos/{name}")
    assert len({row["key"] for row in found.values()}) == len(ODD_NAMES)
    before = (tmp_path / "outputs" / "photos.jsonl").read_bytes()
    assert f"{len(ODD_NAMES)} kept from earlier runs, nothing was called" in bedrock_run("run", job, "--local").stderr
    assert (tmp_path / "outputs" / "photos.jsonl").read_bytes() == before
