from __future__ import annotations

import random
import struct
from binascii import crc32
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from botocore.eventstream import EventStreamBuffer

from runner.bedrock.eventstream import MAX_HEADERS, MAX_PAYLOAD, Decoder, Event, EventStreamError

# bedrock-facts, appendix B: frames made and decoded with botocore.
MESSAGE_START = bytes.fromhex(
    "000000800000005251a15f230b3a6576656e742d7479706507000c6d65737361676553746172740d3a636f6e74656e742d74797065070010"
    "6170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b2270223a22616263222c22726f6c65223a"
    "22617373697374616e74227df29ed8da"
)
CONTENT_BLOCK_DELTA = bytes.fromhex(
    "0000009d00000057b9bbf89f0b3a6576656e742d74797065070011636f6e74656e74426c6f636b44656c74610d3a636f6e74656e742d7479"
    "70650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b22636f6e74656e74426c6f63"
    "6b496e646578223a302c2264656c7461223a7b2274657874223a226869227d2c2270223a226162227d465ccab0"
)
CHUNK = bytes.fromhex(
    "000000830000004b726a8d330b3a6576656e742d747970650700056368756e6b0d3a636f6e74656e742d747970650700106170706c696361"
    "74696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b226279746573223a2265794a306558426c496a6f6963476c"
    "755a794a39222c2270223a2261227d55017040"
)
EXCEPTION = bytes.fromhex(
    "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e0d3a636f6e74"
    "656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009657863657074696f6e7b226d"
    "657373616765223a22546f6f206d616e7920746f6b656e73227dc81b1ec1"
)
VECTORS = MESSAGE_START + CONTENT_BLOCK_DELTA + CHUNK + EXCEPTION


def header(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name.encode())]) + name.encode() + bytes([kind]) + value


def sized(value: bytes) -> bytes:
    return struct.pack(">H", len(value)) + value


def frame(headers: bytes, payload: bytes) -> bytes:
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def decode(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    decoder.close()
    return events


def botocore_decode(data: bytes) -> list[tuple[dict[str, object], bytes]]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    messages: Any = buffer  # the stubs say it iterates over integers
    return [(message.headers, message.payload) for message in messages]


def test_the_known_frames_are_read() -> None:
    start, delta, chunk, exception = decode(VECTORS)

    assert start.headers == {
        ":event-type": "messageStart",
        ":content-type": "application/json",
        ":message-type": "event",
    }
    assert start.payload == b'{"p":"abc","role":"assistant"}'
    assert delta.payload == b'{"contentBlockIndex":0,"delta":{"text":"hi"},"p":"ab"}'
    assert chunk.headers[":event-type"] == "chunk"
    assert chunk.payload == b'{"bytes":"eyJ0eXBlIjoicGluZyJ9","p":"a"}'
    assert exception.headers[":message-type"] == "exception"
    assert exception.headers[":exception-type"] == "throttlingException"
    assert exception.payload == b'{"message":"Too many tokens"}'


def test_the_test_encoder_makes_the_known_frames() -> None:
    headers = (
        header(":event-type", 7, sized(b"chunk"))
        + header(":content-type", 7, sized(b"application/json"))
        + header(":message-type", 7, sized(b"event"))
    )
    assert frame(headers, b'{"bytes":"eyJ0eXBlIjoicGluZyJ9","p":"a"}') == CHUNK


def test_every_cut_in_two_gives_the_same_events() -> None:
    whole = decode(VECTORS)
    for cut in range(len(VECTORS) + 1):
        assert decode(VECTORS[:cut], VECTORS[cut:]) == whole


def test_a_large_frame_in_small_pieces() -> None:
    data = frame(b"", bytes(1_000_000))
    (event,) = decode(*(data[i : i + 100] for i in range(0, len(data), 100)))
    assert event.payload == bytes(1_000_000)


def test_byte_by_byte_gives_the_same_events() -> None:
    assert decode(*(VECTORS[i : i + 1] for i in range(len(VECTORS)))) == decode(VECTORS)


def test_every_flipped_bit_is_detected() -> None:
    for bit in range(len(CHUNK) * 8):
        damaged = bytearray(CHUNK)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EventStreamError):
            decode(bytes(damaged))


def test_every_cut_off_end_is_detected() -> None:
    for size in range(1, len(CHUNK)):
        with pytest.raises(EventStreamError, match="ends inside a frame"):
            decode(MESSAGE_START, CHUNK[:size])


def test_events_before_the_damage_come_out_first() -> None:
    decoder = Decoder()
    events = decoder.feed(MESSAGE_START + CHUNK[:-1] + b"!")
    assert next(events).headers[":event-type"] == "messageStart"
    with pytest.raises(EventStreamError, match="checksum"):
        next(events)


def test_all_header_types() -> None:
    headers = b"".join(
        [
            header("true", 0, b""),
            header("false", 1, b""),
            header("byte", 2, b"\xff"),
            header("short", 3, b"\xff\xfe"),
            header("int", 4, struct.pack(">i", -3)),
            header("long", 5, struct.pack(">q", -4)),
            header("bytes", 6, sized(b"\x00\xff")),
            header("text", 7, sized("ä".encode())),
            header("time", 8, struct.pack(">q", 1_500)),
            header("uuid", 9, bytes(range(16))),
        ]
    )
    (event,) = decode(frame(headers, b""))
    assert event.headers == {
        "true": True,
        "false": False,
        "byte": -1,
        "short": -2,
        "int": -3,
        "long": -4,
        "bytes": b"\x00\xff",
        "text": "ä",
        "time": datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC),
        "uuid": UUID(bytes=bytes(range(16))),
    }
    assert event.payload == b""


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        (header("a", 7, sized(b"x")) + header("a", 7, sized(b"y")), "twice"),
        (header("a", 10, b""), "unknown type 10"),
        (header("a", 7, b"\x00\x05abc"), "cut short"),
        (header("a", 5, b"\x00"), "cut short"),
        (b"\x09ab", "cut short"),
        (b"\x01a", "cut short"),
        (header("a", 7, sized(b"\xff")), "not UTF-8"),
        (header("a", 8, struct.pack(">q", 2**62)), "out of range"),
    ],
)
def test_bad_headers_are_an_error(headers: bytes, reason: str) -> None:
    with pytest.raises(EventStreamError, match=reason):
        decode(frame(headers, b"{}"))


@pytest.mark.parametrize(
    ("total", "headers", "reason"),
    [
        (16 + MAX_HEADERS + 1, MAX_HEADERS + 1, "headers of 131073 bytes"),
        (16 + MAX_PAYLOAD + 1, 0, "payload of 25165825 bytes"),
        (15, 0, "cannot hold"),
        (20, 10, "cannot hold"),
    ],
)
def test_lengths_are_judged_before_the_rest_arrives(total: int, headers: int, reason: str) -> None:
    lengths = struct.pack(">II", total, headers)
    with pytest.raises(EventStreamError, match=reason):
        list(Decoder().feed(lengths + struct.pack(">I", crc32(lengths))))


def random_frame(rng: random.Random) -> bytes:
    def value() -> tuple[int, bytes]:
        kind = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8])
        if kind in {6, 7}:
            size = rng.randrange(0, 300)
            return kind, sized(rng.randbytes(size) if kind == 6 else bytes(rng.choices(b"abc XYZ", k=size)))
        if kind == 8:
            return kind, struct.pack(">q", rng.randrange(-(10**12), 10**13))
        return kind, rng.randbytes({0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8}[kind])

    headers = b"".join(header(f"h{i}", *value()) for i in range(rng.randrange(0, 6)))
    return frame(headers, rng.randbytes(rng.choice([0, 1, 50, 5_000])))


def test_random_frames_read_as_botocore_reads_them() -> None:
    rng = random.Random(7)
    for _ in range(300):
        data = b"".join(random_frame(rng) for _ in range(rng.randrange(1, 4)))
        ours = decode(data)
        theirs = botocore_decode(data)
        assert [event.payload for event in ours] == [payload for _, payload in theirs]
        for event, (headers, _) in zip(ours, theirs, strict=True):
            assert {name: comparable(value) for name, value in event.headers.items()} == headers


def test_where_the_bytes_are_cut_makes_no_difference() -> None:
    rng = random.Random(11)
    for _ in range(200):
        data = b"".join(random_frame(rng) for _ in range(rng.randrange(1, 6)))
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randrange(0, 8)))
        pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
        assert decode(*pieces) == decode(data)


def test_random_damage_gives_no_event_that_was_not_sent() -> None:
    rng = random.Random(13)
    for _ in range(500):
        frames = [random_frame(rng) for _ in range(rng.randrange(1, 5))]
        sent = [event for frame in frames for event in decode(frame)]
        damaged = bytearray(b"".join(frames))
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        decoder = Decoder()
        got: list[Event] = []
        with suppress(EventStreamError):
            got.extend(decoder.feed(bytes(damaged)))
        assert got == sent[: len(got)]


def comparable(value: object) -> object:
    """A timestamp as botocore gives it: milliseconds."""
    if isinstance(value, datetime):
        return round((value - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
    return value
