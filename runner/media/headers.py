"""What the headers of a PNG, JPEG, GIF or WebP say, and whether the file is whole. No pixel is decoded."""

from __future__ import annotations

import os
import re
import struct
import zlib
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.records import Colours

_CHUNK = 1024 * 1024
_MOST_PARTS = 1_000_000  # a file in more parts than that is made to keep its reader busy
_END_OF_JPEG = b"\xff\xd9"
_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD9), 0xFF})  # of a JPEG, with no length after them
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # how one of 1 to 4 channels begins
_MOST_SCANS = 200  # encoders write about ten; one of some bytes may go over all pixels
_COLOURS_OF_JPEG: dict[int, Colours] = {1: "grey", 4: "cmyk"}  # by the number of its channels
_COLOURS_OF_PNG: dict[int, Colours] = {0: "grey", 3: "palette", 4: "grey"}  # by its colour type
ORIENTATION = 0x0112  # the tag
CUT_SHORT = "it is cut short"
_UNPACKED_WRONGLY = "its pixels cannot be unpacked"
_MOST_UNPACKED = 512 * 1024 * 1024  # bytes of pixels


class Header(NamedTuple):
    """What a picture is like, as its file says. `width` and `height` are as stored: not turned upright."""

    width: int
    height: int
    orientation: int = 1  # as EXIF counts, 1 to 8
    colours: Colours = "rgb"
    bits: int = 8  # of a channel
    transparent: bool = False
    several: bool = False  # an animation
    progressive: bool = False  # a JPEG whose pixels are there only when all of it is decoded


class DamagedError(Exception):
    """The file is not what its first bytes say; the text says what is wrong with it."""


def read(stream: BinaryIO, media_type: str) -> Header:
    """The header of a png, jpeg, gif or webp file. Raises DamagedError, or OSError if it can't be read."""
    size = os.fstat(stream.fileno()).st_size
    try:
        header = _READERS[media_type](stream, size)
    except (struct.error, IndexError) as error:
        raise DamagedError(CUT_SHORT) from error
    if not header.width or not header.height:
        raise DamagedError(f"it has {header.width}x{header.height} pixels")
    return header


def orientation(exif: bytes) -> int:
    """The orientation that EXIF data give, from 1 to 8; 1, which is upright, where they give none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == ORIENTATION:
                (found,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", exif, entry + 8)
                return found if 1 <= found <= 8 else 1
    except struct.error:
        pass
    return 1


# --- JPEG ------------------------------------------------------------------------------------------------------------


def _jpeg(stream: BinaryIO, size: int) -> Header:
    stream.seek(2)
    header, channels, upright = None, 0, 1
    for marker, length in _segments(stream):
        if marker in _FRAMES:
            bits, height, width, channels = struct.unpack(">BHHB", stream.read(6))
            header = Header(
                width=width,
                height=height,
                colours=_COLOURS_OF_JPEG.get(channels, "rgb"),
                bits=bits,
                progressive=marker in _PROGRESSIVE,
            )
        elif marker == 0xE1 and upright == 1 and length > 6 and stream.read(6) == b"Exif\0\0":
            upright = orientation(stream.read(length - 6))
        elif marker == 0xDA:
            break
    if header is None:
        raise DamagedError("it has no picture in it")
    if stream.read(1)[0] < channels:  # more scans follow, whatever kind of frame it says it is
        header = header._replace(progressive=True)
    if header.progressive:
        _refuse_many_scans(stream)
    _find_end_of_jpeg(stream, size)
    return header._replace(orientation=upright)


def _refuse_many_scans(stream: BinaryIO) -> None:
    """Raise DamagedError for a picture that takes minutes to decode, with the stream at its first scan."""
    start = stream.tell()
    scans, before = 1, b""
    while piece := stream.read(_CHUNK):
        scans += len(_SCAN.findall(before + piece))
        before = piece[-4:]
    if scans > _MOST_SCANS:
        raise DamagedError(f"it has {scans:,} scans, more than any program writes")
    stream.seek(start)


def _segments(stream: BinaryIO) -> Iterator[tuple[int, int]]:
    """The marker and length of each segment, with the stream at its content; the last is the start of the scan."""
    marker = 0
    for _ in range(_MOST_PARTS):
        before, marker = marker, stream.read(1)[0]
        if before != 0xFF or marker in _BARE_MARKERS:
            continue  # what stands between segments is passed over, as decoders do
        if marker == 0xD9:
            raise DamagedError("it ends before its picture begins")
        length = int.from_bytes(stream.read(2), "big") - 2
        if length < 0:
            raise DamagedError(CUT_SHORT)
        after = stream.tell() + length
        yield marker, length
        stream.seek(after)
    raise DamagedError("its header has no end")


def _find_end_of_jpeg(stream: BinaryIO, size: int) -> None:
    """See that the picture has an end. Often it is the file's; else zeros, a film or another picture follow it."""
    start = stream.tell()
    stream.seek(max(start, size - 2))
    if stream.read(2) == _END_OF_JPEG:
        return
    stream.seek(start)
    before = b""
    while piece := stream.read(_CHUNK):
        if _END_OF_JPEG in before + piece:
            return
        before = piece[-1:]
    raise DamagedError(CUT_SHORT)


# --- PNG -------------------------------------------------------------------------------------------------------------


def _png(stream: BinaryIO, size: int) -> Header:
    stream.seek(8)
    header = None
    for kind, length in _png_chunks(stream, size):
        if header is None:
            if kind != b"IHDR":
                raise DamagedError("it does not begin with a header")
            width, height, bits, colour = struct.unpack(">IIBB", stream.read(10))
            header = Header(
                width=width,
                height=height,
                colours=_COLOURS_OF_PNG.get(colour, "rgb"),
                bits=bits,
                transparent=colour in {4, 6},
            )
        elif kind == b"tRNS":
            header = header._replace(transparent=True)
        elif kind == b"acTL":
            header = header._replace(several=int.from_bytes(stream.read(4), "big") > 1)
        elif kind == b"eXIf" and length < _CHUNK:
            header = header._replace(orientation=orientation(stream.read(length)))
        elif kind == b"IEND":
            return header
    raise DamagedError(CUT_SHORT)


def _png_chunks(stream: BinaryIO, size: int) -> Iterator[tuple[bytes, int]]:
    """The kind and length of each chunk that is there whole, with the stream at its content."""
    for _ in range(_MOST_PARTS):
        length, kind = struct.unpack(">I4s", stream.read(8))
        after = stream.tell() + length + 4
        if after > size:
            raise DamagedError(CUT_SHORT)
        yield kind, length
        stream.seek(after)
    raise DamagedError("it has no end")


def check_png(stream: BinaryIO) -> None:
    """Read a PNG that `read` found in order, up to its end. Raises DamagedError if its pixels cannot be had from it;
    OSError if it can't be read.

    Checksums tell where to look more closely, and no more: some programs write wrong ones, which decoders let pass.
    """
    stream.seek(8)
    doubtful = False
    for kind, length in _png_chunks(stream, os.fstat(stream.fileno()).st_size):
        if kind == b"IDAT":
            found = zlib.crc32(kind)
            for piece in _pieces(stream, length):
                found = zlib.crc32(piece, found)
            doubtful |= found != int.from_bytes(stream.read(4))
        elif kind == b"IEND":
            break
    if doubtful:
        _check_pixels_of_png(stream)


def _check_pixels_of_png(stream: BinaryIO) -> None:
    """Raise DamagedError if the pixels of a PNG cannot be unpacked. A picture too large to be tried is let pass."""
    stream.seek(8)
    unpacking, left = zlib.decompressobj(), _MOST_UNPACKED
    try:
        for kind, length in _png_chunks(stream, os.fstat(stream.fileno()).st_size):
            if kind == b"IEND":
                break
            for piece in _pieces(stream, length) if kind == b"IDAT" else ():
                packed = piece
                while packed and left > 0:
                    left -= len(unpacking.decompress(packed, _CHUNK))
                    packed = unpacking.unconsumed_tail
    except zlib.error as error:
        raise DamagedError(_UNPACKED_WRONGLY) from error
    if left > 0 and not unpacking.eof:
        raise DamagedError(_UNPACKED_WRONGLY)


def _pieces(stream: BinaryIO, length: int) -> Iterator[bytes]:
    """So many bytes from here on. Fewer where the file ends: it has changed."""
    while length and (piece := stream.read(min(length, _CHUNK))):
        yield piece
        length -= len(piece)


# --- GIF -------------------------------------------------------------------------------------------------------------


def _gif(stream: BinaryIO, size: int) -> Header:
    stream.seek(size - 1)
    has_trailer = stream.read(1) == b";"
    stream.seek(6)
    width, height, flags = struct.unpack("<HHB2x", stream.read(7))
    _skip_gif_palette(stream, flags)
    header, pictures = Header(width=width, height=height, colours="palette"), 0
    for _ in range(_MOST_PARTS):
        kind = stream.read(1)
        if kind == b"!":
            if stream.read(1) == b"\xf9" and not pictures:
                header = header._replace(transparent=bool(stream.read(2)[1] & 1))
                stream.seek(-2, os.SEEK_CUR)
        elif kind == b",":
            left, top, wide, high, flags = struct.unpack("<HHHHB", stream.read(9))
            pictures += 1
            if pictures == 1:
                header = header._replace(width=max(width, left + wide), height=max(height, top + high))
            else:
                header = header._replace(several=True)
                if has_trailer:
                    return header
            _skip_gif_palette(stream, flags)
            stream.seek(1, os.SEEK_CUR)
        elif kind in {b"", b";"}:  # some writers leave out the last byte
            if not pictures:
                raise DamagedError("it has no picture in it")
            return header
        else:
            continue  # what stands between blocks is passed over, as decoders do
        _skip_gif_data(stream, size)
    raise DamagedError("it has no end")


def _skip_gif_palette(stream: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        stream.seek(3 * 2 ** ((flags & 7) + 1), os.SEEK_CUR)


def _skip_gif_data(stream: BinaryIO, size: int) -> None:
    for _ in range(_MOST_PARTS):
        length = stream.read(1)
        if length == b"\0":
            return
        if not length or stream.seek(length[0], os.SEEK_CUR) > size:
            break
    raise DamagedError(CUT_SHORT)


# --- WebP ------------------------------------------------------------------------------------------------------------


def _webp(stream: BinaryIO, size: int) -> Header:
    stream.seek(4)
    length, kind = struct.unpack("<I4x4s4x", stream.read(16))
    if length + 8 > size:
        raise DamagedError(CUT_SHORT)
    start = stream.read(10)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", start, 6)
        return Header(width=width & 0x3FFF, height=height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", start, 1)
        return Header(width=(bits & 0x3FFF) + 1, height=(bits >> 14 & 0x3FFF) + 1, transparent=bool(bits >> 28 & 1))
    if kind != b"VP8X":
        raise DamagedError("it has no picture in it")
    flags = start[0]
    return Header(
        width=int.from_bytes(start[4:7], "little") + 1,
        height=int.from_bytes(start[7:10], "little") + 1,
        transparent=bool(flags & 0x10),
        several=bool(flags & 0x02),
        orientation=_orientation_of_webp(stream, length + 8) if flags & 0x08 else 1,
    )


def _orientation_of_webp(stream: BinaryIO, end: int) -> int:
    stream.seek(12)
    for _ in range(_MOST_PARTS):
        if stream.tell() + 8 > end:
            break
        kind, length = struct.unpack("<4sI", stream.read(8))
        if kind == b"EXIF":
            return orientation(stream.read(min(length, _CHUNK)))
        stream.seek(length + length % 2, os.SEEK_CUR)
    return 1


_READERS: dict[str, Callable[[BinaryIO, int], Header]] = {
    "image/jpeg": _jpeg,
    "image/png": _png,
    "image/gif": _gif,
    "image/webp": _webp,
}
