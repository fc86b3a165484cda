"""Pictures in the HTML report: as a grid, looked at in a real Chromium, and as files beside the report."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import random
import re
import shutil
import signal
import time
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from playwright.sync_api import Page, expect
from report_pages import Open, data_of, image, in_error, picture, row, rows_of, showing, write

from runner import media, report
from runner.report import Reports, thumbnails
from runner.report.beside import Beside
from runner.report.thumbnails import ONE_FILE, Picture, Thumbnails
from runner.running import summary

PHOTOS = Path(__file__).parent.parent / "prompts" / "images"


def noise(number: int) -> bytes:
    """A picture of which no thumbnail is small."""
    stream = io.BytesIO()
    PIL.Image.frombytes("L", (64, 64), random.Random(number).randbytes(64 * 64)).save(stream, "PNG")
    return stream.getvalue()


def saved(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    """An image that is there."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return image(name, content)


def noisy(folder: Path, numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Rows of which each shows a picture of its own."""
    return [showing(row(number), folder, saved(folder, f"{number}.png", noise(number))) for number in numbers]


def made(found: list[dict[str, Any]], folder: Path, name: str = "report.html") -> Path:
    """The report, with the folder beside it if it needs one."""
    rows = rows_of(found, folder)
    path = folder / name
    outcome = report.write(Reports(html=path), rows, summary.of_rows(rows), verbose=True)
    assert outcome.failures == []
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has room for two pictures or so: the third makes a folder of them."""
    monkeypatch.setattr(thumbnails, "ONE_FILE", 10_000)


# --- the grid --------------------------------------------------------------------------------------------------------


def names(page: Page) -> list[str]:
    return page.locator("#pictures .case-id").all_text_contents()


def test_a_job_of_pictures_is_shown_as_pictures_with_what_failed_first(tmp_path: Path, opened: Open) -> None:
    for name in ("cat.jpg", "rocket.jpg"):
        shutil.copy(PHOTOS / name, tmp_path)
    cat, rocket = (image(name, (tmp_path / name).read_bytes()) for name in ("cat.jpg", "rocket.jpg"))
    found = [
        showing(row(0, case="photos/cat.jpg", output="A tabby cat."), tmp_path, cat),
        showing(row(1, reason="expected a rocket", output="A lamp post."), tmp_path, rocket, cat, rocket),
        showing(in_error(2, "slow down"), tmp_path, image("gone.png", b"gone")),
        row(3, output="There is nothing to see."),
        showing(row(4, output='{"what": "cat"}', parsed={"what": "cat", "tags": ["soft"]}), tmp_path, cat),
    ]
    page = opened(write(found, tmp_path)).page
    assert names(page) == ["case-2", "case-1", "photos/cat.jpg", "case-3", "case-4"]
    error, failed, passed, without, parsed = page.locator(".picture").all()
    expect(error).to_contain_text("no picturethere is no image 'gone.png'")
    expect(error).to_contain_text("throttled: slow down")
    expect(error.locator(".status-error")).to_have_text("error")
    expect(failed.locator("img")).to_have_attribute("alt", "rocket.jpg")
    expect(failed).to_contain_text("1 of 3")
    expect(failed.locator(".told-failed")).to_have_text("expected a rocket")
    expect(failed).to_contain_text("A lamp post.")
    expect(passed.locator("img")).to_have_js_property("naturalWidth", 240)
    expect(passed).to_contain_text("A tabby cat.")
    expect(passed.locator(".status-passed")).to_have_text("passed")
    expect(without).to_contain_text("no picturethe case has none")
    assert parsed.locator(".picture-caption .clamp").all_text_contents() == ["what cat tags soft"]
    assert len(data_of(tmp_path / "report.html")["thumbnails"]) == 2  # each content once


def test_a_caption_with_fields_gives_the_lines_to_what_is_long(tmp_path: Path, opened: Open) -> None:
    long = "A tabby cat lies on a sofa. " * 9
    parsed = {"people": 1, "caption": long, "sharp": True, "place": {"country": "France", "city": "Nice"}}
    found = showing(row(0, parsed=parsed), tmp_path, saved(tmp_path, "0.png", noise(0)))
    lines = opened(write([found], tmp_path)).page.locator(".picture-caption .clamp")
    assert lines.all_text_contents() == [
        f"caption {long.strip()}",
        "place country: France, city: Nice",
        "people 1 sharp true",
    ]
    heights = lines.evaluate_all("found => found.map((each) => Math.round(each.getBoundingClientRect().height / 18))")
    assert heights == [4, 1, 1]


def test_an_embedding_is_told_as_a_vector(tmp_path: Path, opened: Open) -> None:
    embedding = row(0, output=json.dumps({"embedding": [0.5] * 1024}), request={"body": {"inputText": "x"}})
    text = row(1, output='{"results": ["x"]}', request={"body": {"inputText": "x"}})
    page = opened(write([embedding, text], tmp_path)).page
    told = page.locator("#table td.col-result").all_text_contents()
    assert told == ["a vector of 1,024 numbers", '{"results": ["x"]}']


def test_a_case_in_error_without_an_image_says_once_why(tmp_path: Path, opened: Open) -> None:
    shown = showing(row(0), tmp_path, saved(tmp_path, "0.png", noise(0)))
    others = [showing(row(number), tmp_path, saved(tmp_path, "0.png", noise(0))) for number in (2, 3)]
    page = opened(write([shown, in_error(1, "the image 'x.png' is damaged"), *others], tmp_path)).page
    expect(page.locator(".picture-frame").first).to_have_text("no picture")
    expect(page.locator(".picture-caption").first).to_have_text("throttled: the image 'x.png' is damaged")


def test_a_job_with_few_pictures_is_shown_as_a_list_first(tmp_path: Path, opened: Open) -> None:
    one = showing(row(0), tmp_path, saved(tmp_path, "0.png", noise(0)))
    page = opened(write([one, row(1)], tmp_path)).page
    expect(page.locator("#table")).to_be_visible()
    page.get_by_role("button", name="Pictures").click()
    assert names(page) == ["case-0", "case-1"]
    page = opened(write([row(0), row(1)], tmp_path)).page
    expect(page.get_by_role("button", name="Pictures")).to_have_count(0)


def test_pictures_are_searched_filtered_and_sorted_as_the_list_is(tmp_path: Path, opened: Open) -> None:
    found = noisy(tmp_path, range(4))
    found[1] |= {"tags": ["odd"], "latency_ms": 7}
    found[2] = showing(row(2, reason="no"), tmp_path, saved(tmp_path, "holiday/beach.png", noise(2)))
    page = opened(write(found, tmp_path)).page
    page.fill("#search", "holiday")  # the name of a file
    expect(page.locator("#shown")).to_have_text("1 of 4")
    assert names(page) == ["case-2"]
    page.fill("#search", "")
    expect(page.locator("#shown")).to_have_text("4")
    page.get_by_role("button", name="failed").click()
    assert names(page) == ["case-2"]
    page.get_by_role("button", name="all").click()
    page.select_option("#tag", "odd")
    assert names(page) == ["case-1"]
    page.select_option("#tag", "")
    page.select_option("#sort", "position")
    assert names(page) == ["case-0", "case-1", "case-2", "case-3"]
    page.fill("#search", "nowhere")
    expect(page.locator(".empty")).to_contain_text("No case passes the filters.")


def test_the_keyboard_moves_among_pictures_in_both_directions(tmp_path: Path, opened: Open) -> None:
    page = opened(write(noisy(tmp_path, range(12)), tmp_path)).page  # three rows: of five, five and two
    active, title = page.locator("#pictures .active .case-id"), page.locator("#pane-title")
    page.keyboard.press("j")
    expect(active).to_have_text("case-0")
    expect(page.locator("#pictures")).to_be_focused()
    for key, name in (
        ("ArrowRight", "case-1"),
        ("ArrowDown", "case-6"),
        ("ArrowLeft", "case-5"),
        ("k", "case-4"),
        ("ArrowUp", "case-4"),  # there is no row above
        ("ArrowDown", "case-9"),
        ("ArrowDown", "case-11"),  # the row below is shorter
        ("ArrowDown", "case-11"),
        ("Home", "case-0"),
        ("End", "case-11"),
    ):
        page.keyboard.press(key)
        assert (key, active.text_content()) == (key, name)
        assert page.locator("#pictures").get_attribute("aria-activedescendant") == f"case-{name.partition('-')[2]}"
    expect(active).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(title).to_have_text("case-11")
    expect(page.locator(".picture[aria-selected=true]")).to_be_in_viewport()
    page.keyboard.press("k")
    expect(title).to_have_text("case-10")
    expect(page.locator(".picture[aria-selected=true] .case-id")).to_have_text("case-10")
    page.keyboard.press("Escape")
    expect(page.locator("#pictures")).to_be_focused()
    page.locator(".picture").nth(3).click()
    expect(title).to_have_text("case-3")
    assert page.url.endswith("#quiz/case-3")


def test_a_picture_that_stays_in_sight_is_not_drawn_again(tmp_path: Path, opened: Open) -> None:
    page = opened(write(noisy(tmp_path, range(60)), tmp_path)).page
    page.evaluate("document.getElementById('case-5').dataset.kept = 'yes'")
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#case-39")).to_have_count(0)
    page.evaluate("scrollBy(0, 900)")
    expect(page.locator("#case-39")).to_be_attached()
    expect(page.locator("#case-5[data-kept]")).to_be_attached()


def test_a_phone_shows_two_pictures_in_a_row(tmp_path: Path, opened: Open) -> None:
    long = "a" * 3000
    found = noisy(tmp_path, range(4))
    found[0] |= {"case": f"folder/{long}", "output": long, "parsed": {long: long}}
    found[1] |= {"job": long, "matrix": {"tone": long}}
    page = opened(write(found, tmp_path), viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True).page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.evaluate("document.getElementById('list').scrollIntoView()")
    expect(page.locator(".picture")).to_have_count(4)
    boxes = page.locator(".picture").evaluate_all("all => all.map((one) => one.getBoundingClientRect().toJSON())")
    assert len({box["x"] for box in boxes}) == 2
    assert len({box["height"] for box in boxes}) == 1
    page.locator(".picture").nth(2).tap()
    expect(page.locator("#pane")).to_be_visible()


def test_the_pane_says_what_was_sent_beside_text(tmp_path: Path, opened: Open) -> None:
    sent = {"media_type": "image/jpeg", "width": 1568, "height": 1176, "changes": ["scaled down", "turned upright"]}
    shown = saved(tmp_path, "big.png", noise(1)) | {"sent": sent}
    document = {"path": "a/<b>.pdf", "sha256": "1" * 64, "bytes": 12345, "media_type": "application/pdf"}
    video = {"path": "s3://bucket/film.mp4", "sha256": None, "bytes": None, "media_type": "video/mp4"}
    found = showing(row(), tmp_path, shown, documents=[{**document, "name": "Document 1"}], video=video)
    found["parsed"] = {"mood": "calm", "people": [{"age": 7}]}
    pane = opened(write([found], tmp_path), "#quiz/case-0").page.locator("#pane")
    expect(pane.locator(".thumbnail")).to_contain_text("sent as 1568 x 1176 jpeg: scaled down, turned upright")
    files = pane.locator(".turn-user .attachments li").all_text_contents()
    assert files == ["a/<b>.pdf, application/pdf, 12,345 bytes", "s3://bucket/film.mp4, video/mp4"]
    fields = pane.locator("section").filter(has_text="Reply as data")
    assert fields.locator("dt").all_text_contents() == ["mood", "people"]
    expect(fields).to_contain_text('"age": 7')


# --- what can't be shown ---------------------------------------------------------------------------------------------


def test_images_become_small_pictures_where_they_are_what_was_sent(tmp_path: Path, opened: Open) -> None:
    contents = {
        "wide.png": picture("RGB", (1000, 100)),
        "clear.png": picture("RGBA", (10, 10)),
        "photo.jpg": picture("RGB", (300, 600)),
        "same.png": picture("RGB", (1000, 100)),
        "changed.png": b"other bytes",
        "damaged.png": picture("RGB", (64, 64))[:60],
        "gone.png": b"gone",
    }
    found = [showing(row(number), tmp_path, image(*each)) for number, each in enumerate(contents.items())]
    for name, content in contents.items():
        if name != "gone.png":
            (tmp_path / name).write_bytes(content)
    (tmp_path / "changed.png").write_bytes(contents["wide.png"])
    path = write(found, tmp_path)
    data = data_of(path)
    images = [each["messages"][0]["images"][0] for each in data["cases"]]
    assert [image.get("thumbnail") for image in images] == [0, 1, 2, 0, None, None, None]
    kinds = [source.partition(";")[0] for source in data["thumbnails"]]
    assert kinds == ["data:image/jpeg", "data:image/png", "data:image/jpeg"]
    assert "has changed since" in images[4]["missing"]
    assert "damaged" in images[5]["missing"]
    assert "there is no image" in images[6]["missing"]
    page = opened(path, "#quiz/case-0").page
    expect(page.locator("#pane img")).to_have_js_property("naturalWidth", 240)
    page.goto(path.as_uri() + "#quiz/case-6")
    expect(page.locator("#pane .missing")).to_contain_text("there is no image")


def test_it_says_how_many_pictures_are_not_there(tmp_path: Path) -> None:
    there = saved(tmp_path, "0.png", noise(0))
    found = [showing(row(number), tmp_path, shown) for number, shown in enumerate((there, image("x.png", b"x")))]
    told: list[str] = []
    rows = rows_of(found, tmp_path)
    report.write(Reports(html=tmp_path / "r.html"), rows, summary.of_rows(rows), tell=told.append)
    why = f"the first, in {tmp_path}: there is no image 'x.png'"
    assert told == [f"note: 1 picture was not found as sent; {why}"]


def test_a_picture_that_was_renamed_is_found_by_the_name_that_is_left(tmp_path: Path) -> None:
    content = noise(1)
    found = [
        showing(row(0), tmp_path, image("old.png", content)),
        showing(row(1), tmp_path, saved(tmp_path, "new.png", content)),
    ]
    images = [each["messages"][0]["images"][0] for each in data_of(write(found, tmp_path))["cases"]]
    assert [image["thumbnail"] for image in images] == [0, 0]


def test_of_a_picture_in_s3_it_is_said_where_it_is() -> None:
    in_s3 = Picture(Path(), "s3://bucket/photo.jpg", None)
    found = Thumbnails([in_s3])
    assert (found.number(in_s3), found.sources) == (None, [])
    assert found.why_missing(in_s3) == "the model fetched it from S3"


def test_what_no_decoder_foresaw_is_one_missing_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = media.thumbnail

    def break_on_zero(image: Any, *, side: int) -> str:
        if image.path == "0.png":
            raise IndexError("list index out of range")
        return whole(image, side=side)

    monkeypatch.setattr(media, "thumbnail", break_on_zero)
    images = [each["messages"][0]["images"][0] for each in data_of(write(noisy(tmp_path, (0, 1)), tmp_path))["cases"]]
    assert images[0]["missing"] == "no thumbnail could be made of it: IndexError: list index out of range"
    assert images[1]["thumbnail"] == 0


def test_a_thumbnail_stands_as_the_photograph_was_held(tmp_path: Path) -> None:
    photograph = PIL.Image.new("RGB", (400, 200))
    exif = photograph.getexif()
    exif[0x0112] = 6  # turned by a quarter
    photograph.save(tmp_path / "held.jpg", exif=exif)
    uri = media.thumbnail(media.describe("held.jpg", tmp_path), side=100)
    with PIL.Image.open(io.BytesIO(b64decode(uri.partition(",")[2]))) as small:
        assert small.size == (50, 100)


# --- one file, or a folder beside it ---------------------------------------------------------------------------------


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["report.html", "r \n#1 %41?'\"<é>.html"])
def test_with_many_pictures_they_are_files_beside_the_report(name: str, tmp_path: Path, opened: Open) -> None:
    path = made(noisy(tmp_path, range(4)), tmp_path, name)
    folder = tmp_path / f"{name.removesuffix('.html')}_files"
    assert all(re.fullmatch(r"thumbnail-[0-9a-f]{32}\.jpeg", each) for each in files_of(folder))
    assert len(files_of(folder)) == 4
    assert "data:image/" not in path.read_text()
    page = opened(path).page
    expect(page.locator("#case-3 img")).to_have_js_property("naturalWidth", 64)
    policy = page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content") or ""
    assert "default-src 'none'" in policy
    assert "img-src data: 'self';" in policy


def test_with_few_pictures_the_report_is_one_file(tmp_path: Path) -> None:
    path = made(noisy(tmp_path, range(4)), tmp_path)
    assert not (tmp_path / "report_files").exists()
    assert "img-src data:;" in path.read_text()
    assert len(data_of(path)["thumbnails"]) == 4


@pytest.mark.usefixtures("small")
def test_no_script_comes_from_the_folder(tmp_path: Path, opened: Open) -> None:
    path = made(noisy(tmp_path, range(4)), tmp_path)
    (tmp_path / "report_files" / "evil.js").write_text("window.__pwned = 1")
    found = opened(path)
    tried = found.page.evaluate(
        """async () => {
            const refused = [];
            document.addEventListener('securitypolicyviolation', (event) => refused.push(event.effectiveDirective));
            const style = document.createElement('link');
            Object.assign(style, {rel: 'stylesheet', href: 'report_files/evil.css'});
            document.head.append(style);
            await fetch('report_files/evil.js').catch(() => {});
            try { await import('./report_files/evil.js'); } catch {}
            return refused;
        }"""
    )
    assert {"style-src-elem", "connect-src", "script-src-elem"} <= set(tried)
    found.noise.clear()


@pytest.mark.usefixtures("small")
def test_a_report_of_fewer_pictures_leaves_no_file_of_the_one_before(tmp_path: Path) -> None:
    folder = tmp_path / "report_files"
    found = noisy(tmp_path, range(6))
    made(found, tmp_path)
    before = files_of(folder)
    made(found[2:], tmp_path)
    assert files_of(folder) < before
    assert len(files_of(folder)) == 4
    made(found[:1], tmp_path)
    assert not folder.exists()


@pytest.mark.usefixtures("small")
def test_files_of_others_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "report_files"
    found = noisy(tmp_path, range(4))
    made(found, tmp_path)
    one, other = sorted(files_of(folder))[:2]
    (folder / one).write_bytes(b"somebody wrote something else here")
    content = b"a photograph that is called by its hash"
    theirs = {one, "notes.txt", f"{sha256(content).hexdigest()}.jpeg", "thumbnail-0.jpeg", "linked", "inside"}
    for name in theirs - {one, "linked", "inside"}:
        (folder / name).write_bytes(content)
    (folder / "linked").symlink_to(folder / other)
    (folder / "inside").mkdir()
    made(found[:1], tmp_path)
    assert files_of(folder) == theirs


@pytest.mark.usefixtures("small")
def test_a_report_that_can_t_be_written_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = noisy(tmp_path, range(8))
    path = made(found[:4], tmp_path)
    before, files = path.read_bytes(), files_of(tmp_path / "report_files")
    whole, left = Beside.add, [3]

    def disk_is_full(self: Beside, picture: bytes, kind: str) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(self, picture, kind)

    monkeypatch.setattr(Beside, "add", disk_is_full)
    rows = rows_of(found[4:], tmp_path)
    outcome = report.write(Reports(html=path), rows, summary.of_rows(rows))
    assert outcome.failures == [f"the html report ({path}) could not be written: No space left on device"]
    assert (path.read_bytes(), files_of(tmp_path / "report_files")) == (before, files)
    assert not [name for name in files_of(tmp_path) if name.endswith(".draft")]


@pytest.mark.usefixtures("small")
# Python itself leaves a file to the garbage collector if the signal comes while it opens one.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_while_thumbnails_are_made_leaves_the_earlier_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = noisy(tmp_path, range(12))
    path = made(found[:4], tmp_path)
    before, files = path.read_bytes(), files_of(tmp_path / "report_files")
    whole = media.thumbnail

    def interrupted(image: Any, *, side: int) -> str:
        if image.path == "11.png":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)  # meanwhile the main thread, which waits for this picture, hears of it
        return whole(image, side=side)

    monkeypatch.setattr(media, "thumbnail", interrupted)
    rows = rows_of(found[4:], tmp_path)
    with pytest.raises(KeyboardInterrupt):
        report.write(Reports(html=path), rows, summary.of_rows(rows))
    assert (path.read_bytes(), files_of(tmp_path / "report_files")) == (before, files)
    assert not [name for name in files_of(tmp_path) if name.endswith(".draft")]
    gc.collect()


def test_on_standard_output_pictures_beyond_the_room_for_them_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thumbnails, "ONE_FILE", 8_000)
    images = [each["messages"][0]["images"][0] for each in data_of(write(noisy(tmp_path, range(4)), tmp_path))["cases"]]
    assert "thumbnail" in images[0]
    assert images[3]["missing"] == "a report without a folder beside it holds at most 20 MB of pictures"


def test_the_message_of_a_run_says_where_the_pictures_are(tmp_path: Path, small: None) -> None:
    rows = rows_of(noisy(tmp_path, range(4)), tmp_path)
    path = tmp_path / "report.html"
    outcome = report.write(Reports(html=path), rows, summary.of_rows(rows))
    assert outcome.written == [f"{path} (its pictures are in {tmp_path / 'report_files'})"]


def test_it_says_how_far_it_is_where_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnails, "_PATIENCE", 0.0)
    rows = rows_of(noisy(tmp_path, range(3)), tmp_path)
    told: list[str] = []
    report.write(Reports(html=tmp_path / "report.html"), rows, summary.of_rows(rows), tell=told.append)
    assert told == [f"making thumbnails for the report: {number} of 3" for number in (1, 2, 3)]


@pytest.mark.usefixtures("small")
def test_reports_of_other_names_have_folders_of_their_own(tmp_path: Path) -> None:
    rows = noisy(tmp_path, range(4))
    for name in ("report.html", "report", "report.htm"):
        made(rows, tmp_path, name)
    assert [len(files_of(tmp_path / f"report{end}")) for end in ("_files", ".files", ".htm.files")] == [4, 4, 4]


def test_what_cannot_be_removed_keeps_nothing_else(tmp_path: Path) -> None:
    pictures = Beside(tmp_path / "report.html")
    pictures.add(b"1", "png")
    (first,) = pictures.folder.iterdir()
    pictures.add(b"2", "png")
    first.unlink()
    first.mkdir()  # in its place something that is no file
    with pytest.raises(KeyboardInterrupt), pictures.settled():
        raise KeyboardInterrupt
    assert list(pictures.folder.iterdir()) == [first]


def test_the_help_says_how_much_one_file_holds(bedrock_run: Any) -> None:
    for command in ("run", "report"):
        told = " ".join(bedrock_run(command, "--help").stdout.split())
        assert f"more than {ONE_FILE // 1_000_000} MB of thumbnails go to a folder" in told
