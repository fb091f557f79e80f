"""The flight recorder over the wire: a request is found by the id that its client sent, whichever way it came."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from server.recording.file import Recording, read
from server.recording.replay import first_difference
from server.recording.story import End, numbers_of, tell
from tests.child_server import ChildServer, call
from tests.server.grpc_api.calls import affine, channel, infer

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
INFER = "/v2/models/affine/infer"


def recording_of(server: ChildServer, headers: dict[str, str] | None = None) -> Recording:
    reply = server.call("GET", "/admin/recording", headers=headers)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == "application/x-ndjson"
    return read(reply.body)


def models_of(server: ChildServer, name: str) -> list[str]:
    """The models of the answered requests that are called so."""
    recording = recording_of(server)
    stories = [tell(recording, number) for number in numbers_of(recording, name)]
    assert all(story.end is End.ANSWERED for story in stories)
    return [story.request.model.name for story in stories]


def test_what_a_real_server_did_can_be_replayed(server: ChildServer) -> None:
    server.call("POST", INFER, {"inputs": [X]})
    recording = recording_of(server)
    assert recording.header.why == "asked for"
    assert recording.n_events > 0
    assert first_difference(recording) is None


def test_the_id_of_v2_over_http(server: ChildServer) -> None:
    connection = server.connect()
    for count in range(3):  # from the second on, the head is known
        body: Any = {"id": f"http {count}", "inputs": [X]}
        assert call(connection, "POST", INFER, body).status == 200
    connection.close()
    assert [models_of(server, f"http {count}") for count in range(3)] == [["affine"]] * 3


def test_the_id_of_texts_names_each_of_them(server: ChildServer) -> None:
    text = {"name": "text", "datatype": "BYTES", "shape": [2], "data": ["w1", "w2 w3"]}
    assert server.call("POST", "/v2/models/words/infer", {"id": "two texts", "inputs": [text]}).status == 200
    assert models_of(server, "two texts") == ["words", "words"]


@pytest.mark.parametrize("header", ["X-Request-Id", "X-Client-Request-Id"])
def test_the_header_of_an_openai_request(server: ChildServer, header: str) -> None:
    body = {"model": "words", "input": ["w1", "w2"]}
    assert server.call("POST", "/v1/embeddings", body, {header: f"by {header}"}).status == 200
    assert models_of(server, f"by {header}") == ["words", "words"]


def test_the_id_of_v2_over_grpc(server: ChildServer) -> None:
    with channel(server.grpc_port) as opened:
        infer(opened, affine(id="by grpc"))
    assert models_of(server, "by grpc") == ["affine"]
