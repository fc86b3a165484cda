"""Decoder of application/vnd.amazon.eventstream, the framing of Bedrock's streamed replies.

A frame, big-endian: u32 total length, u32 length of the headers, u32 CRC-32 of those 8 bytes, headers, payload, u32
CRC-32 of all before it. Both checksums are checked, so that a damaged stream is an error and never a shorter reply.
"""

from __future__ import annotations

from binascii import crc32
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HeaderValue: TypeAlias = bool | int | bytes | str | datetime | UUID

MAX_HEADERS = 128 * 1024
MAX_PAYLOAD = 24 * 1024 * 1024

_PRELUDE = Struct(">III")
_U32 = Struct(">I")
_OVERHEAD = _PRELUDE.size + _U32.size
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_CACHED_BLOCKS = 64


class EventStreamError(Exception):
    """The bytes are not a whole, undamaged event stream. `reason` says what is wrong."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Event(NamedTuple):
    """One frame. `headers` may be shared between events and is not to be changed."""

    headers: Mapping[str, HeaderValue]
    payload: bytes


class Decoder:
    """Turns bytes, cut anywhere, into events.

    The event types of a stream are few, so the same blocks of headers come again and again: a parsed block is kept
    under its bytes, which leaves two checksums and two slices per event.
    """

    def __init__(self) -> None:
        self._waiting = bytearray()
        self._needed = _PRELUDE.size  # bytes before anything can be done with what is waiting
        self._parsed: dict[bytes, Mapping[str, HeaderValue]] = {}

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that are complete with `data`; the rest waits for more. Raises EventStreamError."""
        if self._waiting:
            self._waiting += data
            if len(self._waiting) < self._needed:
                return
            data = bytes(self._waiting)
        size, start, self._needed = len(data), 0, _PRELUDE.size
        try:
            while size - start >= _PRELUDE.size:
                total, header_length, checksum = _PRELUDE.unpack_from(data, start)
                if crc32(data[start : start + 8]) != checksum:
                    raise EventStreamError("the checksum of a frame's length does not match")
                _check_lengths(total, header_length)
                if size - start < total:
                    self._needed = total
                    break
                payload_start = start + _PRELUDE.size + header_length
                end = start + total - _U32.size
                # The whole frame's checksum goes on where that of its first 8 bytes ended.
                if crc32(data[start + 8 : end], checksum) != _U32.unpack_from(data, end)[0]:
                    raise EventStreamError("a frame's checksum does not match its content")
                headers = self._headers(data[start + _PRELUDE.size : payload_start])
                start += total
                yield Event(headers, data[payload_start:end])
        finally:
            self._waiting = bytearray(data[start:])

    def close(self) -> None:
        """Say that no more bytes come. Raises EventStreamError if the stream ends inside a frame."""
        if self._waiting:
            raise EventStreamError(f"the stream ends inside a frame, after {len(self._waiting)} of its bytes")

    def _headers(self, block: bytes) -> Mapping[str, HeaderValue]:
        headers = self._parsed.get(block)
        if headers is None:
            headers = _parse_headers(block)
            if len(self._parsed) < _CACHED_BLOCKS:
                self._parsed[block] = headers
        return headers


def _check_lengths(total: int, header_length: int) -> None:
    payload_length = total - header_length - _OVERHEAD
    if payload_length < 0:
        raise EventStreamError(f"a frame of {total} bytes cannot hold headers of {header_length}")
    if header_length > MAX_HEADERS:
        raise EventStreamError(f"a frame has headers of {header_length} bytes; the most is {MAX_HEADERS}")
    if payload_length > MAX_PAYLOAD:
        raise EventStreamError(f"a frame has a payload of {payload_length} bytes; the most is {MAX_PAYLOAD}")


def _parse_headers(block: bytes) -> Mapping[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    reader = _Reader(block)
    while not reader.at_end:
        name = reader.text(reader.take(1)[0])
        value = _header_value(reader, reader.take(1)[0])
        if name in headers:
            raise EventStreamError(f"a frame has the header {name!r} twice")
        headers[name] = value
    return headers


def _header_value(reader: _Reader, kind: int) -> HeaderValue:
    """Read a value of header type `kind`, 0 to 9."""
    if kind in {6, 7}:
        size = int.from_bytes(reader.take(2))
        return reader.take(size) if kind == 6 else reader.text(size)
    if kind not in _FIXED_SIZES:
        raise EventStreamError(f"a frame has a header of the unknown type {kind}")
    raw = reader.take(_FIXED_SIZES[kind])
    if kind in {0, 1}:
        return kind == 0
    if kind == 9:
        return UUID(bytes=raw)
    number = int.from_bytes(raw, signed=True)
    return _timestamp(number) if kind == 8 else number


def _timestamp(milliseconds: int) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError as error:
        raise EventStreamError(f"a frame has a timestamp out of range: {milliseconds} ms") from error


class _Reader:
    """A position in a block of headers, which never moves past the end."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._block)

    def take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._block):
            raise EventStreamError("a frame's headers are cut short")
        taken = self._block[self._position : end]
        self._position = end
        return taken

    def text(self, size: int) -> str:
        try:
            return self.take(size).decode()
        except UnicodeDecodeError as error:
            raise EventStreamError("a frame has a header that is not UTF-8") from error
