from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.datasets import globs
from runner.datasets.files import DataError, DataRow
from runner.errors import Place, Problem


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(pattern: str, root: Path, *allow_dirs: Path) -> list[str]:
    rows = list(globs.files(pattern, root, allow_dirs=allow_dirs))
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))
    return [row.values["file"]["path"] for row in rows]


def refusal(pattern: str, root: Path, *allow_dirs: Path) -> Problem:
    place = Place("job.yaml", 3, 10)
    with pytest.raises(DataError) as caught:
        list(globs.files(pattern, root, place=place, allow_dirs=allow_dirs))
    assert caught.value.problem.place == place
    return caught.value.problem


def test_a_file_is_one_variable_with_the_parts_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.b.JPG")
    (row,) = globs.files("photos/*", tmp_path)
    assert row == DataRow(
        number=1,
        line=0,
        values={"file": {"path": "photos/a.b.JPG", "name": "a.b.JPG", "stem": "a.b", "suffix": ".JPG"}},
        id=None,
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["top.jpg"]),
        ("./*.jpg", ["top.jpg"]),
        ("photos/*.jpg", ["photos/a.jpg", "photos/b.jpg"]),
        ("photos//./*.jpg", ["photos/a.jpg", "photos/b.jpg"]),
        ("photos/[!a].jpg", ["photos/b.jpg"]),
        ("photos/?.jpg", ["photos/a.jpg", "photos/b.jpg"]),
        ("photos/{a,c{b,d}}.{jpg,png}", ["photos/a.jpg"]),
        ("{photos,other}/{b,a}.{jpg,*}", ["photos/a.jpg", "photos/b.jpg"]),
        ("photos/a{,.x}.jpg", ["photos/a.jpg"]),
        ("photos/a.jpg", ["photos/a.jpg"]),
        ("photos/**/*.jpg", ["photos/a/x.jpg", "photos/a/y/z.jpg", "photos/a.jpg", "photos/b.jpg"]),
        ("**/x.jpg", ["photos/a/x.jpg"]),
        ("**/a/**/*.jpg", ["photos/a/x.jpg", "photos/a/y/z.jpg"]),
        ("**/**/y/*", ["photos/a/y/z.jpg"]),
        ("photos/a/**", ["photos/a/x.jpg", "photos/a/y/z.jpg"]),
        ("photos/*/*", ["photos/a/x.jpg"]),
        ("p*/*/y/*", ["photos/a/y/z.jpg"]),
        (".*", [".hidden.jpg"]),
        ("photos/.git/*", ["photos/.git/c.jpg"]),
        ("photos/.*/*", ["photos/.git/c.jpg"]),
    ],
)
def test_patterns_are_those_of_a_shell(pattern: str, expected: list[str], tmp_path: Path) -> None:
    touch(tmp_path, "top.jpg", ".hidden.jpg", "photos/a.jpg", "photos/b.jpg", "photos/a/x.jpg", "photos/a/y/z.jpg",
          "photos/.git/c.jpg", "photos/readme.txt")  # fmt: skip
    (tmp_path / "photos" / "folder.jpg").mkdir()
    assert found(pattern, tmp_path) == expected


def test_the_order_is_by_the_parts_of_the_path(tmp_path: Path) -> None:
    names = ["a-b/1", "a/2", "a/10", "a.c", "B/1", "é/1", "z", "\U0001f600"]
    touch(tmp_path, *names)
    assert found("**", tmp_path) == ["B/1", "a/2", "a/10", "a-b/1", "a.c", "z", "é/1", "\U0001f600"]


def test_names_may_be_anything(tmp_path: Path) -> None:
    names = [" a b .jpg", "new\nline.jpg", "[x].jpg", "日本.jpg", "{{ x }}.jpg", "*.jpg", "\\.jpg"]
    touch(tmp_path, *names)
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    assert sorted(found("*.jpg", tmp_path)) == sorted([*names, "caf\udce9.jpg"])
    assert found("[[]x].jpg", tmp_path) == ["[x].jpg"]
    touch(tmp_path, "d [1]\n/x.jpg")
    assert found("d*/*.jpg", tmp_path) == ["d [1]\n/x.jpg"]


def test_upper_and_lower_case_differ_and_the_message_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "p/b.JPG", "p/c.jpeg", "p/d.jpeg", "p/e")
    assert found("*.jpg", tmp_path) == ["a.jpg"]
    problem = refusal("p/*.jpg", tmp_path)
    assert problem.message == "no file matches `p/*.jpg`"
    assert "2 .jpeg files, 1 .JPG file, 1 other file" in str(problem.hint)
    assert "'b.JPG'" in str(problem.hint)
    assert found("p/*.[jJ][pP][gG]", tmp_path) == ["p/b.JPG"]


def test_a_pattern_that_matches_nothing_says_what_is_there_instead(tmp_path: Path) -> None:
    touch(tmp_path, "photos/a/x.jpg", "hidden/.x.jpg", "file.jpg")
    (tmp_path / "empty").mkdir()
    assert refusal("photo/*.jpg", tmp_path).hint == "did you mean `photos`?"
    assert refusal("photo/*.jpg", tmp_path).message == "there is no folder `photo`"
    assert refusal("photos/b/c/*.jpg", tmp_path).message == "there is no folder `photos/b/c`"
    assert "`photos/**/*.jpg`" in str(refusal("photos/*.jpg", tmp_path).hint)
    assert "start with a dot" in str(refusal("hidden/*.jpg", tmp_path).hint)
    assert "jpg file" in str(refusal("photos/**/*.{png,gif}", tmp_path).hint)
    assert "stand for more than 1,000 names" in refusal("{a,b}" * 10 + "{a,b}.jpg", tmp_path).message
    assert "no files" in str(refusal("empty/*", tmp_path).hint)
    assert "is a file" in refusal("file.jpg/*", tmp_path).message
    assert refusal("photos", tmp_path).hint == "'photos' is a folder: `photos/**` matches the files in it"
    assert "a `{` without a `}`" in str(refusal("{file.jpg", tmp_path).hint)
    assert "a `{`" not in str(refusal("{x,y{a,b}}.png", tmp_path).hint)


@pytest.mark.parametrize("pattern", ["", " ", "photos/", ".", "..", "*/../x", "a\0*/*"])
def test_what_is_no_pattern_is_refused(pattern: str, tmp_path: Path) -> None:
    touch(tmp_path, "photos/a.jpg")
    assert refusal(pattern, tmp_path).hint


def test_files_outside_the_jobs_folder_need_permission(tmp_path: Path) -> None:
    root, outside = tmp_path / "job", tmp_path / "outside"
    touch(tmp_path, "job/in/a.jpg", "outside/b.jpg", "outside/deep/c.jpg")
    assert f"--allow-dir {outside}" in str(refusal("../outside/*.jpg", root).hint)
    assert "outside the job" in refusal(f"{outside}/*.jpg", root).message
    assert found("../outside/*.jpg", root, outside) == [f"{outside}/b.jpg"]
    assert found(f"{outside}/**/*.jpg", root, outside) == [f"{outside}/b.jpg", f"{outside}/deep/c.jpg"]
    assert found(f"{root}/in/*.jpg", root) == ["in/a.jpg"]
    assert found("../job/in/*.jpg", root) == ["in/a.jpg"]


def test_links_are_followed_and_judged_by_where_they_lead(tmp_path: Path) -> None:
    root, outside = tmp_path / "job", tmp_path / "outside"
    touch(tmp_path, "job/in/a.jpg", "outside/b.jpg")
    (root / "in" / "b.jpg").symlink_to(root / "in" / "a.jpg")
    (root / "in" / "loop").symlink_to(root)
    (root / "linked").symlink_to(outside)
    assert found("in/*.jpg", root) == ["in/a.jpg", "in/b.jpg"]
    assert found("**/*.jpg", root) == ["in/a.jpg", "in/b.jpg"]
    assert found("in/*/in/a.jpg", root) == ["in/loop/in/a.jpg"]
    assert "outside the job" in refusal("linked/*.jpg", root).message
    assert "outside the job" in refusal("*/b.jpg", root).message
    assert found("linked/*.jpg", root, outside) == ["linked/b.jpg"]


def test_links_that_lead_nowhere_or_out_are_for_who_reads_them_to_tell(tmp_path: Path) -> None:
    root = tmp_path / "job"
    touch(tmp_path, "job/a.jpg", "outside/b.jpg")
    for name, target in (("dead", "gone"), ("loop", "loop.jpg"), ("out", tmp_path / "outside" / "b.jpg")):
        (root / f"{name}.jpg").symlink_to(target)
    assert found("*.jpg", root) == ["a.jpg", "dead.jpg", "loop.jpg", "out.jpg"]


def test_all_folders_that_may_not_be_looked_into_are_told_together(tmp_path: Path) -> None:
    touch(tmp_path, "job/in/a.jpg", "one/b.jpg", "another one/c.jpg")
    for name in ("one", "another one"):
        (tmp_path / "job" / name).symlink_to(tmp_path / name)
    problem = refusal("*/*.jpg", tmp_path / "job")
    assert problem.message == "'another one', 'one' lie outside the job file's folder"
    assert f"--allow-dir '{tmp_path}/another one' --allow-dir {tmp_path}/one" in str(problem.hint)


def test_pipes_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert refusal("pipe.jpg", tmp_path).message == "'pipe.jpg' is a device, pipe or socket, not a file"
    touch(tmp_path, "x.jpg")
    assert found("*.jpg", tmp_path) == ["x.jpg"]
