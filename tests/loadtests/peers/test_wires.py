from __future__ import annotations

import numpy as np
import orjson
import pytest

from loadtests.errors import MalformedReply, ServerError
from loadtests.peers.wires import V2, PlainJson

ROW = {"image": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)}


def body_of(request: bytes) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    return body


def test_plain_json_is_a_list_of_values_per_row() -> None:
    request = PlainJson("/predict", ["logits"]).request(ROW)
    assert request.startswith(b"POST /predict HTTP/1.1\r\n")
    assert orjson.loads(body_of(request)) == {"image": [[0, 1, 2, 3]]}


@pytest.mark.parametrize("body", [b'{"logits":[[1,2]],"time":3}', b"[[1,2]]"])
def test_plain_json_answers_are_named_or_the_first_output_alone(body: bytes) -> None:
    found = PlainJson("/", ["logits"]).answer(200, {}, body)
    np.testing.assert_array_equal(found["logits"], np.array([[1, 2]], np.float32))


@pytest.mark.parametrize("body", [b"oops", b"{}", b'{"logits":"high"}', b'{"logits":[[1],[2,3]]}'])
def test_other_answers_are_malformed(body: bytes) -> None:
    with pytest.raises(MalformedReply, match="logits"):
        PlainJson("/", ["logits"]).answer(200, {}, body)


def test_an_error_is_told() -> None:
    with pytest.raises(ServerError, match="status 429: too many"):
        PlainJson("/", ["logits"]).answer(429, {}, b"too many")


def test_v2_speaks_json_and_binary() -> None:
    json = orjson.loads(body_of(V2("m").request(ROW)))
    assert json["inputs"] == [{"name": "image", "shape": [1, 1, 2, 2], "datatype": "FP32", "data": [0, 1, 2, 3]}]
    assert body_of(V2("m", binary=True).request(ROW)).endswith(ROW["image"].tobytes())
    answer = b'{"outputs":[{"name":"y","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
    assert V2("m").answer(200, {}, answer)["y"].shape == (1, 2)
