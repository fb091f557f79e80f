"""The wire at the byte level: what the clients in the field do, and what they need to read in the replies."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from tests.child_server import ChildServer, call

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
Y = [3.0, 5.0, 7.0, 9.0]
INFER = "/v2/models/affine/infer"


def infer(server: ChildServer, body: Any, headers: dict[str, str] | None = None, path: str = INFER) -> Any:
    reply = server.call("POST", path, body, headers)
    assert reply.status == 200, reply
    return reply


def with_blobs(header: Any, *blobs: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(header).encode()
    return b"".join((head, *blobs)), {"Inference-Header-Content-Length": str(len(head))}


def test_no_content_type_and_no_length_header_is_all_json(server: ChildServer) -> None:
    reply = infer(server, {"inputs": [X]})
    assert reply.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in reply.headers
    assert reply.json == {
        "model_name": "affine", "model_version": "1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 4], "data": Y}],
    }  # fmt: skip


def test_a_content_type_of_any_kind_changes_nothing(server: ChildServer) -> None:
    for kind in ("application/octet-stream", "text/plain", "application/json; charset=utf-8"):
        assert infer(server, {"inputs": [X]}, {"Content-Type": kind}).json["outputs"][0]["data"] == Y


def test_a_length_header_equal_to_the_body_and_an_empty_id_are_legal(server: ChildServer) -> None:
    body, headers = with_blobs({"id": "", "inputs": [X]})
    assert "id" not in infer(server, body, headers).json


def test_header_names_in_any_case(server: ChildServer) -> None:
    body, headers = with_blobs({"inputs": [X]})
    shouting = {name.upper(): value for name, value in headers.items()}
    assert infer(server, body, shouting).json["outputs"][0]["data"] == Y


def test_unknown_keys_are_ignored_and_the_id_is_echoed(server: ChildServer) -> None:
    body = {"id": "ä-1", "model_name": "affine", "inputs": [{**X, "color": 1}], "outputs": [], "parameters": {"mine": 1}}
    assert infer(server, body).json["id"] == "ä-1"


def test_query_strings_are_ignored(server: ChildServer) -> None:
    assert infer(server, {"inputs": [X]}, path=INFER + "?trace=1").json["outputs"][0]["data"] == Y


def test_a_version_in_the_path_serves_that_version(server: ChildServer) -> None:
    assert infer(server, {"inputs": [X]}, path="/v2/models/affine/versions/1/infer").json["model_version"] == "1"


def test_nested_data_is_row_major_and_flat_data_comes_back(server: ChildServer) -> None:
    nested = {**X, "shape": [2, 4], "data": [[1, 2, 3, 4], [5, 6, 7, 8]]}
    assert infer(server, {"inputs": [nested]}).json["outputs"][0]["data"] == [*Y, 11.0, 13.0, 15.0, 17.0]


def test_binary_replies_count_their_json_and_have_no_empty_parameters_on_json_outputs(server: ChildServer) -> None:
    pair = [{"name": n, "shape": [1, 2], "datatype": "FP32", "data": [4, 2]} for n in ("a", "b")]
    outputs = [{"name": "sum", "parameters": {"binary_data": True}}, {"name": "difference"}]
    reply = infer(server, {"inputs": pair, "outputs": outputs}, path="/v2/models/two/infer")
    assert reply.headers["content-type"] == "application/octet-stream"
    length = int(reply.headers["inference-header-content-length"])
    header = json.loads(reply.body[:length])
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert "data" not in header["outputs"][0]
    assert "parameters" not in header["outputs"][1]
    assert struct.unpack("<2f", reply.body[length:]) == (8.0, 4.0)


def test_an_output_s_own_binary_flag_overrides_the_request_s(server: ChildServer) -> None:
    outputs = [{"name": "y", "parameters": {"binary_data": False}}]
    reply = infer(server, {"inputs": [X], "outputs": outputs, "parameters": {"binary_data_output": True}})
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["outputs"][0]["data"] == Y


def test_blobs_follow_the_json_in_the_order_of_the_inputs_whatever_their_alignment(server: ChildServer) -> None:
    for padding in range(8):
        header = {"id": "i" * padding, "inputs": [
            {"name": "b", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
            {"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        ]}  # fmt: skip
        body, headers = with_blobs(header, struct.pack("<2f", 1, 2), struct.pack("<2f", 10, 20))
        reply = infer(server, body, headers, "/v2/models/two/infer")
        assert [output["data"] for output in reply.json["outputs"]] == [[11, 22], [9, 18]]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "GZIP", "identity"])
def test_content_encodings(server: ChildServer, encoding: str) -> None:
    blob = struct.pack("<4f", 1, 2, 3, 4)
    item = {**X, "parameters": {"binary_data_size": 16}}
    del item["data"]
    body, headers = with_blobs({"inputs": [item]}, blob)
    packed = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(encoding.lower(), body)
    assert infer(server, packed, {**headers, "Content-Encoding": encoding}).json["outputs"][0]["data"] == Y


def test_who_accepts_gzip_still_gets_tensors_as_they_are(server: ChildServer) -> None:
    reply = infer(server, {"inputs": [X]}, {"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in reply.headers


def test_chunked_bodies(server: ChildServer) -> None:
    body = json.dumps({"inputs": [X]}).encode()
    pieces = (body[n : n + 7] for n in range(0, len(body), 7))
    connection = server.connect()
    connection.request("POST", INFER, pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    response = connection.getresponse()
    assert json.loads(response.read())["outputs"][0]["data"] == Y
    connection.close()


def test_pipelined_requests_are_answered_in_order(server: ChildServer) -> None:
    connection = server.connect()
    connection.connect()
    wanted = []
    for number in range(5):
        body = json.dumps({"id": str(number), "inputs": [X]}).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        wanted.append(head.encode() + body)
    connection.sock.sendall(b"".join(wanted))
    received = b""
    while received.count(b'"model_name"') < 5:
        chunk = connection.sock.recv(65536)
        assert chunk, received
        received += chunk
    places = [received.index(f'"id":"{number}"'.encode()) for number in range(5)]
    assert places == sorted(places)
    connection.close()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True, "live": True}),
        ("/health", {"ready": True, "live": True}),
        ("/v2/models/affine/ready", {"name": "affine", "ready": True}),
    ],
)
def test_health_has_a_json_body(server: ChildServer, path: str, wanted: Any) -> None:
    reply = server.call("GET", path)
    assert (reply.status, reply.json, reply.headers["content-type"]) == (200, wanted, "application/json")


def test_any_bool_byte_but_0_is_true(server: ChildServer) -> None:
    """perf_analyzer fills such tensors with random bytes."""
    head = {"inputs": [{"name": "x", "datatype": "BOOL", "shape": [2, 2], "parameters": {"binary_data_size": 4}}]}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text)), "Content-Type": "application/octet-stream"}
    reply = server.call("POST", "/v2/models/id_bool/infer", text + b"\0\1\2\xff", headers)
    assert reply.status == 200, reply
    assert reply.json["outputs"][0]["data"] == [False, True, True, True]


def test_who_speaks_kserves_first_protocol_is_told(server: ChildServer) -> None:
    for method, path in (
        ("POST", "/v1/models/affine:predict"),
        ("GET", "/v1/models/affine:predict"),
        ("POST", "/v1/models/x:explain"),
    ):
        reply = server.call(method, path, {"instances": [[1.0]]} if method == "POST" else None)
        assert reply.status == 404
        assert "RESTConfig(protocol='v2')" in reply.json["error"]["message"]
    assert "RESTConfig(protocol='v2')" in server.call("GET", "/v1/models/affine").json["error"]["message"]


def test_server_metadata_lists_what_works(server: ChildServer) -> None:
    metadata = server.call("GET", "/v2").json
    assert metadata["name"] == "ferry"
    assert isinstance(metadata["version"], str)
    assert {"binary_tensor_data", "statistics", "model_repository", "model_configuration"} <= set(metadata["extensions"])


def test_versions_are_strings_in_the_statistics(server: ChildServer) -> None:
    assert server.call("GET", "/v2/models/affine/stats").json["model_stats"][0]["version"] == "1"
    assert server.call("GET", "/v2/models/affine/versions/1/stats").json["model_stats"][0]["name"] == "affine"


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"ready": true}'])
def test_the_index_is_a_bare_array_with_or_without_a_body(server: ChildServer, body: bytes | None) -> None:
    reply = server.call("POST", "/v2/repository/index", body)
    assert reply.status == 200
    assert all(row["state"] == "READY" for row in reply.json)


def test_numbers_survive_json_exactly(server: ChildServer) -> None:
    for kind, numbers in (
        ("INT64", [-(2**63), 2**63 - 1]), ("UINT64", [0, 2**64 - 1]), ("UINT64", [1, 2**53 + 1]), ("FP64", [0.1, 1e308]),
    ):  # fmt: skip
        item = {"name": "x", "shape": [1, 2], "datatype": kind, "data": numbers}
        reply = infer(server, {"inputs": [item]}, path=f"/v2/models/id_{kind.lower()}/infer")
        assert reply.json["outputs"][0]["data"] == numbers


def test_random_binary_floats_come_back_bit_for_bit(server: ChildServer) -> None:
    raw = np.random.default_rng(1).integers(0, 2**32, (4, 2), dtype=np.uint32).tobytes()  # NaNs and infinities too
    item = {"name": "x", "shape": [4, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    body, headers = with_blobs({"inputs": [item], "parameters": {"binary_data_output": True}}, raw)
    reply = infer(server, body, headers, "/v2/models/id_fp32/infer")
    assert reply.body[int(reply.headers["inference-header-content-length"]) :] == raw


def test_one_connection_serves_good_and_bad_requests_in_turn(server: ChildServer) -> None:
    connection = server.connect()
    for number in range(20):
        good = number % 2 == 0
        reply = call(connection, "POST", INFER, {"inputs": [X] if good else []})
        assert reply.status == (200 if good else 400)
    connection.close()


def test_bytes_that_an_onnx_string_cannot_hold_are_named_and_harm_nobody_else(server: ChildServer) -> None:
    raw = b"".join(struct.pack("<I", len(item)) + item for item in (b"\xff\xfe", b"ok"))
    item = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "parameters": {"binary_data_size": len(raw)}}
    body, headers = with_blobs({"inputs": [item]}, raw)
    assert "not UTF-8" in server.call("POST", "/v2/models/id_bytes/infer", body, headers).error
    good = {"name": "x", "shape": [1, 2], "datatype": "BYTES", "data": ["f\u00e4hre", ""]}
    reply = infer(server, {"inputs": [good]}, path="/v2/models/id_bytes/infer")
    assert reply.json["outputs"][0]["data"] == ["f\u00e4hre", ""]
