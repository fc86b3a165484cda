"""One call of a model, from its JSON to the answer: validation, script, faults, quotas, and the local model's reply."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from runner.emulator import answer, faults, models, replies
from runner.emulator.bodies import CONVERSE, INVOKE, Body
from runner.emulator.errors import AwsError, invalid, malformed
from runner.emulator.quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from runner.emulator.models import Model
    from runner.emulator.prompt import Prompt, Reply
    from runner.emulator.settings import Settings

MAX_BODY = 25_000_000
_MAY_HOLD_FILES = re.compile(rb'"image"|"images"|"image_url"|"document"|"video"')
_LARGE_BODY = 64 * 1024  # bytes: from here on reading is left to a thread, since it may hold files


class Operation(NamedTuple):
    """One of the operations that call a model."""

    name: str
    converse: bool
    streaming: bool


OPERATIONS = {
    "invoke": Operation("InvokeModel", converse=False, streaming=False),
    "invoke-with-response-stream": Operation("InvokeModelWithResponseStream", converse=False, streaming=True),
    "converse": Operation("Converse", converse=True, streaming=False),
    "converse-stream": Operation("ConverseStream", converse=True, streaming=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What the header `x-bedrock-emulator` asks for one call; None where it asks nothing. Times are seconds."""

    fault: str | None = None
    latency: float | None = None
    pace: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back. Nothing is sent for the faults `reset` and `hang`, which the connection itself plays."""

    wire: faults.Wire
    streaming: bool = False
    reply: Reply | None = None
    milliseconds: int = 0
    pace: float = 0
    fault: str | None = None


class Caller:
    """The models of one emulator, with its script, its faults and its quotas."""

    def __init__(self, settings: Settings) -> None:
        self._latency = settings.latency
        self._pace = settings.pace
        self._script = replies.load(settings.replies)
        self._dice = faults.Dice(settings.faults, seed=settings.seed)
        self._quotas = Quotas(
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
            clock=time.monotonic,
            burst=settings.burst,
        )

    def unused_replies(self) -> Iterator[str]:
        """The entries of the replies file that have answered no call yet, a line for each."""
        return self._script.unused()

    async def call(  # noqa: PLR0913 - one value for each thing that a request line and its headers say
        self,
        operation: Operation,
        model_id: str,
        body: bytes,
        *,
        region: str,
        directives: Directives,
        send: Callable[[Answer], Awaitable[None]],
    ) -> None:
        """Answer one call through `send`. The quota is settled when the sending ends, however it ends.

        Raises AwsError where that is the answer.
        """
        started = time.perf_counter()
        model, quota = models.resolve(model_id)
        shape = _shape(operation, model)
        prompt = await _read(shape, body, model)
        # First, so that a call that is throttled uses up neither an entry of the script nor a throw of the dice.
        reservation = self._quotas.reserve(
            f"{region} {quota}", input_tokens=prompt.input_tokens, max_tokens=prompt.max_tokens
        )
        reply: Reply | None = None
        try:
            scripted = self._script.next(prompt, model_id)
            fault = directives.fault
            if fault is None and scripted is not None:
                fault = scripted.fault
            if fault is None and (scripted is None or scripted.error is None):
                fault = self._dice.throw(operation.name.encode(), model_id.encode(), body)
            await self._wait(directives, scripted)
            if fault in {"reset", "hang"}:
                await send(Answer(wire=faults.Wire([]), fault=fault))
                return
            _raise_failure(fault, scripted, streaming=operation.streaming)
            reply = _reply(prompt, scripted)
            milliseconds = round((time.perf_counter() - started) * 1000)
            if operation.streaming:
                wire = faults.damage_events(fault, shape.events(reply, model, milliseconds=milliseconds))
            else:
                wire = faults.damage_document(fault, shape.write(reply, model, milliseconds=milliseconds))
            pace = self._pace if directives.pace is None else directives.pace
            await send(
                Answer(
                    wire=wire,
                    streaming=operation.streaming,
                    reply=reply,
                    milliseconds=milliseconds,
                    pace=pace,
                    fault=fault,
                )
            )
        finally:
            if reply is None:
                reservation.cancel()
            else:
                reservation.settle(
                    input_tokens=reply.input_tokens, output_tokens=reply.output_tokens, burndown=model.burndown
                )

    async def _wait(self, directives: Directives, scripted: replies.Scripted | None) -> None:
        latency = directives.latency
        if latency is None and scripted is not None:
            latency = scripted.latency
        if latency is None:
            latency = self._latency
        if latency:
            await asyncio.sleep(latency)


async def count_tokens(model_id: str, body: bytes) -> dict[str, Any]:
    """CountTokens: the estimate by which calls are charged too."""
    model, _ = models.resolve(model_id, calling=False)
    if not model.counts_tokens or model.embeds:
        raise invalid("The provided model doesn't support counting tokens.")
    source = _object(body).get("input")
    if not isinstance(source, dict) or len(source) != 1:
        raise invalid(
            "1 validation error detected: Value at 'input' failed to satisfy constraint: Member must not be null"
        )
    match source:
        case {"converse": dict(document)}:
            prompt = await _read_document(CONVERSE, document, model)
        case {"invokeModel": {"body": str(encoded)}}:
            try:
                inner = base64.b64decode(encoded, validate=True)
            except ValueError:  # binascii.Error is one, and so is a character that is not ASCII
                raise malformed("#/input/invokeModel/body: not base64") from None
            prompt = await _read(_shape(OPERATIONS["invoke"], model), inner, model)
        case _:
            raise malformed("#/input: expected one of [invokeModel, converse]")
    return {"inputTokens": prompt.input_tokens}


def _shape(operation: Operation, model: Model) -> Body:
    if operation.converse:
        return CONVERSE
    shape = INVOKE.get(model.family)
    if shape is None:
        raise invalid(f"The local emulator serves {model.id} through Converse only.")
    if operation.streaming and model.embeds:
        raise invalid("The model is unsupported for streaming")
    return shape


async def _read(shape: Body, body: bytes, model: Model) -> Prompt:
    document = await asyncio.to_thread(_object, body) if len(body) > _LARGE_BODY else _object(body)
    return await _read_document(shape, document, model, has_images=_MAY_HOLD_FILES.search(body) is not None)


async def _read_document(shape: Body, document: dict[str, Any], model: Model, *, has_images: bool = True) -> Prompt:
    """Check a request and look at its images: in a thread, since a few bytes may be many pixels."""

    def read() -> Prompt:
        try:
            return shape.read(document, model)
        except (TypeError, AttributeError, KeyError, ValueError) as error:  # a value of a type that nobody foresaw
            raise malformed(f"a value has the wrong type ({error})") from error

    return await asyncio.to_thread(read) if has_images else read()


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise malformed(f"could not parse the body as JSON: {error}") from None
    if not isinstance(document, dict):
        raise malformed("#: expected type: JSONObject")
    return document


def _raise_failure(fault: str | None, scripted: replies.Scripted | None, *, streaming: bool) -> None:
    error: AwsError | None = faults.error_of(fault, streaming=streaming) if fault else None
    if error is None and scripted is not None:
        error = scripted.error
    if error is not None:
        raise error


def _reply(prompt: Prompt, scripted: replies.Scripted | None) -> Reply:
    if prompt.dimensions:
        return answer.embed(prompt)
    if scripted is None:
        return answer.finish(prompt, answer.local_text(prompt))
    text = scripted.text if scripted.text is not None else answer.local_text(prompt)
    return answer.finish(prompt, text, stop_reason=scripted.stop_reason)
