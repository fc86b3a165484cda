"""Documents, videos and objects in S3: what the emulator takes of them, what it refuses, and what it says of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest
from made_files import DOCX, OLE, TEXT, mp4, office, pdf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.conftest import Connect, Post

CLAUDE = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
CLAUDE_3 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
NOVA, MICRO = "amazon.nova-lite-v1:0", "amazon.nova-micro-v1:0"
BIG = 4_718_593


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    from runner.emulator import Settings, running

    with running(Settings()) as url:
        yield url


def document(form: str = "md", content: bytes = TEXT, **changes: Any) -> dict[str, Any]:
    source = {"bytes": base64.b64encode(content).decode()}
    return {"document": {"format": form, "name": "Document 1", "source": source, **changes}}


def far(kind: str, form: str, uri: str) -> dict[str, Any]:
    name = {"name": "Far"} if kind == "document" else {}
    return {kind: {"format": form, **name, "source": {"s3Location": {"uri": uri}}}}


def video(content: bytes | None = None, form: str = "mp4") -> dict[str, Any]:
    return {"video": {"format": form, "source": {"bytes": base64.b64encode(content or mp4()).decode()}}}


def says(*content: Any, role: str = "user") -> dict[str, Any]:
    text = {"text": "Compare"}
    return {"messages": [{"role": role, "content": [*content, text]}]}


def output(answer: Any) -> str:
    (block,) = answer.document["output"]["message"]["content"]
    return str(block["text"])


def test_the_reply_tells_of_each_document_and_video(url: str, post: Post) -> None:
    given = [
        document("pdf", pdf(3)),
        document("md", name="Notes"),
        document("docx", DOCX, name="Letter (2)"),
        document("xls", OLE, name="Old"),
        far("document", "csv", "s3://bucket/a.csv"),
        far("image", "png", "s3://bucket/a.png"),
        video(),
    ]
    answer = post(url, says(*given), model=NOVA, operation="converse")
    assert answer.status == 200, answer.body
    assert (
        f'I was given "Document 1" (pdf, {len(pdf(3))} bytes, 3 pages); '
        f'"Notes" (md, {len(TEXT)} bytes, 3 lines, beginning "# Minutes The water butt leaks."); '
        f'"Letter (2)" (docx, {len(DOCX)} bytes); "Old" (xls, 8 bytes); '
        '"Far" (csv, s3://bucket/a.csv, not fetched); an image (png, s3://bucket/a.png, not fetched); '
        f"a video (mp4, {len(mp4())} bytes)."
    ) in output(answer)
    assert answer.document["usage"]["inputTokens"] > 3 * 2250


def test_boto3_is_answered_too(url: str, connect: Connect) -> None:
    content = [
        {"document": {"format": "pdf", "name": "A", "source": {"bytes": pdf()}, "citations": {"enabled": True}}},
        {"text": "Read"},
    ]
    messages = [{"role": "user", "content": content}]
    client = connect(url)
    (block,) = client.converse(modelId=CLAUDE, messages=messages)["output"]["message"]["content"]
    cited = block["citationsContent"]
    assert "2 pages" in cited["content"][0]["text"]
    assert cited["citations"][0]["title"] == "A"
    deltas = [
        event["contentBlockDelta"]["delta"]
        for event in client.converse_stream(modelId=CLAUDE, messages=messages)["stream"]
        if "contentBlockDelta" in event
    ]
    assert "".join(delta.get("text", "") for delta in deltas) == cited["content"][0]["text"]
    assert [delta["citation"]["title"] for delta in deltas if "citation" in delta] == ["A"]


S3_PATTERN = "Member must satisfy regular expression pattern: s3://"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    (NOVA, says(document("rtf")), "messages.1.member.content.1.member.document.format' failed to satisfy constraint"),
    (NOVA, says(document(name="a.md")), "The document file name can only contain alphanumeric characters"),
    (NOVA, says(document(name="a  b")), "can't contain more than one consecutive whitespace character"),
    (NOVA, says(document(name="")), "The document file name can only contain alphanumeric characters"),
    (NOVA, says(document(name="a" * 201)), "The document file name can only contain alphanumeric characters"),
    (NOVA, says(document(name=None)), "document.name' failed to satisfy constraint: Member must not be null"),
    (NOVA, says(document(), document()), "Messages can't contain duplicate document names."),
    (NOVA, says(*[document(name=str(n)) for n in range(6)]), "You can't include more than 5 documents in a request."),
    (NOVA, {"messages": [{"role": "user", "content": [document()]}]}, "a document content block and no text content"),
    (NOVA, says(document(size=3)), "extraneous key [size] is not permitted"),
    (NOVA, says(document(source={})), "exactly one of bytes, content, s3Location, text must be set"),
    (NOVA, says(document("pdf", TEXT)), "The document at messages.0.content.0 is no valid pdf."),
    (NOVA, says(document("txt", b"caf\xe9")), "The document at messages.0.content.0 is no valid txt."),
    (NOVA, says(document("docx", DOCX[:60])), "The document at messages.0.content.0 is no valid docx."),
    (NOVA, says(document("xls", TEXT)), "The document at messages.0.content.0 is no valid xls."),
    (NOVA, says(document("docx", TEXT)), "The document at messages.0.content.0 is no valid docx."),
    (NOVA, says(document(source={"bytes": "?"})), "messages.0.content.0.document.source.bytes: invalid base64 data"),
    (NOVA, says(document(source={"bytes": ""})), "Input should not be empty"),
    (NOVA, says(document("txt", b"x" * BIG)), "exceeds the maximum document size of 4.5 MB"),
    (CLAUDE_3, says(document("pdf", pdf() + bytes(BIG))), "exceeds the maximum document size of 4.5 MB"),
    (MICRO, says(document()), "This model doesn't support documents."),
    (MICRO, says(video()), "This model doesn't support the video field. Remove video and try again."),
    (CLAUDE, says(video()), "This model doesn't support the video field. Remove video and try again."),
    (NOVA, says(video(), video()), "You can't include more than 1 video in a request."),
    (NOVA, says(video(form="avi")), "video.format' failed to satisfy constraint"),
    (CLAUDE, says(far("document", "pdf", "s3://bucket/a.pdf")), "This model doesn't support the s3Location field."),
    (CLAUDE, says(far("image", "png", "s3://bucket/a.png")), "This model doesn't support the s3Location field."),
    (NOVA, says(far("document", "pdf", "https://a/b.pdf")), S3_PATTERN),
    (NOVA, says(far("video", "mp4", "s3://B/b.mp4")), S3_PATTERN),
    (NOVA, says(far("image", "png", "s3://bucket/" + "a" * 1013)), S3_PATTERN),
    (
        CLAUDE,
        says(document("pdf", pdf(), citations={"enabled": True}), document(name="B")),
        "citations must be enabled on all or none of the documents",
    ),
    (CLAUDE, says(document("pdf", pdf(101))), "Too much media: 101 document pages + 0 images > 100"),
    (
        NOVA,
        {"messages": [*says()["messages"], {"role": "assistant", "content": [document(), {"text": "x"}]}]},
        "Assistant messages can't contain a document.",
    ),
]


@pytest.mark.parametrize(("model", "body", "message"), WRONG, ids=[message[:50] for *_, message in WRONG])
def test_what_bedrock_refuses(url: str, post: Post, model: str, body: Any, message: str) -> None:
    answer = post(url, body, model=model, operation="converse")
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert message in answer.document["message"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (CLAUDE, says(document("pdf", pdf() + bytes(BIG)))),
        (NOVA, says(document("docx", office("word/document.xml", pictures=BIG)))),
        (NOVA, says(far("document", "pdf", "s3://bucket/a.pdf"))),
        (NOVA, says(document(source={"text": "As it is"}, context="Minutes"))),
        (NOVA, says(document(source={"content": [{"text": "a"}, {"text": "b"}]}))),
        (NOVA, says(document("txt", b" \n"))),
    ],
)
def test_what_bedrock_takes(url: str, post: Post, model: str, body: Any) -> None:
    answer = post(url, body, model=model, operation="converse")
    assert answer.status == 200, answer.body


def test_of_a_file_of_office_only_the_text_counts(url: str, post: Post) -> None:
    def counted(form: str, *parts: str) -> int:
        body = says(document(form, office(*parts, text="x" * 400)))
        return int(post(url, body, model=NOVA, operation="converse").document["usage"]["inputTokens"])

    without = counted("docx", "word/styles.xml", "docProps/core.xml")
    assert counted("docx", "word/document.xml", "word/footer2.xml", "word/styles.xml") == without + 200
    assert counted("xlsx", "xl/sharedStrings.xml", "xl/styles.xml") == without + 100


def block(source: Any, **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


def in_base64(content: bytes, media_type: str = "application/pdf") -> dict[str, Any]:
    return {"type": "base64", "media_type": media_type, "data": base64.b64encode(content).decode()}


def test_documents_of_claudes_own_body(url: str, post: Post, ask: Any) -> None:
    plain = {"type": "text", "media_type": "text/plain", "data": "One two"}
    given = [
        block(in_base64(pdf()), title="A", citations={"enabled": True}),
        block(plain, title="B", context="c"),
        block({"type": "content", "content": [{"type": "text", "text": "Three"}]}),
        {"type": "text", "text": "Read"},
    ]
    answer = post(url, ask(given), model=CLAUDE)
    assert answer.status == 200, answer.body
    told = answer.document["content"][0]["text"]
    assert f'"A" (pdf, {len(pdf())} bytes, 2 pages); "B" (txt, 7 bytes, 1 line, beginning "One two")' in told
    assert answer.document["usage"]["input_tokens"] > 2 * 2250


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (in_base64(TEXT), "document.source.base64.data: The PDF specified was not valid."),
        (in_base64(TEXT, "text/plain"), "document.source.base64.media_type: Input should be 'application/pdf'"),
        ({"type": "base64", "media_type": "application/pdf", "data": "?"}, "data: invalid base64 data"),
        ({"type": "text", "media_type": "text/plain", "data": ""}, "data: String should have at least 1 character"),
        ({"type": "text", "media_type": "text/plain"}, "document.source.text.data: Field required"),
        ({"type": "url", "url": "https://a/b.pdf"}, "Input tag 'url' found using 'type' does not match"),
        ({"type": "text", "media_type": "text/plain", "data": "x", "s3": 1}, "Extra inputs are not permitted"),
    ],
)
def test_what_claude_refuses(url: str, post: Post, ask: Any, source: Any, message: str) -> None:
    answer = post(url, ask([block(source), {"type": "text", "text": "Read"}]), model=CLAUDE)
    assert (answer.status, answer.error) == (400, "ValidationException")
    assert message in answer.document["message"]
