"""Inference: one message in, one message out; and the unary call ModelInfer around that."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from server.api.clients import Clients
from server.api.infer_call import TextCall, submit_text_call
from server.api.shared_memory import Regions
from server.api.terms import Terms
from server.backends.base import Array
from server.errors import FerryError, TooLarge
from server.grpc_api.crowd import Crowd
from server.grpc_api.decode import RequestDecoder, wants_final_flag
from server.grpc_api.encode import ReplyEncoder
from server.grpc_api.messages import ModelInferRequest, ModelInferResponse
from server.grpc_api.statuses import Context, abort, parse, told
from server.runtime.clock import Clock, monotonic_clock
from server.runtime.serving import M, ServingEngine, ServingModel, ServingModels


class Inference:
    """Answers ModelInferRequests, whichever call they came by."""

    def __init__(
        self, engine: ServingEngine[M], registry: ServingModels[M], max_body_bytes: int, regions: Regions | None = None,
        clock: Clock = monotonic_clock, clients: Clients | None = None,
    ) -> None:  # fmt: skip
        """`regions` None: shared memory is turned off. `clients`: where somebody rations."""
        self._clients = clients
        self._regions = regions
        self._engine: ServingEngine[Any] = engine
        self._clock = clock
        self._crowd = Crowd()
        self._registry: ServingModels[Any] = registry
        self._max_body_bytes = max_body_bytes
        self._codecs: WeakKeyDictionary[ServingModel, tuple[RequestDecoder, ReplyEncoder]] = WeakKeyDictionary()

    async def unary(self, data: bytes, context: Context) -> bytes | None:
        """ModelInfer."""
        reply = await told(self._unary(data, context.time_remaining(), self.client(context)))
        if isinstance(reply, FerryError):
            await abort(context, reply)
            return None
        return reply

    def client(self, context: Context) -> int:
        """Who calls, where somebody rations, else 0."""
        if self._clients is None:
            return 0
        return self._clients.by_metadata(context.invocation_metadata() or (), context.peer())

    async def _unary(self, data: bytes, remaining_s: float | None, client: int) -> bytes:
        reply = await self.answer(self.read(data), remaining_s, client)
        packed: bytes = reply.SerializeToString()
        return packed

    def read(self, data: bytes) -> ModelInferRequest:
        """Raises TooLarge or BadRequest."""
        if len(data) > self._max_body_bytes:
            raise TooLarge(
                f"the message has {len(data)} bytes, {self._max_body_bytes} are allowed; send fewer rows or raise the server's "
                "max_body_bytes"
            )
        request: ModelInferRequest = parse(ModelInferRequest.FromString, data, "ModelInferRequest")
        return request

    async def answer(self, request: ModelInferRequest, remaining_s: float | None, client: int = 0) -> ModelInferResponse:
        """`remaining_s`: until the call's deadline, None without one. When the awaiting task is cancelled, so is the request.

        Raises FerryError.
        """
        arrived_at = self._clock()
        self._crowd.enter()
        try:
            await self._crowd.together()
            return await self._answer(request, remaining_s, arrived_at, client)
        finally:
            self._crowd.leave()

    async def _answer(
        self, request: ModelInferRequest, remaining_s: float | None, arrived_at: float, client: int
    ) -> ModelInferResponse:
        model = self._registry.find(request.model_name, request.model_version or None)
        decoder, encoder = self._codec(model)
        call = decoder.decode(request)
        waiter: asyncio.Future[list[Array]] = asyncio.get_running_loop().create_future()
        terms = Terms(_shorter(call.terms.timeout_s, remaining_s), call.terms.priority)
        answer = _Outcome(waiter)
        if isinstance(call, TextCall):
            cancel = submit_text_call(self._engine, model, call, answer, terms, arrived_at, client).cancel
        else:
            submitted = self._engine.submit(
                model, call.inputs, call.rows, call.length, answer, terms.timeout_s, arrived_at, terms.priority, client
            )
            cancel = partial(self._engine.cancel, submitted)
            if call.id:
                self._engine.named(submitted.id, call.id)
        try:
            outputs = await waiter
        except asyncio.CancelledError:
            cancel()
            raise
        reply = encoder.encode(call.id, outputs, call.outputs)
        if request.parameters and wants_final_flag(request):
            reply.parameters["triton_final_response"].bool_param = True
        return reply

    def _codec(self, model: ServingModel) -> tuple[RequestDecoder, ReplyEncoder]:
        codec = self._codecs.get(model)
        if codec is None:
            codec = self._codecs[model] = RequestDecoder(model, self._regions), ReplyEncoder(model)
        return codec


class _Outcome:
    """Hands a request's outcome to whoever waits. That the waiter was cancelled is no outcome: the engine must hear of it."""

    __slots__ = ("_told", "_waiter")

    def __init__(self, waiter: asyncio.Future[list[Array]]) -> None:
        self._waiter = waiter
        self._told = False

    def done(self) -> bool:
        return self._told

    def set_result(self, outputs: list[Array], /) -> None:
        self._told = True
        if not self._waiter.done():
            self._waiter.set_result(outputs)

    def set_exception(self, error: FerryError, /) -> None:
        self._told = True
        if not self._waiter.done():
            self._waiter.set_exception(error)


def _shorter(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return min(one, other)
