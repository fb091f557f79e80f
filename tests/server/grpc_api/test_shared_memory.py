"""System shared memory over gRPC: the official client unmodified, and what it cannot say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest

from server.grpc_api import messages as pb
from tests.child_server import ChildServer
from tests.server.grpc_api import calls

triton = pytest.importorskip("tritonclient.grpc")
shm = pytest.importorskip("tritonclient.utils.shared_memory")

SIZE = 256


@dataclass(frozen=True)
class Sharing:
    """A client and its memory, which is registered as "r"."""

    client: Any
    handle: Any

    def put(self, *arrays: Any, offset: int = 0) -> None:
        shm.set_shared_memory_region(self.handle, list(arrays), offset)

    def get(self, dtype: Any, shape: list[int], offset: int = 0) -> Any:
        return shm.get_contents_as_numpy(self.handle, np.dtype(dtype), shape, offset).tolist()


@pytest.fixture
def sharing(sharing_server: ChildServer) -> Iterator[Sharing]:
    with triton.InferenceServerClient(f"127.0.0.1:{sharing_server.grpc_port}") as client:
        handle = shm.create_shared_memory_region("r", f"/ferry-test-{uuid.uuid4()}", SIZE)
        try:
            client.unregister_system_shared_memory()
            client.unregister_cuda_shared_memory()
            client.register_system_shared_memory("r", handle._shm_key, SIZE)
            yield Sharing(client, handle)
        finally:
            client.unregister_system_shared_memory()
            shm.destroy_shared_memory_region(handle)


def given(name: str, byte_size: int, offset: int = 0, shape: tuple[int, ...] = (1, 4)) -> Any:
    made = triton.InferInput(name, list(shape), "FP32")
    made.set_shared_memory("r", byte_size, offset)
    return made


def wanted(name: str, byte_size: int, offset: int = 0) -> Any:
    made = triton.InferRequestedOutput(name)
    made.set_shared_memory("r", byte_size, offset)
    return made


def test_the_official_client(sharing: Sharing) -> None:
    status = sharing.client.get_system_shared_memory_status("r").regions["r"]
    assert (status.name, status.key, status.offset, status.byte_size) == ("r", sharing.handle._shm_key, 0, SIZE)
    sharing.put(np.array([[1, 2, 3, 4]], np.float32), offset=32)
    reply = sharing.client.infer("affine", [given("x", 16, 32)], outputs=[wanted("y", 16, 64)]).get_response()
    assert (list(reply.outputs[0].shape), list(reply.raw_output_contents)) == ([1, 4], [b""])
    assert sharing.get(np.float32, [1, 4], 64) == [[3, 5, 7, 9]]
    assert sharing.client.infer("affine", [given("x", 16, 32)]).as_numpy("y").tolist() == [[3, 5, 7, 9]]


@pytest.mark.parametrize("shared", ["a", "b"])
def test_raw_entries_are_those_of_the_inputs_that_are_sent(sharing: Sharing, shared: str) -> None:
    sharing.put(np.array([[10, 20]], np.float32))
    sent = triton.InferInput("b" if shared == "a" else "a", [1, 2], "FP32")
    sent.set_data_from_numpy(np.array([[1, 2]], np.float32))
    inputs = sorted([sent, given(shared, 8, shape=(1, 2))], key=lambda one: str(one.name()))
    outputs = [wanted("difference", 8, 100), triton.InferRequestedOutput("sum")]
    assert sharing.client.infer("two", inputs, outputs=outputs).as_numpy("sum").tolist() == [[11, 22]]
    sign = 1 if shared == "a" else -1
    assert sharing.get(np.float32, [1, 2], 100) == [[9 * sign, 18 * sign]]


def test_streams_too(sharing: Sharing, sharing_server: ChildServer) -> None:
    message = request({"r": "r", "n": 16}).SerializeToString()
    with calls.channel(sharing_server.grpc_port) as wire:
        stream = wire.stream_stream(f"{calls.SERVICE}ModelStreamInfer")
        (reply,) = [pb.ModelStreamInferResponse.FromString(one) for one in stream(iter([message]), timeout=30)]
    assert np.frombuffer(reply.infer_response.raw_output_contents[0], np.float32).tolist() == [1, 1, 1, 1]


def request(place: dict[str, Any], output: dict[str, Any] | None = None, **fields: Any) -> Any:
    """For `affine`; "r" the region, "n" byte_size, "at" offset."""
    made = pb.ModelInferRequest(model_name="affine", **fields)
    tensor = made.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    _place(tensor.parameters, place)
    if output is not None:
        _place(made.outputs.add(name="y").parameters, output)
    return made


def _place(parameters: Any, place: dict[str, Any]) -> None:
    if "r" in place:
        parameters["shared_memory_region"].string_param = place["r"]
    if "n" in place:
        parameters["shared_memory_byte_size"].int64_param = place["n"]
    if "at" in place:
        parameters["shared_memory_offset"].uint64_param = place["at"]
    if "classes" in place:
        parameters["classification"].int64_param = place["classes"]


def typed_too() -> Any:
    made = request({"r": "r", "n": 16})
    made.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return made


R16 = {"r": "r", "n": 16}
BAD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "no such region": (lambda: request({"r": "q", "n": 16}), "NOT_FOUND", "no shared memory region 'q'"),
    "no size": (lambda: request({"r": "r"}), "INVALID_ARGUMENT", "shared_memory_byte_size must be"),
    "another size": (lambda: request({"r": "r", "n": 12}), "INVALID_ARGUMENT", "takes 16 bytes, 12 were sent"),
    "beyond": (lambda: request(R16 | {"at": 2**63}), "INVALID_ARGUMENT", "end at byte"),
    "negative": (lambda: request({"r": "r", "n": -1}), "INVALID_ARGUMENT", "not negative"),
    "an entry too many": (
        lambda: request(R16, raw_input_contents=[bytes(16)]), "INVALID_ARGUMENT", "1 entries for 0 inputs"
    ),
    "typed contents as well": (typed_too, "INVALID_ARGUMENT", "both 'shared_memory_region' and typed contents"),
    "output too large": (lambda: request(R16, R16 | {"n": 15}), "INVALID_ARGUMENT", "16 bytes, shared_memory_byte_size is 15"),
    "classification": (lambda: request(R16, R16 | {"classes": 1}), "INVALID_ARGUMENT", "does not work with shared memory"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_is_refused(sharing: Sharing, sharing_server: ChildServer, what: str) -> None:
    make, code, says = BAD[what]
    with calls.channel(sharing_server.grpc_port) as wire, pytest.raises(grpc.RpcError) as caught:
        calls.infer(wire, make())
    assert (caught.value.code().name, says in caught.value.details()) == (code, True), caught.value.details()


def test_registering_is_checked(sharing: Sharing) -> None:
    for name, key, size, code in (
        ("r", sharing.handle._shm_key, SIZE, "ALREADY_EXISTS"), ("s", "/../proc/version", 1, "INVALID_ARGUMENT"),
        ("s", sharing.handle._shm_key, SIZE + 1, "INVALID_ARGUMENT"), ("", sharing.handle._shm_key, 1, "INVALID_ARGUMENT"),
    ):  # fmt: skip
        with pytest.raises(triton.InferenceServerException) as caught:
            sharing.client.register_system_shared_memory(name, key, size)
        assert caught.value.status() == f"StatusCode.{code}"
    sharing.client.unregister_system_shared_memory("q")  # harmless
    sharing.client.unregister_system_shared_memory("r")
    with pytest.raises(triton.InferenceServerException, match="no shared memory region 'r'"):
        sharing.client.get_system_shared_memory_status("r")
    with pytest.raises(triton.InferenceServerException, match="cuda"):
        sharing.client.unregister_cuda_shared_memory("r")


def test_where_it_is_turned_off_the_setting_is_named(server: ChildServer, wire: grpc.Channel) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        client.unregister_system_shared_memory()
        client.unregister_cuda_shared_memory()
        asks = [
            client.get_system_shared_memory_status, lambda: client.register_system_shared_memory("r", "/x", 1),
            lambda: client.unregister_system_shared_memory("r"), lambda: client.infer("affine", [given("x", 16)]),
        ]  # fmt: skip
        for one in asks:
            with pytest.raises(triton.InferenceServerException, match="--shared-memory on") as caught:
                one()
            assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
        assert "system_shared_memory" not in client.get_server_metadata().extensions


def test_it_is_listed_where_it_is_turned_on(sharing: Sharing) -> None:
    assert "system_shared_memory" in sharing.client.get_server_metadata().extensions


def test_who_may_not_change_the_server_may_not_register(
    tiny_repository: Any, start_server: Callable[..., ChildServer]
) -> None:  # fmt: skip
    server = start_server(tiny_repository, "--shared-memory", "on", "--admin-token", "a secret of ours")
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        for one in (client.get_system_shared_memory_status, client.unregister_system_shared_memory):
            with pytest.raises(triton.InferenceServerException) as caught:
                one()
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
        client.get_system_shared_memory_status(headers={"authorization": "Bearer a secret of ours"})
