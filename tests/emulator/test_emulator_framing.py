"""The encoder, against frames that botocore made and decoded."""

from __future__ import annotations

import base64
from typing import Any

from botocore.eventstream import EventStreamBuffer

from runner.emulator import framing

MESSAGE_START = (
    "000000800000005251a15f230b3a6576656e742d7479706507000c6d65737361676553746172740d3a636f6e74656e742d747970650700106170706c"
    "69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b2270223a22616263222c22726f6c65223a22617373697374"
    "616e74227df29ed8da"
)
THROTTLED = (
    "0000008e00000061514180540f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e0d3a636f6e74656e742d"
    "747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009657863657074696f6e7b226d657373616765223a"
    "22546f6f206d616e7920746f6b656e73227dc81b1ec1"
)


def test_event_is_the_known_frame() -> None:
    assert framing.event("messageStart", b'{"p":"abc","role":"assistant"}').hex() == MESSAGE_START


def test_exception_is_the_known_frame() -> None:
    assert framing.exception("throttlingException", {"message": "Too many tokens"}).hex() == THROTTLED


def test_error_has_everything_in_its_headers() -> None:
    buffer: Any = EventStreamBuffer()
    buffer.add_data(framing.error("InternalFailure", "über"))
    (message,) = buffer
    assert message.headers == {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "über"}
    assert message.payload == b""


def test_padding_is_a_prefix_that_depends_on_the_event_alone() -> None:
    payloads = [framing.padded({"role": "assistant"}), framing.padded({"role": "assistant"}), framing.padded({"a": 1})]
    assert payloads[0] == payloads[1]
    assert b'"p":"a' in payloads[0]
    assert b'"p":"a' in payloads[2]


def test_chunk_carries_the_models_json_in_base64() -> None:
    assert framing.chunk(b'{"type":"ping"}') == {"bytes": base64.b64encode(b'{"type":"ping"}').decode()}
