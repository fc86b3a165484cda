"""Images that Bedrock would not take, and what is sent instead: planned from the header, then made."""

from __future__ import annotations

import io
import logging
import os
import random
import struct
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import PIL.ImageCms
import PIL.ImageDraw
import PIL.ImageOps
import PIL.ImageStat
import pytest
import skimage

from runner import media
from runner.errors import CallError, FailureCode
from runner.media import Limits, files, fitting, limits, pictures
from runner.media.files import MediaError
from runner.threads import cores

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.records import Fit, Image

ORIENTATION = 0x0112
GPS = 0x8825


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_recent", fitting._Recent(1_000_000))


def colourful(width: int = 96, height: int = 64) -> PIL.Image.Image:
    """Each quarter of another colour, so that it shows which side is up."""
    picture = PIL.Image.new("RGB", (width, height), "red")
    picture.paste("lime", (width // 2, 0, width, height // 2))
    picture.paste("blue", (0, height // 2, width // 2, height))
    picture.paste("white", (width // 2, height // 2, width, height))
    return picture


def noise(width: int, height: int) -> PIL.Image.Image:
    return PIL.Image.frombytes("RGB", (width, height), random.Random(1).randbytes(width * height * 3))


def saved(picture: PIL.Image.Image, kind: str, **how: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def frames(kind: str, **how: Any) -> bytes:
    others = [PIL.Image.new("RGB", (96, 64), name) for name in ("black", "grey")]
    return saved(colourful(), kind, save_all=True, append_images=others, **how)


def exif(orientation: int) -> PIL.Image.Exif:
    made = PIL.Image.Exif()
    made[ORIENTATION] = orientation
    made.get_ifd(GPS)[1] = "N"
    return made


def described(folder: Path, content: bytes) -> Image:
    (folder / "picture").write_bytes(content)
    return media.describe("picture", folder)


def planned(folder: Path, content: bytes, limits: Limits | None = None) -> Fit:
    fit = media.plan(described(folder, content), limits or Limits())
    assert fit is not None
    return fit


def fitted(folder: Path, content: bytes, limits: Limits | None = None) -> tuple[Fit, PIL.Image.Image]:
    """What is planned, and what is sent: the two must agree."""
    image = described(folder, content)
    fit = media.plan(image, limits or Limits())
    assert fit is not None
    sent = media.content(replace(image, fit=fit))
    assert len(sent) <= media.MAX_BYTES
    picture = PIL.Image.open(io.BytesIO(sent))
    picture.load()
    assert (*picture.size, picture.get_format_mimetype()) == (fit.width, fit.height, fit.media_type)
    assert not picture.getexif()
    return fit, picture


def assert_alike(one: PIL.Image.Image, other: PIL.Image.Image) -> None:
    """That both show the same, pixel by pixel of a small copy."""
    small = [
        picture.convert("RGBA").resize((6, 4), PIL.Image.Resampling.BOX).convert("RGB") for picture in (one, other)
    ]
    pairs = zip(*(picture.tobytes() for picture in small), strict=True)
    assert max(abs(ours - theirs) for ours, theirs in pairs) <= 24


# --- what passes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        saved(colourful(), "PNG"),
        saved(colourful(), "JPEG"),
        saved(colourful(), "JPEG", progressive=True),
        saved(colourful().convert("L"), "JPEG"),
        saved(colourful(), "GIF"),
        saved(colourful(), "WEBP"),
        saved(colourful(), "WEBP", lossless=True),
        saved(colourful().convert("P"), "PNG"),
        saved(colourful().convert("1"), "PNG"),
        frames("GIF"),
        frames("WEBP"),
        frames("PNG"),
        frames("MPO"),
        saved(colourful(), "JPEG") + b"\0\0\0\x18ftypmp42" + bytes(100_000),  # a film follows, as telephones have it
        saved(colourful(), "JPEG", exif=exif(1)),
        saved(PIL.Image.new("RGB", (1, 1)), "PNG"),
        saved(colourful(), "GIF")[:-1],  # without the byte that says that nothing follows
    ],
)
def test_what_bedrock_takes_goes_byte_for_byte(content: bytes, tmp_path: Path) -> None:
    image = described(tmp_path, content)
    assert media.plan(image, Limits(max_edge=96)) is None
    assert media.content(image) == content


# --- what is made to fit ---------------------------------------------------------------------------------------------

CMYK = colourful().convert("CMYK")
PALETTE = colourful().convert("P")
SIXTEEN_BITS = colourful().convert("L").convert("I").point(lambda shade: shade * 257).convert("I;16")


@pytest.mark.parametrize(
    ("content", "changes", "media_type"),
    [
        (saved(colourful(), "BMP"), ("converted from bmp",), "image/jpeg"),
        (saved(colourful().convert("P"), "BMP"), ("converted from bmp",), "image/png"),
        (saved(colourful(), "TIFF"), ("converted from tiff",), "image/jpeg"),
        (saved(colourful(), "TIFF", compression="tiff_lzw"), ("converted from tiff",), "image/jpeg"),
        (saved(colourful().convert("L"), "TIFF"), ("converted from tiff",), "image/png"),
        (saved(colourful().convert("1"), "TIFF"), ("converted from tiff",), "image/png"),
        (frames("TIFF"), ("converted from tiff", "the first of its pages"), "image/jpeg"),
        (saved(CMYK, "TIFF"), ("converted from tiff", "CMYK to RGB"), "image/jpeg"),
        (saved(CMYK, "JPEG"), ("CMYK to RGB",), "image/jpeg"),
        (saved(SIXTEEN_BITS, "PNG"), ("16 bits a channel to 8",), "image/png"),
        (saved(SIXTEEN_BITS, "TIFF"), ("converted from tiff", "16 bits a channel to 8"), "image/png"),
        (saved(colourful(), "AVIF", quality=95), ("converted from avif",), "image/jpeg"),
    ],
)
def test_what_bedrock_does_not_take_is_converted(
    content: bytes, changes: tuple[str, ...], media_type: str, tmp_path: Path
) -> None:
    fit, picture = fitted(tmp_path, content)
    assert (fit.changes, fit.media_type) == (changes, media_type)
    with PIL.Image.open(io.BytesIO(content)) as original:
        if original.mode in {"CMYK", "RGB"}:
            assert_alike(picture, colourful())
        else:
            grey = original if not original.mode.startswith("I") else colourful().convert("L")
            assert_alike(picture, grey)


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [kind + data for kind, data in (*chunks, (b"IEND", b""))]
    framed = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def png_header(width: int, height: int, bits: int, colour: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def test_colours_of_16_bits_are_fitted(tmp_path: Path) -> None:
    rows = zlib.compress((b"\0" + struct.pack(">HHH", 65535, 0, 32768) * 7) * 5)
    fit, picture = fitted(tmp_path, png_of(png_header(7, 5, 16, 2), (b"IDAT", rows)))
    assert fit.changes == ("16 bits a channel to 8",)
    assert_alike(picture, PIL.Image.new("RGB", (7, 5), (255, 0, 128)))


def test_the_shade_of_16_bits_that_is_transparent_stays_so(tmp_path: Path) -> None:
    rows, clear = zlib.compress(b"\0" + struct.pack(">HH", 0, 0x80FF)), struct.pack(">H", 0x80FF)
    _, picture = fitted(tmp_path, png_of(png_header(2, 1, 16, 0), (b"tRNS", clear), (b"IDAT", rows)))
    assert picture.convert("LA").tobytes() == bytes([0, 255, 128, 0])


@pytest.mark.parametrize(
    ("content", "changes"),
    [
        (saved(colourful(), "JPEG"), ()),
        (saved(colourful(), "PNG"), ()),
        (saved(colourful().convert("P"), "PNG"), ()),
        (saved(colourful(), "GIF"), ()),
        (frames("GIF"), ("the first of its frames",)),
        (frames("WEBP", lossless=True), ("the first of its frames",)),
        (frames("PNG"), ("the first of its frames",)),
        (frames("MPO"), ()),
    ],
)
def test_what_is_larger_than_the_edge_is_scaled_down(content: bytes, changes: tuple[str, ...], tmp_path: Path) -> None:
    fit, picture = fitted(tmp_path, content, Limits(max_edge=48))
    assert fit.changes == (*changes, "scaled down from 96x64")
    assert (fit.width, fit.height) == (48, 32)
    assert_alike(picture, colourful())


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("edge", [None, 48])
def test_photographs_are_turned_upright(kind: str, orientation: int, edge: int | None, tmp_path: Path) -> None:
    content = saved(colourful(), kind, exif=exif(orientation))
    image = described(tmp_path, content)
    fit, picture = fitted(tmp_path, content, Limits(max_edge=edge))
    with PIL.Image.open(io.BytesIO(content)) as original:
        upright = PIL.ImageOps.exif_transpose(original)
    assert upright.size == (image.width, image.height)
    assert_alike(picture, upright)
    assert ("turned upright" in fit.changes) is (kind != "TIFF")  # its decoder does it


@pytest.mark.parametrize(
    "content",
    [
        saved(colourful().convert("RGBA").crop((-20, 0, 96, 64)), "PNG"),
        saved(PALETTE, "PNG", transparency=PALETTE.getpixel((0, 0))),
        saved(colourful(), "PNG", transparency=(255, 0, 0)),
        saved(colourful().convert("LA").crop((-20, 0, 96, 64)), "PNG"),
        saved(colourful().convert("RGBA").crop((-20, 0, 96, 64)), "WEBP"),
    ],
)
def test_what_is_transparent_stays_so(content: bytes, tmp_path: Path) -> None:
    fit, picture = fitted(tmp_path, content, Limits(max_edge=48))
    assert fit.media_type == "image/png"
    assert picture.has_transparency_data
    least, most = picture.convert("RGBA").getchannel("A").getextrema()
    assert (least, most) == (0, 255)


def test_what_is_transparent_stays_so_when_it_is_only_turned(tmp_path: Path) -> None:
    clear = PALETTE.getpixel((0, 0))
    fit, picture = fitted(tmp_path, saved(PALETTE, "PNG", transparency=clear, exif=exif(6)))
    assert fit.changes == ("turned upright",)
    assert picture.mode == "P"
    assert picture.convert("RGBA").getpixel((63, 0))[3] == 0  # type: ignore[index]


def test_a_large_transparent_picture_becomes_a_webp(tmp_path: Path) -> None:
    picture = noise(1200, 1000)
    picture.putalpha(128)
    content = saved(picture, "PNG", compress_level=0)
    fit, sent = fitted(tmp_path, content)
    assert fit.media_type == "image/webp"
    assert fit.changes == (f"recompressed: {len(content):,} bytes are more than the 3,932,160 that Bedrock takes",)
    assert sent.has_transparency_data


def screen(width: int, height: int) -> PIL.Image.Image:
    """Text in black on white, with a button."""
    picture = PIL.Image.new("RGB", (width, height), "white")
    draw = PIL.ImageDraw.Draw(picture)
    for line in range(10, height, 20):
        draw.text((10, line), "It was the best of times, it was the worst of times. " * (width // 320), fill="black")
    draw.rectangle((width // 2, height // 2, width // 2 + 200, height // 2 + 60), fill="#2266cc")
    return picture


def test_what_a_screen_shows_stays_a_png(tmp_path: Path) -> None:
    whole = screen(1600, 900)
    fit, sent = fitted(tmp_path, saved(whole, "PNG"), Limits(max_edge=1568))
    assert (fit.media_type, fit.width) == ("image/png", 1568)
    assert_alike(sent, whole)
    assert planned(tmp_path, saved(noise(200, 100), "PNG"), Limits(max_edge=100)).media_type == "image/jpeg"


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_drawing_that_is_too_large_as_a_png_gets_256_colours(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = screen(400, 300).convert(mode)
    if mode == "RGBA":
        picture.paste((0, 0, 0, 0), (0, 0, 100, 100))
    content = saved(picture, "PNG")
    monkeypatch.setattr(fitting, "MAX_BYTES", 20_000)
    fit, sent = fitted(tmp_path, content, Limits(max_edge=390))
    assert (fit.media_type, sent.mode) == ("image/png", "P")
    assert_alike(sent, picture)
    assert sent.has_transparency_data is (mode == "RGBA")


def test_too_many_bytes_are_recompressed(tmp_path: Path) -> None:
    content = saved(noise(1300, 1100), "PNG")
    fit, _ = fitted(tmp_path, content)
    assert fit.changes == (f"recompressed: {len(content):,} bytes are more than the 3,932,160 that Bedrock takes",)
    assert (fit.media_type, fit.width, fit.height) == ("image/jpeg", 1300, 1100)


@pytest.mark.parametrize("mode", ["P", "1", "L", "LA"])
def test_too_many_bytes_of_a_drawing_are_recompressed_too(mode: str, tmp_path: Path) -> None:
    picture = colourful(2100, 2000).convert("L" if mode == "LA" else mode)
    if mode == "LA":
        picture.putalpha(128)
    fit, sent = fitted(tmp_path, saved(picture, "PNG") + bytes(4_000_000))
    assert (fit.width, fit.height) == (2100, 2000)
    assert fit.media_type == ("image/webp" if mode == "LA" else "image/jpeg")
    assert_alike(sent, picture)


def harsh_noise(mode: str, width: int, height: int) -> PIL.Image.Image:
    """What compresses worst: each channel of each pixel is at one end or the other."""
    ends = bytes(0 if shade < 128 else 255 for shade in range(256))
    size = width * height * len(PIL.Image.new(mode, (1, 1)).getbands())
    return PIL.Image.frombytes(mode, (width, height), random.Random(1).randbytes(size).translate(ends))


@pytest.mark.parametrize(
    ("mode", "kind", "sent"),
    [("RGB", "JPEG", "image/jpeg"), ("RGB", "BMP", "image/jpeg"), ("RGBA", "PNG", "image/webp")],
)
def test_what_hardly_compresses_is_sent_in_the_size_that_was_planned(
    mode: str, kind: str, sent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 400
    most = media.MAX_BYTES * side**2 // limits._MOST_ENCODED_PIXELS[sent]  # as if it had as many pixels as may be
    monkeypatch.setattr(fitting, "MAX_BYTES", most)
    fit, _ = fitted(tmp_path, saved(harsh_noise(mode, side, side), kind), Limits(max_bytes=most))
    assert (fit.media_type, fit.width, fit.height) == (sent, side, side)


@pytest.mark.parametrize(
    ("width", "height", "sent"), [(1, 9000, (1, 8000)), (9000, 1, (8000, 1)), (20_000, 2, (8000, 1))]
)
def test_the_longest_side_is_8000_pixels(width: int, height: int, sent: tuple[int, int], tmp_path: Path) -> None:
    fit, _ = fitted(tmp_path, saved(PIL.Image.new("RGB", (width, height), "red"), "PNG"))
    assert (fit.width, fit.height) == sent
    assert fit.changes == (f"scaled down from {width}x{height}",)


def test_among_more_than_20_images_and_documents_it_is_2000(tmp_path: Path) -> None:
    content = saved(PIL.Image.new("RGB", (2001, 100)), "JPEG")
    image = described(tmp_path, content)
    assert media.plan(image, Limits.among(20)) is None
    fit = media.plan(image, Limits.among(21))
    assert fit is not None
    assert (fit.width, fit.height) == (2000, 100)
    with pytest.raises(MediaError, match="2001x100 pixels; Bedrock takes at most 2000 a side in a request with more"):
        media.plan(image, Limits.among(21, fit=False))
    assert media.plan(image, Limits.among(21, max_edge=3000)) == fit
    fit = media.plan(image, Limits.among(1, max_edge=1568))
    assert fit is not None
    assert fit.width == 1568


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (saved(colourful(), "BMP"), "is a BMP; Bedrock takes png, jpeg, gif and webp"),
        (saved(colourful(), "TIFF"), "is a TIFF; Bedrock takes png, jpeg, gif and webp"),
        (saved(PIL.Image.new("RGB", (8001, 1)), "PNG"), "has 8001x1 pixels; Bedrock takes at most 8000 a side"),
        (saved(colourful(), "PNG") + bytes(4_000_000), "Bedrock takes at most 3,932,160"),
    ],
)
def test_without_fit_what_bedrock_would_refuse_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=message) as caught:
        media.plan(described(tmp_path, content), Limits(fit=False))
    assert caught.value.hint is not None
    assert "leave out `fit: off`" in caught.value.hint


@pytest.mark.parametrize(
    "content", [saved(CMYK, "JPEG"), saved(SIXTEEN_BITS, "PNG"), saved(colourful(), "JPEG", exif=exif(6))]
)
def test_without_fit_everything_else_passes(content: bytes, tmp_path: Path) -> None:
    assert media.plan(described(tmp_path, content), Limits(fit=False, max_edge=10)) is None


REAL = Path(skimage.__file__).parent / "data"


@pytest.mark.parametrize("name", sorted(file.name for file in REAL.iterdir() if file.suffix in {".png", ".jpg"}))
def test_real_pictures_look_the_same_when_they_are_smaller(name: str, tmp_path: Path) -> None:
    content = (REAL / name).read_bytes()
    image = described(tmp_path, content)
    edge = max(image.width, image.height) // 3
    fit, picture = fitted(tmp_path, content, Limits(max_edge=edge))
    assert max(fit.width, fit.height) == edge
    with PIL.Image.open(io.BytesIO(content)) as original:
        assert original.size == (image.width, image.height)
        assert_alike(picture, original)


# --- colours and what else a file says -------------------------------------------------------------------------------


def test_the_profile_of_a_photograph_stays_and_where_it_was_taken_does_not(tmp_path: Path) -> None:
    profile = PIL.ImageCms.ImageCmsProfile(PIL.ImageCms.createProfile("sRGB")).tobytes()
    content = saved(colourful(), "JPEG", icc_profile=profile, exif=exif(6), comment=b"secret", xmp=b"<secret/>")
    image = described(tmp_path, content)
    sent = media.content(replace(image, fit=media.plan(image, Limits())))
    assert profile in sent
    assert b"secret" not in sent
    with PIL.Image.open(io.BytesIO(sent)) as picture:
        assert not picture.getexif()


@pytest.mark.parametrize("profile", [b"no profile", bytes(200), b""])
def test_a_damaged_profile_of_inks_does_no_harm(profile: bytes, tmp_path: Path) -> None:
    fit, picture = fitted(tmp_path, saved(CMYK, "JPEG", icc_profile=profile))
    assert fit.changes == ("CMYK to RGB",)
    assert "icc_profile" not in picture.info
    assert_alike(picture, colourful())


# --- HEIC ------------------------------------------------------------------------------------------------------------


def test_photographs_of_iphones_are_converted(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(colourful(64, 48)).save(stream, quality=95)
    fit, picture = fitted(tmp_path, stream.getvalue())
    assert fit.changes == ("converted from heic",)
    assert_alike(picture, colourful(64, 48))


def test_without_the_extra_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"mif1"):
        with pytest.raises(MediaError, match="is a HEIC that cannot be read") as caught:
            described(tmp_path, b"\0\0\0\x18ftyp" + brand + bytes(12))
        assert caught.value.hint is not None
        assert "pip install 'bedrock-run[heic]'" in caught.value.hint


# --- raw photographs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        saved(colourful(), "TIFF", tiffinfo={254: 1}),  # Nikon, Sony, Pentax
        saved(colourful(), "TIFF", tiffinfo={50706: b"\1\4\0\0"}),  # DNG
        b"II*\0\x10\0\0\0CR\2\0" + bytes(100),
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
        b"FUJIFILMCCD-RAW 0201" + bytes(100),
    ],
)
def test_the_small_copy_within_a_raw_photograph_is_not_sent_for_it(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is a raw photograph") as caught:
        described(tmp_path, content)
    assert caught.value.hint == "export it as jpeg from the program that develops it"


def test_a_tiff_of_several_pages_is_no_raw_photograph(tmp_path: Path) -> None:
    assert described(tmp_path, saved(colourful(), "TIFF", tiffinfo={254: 2})).media_type == "image/tiff"


# --- damaged, hostile, huge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_file_that_is_cut_short_is_refused_before_anything_is_paid(kind: str, tmp_path: Path) -> None:
    content = saved(noise(30, 20), kind)
    last = len(content) - (2 if kind == "GIF" else 1)  # the last byte of a GIF says nothing
    for length in (*range(20, last, len(content) // 50), last):
        with pytest.raises(MediaError, match="damaged"):
            described(tmp_path, content[:length])


def tiff_of_strips(tag: int, *values: int) -> bytes:
    """An uncompressed TIFF of four strips, with other values in a list about them."""
    content = saved(noise(30, 20), "TIFF", tiffinfo={278: 5})
    lists = {273: (172, 622, 1072, 1522), 279: (450, 450, 450, 450)}
    before = struct.pack("<4I", *lists[tag])
    assert content.count(before) == 1
    return content.replace(before, struct.pack("<4I", *values))


def bmp_of_colours(number: int) -> bytes:
    """A BMP of 3x2 pixels with so many colours in its palette."""
    start = 54 + 4 * number
    header = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", start + 8, 0, 0, start, 40, 3, 2, 1, 8, 0, 8, 0, 0, number, 0)
    return header + bytes(range(4)) * number + bytes(8)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (saved(noise(30, 20), "BMP")[:-6], "it is cut short"),
        (bmp_of_colours(300), "its palette has 300 colours"),
        (saved(noise(30, 20), "TIFF")[:-400], "it is cut short"),
        (tiff_of_strips(273, 172, 622, 1072, 9999), "it is cut short"),
    ],
    ids=["bmp", "palette", "tiff", "strip"],
)
def test_what_would_be_converted_is_seen_to_be_damaged_before_that(content: bytes, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=f"is damaged: {wrong}"):
        described(tmp_path, content)


@pytest.mark.parametrize(
    "content", [bmp_of_colours(256), bmp_of_colours(9)[:-1], tiff_of_strips(279, 450, 450, 450, 9999)]
)
def test_what_can_be_decoded_all_the_same_is_converted(content: bytes, tmp_path: Path) -> None:
    fitted(tmp_path, content)


def test_a_png_whose_pixels_are_damaged_is_refused_when_it_is_read(tmp_path: Path) -> None:
    content = bytearray(saved(noise(30, 20), "PNG"))
    content[len(content) // 2] ^= 1
    (tmp_path / "picture").write_bytes(content)
    assert media.look("picture", tmp_path).width == 30  # nothing but its header is read for that
    with pytest.raises(MediaError, match="is damaged: its pixels cannot be unpacked") as caught:
        media.describe("picture", tmp_path)
    assert caught.value.hint == "put a whole file in its place"


def test_a_png_of_which_only_a_checksum_is_wrong_is_sent(tmp_path: Path) -> None:
    content = bytearray(saved(noise(30, 20), "PNG"))
    end = content.index(b"\0\0\0\0IEND")
    content[end - 1] ^= 1
    assert media.plan(described(tmp_path, bytes(content)), Limits()) is None


@pytest.mark.parametrize("kind", ["BMP", "TIFF", "AVIF"])
def test_what_would_be_converted_is_refused_by_then(kind: str, tmp_path: Path) -> None:
    content = saved(noise(30, 20), kind)
    for length in range(20, len(content) - 1, len(content) // 10):
        with pytest.raises((MediaError, CallError), match=r"\A[^\n]+\Z"):
            fitted(tmp_path, content[:length])


def header_of(kind: str, width: int, height: int) -> bytes:
    """A small file that says that it is large."""
    if kind == "PNG":
        return png_of(png_header(width, height, 8, 2), (b"IDAT", zlib.compress(bytes(1000))))
    content = bytearray(saved(colourful(), kind))
    if kind == "JPEG":
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
    else:
        content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_an_image_that_says_that_it_is_huge_is_not_decoded(kind: str, tmp_path: Path) -> None:
    with pytest.raises(
        MediaError, match=r"has 60000x50000 pixels; .* may have \d+ million to be made to fit"
    ) as caught:
        planned(tmp_path, header_of(kind, 60_000, 50_000))
    assert caught.value.hint


def test_a_second_header_hides_nothing(tmp_path: Path) -> None:
    pixels = (b"IDAT", zlib.compress(bytes(1000)))
    image = described(tmp_path, png_of(png_header(90, 3, 8, 2), png_header(60_000, 50_000, 8, 2), pixels))
    with pytest.raises(CallError, match="it says two sizes of itself"):
        media.content(replace(image, fit=media.plan(image, Limits(max_edge=80))))


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_scan(*channels: int) -> bytes:
    tables = b"".join(bytes([channel, 0]) for channel in channels)
    return jpeg_segment(0xDA, bytes([len(channels)]) + tables + b"\0\x3f\0") + b"\x12\x34\xff\0"


def jpeg_of(frame: int, *scans: bytes) -> bytes:
    """A small file that says that it has 10000x10000 pixels, in scans."""
    header = struct.pack(">BHHB", 8, 10_000, 10_000, 3) + bytes([1, 17, 0, 2, 17, 0, 3, 17, 0])
    return b"\xff\xd8" + jpeg_segment(frame, header) + b"".join(scans) + b"\xff\xd9"


def test_a_jpeg_with_a_channel_a_scan_takes_the_memory_of_a_progressive_one(tmp_path: Path) -> None:
    whole, parts = jpeg_of(0xC0, jpeg_scan(1, 2, 3)), jpeg_of(0xC0, jpeg_scan(1), jpeg_scan(2), jpeg_scan(3))
    assert planned(tmp_path, whole, Limits(max_edge=1000)).width == 1000
    with pytest.raises(MediaError, match="a progressive JPEG may have 89 million"):
        planned(tmp_path, parts, Limits(max_edge=1000))


def test_a_jpeg_of_very_many_scans_is_not_decoded(tmp_path: Path) -> None:
    first = jpeg_scan(1, 2, 3)
    assert described(tmp_path, jpeg_of(0xC2, first, *[jpeg_scan(1)] * 199)).progressive
    with pytest.raises(MediaError, match="it has 201 scans"):
        described(tmp_path, jpeg_of(0xC2, first, *[jpeg_scan(1)] * 200))
    film = b"\xff\xda" * 1000
    assert described(tmp_path, jpeg_of(0xC2, first) + film + b"\xff\xd9").progressive


def test_a_jpeg_that_is_mostly_filling_is_not_read_to_its_end(tmp_path: Path) -> None:
    whole = saved(colourful(), "JPEG")
    assert described(tmp_path, whole[:2] + b"\xff" * 1000 + whole[2:]).width == 96
    with pytest.raises(MediaError, match="its header has no end"):
        described(tmp_path, whole[:2] + b"\xff" * 1_100_000 + whole[2:])


def test_a_photograph_of_200_megapixels_is_taken(tmp_path: Path) -> None:
    fit = planned(tmp_path, header_of("JPEG", 16_320, 12_240), Limits(max_edge=1568))
    assert (fit.width, fit.height) == (1568, 1176)


def test_a_tall_strip_keeps_within_what_is_encoded_at_once(tmp_path: Path) -> None:
    fit = planned(tmp_path, header_of("JPEG", 8000, 7000) + bytes(4_000_000))
    assert fit.width * fit.height <= 16_010_000
    assert fit.changes[0] == "scaled down from 8000x7000"


MUTATED = {
    "PNG": saved(colourful(), "PNG", exif=exif(6)),
    "JPEG": saved(colourful(), "JPEG", exif=exif(6)),
    "CMYK": saved(CMYK, "JPEG"),
    "GIF": frames("GIF"),
    "WEBP": frames("WEBP"),
    "BMP": saved(colourful(), "BMP"),
    "TIFF": frames("TIFF", compression="tiff_adobe_deflate"),
    "AVIF": saved(colourful(), "AVIF", exif=exif(6)),
}


@pytest.mark.parametrize("kind", MUTATED)
def test_whatever_is_wrong_with_a_file_is_told_in_one_line(kind: str, tmp_path: Path) -> None:
    dice = random.Random(kind)
    outcomes = []
    for _ in range(60):
        content = bytearray(MUTATED[kind])
        for _ in range(dice.choice((1, 3, 30))):
            content[dice.randrange(12, dice.choice((150, len(content))))] = dice.randrange(256)
        try:
            image = described(tmp_path, bytes(content))
            fit = media.plan(image, Limits(max_edge=25))
            assert media.content(replace(image, fit=fit))
            outcomes.append("")
        except (MediaError, CallError) as error:
            outcomes.append(error.message)
    assert "" in outcomes or kind == "PNG"  # of which each byte counts
    assert len(set(outcomes)) > 1
    assert all("\n" not in message for message in outcomes)


@pytest.mark.parametrize(
    "error", [MemoryError(), struct.error("short"), EOFError(), RuntimeError("two\nlines"), zlib.error()]
)
def test_whatever_a_decoder_raises_is_the_rows_error(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    image = described(tmp_path, saved(colourful(), "BMP"))
    fit = media.plan(image, Limits())
    monkeypatch.setattr(pictures, "scaled", fail)
    with pytest.raises(CallError, match=r"the image 'picture' cannot be made to fit: \w+") as caught:
        media.content(replace(image, fit=fit))
    assert caught.value.code is FailureCode.INPUT
    assert "\n" not in caught.value.message
    with pytest.raises(MediaError, match="damaged"):
        media.thumbnail(image, side=10)


def test_the_number_of_a_decoder_s_error_is_told_in_words() -> None:
    assert pictures.reason(OSError("decoder error -2")).startswith("its pixels are damaged, or packed in a way")


def test_what_pillow_finds_odd_is_told_to_no_one_and_its_own_warnings_are_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(picture: PIL.Image.Image) -> PIL.Image.Image:
        warnings.warn_explicit("odd", UserWarning, "TiffImagePlugin.py", 1, module="PIL.TiffImagePlugin")
        assert logging.getLogger("PIL").handlers
        return of_8_bits(picture)

    of_8_bits = pictures._of_8_bits
    monkeypatch.setattr(pictures, "_of_8_bits", warn)
    before = list(warnings.filters)
    fitted(tmp_path, saved(colourful(), "BMP"))  # a warning would be an error
    image = described(tmp_path, saved(colourful(), "BMP"))
    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(lambda _: media.thumbnail(image, side=20), range(8)))
    assert list(warnings.filters) == before
    assert not logging.getLogger("PIL").handlers


# --- reading, keeping, waiting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [saved(colourful(), "PNG"), saved(colourful(), "TIFF")])
def test_a_look_says_all_but_the_digest(content: bytes, tmp_path: Path) -> None:
    image = described(tmp_path, content)
    assert media.look("picture", tmp_path) == replace(image, sha256="", stamp=None)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_an_image_that_has_changed_is_not_sent(kind: str, tmp_path: Path) -> None:
    image = described(tmp_path, saved(colourful(), kind))
    assert image.stamp is None  # it was written so shortly before that its times would not tell
    image = replace(image, fit=media.plan(image, Limits()))
    (tmp_path / "picture").write_bytes(saved(colourful().transpose(PIL.Image.Transpose.ROTATE_180), kind))
    with pytest.raises(CallError, match="has changed since the run began"):
        media.content(image)
    (tmp_path / "picture").unlink()
    with pytest.raises(CallError, match="can no longer be read"):
        media.content(image)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_an_image_that_looks_as_before_is_not_hashed_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 2**62)  # it was written long ago
    image = described(tmp_path, saved(colourful(), kind))
    image = replace(image, fit=media.plan(image, Limits()))
    with monkeypatch.context() as patched:
        patched.setattr(files, "file_digest", None)
        first = media.content(image)
    os.utime(tmp_path / "picture", ns=(0, 0))  # it may be another, and is not
    monkeypatch.setattr(fitting, "_recent", fitting._Recent(1_000_000))
    assert media.content(image) == first


def test_what_was_made_to_fit_is_kept_up_to_a_number_of_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    scaled = pictures.scaled

    def counted(stream: io.BufferedReader, image: Image, size: tuple[int, int]) -> PIL.Image.Image:
        made.append(size)
        return scaled(stream, image, size)

    monkeypatch.setattr(pictures, "scaled", counted)
    image = described(tmp_path, saved(noise(200, 200), "BMP"))
    images = [replace(image, fit=media.plan(image, Limits(max_edge=edge))) for edge in (90, 80, 70)]
    first = [media.content(each) for each in images]
    assert [media.content(each) for each in images] == first
    assert len(made) == 3

    monkeypatch.setattr(fitting, "_recent", fitting._Recent(len(first[0]) + len(first[1])))
    for each in (images[0], images[1], images[0], images[2], images[0], images[1]):
        media.content(each)
    assert [size[0] for size in made[3:]] == [90, 80, 70, 80]  # the one that was used longest ago goes first


def test_no_more_pictures_are_decoded_at_once_than_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now, most = threading.Lock(), 0, 0
    scaled = pictures.scaled

    def watched(stream: io.BufferedReader, image: Image, size: tuple[int, int]) -> PIL.Image.Image:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        try:
            return scaled(stream, image, size)
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(pictures, "scaled", watched)
    image = described(tmp_path, saved(noise(300, 300), "BMP"))
    images = [replace(image, fit=media.plan(image, Limits(max_edge=edge))) for edge in range(100, 140)]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(media.content, images))
    assert 1 <= most <= cores()


def test_a_large_picture_is_one_of_which_many_pixels_are_decoded(tmp_path: Path) -> None:
    huge = described(tmp_path, header_of("JPEG", 10_000, 8_000))
    assert not is_large(huge, (1500, 1200))  # decoded at a quarter
    assert is_large(huge, (5001, 4001))  # at its whole size
    assert is_large(replace(huge, progressive=True), (1500, 1200))
    assert is_large(replace(huge, media_type="image/png"), (1500, 1200))
    assert not is_large(replace(huge, width=5000, height=5000, media_type="image/png"), (1500, 1500))


def is_large(image: Image, size: tuple[int, int]) -> bool:
    with fitting.room(image, size):
        return fitting._place_of_large.locked()


@pytest.mark.timeout(20)
def test_what_is_at_hand_waits_for_no_room(tmp_path: Path) -> None:
    image = described(tmp_path, saved(noise(30, 20), "BMP"))
    image = replace(image, fit=media.plan(image, Limits()))
    assert not media.is_at_hand(image)
    first = media.content(image)
    assert media.is_at_hand(image)
    with ExitStack() as rooms:
        for _ in range(cores()):
            rooms.enter_context(fitting.room(image, (30, 20)))
        assert media.content(image) == first


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores() == (os.cpu_count() or 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: saved(colourful(), "BMP"),
        lambda: saved(CMYK, "JPEG"),
        lambda: saved(SIXTEEN_BITS, "TIFF"),
        lambda: frames("GIF"),
        lambda: saved(PALETTE, "PNG", transparency=PALETTE.getpixel((0, 0))),
        lambda: saved(colourful(), "JPEG", exif=exif(6)),
    ],
)
def test_every_kind_has_a_thumbnail(make: Callable[[], bytes], tmp_path: Path) -> None:
    image = described(tmp_path, make())
    uri = media.thumbnail(image, side=20)
    kind = "png" if image.transparent else "jpeg"
    assert uri.startswith(f"data:image/{kind};base64,")
