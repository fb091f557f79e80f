"""Random ModelInferRequests as bytes: from nonsense to nearly right."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from server.backends.base import NUMPY_TYPES
from server.grpc_api import messages as pb
from server.grpc_api.typed_contents import FIELDS
from tests.fuzz.shared_memory import REGIONS, place, registration

MODELS = ("affine", "two", "masked", "tokens", "id_bytes", "id_int8", "id_bool", "id_fp16", "nosuch", "", "../affine")
NAMES = ("x", "a", "b", "ids", "mask", "y", "")
KEYS = ("timeout", "priority", "sequence_id", "triton_enable_empty_final_response", "triton_x", "classification",
        "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset", "binary_data_output", "mine")  # fmt: skip
NUMBERS = (0, 1, 2, 4, 127, 255, -1, -128, 2**31 - 1, -(2**31))


def affine() -> bytes:
    """A good request."""
    request = pb.ModelInferRequest(model_name="affine", raw_input_contents=[np.ones(4, np.float32).tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def random_message(rng: random.Random) -> bytes:
    """One message; the same state of `rng` gives the same one."""
    kind: Callable[[random.Random], bytes] = rng.choice(
        (_noise, _damaged, _structured, _structured, _structured, _near, _shared, _shared)
    )
    return kind(rng)


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(200))


def _damaged(rng: random.Random) -> bytes:
    """A good message with some bytes changed, cut off or put in."""
    data = bytearray(affine())
    for _ in range(rng.randrange(1, 5)):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0:
                data[place : place + 1] = rng.randbytes(1)
            case 1:
                del data[place : place + rng.randrange(4)]
            case _:
                data[place:place] = rng.randbytes(rng.randrange(5))
    return bytes(data)


def _near(rng: random.Random) -> bytes:
    """The good message with one thing more."""
    request = pb.ModelInferRequest.FromString(affine())
    match rng.randrange(5):
        case 0:
            _parameters(rng, request.parameters)
        case 1:
            request.id = "é" * rng.randrange(3000)
        case 2:
            _parameters(rng, request.outputs.add(name=rng.choice(NAMES)).parameters)
        case 3:
            request.raw_input_contents[0] = rng.randbytes(rng.randrange(40))
        case _:
            request.inputs[0].shape[:] = [rng.choice((-1, 0, 1, 4, 2**40)) for _ in range(rng.randrange(4))]
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def _structured(rng: random.Random) -> bytes:
    request = pb.ModelInferRequest(model_name=rng.choice(MODELS), model_version=rng.choice(("", "", "", "1", "2", "x")))
    for _ in range(rng.randrange(4)):
        tensor = request.inputs.add(name=rng.choice(NAMES), datatype=rng.choice([*NUMPY_TYPES, "", "FP8"]))
        tensor.shape.extend(rng.choice((1, 1, 2, 4, 0, -1, 2**62)) for _ in range(rng.choice((2, 2, 2, 0, 1, 3))))
        if rng.random() < 0.5:
            _contents(rng, tensor)
        _parameters(rng, tensor.parameters)
    if rng.random() < 0.5:
        for _ in request.inputs if rng.random() < 0.9 else range(3):
            request.raw_input_contents.append(rng.randbytes(rng.choice((0, 1, 2, 8, 16, 32))))
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        _parameters(rng, request.outputs.add(name=rng.choice(NAMES)).parameters)
    _parameters(rng, request.parameters)
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def _shared(rng: random.Random) -> bytes:
    """Tensors in shared memory, most of them rightly described."""
    request = pb.ModelInferRequest(model_name="two")
    for name in ("a", "b"):
        tensor = request.inputs.add(name=name, datatype="FP32", shape=[1, 2])
        if rng.random() < 0.7:
            _place(rng, tensor.parameters)
        elif rng.random() < 0.9:
            request.raw_input_contents.append(bytes(8))
    for name in ("sum", "difference") if rng.random() < 0.6 else ():
        _place(rng, request.outputs.add(name=name).parameters)
    data: bytes = request.SerializeToString(deterministic=True)
    return data


def shared_memory_call(rng: random.Random) -> tuple[str, bytes]:
    """Method and message of the shared memory extension; most register."""
    name = rng.choice((*REGIONS, *REGIONS, *REGIONS, "", "x" * 300))
    if rng.random() < 0.7:
        wanted = registration(rng)
        numbers = {key: value for key in ("offset", "byte_size") if type(value := wanted[key]) is int and 0 <= value < 2**64}
        key = wanted["key"].encode(errors="ignore").decode()
        return "SystemSharedMemoryRegister", _bytes(pb.SystemSharedMemoryRegisterRequest(name=name, key=key, **numbers))
    method = rng.choice(("SystemSharedMemoryStatus", "SystemSharedMemoryUnregister", "CudaSharedMemoryUnregister"))
    return method, _bytes(getattr(pb, f"{method}Request")(name=name))


def _place(rng: random.Random, parameters: Any) -> None:
    for name, value in place(rng, 8).items():
        if isinstance(value, str):
            parameters[name].string_param = value
        elif type(value) is int and value < 2**63 and rng.random() < 0.8:
            parameters[name].int64_param = value
        elif type(value) is int and 0 <= value < 2**64:
            parameters[name].uint64_param = value
        else:
            parameters[name].double_param = 1.5


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _contents(rng: random.Random, tensor: Any) -> None:
    datatype = tensor.datatype if rng.random() < 0.8 else rng.choice(list(FIELDS))
    field = FIELDS.get(datatype, "fp64_contents")
    values = getattr(tensor.contents, field)
    for _ in range(rng.choice((0, 1, 2, 2, 4, 4))):
        if field == "bytes_contents":
            values.append(rng.randbytes(rng.randrange(4)))
        elif field == "bool_contents":
            values.append(rng.random() < 0.5)
        else:
            values.append(abs(rng.choice(NUMBERS)) % 2**31 if "uint" in field else rng.choice(NUMBERS))


def _parameters(rng: random.Random, parameters: Any) -> None:
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        value = parameters[rng.choice(KEYS)]
        match rng.randrange(6):
            case 0:
                value.bool_param = rng.random() < 0.5
            case 1:
                value.int64_param = rng.choice((0, 1, 10_000_000, -1, -(2**63)))
            case 2:
                value.string_param = rng.choice(("", "x", "r"))
            case 3:
                value.double_param = rng.choice((0.0, -1.5, float("nan")))
            case 4:
                value.uint64_param = rng.choice((0, 1, 2**64 - 1))
            case _:
                pass  # a parameter without a value
