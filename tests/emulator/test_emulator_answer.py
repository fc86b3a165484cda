"""What the local model says, and how it looks at images."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import skimage
from PIL import Image

from runner.emulator import pictures, tokens
from runner.emulator.answer import finish, local_text, pieces
from runner.emulator.prompt import Prompt, Turn

if TYPE_CHECKING:
    from emulator.conftest import Post, Start

RED_PIXEL = (  # as in the document this project comes from
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jMKwAAAABJRU5ErkJggg=="
)


def image(colour: Any, size: tuple[int, int] = (4, 3), form: str = "PNG", mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, colour).save(out, form)
    return out.getvalue()


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("red", "red"),
        ("#00ff00", "green"),
        ("navy", "blue"),
        ("yellow", "yellow"),
        ("orange", "orange"),
        ("saddlebrown", "brown"),
        ("purple", "pink"),
        ("indigo", "purple"),
        ("hotpink", "pink"),
        ("cyan", "cyan"),
        ("white", "white"),
        ("black", "black"),
        ("grey", "grey"),
        ("beige", "white"),
        ("tan", "beige"),
        ("darkred", "red"),
    ],
)
def test_colours(colour: str, name: str) -> None:
    assert pictures.look(image(colour)).colours == (name,)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_formats(form: str) -> None:
    data = image("red", (31, 17), form)
    assert pictures.media_type(data) == f"image/{form.lower()}"
    assert str(pictures.look(data)) == "31x17 pixels, red"


def test_modes_of_colour() -> None:
    assert pictures.look(image(0, mode="1")).colours == ("black",)
    assert pictures.look(image(200, mode="L")).colours == ("grey",)
    assert pictures.look(image((255, 0, 0, 0), mode="RGBA")).colours == ("transparent",)
    assert pictures.look(image((0, 255, 255, 0), form="JPEG", mode="CMYK")).colours == ("red",)


def test_two_colours() -> None:
    halves = Image.new("RGB", (10, 10), "blue")
    halves.paste("yellow", (0, 0, 10, 4))
    out = io.BytesIO()
    halves.save(out, "PNG")
    assert str(pictures.look(out.getvalue())) == "10x10 pixels, mostly blue, with yellow"


@pytest.mark.parametrize(
    ("name", "size", "colour"),
    [
        ("rocket.jpg", "640x427", "blue"),
        ("retina.jpg", "1411x1411", "red"),
        ("hubble_deep_field.jpg", "1000x872", "black"),
        ("coffee.png", "600x400", "brown"),
        ("moon.png", "512x512", "grey"),
    ],
)
def test_photographs(name: str, size: str, colour: str) -> None:
    shown = str(pictures.look((Path(skimage.__file__).parent / "data" / name).read_bytes()))
    assert shown.startswith(size)
    assert colour in shown


def test_the_seeds_red_pixel(start: Start, post: Post, ask: Any) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": RED_PIXEL}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "What color is this image?"}]
    text = post(start(), ask(content)).document["content"][0]["text"]
    assert text == (
        'Local emulator, no model was called. You asked: "What color is this image?". '
        "The image is 1x1 pixels, red. I was shown 1 turn and no system prompt."
    )


def test_several_images_are_each_described(start: Start, post: Post) -> None:
    content: list[Any] = [
        {"image": {"format": "png", "source": {"bytes": base64.b64encode(image(colour, size)).decode()}}}
        for colour, size in (("red", (1, 2)), ("blue", (3, 4)))
    ]
    body = {"messages": [{"role": "user", "content": [*content, {"text": "What are these?"}]}]}
    answer = post(start(), body, model="amazon.nova-lite-v1:0", operation="converse")
    text = answer.document["output"]["message"]["content"][0]["text"]
    assert "You sent 2 images: image 1 is 1x2 pixels, red; image 2 is 3x4 pixels, blue." in text


def prompt(*texts: str, **changes: Any) -> Prompt:
    turns = tuple(Turn("assistant" if at % 2 else "user", text) for at, text in enumerate(texts))
    return Prompt(turns=turns, **{"max_tokens": 1000, **changes})


def test_the_answer_tells_what_was_shown() -> None:
    assert local_text(prompt("a", "b", "What is\n a list?", system="Be kind.")) == (
        'Local emulator, no model was called. You asked: "What is a list?". '
        "I was shown 3 turns and a system prompt of 8 characters."
    )
    assert "The last turn was the assistant's, to be continued." in local_text(prompt("a", "b"))
    assert f'You asked: "{"x" * 200}…" (300 characters).' in local_text(prompt("x" * 300))


def test_a_reply_is_cut_at_max_tokens() -> None:
    reply = finish(prompt("Hi", max_tokens=3), "x" * 13)
    assert (reply.text, reply.stop_reason, reply.output_tokens) == ("x" * 12, "max_tokens", 3)
    assert finish(prompt("Hi", max_tokens=3), "x" * 12).stop_reason == "end_turn"


def test_max_tokens_before_the_stop_sequence() -> None:
    reply = finish(prompt("Hi", max_tokens=1, stop=("z",)), "abcdefghz")
    assert (reply.text, reply.stop_reason, reply.stop_sequence) == ("abcd", "max_tokens", None)


@pytest.mark.parametrize("text", ["", " ", "one", " lead and trail ", "a\n\nb  c", "Üñï — 漢字 mixed\ttabs"])
def test_pieces_are_the_whole_text(text: str) -> None:
    assert "".join(pieces(text)) == text


@pytest.mark.parametrize(
    ("size", "count"),
    [((1, 1), 1), ((28, 28), 1), ((29, 28), 2), ((1000, 1000), 1296), ((8000, 8000), 1568), ((8000, 80), 56)],
)
def test_image_tokens(size: tuple[int, int], count: int) -> None:
    assert tokens.of_image(*size) == count
