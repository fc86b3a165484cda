from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BedrockRun
from PIL import Image

from runner.cases import path_patterns
from runner.errors import Place
from runner.records import Text
from runner.templates.environment import Templates

_JOB = """\
name: pages
model: amazon.nova-lite-v1:0
turns:
  - user:
      text: Read the pages.
      images: [%s]
"""


def save(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1 + number, 1), "red").save(folder / name, "PNG")


def write_job(folder: Path, images: str, cases: str = "") -> Path:
    job = folder / "job.yaml"
    job.write_text(_JOB % images + cases)
    return job


def images_of(folder: Path) -> dict[str, list[str]]:
    rows = map(json.loads, (folder / "outputs" / "pages.jsonl").read_text().splitlines())
    return {row["case"]: [image["path"] for image in row["request"]["messages"][0].get("images", [])] for row in rows}


def test_a_pattern_stands_for_the_files_that_match_it_page_by_page(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "pages/a/page10.png", "pages/a/page2.png", "pages/a/.page3.png", "pages/b/page1.png", "cover.png")
    job = write_job(tmp_path, '"cover.png", "pages/{{ id }}/*.png"', "cases: [{vars: {id: a}}, {vars: {id: b}}]\n")
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 0, done.stderr
    assert images_of(tmp_path) == {
        "1": ["cover.png", "pages/a/page2.png", "pages/a/page10.png"],
        "2": ["cover.png", "pages/b/page1.png"],
    }


def test_wildcards_in_values_of_variables_are_plain_letters(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "a*/1.png", "ab/2.png", "photo [1].png", "photo 1.png", "what?.png", "whatx.png", "[x]/3.png")
    job = write_job(
        tmp_path,
        "\"{{ path }}{% if folder %}{{ folder }}/*{{ '.png' }}{% endif %}\"",
        "vars: {path: '', folder: ''}\ncases: rows.csv\n",
    )
    (tmp_path / "rows.csv").write_text(
        "id,path,folder\n1,photo [1].png,\n2,what?.png,\n3,,a*\n4,,[x]\n5,whatever*.png,\n"
    )
    done = bedrock_run("run", job, "--local")
    assert done.returncode == 3
    assert images_of(tmp_path) == {
        "1": ["photo [1].png"],
        "2": ["what?.png"],
        "3": ["a*/1.png"],
        "4": ["[x]/3.png"],
        "5": [],
    }
    assert "there is no image 'whatever*.png'" in (tmp_path / "outputs" / "pages.jsonl").read_text()


def test_a_file_of_just_that_name_goes_before_what_matches(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "photo [1].png", "photo 1.png")
    assert bedrock_run("run", write_job(tmp_path, '"photo [1].png"'), "--local").returncode == 0
    assert images_of(tmp_path) == {"1": ["photo [1].png"]}
    (tmp_path / "photo [1].png").unlink()
    assert bedrock_run("run", write_job(tmp_path, '"photo [1].png"'), "--local").returncode == 0
    assert images_of(tmp_path) == {"1": ["photo 1.png"]}


@pytest.mark.parametrize("stand_in", ["\ufdd0", "\ufdd1", "\ufdd2"])
def test_no_value_can_smuggle_a_wildcard_in(stand_in: str, bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "secret.png", "pages/1.png")
    job = write_job(tmp_path, '"{{ name }}/*"', f"cases: [{{vars: {{name: {json.dumps(stand_in)}}}}}]\n")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "there is no image" in done.stderr


def test_a_pattern_that_nothing_matches_is_an_error_with_what_is_there(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "pages/a/1.PNG", "pages/a/2.PNG")
    job = write_job(tmp_path, '"pages/{{ id }}/*.png"', "cases: [{id: x, vars: {id: a}}, {id: y, vars: {id: b}}]\n")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "no file matches `pages/a/*.png` (case x)" in done.stderr
    assert "there are 2 .PNG files" in done.stderr
    assert "there is no folder `pages/b` (case y)" in done.stderr
    assert f"{job}:6:16" in done.stderr


@pytest.mark.parametrize("written", ["''", "' '", "'{{ name }}'"])
def test_an_empty_path_says_so(written: str, bedrock_run: BedrockRun, tmp_path: Path) -> None:
    job = write_job(tmp_path, written, "cases: [{vars: {name: ''}}]\n")
    done = bedrock_run("validate", job)
    assert done.returncode == 2
    assert "is empty" in done.stderr


def test_links_and_folders_are_as_everywhere_in_a_job(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    save(tmp_path, "outside/x.png", "job/pages/1.png")
    (folder / "pages" / "2.png").symlink_to(tmp_path / "outside" / "x.png")
    job = write_job(folder, '"pages/*.png"')
    refused = bedrock_run("validate", job)
    assert refused.returncode == 2
    assert "outside the job file's folder" in refused.stderr
    assert bedrock_run("run", job, "--local", "--allow-dir", tmp_path / "outside").returncode == 0
    assert images_of(tmp_path) == {"1": ["pages/1.png", "pages/2.png"]}


def test_too_many_matches_are_refused_without_reading_them(
    bedrock_run: BedrockRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "pages/1.png")
    for number in range(2, path_patterns.MAX_MATCHES + 2):
        os.link(tmp_path / "pages" / "1.png", tmp_path / "pages" / f"{number}.png")
    done = bedrock_run("validate", write_job(tmp_path, '"pages/*"'))
    assert done.returncode == 2
    assert "more than 1,000 files match `pages/*`" in done.stderr


def test_the_key_is_of_the_pages_and_not_of_the_pattern(bedrock_run: BedrockRun, tmp_path: Path) -> None:
    save(tmp_path, "1.png", "2.png")
    assert bedrock_run("run", write_job(tmp_path, '"1.png", "2.png"'), "--local").returncode == 0
    done = bedrock_run("run", write_job(tmp_path, '"*.png"'), "--local")
    assert "nothing was called" in done.stderr


def test_a_folder_is_listed_once_for_many_cases_and_anew_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, "pages/a 1.png", "pages/b 1.png")
    os.utime(tmp_path / "pages", (1, 1))
    listed: list[str] = []
    scan = os.scandir

    def noted(folder: str) -> Iterator[os.DirEntry[str]]:
        listed.append(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", noted)
    patterns = path_patterns.PathPatterns(tmp_path, Templates(tmp_path))
    template = Text("pages/{{ id }} *.png", Place("job.yaml", 1, 1))

    def matching(name: str) -> list[str]:
        return patterns.matching(template, f"pages/{name} *.png", {"id": name})

    assert [matching("a"), matching("b")] == [["pages/a 1.png"], ["pages/b 1.png"]]
    assert len(listed) == 1
    save(tmp_path, "pages/b 2.png")
    assert matching("b") == ["pages/b 1.png", "pages/b 2.png"]
