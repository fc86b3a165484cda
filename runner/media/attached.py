"""What a turn attaches: a path of the job to a file on disk or an object in S3, and that to its content."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Literal

from runner import media
from runner.media import documents, files, formats, rules, s3
from runner.records import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner.records import DiskFile, Job, S3Object


def describe(
    path: str, kind: Literal["document", "video"], job: Job, *, allow_dirs: Sequence[Path] = ()
) -> DiskFile | S3Object:
    """The document or video that a job calls `path`. Raises MediaError, also for what its model does not take."""
    if s3.is_uri(path):
        return in_s3(path, kind, job)
    found = documents.describe(path, job.path.parent, kind=kind, allow_dirs=allow_dirs)
    rules.check(found, model=job.model, api=job.api)
    return found


def in_s3(uri: str, kind: formats.Kind, job: Job) -> S3Object:
    """The object in S3 that a job names. Raises MediaError, also where its model does not take any."""
    found = s3.describe(uri, kind)
    rules.check(found, model=job.model, api=job.api)
    return found


def read(file: Image | DiskFile, *, as_text: bool = False) -> str:
    """A file's content in base64, or that of a text as the text. Raises CallError (input) if it can't be read or has
    changed.
    """
    if isinstance(file, Image):
        return media.read_base64(file)
    content = files.read(file.path, file.file, digest=file.sha256, what=formats.kind_of(file.media_type))
    return content.decode("utf-8-sig") if as_text else b64encode(content).decode("ascii")
