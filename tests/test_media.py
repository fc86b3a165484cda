from __future__ import annotations

import base64
import io
import os
import struct
import sys
import zlib
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

import PIL.Image
import pytest

from runner.errors import CallError, FailureCode
from runner.media import MAX_BYTES, Limits, content, describe, files, headers, plan
from runner.media.files import MediaError

if TYPE_CHECKING:
    from runner.records import Image

# The seed's picture: one red pixel.
RED_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAx8JMKwAAAABJRU5ErkJggg=="
)


def picture(kind: str, width: int = 5, height: int = 3) -> bytes:
    stream = io.BytesIO()
    PIL.Image.new("RGB", (width, height), "red").save(stream, kind)
    return stream.getvalue()


def refusal(path: str, root: Path, *allow_dirs: Path) -> MediaError:
    with pytest.raises(MediaError) as caught:
        describe(path, root, allow_dirs=allow_dirs)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
def test_an_image_is_what_its_content_says(kind: str, media_type: str, tmp_path: Path) -> None:
    written = picture(kind)
    (tmp_path / "wrong.txt").write_bytes(written)
    image = describe("wrong.txt", tmp_path)
    assert image.media_type == media_type
    assert (image.path, image.file) == ("wrong.txt", tmp_path / "wrong.txt")
    assert (image.bytes, image.sha256) == (len(written), sha256(written).hexdigest())
    assert content(image) == written
    assert (image.width, image.height) == (5, 3)


def test_paths_start_at_the_folder_of_the_job(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red ü.png").write_bytes(RED_PIXEL)
    assert describe("images/../images/red ü.png", tmp_path).file == tmp_path / "images" / "red ü.png"


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    root = tmp_path / "job"
    root.mkdir()
    outside = tmp_path / "red.png"
    outside.write_bytes(RED_PIXEL)
    (root / "link.png").symlink_to(outside)
    for path in ("../red.png", str(outside), "link.png"):
        error = refusal(path, root)
        assert "outside" in error.message
        assert error.hint is not None
        assert f"--allow-dir {tmp_path}" in error.hint
        assert describe(path, root, allow_dirs=[tmp_path]).file == outside


def test_the_folder_to_allow_is_told_as_a_shell_takes_it(tmp_path: Path) -> None:
    (tmp_path / "two words").mkdir()
    (tmp_path / "two words" / "red.png").write_bytes(RED_PIXEL)
    error = refusal("../two words/red.png", tmp_path / "job")
    assert error.hint is not None
    assert error.hint.endswith(f"--allow-dir '{tmp_path}/two words'")


def test_what_takes_the_place_of_a_file_that_was_found_is_not_read(tmp_path: Path) -> None:
    root, secret = tmp_path / "job", tmp_path / "secret.png"
    (root / "photos").mkdir(parents=True)
    secret.write_bytes(RED_PIXEL)
    (root / "photos" / "secret.png").write_bytes(RED_PIXEL)
    found = files.find("photos/secret.png", root)

    (root / "photos").rename(root / "before")
    (root / "photos").symlink_to(tmp_path)
    with pytest.raises(MediaError, match="another file was put in its place"):
        files.content(found)
    (root / "photos").unlink()
    (root / "photos").mkdir()
    (root / "photos" / "secret.png").symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        files.open_regular(found.file)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(RED_PIXEL)
    (tmp_path / "link.png").symlink_to("red.png")
    assert describe("link.png", tmp_path).bytes == len(RED_PIXEL)


@pytest.mark.parametrize(
    ("begins", "kind"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"%PDF-1.7", "PDF"),
        (b"\xef\xbb\xbf <SVG xmlns=''>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"PK\x03\x04", "ZIP"),
        (b"hello", "format that is not known"),
        (b"\x89PNG", "format that is not known"),
        (b"RIFF\0\0\0\0WAVE", "format that is not known"),
    ],
)
def test_other_formats_are_named(begins: bytes, kind: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(begins)
    error = refusal("x.png", tmp_path)
    assert kind in error.message
    assert ("download that again" if kind == "HTML" else "convert it to png, jpeg, gif or webp") in (error.hint or "")


def test_a_git_lfs_pointer_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    error = refusal("x.png", tmp_path)
    assert "Git LFS" in error.message
    assert error.hint == "fetch it with `git lfs pull`"


def test_the_size_limit_counts_raw_bytes(tmp_path: Path) -> None:
    png, limits = picture("PNG"), Limits(fit=False)
    (tmp_path / "most.png").write_bytes(png + bytes(MAX_BYTES - len(png)))
    most = describe("most.png", tmp_path)
    assert plan(most, limits) is None
    assert len(base64.b64encode(content(most))) == 5 * 1024 * 1024

    (tmp_path / "more.png").write_bytes(png + bytes(MAX_BYTES - len(png) + 1))
    with pytest.raises(MediaError, match=r"3,932,161 bytes; Bedrock takes at most 3,932,160"):
        plan(describe("more.png", tmp_path), limits)


@pytest.mark.parametrize("url", ["http://example.com/x.png", "https://example.com/x.png", "s3://bucket/x.png"])
def test_a_url_is_no_file(url: str, tmp_path: Path) -> None:
    error = refusal(url, tmp_path)
    assert "URL" in error.message
    assert error.hint is not None
    assert "download" in error.hint


@pytest.mark.parametrize("start", ["data:image/png;base64,", "Data:;base64,", "data:,", ""])
def test_the_content_of_a_file_is_no_path_and_is_not_told_whole(start: str, tmp_path: Path) -> None:
    error = refusal(start + "iVBORw0KGgo/" * 10_000, tmp_path)
    assert len(error.message) + len(error.hint or "") < 1000
    if start:
        assert "is a data: URI; an image must be a file" in error.message
        assert error.hint == "decode it into a file next to the job file and name that"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these folders")
def test_files_in_memory_are_files_and_what_the_system_tells_of_itself_is_none(tmp_path: Path) -> None:
    assert "shows how the system is doing" in refusal("/proc/version", tmp_path, Path("/proc")).message
    with NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(RED_PIXEL)
        file.flush()
        assert describe(file.name, tmp_path, allow_dirs=[Path("/dev/shm")]).bytes == len(RED_PIXEL)


@pytest.mark.timeout(10)
def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.png").touch()
    assert "pipe" in refusal("pipe", tmp_path).message
    assert "folder" in refusal("folder", tmp_path).message
    assert "folder" in refusal(".", tmp_path).message
    assert "empty" in refusal("empty.png", tmp_path).message
    missing = refusal("missing.png", tmp_path)
    assert missing.hint is not None
    assert str(tmp_path / "missing.png") in missing.hint
    with pytest.raises(MediaError, match="device"):
        describe("/dev/zero", tmp_path, allow_dirs=[Path("/dev")])


@pytest.mark.parametrize("path", ["a\0b", "x" * 5_000, "loop"])
def test_paths_that_cannot_be(path: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refusal(path, tmp_path)


def test_an_image_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files._content.cache_clear()
    file = tmp_path / "red.png"
    file.write_bytes(RED_PIXEL)
    first = describe("red.png", tmp_path)
    assert describe("./red.png", tmp_path).sha256 == first.sha256
    assert files._content.cache_info().misses == 1

    file.write_bytes(RED_PIXEL + b"x")
    assert describe("red.png", tmp_path).sha256 != first.sha256
    assert files._content.cache_info().misses == 2


def test_what_is_known_of_an_image_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(RED_PIXEL)
    first = describe("red.png", tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(headers, "read", None)
        assert describe("red.png", tmp_path) == first
    file.write_bytes(picture("PNG"))
    assert describe("red.png", tmp_path).width == 5


def test_what_is_no_image_is_not_read_to_its_end(tmp_path: Path) -> None:
    files._content.cache_clear()
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypisom\0\0\0\0" + bytes(1000))
    assert "a video" in refusal("film.mp4", tmp_path).message
    assert files._content.cache_info().misses == 0


def failure(image: Image) -> CallError:
    with pytest.raises(CallError) as caught:
        content(image)
    assert caught.value.code is FailureCode.INPUT
    return caught.value


def test_an_image_that_changed_or_went_is_not_sent(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(RED_PIXEL)
    image = describe("red.png", tmp_path)
    file.write_bytes(RED_PIXEL[:-1] + b"x")
    assert "has changed" in failure(image).message
    file.unlink()
    assert "can no longer be read" in failure(image).message


def png_of(width: int, height: int) -> bytes:
    def piece(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + piece(b"IHDR", header) + piece(b"IDAT", b"") + piece(b"IEND", b"")


@pytest.mark.parametrize("pixels", [(10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_harmless(pixels: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(png_of(*pixels))
    with pytest.raises(MediaError, match="pixels"):
        plan(describe("bomb.png", tmp_path), Limits())


@pytest.mark.parametrize("begins", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff\xd8\xff" + bytes(50), b"GIF89a"])
def test_a_damaged_image_is_no_image(begins: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(begins)
    assert "damaged" in refusal("x.png", tmp_path).message
