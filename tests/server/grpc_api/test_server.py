"""The gRPC server as its operator sees it: ports, health, tokens, loading, large messages."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from server.grpc_api import messages as pb
from tests import models
from tests.child_server import ChildServer
from tests.server.grpc_api.calls import affine, call, channel, floats, infer, request

Start = Callable[..., ChildServer]


def status(opened: grpc.Channel, service: str) -> str:
    health = pytest.importorskip("grpc_health.v1.health_pb2_grpc").HealthStub(opened)
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

    try:
        return str(HealthCheckResponse.ServingStatus.Name(health.Check(HealthCheckRequest(service=service)).status))
    except grpc.RpcError as error:
        return str(error.code().name)


def unload(opened: grpc.Channel, name: str, **fields: Any) -> None:
    call(
        opened,
        "RepositoryModelUnload",
        pb.RepositoryModelUnloadRequest(model_name=name, **fields),
        pb.RepositoryModelUnloadResponse,
    )


def load(opened: grpc.Channel, name: str, metadata: Any = None, **fields: Any) -> None:
    message = pb.RepositoryModelLoadRequest(model_name=name, **fields)
    call(opened, "RepositoryModelLoad", message, pb.RepositoryModelLoadResponse, metadata)


def test_loading_unloading_and_health_follow_each_other(start_server: Start, own_repository: Path) -> None:
    pytest.importorskip("grpc_health")
    from grpc_health.v1.health_pb2 import HealthCheckRequest
    from grpc_health.v1.health_pb2_grpc import HealthStub

    server = start_server(own_repository)
    with channel(server.grpc_port) as opened:
        names = ("", pb.INFERENCE_SERVICE, "affine", "nosuch")
        assert [status(opened, name) for name in names] == ["SERVING", "SERVING", "SERVING", "NOT_FOUND"]
        watch = HealthStub(opened).Watch(HealthCheckRequest(service="affine"), timeout=30)
        unknown = HealthStub(opened).Watch(HealthCheckRequest(service="nosuch"), timeout=30)
        assert next(watch).status == 1
        assert next(unknown).status == 3
        unload(opened, "affine", parameters={"unload_dependents": {"bool_param": True}})
        assert next(watch).status == 2
        assert status(opened, "affine") == "NOT_SERVING"
        with pytest.raises(grpc.RpcError) as caught:
            infer(opened, affine())
        assert caught.value.code().name == "UNAVAILABLE"
        load(opened, "affine")
        assert next(watch).status == 1
        assert floats(infer(opened, affine())).tolist() == [[3.0] * 4]
        (own_repository / "affine" / "1" / "model.onnx").write_bytes(b"damaged")
        unload(opened, "affine")
        with pytest.raises(grpc.RpcError, match="damaged") as caught:
            load(opened, "affine")
        assert caught.value.code().name == "INVALID_ARGUMENT"
        assert status(opened, "") == "NOT_SERVING"
        index = call(opened, "RepositoryIndex", pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse).models
        assert [(row.name, row.version, row.state) for row in index] == [("affine", "1", "UNAVAILABLE")]
        ready = call(opened, "RepositoryIndex", pb.RepositoryIndexRequest(ready=True), pb.RepositoryIndexResponse).models
        assert not ready


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_name": "nosuch"}, "NOT_FOUND"),
        ({"model_name": "../x"}, "NOT_FOUND"),
        ({"model_name": "affine", "repository_name": "other"}, "UNIMPLEMENTED"),
        ({"model_name": "affine", "parameters": {"config": {"string_param": "{}"}}}, "INVALID_ARGUMENT"),
    ],
)
def test_loads_that_are_refused(wire: grpc.Channel, fields: Any, code: str) -> None:
    for message, method in ((pb.RepositoryModelLoadRequest, "Load"), (pb.RepositoryModelUnloadRequest, "Unload")):
        with pytest.raises(grpc.RpcError) as caught:
            call(wire, f"RepositoryModel{method}", message(**fields), pb.RepositoryModelLoadResponse)
        assert caught.value.code().name == code


def test_a_token_guards_loading(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, FERRY_ADMIN_TOKEN="a long secret")
    with channel(server.grpc_port) as opened:
        for metadata in (None, (("authorization", "Bearer wrong"),)):
            with pytest.raises(grpc.RpcError) as caught:
                load(opened, "affine", metadata)
            assert caught.value.code().name == "UNAUTHENTICATED"
        load(opened, "affine", (("authorization", "Bearer a long secret"),))
        assert floats(infer(opened, affine())).tolist() == [[3.0] * 4]


def test_large_messages_go_both_ways(start_server: Start, own_repository: Path) -> None:
    models.publish_model(own_repository, "tokens", models.per_token(), lengths=(1, 1 << 20), max_rows=1)
    server = start_server(own_repository)
    ids = np.arange(1 << 20, dtype=np.int64).reshape(1, -1)
    with channel(server.grpc_port) as opened:
        reply = infer(opened, request("tokens", ("ids", "INT64", ids)))
    assert len(reply.raw_output_contents[0]) == 8 << 20
    assert np.array_equal(np.frombuffer(reply.raw_output_contents[0], np.int64).reshape(1, -1), ids + 1)


def test_no_grpc_when_it_is_off(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--grpc-port", "off")
    assert "gRPC" not in server.log
    assert server.call("GET", "/v2/health/ready").status == 200


def test_a_port_that_was_asked_for_and_is_taken_ends_the_start_in_words(own_repository: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        child = ChildServer(own_repository, tmp_path / "log", "--grpc-port", port)
        child.spawn()
        assert child.process.wait(30) != 0
    assert "cannot listen for gRPC" in child.log
    assert port in child.log
    assert "Traceback" not in child.log


def test_two_servers_do_not_share_a_port_unnoticed(start_server: Start, own_repository: Path, tmp_path: Path) -> None:
    first = start_server(own_repository)
    second = ChildServer(own_repository, tmp_path / "second", "--grpc-port", str(first.grpc_port))
    second.spawn()
    assert second.process.wait(30) != 0
