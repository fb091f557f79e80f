"""Raw calls to a running server: requests of the protocol's own messages, for what the official client cannot say."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np

from server.grpc_api import messages as pb

SERVICE = f"/{pb.INFERENCE_SERVICE}/"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def channel(port: int) -> grpc.Channel:
    """To be used as a context manager. Connections are not shared between tests."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[*UNLIMITED, ("grpc.use_local_subchannel_pool", 1)])


def request(model: str, *inputs: tuple[str, str, Any], **fields: Any) -> Any:
    """Inputs are (name, datatype, array), sent raw."""
    made = pb.ModelInferRequest(model_name=model, **fields)
    for name, datatype, array in inputs:
        made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        made.raw_input_contents.append(array.tobytes())
    return made


def typed(model: str, name: str, datatype: str, shape: list[int], **contents: Any) -> Any:
    """One input with typed contents, given by field."""
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name=name, datatype=datatype, shape=shape, contents=contents)
    return made


def affine(rows: int = 1, **fields: Any) -> Any:
    """A good request for the model `affine`; the answer is 3 everywhere."""
    return request("affine", ("x", "FP32", np.ones((rows, 4), np.float32)), **fields)


def infer(open_channel: grpc.Channel, message: Any, timeout: float | None = 30.0) -> Any:
    """ModelInfer of a message, or of bytes."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    call = open_channel.unary_unary(f"{SERVICE}ModelInfer")
    return pb.ModelInferResponse.FromString(call(data, timeout=timeout))


def call(open_channel: grpc.Channel, method: str, message: Any, reply: Any, metadata: Any = None) -> Any:
    """Any other unary call."""
    data = open_channel.unary_unary(f"{SERVICE}{method}")(message.SerializeToString(), timeout=30.0, metadata=metadata)
    return reply.FromString(data)


def floats(reply: Any, place: int = 0) -> Any:
    """An FP32 output as an array."""
    return np.frombuffer(reply.raw_output_contents[place], np.float32).reshape(reply.outputs[place].shape)
