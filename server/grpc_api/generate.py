"""Requests of ModelStreamInfer to models that generate: one message in, one for each piece of the answer out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import numpy as np

from server.api.binary_tensors import to_bytes
from server.api.generation.answer import News
from server.api.generation.running import Running
from server.api.generation.triton_call import (
    INPUTS,
    OUTPUT,
    TEXT_OUTPUT,
    TritonCall,
    flattened,
    make_job,
    read_triton,
)
from server.api.infer_call import ExpectedInput
from server.api.shared_tensors import REGION
from server.api.terms import HeadTerms
from server.errors import BadRequest, FerryError
from server.generation.serving import GeneratingEngine, GeneratingModel, GeneratingModels
from server.grpc_api.decode import plain_parameters, read_array, wants_final_flag
from server.grpc_api.messages import ModelInferRequest, ModelInferResponse
from server.runtime.clock import Clock, monotonic_clock

FINAL = "triton_final_response"

_EXPECTED = {spec.name: ExpectedInput(spec, None) for spec in INPUTS}


class Generation:
    """Over one engine."""

    def __init__(self, engine: GeneratingEngine, models: GeneratingModels, clock: Clock = monotonic_clock) -> None:
        self._engine = engine
        self._models = models
        self._clock = clock

    def find(self, request: ModelInferRequest) -> GeneratingModel | None:
        """The model that it is for, if that generates; None for all others."""
        if not self._models.generates(request.model_name):
            return None
        try:
            return self._models.find_generating(request.model_name, request.model_version or None)
        except FerryError:
            return None  # whoever answers the others says why

    async def answer(
        self, model: GeneratingModel, request: ModelInferRequest, remaining_s: float | None, client: int = 0
    ) -> AsyncGenerator[ModelInferResponse, None]:
        """The pieces of its answer. `remaining_s`: until the call's deadline, None without one. `client`: who asks, where
        that matters. When the generator is closed, so is
        the request. Raises FerryError."""
        arrived_at = self._clock()
        call = _read(request)
        streams = call.streams is True  # not said: one response with everything, as Triton's vLLM backend answers
        before = call.before(streams)
        terms = HeadTerms(remaining_s, "", client)
        job = await make_job(model, call, terms, arrived_at)
        newest = self._models.find_generating(request.model_name, request.model_version or None)
        if newest.key != model.key:  # replaced while its tokenizer or a schema took time
            model, job = newest, await make_job(newest, call, terms, arrived_at)
        running = Running(self._engine, model, job, streams)
        told = _Told(model, request, before)
        try:
            while True:
                await running.more()
                if streams or running.is_over:
                    news = running.answers[0].take()
                    for piece in told.pieces(news):
                        yield piece
                    if news.finish:
                        return
        finally:
            running.stop()


class _Told:
    """One request's messages."""

    def __init__(self, model: GeneratingModel, request: ModelInferRequest, before: str) -> None:
        """`before`: what comes before the completion."""
        self._model = model
        self._id = request.id
        self._wants_empty_end = wants_final_flag(request)
        self._before = before

    def pieces(self, news: News) -> list[ModelInferResponse]:
        """Each says whether it is the last one; who asks for it gets an empty message as the last one."""
        text, self._before = self._before + news.text, ""
        is_end = news.finish is not None
        if self._wants_empty_end:
            return [*([self._piece(text, False)] if text else []), *([self._empty(True)] if is_end else [])]
        return [self._piece(text, is_end)] if text or is_end else []

    def _empty(self, is_final: bool) -> ModelInferResponse:
        key = self._model.key
        made = ModelInferResponse(model_name=key.name, model_version=str(key.version), id=self._id)
        made.parameters[FINAL].bool_param = is_final
        return made

    def _piece(self, text: str, is_final: bool) -> ModelInferResponse:
        made = self._empty(is_final)
        made.outputs.add(name=OUTPUT.name, datatype=OUTPUT.datatype.value, shape=[1])
        made.raw_output_contents.append(to_bytes(np.array([text.encode()], np.object_), "BYTES"))
        return made


def _read(request: ModelInferRequest) -> TritonCall:
    """Raises BadRequest."""
    values = plain_parameters(request.parameters)
    given = _inputs(request)
    body = {**given, **({"id": request.id} if request.id else {})}
    for wanted in request.outputs:
        if wanted.name != TEXT_OUTPUT:
            raise BadRequest(f"model {request.model_name} has no output {wanted.name!r}; it has {TEXT_OUTPUT!r}")
    return read_triton(flattened({**body, "parameters": values}))


def _inputs(request: ModelInferRequest) -> dict[str, Any]:
    blobs = request.raw_input_contents
    if blobs and len(blobs) != len(request.inputs):
        raise BadRequest(
            f"raw_input_contents has {len(blobs)} entries for {len(request.inputs)} inputs; send one for each, or none"
        )
    found: dict[str, Any] = {}
    for place, tensor in enumerate(request.inputs):
        expected = _EXPECTED.get(tensor.name)
        if expected is None:
            raise BadRequest(f"model {request.model_name} has no input {tensor.name!r}; it has {', '.join(_EXPECTED)}")
        if tensor.name in found:
            raise BadRequest(f"input {tensor.name!r} is given twice")
        found[tensor.name] = _scalar(expected, tensor, blobs[place] if blobs else None)
    return found


def _scalar(expected: ExpectedInput, tensor: ModelInferRequest.InferInputTensor, blob: bytes | None) -> str | bool:
    """The one value of an input."""
    name, shape = expected.name, list(tensor.shape)
    if tensor.datatype != expected.datatype:
        raise BadRequest(f"input {name!r} is {expected.datatype}, the request says {tensor.datatype!r}")
    if shape not in ([1], [1, 1]):
        raise BadRequest(f"input {name!r} must have the shape [1] or [1, 1], found {shape}; send several requests")
    if REGION in tensor.parameters:
        raise BadRequest(f"input {name!r} cannot lie in shared memory; send it in the message")
    value = read_array(expected, tensor, shape, blob).reshape(-1)[0]
    if expected.datatype == "BOOL":
        return bool(value)
    try:
        return str(value.decode())
    except UnicodeDecodeError:
        raise BadRequest(f"input {name!r} holds bytes that are not UTF-8; it is text") from None
