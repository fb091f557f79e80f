"""Bad requests: the right status, an error that names the thing, and the connection goes on working."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.child_server import ChildServer, call

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
GOOD = {"inputs": [X]}
LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Bad:
    """A body for `model` and what must be in the answer."""

    what: str
    body: Any
    says: str
    status: int = 400
    model: str = "affine"
    headers: dict[str, str] = field(default_factory=dict)


def x(**changes: Any) -> dict[str, Any]:
    """The good input with changes; None removes a key."""
    return {"inputs": [{key: value for key, value in {**X, **changes}.items() if value is not None}]}


def ids(shape: list[int], data: Any, mask_shape: list[int] | None = None) -> dict[str, Any]:
    mask = mask_shape or shape
    return {"inputs": [
        {"name": "ids", "shape": shape, "datatype": "INT64", "data": data},
        {"name": "mask", "shape": mask, "datatype": "INT64", "data": [1] * (mask[0] * mask[1])},
    ]}  # fmt: skip


def typed(datatype: str, data: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": [1, 2], "datatype": datatype, "data": data}]}


def blob(size: Any, data: bytes, datatype: str = "FP32", shape: list[int] | None = None, claims: str | None = None) -> Any:
    item = {"name": "x", "shape": shape or [1, 4], "datatype": datatype, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [item]}).encode()
    return {"body": head + data, "headers": {LENGTH: claims if claims is not None else str(len(head))}}


BAD = [
    Bad("not JSON", b"{inputs", "not valid JSON"),
    Bad("empty", b"", "not valid JSON"),
    Bad("a list", b"[]", "object"),
    Bad("null", b"null", "object"),
    Bad("NaN literal", b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[NaN,1,2,3]}]}', "not valid JSON"),
    Bad("1e400", b'{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","data":[1e400,1,2,3]}]}', "not valid JSON"),
    Bad("not UTF-8", b'{"inputs":"\xff"}', "not valid JSON"),
    Bad("nesting bomb", b"[" * 50_000, "not valid JSON"),
    Bad("deep data", json.dumps({"inputs": [{**X, "data": "@"}]}).replace('"@"', "[" * 500 + "]" * 500).encode(), "'x'"),
    Bad("no inputs", {}, "'inputs'"),
    Bad("inputs is an object", {"inputs": {}}, "'inputs'"),
    Bad("inputs is empty", {"inputs": []}, "'inputs'"),
    Bad("input is a number", {"inputs": [1]}, "object"),
    Bad("unknown input", x(name="z"), "no input 'z'"),
    Bad("input name is a list", x(name=["x"]), "no input"),
    Bad("input without a name", x(name=None), "no input"),
    Bad("input twice", {"inputs": [X, X]}, "twice"),
    Bad("input missing", {"inputs": ids([1, 2], [1, 2])["inputs"][:1]}, "'mask' is missing", model="masked"),
    Bad("wrong datatype", x(datatype="INT64"), "FP32"),
    Bad("datatype missing", x(datatype=None), "FP32"),
    Bad("unhashable datatype", x(datatype={}), "FP32"),
    Bad("wrong size", x(shape=[1, 5], data=[1, 2, 3, 4, 5]), "[-1, 4]"),
    Bad("wrong rank", x(shape=[4]), "[-1, 4]"),
    Bad("empty shape", x(shape=[]), "[-1, 4]"),
    Bad("shape missing", x(shape=None), "'shape'"),
    Bad("shape is text", x(shape="1,4"), "'shape'"),
    Bad("negative size", x(shape=[-1, 4]), "'shape'"),
    Bad("size is a float", x(shape=[1.0, 4]), "'shape'"),
    Bad("size is true", x(shape=[True, 4]), "'shape'"),
    Bad("huge size", x(shape=[2**31, 4]), "'shape'"),
    Bad("huge rows", x(shape=[2**31 - 1, 4]), "'x'"),
    Bad("no rows", x(shape=[0, 4], data=[]), "1 to 8"),
    Bad("too many rows", x(shape=[9, 4], data=[0] * 36), "9 rows"),
    Bad("rows differ", ids([1, 2], [1, 2], [2, 2]), "rows", model="masked"),
    Bad("lengths differ", ids([1, 2], [1, 2], [1, 3]), "'length'", model="masked"),
    Bad("too long", ids([1, 65], [1] * 65), "1 to 64", model="masked"),
    Bad("too short", {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}, "2 to 32", model="plain"),
    Bad("length zero", ids([1, 0], []), "'length'", model="masked"),
    Bad("too few elements", x(data=[1, 2, 3]), "4 elements"),
    Bad("too many elements", x(data=[1, 2, 3, 4, 5]), "4 elements"),
    Bad("ragged nesting", x(data=[[1, 2], [3]]), "uneven"),
    Bad("mixed nesting", x(data=[1, [2, 3, 4]]), "uneven"),
    Bad("data is a number", x(data=1), "'data'"),
    Bad("data is null", {"inputs": [{**X, "data": None}]}, "'data'"),
    Bad("data missing", x(data=None), "'data'"),
    Bad("strings in floats", x(data=["1", "2", "3", "4"]), "numbers"),
    Bad("one string in floats", x(data=[1, "2", 3, 4]), "numbers"),
    Bad("null in floats", x(data=[1, None, 3, 4]), "numbers"),
    Bad("object in floats", x(data=[1, {}, 3, 4]), "numbers"),
    Bad("boolean in floats", x(data=[1.5, True, 3, 4]), "numbers"),
    Bad("booleans in floats", x(data=[True] * 4), "numbers"),
    Bad("too large for FP32", x(data=[1e39, 0, 0, 0]), "too large"),
    Bad("float in ints", typed("INT64", [1, 1.5]), "integers", model="id_int64"),
    Bad("whole float in ints", typed("INT64", [1.0, 2.0]), "integers", model="id_int64"),
    Bad("boolean in ints", typed("INT64", [True, 2]), "integers", model="id_int64"),
    Bad("nested boolean in ints", typed("INT64", [[True, 2]]), "integers", model="id_int64"),
    Bad("int too large", typed("INT64", [2**63, 0]), "INT64", model="id_int64"),
    Bad("int beyond all", typed("INT64", [2**70, 0]), "INT64", model="id_int64"),
    Bad("INT8 too large", typed("INT8", [128, 0]), "-128 to 127", model="id_int8"),
    Bad("UINT8 negative", typed("UINT8", [-1, 0]), "0 to 255", model="id_uint8"),
    Bad("UINT64 negative beside large", typed("UINT64", [-1, 2**64 - 1]), "UINT64", model="id_uint64"),
    Bad("UINT64 with a fraction", typed("UINT64", [0.5, 2**64 - 1]), "UINT64", model="id_uint64"),
    Bad("number in BYTES", typed("BYTES", ["a", 1]), "strings", model="id_bytes"),
    Bad("number in BOOL", typed("BOOL", [True, 1]), "booleans", model="id_bool"),
    Bad("FP16 in JSON", typed("FP16", [1, 2]), "binary", model="id_fp16"),
    Bad("data and binary", {"inputs": [{**X, "parameters": {"binary_data_size": 16}}]}, "both"),
    Bad("parameters is a list", {"inputs": [{**X, "parameters": [1]}]}, "'parameters'"),
    Bad("shared memory", x(data=None, parameters={"shared_memory_region": "r"}), "shared memory", 403),
    Bad("id is a number", {**GOOD, "id": 7}, "'id'"),
    Bad("request parameters is a list", {**GOOD, "parameters": []}, "'parameters'"),
    Bad("timeout is text", {**GOOD, "parameters": {"timeout": "1s"}}, "'timeout'"),
    Bad("timeout is negative", {**GOOD, "parameters": {"timeout": -1}}, "'timeout'"),
    Bad("binary flag is text", {**GOOD, "parameters": {"binary_data_output": "yes"}}, "'binary_data_output'"),
    Bad("unknown output", {**GOOD, "outputs": [{"name": "z"}]}, "no output 'z'"),
    Bad("output twice", {**GOOD, "outputs": [{"name": "y"}, {"name": "y"}]}, "twice"),
    Bad("outputs is text", {**GOOD, "outputs": "y"}, "'outputs'"),
    Bad("output is text", {**GOOD, "outputs": ["y"]}, "an object with a name"),
    Bad("no classes", {**GOOD, "outputs": [{"name": "y", "parameters": {"classification": 0}}]}, "classification"),
    Bad("classes is text", {**GOOD, "outputs": [{"name": "y", "parameters": {"classification": "3"}}]}, "classification"),
    Bad("classes is true", {**GOOD, "outputs": [{"name": "y", "parameters": {"classification": True}}]}, "classification"),
    Bad("best of texts", {**typed("BYTES", ["a", "b"]), "outputs": [{"name": "y", "parameters": {"classification": 1}}]},
        "no best classes", model="id_bytes"),
    Bad("output in shared memory", {**GOOD, "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]},
        "shared memory", 403),
    Bad("reserved parameter", {**GOOD, "parameters": {"triton_enable_empty_final_response": True}}, "triton_"),
    Bad("parameter is a list", {**GOOD, "parameters": {"mine": [1]}}, "'mine'"),
    Bad("parameter is null", {**GOOD, "parameters": {"mine": None}}, "'mine'"),
    Bad("priority is negative", {**GOOD, "parameters": {"priority": -1}}, "parameter 'priority' is '-1'; the classes are 1 (high)"),
    Bad("priority is too low", {**GOOD, "parameters": {"priority": 4}}, "1 (high), 2 (normal), 3 (low), the most urgent first, and 0"),
    Bad("priority is huge", {**GOOD, "parameters": {"priority": 2**63}}, "model affine/1: parameter 'priority'"),
    Bad("priority is no class", {**GOOD, "parameters": {"priority": "urgent"}}, "is 'urgent'; the classes are"),
    Bad("priority is a long text", {**GOOD, "parameters": {"priority": "9" * 9999}}, "'priority' is '" + "9" * 64 + "'"),
    Bad("priority is true", {**GOOD, "parameters": {"priority": True}}, "'priority'"),
    Bad("priority is a fraction", {**GOOD, "parameters": {"priority": 1.5}}, "'priority'"),
    Bad("header priority", GOOD, "header X-Request-Priority is '4'; the classes", headers={"X-Request-Priority": "4"}),
    Bad("header time-out without a unit", GOOD, "X-Request-Timeout: '50' is not a duration", headers={"X-Request-Timeout": "50"}),
    Bad("header time-out is negative", GOOD, "X-Request-Timeout", headers={"X-Request-Timeout": "-1ms"}),
    Bad("header time-out is long", GOOD, "at most 64 characters", headers={"X-Request-Timeout": "1" * 65 + "s"}),
    Bad("sequence", {**GOOD, "parameters": {"sequence_id": 7}}, "'sequence_id'", 501),
    Bad("sequence with a name", {**GOOD, "parameters": {"sequence_id": "s"}}, "'sequence_id'", 501),
    Bad("sequence id is a list", {**GOOD, "parameters": {"sequence_id": []}}, "'sequence_id'"),
    Bad("sequence start is a number", {**GOOD, "parameters": {"sequence_start": 1}}, "'sequence_start'"),
    Bad("timeout is huge", {**GOOD, "parameters": {"timeout": 2**70}}, "'timeout'"),
    Bad("bytes that are not text", **blob(10, struct.pack("<I", 2) + b"\xff\xfe" + bytes(4), "BYTES", [1, 2]),
        says="input 'x' holds bytes that are not UTF-8", model="id_bytes"),
    Bad("two gzip streams", gzip.compress(json.dumps(GOOD).encode()) + gzip.compress(b"{}"), "22 bytes follow", 400,
        headers={"Content-Encoding": "gzip"}),
    Bad("raw data of no whole row", bytes(15), "multiple of 16 bytes", headers={LENGTH: "0"}),
    Bad("raw data of no row", b"", "0 rows", headers={LENGTH: "0"}),
    Bad("raw data for two inputs", bytes(16), "2 inputs", model="two", headers={LENGTH: "0"}),
    Bad("raw text for two elements", b"ab", "one BYTES element", model="id_bytes", headers={LENGTH: "0"}),
    Bad("size missing from JSON-only body", x(data=None, parameters={"binary_data_size": 16}), "binary_data_size"),
    Bad("negative size of a blob", **blob(-1, bytes(16)), says="binary_data_size"),
    Bad("huge size of a blob", **blob(2**60, bytes(16)), says="binary_data_size"),
    Bad("size of a blob is text", **blob("16", bytes(16)), says="binary_data_size"),
    Bad("size of a blob is true", **blob(True, bytes(16)), says="binary_data_size"),
    Bad("blob of the wrong size", **blob(12, bytes(12)), says="takes 16 bytes"),
    Bad("bytes left over", **blob(16, bytes(17)), says="1 bytes follow"),
    Bad("blob cut off", **blob(16, bytes(15)), says="15 bytes are left"),
    Bad("header length negative", **blob(16, bytes(16), claims="-1"), says=LENGTH),
    Bad("header length is text", **blob(16, bytes(16), claims="ten"), says=LENGTH),
    Bad("header length has a space", **blob(16, bytes(16), claims="1 0"), says=LENGTH),
    Bad("header length is too large", **blob(16, bytes(16), claims="100000"), says=LENGTH),
    Bad("header length has 5000 digits", **blob(16, bytes(16), claims="9" * 5000), says=LENGTH),
    Bad("header length is a plus", **blob(16, bytes(16), claims="+5"), says=LENGTH),
    Bad("header length cuts the JSON", **blob(16, bytes(16), claims="20"), says="not valid JSON"),
    Bad("BYTES length cut off", **blob(3, b"\1\0\0", "BYTES", [1, 2]), says="cut off", model="id_bytes"),
    Bad("BYTES overrun", **blob(6, struct.pack("<I", 9) + b"ab", "BYTES", [1, 2]), says="claims 9", model="id_bytes"),
    Bad("BYTES too few", **blob(5, struct.pack("<I", 1) + b"a", "BYTES", [1, 2]), says="1 BYTES elements", model="id_bytes"),
    Bad("zip bomb", gzip.compress(bytes(10_000_000)), "unpacks to more", 413, headers={"Content-Encoding": "gzip"}),
    Bad("gzip cut off", gzip.compress(json.dumps(GOOD).encode())[:-9], "cut off", headers={"Content-Encoding": "gzip"}),
    Bad("not gzip", json.dumps(GOOD).encode(), "gzip", headers={"Content-Encoding": "gzip"}),
    Bad("raw deflate", zlib.compress(b"{}")[2:-4], "deflate", headers={"Content-Encoding": "deflate"}),
    Bad("unknown encoding", b"x", "gzip, deflate", 501, headers={"Content-Encoding": "br"}),
    Bad("body over the limit", b" " * 200_001, "200000 bytes", 413),
    Bad("the model refuses", {"inputs": [{**X, "name": "index", "shape": [1, 1], "datatype": "INT64", "data": [99]}]},
        "lookup", 500, "lookup"),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.what)
def test_a_bad_request_is_named_and_the_next_one_on_its_connection_is_served(server: ChildServer, bad: Bad) -> None:
    connection = server.connect()
    reply = call(connection, "POST", f"/v2/models/{bad.model}/infer", bad.body, bad.headers)
    assert (reply.status, bad.says in reply.error) == (bad.status, True), reply
    assert call(connection, "POST", "/v2/models/affine/infer", GOOD).status == 200
    connection.close()


def test_a_chunked_body_over_the_limit_is_refused_and_the_connection_survives(server: ChildServer) -> None:
    connection = server.connect()
    pieces = (b" " * 50_000 for _ in range(20))
    connection.request("POST", "/v2/models/affine/infer", pieces, {"Transfer-Encoding": "chunked"}, encode_chunked=True)
    response = connection.getresponse()
    assert response.status == 413
    assert "200000 bytes" in json.loads(response.read())["error"]
    assert call(connection, "POST", "/v2/models/affine/infer", GOOD).status == 200
    connection.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "/v2/models/nosuch/infer", 404, "nosuch"),
        ("POST", "/v2/models/a%2Fb/infer", 404, "/v2/models/a/b/infer"),
        ("POST", "/v2/models/..%2F..%2Fetc/infer", 404, "etc"),
        ("POST", "/v2/models/%2e%2e/infer", 404, "'..'"),
        ("POST", "/v2/models/f%C3%A4hre/infer", 404, "fähre"),
        ("POST", "/v2/models/%00/infer", 404, "unknown model"),
        ("POST", "/v2/models/%FF/infer", 404, "unknown model"),
        ("POST", "/v2/models/affine/versions/2/infer", 404, "it has 1"),
        ("POST", "/v2/models/affine/versions/abc/infer", 404, "'abc'"),
        ("POST", "/v2/models/affine/versions/01/infer", 404, "'01'"),
        ("POST", "/v2/models/affine/versions/" + "9" * 5000 + "/infer", 404, "it has 1"),
        ("POST", "/v2/models/affine/versions/infer", 404, "versions"),
        ("GET", "/v2/models/affine/infer", 405, "POST"),
        ("PUT", "/v2/health/live", 405, "PUT"),
        ("GET", "/v2/repository/index", 405, "GET"),
        ("GET", "/nosuch", 404, "/nosuch"),
        ("GET", "/v2/models/nosuch", 404, "nosuch"),
        ("GET", "/v2/models/nosuch/ready", 404, "nosuch"),
        ("GET", "/v2/models/nosuch/stats", 404, "nosuch"),
        ("GET", "/v2/models/affine/versions/7/config", 404, "'7'"),
        ("POST", "/v2/repository/models/nosuch/load", 404, "nosuch"),
        ("POST", "/v2/repository/models/nosuch/unload", 404, "nosuch"),
        ("POST", "/v2/repository/models/%2e%2e/load", 404, "'..'"),
        ("POST", "/admin/models/%2e%2e/versions?slo=1s", 400, "'..'"),
        ("GET", "/v2/", 404, "/v2/"),
        ("GET", "/v2/health/live/", 404, "live/"),
        ("GET", "/v2/models/a%20b", 404, "a b"),
        ("GET", "/v2/models/a/b/c", 404, "/v2/models/a/b/c"),
        ("DELETE", "/v2/models/affine", 405, "DELETE"),
        ("POST", "/v2/models/stats", 405, "POST"),
        ("GET", "/v2/models/affine/generate", 405, "GET"),
    ],
)
def test_routes_that_lead_nowhere(server: ChildServer, method: str, path: str, status: int, says: str) -> None:
    connection = server.connect()
    reply = call(connection, method, path, GOOD if method == "POST" and path.endswith("infer") else None)
    assert (reply.status, says in reply.error) == (status, True), reply
    assert call(connection, "GET", "/v2/health/live").status == 200
    connection.close()


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/models/affine/load"])
@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b"[1]", 400), (b"[" * 50_000, 400), (b"\xff", 400), (b"9" * 5000, 400), (b" " * 1_100_000, 413)],
    ids=["cut off", "list", "bomb", "not UTF-8", "digits", "large"],
)
def test_bad_bodies_of_repository_requests(server: ChildServer, path: str, body: bytes, status: int) -> None:
    reply = server.call("POST", path, body)
    assert (reply.status, bool(reply.error)) == (status, True)


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"config": "{}", "file:1/../../evil": "AAAA"}])
def test_load_with_parameters_is_refused_with_the_way_that_works(server: ChildServer, parameters: dict[str, str]) -> None:
    reply = server.call("POST", "/v2/repository/models/affine/load", {"parameters": parameters})
    assert (reply.status, "/admin/models/NAME/versions" in reply.error) == (501, True)
    assert server.call("POST", "/v2/repository/index", {"ready": 1}).status == 400
