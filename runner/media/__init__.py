"""What a job attaches: found, judged by its content, and read when it is sent. Pictures are made to fit."""

from __future__ import annotations

from runner.media.fitting import content, is_at_hand
from runner.media.images import describe, look
from runner.media.limits import MAX_BYTES, Limits, plan
from runner.media.thumbnails import thumbnail

__all__ = ["MAX_BYTES", "Limits", "content", "describe", "is_at_hand", "look", "plan", "thumbnail"]
