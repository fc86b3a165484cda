"""Images of a job: found, judged by their content, made to fit where they must be, and read when they are sent."""

from __future__ import annotations

from runner.media.fitting import content, read_base64
from runner.media.images import describe, look
from runner.media.limits import MAX_BYTES, Limits, plan
from runner.media.thumbnails import thumbnail

__all__ = ["MAX_BYTES", "Limits", "content", "describe", "look", "plan", "read_base64", "thumbnail"]
