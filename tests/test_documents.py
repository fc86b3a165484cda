"""Documents and videos on a turn: what they are, what Bedrock takes of them, and how they are asked about."""

from __future__ import annotations

import json
import os
import zlib
from base64 import b64encode
from binascii import a2b_base64
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_files import DOCX, PPTX, TEXT, XLSX, mp4, office, old_office, pdf

from runner import estimate
from runner.cases.loading import load
from runner.cases.rendering import Renderer
from runner.errors import CallError, UsageError
from runner.media import attached, documents, formats, rules, tokens
from runner.media.files import MediaError
from runner.records import Case, DiskFile, S3Object

if TYPE_CHECKING:
    from conftest import BedrockRun, OnTerminal

CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
CLAUDE_3 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
NOVA = "amazon.nova-lite-v1:0"
PNG = a2b_base64(  # one red pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAx8JMKwAAAABJRU5ErkJggg=="
)
MATROSKA = b"\x1a\x45\xdf\xa3" + bytes(40)

# --- what a file is --------------------------------------------------------------------------------------------------


def described(name: str, content: bytes, folder: Path) -> DiskFile:
    (folder / name).write_bytes(content)
    kind = formats.kinds_of_suffix(name)[0]
    assert kind != "image"
    return documents.describe(name, folder, kind=kind)


@pytest.mark.parametrize(
    ("name", "content", "bedrock_name"),
    [
        ("a.pdf", pdf(), "pdf"),
        ("after some bytes.PDF", b"\r\n" + pdf(), "pdf"),
        ("a.docx", DOCX, "docx"),
        ("A.XLSX", XLSX, "xlsx"),
        ("junk.pdf", pdf() + b"\r\n--boundary--\r\n" * 500, "pdf"),
        ("strange.xlsx", office("xl\\Workbook.xml"), "xlsx"),
        ("a.doc", old_office("WordDocument"), "doc"),
        ("a.xls", old_office("Workbook"), "xls"),
        ("older.xls", old_office("Book"), "xls"),
        ("a.md", TEXT, "md"),
        ("a.markdown", TEXT, "md"),
        ("a.txt", "é".encode(), "txt"),
        ("with a mark.txt", b"\xef\xbb\xbfHi", "txt"),
        ("pictures.txt", b"GIF and RIFF are formats", "txt"),
        ("on pdf.txt", b"%PDF-1.4 is how a PDF begins", "txt"),
        ("on rtf.md", b"{\\rtf1 is how RTF begins}", "md"),
        ("a.csv", b"a,b\n1,2\n", "csv"),
        ("a.htm", b"<p>Hi", "html"),
        ("a.mp4", mp4(), "mp4"),
        ("a.mov", b"\0\0\0\x14ftypqt  ", "mov"),
        ("a.3GP", mp4(), "three_gp"),
        ("a.mkv", MATROSKA, "mkv"),
        ("a.webm", MATROSKA, "webm"),
        ("a.flv", b"FLV\x01", "flv"),
        ("a.mpg", b"\0\0\x01\xba", "mpeg"),
        ("a.wmv", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "wmv"),
    ],
)
def test_a_file_is_what_its_suffix_says_if_its_content_holds_to_it(
    name: str, content: bytes, bedrock_name: str, tmp_path: Path
) -> None:
    file = described(name, content, tmp_path)
    assert formats.bedrock_name(file.media_type) == bedrock_name
    assert (file.path, file.file, file.bytes) == (name, tmp_path / name, len(content))
    assert file.sha256 == sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message", "hint"),
    [
        ("a.pdf", b"Hello", "its content is that of no PDF", "suffix of what it is"),
        ("a.pdf", PNG, "it is an image and no PDF", "name it in `images:`"),
        ("a.pdf", pdf()[:300], "it is damaged: it is cut short", "download it anew"),
        ("a.pdf", DOCX, "it is a ZIP archive or a file of Office and no PDF", ".docx"),
        ("a.pdf", b"  <!DOCTYPE html><p>Log in", "it is an HTML page and no PDF", "download the file itself"),
        ("a.pdf", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer", "git lfs pull"),
        ("a.docx", XLSX, "it is an Excel workbook and no Word document", "give it the suffix .xlsx"),
        ("a.xlsx", PPTX, "it is a PowerPoint presentation", "save it as PDF"),
        ("a.xlsx", office("readme.txt"), "it is a ZIP archive and no Excel workbook", "unpack it"),
        ("a.xlsx", b"PK\x03\x04torn", "it is damaged", "save or download it anew"),
        ("a.xlsx", b"a,b\n1,2\n", "its content is that of no Excel workbook", "suffix of what it is"),
        ("a.docx", old_office("EncryptedPackage"), "protected with a password", "save it without a password"),
        ("a.docx", old_office("WordDocument"), "a file of Office before 2007 and no Word", "suffix .doc"),
        ("a.doc", b"{\\rtf1 Hi}", "it is an RTF file", "save it as .docx or PDF"),
        ("a.doc", DOCX, "it is a ZIP archive or a file of Office and no Word document", ".docx"),
        ("a.doc", old_office("Workbook"), "but no Word document", "suffix of what it is"),
        ("a.txt", b"caf\xe9!", "it is not UTF-8: byte 0xE9 at offset 3", "iconv -f LATIN1 -t UTF-8"),
        ("a.txt", b"\xef\xbb\xbfcaf\xe9!", "it is not UTF-8: byte 0xE9 at offset 6", "iconv -f LATIN1 -t UTF-8"),
        ("a.txt", b"x" * 1024 * 1024 + b"\xc3", "byte 0xC3 at offset 1,048,576", "iconv"),
        ("a.csv", b"x" * (1024 * 1024 - 1) + b"\xc3(", "byte 0xC3 at offset 1,048,575", "iconv"),
        ("a.csv", "a,b".encode("utf-16"), "it is UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ("a.md", b"a\0b", "it is no text: byte 1 is NUL", "suffix of what it is"),
        ("a.md", b"\xef\xbb\xbf \n", "it is empty but for white space", ""),
        ("a.md", PNG, "it is an image and no text", "name it in `images:`"),
        ("a.txt", pdf() + b"\xe2\xe3\xcf\xd3", "it is a PDF and no text", "give it the suffix .pdf"),
        ("a.mp4", MATROSKA, "no video of that format", "suffix of what it is"),
        ("a.webm", b"not a video", "no video of that format", "suffix of what it is"),
    ],
)
def test_content_that_does_not_hold_to_the_suffix(
    name: str, content: bytes, message: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(MediaError) as caught:
        described(name, content, tmp_path)
    assert name in caught.value.message
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "kind", "hint"),
    [
        ("cat.JPG", "document", "named like an image: give it under `images: [PATH]`"),
        ("clip.mp4", "document", "give it under `video: PATH`"),
        ("report.pdf", "video", "give it under `documents: [PATH]`"),
        ("notes.rst", "document", "name a text file .txt"),
        ("notes", "document", "documents are pdf, csv, doc, docx, xls, xlsx, html, txt, md"),
        ("clip.avi", "video", "videos are mkv, mov, mp4, webm, flv, mpeg, wmv, 3gp: convert it"),
    ],
)
def test_a_suffix_that_is_of_nothing_or_of_something_else(name: str, kind: Any, hint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(MediaError) as caught:
        documents.describe(name, tmp_path, kind=kind)
    assert hint in (caught.value.hint or "")


def test_what_is_no_file_is_told_as_a_document(tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").touch()
    (tmp_path / "folder.pdf").mkdir()
    os.mkfifo(tmp_path / "pipe.pdf")
    for path, message in [
        ("gone.pdf", "there is no document 'gone.pdf'"),
        ("empty.pdf", "the document 'empty.pdf' is empty"),
        ("folder.pdf", "is a folder, not a file"),
        ("pipe.pdf", "a device, pipe or socket"),
        ("../a.pdf", "the document '../a.pdf' lies outside"),
        ("https://example.com/a.pdf", "is a URL; a document must be a file"),
    ]:
        with pytest.raises(MediaError, match=message.replace(".", r"\.")):
            documents.describe(path, tmp_path, kind="document")


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in {
        "a.pdf": pdf(3), "b.pdf": pdf(1), "notes.md": TEXT, "rows.csv": b"a,b\n1,2\n", "book.xlsx": XLSX,
        "letter.docx": DOCX, "clip.mp4": mp4(7), "cat.png": PNG,
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    return tmp_path


def rendered(folder: Path, turns: str, *, model: str = CLAUDE, more: str = "") -> Case:
    """The one case of a job with these turns."""
    path = folder / "job.yaml"
    path.write_text(f"model: {model}\n{more}\nturns: {turns}\n")
    (cases,) = load([path])
    (case,) = map(Renderer(cases.job).case, cases)
    assert case.fault is None
    return case


def refused(folder: Path, turns: str, *, model: str = CLAUDE, more: str = "") -> list[str]:
    """Each problem of the same, with its hint."""
    with pytest.raises(UsageError) as caught:
        rendered(folder, turns, model=model, more=more)
    return [f"{problem.message} => {problem.hint}" for problem in caught.value.problems]


def test_paths_are_templates_and_names_are_neutral_and_told_once_in_a_conversation(folder: Path) -> None:
    turns = """
      - user: {text: Read, documents: ["{{ first }}.pdf", notes.md]}
      - user: {text: And, documents: [a.pdf]}
    """
    case = rendered(folder, turns, more="vars: {first: b}")
    told = [(each.name, each.content.path) for message in case.request.messages for each in message.documents]
    assert told == [("Document 1", "b.pdf"), ("Document 2", "notes.md"), ("Document 3", "a.pdf")]


def test_all_problems_are_told_at_once_each_at_its_place(folder: Path) -> None:
    (folder / "job.yaml").write_text(
        f"model: {NOVA}\n"
        "turns:\n"
        "  - user:\n"
        "      text: '{{ a }}'\n"
        "      documents: ['{{ b }}.pdf', gone.pdf, cat.png]\n"
        "      video: '{{ c }}'\n"
        "  - user: {text: '{{ empty }}', documents: [notes.md]}\n"
        "vars: {empty: ' '}\n"
    )
    with pytest.raises(UsageError) as caught:
        load([folder / "job.yaml"])
    found = {(problem.place.line, problem.message) for problem in caught.value.problems if problem.place}
    assert found == {
        (4, "undefined variable: `a`"),
        (5, "undefined variable: `b`"),
        (5, "there is no document 'gone.pdf'"),
        (5, "'cat.png' has no suffix of a document that Bedrock takes"),
        (6, "undefined variable: `c`"),
        (7, "the text beside these documents is empty"),
    }


def test_the_key_holds_the_content_and_the_format_and_not_the_name(folder: Path) -> None:
    def key(turn: str) -> str:
        return rendered(folder, f"[{{user: {turn}}}]", model=NOVA).key

    (folder / "same.pdf").write_bytes(pdf(3))
    (folder / "notes.txt").write_bytes(TEXT)
    keys = [
        key("{text: x, documents: [a.pdf]}"),
        key("{text: x, documents: [b.pdf]}"),
        key("{text: x, documents: [a.pdf, b.pdf]}"),
        key("{text: x, documents: [b.pdf, a.pdf]}"),
        key("{text: x, documents: [notes.md]}"),
        key("{text: x, documents: [notes.txt]}"),
        key("{text: x, video: clip.mp4}"),
        key("{text: x, video: 's3://bucket/clip.mp4'}"),
        key("{text: x, video: 's3://bucket/other.mp4'}"),
        key("{text: x, documents: ['s3://bucket/a.pdf']}"),
        key("{text: x, images: ['s3://bucket/a.png']}"),
        key("{text: x}"),
    ]
    assert len(set(keys)) == len(keys)
    assert key("{text: x, documents: [same.pdf]}") == keys[0]


def test_the_key_of_a_job_without_documents_is_what_it_was(folder: Path) -> None:
    case = rendered(folder, "[{user: Hi}, {assistant: Ho}, {user: {text: What, images: [cat.png]}}]")
    assert case.key == "39b1dbb1f0ee2c2731301c5367f5153c14e82c6d2984db9e0db3c3e764f04de1"


# --- what Bedrock takes ----------------------------------------------------------------------------------------------


def sized(folder: Path, name: str, content: bytes, size: int) -> None:
    half = len(content) // 2  # a PDF has an end
    (folder / name).write_bytes(content[:half] + bytes(size - len(content)) + content[half:])


def test_office_goes_through_converse_alone(folder: Path) -> None:
    turns = "[{user: {text: x, documents: [book.xlsx, letter.docx, a.pdf, notes.md]}}]"
    assert refused(folder, turns) == [
        f"the document '{name}' is {kind}, and InvokeModel takes only PDF and text => "
        "write `api: converse`, which takes it too"
        for name, kind in (("book.xlsx", "xlsx"), ("letter.docx", "docx"))
    ]
    assert rendered(folder, turns, more="api: converse").fault is None
    assert rendered(folder, turns, model=NOVA).fault is None


def test_at_most_five_documents_through_converse(folder: Path) -> None:
    turns = """
      - user: {text: x, documents: [a.pdf, b.pdf, notes.md]}
      - user: {text: y, documents: [a.pdf, b.pdf, rows.csv]}
    """
    (problem,) = refused(folder, turns, more="api: converse")
    assert problem.startswith("the conversation has 6 documents; Bedrock takes at most 5 in a request => join some")
    assert rendered(folder, turns).fault is None  # InvokeModel knows no such limit
    assert (
        rendered(folder, turns.replace("a.pdf", "s3://bucket/a.pdf"), model=NOVA).fault is None
    )  # and those in S3 do not count


@pytest.mark.parametrize(
    ("name", "content", "model", "api", "taken"),
    [
        ("a.pdf", pdf(), CLAUDE, "converse", True),
        ("a.pdf", pdf(), CLAUDE_3, "converse", False),
        ("a.pdf", pdf(), CLAUDE_3, "invoke", True),
        ("a.pdf", pdf(), NOVA, "converse", True),
        ("a.pdf", pdf(), "meta.llama3-1-8b-instruct-v1:0", "converse", False),
        ("a.xls", old_office("Workbook"), NOVA, "converse", False),
        ("a.xls", old_office("Workbook"), CLAUDE, "converse", False),
    ],
)
def test_how_large_a_document_may_be(
    name: str, content: bytes, model: str, api: str, taken: bool, folder: Path
) -> None:
    turns = f"[{{user: {{text: x, documents: [{name}]}}}}]"
    sized(folder, name, content, 4_718_592)
    assert rendered(folder, turns, model=model, more=f"api: {api}").fault is None
    sized(folder, name, content, 4_718_593)
    if taken:
        assert rendered(folder, turns, model=model, more=f"api: {api}").fault is None
    else:
        (problem,) = refused(folder, turns, model=model, more=f"api: {api}")
        assert f"the document '{name}' has 4,718,593 bytes; Bedrock takes at most 4,718,592" in problem


def test_what_alone_is_too_large_for_a_request_is_known_before_it_is_read(folder: Path) -> None:
    sized(folder, "a.pdf", pdf(), 15_728_641)
    (problem,) = refused(folder, "[{user: {text: x, documents: [a.pdf]}}]")
    assert "has 15,728,641 bytes, 20,971,524 as it is sent; a whole request may have 20,971,520" in problem
    sized(folder, "clip.mp4", mp4(), 18_750_001)
    (problem,) = refused(folder, "[{user: {text: x, video: clip.mp4}}]", model=NOVA)
    assert "the video 'clip.mp4' has 18,750,001 bytes, 25,000,004 as it is sent" in problem
    assert "put it into S3, and write `video: s3://bucket/key`" in problem
    os.truncate(folder / "clip.mp4", 10**12)
    (problem,) = refused(folder, "[{user: {text: x, video: clip.mp4}}]", model=NOVA)
    assert "has 1,000,000,000,000 bytes; no request takes so many => put it into S3" in problem


def test_together_too_large_is_that_rows_error_and_is_not_tried_again(folder: Path, bedrock_run: BedrockRun) -> None:
    for name in ("a.pdf", "b.pdf"):
        sized(folder, name, pdf(), 8_000_000)
    (folder / "job.yaml").write_text(
        f"model: {CLAUDE}\nturns: [{{user: {{text: Compare, documents: [a.pdf, '{{{{ other }}}}']}}}}]\n"
        "cases: [{id: large, vars: {other: b.pdf}}, {id: small, vars: {other: notes.md}}]\n"
    )
    for command in (("validate",), ("--local", "--dry-run")):
        known = bedrock_run(*command, "job.yaml", "--json")
        assert known.returncode == 3
        (job,) = json.loads(known.stdout)["jobs"]
        (fault,) = job["cannot_be_asked"]
        assert fault["case"] == "large"
        assert "the 2 files of large have 21,333,336 bytes as they are sent, and Bedrock takes" in fault["message"]
    done = bedrock_run("--local", "job.yaml")
    assert done.returncode == 3
    large, small = [json.loads(line) for line in (folder / "outputs/job.jsonl").read_text().splitlines()]
    assert small["status"] == "passed"
    assert large["error"]["code"] == "input"
    assert large["error"]["message"].startswith("the request has 21,33")
    assert "'a.pdf' 8,000,000, 'b.pdf' 8,000,000" in large["error"]["message"]
    assert large["attempts"] == []


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 100),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", 100),
        ("us.anthropic.claude-sonnet-4-6", 600),
        ("global.anthropic.claude-opus-5-5", 600),
        (NOVA, None),
    ],
)
def test_how_many_images_a_model_takes(model: str, most: int | None) -> None:
    assert rules.most_images(model) == most


def test_more_images_than_the_model_takes_are_a_problem_of_the_first_that_is_too_many(folder: Path) -> None:
    turns = "[{user: {text: x, images: [%s]}}, {user: {text: y, images: ['./cat.png']}}]"
    assert rendered(folder, turns % ", ".join(["cat.png"] * 99)).fault is None
    (folder / "job.yaml").write_text(f"model: {CLAUDE}\nturns: {turns % ', '.join(['cat.png'] * 100)}\n")
    with pytest.raises(UsageError) as caught:
        load([folder / "job.yaml"])
    (problem,) = caught.value.problems
    assert problem.message == f"a request would have 101 images; `{CLAUDE}` takes at most 100"
    assert problem.place is not None
    assert problem.place.column == (folder / "job.yaml").read_text().splitlines()[1].index("'./cat.png'") + 1


def test_models_that_hear_or_read_alone_see_no_video_and_take_nothing_from_s3(folder: Path) -> None:
    for model in ("amazon.nova-2-sonic-v1:0", "amazon.titan-text-express-v1"):
        assert not rules.takes_video(model, "converse")
        (told,) = refused(folder, "[{user: {text: x, documents: ['s3://bucket/a.pdf']}}]", model=model)
        assert "is in S3, from which" in told
    assert rules.takes_video("us.amazon.nova-2-lite-v1:0", "converse")


# --- S3 --------------------------------------------------------------------------------------------------------------


def test_objects_in_s3_are_named_by_their_uri_alone(folder: Path) -> None:
    turns = (
        "[{user: {text: x, images: ['s3://bucket/cat.JPG'], documents: ['s3://bucket/a/b c.pdf'],"
        " video: 's3://my.bucket-1/clip.3gp'}}]"
    )
    (message,) = rendered(folder, turns, model=NOVA).request.messages
    assert message.images == (S3Object(path="s3://bucket/cat.JPG", media_type="image/jpeg"),)
    assert message.documents[0].content == S3Object(path="s3://bucket/a/b c.pdf", media_type="application/pdf")
    assert message.video == S3Object(path="s3://my.bucket-1/clip.3gp", media_type="video/3gpp")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://B/a.pdf", "'B' cannot be one"),
        ("s3:///a.pdf", "'' cannot be one"),
        ("s3://bucket", "names no object"),
        ("s3://bucket/", "names no object"),
        ("s3://bucket/folder/", "names no object"),
        ("s3://bucket/a", "does not tell its format"),
        ("s3://bucket/a.png", "does not tell its format"),
        ("S3://bucket/a.pdf", "is no URI of S3"),
        ("s3://bucket/" + "a" * 1009 + ".pdf", "has 1,025 characters; Bedrock takes at most 1,024"),
    ],
)
def test_what_is_no_object_in_s3(uri: str, message: str, folder: Path) -> None:
    (problem,) = refused(folder, f"[{{user: {{text: x, documents: ['{uri}']}}}}]", model=NOVA)
    assert message in problem


@pytest.mark.parametrize("api", ["invoke", "converse"])
@pytest.mark.parametrize("attached", ["images: ['s3://bucket/a.png']", "documents: ['s3://bucket/a.pdf']"])
def test_only_nova_takes_objects_in_s3(attached: str, api: str, folder: Path) -> None:
    (problem,) = refused(folder, f"[{{user: {{text: x, {attached}}}}}]", more=f"api: {api}")
    assert "is in S3, from which" in problem
    assert "aws s3 cp s3://bucket/a." in problem


# --- whole runs ------------------------------------------------------------------------------------------------------


def test_a_run_tells_of_what_it_was_given_in_its_rows(folder: Path, bedrock_run: BedrockRun) -> None:
    (folder / "job.yaml").write_text(
        f"model: {NOVA}\nturns:\n"
        "  - user:\n"
        "      text: Compare\n"
        "      documents: [a.pdf, book.xlsx, 's3://bucket/far.docx']\n"
        "      video: clip.mp4\n"
    )
    done = bedrock_run("--local", "job.yaml")
    assert done.returncode == 0, done.stderr
    row = json.loads((folder / "outputs/job.jsonl").read_text())
    (message,) = row["request"]["messages"]
    first, second, third = message["documents"]
    assert first == {
        "path": "a.pdf",
        "sha256": sha256(pdf(3)).hexdigest(),
        "bytes": len(pdf(3)),
        "media_type": "application/pdf",
        "name": "Document 1",
    }
    assert (second["path"], second["name"]) == ("book.xlsx", "Document 2")
    assert (third["path"], third["sha256"], third["bytes"]) == ("s3://bucket/far.docx", None, None)
    assert message["video"]["media_type"] == "video/mp4"
    assert f'"Document 1" (pdf, {len(pdf(3))} bytes, 3 pages)' in row["output"]
    assert '"Document 3" (docx, s3://bucket/far.docx, not fetched)' in row["output"]
    assert f"a video (mp4, {len(mp4())} bytes)" in row["output"]
    again = bedrock_run("--local", "job.yaml")
    assert "1 kept" in again.stderr
    (folder / "a.pdf").rename(folder / "renamed.pdf")
    (folder / "job.yaml").write_text((folder / "job.yaml").read_text().replace("a.pdf", "renamed.pdf"))
    assert "1 kept" in bedrock_run("--local", "job.yaml").stderr
    (folder / "renamed.pdf").write_bytes(pdf(4))
    assert "1 call" in bedrock_run("--local", "job.yaml").stderr
    for report in ("--html", "--markdown", "--csv"):
        written = bedrock_run("report", "outputs/job.jsonl", report, "report.out")
        assert written.returncode == 0, written.stderr


@pytest.mark.parametrize("api", ["invoke", "converse"])
@pytest.mark.parametrize("stream", ["true", "false"])
def test_claude_reads_a_pdf_through_either_api_and_cites_from_it(
    api: str, stream: str, folder: Path, bedrock_run: BedrockRun
) -> None:
    (folder / "job.yaml").write_text(
        f"model: {CLAUDE}\napi: {api}\nstream: {stream}\n"
        "turns:\n"
        "  - user: {text: Read, documents: [a.pdf, notes.md]}\n"
        "  - user: And now?\n"
    )
    done = bedrock_run("--local", "job.yaml")
    assert done.returncode == 0, done.stderr
    row = json.loads((folder / "outputs/job.jsonl").read_text())
    for reply in row["replies"]:
        assert f'"Document 1" (pdf, {len(pdf(3))} bytes, 3 pages)' in reply["text"]
        assert 'beginning "# Minutes The water butt leaks."' in reply["text"]


def test_a_row_whose_document_has_gone_is_that_rows_error(folder: Path, bedrock_run: BedrockRun) -> None:
    (folder / "files.csv").write_text("file\nnotes.md\ngone.md\n")
    (folder / "job.yaml").write_text(
        f"model: {CLAUDE}\nturns: [{{user: {{text: Sum up, documents: ['{{{{ row.file }}}}']}}}}]\ncases: files.csv\n"
    )
    done = bedrock_run("--local", "job.yaml")
    assert done.returncode == 3
    good, bad = [json.loads(line) for line in (folder / "outputs/job.jsonl").read_text().splitlines()]
    assert good["status"] == "passed"
    assert "files.csv:3: there is no document 'gone.md'" in bad["error"]["message"]


def test_the_columns_that_paths_need_are_known_before_anything_is_sent(folder: Path, bedrock_run: BedrockRun) -> None:
    (folder / "files.csv").write_text("file\nnotes.md\n")
    (folder / "job.yaml").write_text(
        f"model: {NOVA}\ncases: files.csv\n"
        "turns: [{user: {text: Sum up, documents: ['{{ fiel }}'], video: '{{ clip }}'}}]\n"
    )
    done = bedrock_run("validate", "job.yaml")
    assert done.returncode == 2
    assert "undefined variable: `fiel`" in done.stderr
    assert "undefined variable: `clip`" in done.stderr


def test_each_file_of_a_folder_can_be_asked_about(folder: Path, bedrock_run: BedrockRun) -> None:
    (folder / "bad.pdf").write_text("no PDF")
    (folder / "job.yaml").write_text(
        f"model: {CLAUDE}\ncases: {{glob: '*.pdf'}}\n"
        "turns: [{user: {text: 'Sum up {{ file.name }}', documents: ['{{ file.path }}']}}]\n"
    )
    assert bedrock_run("--local", "job.yaml").returncode == 3
    found = [json.loads(line) for line in (folder / "outputs/job.jsonl").read_text().splitlines()]
    assert [(row["case"], row["status"]) for row in found] == [
        ("a.pdf", "passed"),
        ("b.pdf", "passed"),
        ("bad.pdf", "error"),
    ]
    sent = bedrock_run("render", "job.yaml", "--filter", "b.pdf")
    (document, text) = json.loads(sent.stdout)["body"]["messages"][0]["content"]
    assert document["title"] == "Document 1"
    assert text["text"] == "Sum up b.pdf"


def test_a_conversation_names_on_a_terminal_what_it_is_given(folder: Path, on_terminal: OnTerminal) -> None:
    (folder / "job.yaml").write_text(
        f"model: {NOVA}\nturns: [{{user: {{text: Compare, documents: [a.pdf], video: 's3://bucket/clip.mp4'}}}}]\n"
    )
    code, shown = on_terminal("--local", "job.yaml")
    assert code == 0
    assert "[document a.pdf] [video s3://bucket/clip.mp4] Compare" in shown


def test_diff_tells_that_a_document_was_exchanged(folder: Path, bedrock_run: BedrockRun) -> None:
    for name in ("a.pdf", "b.pdf"):
        (folder / "job.yaml").write_text(f"model: {CLAUDE}\nturns: [{{user: {{text: Sum up, documents: [{name}]}}}}]\n")
        assert bedrock_run("--local", "-o", name[0], "job.yaml").returncode == 0
    told = bedrock_run("diff", "a/job.jsonl", "b/job.jsonl", "--json")
    assert '"documents"' in told.stdout


def objects(pages: int, *, before: int = 0, ended: bool = True) -> bytes:
    """A stream of a PDF with the objects of so many pages, after so many zeros."""
    packed = zlib.compress(bytes(before) + b"<< /Type /Page >>" * pages)
    return b"<< /Type /ObjStm >> stream\n" + packed + (b"\nendstream\n" if ended else b"")


def test_pages_are_counted_within_compressed_objects(tmp_path: Path) -> None:
    assert described("a.pdf", b"%PDF-1.5\n" + objects(3) + objects(2) + b"%%EOF", tmp_path).tokens == 5 * 2250


def test_of_a_pdf_that_was_made_to_swell_only_so_much_is_inflated(tmp_path: Path) -> None:
    swollen = objects(1, before=9_000_000)
    assert described("a.pdf", b"%PDF-1.5\n" + 3 * swollen + objects(7) + b"%%EOF", tmp_path).tokens == 2250


def test_a_stream_that_does_not_end_is_not_looked_into(tmp_path: Path) -> None:
    assert described("a.pdf", b"%PDF-1.5\n" + objects(3, ended=False) + b"%%EOF", tmp_path).tokens == 2250


def test_to_estimate_tokens_no_file_is_read(folder: Path) -> None:
    request = rendered(folder, "[{user: {text: four, documents: [a.pdf], video: clip.mp4}}]", model=NOVA).request
    for name in ("a.pdf", "clip.mp4"):
        (folder / name).unlink()
    (call,) = estimate.worst_case(request, model=NOVA)
    assert call.input_tokens == 1 + 3 * 2250 + 7 * 288


def test_what_became_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    both_ends = os.open(tmp_path / "pipe", os.O_RDWR)  # so that to open it would not wait
    try:
        for name in ("docx", "pdf", "txt"):
            with pytest.raises(OSError, match="no regular file any more"):
                tokens.of_file(tmp_path / "pipe", formats.DOCUMENTS[name])
    finally:
        os.close(both_ends)


def test_a_file_that_looks_as_before_is_not_hashed_again(tmp_path: Path) -> None:
    file = described("a.md", TEXT, tmp_path)
    status = file.file.stat()
    stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    assert attached.content(replace(file, stamp=stamp, sha256="of another")) == TEXT
    with pytest.raises(CallError, match="has changed since"):
        attached.content(replace(file, stamp=None, sha256="of another"))


def test_a_file_that_is_named_twice_in_a_body_is_read_once(tmp_path: Path) -> None:
    file = described("a.md", TEXT, tmp_path)
    files = attached.AttachedFiles()
    first, second = files.base64(file), files.base64(file)
    assert first == second
    assert files.put_into(f"{first} {second}".encode()) == b" ".join([b64encode(TEXT)] * 2)


def test_tokens_are_estimated_by_pages_characters_and_seconds(folder: Path) -> None:
    def estimated(attached: str) -> int:
        turns = f"[{{user: {{text: four, {attached}}}}}]"
        (call,) = estimate.worst_case(rendered(folder, turns, model=NOVA).request, model=NOVA)
        return call.input_tokens - 1

    assert estimated("documents: [a.pdf]") == 3 * 2250
    assert estimated("documents: [notes.md]") == -(-len(TEXT) // 4)
    for name, parts in {
        "letter.docx": ["word/document.xml", "word/footnotes.xml", "word/styles.xml", "docProps/core.xml"],
        "book.xlsx": ["xl/sharedStrings.xml", "xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/workbook.xml"],
    }.items():
        (folder / name).write_bytes(office(*parts, text="x" * 1000))
        assert estimated(f"documents: [{name}]") == 2 * 1000 / 4
    (folder / "bomb.docx").write_bytes(office("word/document.xml", text="x" * 18_000_000))
    assert 4_200_000 < estimated("documents: [bomb.docx]") < 4_300_000  # 16 MiB are read, and the rest is guessed
    assert estimated("video: clip.mp4") == 7 * 288
    assert estimated("video: 's3://bucket/clip.mp4'") == 960 * 288
    assert estimated("documents: ['s3://bucket/a.pdf']") > 0
    assert estimated("images: ['s3://bucket/a.png']") == 2665
