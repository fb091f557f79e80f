"""A share of the device for each client, over the wire: one that asks for too much is refused, on every path, and the others are not."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

import grpc

from server.grpc_api import messages as pb
from server.runtime.rationed import REQUEST_S
from tests.child_server import ChildServer, Reply, call
from tests.server.grpc_api import calls

SHARE, BURST_S = 0.0001, 10
MOST_SAVED, MOST_PER_S = SHARE * BURST_S / REQUEST_S, SHARE / REQUEST_S
"""Requests, were the model free: what a client may save, and what comes back in a second."""

X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
BINARY = {**{name: value for name, value in X.items() if name != "data"}, "parameters": {"binary_data_size": 16}}
TEXT = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["w1"]}
FLOATS = struct.pack("<4f", 1, 2, 3, 4)


@pytest.fixture(scope="module", params=[(), ("--frontends", "2")], ids=["one process", "front ends"])
def sharing(
    request: pytest.FixtureRequest, tiny_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChildServer]:
    log = tmp_path_factory.mktemp("shares") / "log"
    flags = ("--client-share", str(SHARE), "--client-burst-s", str(BURST_S), "--client-header", "X-Api-Key", *request.param)
    with ChildServer(tiny_repository, log, *flags) as running:
        yield running


def ask(connection: HTTPConnection, path: str, **headers: str) -> Reply:
    """One good request; `headers` with "_" for "-"."""
    where, body, more = PATHS[path]
    return call(connection, "POST", where, body, {name.replace("_", "-"): value for name, value in {**more, **headers}.items()})


def until_refused(server: ChildServer, path: str, **headers: str) -> Reply:
    """The first refusal of a client that asks on two connections in turn. How many it got is bounded by what the share can
    allow in that time."""
    began_at = time.monotonic()
    connections = [server.connect(), server.connect()]
    try:
        for n in range(1000):
            reply = ask(connections[n % 2], path, **headers)
            if reply.status != 200:
                assert n <= MOST_SAVED + MOST_PER_S * (time.monotonic() - began_at)
                return reply
    finally:
        for connection in connections:
            connection.close()
    raise AssertionError("nobody was refused")


def is_refused(server: ChildServer, path: str, **headers: str) -> bool:
    """Of a client that has had its share; a few requests, because time brings some of it back."""
    connection = server.connect()
    try:
        return 429 in [ask(connection, path, **headers).status for _ in range(5)]
    finally:
        connection.close()


def refused_call(channel: grpc.Channel, key: str, most: int) -> Any:
    """The first of so many calls that is refused."""
    send = channel.unary_unary(f"{calls.SERVICE}ModelInfer")
    for _ in range(most):
        refused = send.future(calls.affine().SerializeToString(), metadata=[("x-api-key", key)])
        if refused.code() is not grpc.StatusCode.OK:
            return refused
    raise AssertionError("nobody was refused")


HEAD = json.dumps({"inputs": [BINARY]}).encode()
PATHS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "json": ("/v2/models/affine/infer", {"inputs": [X]}, {}),
    "binary": ("/v2/models/affine/infer", HEAD + FLOATS, {"Inference-Header-Content-Length": str(len(HEAD))}),
    "text": ("/v2/models/words/infer", {"inputs": [TEXT]}, {}),
    "embeddings": ("/v1/embeddings", {"model": "words", "input": ["w1"]}, {}),
    "ids": ("/v1/embeddings", {"model": "words", "input": [[1, 5, 2]]}, {}),
}


@pytest.mark.parametrize("path", PATHS)
def test_who_asks_for_too_much_is_refused_and_told_when_to_come_back(sharing: ChildServer, path: str) -> None:
    refused = until_refused(sharing, path, X_Api_Key=f"greedy {path}")
    assert refused.status == 429
    assert b"client_share = 0.0001 of the device's time for now; send fewer requests, or raise client_share" in refused.body
    assert 0 < int(refused.headers["retry-after-ms"]) <= 1000 * int(refused.headers["retry-after"])
    connection = sharing.connect()
    assert ask(connection, path, X_Api_Key=f"modest {path}").status == 200
    connection.close()


def test_without_a_key_the_address_counts_and_nobody_can_say_that_he_is_somebody_else(sharing: ChildServer) -> None:
    for path in ("text", "json"):
        assert until_refused(sharing, path).status == 429
        assert is_refused(sharing, path, X_Ferry_Client="abc")
        assert is_refused(sharing, path, X_Forwarded_For="203.0.113.7")


def test_it_is_the_same_client_on_all_paths(sharing: ChildServer) -> None:
    assert until_refused(sharing, "json", X_Api_Key="same").status == 429
    assert is_refused(sharing, "text", X_Api_Key="same")
    with calls.channel(sharing.grpc_port) as channel:
        assert refused_call(channel, "same", 5).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_grpc_refuses_with_metadata_that_its_own_retries_obey(sharing: ChildServer) -> None:
    with calls.channel(sharing.grpc_port) as channel:
        refused = refused_call(channel, "greedy grpc", 1000)
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "client_share" in refused.details()
        assert 0 < int(dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]) <= 10_000
        send = channel.unary_unary(f"{calls.SERVICE}ModelInfer")
        assert send(calls.affine().SerializeToString(), metadata=[("x-api-key", "modest grpc")])


def test_requests_of_one_stream_are_refused_one_by_one(sharing: ChildServer) -> None:
    asked = [calls.affine(id=str(n)).SerializeToString() for n in range(100)]
    with calls.channel(sharing.grpc_port) as channel:
        stream = channel.stream_stream(f"{calls.SERVICE}ModelStreamInfer")
        told = stream(iter(asked), metadata=[("x-api-key", "stream")])
        replies = [pb.ModelStreamInferResponse.FromString(data) for data in told]
    assert [reply.infer_response.id for reply in replies] == [str(n) for n in range(100)]
    refused = [reply for reply in replies if reply.error_message]
    assert 0 < len(refused) < 100
    assert all("client_share" in reply.error_message for reply in refused)


def test_the_refusals_are_counted_by_their_reason(sharing: ChildServer) -> None:
    labels = (("model", "affine"), ("reason", "rate_limit"), ("version", "1"))
    before = sharing.metrics()["ferry_refused_total", labels]
    until_refused(sharing, "json", X_Api_Key="counted")
    assert sharing.metrics()["ferry_refused_total", labels] == before + 1
    assert sharing.metrics()["ferry_in_flight", (("model", "affine"), ("version", "1"))] == 0
