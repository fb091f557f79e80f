from __future__ import annotations

import numpy as np
import orjson
import pytest

from loadtests.errors import MalformedReply, ServerError
from loadtests.tensors import Array, to_bf16
from loadtests.wire import Bodies, Heads, ResponseReader, decode, error_text, get_request, infer_request

FIXED = ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]
HALF = np.array([[0.5, -1.25, 3.0]])
BYTES = np.array([[b"ab", b"", b"c"]], dtype=object)


def response(status: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def echoed(request: bytes) -> bytes:
    """The response of a server whose outputs are its inputs."""
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"Inference-Header-Content-Length")]
    n_json = int(lengths[0].partition(b":")[2]) if lengths else len(body)
    asked = orjson.loads(body[:n_json])
    answer = orjson.dumps({"model_name": "m", "model_version": "1", "outputs": asked["inputs"]})
    extra = [b"Inference-Header-Content-Length: %d" % len(answer)] if lengths else []
    return response(b"200 OK", answer + body[n_json:], *extra)


def round_trip(array: Array, *, binary: bool) -> Array:
    found = ResponseReader().feed(echoed(infer_request("h", "m", {"x": array, "y": array}, binary=binary)))
    assert found is not None
    outputs = decode(found.status, found.headers, found.body)
    assert list(outputs) == ["x", "y"]
    assert outputs["x"].tolist() == outputs["y"].tolist()
    return outputs["y"]


def extremes(dtype: str) -> Array:
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.array([[True, False, True]])
    info = np.finfo(dtype) if kind == "f" else np.iinfo(dtype)
    return np.array([[info.min, 1, info.max]], dtype)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("array", [*map(extremes, FIXED), BYTES, np.zeros((0, 3), "f4")], ids=str)
def test_arrays_come_back_as_they_went(array: Array, binary: bool) -> None:
    found = round_trip(array, binary=binary)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("array", [HALF.astype("f2"), to_bf16(HALF), np.array([[b"\xff\0"]], dtype=object)], ids=str)
def test_what_json_cannot_hold_comes_back_in_binary(array: Array) -> None:
    wanted = HALF if array.dtype != object else array
    assert round_trip(array, binary=True).tolist() == wanted.tolist()


def test_an_infer_request_names_model_version_and_timeout() -> None:
    request = infer_request("h:1", "a model", {"x": np.ones((1, 2), "f4")}, binary=False, version=3, timeout_us=500)
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v2/models/a%20model/versions/3/infer HTTP/1.1"
    assert b"Content-Length: %d" % len(body) in head
    assert b"Inference-Header" not in head
    assert orjson.loads(body) == {
        "parameters": {"timeout": 500},
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 1.0]}],
    }


def test_a_binary_request_asks_for_binary_outputs() -> None:
    request = infer_request("h", "m", {"x": np.ones((1, 2), "f4")}, binary=True)
    head, _, body = request.partition(b"\r\n\r\n")
    n_json = int(head.partition(b"Inference-Header-Content-Length: ")[2])
    assert orjson.loads(body[:n_json])["parameters"] == {"binary_data_output": True}
    assert body[n_json:] == np.ones(2, "f4").tobytes()


def test_a_get_request_is_whole() -> None:
    assert get_request("h", "/v2") == b"GET /v2 HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize("bodies", Bodies)
def test_responses_are_read_whatever_the_splits(bodies: Bodies) -> None:
    stream = response(b"200 OK", b"hello") + response(b"503 Busy", b"no", b"Retry-After: 1") + response(b"200 OK", b"x")
    wanted = [(200, b"hello"), (503, b"no"), (200, b"x")]
    if bodies is not Bodies.KEEP:
        wanted = [(status, b"" if bodies is Bodies.SKIP or status == 200 else body) for status, body in wanted]
    heads = Heads()
    for at in range(len(stream) + 1):
        for then in (at, min(at + 1, len(stream))):
            reader = ResponseReader(bodies, heads)
            found = []
            for piece in (stream[:at], stream[at:then], stream[then:], b"", b""):
                one = reader.feed(piece)
                found += [] if one is None else [(one.status, one.body)]
            assert found == wanted
            assert reader.idle


def test_responses_are_read_byte_by_byte() -> None:
    reader = ResponseReader()
    stream = response(b"200 OK", b"hello", b"A:b") * 2
    found = [one for byte in stream if (one := reader.feed(bytes([byte]))) is not None]
    assert [one.body for one in found] == [b"hello", b"hello"]
    assert found[0].headers == {"content-length": "5", "a": "b"}
    assert reader.idle


def test_a_reader_with_half_a_response_is_not_idle() -> None:
    stream = response(b"200 OK", b"hello")
    for at in range(1, len(stream)):
        reader = ResponseReader()
        assert reader.feed(stream[:at]) is None
        assert not reader.idle


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.1 204 No Content", False),
        (b"HTTP/1.1 200\r\ncontent-length:0\r\nCONNECTION: Close", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", False),
    ],
)
def test_the_end_of_a_connection_is_announced(head: bytes, closes: bool) -> None:
    found = ResponseReader().feed(head + b"\r\n\r\n")
    assert found is not None
    assert found.head.closes is closes


@pytest.mark.parametrize(
    ("head", "match"),
    [
        (b"HTTP/2 200 OK\r\nContent-Length: 0", "status line"),
        (b"HTTP/1.1 2x0 OK\r\nContent-Length: 0", "status line"),
        (b"HTTP/1.1 200 OK\r\nnonsense", "not a header"),
        (b"HTTP/1.1 200 OK", "end of the body is unknown"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1", "end of the body is unknown"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "chunked"),
        (b"HTTP/1.1 100 Continue", "interim"),
        (b"x" * 70_000, "status line"),
    ],
)
def test_what_is_no_response_is_refused(head: bytes, match: str) -> None:
    with pytest.raises(MalformedReply, match=match):
        ResponseReader().feed(head + b"\r\n\r\n")


def test_headers_without_end_are_refused() -> None:
    with pytest.raises(MalformedReply, match="no end"):
        ResponseReader().feed(b"x" * 70_000)


def test_the_memory_of_heads_is_bounded() -> None:
    heads = Heads()
    for n in range(2_000):
        assert heads.bodiless(b"HTTP/1.1 200 OK\r\nContent-Length: %d" % n).head.length == n
    assert len(heads._known) <= 512


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error":"queue is full"}', "queue is full"),
        (b"", ""),
        (b"oops", "oops"),
        (b"[]", "[]"),
        (b'{"a":1}', '{"a":1}'),
    ],
)
def test_refusals_carry_status_and_text(body: bytes, text: str) -> None:
    assert error_text(body) == text
    with pytest.raises(ServerError) as caught:
        decode(503, {}, body)
    assert (caught.value.status, caught.value.text) == (503, text)


def test_json_and_binary_outputs_may_be_mixed() -> None:
    outputs = [
        {"name": "a", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}},
        {"name": "b", "datatype": "INT8", "shape": [1], "data": [7]},
        {"name": "c", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
    ]
    head = orjson.dumps({"outputs": outputs})
    found = decode(200, {"inference-header-content-length": str(len(head))}, head + b"\x01\x02\x03")
    assert {name: array.tolist() for name, array in found.items()} == {"a": [1], "b": [7], "c": [2, 3]}


@pytest.mark.parametrize(
    ("headers", "body", "match"),
    [
        ({}, b"{", "not a V2 answer"),
        ({}, b"[]", "not a V2 answer"),
        ({}, b'{"outputs":[{"name":"a"}]}', "not a V2 answer"),
        ({"inference-header-content-length": "99"}, b"{}", "99"),
        ({"inference-header-content-length": "-1"}, b"{}", "-1"),
        ({"inference-header-content-length": "14"}, b'{"outputs":[]}x', "1 bytes behind"),
        (
            {},
            b'{"outputs":[{"name":"a","datatype":"INT8","shape":[1],"parameters":{"binary_data_size":1}}]}',
            "0 bytes are left",
        ),
    ],
)
def test_what_is_no_answer_is_refused(headers: dict[str, str], body: bytes, match: str) -> None:
    with pytest.raises(MalformedReply, match=match):
        decode(200, headers, body)
