"""What is asked as a request body, and what came back as a Reply: one class per API, without any I/O.

A reply counts only if it is whole. Whatever lacks its output or its end raises IncompleteReply, so that a cut reply is
never taken for a short one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.bedrock.wire.anthropic import ANTHROPIC_VERSION, InvokeWire
from runner.bedrock.wire.converse import ConverseWire
from runner.bedrock.wire.protocol import IncompleteReply, ModelFault, ReplyStream, Wire
from runner.bedrock.wire.raw import RawInvokeWire

if TYPE_CHECKING:
    from runner.records import Case

__all__ = [
    "ANTHROPIC_VERSION",
    "ConverseWire",
    "IncompleteReply",
    "InvokeWire",
    "ModelFault",
    "RawInvokeWire",
    "ReplyStream",
    "Wire",
    "wire_for",
]


def wire_for(case: Case) -> Wire:
    """The wire that carries `case`."""
    if case.request.body is not None:
        return RawInvokeWire()
    return InvokeWire() if case.job.api == "invoke" else ConverseWire(case.job.model)
