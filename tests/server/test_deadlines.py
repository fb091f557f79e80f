"""Time and class of a request on every path, over the wire: who says nothing has no time, who names the patient class has plenty."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

import grpc

from server.grpc_api import messages as pb
from tests.child_server import ChildServer, Reply
from tests.server.grpc_api import calls

HOPELESS = """
slo = "100us"
[[classes]]
name = "now"
[[classes]]
name = "patient"
slo = "5s"
"""
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
TEXT = {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["w1", "w2 w3"]}
AFFINE, WORDS = "/v2/models/affine/infer", "/v2/models/words/infer"
Send = Callable[[ChildServer, Any, Any], Reply]


@pytest.fixture(scope="module", params=[(), ("--frontends", "1")], ids=["one process", "front end"])
def hurried(
    request: pytest.FixtureRequest, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildServer]:
    """Two models whose default class can never be answered in time."""
    folder = tmp_path_factory.mktemp("hurried")
    for name in ("affine", "words"):
        shutil.copytree(tiny_repository / name, folder / "models" / name)
        (folder / "models" / name / "model.toml").write_text(HOPELESS)
    with ChildServer(folder / "models", folder / "log", *request.param) as running:
        yield running


def as_json(server: ChildServer, parameters: Any, headers: Any) -> Reply:
    return server.call("POST", AFFINE, {"inputs": [X], "parameters": parameters}, headers)


def as_binary(server: ChildServer, parameters: Any, headers: Any) -> Reply:
    item = {**X, "parameters": {"binary_data_size": 16}}
    del item["data"]
    head = json.dumps({"inputs": [item], "parameters": parameters}).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return server.call("POST", AFFINE, head + struct.pack("<4f", 1, 2, 3, 4), {**length, **headers})


def as_text(server: ChildServer, parameters: Any, headers: Any) -> Reply:
    return server.call("POST", WORDS, {"inputs": [TEXT], "parameters": parameters}, headers)


def as_raw(server: ChildServer, _: Any, headers: Any) -> Reply:
    length = {"Inference-Header-Content-Length": "0"}
    return server.call("POST", AFFINE, struct.pack("<4f", 1, 2, 3, 4), {**length, **headers})


def as_openai(server: ChildServer, _: Any, headers: Any) -> Reply:
    return server.call("POST", "/v1/embeddings", {"model": "words", "input": ["w1", "w2"]}, headers)


def as_openai_ids(server: ChildServer, _: Any, headers: Any) -> Reply:
    return server.call("POST", "/v1/embeddings", {"model": "words", "input": [[1, 2], [1, 5, 2]]}, headers)


BODIES = [as_json, as_binary, as_text]
EVERYTHING = [*BODIES, as_raw, as_openai, as_openai_ids]


@pytest.mark.parametrize("send", EVERYTHING)
@pytest.mark.parametrize("priority", ["2", "patient"])
def test_a_header_names_the_class(hurried: ChildServer, send: Send, priority: str) -> None:
    for _ in range(3):  # the second and third have heads that are known
        assert send(hurried, {}, {"X-Request-Priority": priority}).status == 200


@pytest.mark.parametrize("send", BODIES)
@pytest.mark.parametrize("priority", [2, "2", "patient"])
def test_a_parameter_names_the_class(hurried: ChildServer, send: Send, priority: object) -> None:
    for _ in range(3):
        assert send(hurried, {"priority": priority}, {}).status == 200


@pytest.mark.parametrize("send", EVERYTHING)
@pytest.mark.parametrize(
    "priority", [{}, {"X-Request-Priority": "0"}, {"X-Request-Priority": "now"}, {"X-Request-Priority": ""}]
)
def test_without_one_the_default_class_counts(hurried: ChildServer, send: Send, priority: dict[str, str]) -> None:
    for _ in range(2):
        reply = send(hurried, {}, priority)
        assert reply.status == (429 if send in (as_openai, as_openai_ids) else 503)
        assert "0.1 ms" in reply.body.decode()


@pytest.mark.parametrize("send", EVERYTHING)
def test_a_header_gives_the_time(hurried: ChildServer, send: Send) -> None:
    for _ in range(2):
        reply = send(hurried, {}, {"X-Request-Priority": "2", "X-Request-Timeout": "1us"})
        assert reply.status == (429 if send in (as_openai, as_openai_ids) else 503)
        assert "0.001 ms allowed by the request's timeout; send fewer requests, or allow more time" in reply.body.decode()
        assert send(hurried, {}, {"X-Request-Priority": "2", "X-Request-Timeout": "4.5s"}).status == 200


def test_of_header_and_body_the_less_urgent_class_and_the_shorter_time_count(hurried: ChildServer) -> None:
    for header, parameter in (("1", 2), ("2", 1), ("2", 0), ("2", 2)):
        assert as_json(hurried, {"priority": parameter}, {"X-Request-Priority": header}).status == 200
    assert as_json(hurried, {"priority": 1}, {"X-Request-Priority": "1"}).status == 503
    for header, parameter in (("1us", 4_000_000), ("4s", 1)):
        reply = as_json(hurried, {"priority": 2, "timeout": parameter}, {"X-Request-Timeout": header})
        assert (reply.status, "0.001 ms" in reply.error) == (503, True)


@pytest.mark.parametrize("send", EVERYTHING)
def test_a_class_that_is_not_there_is_a_bad_request_that_lists_those_that_are(hurried: ChildServer, send: Send) -> None:
    for _ in range(2):
        reply = send(hurried, {}, {"X-Request-Priority": "3"})
        assert reply.status == 400
        assert "the classes are 1 (now), 2 (patient), the most urgent first, and 0 is 1" in reply.body.decode()


def tensors(**parameter: Any) -> Any:
    made = calls.affine(id="me")
    if parameter:
        made.parameters["priority"].CopyFrom(pb.InferParameter(**parameter))
    return made


def texts(**parameter: Any) -> Any:
    made = pb.ModelInferRequest(model_name="words", id="me")
    made.inputs.add(name="text", datatype="BYTES", shape=[1], contents={"bytes_contents": [b"w1"]})
    if parameter:
        made.parameters["priority"].CopyFrom(pb.InferParameter(**parameter))
    return made


@pytest.mark.parametrize("make", [tensors, texts])
def test_grpc_names_the_class_by_a_parameter_of_any_kind(hurried: ChildServer, make: Callable[..., Any]) -> None:
    with calls.channel(hurried.grpc_port) as channel:
        for parameter in ({"uint64_param": 2}, {"int64_param": 2}, {"string_param": "patient"}):
            assert calls.infer(channel, make(**parameter)).id == "me"
        for wrong in ({"uint64_param": 3}, {"int64_param": -1}, {"string_param": "late"}, {"bool_param": True}):
            with pytest.raises(grpc.RpcError) as caught:
                calls.infer(channel, make(**wrong))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "the classes are 1 (now), 2 (patient)" in caught.value.details()
        with pytest.raises(grpc.RpcError) as caught:
            calls.infer(channel, make())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_requests_of_one_stream_have_classes_of_their_own(hurried: ChildServer) -> None:
    asked = [tensors(uint64_param=2), tensors(), tensors(string_param="patient")]
    with calls.channel(hurried.grpc_port) as channel:
        stream = channel.stream_stream(f"{calls.SERVICE}ModelStreamInfer")
        replies = [pb.ModelStreamInferResponse.FromString(data) for data in stream(one.SerializeToString() for one in asked)]
    assert [bool(reply.error_message) for reply in replies] == [False, True, False]
    assert np.frombuffer(replies[2].infer_response.raw_output_contents[0], np.float32).tolist() == [3.0] * 4


def test_both_configurations_tell_of_the_classes(hurried: ChildServer) -> None:
    config = hurried.call("GET", "/v2/models/affine/config").json
    assert config["dynamic_batching"] == {"priority_levels": 2, "default_priority_level": 1}
    assert config["parameters"]["classes"]["string_value"] == "now 100us, patient 5s"
    with calls.channel(hurried.grpc_port) as channel:
        same = calls.call(channel, "ModelConfig", pb.ModelConfigRequest(name="affine"), pb.ModelConfigResponse).config
    assert (same.dynamic_batching.priority_levels, same.dynamic_batching.default_priority_level) == (2, 1)
    assert same.parameters["classes"].string_value == "now 100us, patient 5s"


def test_the_admin_api_lists_them(hurried: ChildServer) -> None:
    listed = {model["name"]: model for model in hurried.call("GET", "/admin/models").json["models"]}
    assert listed["words"]["default_class"] == "now"
    assert listed["words"]["classes"] == [
        {"name": "now", "priority": 1, "slo": "100us"}, {"name": "patient", "priority": 2, "slo": "5s"},
    ]  # fmt: skip
