"""Raw text over gRPC: raw and typed, refusals, cancellation, and the official client."""

from __future__ import annotations

import struct
from typing import Any

import grpc
import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from server.grpc_api import messages as pb
from tests.child_server import ChildServer
from tests.models import word_ids
from tests.server.grpc_api import calls


def raw_text(*texts: bytes, **fields: Any) -> Any:
    made = pb.ModelInferRequest(model_name="words", **fields)
    made.inputs.add(name="text", datatype="BYTES", shape=[len(texts)])
    made.raw_input_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in texts))
    return made


def ids_request(text: str) -> Any:
    ids = np.array([word_ids(text)], np.int64)
    return calls.request("words", ("ids", "INT64", ids), ("mask", "INT64", np.ones_like(ids)))


def embeddings(reply: Any) -> Any:
    return np.frombuffer(reply.raw_output_contents[0], "<f4").reshape(reply.outputs[0].shape)


def test_a_text_alone_has_the_answer_of_its_ids_to_the_last_bit(server: ChildServer) -> None:
    with calls.channel(server.grpc_port) as channel:
        wanted = embeddings(calls.infer(channel, ids_request("w1 w2 w3")))
        assert np.array_equal(embeddings(calls.infer(channel, raw_text(b"w1 w2 w3"))), wanted)
        typed = calls.typed("words", "text", "BYTES", [1], bytes_contents=[b"w1 w2 w3"])
        assert np.array_equal(embeddings(calls.infer(channel, typed)), wanted)


def test_several_texts_come_back_in_order(server: ChildServer) -> None:
    texts = ["w1", "w2 w3 w4 w5", ""]
    with calls.channel(server.grpc_port) as channel:
        found = embeddings(calls.infer(channel, raw_text(*(text.encode() for text in texts))))
        for row, text in zip(found, texts, strict=True):
            np.testing.assert_allclose(row, embeddings(calls.infer(channel, ids_request(text)))[0], atol=1e-4)


@pytest.mark.parametrize(
    ("text", "says"), [(b"\xff", "not UTF-8"), (b"w1 " * 31, "33 tokens"), (b"w" * 1025, "1025 bytes")]
)  # fmt: skip
def test_what_cannot_be_read_is_an_invalid_argument(server: ChildServer, text: bytes, says: str) -> None:
    with calls.channel(server.grpc_port) as channel, pytest.raises(grpc.RpcError) as caught:
        calls.infer(channel, raw_text(text))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in caught.value.details()


def test_a_long_text_is_cut_when_that_is_asked_for(server: ChildServer) -> None:
    message = raw_text(b"w1 " * 31)
    message.parameters["truncate"].bool_param = True
    with calls.channel(server.grpc_port) as channel:
        cut = embeddings(calls.infer(channel, message))
        assert np.array_equal(cut, embeddings(calls.infer(channel, raw_text(b"w1 " * 30))))


def test_the_configuration_tells_of_the_text(server: ChildServer) -> None:
    with calls.channel(server.grpc_port) as channel:
        reply = calls.call(channel, "ModelConfig", pb.ModelConfigRequest(name="words"), pb.ModelConfigResponse)
    assert [entry.name for entry in reply.config.input] == ["ids", "mask"]
    assert reply.config.parameters["text_input"].string_value == "text"


def test_tritonclient_asks_in_text(server: ChildServer) -> None:
    triton = pytest.importorskip("tritonclient.grpc")
    made = triton.InferInput("text", [2, 1], "BYTES")
    made.set_data_from_numpy(np.array([[b"w1 w2"], [b"w9"]], dtype=object))
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        found = client.infer("words", [made]).as_numpy("embedding")
    with calls.channel(server.grpc_port) as channel:
        for row, text in zip(found, ("w1 w2", "w9"), strict=True):
            np.testing.assert_allclose(row, embeddings(calls.infer(channel, ids_request(text)))[0], atol=1e-4)
