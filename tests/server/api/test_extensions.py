"""Extensions: what is offered works, what is not answers with a reason and is not listed."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from server.api.classification import classify
from tests.child_server import ChildServer
from tests.server.api.test_wire import INFER, X, infer, with_blobs


def texts(array: Any) -> list[list[str]]:
    return [[item.decode() for item in row] for row in array.tolist()]


def test_the_best_come_first_equal_ones_in_order_and_nan_last() -> None:
    floats = np.array([[0.1, 3.5, np.nan, 3.5], [-1.0, -np.inf, np.inf, 0.0]], np.float32)
    assert texts(classify(floats, 4)) == [["3.5:1", "3.5:3", "0.1:0", "nan:2"], ["inf:2", "0.0:3", "-1.0:0", "-inf:1"]]
    unsigned = np.array([[0, 2**64 - 1, 7, 7]], np.uint64)
    assert texts(classify(unsigned, 3)) == [[f"{2**64 - 1}:1", "7:2", "7:3"]]


def test_labels_and_more_classes_than_there_are() -> None:
    assert texts(classify(np.array([[1, 2, 3]], np.int8), 99, ["a", "b"])) == [["3:2", "2:1:b", "1:0:a"]]
    assert texts(classify(np.array([[[1, 2], [9, 3]]], np.int32), 1)) == [["9:2"]]  # all axes but the rows count as one


def test_classification_in_json(server: ChildServer) -> None:
    rows = {**X, "shape": [2, 4], "data": [1, 2, 3, 4, 8, 7, 6, 5]}
    outputs = [{"name": "y", "parameters": {"classification": 2}}]
    (found,) = infer(server, {"inputs": [rows], "outputs": outputs}).json["outputs"]
    assert found == {"name": "y", "datatype": "BYTES", "shape": [2, 2], "data": ["9.0:3", "7.0:2", "17.0:0", "15.0:1"]}


def test_classification_in_binary(server: ChildServer) -> None:
    outputs = [{"name": "y", "parameters": {"classification": 9, "binary_data": True}}]
    reply = infer(server, {"inputs": [X], "outputs": outputs})
    length = int(reply.headers["inference-header-content-length"])
    (found,) = json.loads(reply.body[:length])["outputs"]
    wanted = b"".join(struct.pack("<I", 5) + text for text in (b"9.0:3", b"7.0:2", b"5.0:1", b"3.0:0"))
    assert (found["shape"], found["datatype"], reply.body[length:]) == ([1, 4], "BYTES", wanted)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_raw_request_is_the_one_input_s_data_and_its_rows_are_counted(server: ChildServer, rows: int) -> None:
    x = np.arange(rows * 4, dtype=np.float32)
    reply = infer(server, x.tobytes(), {"Inference-Header-Content-Length": "0"})
    length = int(reply.headers["inference-header-content-length"])
    assert json.loads(reply.body[:length])["outputs"][0]["shape"] == [rows, 4]
    assert np.frombuffer(reply.body[length:], np.float32).tolist() == (2 * x + 1).tolist()


def test_a_raw_request_for_a_ragged_input_is_one_row_of_any_length(server: ChildServer) -> None:
    reply = infer(server, np.arange(5).tobytes(), {"Inference-Header-Content-Length": "0"}, "/v2/models/tokens/infer")
    length = int(reply.headers["inference-header-content-length"])
    assert [output["shape"] for output in json.loads(reply.body[:length])["outputs"]] == [[1, 5], [1, 1]]
    assert np.frombuffer(reply.body[length:], np.int64).tolist() == [1, 2, 3, 4, 5, 10]


@pytest.mark.parametrize("parameters", [
    {"priority": 3}, {"priority": 0}, {"priority": "high"}, {"priority": "2"}, {"sequence_id": 0}, {"sequence_id": ""}, {"sequence_start": True, "sequence_end": False},
    {"mine": "text", "yours": 1.5, "ours": False}, {"timeout": 0},
])  # fmt: skip
def test_parameters_that_are_legal_and_change_nothing(server: ChildServer, parameters: dict[str, Any]) -> None:
    assert infer(server, {"inputs": [X], "parameters": parameters}).json["outputs"][0]["data"] == [3.0, 5.0, 7.0, 9.0]


NOT_OFFERED = [
    ("GET", "/v2/trace/setting"), ("POST", "/v2/trace/setting"), ("GET", "/v2/models/affine/trace/setting"),
    ("POST", "/v2/models/affine/trace/setting"), ("POST", "/v2/repository/mine/index"),
    ("POST", "/v2/repository/mine/models/affine/load"), ("POST", "/v2/repository/mine/models/affine/unload"),
    ("GET", "/v2/cudasharedmemory/status"), ("GET", "/v2/cudasharedmemory/region/r/status"),
    ("POST", "/v2/cudasharedmemory/region/r/register"), ("POST", "/v2/cudasharedmemory/region/r/unregister"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), NOT_OFFERED)
def test_what_is_not_offered_says_so(server: ChildServer, method: str, path: str) -> None:
    reply = server.call(method, path, {} if method == "POST" else None)
    assert (reply.status, bool(reply.error)) == (501, True)


def test_an_unknown_model_is_the_better_reason(server: ChildServer) -> None:
    for path in ("/v2/models/nosuch/generate", "/v2/models/nosuch/trace/setting", "/v2/models/affine/versions/9/generate"):
        assert server.call("POST", path, {}).status == 404


@pytest.mark.parametrize("kind", ["system", "cuda"])
def test_unregistering_all_shared_memory_is_harmless(server: ChildServer, kind: str) -> None:
    assert server.call("POST", f"/v2/{kind}sharedmemory/unregister").status == 200


def test_only_what_works_is_listed(server: ChildServer) -> None:
    listed = set(server.call("GET", "/v2").json["extensions"])
    assert listed == {
        "binary_tensor_data", "classification", "logging", "model_configuration", "model_repository", "schedule_policy", "statistics",
    }  # fmt: skip


def test_query_strings_change_nothing_anywhere(server: ChildServer) -> None:
    for path in ("/v2", "/v2/health/ready", "/v2/models/affine", "/v2/models/stats", "/v2/logging"):
        assert server.call("GET", path + "?a=b&c").status == 200


def test_the_configuration_has_what_perf_analyzer_reads(server: ChildServer) -> None:
    config = server.call("GET", "/v2/models/masked/config").json
    assert config["max_batch_size"] == 16
    assert config["dynamic_batching"] == {"priority_levels": 3, "default_priority_level": 2}
    assert config["parameters"]["classes"] == {"string_value": "high 5s, normal 5s, low 5s"}
    assert config["response_cache"] == {"enable": False}
    assert config["model_transaction_policy"] == {"decoupled": False}
    for item in config["input"]:
        assert (item["data_type"], item["dims"]) == ("TYPE_INT64", [-1])
        assert (item["is_shape_tensor"], item["optional"]) == (False, False)
    assert config["output"] == [{"name": "mean", "data_type": "TYPE_FP32", "dims": [1]}]


def test_numbers_that_json_has_no_word_for_come_back_as_null(server: ChildServer) -> None:
    blob = struct.pack("<4f", float("nan"), float("inf"), float("-inf"), 1)
    item = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    body, headers = with_blobs({"inputs": [item]}, blob)
    assert infer(server, body, headers, INFER).json["outputs"][0]["data"] == [None, None, None, 3.0]


def test_duplicate_keys_count_as_their_last(server: ChildServer) -> None:
    body = b'{"id":"first","id":"last","inputs":' + json.dumps([X]).encode() + b"}"
    assert infer(server, body).json["id"] == "last"
