"""ModelStreamInfer: many requests over one call, run concurrently, answered in the order they came; those that generate are answered
piece by piece, as the pieces come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import grpc

from server.errors import FerryError, NotReady
from server.grpc_api.decode import wants_final_flag
from server.grpc_api.generate import Generation
from server.grpc_api.infer import Inference
from server.grpc_api.messages import ModelInferRequest, ModelInferResponse, ModelStreamInferResponse
from server.grpc_api.statuses import Context, abort, text_of, told

MOST_OUTSTANDING = 256
"""Requests of one stream without an answer; more are not read yet, so that the client's side of the connection fills up."""


class StreamInference:
    """All open streams. A request's error is told in its place and the stream goes on."""

    def __init__(self, inference: Inference, generation: Generation) -> None:
        """`generation` answers requests to models that generate."""
        self._inference = inference
        self._generation = generation
        self._readers: set[asyncio.Task[None]] = set()
        self._is_draining = False

    async def serve(self, _: object, context: Context) -> None:
        """One stream, until the client's side is closed and everything is answered. Ends everything with it if the client goes."""
        stream = _Stream(context)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(stream, tasks))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
            reader.add_done_callback(lambda _: stream.replies.put_nowait(None))
            if self._is_draining:
                reader.cancel()
            while (reply := await stream.replies.get()) is not None:
                await stream.write(await reply)
                stream.room.release()
        if reader.cancelled():
            await abort(context, NotReady("the server is stopping; what came before is answered, send the rest elsewhere"))

    def drain(self) -> None:
        """Read no more; each stream ends once it has answered what it read."""
        self._is_draining = True
        for reader in self._readers:
            reader.cancel()

    async def _read(self, stream: _Stream, tasks: asyncio.TaskGroup) -> None:
        context = stream.context
        client = self._inference.client(context)
        while True:
            await stream.room.acquire()
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            request, remaining_s = self._parsed(data), context.time_remaining()
            model = None if isinstance(request, FerryError) else self._generation.find(request)
            if isinstance(request, FerryError) or model is None:
                stream.replies.put_nowait(tasks.create_task(self._reply(request, remaining_s, client)))
            else:
                pieces = self._generation.answer(model, request, remaining_s, client)
                tasks.create_task(_tell_all(stream, request, pieces))

    def _parsed(self, data: bytes) -> ModelInferRequest | FerryError:
        try:
            return self._inference.read(data)
        except FerryError as error:
            return error

    async def _reply(self, request: ModelInferRequest | FerryError, remaining_s: float | None, client: int) -> bytes:
        if isinstance(request, FerryError):
            return _pack(ModelStreamInferResponse(error_message=text_of(request)))
        answer = await told(self._inference.answer(request, remaining_s, client))
        if isinstance(answer, FerryError):
            return _pack(_error(request, answer))
        return _pack(ModelStreamInferResponse(infer_response=answer))


class _Stream:
    """One open stream. `replies`: of requests that are answered in their order; `room`: for requests without an answer."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.replies: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        self.room = asyncio.Semaphore(MOST_OUTSTANDING)
        self._writing = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        """One at a time, which is all that the library takes."""
        async with self._writing:
            await self.context.write(data)


async def _tell_all(stream: _Stream, request: ModelInferRequest, pieces: AsyncGenerator[ModelInferResponse, None]) -> None:
    try:
        while (piece := await told(anext(pieces, None))) is not None:
            if isinstance(piece, FerryError):
                await stream.write(_pack(_error(request, piece)))
                return
            await stream.write(_pack(ModelStreamInferResponse(infer_response=piece)))
    finally:
        await pieces.aclose()
        stream.room.release()


def _error(request: ModelInferRequest, error: FerryError) -> ModelStreamInferResponse:
    """With the request's id, so that the client need not count."""
    reply = ModelStreamInferResponse(error_message=text_of(error))
    reply.infer_response.id = request.id
    if wants_final_flag(request):
        reply.infer_response.parameters["triton_final_response"].bool_param = True
    return reply


def _pack(reply: ModelStreamInferResponse) -> bytes:
    packed: bytes = reply.SerializeToString()
    return packed
