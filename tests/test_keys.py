"""The key of a case: rows are kept for as long as a case asks the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from runner.cases import keys, loading
from runner.cases.rendering import Renderer
from runner.records import Image

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
TURN = "turns: [{user: {text: x, images: [PICTURE]}}]"
BODY = """body: {max_tokens: 9, messages: [{role: user, content: "{{ image_base64('PICTURE') }}"}]}"""


@pytest.fixture
def requested(write_job: Any, tmp_path: Path) -> Any:
    """What a job that asks a model about a picture asks: the key of its case, and the picture."""
    PIL.Image.new("RGB", (2400, 1800), "red").save(tmp_path / "photo.jpg")
    PIL.Image.new("RGB", (400, 300), "red").save(tmp_path / "bitmap.bmp")

    def of(picture: str = "photo.jpg", more: str = "", *, asked: str = TURN) -> Any:
        (cases,) = loading.load([write_job(f"model: {HAIKU}\n{asked.replace('PICTURE', picture)}\n{more}\n")])
        (case,) = map(Renderer(cases.job).case, cases)
        assert case.fault is None
        (image,) = case.request.images or case.request.messages[0].images
        return case, image

    return of


def test_a_picture_that_the_model_would_shrink_itself_asks_the_same_as_it_is(requested: Any) -> None:
    shrunk, image = requested()
    assert isinstance(image, Image)
    assert image.fit is not None
    assert (image.fit.width, image.fit.asks_the_same) == (1568, True)
    whole, as_it_is = requested(more="images: {max_edge: off}")
    assert as_it_is.fit is None
    assert shrunk.key == whole.key


def test_a_smaller_size_and_another_format_ask_something_else(requested: Any) -> None:
    whole, _ = requested(more="images: {max_edge: off}")
    assert requested(more="images: {max_edge: 1000}")[0].key != whole.key
    assert requested(more="images: {max_edge: 1568}")[0].key == whole.key, "the request is the same to the byte"
    converted, bitmap = requested("bitmap.bmp")
    assert (bitmap.fit.media_type, bitmap.fit.asks_the_same) == ("image/jpeg", False)
    (message,) = converted.request.messages
    as_it_is = replace(converted.request, messages=(replace(message, images=(replace(bitmap, fit=None),)),))
    assert converted.key == keys.key(HAIKU, converted.request, repeat=0) != keys.key(HAIKU, as_it_is, repeat=0)


def test_a_picture_in_a_raw_body_asks_the_same_as_well(requested: Any) -> None:
    shrunk, image = requested(asked=BODY)
    assert image.fit.asks_the_same
    assert shrunk.key == requested(more="images: {max_edge: off}", asked=BODY)[0].key
