"""The server as its operator sees it: start, stop, drain, tokens, ports, imports."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.child_server import ChildServer, call, wait_until

pytest.importorskip("onnx")

from tests import models

Start = Callable[..., ChildServer]
X = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
BODY = json.dumps(X).encode()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_what_it_accepted_and_leaves_with_status_0(
    start_server: Start, own_repository: Path, stop: signal.Signals
) -> None:
    server = start_server(own_repository)
    connections = [server.connect() for _ in range(8)]
    for connection in connections:  # accepted, but the end of the body is still to come
        connection.putrequest("POST", "/v2/models/affine/infer")
        connection.putheader("Content-Length", str(len(BODY)))
        connection.endheaders(BODY[:10])
    idle = server.connect()
    assert call(idle, "GET", "/v2/health/live").status == 200
    server.process.send_signal(stop)
    wait_until(lambda: "Shutting down" in server.log, "the beginning of the drain")
    for connection in connections:
        connection.send(BODY[10:])
    for connection in connections:
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["outputs"][0]["data"]) == (200, [3.0, 5.0, 7.0, 9.0])
        connection.close()
    idle.close()
    assert server.process.wait(30) == 0
    assert "Traceback" not in server.log


def test_a_stop_under_load_gives_nobody_a_wrong_answer_or_an_error(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository)
    answered: list[int] = []

    def work(_: int) -> int:
        """Status of the first answer that is not a right one; 0 when the connection ended first, which is no answer owed:
        what a client sends on an idle connection while the server closes it was never accepted."""
        with closing(server.connect()) as connection:
            while True:
                try:
                    reply = call(connection, "POST", "/v2/models/affine/infer", BODY)
                except OSError:
                    return 0
                if reply.status != 200 or reply.json["outputs"][0]["data"] != [3.0, 5.0, 7.0, 9.0]:
                    return reply.status
                answered.append(1)

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(work, n) for n in range(8)]
        wait_until(lambda: len(answered) > 200, "some load")
        assert server.stop() == 0
        assert [future.result() for future in futures] == [0] * 8
    assert "Traceback" not in server.log


def test_a_port_in_use_is_an_error_in_words(own_repository: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        child = ChildServer(own_repository, tmp_path / "log", "--port", str(port))
        child.spawn()
        assert child.process.wait(30) != 0
    assert "address already in use" in child.log
    assert str(port) in child.log
    assert "Traceback" not in child.log


def test_a_damaged_model_is_reported_and_the_others_serve(start_server: Start, own_repository: Path) -> None:
    models.publish_model(own_repository, "bad", models.affine())
    (own_repository / "bad" / "1" / "model.onnx").write_bytes(b"damaged")
    server = start_server(own_repository)
    assert server.call("POST", "/v2/models/affine/infer", X).status == 200
    ready = server.call("GET", "/v2/health/ready")
    assert (ready.status, "bad/1/model.onnx: damaged" in ready.error) == (503, True)
    assert server.call("POST", "/v2/models/bad/infer", X).status == 503
    load = server.call("POST", "/v2/repository/models/bad/load")
    assert (load.status, "damaged" in load.error) == (400, True)
    listed = {model["name"]: model for model in server.call("GET", "/admin/models").json["models"]}
    assert "damaged" in listed["bad"]["problem"]


GUARDED = [
    ("GET", "/admin/models"),
    ("POST", "/admin/models/new/versions?slo=5s"),
    ("POST", "/v2/repository/models/affine/load"),
    ("POST", "/v2/repository/models/affine/unload"),
]


def test_a_token_guards_everything_that_changes_the_server(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, FERRY_ADMIN_TOKEN="a-long-secret")
    assert "on, with token" in server.log
    assert "a-long-secret" not in server.log
    for method, path in GUARDED:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "a-long-secret"}):
            reply = server.call(method, path, b"x" if method == "POST" else None, headers)
            assert (reply.status, "Authorization: Bearer" in reply.error) == (401, True)
    right = {"Authorization": "Bearer a-long-secret"}
    assert server.call("GET", "/admin/models", None, right).status == 200
    assert server.call("POST", "/v2/repository/models/affine/load", None, right).status == 200
    assert server.call("POST", "/v2/repository/index").status == 200
    assert server.call("POST", "/v2/models/affine/infer", X).status == 200


def test_without_a_token_the_admin_api_is_off_where_others_can_reach_it(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--host", "0.0.0.0")
    assert "admin API: off" in server.log
    for method, path in GUARDED:
        reply = server.call(method, path)
        assert (reply.status, "no admin token" in reply.error) == (501, True)
    assert server.call("POST", "/v2/models/affine/infer", X).status == 200


def test_every_promised_metric_is_there_and_counts_what_was_sent(start_server: Start, own_repository: Path) -> None:
    models.publish_model(own_repository, "masked", models.masked_mean(), lengths=(1, 16))
    server = start_server(own_repository)
    connection = server.connect()
    for _ in range(7):
        assert call(connection, "POST", "/v2/models/affine/infer", X).status == 200
    hopeless = {**X, "parameters": {"timeout": 1}}
    assert call(connection, "POST", "/v2/models/affine/infer", hopeless).status == 503
    connection.close()
    labels = {"model": "affine", "version": "1"}

    def sample(name: str, **more: str) -> float:
        return metrics[name, tuple(sorted({**labels, **more}.items()))]

    metrics = server.metrics()
    for name in ("request_seconds", "queue_seconds"):
        assert sample(f"ferry_{name}_count") == 7
    batches = sample("ferry_compute_seconds_count")
    assert batches == sample("ferry_batch_rows_count") == sample("ferry_padding_share_count") == 7
    assert sample("ferry_batch_rows_sum") == 7
    assert sample("ferry_refused_total", reason="deadline") == 1
    assert sample("ferry_refused_total", reason="queue_full") == 0
    assert sample("ferry_failed_total", reason="model_error") == 0
    assert sample("ferry_cancelled_total") == 0
    assert sample("ferry_in_flight") == 0
    assert 0 < sample("ferry_request_p50_seconds") <= sample("ferry_request_p99_seconds") < models.PATIENT_S
    assert 0 < sample("ferry_requests_per_second") <= 7
    stats: Any = server.call("GET", "/v2/models/affine/stats").json["model_stats"][0]["inference_stats"]
    assert (stats["success"]["count"], stats["fail"]["count"]) == (7, 1)
    assert ("ferry_in_flight", (("model", "masked"), ("version", "1"))) in metrics


NO_TORCH = """
import asyncio, json, sys
from server.app import Ferry
from server.serve import ServeVerb
from server.settings import Settings

async def main(repository):
    ferry, sent = Ferry(Settings(repository=repository, grpc_port="off")), []
    incoming = [{"type": "lifespan.startup"}]
    started, stop = asyncio.Event(), asyncio.Event()
    async def lifespan_receive():
        if incoming:
            return incoming.pop()
        await stop.wait()
        return {"type": "lifespan.shutdown"}
    async def lifespan_send(message):
        assert message["type"] != "lifespan.startup.failed", message
        started.set()
    task = asyncio.create_task(ferry({"type": "lifespan", "asgi": {"version": "3.0"}}, lifespan_receive, lifespan_send))
    await started.wait()
    async def receive():
        return {"type": "http.request", "body": sys.argv[2].encode()}
    async def send(message):
        sent.append(message)
    await ferry({"type": "http", "method": "POST", "path": "/v2/models/affine/infer", "headers": []}, receive, send)
    assert sent[0]["status"] == 200, sent
    stop.set()
    await task

asyncio.run(main(sys.argv[1]))
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_serving_imports_nothing_of_the_optimizer(own_repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, str(own_repository), BODY.decode()], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert {"server", "onnxruntime", "numpy"} <= loaded
    assert not loaded & {"torch", "onnx", "onnxscript", "optimizer", "loadtests", "sklearn", "transformers"}
