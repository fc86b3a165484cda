"""What Bedrock takes beside text, by model and API: facts of November 2026. What is not known is left to Bedrock."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from runner.media import formats
from runner.media.files import MediaError
from runner.models import model_ids
from runner.records import Image, S3Object

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
_NOVA_THAT_IS_BLIND: Final = tuple(f"{_NOVA}{name}" for name in ("micro", "canvas", "reel", "sonic", "2-sonic"))
_WITHOUT_IMAGES: Final = (
    *("ai21.jamba", "amazon.nova-micro", "amazon.titan-text", "amazon.titan-embed-text", "anthropic.claude-3-5-haiku"),
    *("anthropic.claude-v", "anthropic.claude-instant", "cohere.command-r", "deepseek.r1", "deepseek.v3"),
    *("meta.llama2", "meta.llama3-1", "meta.llama3-2-1b", "meta.llama3-2-3b", "meta.llama3-3", "meta.llama3-8b"),
    *("meta.llama3-70b", "minimax.minimax-m2", "mistral.mistral-7b", "mistral.mistral-large-24"),
    *("mistral.mistral-small-2402", "mistral.mixtral", "openai.gpt-oss", "qwen.qwen3-32b"),
)
_CLAUDE_OF_200K_TOKENS: Final = (
    *_BEFORE_CLAUDE_4,
    *("anthropic.claude-opus-4-2025", "anthropic.claude-opus-4-1", "anthropic.claude-opus-4-5"),
    *("anthropic.claude-sonnet-4-2025", "anthropic.claude-sonnet-4-5", "anthropic.claude-haiku-4-5"),
)


def takes_documents(model: str) -> bool:
    return not model_ids.bare(model).startswith(_WITHOUT_DOCUMENTS)


def takes_images(model: str) -> bool:
    """False for models that are known to read text alone."""
    return not model_ids.bare(model).startswith(_WITHOUT_IMAGES)


def most_images(model: str) -> int | None:
    """How many images a request may have; None if it is not known."""
    if model_ids.provider(model) != "anthropic":
        return None
    return 100 if model_ids.bare(model).startswith(_CLAUDE_OF_200K_TOKENS) else 600


def takes_video(model: str, api: Api) -> bool:
    """Only Nova's larger models are known to; an ARN may hide one."""
    if api == "invoke":
        return False
    bare = model_ids.bare(model)
    return model_ids.provider(model) is None or (bare.startswith(_NOVA) and not bare.startswith(_NOVA_THAT_IS_BLIND))


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
            file, sent_bytes(file, api), most_bytes(model, api), "put it into S3, and write `video: s3://bucket/key`"
        )


def _check_object(file: S3Object, *, model: str, api: Api) -> None:
    if not takes_video(model, api):  # the same models fetch by themselves
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
    _check_size(
        file, sent_bytes(file, api), most_bytes(model, api), "split it, or leave out what the question does not need"
    )


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


def sent_bytes(file: Image | DiskFile | S3Object, api: Api) -> int:
    """How many bytes of a request a file takes, in base64 but for text over InvokeModel; 0 where it is not known yet,
    as of a picture that is made to fit.
    """
    if isinstance(file, S3Object) or (isinstance(file, Image) and file.fit is not None):
        return 0
    return file.bytes if api == "invoke" and file.media_type.startswith("text/") else _as_base64(file.bytes)


def _as_base64(size: int) -> int:
    return 4 * -(-size // 3)
