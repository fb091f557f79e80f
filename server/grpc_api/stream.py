"""ModelStreamInfer: many requests over one call, run concurrently, answered in the order they came."""

from __future__ import annotations

import asyncio

import grpc

from server.errors import FerryError, NotReady
from server.grpc_api.decode import wants_final_flag
from server.grpc_api.infer import Inference
from server.grpc_api.messages import ModelInferRequest, ModelStreamInferResponse
from server.grpc_api.statuses import Context, abort, text_of, told

MOST_OUTSTANDING = 256
"""Requests of one stream without an answer; more are not read yet, so that the client's side of the connection fills up."""


class StreamInference:
    """All open streams. A request's error is told in its place and the stream goes on."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._readers: set[asyncio.Task[None]] = set()
        self._is_draining = False

    async def serve(self, _: object, context: Context) -> None:
        """One stream, until the client's side is closed and everything is answered. Ends everything with it if the client goes."""
        replies: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        room = asyncio.Semaphore(MOST_OUTSTANDING)
        async with asyncio.TaskGroup() as tasks:
            reader = tasks.create_task(self._read(context, tasks, replies, room))
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
            reader.add_done_callback(lambda _: replies.put_nowait(None))
            if self._is_draining:
                reader.cancel()
            while (reply := await replies.get()) is not None:
                await context.write(await reply)
                room.release()
        if reader.cancelled():
            await abort(context, NotReady("the server is stopping; what came before is answered, send the rest elsewhere"))

    def drain(self) -> None:
        """Read no more; each stream ends once it has answered what it read."""
        self._is_draining = True
        for reader in self._readers:
            reader.cancel()

    async def _read(
        self,
        context: Context,
        tasks: asyncio.TaskGroup,
        replies: asyncio.Queue[asyncio.Task[bytes] | None],
        room: asyncio.Semaphore,
    ) -> None:
        client = self._inference.client(context)
        while True:
            await room.acquire()
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            replies.put_nowait(tasks.create_task(self._reply(data, context.time_remaining(), client)))

    async def _reply(self, data: bytes, remaining_s: float | None, client: int) -> bytes:
        try:
            request = self._inference.read(data)
        except FerryError as error:
            return _pack(ModelStreamInferResponse(error_message=text_of(error)))
        answer = await told(self._inference.answer(request, remaining_s, client))
        if isinstance(answer, FerryError):
            return _pack(_error(request, answer))
        return _pack(ModelStreamInferResponse(infer_response=answer))


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
