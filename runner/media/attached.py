"""What a turn attaches: a path of the job to a file on disk or an object in S3, and that to its content."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Literal

from runner import media
from runner.media import documents, files, formats, rules, s3
from runner.records import Image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner.records import DiskFile, Job, S3Object

_MARK = os.urandom(16).hex()  # drawn anew in each process: no text of a job, a row or a model holds it
_MARKS = re.compile(rf"{_MARK}:([0-9]+);".encode())


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


def content(file: Image | DiskFile) -> bytes:
    """A file's content, as it is sent. Raises NoRequestError if it can't be read or has changed."""
    if isinstance(file, Image):
        return media.content(file)
    return files.read(file.path, file.file, digest=file.sha256, stamp=file.stamp, what=formats.kind_of(file.media_type))


class AttachedFiles:
    """The files within one request body: marks while it is written as JSON, and then their content in base64.

    To write base64 as JSON, which looks at each character, takes three times as long as to make it.
    """

    def __init__(self) -> None:
        self._numbers: dict[Image | DiskFile, int] = {}

    def base64(self, file: Image | DiskFile) -> str:
        """The mark for a file's content."""
        return f"{_MARK}:{self._numbers.setdefault(file, len(self._numbers))};"

    def text(self, file: DiskFile) -> str:
        """The text in a file, without its byte order mark. Raises NoRequestError if it can't be read."""
        return content(file).decode("utf-8-sig")

    def put_into(self, body: bytes) -> bytes:
        """The body with the files in it. Each is read now, and once. Raises NoRequestError if one can't be."""
        if not self._numbers:
            return body
        contents = [b64encode(content(file)) for file in self._numbers]
        parts = _MARKS.split(body)  # text and the numbers of files, in turn
        parts[1::2] = [contents[int(number)] for number in parts[1::2]]
        return b"".join(parts)
