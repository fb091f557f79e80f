"""A share of the device for each client of a model that generates, over the wire, on every path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from server.grpc_api import messages as pb
from tests.child_server import ChildServer, Reply
from tests.server.grpc_api import calls
from tests.talker import publish_talker

FLAGS = ("--client-share", "0.001", "--client-burst-s", "10", "--client-header", "X-Api-Key")
V2 = "/v2/models/talker"
PROMPT = "the end of the answer"
PATHS: dict[str, tuple[str, Any]] = {
    "completions": ("/v1/completions", {"model": "talker", "prompt": PROMPT, "max_tokens": 8}),
    "ids": ("/v1/completions", {"model": "talker", "prompt": [5, 6, 7], "max_tokens": 8, "n": 2}),
    "chat": (
        "/v1/chat/completions",
        {"model": "talker", "messages": [{"role": "user", "content": "the end"}], "max_tokens": 8},
    ),
    "generate": (f"{V2}/generate", {"text_input": PROMPT, "max_tokens": 8}),
    "generate_stream": (f"{V2}/generate_stream", {"text_input": PROMPT, "max_tokens": 8}),
}


@pytest.fixture(scope="module", params=["0", "1"], ids=["one process", "front end"])
def sharing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChildServer]:
    folder = tmp_path_factory.mktemp("talking")
    (folder / "repository").mkdir()
    publish_talker(folder / "repository")
    with ChildServer(folder / "repository", folder / "log", *FLAGS, "--frontends", request.param) as running:
        yield running


def ask(server: ChildServer, path: str, key: str) -> Reply:
    where, body = PATHS[path]
    return server.call("POST", where, body, {"X-Api-Key": key})


@pytest.mark.parametrize("path", PATHS)
def test_who_asks_for_too_much_is_refused_and_told_when_to_come_back(sharing: ChildServer, path: str) -> None:
    replies = [ask(sharing, path, f"greedy {path}") for _ in range(60)]
    refused = [reply for reply in replies if reply.status != 200]
    assert replies[0].status == 200
    assert refused
    assert {reply.status for reply in refused} == {429}
    assert all(b"client_share = 0.001 of the device's time for now" in reply.body for reply in refused)
    assert all(float(reply.headers["retry-after-ms"]) > 0 for reply in refused)
    assert ask(sharing, path, f"modest {path}").status == 200


def test_a_grpc_stream_is_refused_request_by_request(sharing: ChildServer) -> None:
    asked = []
    for n in range(60):
        request = calls.typed("talker", "text_input", "BYTES", [1], bytes_contents=[PROMPT.encode()])
        request.id = str(n)
        asked.append(request.SerializeToString())
    with calls.channel(sharing.grpc_port) as channel:
        stream = channel.stream_stream(f"{calls.SERVICE}ModelStreamInfer")
        replies = [
            pb.ModelStreamInferResponse.FromString(data) for data in stream(iter(asked), metadata=[("x-api-key", "stream")])
        ]
    errors = {reply.infer_response.id: reply.error_message for reply in replies if reply.error_message}
    assert errors
    assert all("client_share" in error for error in errors.values())
    answered = {reply.infer_response.id for reply in replies} - set(errors)
    assert answered
    assert len(answered) + len(errors) == 60
