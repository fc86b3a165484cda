"""Folders of pictures as people have them, through the whole command: what is sent, what is refused, what is kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from runner import media
from runner.cases.loading import load
from runner.media import limits
from runner.running import preflight

PHOTOGRAPHS = Path(__file__).parent.parent / "prompts" / "images"
JOB = """
    model: us.anthropic.claude-haiku-4-5-20251001-v1:0
    turns:
      - user: {{text: What is this?, images: ["{{{{ file.path }}}}"]}}
    cases: {{glob: "photos/*"}}
    {more}
"""


@pytest.fixture
def album(tmp_path: Path, write_job: Any) -> Any:
    """Writes a job about the folder `photos`; returns what puts files there."""
    folder = tmp_path / "photos"
    folder.mkdir()

    def job(more: str = "") -> Path:
        path: Path = write_job(JOB.format(more=more), name="album.yaml")
        return path

    job()
    return job


def saved(path: Path, picture: PIL.Image.Image, **how: Any) -> None:
    picture.save(path, **how)


def oriented(orientation: int) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.fixture
def photos(tmp_path: Path, album: Any) -> Path:
    """A folder from phones, scanners and the web, of which some are broken."""
    folder = tmp_path / "photos"
    red = PIL.Image.new("RGB", (400, 200), "red")
    saved(folder / "as-it-is.png", red)
    saved(folder / "bitmap.bmp", red)
    saved(folder / "cmyk.jpg", red.convert("CMYK"))
    saved(folder / "large.jpg", red.resize((4000, 3000)))
    saved(folder / "lying.jpg", red, exif=oriented(6))
    saved(
        folder / "scan.tif", PIL.Image.new("L", (300, 100)), save_all=True, append_images=[PIL.Image.new("L", (9, 9))]
    )
    saved(folder / "sixteen.png", PIL.Image.new("I;16", (30, 20), 60_000))
    shutil.copy(PHOTOGRAPHS / "cat.jpg", folder / "wrong name.png")
    whole = (PHOTOGRAPHS / "rocket.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "page.jpg").write_text("<!doctype html><title>404</title>")
    (folder / "empty.jpg").touch()
    return folder


def described(row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = row["request"]["messages"][0]["images"][0]
    return found


@pytest.mark.usefixtures("photos")
def test_every_picture_is_sent_made_to_fit_or_refused_for_a_true_reason(bedrock_run: Any, rows: Any) -> None:
    done = bedrock_run("--local", "album.yaml")
    assert done.returncode == 3, done.stderr
    found = {Path(row["case"]).name: row for row in rows("album")}
    sent = {name: (described(row).get("sent") or {}).get("changes") for name, row in found.items() if not row["error"]}
    assert sent == {
        "as-it-is.png": None,
        "bitmap.bmp": ["converted from bmp"],
        "cmyk.jpg": ["CMYK to RGB"],
        "large.jpg": ["scaled down from 4000x3000"],
        "lying.jpg": ["turned upright"],
        "scan.tif": ["converted from tiff", "the first of its pages"],
        "sixteen.png": ["16 bits a channel to 8"],
        "wrong name.png": None,
    }
    sizes = {
        "as-it-is.png": "400x200 pixels, red",
        "bitmap.bmp": "400x200 pixels, red",
        "cmyk.jpg": "400x200",
    }
    sizes |= {"large.jpg": "1568x1176 pixels, red", "lying.jpg": "200x400 pixels, red", "scan.tif": "300x100 pixels"}
    for name, told in sizes.items():
        assert f"The image is {told}" in found[name]["output"], found[name]["output"]
    errors = {name: row["error"]["message"] for name, row in found.items() if row["error"]}
    assert errors.keys() == {"broken.jpg", "empty.jpg", "page.jpg"}
    assert "cut short" in errors["broken.jpg"]
    assert "is empty" in errors["empty.jpg"]
    assert "an HTML page" in errors["page.jpg"]
    assert not any(row["attempts"] for row in found.values() if row["error"])


@pytest.mark.usefixtures("photos")
def test_what_would_become_of_pictures_is_told_before_anything_is_sent(bedrock_run: Any) -> None:
    checked = bedrock_run("validate", "album.yaml")
    assert checked.returncode == 3
    assert "3 of 11 cases cannot be asked and would be in error" in checked.stderr
    assert "the image 'photos/broken.jpg' is damaged: it is cut short" in checked.stderr
    told = "8 pictures: 2 unchanged, 6 made to fit (converted from bmp: 1, CMYK to RGB: 1, scaled down: 1"
    assert told in checked.stderr
    planned = json.loads(bedrock_run("--dry-run", "--json", "album.yaml").stdout)["jobs"][0]
    assert planned["faults"] == 3
    assert (planned["files"]["pictures"], planned["files"]["changed"]) == (8, 6)
    assert planned["files"]["tokens"] < planned["input_tokens"]
    assert told in bedrock_run("--dry-run", "album.yaml").stderr


def test_every_case_that_cannot_be_asked_is_told_if_that_is_wanted(
    album: Any, bedrock_run: Any, tmp_path: Path
) -> None:
    album()
    names = [f"photos/{number:02}.png" for number in range(12)]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    for command in (["validate"], ["run", "--dry-run"]):
        short, whole = (bedrock_run(*command, "album.yaml", *option).stderr for option in ([], ["-v"]))
        assert "-v tells of every one" in short
        assert all(name in whole for name in names)
        assert not all(name in short for name in names)
        done = bedrock_run(*command, "--json", "album.yaml")
        (job,) = json.loads(done.stdout)["jobs"]
        assert [fault["case"] for fault in job["cannot_be_asked"]] == names
        assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.usefixtures("photos")
def test_nothing_is_changed_where_the_job_says_so(album: Any, bedrock_run: Any, rows: Any) -> None:
    album("images: {fit: off}")
    assert bedrock_run("--local", "album.yaml").returncode == 3
    found = {Path(row["case"]).name: row for row in rows("album")}
    assert not any("sent" in described(row) for row in found.values() if not row["error"])
    assert "400x200" in found["lying.jpg"]["output"]
    assert "4000x3000" in found["large.jpg"]["output"]
    error = found["bitmap.bmp"]["error"]
    assert "a BMP; Bedrock takes png, jpeg, gif and webp" in error["message"]
    assert "`fit: off`" in error["hint"]


def test_a_size_of_one_s_own_goes_before_the_model_s(album: Any, bedrock_run: Any, rows: Any, tmp_path: Path) -> None:
    saved(tmp_path / "photos" / "a.jpg", PIL.Image.new("RGB", (4000, 3000), "blue"))
    for more, size in {"images: {max_edge: 500}": "500x375", "images: {max_edge: off}": "4000x3000"}.items():
        album(more)
        assert bedrock_run("--local", "album.yaml").returncode == 0
        assert size in rows("album")[0]["output"]


def test_a_renamed_picture_is_kept_and_a_replaced_one_is_called(
    album: Any, bedrock_run: Any, rows: Any, tmp_path: Path
) -> None:
    assert album
    folder = tmp_path / "photos"
    for colour in ("red", "blue", "green"):
        saved(folder / f"{colour}.jpg", PIL.Image.new("RGB", (3000, 2000), colour))
    assert bedrock_run("--local", "album.yaml").returncode == 0
    (folder / "red.jpg").rename(folder / "renamed.jpg")
    saved(folder / "blue.jpg", PIL.Image.new("RGB", (3000, 2000), "white"))
    done = bedrock_run("--local", "album.yaml")
    assert "2 kept" in done.stderr
    assert "1 called" in done.stderr
    assert [(row["case"], row["output"].split("pixels, ")[1].split(".")[0]) for row in rows("album")] == [
        ("photos/blue.jpg", "white"),
        ("photos/green.jpg", "green"),
        ("photos/renamed.jpg", "red"),
    ]


def test_a_smaller_size_concerns_only_pictures_that_are_larger(album: Any, bedrock_run: Any, tmp_path: Path) -> None:
    saved(tmp_path / "photos" / "small.jpg", PIL.Image.new("RGB", (300, 200), "red"))
    saved(tmp_path / "photos" / "large.jpg", PIL.Image.new("RGB", (3000, 2000), "red"))
    bedrock_run("--local", "album.yaml")
    album("images: {max_edge: 1000}")
    done = bedrock_run("--local", "album.yaml")
    assert "1 kept" in done.stderr
    assert "1 called" in done.stderr


def test_pictures_of_a_request_with_many_are_smaller(
    write_job: Any, bedrock_run: Any, rows: Any, tmp_path: Path
) -> None:
    saved(tmp_path / "large.png", PIL.Image.new("L", (2100, 50)))
    images = ", ".join(["large.png"] * 21)
    write_job(f"name: many\nturns: [{{user: {{text: x, images: [{images}]}}}}]\nimages: {{max_edge: off}}")
    assert bedrock_run("--local", "job.yaml").returncode == 0
    (row,) = rows("many")
    assert {image["sent"]["width"] for image in row["request"]["messages"][0]["images"]} == {2000}


def test_changes_are_counted_without_the_figures_of_one_picture(tmp_path: Path) -> None:
    saved(tmp_path / "a.jpg", PIL.Image.new("CMYK", (4000, 3000)))
    large = replace(media.look("a.jpg", tmp_path), bytes=media.MAX_BYTES + 1)
    plans = [media.plan(large, media.Limits(max_edge=edge)) for edge in (1568, None)]
    kinds = [[limits.kind_of_change(change) for change in plan.changes] for plan in plans if plan]
    assert kinds == [["CMYK to RGB", "scaled down"], ["CMYK to RGB", "recompressed"]]


@pytest.mark.usefixtures("photos")
def test_what_to_do_about_faults_is_said_once(album: Any, bedrock_run: Any) -> None:
    album("images: {fit: off}")
    told = bedrock_run("validate", "album.yaml").stderr.splitlines()
    hint = "        hint: convert it, or leave out `fit: off`: then it is made to fit"
    assert told.count(hint) == 1
    before = told[told.index(hint) - 2 : told.index(hint)]
    assert ["photos/bitmap.bmp" in before[0], "photos/scan.tif" in before[1]] == [True, True], told


def test_it_says_how_far_it_is_where_that_takes_its_time(
    album: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_PATIENCE", 0.0)
    for name in ("a.png", "b.png"):
        saved(tmp_path / "photos" / name, PIL.Image.new("L", (9, 9)))
    told: list[str] = []
    (cases,) = load([album()])
    preflight.survey(cases, tell=told.append)
    assert told == [f"looking at the files of album: {number} of 2 cases" for number in (1, 2)]


def test_a_picture_that_cannot_be_fitted_is_told_where_it_is_named(
    write_job: Any, bedrock_run: Any, tmp_path: Path
) -> None:
    saved(tmp_path / "small.png", PIL.Image.new("L", (9, 9)))
    saved(tmp_path / "bitmap.bmp", PIL.Image.new("L", (9, 9)))
    images = "\n".join(["      images:", "        - small.png", "        - bitmap.bmp"])
    write_job(f"images: {{fit: off}}\nturns:\n  - user:\n      text: x\n{images}\n")
    told = bedrock_run("validate", "job.yaml").stderr
    line = (tmp_path / "job.yaml").read_text().splitlines().index("        - bitmap.bmp") + 1
    assert f"job.yaml:{line}:11" in told


def test_what_is_wrong_with_a_picture_is_said_once(album: Any, bedrock_run: Any, rows: Any, tmp_path: Path) -> None:
    path = album()
    path.write_text(path.read_text().replace("What is this?", '"{{ file.width }}, {{ file.height }}"'))
    (tmp_path / "photos" / "cut.jpg").write_bytes((PHOTOGRAPHS / "rocket.jpg").read_bytes()[:200])
    assert bedrock_run("--local", "album.yaml").returncode == 3
    message = rows("album")[0]["error"]["message"]
    assert message.count("is damaged") == 1, message


def test_a_picture_that_cannot_be_converted_is_the_error_of_its_case_alone(
    album: Any, bedrock_run: Any, rows: Any, tmp_path: Path
) -> None:
    album()
    picture = PIL.Image.effect_noise((64, 64), 60)
    picture.save(tmp_path / "photos" / "a.tif", compression="tiff_lzw")
    content = (tmp_path / "photos" / "a.tif").read_bytes()
    (tmp_path / "photos" / "a.tif").write_bytes(content[:1000] + b"\xff" * 2000 + content[3000:])
    picture.save(tmp_path / "photos" / "b.png")
    done = bedrock_run("--local", "-j", "1", "--json", "album.yaml")
    assert done.returncode == 3, done.stderr
    assert "cannot be made to fit" in rows("album")[0]["error"]["message"]
    (job,) = json.loads(done.stdout)["jobs"]
    assert (job["calls"], job["not_asked"], job["passed"]) == (1, 1, 1)


def test_a_link_that_leads_nowhere_or_out_of_the_folder_is_the_error_of_its_case(
    album: Any, bedrock_run: Any, rows: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = album()
    path.write_text(path.read_text().replace("What is this?", '"{{ file.bytes }} bytes"'))
    shutil.copy(PHOTOGRAPHS / "cat.jpg", tmp_path / "photos" / "a.jpg")
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.jpg"
    shutil.copy(PHOTOGRAPHS / "cat.jpg", secret)
    for name, target in (("dead", "gone.jpg"), ("loop", "loop.jpg"), ("out", secret)):
        (tmp_path / "photos" / f"{name}.jpg").symlink_to(target)
    assert "3 of 4 cases cannot be asked" in bedrock_run("validate", "album.yaml").stderr
    assert bedrock_run("--local", "album.yaml").returncode == 3
    whole, *others = rows("album")
    assert whole["status"] == "passed"
    told = [
        "a link to a file that is not there",
        "a link that leads back to itself",
        "lies outside the job file's folder",
    ]
    assert all(words in row["error"]["message"] for words, row in zip(told, others, strict=True))
    assert not any(row["attempts"] for row in others)
    allowed = bedrock_run("--local", "--allow-dir", secret.parent, "album.yaml")
    assert "1 called, 2 not asked" in allowed.stderr
