"""A V2 server over gRPC with the library's own server, scripted: what the load tester's calls are tested against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np

from server.grpc_api import messages as pb

Script = Callable[[int, Any], Any]
"""(number of the call, its message) → the reply, or a (status code, details) to abort with."""


def doubled(number: int, request: Any) -> Any:
    """y = 2 x."""
    y = 2 * np.frombuffer(request.raw_input_contents[0], np.float32)
    reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1")
    reply.outputs.add(name="y", datatype="FP32", shape=request.inputs[0].shape)
    reply.raw_output_contents.append(y.tobytes())
    return reply


@contextmanager
def grpc_server(script: Script = doubled, n_elements: int = 4) -> Iterator[int]:
    """The port of a server of the model `m`, FP32 [-1, n_elements] in and out."""
    numbers = itertools.count()

    def infer(data: bytes, context: grpc.ServicerContext) -> bytes:
        found = script(next(numbers), pb.ModelInferRequest.FromString(data))
        if isinstance(found, tuple):
            context.abort(*found)
        packed: bytes = found.SerializeToString()
        return packed

    def describe(data: bytes, context: grpc.ServicerContext) -> bytes:
        name = pb.ModelMetadataRequest.FromString(data).name
        if name != "m":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model '{name}' – 100%")
        reply = pb.ModelMetadataResponse(name=name, versions=["1"])
        reply.inputs.add(name="x", datatype="FP32", shape=[-1, n_elements])
        packed: bytes = reply.SerializeToString()
        return packed

    methods = {"ModelInfer": infer, "ModelMetadata": describe}
    handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads, options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(pb.INFERENCE_SERVICE, handlers),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()
