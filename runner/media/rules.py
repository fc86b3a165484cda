"""What Bedrock takes beside text, by model and API: facts of November 2026. What is not known is left to Bedrock."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from runner import model_ids
from runner.media import formats
from runner.media.files import MediaError
from runner.records import S3Object

if TYPE_CHECKING:
    from runner.records import Api, DiskFile

MOST_DOCUMENTS: Final = 5  # of a request through Converse; those in S3 do not count
NO_VIDEO_HINT: Final = "Amazon Nova Lite, Pro and Premier take one, as in `model: amazon.nova-lite-v1:0`"

_MOST_BYTES_OF_DOCUMENT: Final = 4_718_592  # 4.5 MiB
_BEFORE_CLAUDE_4: Final = ("anthropic.claude-3", "anthropic.claude-v", "anthropic.claude-instant")
_WITHOUT_CITATIONS: Final = (
    *("anthropic.claude-3-haiku", "anthropic.claude-3-sonnet", "anthropic.claude-3-opus"),
    *("anthropic.claude-v", "anthropic.claude-instant"),
)
_WITHOUT_DOCUMENTS: Final = ("amazon.nova-micro", "amazon.titan-text-premier", "mistral.mistral-small-2402")
_NOVA: Final = "amazon.nova-"
_NOVA_WITHOUT_VIDEO: Final = tuple(f"{_NOVA}{name}" for name in ("micro", "canvas", "reel", "sonic"))


def takes_documents(model: str) -> bool:
    return not model_ids.bare(model).startswith(_WITHOUT_DOCUMENTS)


def takes_video(model: str, api: Api) -> bool:
    """Only Nova's larger models are known to; an ARN may hide one."""
    if api == "invoke":
        return False
    bare = model_ids.bare(model)
    return model_ids.provider(model) is None or (bare.startswith(_NOVA) and not bare.startswith(_NOVA_WITHOUT_VIDEO))


def sees_pages_by_citing(model: str) -> bool:
    """Whether Converse shows the model only the text of a PDF, unless the model is to cite from it."""
    return model_ids.provider(model) == "anthropic" and not model_ids.bare(model).startswith(_WITHOUT_CITATIONS)


def most_bytes(model: str, api: Api) -> int | None:
    """How many bytes a request may have as it is sent, files in base64; None if it is not known."""
    provider = model_ids.provider(model)
    if provider == "anthropic":
        return 20 * 1024 * 1024
    return 25_000_000 if api == "invoke" or provider == "amazon" else None


def check(file: DiskFile | S3Object, *, model: str, api: Api) -> None:
    """Raise MediaError for a file that the model does not take, or not through this API."""
    if isinstance(file, S3Object):
        _check_object(file, model=model, api=api)
    elif formats.kind_of(file.media_type) == "document":
        _check_document(file, model=model, api=api)
    else:
        _check_size(
            file, _as_base64(file.bytes), most_bytes(model, api), "put it into S3, and write `video: s3://bucket/key`"
        )


def _check_object(file: S3Object, *, model: str, api: Api) -> None:
    if api == "invoke" or model_ids.provider(model) not in {None, "amazon"}:
        raise MediaError(
            f"{file.path!r} is in S3, from which `{model}` takes nothing",
            f"download it: `aws s3 cp {shlex.quote(file.path)} .`; Amazon Nova takes objects in S3",
        )


def _check_document(file: DiskFile, *, model: str, api: Api) -> None:
    name = formats.bedrock_name(file.media_type)
    is_text = file.media_type.startswith("text/")
    if api == "invoke" and not is_text and name != "pdf":
        raise MediaError(
            f"the document {file.path!r} is {name}, and InvokeModel takes only PDF and text",
            "write `api: converse`, which takes it too",
        )
    if api == "converse" and file.bytes > _MOST_BYTES_OF_DOCUMENT and name not in _of_any_size(model):
        raise MediaError(
            f"the document {file.path!r} has {file.bytes:,} bytes; Bedrock takes at most {_MOST_BYTES_OF_DOCUMENT:,}",
            "split it, or leave out what the question does not need",
        )
    sent = file.bytes if api == "invoke" and is_text else _as_base64(file.bytes)
    _check_size(file, sent, most_bytes(model, api), "split it, or leave out what the question does not need")


def _of_any_size(model: str) -> tuple[str, ...]:
    """The formats of which only the size of the whole request counts."""
    bare = model_ids.bare(model)
    if bare.startswith(_NOVA):
        return ("pdf", "docx")
    return ("pdf",) if bare.startswith("anthropic.") and not bare.startswith(_BEFORE_CLAUDE_4) else ()


def _check_size(file: DiskFile, sent: int, most: int | None, hint: str) -> None:
    if most is not None and sent > most:
        kind = formats.kind_of(file.media_type)
        raise MediaError(
            f"the {kind} {file.path!r} has {file.bytes:,} bytes, {sent:,} as it is sent; "
            f"a whole request may have {most:,}",
            hint,
        )


def _as_base64(size: int) -> int:
    return 4 * -(-size // 3)
