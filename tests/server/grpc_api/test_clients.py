"""The official gRPC client, unmodified, against a real server process."""

from __future__ import annotations

import asyncio
import queue
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.child_server import ChildServer
from tests.server.api.test_clients import VALUES, text

triton = pytest.importorskip("tritonclient.grpc")


@pytest.fixture
def client(server: ChildServer) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as made:
        yield made


def tensor(name: str, array: Any, datatype: str) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_comes_back_as_it_went(client: Any, datatype: str) -> None:
    wanted = VALUES[datatype]
    found = client.infer(f"id_{datatype.lower()}", [tensor("x", wanted, datatype)], request_id="7")
    assert found.get_response().id == "7"
    assert found.as_numpy("y").shape == wanted.shape
    assert np.array_equal(text(found.as_numpy("y")), wanted)


def test_outputs_come_in_the_order_asked_for(client: Any) -> None:
    inputs = [tensor(name, np.full((1, 2), value, np.float32), "FP32") for name, value in (("b", 10), ("a", 1))]
    asked = [triton.InferRequestedOutput(name) for name in ("difference", "sum")]
    result = client.infer("two", inputs, outputs=asked)
    assert [output.name for output in result.get_response().outputs] == ["difference", "sum"]
    assert result.as_numpy("difference").tolist() == [[-9, -9]]
    assert [output.name for output in client.infer("two", inputs).get_response().outputs] == ["sum", "difference"]


def test_classification(client: Any) -> None:
    x = np.array([[1, 4, 2, 3]], np.float32)
    result = client.infer("affine", [tensor("x", x, "FP32")], outputs=[triton.InferRequestedOutput("y", class_count=2)])
    assert result.as_numpy("y").tolist() == [[b"9.0:1", b"7.0:3"]]


def test_parameters_of_both_integer_kinds_are_accepted(client: Any) -> None:
    x = tensor("x", np.ones((1, 4), np.float32), "FP32")
    assert client.infer("affine", [x], priority=1, timeout=5_000_000, parameters={"mine": "x"}).as_numpy("y")[0, 0] == 3
    with pytest.raises(triton.InferenceServerException, match="allowed") as caught:
        client.infer("affine", [x], timeout=1)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_health_metadata_and_configuration_are_those_of_http(client: Any, server: ChildServer) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("affine")
    assert client.is_model_ready("affine", "1")
    assert not client.is_model_ready("affine", "2")
    assert not client.is_model_ready("nosuch")
    assert client.get_server_metadata(as_json=True) == server.call("GET", "/v2").json
    for model in ("masked", "id_bytes"):
        found = client.get_model_metadata(model, as_json=True)
        for one in found["inputs"] + found["outputs"]:
            one["shape"] = list(map(int, one["shape"]))
        assert found == server.call("GET", f"/v2/models/{model}").json
        over_http = server.call("GET", f"/v2/models/{model}/config").json
        config = client.get_model_config(model, "1", as_json=True)["config"]
        for one, same in zip(config.pop("input") + config.pop("output"), over_http["input"] + over_http["output"], strict=True):
            assert same == {**same, **one, "dims": list(map(int, one["dims"]))}
        levels = config["dynamic_batching"]  # JSON made of protobuf writes large kinds of integers as text
        config["dynamic_batching"] = {name: int(level) for name, level in levels.items()}
        assert {name: over_http[name] for name in config} == config
    with pytest.raises(triton.InferenceServerException, match="nosuch") as caught:
        client.get_model_metadata("nosuch")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_statistics_agree_with_themselves(client: Any) -> None:
    for rows in (1, 2, 3):
        client.infer("id_fp64", [tensor("x", np.zeros((rows, 2)), "FP64")])
    (entry,) = client.get_inference_statistics("id_fp64").model_stats
    sums = entry.inference_stats
    assert entry.version == "1"
    assert entry.last_inference > 1_500_000_000_000
    assert entry.inference_count == sum(one.batch_size * one.compute_infer.count for one in entry.batch_stats)
    assert entry.execution_count == sum(one.compute_infer.count for one in entry.batch_stats)
    parts = (sums.queue, sums.compute_input, sums.compute_infer, sums.compute_output)
    assert sum(part.ns for part in parts) <= sums.success.ns + len(parts)
    assert sums.success.count >= 3
    assert "affine" in {one.name for one in client.get_inference_statistics().model_stats}
    with pytest.raises(triton.InferenceServerException, match="name"):
        client.get_inference_statistics(model_version="1")


def test_the_repository_index(client: Any) -> None:
    rows = {row.name: row for row in client.get_model_repository_index().models}
    assert (rows["affine"].version, rows["affine"].state, rows["affine"].reason) == ("1", "READY", "")


@pytest.mark.parametrize("call", ["get_cuda_shared_memory_status", "get_trace_settings", "get_log_settings"])
def test_what_is_not_offered_says_so(client: Any, call: str) -> None:
    with pytest.raises(triton.InferenceServerException, match="not offered") as caught:
        getattr(client, call)()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


@pytest.mark.parametrize("model", ["masked", "tokens"])
def test_64_concurrent_requests_of_random_lengths_get_what_they_would_get_alone(server: ChildServer, model: str) -> None:
    def work(seed: int) -> int:
        rng = random.Random(seed)
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as own:
            for _ in range(4):
                ids = np.array([[rng.randint(-9, 9) for _ in range(rng.randint(2, 32))]])
                inputs = [tensor("ids", ids, "INT64")]
                if model == "masked":
                    result = own.infer(model, [*inputs, tensor("mask", np.ones_like(ids), "INT64")])
                    assert abs(float(result.as_numpy("mean")[0, 0]) - ids.mean()) < 1e-5
                else:
                    assert own.infer(model, inputs).as_numpy("next").tolist() == (ids + 1).tolist()
        return 1

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(work, range(64))) == 64


def test_the_asynchronous_client(server: ChildServer) -> None:
    aio = pytest.importorskip("tritonclient.grpc.aio")

    async def scenario() -> None:
        async with aio.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            assert await client.is_server_ready()
            x = np.arange(8, dtype=np.float32).reshape(2, 4)
            given = aio.InferInput("x", [2, 4], "FP32")
            given.set_data_from_numpy(x)
            answers = await asyncio.gather(*(client.infer("affine", [given]) for _ in range(32)))
            assert all(np.array_equal(one.as_numpy("y"), 2 * x + 1) for one in answers)

    asyncio.run(scenario())


def test_a_stream_tells_errors_in_their_place_and_goes_on(client: Any) -> None:
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    x = tensor("x", np.ones((1, 4), np.float32), "FP32")
    for number in range(20):
        client.async_stream_infer("nosuch" if number % 3 == 1 else "affine", [x], request_id=str(number))
    for number in range(20):
        result, error = told.get(timeout=30)
        if number % 3 == 1:
            assert "nosuch" in str(error)
        else:
            assert result.get_response().id == str(number)
            assert result.as_numpy("y").tolist() == [[3.0] * 4]
    client.stop_stream()


def test_the_last_reply_is_marked_when_asked(client: Any) -> None:
    told: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: told.put((result, error)))
    x = tensor("x", np.ones((1, 4), np.float32), "FP32")
    for enable in (True, False):
        client.async_stream_infer("affine", [x], enable_empty_final_response=enable)
        result, error = told.get(timeout=30)
        assert error is None
        assert result.get_response().parameters["triton_final_response"].bool_param is enable
    client.stop_stream()
