"""System shared memory over HTTP: by hand, and with the official client unmodified."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.child_server import ChildServer, Reply
from tests.server.api.raw_socket import RawSocket, post


def ask(server: ChildServer, body: Any, path: str = "/v2/models/affine/infer") -> Reply:
    return server.call("POST", path, body)


class Memory:
    """A shared memory object of a client, and the requests about it."""

    def __init__(self, server: ChildServer, byte_size: int) -> None:
        self.key = f"/ferry-test-{uuid.uuid4()}"
        self.path = Path("/dev/shm") / self.key[1:]
        self.path.touch(0o600)
        os.truncate(self.path, byte_size)
        self.server = server

    def put(self, data: bytes, offset: int = 0) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def get(self, dtype: Any, n: int, offset: int = 0) -> list[Any]:
        found: list[Any] = np.frombuffer(self.path.read_bytes(), dtype, n, offset).tolist()
        return found

    def register(self, name: str, **body: Any) -> Reply:
        body = {"key": self.key, "offset": 0, "byte_size": self.path.stat().st_size} | body
        return self.server.call("POST", f"/v2/systemsharedmemory/region/{name}/register", body)


@pytest.fixture
def memory(sharing_server: ChildServer) -> Iterator[Memory]:
    if not Path("/dev/shm").is_dir():
        pytest.skip("no /dev/shm on this machine")
    made = Memory(sharing_server, 4096)
    yield made
    made.path.unlink(missing_ok=True)
    sharing_server.call("POST", "/v2/systemsharedmemory/unregister")


def place(region: str, byte_size: Any, offset: int | None = None, **more: Any) -> dict[str, Any]:
    found = {"shared_memory_region": region, "shared_memory_byte_size": byte_size, **more}
    return found if offset is None else found | {"shared_memory_offset": offset}


def x_in(parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": parameters, **more}


ONE_TO_FOUR = np.array([1, 2, 3, 4], np.float32)


def test_input_and_output_in_shared_memory(memory: Memory) -> None:
    memory.put(ONE_TO_FOUR.tobytes(), 100)
    assert memory.register("r").status == 200
    wanted = {"name": "y", "parameters": place("r", 16, 200)}
    reply = ask(memory.server, {"id": "7", "inputs": [x_in(place("r", 16, 100))], "outputs": [wanted]})
    assert reply.json == {
        "model_name": "affine", "model_version": "1", "id": "7", "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4]}],
    }  # fmt: skip
    assert memory.get(np.float32, 4, 200) == [3, 5, 7, 9]


def test_one_side_in_shared_memory_and_the_other_in_the_body(memory: Memory) -> None:
    memory.register("r")
    memory.put(ONE_TO_FOUR.tobytes())
    assert ask(memory.server, {"inputs": [x_in(place("r", 16))]}).json["outputs"][0]["data"] == [3, 5, 7, 9]
    outputs = [{"name": "y", "parameters": place("r", 4096)}]
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0, 0, 0, 5]}
    assert ask(memory.server, {"inputs": [x], "outputs": outputs}).status == 200
    assert memory.get(np.float32, 4) == [1, 1, 1, 11]


def test_two_inputs_and_outputs_one_of_each_in_shared_memory(memory: Memory) -> None:
    memory.register("r")
    memory.put(np.array([10, 20], np.float32).tobytes(), 8)
    a = {"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": place("r", 8, 8)}
    b = {"name": "b", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    outputs = [{"name": "difference", "parameters": place("r", 8)}, {"name": "sum"}]
    reply = ask(memory.server, {"inputs": [b, a], "outputs": outputs}, path="/v2/models/two/infer")
    assert [output.get("data") for output in reply.json["outputs"]] == [None, [11, 22]]
    assert memory.get(np.float32, 2) == [9, 18]


def test_bytes_travel_as_their_serialisation(memory: Memory) -> None:
    data = b"\x03\0\0\0abc\0\0\0\0"
    memory.put(data)
    memory.register("r")
    x = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": place("r", len(data))}
    outputs = [{"name": "y", "parameters": place("r", 100, 50)}]
    assert ask(memory.server, {"inputs": [x], "outputs": outputs}, path="/v2/models/id_bytes/infer").status == 200
    assert memory.path.read_bytes()[50 : 50 + len(data)] == data
    for wrong in (b"\x04\0\0\0abc\0\0\0\0", b"\x03\0\0\0abc\1\0\0\0", b"\0\0\0\0\0\0\0\0\0\0\0"):
        memory.put(wrong)
        assert ask(memory.server, {"inputs": [x]}, path="/v2/models/id_bytes/infer").status == 400


REGISTERED = 4096
BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "no such region": ({"inputs": [x_in(place("q", 16))]}, 404, "no shared memory region 'q'"),
    "no size": ({"inputs": [x_in({"shared_memory_region": "r"})]}, 400, "shared_memory_byte_size"),
    "a size that is not the tensor's": ({"inputs": [x_in(place("r", 12))]}, 400, "takes 16 bytes, 12 were sent"),
    "beyond the region": ({"inputs": [x_in(place("r", 16, 4090))]}, 400, "end at byte 4106, shared memory region 'r' has 4096"),
    "data as well": ({"inputs": [x_in(place("r", 16), data=[1, 2, 3, 4])]}, 400, "both 'data' and 'shared_memory_region'"),
    "binary data as well": ({"inputs": [x_in(place("r", 16, binary_data_size=0))]}, 400, "both 'binary_data_size' and 'shared_memory"),
    "not a name": ({"inputs": [x_in({"shared_memory_region": 5})]}, 400, "must be the name of a region"),
    "output too large": (
        {"inputs": [x_in(place("r", 16))], "outputs": [{"name": "y", "parameters": place("r", 15)}]}, 400,
        "output 'y' has 16 bytes, shared_memory_byte_size is 15",
    ),
    "output without a size": (
        {"inputs": [x_in(place("r", 16))], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, 400,
        "output 'y': shared_memory_byte_size",
    ),
    "classification": (
        {"inputs": [x_in(place("r", 16))], "outputs": [{"name": "y", "parameters": place("r", 16, classification=1)}]}, 400,
        "'classification' does not work with shared memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_is_refused_and_nothing_is_written(memory: Memory, what: str) -> None:
    memory.register("r")
    body, status, says = BAD[what]
    reply = ask(memory.server, body)
    assert (reply.status, says in reply.error) == (status, True), reply
    assert not any(memory.path.read_bytes())


def test_outputs_are_written_all_or_none(memory: Memory) -> None:
    memory.register("r")
    inputs = [{"name": name, "shape": [1, 2], "datatype": "FP32", "data": [3, 4]} for name in "ab"]
    for sizes, offset, says in (((8, 7), 8, "output 'difference' has 8 bytes"), ((8, 8), 7, "two outputs overlap")):
        outputs = [
            {"name": name, "parameters": place("r", size, at)}
            for name, size, at in zip(("sum", "difference"), sizes, (0, offset), strict=True)
        ]
        reply = ask(memory.server, {"inputs": inputs, "outputs": outputs}, path="/v2/models/two/infer")
        assert (reply.status, says in reply.error) == (400, True)
    assert not any(memory.path.read_bytes())


def test_an_input_is_no_larger_than_a_body(memory: Memory) -> None:
    os.truncate(memory.path, 1 << 20)
    memory.register("r")
    reply = ask(memory.server, {"inputs": [x_in(place("r", 200_001), shape=[50_000, 4])]})
    assert (reply.status, "200000 are allowed" in reply.error) == (413, True)


def test_memory_that_is_taken_away_harms_only_who_asks_for_it(memory: Memory) -> None:
    memory.register("r")
    asks = {"inputs": [x_in(place("r", 16))], "outputs": [{"name": "y", "parameters": place("r", 16, 16)}]}
    assert ask(memory.server, asks).status == 200
    os.truncate(memory.path, 16)
    assert "has shrunk to 16 bytes" in ask(memory.server, asks).error
    os.truncate(memory.path, 0)
    assert "has shrunk to 0 bytes" in ask(memory.server, asks).error
    assert memory.path.stat().st_size == 0
    os.truncate(memory.path, 4096)
    assert ask(memory.server, asks).status == 200
    memory.path.unlink()
    assert ask(memory.server, asks).status == 200  # who still has it mapped goes on
    assert ask(memory.server, {"inputs": [{**x_in({}), "data": [1, 2, 3, 4]}]}).status == 200


def test_the_same_words_mean_the_region_that_is_registered_now(memory: Memory) -> None:
    x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    asks = {"inputs": [x], "outputs": [{"name": "y", "parameters": place("r", 16)}]}
    for offset in (0, 1000):
        assert ask(memory.server, asks).status == 404
        memory.register("r", offset=offset, byte_size=100)
        for _ in range(3):
            memory.put(bytes(4096))
            assert ask(memory.server, asks).status == 200
            assert memory.get(np.float32, 4, offset) == [3, 5, 7, 9]
            assert memory.path.read_bytes().count(0) > 4070
        memory.server.call("POST", "/v2/systemsharedmemory/region/r/unregister")


def test_statuses_of_the_routes(memory: Memory) -> None:
    server, base = memory.server, "/v2/systemsharedmemory"
    assert server.call("GET", f"{base}/status").json == []
    assert memory.register("r").json == {}
    assert "registered already" in memory.register("r").error
    row = {"name": "r", "key": memory.key, "offset": 0, "byte_size": 4096}
    assert server.call("GET", f"{base}/status").json == [row]
    assert server.call("GET", f"{base}/region/r/status").json == [row]
    assert server.call("GET", f"{base}/region/q/status").status == 404
    for body in ({}, {"key": memory.key}, {"key": "/../proc/version", "byte_size": 1}, {"key": memory.key, "byte_size": 4097}):
        assert server.call("POST", f"{base}/region/s/register", body).status == 400
    assert [server.call("POST", f"{base}/region/{name}/unregister").status for name in ("r", "r", "q")] == [200, 200, 200]
    assert server.call("GET", f"{base}/status").json == []


def test_it_is_listed_and_documented_where_it_is_turned_on(sharing_server: ChildServer, server: ChildServer) -> None:
    for one, is_on in ((sharing_server, True), (server, False)):
        assert ("system_shared_memory" in one.call("GET", "/v2").json["extensions"]) is is_on
        assert ("/v2/systemsharedmemory/status" in one.call("GET", "/openapi.json").json["paths"]) is is_on


def test_where_it_is_turned_off_the_setting_is_named(server: ChildServer) -> None:
    base = "/v2/systemsharedmemory"
    for method, path in (
        ("GET", "status"),
        ("GET", "region/r/status"),
        ("POST", "region/r/register"),
        ("POST", "region/r/unregister"),
    ):
        reply = server.call(method, f"{base}/{path}", {} if method == "POST" else None)
        assert (reply.status, "--shared-memory on" in reply.error) == (403, True)
    assert server.call("POST", f"{base}/unregister").status == 200
    for body in ({"inputs": [x_in(place("r", 16))]}, {"inputs": [x_in({}, data=[1, 2, 3, 4])], "outputs": [
        {"name": "y", "parameters": place("r", 16)}]}):  # fmt: skip
        reply = ask(server, body)
        assert (reply.status, "--shared-memory on" in reply.error) == (403, True)


def test_who_may_not_change_the_server_may_not_register(
    tiny_repository: Path, start_server: Callable[..., ChildServer]
) -> None:  # fmt: skip
    server = start_server(tiny_repository, "--shared-memory", "on", "--admin-token", "a secret of ours")
    base, bearer = "/v2/systemsharedmemory", {"Authorization": "Bearer a secret of ours"}
    for method, path in (("GET", "status"), ("GET", "region/r/status"), ("POST", "region/r/register"),
                         ("POST", "region/r/unregister"), ("POST", "unregister")):  # fmt: skip
        assert server.call(method, f"{base}/{path}").status == 401
    assert server.call("GET", f"{base}/status", headers=bearer).json == []
    assert server.call("POST", "/v2/cudasharedmemory/unregister").status == 200


@pytest.fixture
def client(sharing_server: ChildServer) -> Iterator[Any]:
    triton = pytest.importorskip("tritonclient.http")
    with triton.InferenceServerClient(f"127.0.0.1:{sharing_server.port}") as made:
        yield made
        made.unregister_system_shared_memory()


@pytest.mark.parametrize("datatype", ["FP32", "INT64", "BOOL", "FP16", "UINT8", "BYTES"])
def test_the_official_client(client: Any, datatype: str) -> None:
    triton = pytest.importorskip("tritonclient.http")
    shm = pytest.importorskip("tritonclient.utils.shared_memory")
    utils = pytest.importorskip("tritonclient.utils")
    values = (
        np.array([[b"fahre", b""]], np.object_)
        if datatype == "BYTES"
        else np.array([[1, 0]], utils.triton_to_np_dtype(datatype))
    )
    sent = utils.serialize_byte_tensor(values) if datatype == "BYTES" else values
    n_bytes = len(sent.item()) if datatype == "BYTES" else values.nbytes
    handle = shm.create_shared_memory_region("both", f"/ferry-test-{uuid.uuid4()}", 64 + n_bytes)
    try:
        shm.set_shared_memory_region(handle, [sent], 64)
        client.unregister_system_shared_memory()
        client.unregister_cuda_shared_memory()
        client.register_system_shared_memory("both", handle._shm_key, 64 + n_bytes)
        assert client.get_system_shared_memory_status("both")[0]["key"] == handle._shm_key
        x = triton.InferInput("x", [1, 2], datatype)
        x.set_shared_memory("both", n_bytes, 64)
        y = triton.InferRequestedOutput("y")
        y.set_shared_memory("both", n_bytes)
        found = client.infer(f"id_{datatype.lower()}", [x], outputs=[y]).get_output("y")
        assert found == {"name": "y", "datatype": datatype, "shape": [1, 2]}
        got = shm.get_contents_as_numpy(handle, values.dtype, [1, 2])
        assert got.tolist() == values.tolist()
        client.unregister_system_shared_memory("both")
        assert client.get_system_shared_memory_status() == []
    finally:
        got = None
        shm.destroy_shared_memory_region(handle)


def test_a_region_that_is_unregistered_while_a_request_runs_is_not_written(memory: Memory) -> None:
    """Many requests on one connection, with the end of the region somewhere among them: each has one clear outcome."""
    memory.register("r")
    asks = {"inputs": [x_in(place("r", 16))], "outputs": [{"name": "y", "parameters": place("r", 16, 16)}]}
    with RawSocket(memory.server.port) as first, RawSocket(memory.server.port) as second:
        for _ in range(100):
            first.send(post(asks))
        second.send(post(b"", "/v2/systemsharedmemory/unregister"))
        assert second.reply() is not None
        memory.put(bytes(4096))
        outcomes = []
        for _ in range(100):
            reply = first.reply()
            assert reply is not None
            outcomes.append((reply.status, "" if reply.status == 200 else reply.error))
    assert {status for status, _ in outcomes} <= {200, 400, 404}
    assert all(status == 200 or "unregistered" in error or "is registered" in error for status, error in outcomes)


def test_replies_stay_json(memory: Memory) -> None:
    memory.register("r")
    outputs = [{"name": "y", "parameters": place("r", 16, binary_data=True)}]
    reply = ask(memory.server, {"inputs": [x_in(place("r", 16))], "outputs": outputs})
    assert reply.headers["content-type"] == "application/json"
    assert json.loads(reply.body)["outputs"][0]["name"] == "y"
