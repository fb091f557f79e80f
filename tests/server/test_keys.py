"""API keys over the wire: on every path that asks models, in one process and through front ends, and on no other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

import grpc

from server.grpc_api import messages as pb
from tests.child_server import ChildServer, call
from tests.loadtests.test_cli import ferry_loadtest
from tests.server.grpc_api import calls

KEYS, ADMIN = ("first-key-1234", "second-key-5678"), "admin-token-9"
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
INFER = ("POST", "/v2/models/affine/infer", {"inputs": [X]})
ASKED: list[tuple[str, str, Any]] = [
    INFER,
    ("POST", "/v2/models/words/infer", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["w1"]}]}),
    ("POST", "/v1/embeddings", {"model": "words", "input": ["w1"]}),
    ("GET", "/v1/models", None),
    ("GET", "/v2", None),
    ("GET", "/v2/models/affine", None),
    ("GET", "/v2/models/affine/stats", None),
]
OPEN = [
    "/v2/health/live", "/v2/health/ready", "/v2/models/affine/ready", "/v2/models/affine/versions/1/ready", "/health", "/metrics",
    "/openapi.json",
]  # fmt: skip


@pytest.fixture(scope="module", params=[(), ("--frontends", "2")], ids=["one process", "front ends"])
def locked(
    request: pytest.FixtureRequest, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildServer]:
    log = tmp_path_factory.mktemp("keys") / "log"
    with ChildServer(tiny_repository, log, "--admin-token", ADMIN, *request.param, FERRY_API_KEYS=",".join(KEYS)) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize(("method", "path", "body"), ASKED, ids=[path for _, path, _ in ASKED])
def test_models_are_asked_with_a_key(locked: ChildServer, method: str, path: str, body: Any) -> None:
    connection = locked.connect()
    for key in (*KEYS, ADMIN, *KEYS):  # twice, the second time by a head that is known
        assert call(connection, method, path, body, bearer(key)).status == 200
    for wrong in ({}, bearer("first-key-123"), bearer("first-key-12345"), {"Authorization": KEYS[0]}, bearer(",".join(KEYS))):
        reply = call(connection, method, path, body, wrong)
        assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
        error = json.loads(reply.body)["error"]
        if path.startswith("/v1"):
            assert error["code"] == "invalid_api_key"
            error = error["message"]
        assert f"the API key is {'wrong' if wrong else 'missing'}" in error
        assert "send the header Authorization: Bearer KEY" in error
        assert not any(key in error for key in KEYS)
    assert call(connection, method, path, body, {"authorization": f"bearer  {KEYS[1]}"}).status == 200
    connection.close()


def test_a_refused_head_is_refused_again_however_often_it_comes(locked: ChildServer) -> None:
    connection = locked.connect()
    method, path, body = INFER
    statuses = [
        call(connection, method, path, body, headers).status for headers in (bearer("no-key-at-all"), bearer(KEYS[0])) * 4
    ]
    assert statuses == [401, 200] * 4
    connection.close()


@pytest.mark.parametrize("path", OPEN)
def test_whether_something_is_up_is_told_to_all(locked: ChildServer, path: str) -> None:
    assert locked.call("GET", path).status == 200


def test_the_admin_api_keeps_its_own_token(locked: ChildServer) -> None:
    load = "/v2/repository/models/affine/load"
    assert [locked.call("POST", load, {}, bearer(key)).status for key in (KEYS[0], ADMIN)] == [401, 200]
    assert [locked.call("GET", "/admin/models", None, bearer(key)).status for key in (KEYS[0], ADMIN)] == [401, 200]


def test_the_page_of_the_routes_asks_for_a_key_where_one_is_needed(locked: ChildServer, server: ChildServer) -> None:
    found, without = locked.call("GET", "/openapi.json").json, server.call("GET", "/openapi.json").json
    assert found["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    needing = {path for path, operations in found["paths"].items() if any("security" in one for one in operations.values())}
    assert {"/v2/models/{name}/infer", "/v1/chat/completions", "/v2"} <= needing
    assert (
        not {"/v2/health/live", "/v2/models/{name}/ready", "/v2/models/{name}/versions/{version}/ready", "/metrics"} & needing
    )
    assert "securitySchemes" not in without["components"]


def test_calls_carry_the_key_as_metadata(locked: ChildServer) -> None:
    ready, metadata = pb.ServerReadyRequest(), pb.ServerMetadataRequest()
    with calls.channel(locked.grpc_port) as channel:
        assert calls.call(channel, "ServerReady", ready, pb.ServerReadyResponse).ready
        health = channel.unary_unary(f"/{pb.HEALTH_SERVICE}/Check")
        assert health(b"", timeout=30.0)
        infer = channel.unary_unary(f"{calls.SERVICE}ModelInfer")
        stream = channel.stream_stream(f"{calls.SERVICE}ModelStreamInfer")
        message = calls.affine().SerializeToString()
        for key in (*KEYS, ADMIN):
            given = [("authorization", f"Bearer {key}")]
            assert infer(message, timeout=30.0, metadata=given)
            assert len(list(stream(iter([message, message]), timeout=30.0, metadata=given))) == 2
            assert calls.call(channel, "ServerMetadata", metadata, pb.ServerMetadataResponse, given).name == "ferry"
        for given in ([], [("authorization", "Bearer wrong-key")]):
            for ask in (
                lambda given=given: infer(message, timeout=30.0, metadata=given),
                lambda given=given: list(stream(iter([message]), timeout=30.0, metadata=given)),
                lambda given=given: calls.call(channel, "ServerMetadata", metadata, pb.ServerMetadataResponse, given),
            ):
                with pytest.raises(grpc.RpcError) as caught:
                    ask()
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
                assert "the API key is" in caught.value.details()
        for unknown in ("/a/b/c", f"{calls.SERVICE}NoSuchMethod", "/nobody"):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(unknown)(b"", timeout=30.0)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_load_test_brings_its_key_and_tells_nobody(
    locked: ChildServer, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    port = locked.port if scheme == "http" else locked.grpc_port
    flags = ["--url", f"{scheme}://127.0.0.1:{port}", "--model", "affine", "--closed", "2", "--duration", "300ms"]
    assert ferry_loadtest(*flags) == 1
    assert "the API key is missing" in capsys.readouterr().err
    assert ferry_loadtest(*flags, "--api-key", KEYS[0], "--out", tmp_path) == 0
    monkeypatch.setenv("FERRY_API_KEY", KEYS[1])
    assert ferry_loadtest(*flags, "--out", tmp_path) == 0
    written = [one.read_text() for one in tmp_path.iterdir()]
    assert written
    assert not any(key in one for one in written for key in KEYS)


def test_keys_that_nobody_could_bring_are_told_without_being_shown(
    tiny_repository: Path, start_server: Callable[..., ChildServer]
) -> None:
    with pytest.raises(AssertionError, match="8 or more characters") as caught:
        start_server(tiny_repository, FERRY_API_KEYS="hunter2,another-key")
    assert "setting 'api_keys'" in str(caught.value)
    assert "hunter2" not in str(caught.value)
