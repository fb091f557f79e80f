"""Bad messages: the right status, a text that names the thing, never INTERNAL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest

from server.grpc_api import messages as pb
from tests.child_server import ChildServer
from tests.server.grpc_api.calls import SERVICE, affine, channel, floats, infer, request, typed

X = ("x", "FP32", np.ones((1, 4), np.float32))


@dataclass(frozen=True)
class Bad:
    """A message and what must be in its refusal."""

    what: str
    message: Any
    says: str
    status: str = "INVALID_ARGUMENT"


def parameter(name: str, **value: Any) -> Any:
    made = affine()
    made.parameters[name].SetInParent()
    for kind, content in value.items():
        setattr(made.parameters[name], kind, content)
    return made


def changed(**fields: Any) -> Any:
    """The good request with another field in its input."""
    made = affine()
    for name, value in fields.items():
        if name == "shape":
            made.inputs[0].shape[:] = value
        else:
            setattr(made.inputs[0], name, value)
    return made


def both() -> Any:
    made = affine()
    made.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return made


def neither() -> Any:
    made = affine()
    del made.raw_input_contents[:]
    return made


def asks(*names: str, **parameters: Any) -> Any:
    made = affine()
    for name in names:
        output = made.outputs.add(name=name)
        for key, value in parameters.items():
            output.parameters[key].MergeFrom(pb.InferParameter(**value))
    return made


def in_shared_memory() -> Any:
    made = neither()
    made.inputs[0].parameters["shared_memory_region"].string_param = "r"
    return made


BYTES = request("id_bytes", ("x", "BYTES", np.zeros((1, 2), np.uint8)))

BAD = [
    Bad("not a message", b"\xff\xff\xff", "not a ModelInferRequest"),
    Bad("name not UTF-8", b"\x0a\x02\xff\xfe", "not a ModelInferRequest"),
    Bad("empty", b"", "unknown model ''", "NOT_FOUND"),
    Bad("unknown model", affine().__class__(model_name="nosuch"), "nosuch", "NOT_FOUND"),
    Bad("unknown version", affine(model_version="9"), "no version '9'", "NOT_FOUND"),
    Bad("version no number", affine(model_version="x"), "'x'", "NOT_FOUND"),
    Bad("no inputs", pb.ModelInferRequest(model_name="affine"), "'x' is missing"),
    Bad("unknown input", changed(name="z"), "no input 'z'"),
    Bad("input twice", request("affine", X, X), "twice"),
    Bad("wrong datatype", changed(datatype="INT64"), "FP32"),
    Bad("negative size", changed(shape=[-1, 4]), "'shape'"),
    Bad("huge size", changed(shape=[2**62, 4]), "'shape'"),
    Bad("wrong rank", changed(shape=[4]), "[-1, 4]"),
    Bad("no rows", request("affine", ("x", "FP32", np.ones((0, 4), np.float32))), "1 to 8"),
    Bad("too many rows", affine(9), "9 rows"),
    Bad("too few bytes", changed(shape=[2, 4]), "32 bytes"),
    Bad("raw and typed", both(), "both"),
    Bad("neither raw nor typed", neither(), "neither"),
    Bad("too many raw entries", affine(raw_input_contents=[b""]), "2 entries for 1 inputs"),
    Bad("raw without inputs", pb.ModelInferRequest(model_name="affine", raw_input_contents=[b"1"]), "1 entries for 0"),
    Bad("too few raw entries", pb.ModelInferRequest.FromString(request("two", ("a", *X[1:])).SerializeToString()), "'a'"),
    Bad("typed: too few", typed("affine", "x", "FP32", [1, 4], fp32_contents=[1]), "4 elements"),
    Bad("typed: another field", typed("affine", "x", "FP32", [1, 4], fp64_contents=[1] * 4), "fp32_contents"),
    Bad("typed: two fields", typed("affine", "x", "FP32", [1, 4], fp32_contents=[1] * 4, int_contents=[1]), "int_contents"),
    Bad("typed: out of range", typed("id_int8", "x", "INT8", [1, 2], int_contents=[1, 128]), "-128 to 127"),
    Bad("typed: FP16", typed("id_fp16", "x", "FP16", [1, 2], fp32_contents=[1, 2]), "raw_input_contents"),
    Bad("BYTES cut off", BYTES, "cut off"),
    Bad("BYTES not UTF-8", typed("id_bytes", "x", "BYTES", [1, 2], bytes_contents=[b"\xff", b""]), "UTF-8"),
    Bad("unknown output", asks("z"), "no output 'z'"),
    Bad("output twice", asks("y", "y"), "twice"),
    Bad("no classes", asks("y", classification={"int64_param": 0}), "classification"),
    Bad("shared memory out", asks("y", shared_memory_region={"string_param": "r"}), "shared memory", "UNIMPLEMENTED"),
    Bad("shared memory in", in_shared_memory(), "shared memory", "UNIMPLEMENTED"),
    Bad("timeout is text", parameter("timeout", string_param="5"), "timeout"),
    Bad("timeout is negative", parameter("timeout", int64_param=-1), "timeout"),
    Bad("parameter without a value", parameter("mine"), "mine"),
    Bad("reserved parameter", parameter("triton_x", bool_param=True), "triton_x"),
    Bad("final flag is text", parameter("triton_enable_empty_final_response", string_param="yes"), "bool_param"),
    Bad("sequence", parameter("sequence_id", int64_param=3), "sequence", "UNIMPLEMENTED"),
    Bad("very long name", changed(name="n" * 50_000), "has no input"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_bad_messages_are_refused_in_words(wire: grpc.Channel, bad: Bad) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        infer(wire, bad.message)
    assert caught.value.code().name == bad.status
    assert bad.says in caught.value.details()
    assert floats(infer(wire, affine())).tolist() == [[3.0] * 4]


def test_a_message_over_the_limit_is_told_the_limit(server: ChildServer, wire: grpc.Channel) -> None:
    for size, says in ((250_000, "max_body_bytes"), (900_000, "larger than max")):
        with pytest.raises(grpc.RpcError) as caught:
            infer(wire, affine(id="i" * size))
        assert caught.value.code().name == "RESOURCE_EXHAUSTED"
        assert says in caught.value.details()
    assert floats(infer(wire, affine())).tolist() == [[3.0] * 4]


def test_compressed_messages_are_refused_unpacked(server: ChildServer) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", compression=grpc.Compression.Gzip) as opened:
        with pytest.raises(grpc.RpcError) as caught:
            infer(opened, affine(id="i" * 10_000))
        assert caught.value.code().name == "UNIMPLEMENTED"


def test_a_method_that_does_not_exist(server: ChildServer) -> None:
    with channel(server.grpc_port) as opened, pytest.raises(grpc.RpcError) as caught:
        opened.unary_unary(f"{SERVICE}NoSuch")(b"", timeout=30)
    assert caught.value.code().name == "UNIMPLEMENTED"


TYPED = {
    "BOOL": ("bool_contents", [True, False]), "INT8": ("int_contents", [-128, 127]), "INT16": ("int_contents", [-32768, 1]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]), "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "UINT8": ("uint_contents", [0, 255]), "UINT16": ("uint_contents", [0, 65535]), "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]), "FP32": ("fp32_contents", [0.5, float("-inf")]),
    "FP64": ("fp64_contents", [0.1, -1e308]), "BYTES": ("bytes_contents", [b"", "fähre".encode()]),
}  # fmt: skip


@pytest.mark.parametrize("datatype", TYPED)
def test_typed_contents_of_every_datatype_are_answered_raw(wire: grpc.Channel, datatype: str) -> None:
    field, values = TYPED[datatype]
    reply = infer(wire, typed(f"id_{datatype.lower()}", "x", datatype, [1, 2], **{field: values}))
    from server.api.binary_tensors import from_bytes
    from server.backends.base import NUMPY_TYPES

    found = from_bytes("y", memoryview(reply.raw_output_contents[0]), [1, 2], NUMPY_TYPES[datatype])
    assert found.tolist() == [values]
    assert not reply.outputs[0].HasField("contents")
