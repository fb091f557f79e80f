"""The official client, unmodified, against a real server process."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.child_server import ChildServer

triton = pytest.importorskip("tritonclient.http")

RNG = np.random.default_rng(0)
VALUES: dict[str, Any] = {
    "BOOL": np.array([[True, False], [False, True]]),
    "UINT8": np.array([[0, 255], [1, 2]], np.uint8),
    "UINT16": np.array([[0, 65535], [1, 2]], np.uint16),
    "UINT32": np.array([[0, 2**32 - 1], [1, 2]], np.uint32),
    "UINT64": np.array([[0, 2**64 - 1], [2**53 + 1, 2]], np.uint64),
    "INT8": np.array([[-128, 127], [1, 2]], np.int8),
    "INT16": np.array([[-32768, 32767], [1, 2]], np.int16),
    "INT32": np.array([[-(2**31), 2**31 - 1], [1, 2]], np.int32),
    "INT64": np.array([[-(2**63), 2**63 - 1], [2**53 + 1, 2]], np.int64),
    "FP16": np.array([[0.5, -65504], [1, 2]], np.float16),
    "FP32": np.array([[0.1, -3.4e38], [1e-38, 2]], np.float32),
    "FP64": np.array([[0.1, -1.7e308], [2.2e-308, 2]], np.float64),
    "BYTES": np.array([["", "fähre"], ["a" * 300, "\x00x"]], dtype=object),
}


@pytest.fixture
def client(server: ChildServer) -> Any:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=4) as made:
        yield made


def tensor(name: str, array: Any, datatype: str, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def text(array: Any) -> Any:
    """BYTES come back as bytes or as text; compare as text."""
    decode = np.vectorize(lambda item: item.decode() if isinstance(item, bytes) else item, otypes=[object])
    return decode(array) if array.dtype == np.object_ else array


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary out", "json out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary in", "json in"])
@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_comes_back_as_it_went(client: Any, datatype: str, binary_in: bool, binary_out: bool) -> None:
    if datatype == "FP16" and not (binary_in and binary_out):
        pytest.skip("FP16 does not travel in JSON")
    outputs = [triton.InferRequestedOutput("y", binary_data=binary_out)]
    wanted = VALUES[datatype]
    result = client.infer(f"id_{datatype.lower()}", [tensor("x", wanted, datatype, binary_in)], outputs=outputs)
    found = result.as_numpy("y")
    assert found.shape == wanted.shape
    assert np.array_equal(text(found), wanted)


def test_fp16_in_json_is_refused_with_the_way_out(client: Any) -> None:
    outputs = [triton.InferRequestedOutput("y", binary_data=False)]
    with pytest.raises(triton.InferenceServerException, match="binary"):
        client.infer("id_fp16", [tensor("x", VALUES["FP16"], "FP16")], outputs=outputs)


def test_the_default_call_of_the_client_works(client: Any) -> None:
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    result = client.infer("affine", [tensor("x", x, "FP32")], request_id="abc")
    assert np.allclose(result.as_numpy("y"), 2 * x + 1)
    assert result.get_response()["id"] == "abc"
    assert result.get_response()["model_version"] == "1"


def test_mixed_json_and_binary_inputs_and_a_subset_of_outputs_in_the_order_asked_for(client: Any) -> None:
    a, b = np.array([[1, 2]], np.float32), np.array([[10, 20]], np.float32)
    inputs = [tensor("b", b, "FP32", binary=True), tensor("a", a, "FP32", binary=False)]
    outputs = [triton.InferRequestedOutput("difference", False), triton.InferRequestedOutput("sum", True)]
    result = client.infer("two", inputs, outputs=outputs)
    assert [entry["name"] for entry in result.get_response()["outputs"]] == ["difference", "sum"]
    assert result.as_numpy("difference").tolist() == [[-9, -18]]
    assert result.as_numpy("sum").tolist() == [[11, 22]]
    only = client.infer("two", inputs, outputs=outputs[1:])
    assert [entry["name"] for entry in only.get_response()["outputs"]] == ["sum"]


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_unpacked(client: Any, algorithm: str) -> None:
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    result = client.infer("affine", [tensor("x", x, "FP32")], request_compression_algorithm=algorithm)
    assert np.allclose(result.as_numpy("y"), 2 * x + 1)


def test_a_client_that_accepts_compressed_replies_gets_one_it_can_read(client: Any) -> None:
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    result = client.infer("affine", [tensor("x", x, "FP32")], response_compression_algorithm="gzip")
    assert np.allclose(result.as_numpy("y"), 2 * x + 1)


def test_an_output_along_the_ragged_axis_has_the_request_s_own_length(client: Any) -> None:
    ids = np.array([[5, 6, 7]])
    result = client.infer("tokens", [tensor("ids", ids, "INT64")])
    assert result.as_numpy("next").tolist() == [[6, 7, 8]]
    assert result.as_numpy("sum").tolist() == [[18]]


def test_health_metadata_and_config(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("affine", "1")
    assert not client.is_model_ready("affine", "2")
    assert not client.is_model_ready("nosuch")
    assert client.get_server_metadata()["name"] == "ferry"
    metadata = client.get_model_metadata("masked")
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == "onnxruntime_onnx"
    assert metadata["inputs"][0] == {"name": "ids", "datatype": "INT64", "shape": [-1, -1]}
    config = client.get_model_config("masked", "1")
    assert config["max_batch_size"] == 16
    assert config["input"][0].items() >= {"name": "ids", "data_type": "TYPE_INT64", "dims": [-1]}.items()
    assert client.get_model_config("id_bytes")["input"][0]["data_type"] == "TYPE_STRING"
    with pytest.raises(triton.InferenceServerException, match="nosuch"):
        client.get_model_metadata("nosuch")


def test_statistics_of_one_model_and_of_all(client: Any) -> None:
    for rows in (1, 2, 3):
        client.infer("id_fp64", [tensor("x", np.zeros((rows, 2)), "FP64")])
    (entry,) = client.get_inference_statistics("id_fp64")["model_stats"]
    numbers = entry["inference_stats"]
    assert entry["version"] == "1"
    assert entry["last_inference"] > 1_500_000_000_000
    assert entry["inference_count"] == sum(b["batch_size"] * b["compute_infer"]["count"] for b in entry["batch_stats"])
    assert entry["execution_count"] == sum(b["compute_infer"]["count"] for b in entry["batch_stats"])
    keys = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
    assert all(set(numbers[key]) == {"count", "ns"} for key in keys)
    assert sum(numbers[k]["ns"] for k in keys[2:6]) <= numbers["success"]["ns"] + 4
    assert numbers["success"]["count"] >= 3
    every = client.get_inference_statistics()["model_stats"]
    assert "affine" in {row["name"] for row in every}


def test_the_repository_index_lists_one_row_per_version(client: Any) -> None:
    rows = {row["name"]: row for row in client.get_model_repository_index()}
    assert rows["affine"] == {"name": "affine", "version": "1", "state": "READY", "reason": ""}


def test_the_asynchronous_client(server: ChildServer) -> None:
    aio = pytest.importorskip("tritonclient.http.aio")

    async def scenario() -> None:
        async with aio.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert await client.is_server_live()
            for binary in (True, False):
                x = RNG.standard_normal((2, 4)).astype(np.float32)
                given = aio.InferInput("x", [2, 4], "FP32")
                given.set_data_from_numpy(x, binary_data=binary)
                result = await client.infer("affine", [given], outputs=[aio.InferRequestedOutput("y", binary_data=binary)])
                assert np.allclose(result.as_numpy("y"), 2 * x + 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("model", ["masked", "plain", "tokens"])
def test_64_concurrent_clients_of_random_lengths_get_what_they_would_get_alone(server: ChildServer, model: str) -> None:
    per_client = 6

    def work(seed: int) -> int:
        rng = random.Random(seed)
        answered = 0
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            for _ in range(per_client):
                length = rng.randint(2, 32)
                ids = np.array([[rng.randint(-9, 9) for _ in range(length)]])
                if model == "masked":
                    inputs = [tensor("ids", ids, "INT64"), tensor("mask", np.ones_like(ids), "INT64")]
                elif model == "plain":
                    inputs = [tensor("x", ids.astype(np.float32), "FP32")]
                else:
                    inputs = [tensor("ids", ids, "INT64")]
                result = client.infer(model, inputs)
                if model == "tokens":
                    assert result.as_numpy("next").tolist() == (ids + 1).tolist()
                    assert result.as_numpy("sum").tolist() == [[ids.sum()]]
                else:
                    assert abs(float(result.as_numpy("mean")[0, 0]) - ids.mean()) < 1e-5
                answered += 1
        return answered

    before = server.metrics().get(("ferry_request_seconds_count", (("model", model), ("version", "1"))), 0.0)
    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(work, range(64))) == 64 * per_client
    after = server.metrics()[("ferry_request_seconds_count", (("model", model), ("version", "1")))]
    assert after - before == 64 * per_client
