"""Objects in S3 that a model fetches by itself: only their names are known here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from runner.media import formats
from runner.media.files import MediaError
from runner.records import S3Object

if TYPE_CHECKING:
    from runner.media.formats import Kind

_SCHEME: Final = "s3://"
_MOST_CHARACTERS: Final = 1024
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_uri(path: str) -> bool:
    """Whether a path of a job is meant as an object in S3."""
    return path[: len(_SCHEME)].lower() == _SCHEME


def describe(uri: str, kind: Kind) -> S3Object:
    """The object that a job calls `s3://bucket/key`. Nothing is fetched. Raises MediaError."""
    bucket, _, key = uri[len(_SCHEME) :].partition("/")
    if not uri.startswith(_SCHEME):
        raise MediaError(f"{uri!r} is no URI of S3", f"write {_SCHEME} in small letters")
    if not _BUCKET.fullmatch(bucket):
        raise MediaError(
            f"{uri!r} names no bucket: {bucket!r} cannot be one",
            "a bucket has 3 to 63 small letters, digits, dots and dashes, as in s3://my-bucket/report.pdf",
        )
    if not key or key.endswith("/"):
        raise MediaError(f"{uri!r} names no object", "name one, as in s3://my-bucket/report.pdf: not a folder")
    if len(uri) > _MOST_CHARACTERS:
        raise MediaError(
            f"the URI {uri[:40]!r}... has {len(uri):,} characters; Bedrock takes at most {_MOST_CHARACTERS:,}",
            "copy the object to a shorter key",
        )
    media_type = formats.of_suffix(key, kind)
    if media_type is None:
        raise MediaError(
            f"{uri!r} does not tell its format",
            f"let its key end with the suffix of its format; a model takes {formats.suffixes(kind)} as {kind}",
        )
    return S3Object(path=uri, media_type=media_type)
