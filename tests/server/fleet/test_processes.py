"""Real front ends and a real engine: what each imports, what dies and comes back, what clients see of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.child_server import ChildServer, call, wait_until

pytest.importorskip("onnx")

from tests import models
from tests.closed_loops import BODY, INFER, N_CLIENTS, RIGHT, Load, X

Start = Callable[..., ChildServer]


def children(server: ChildServer, role: str) -> list[int]:
    """Processes of the supervisor's that do this."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == server.process.pid and f"server.{role}_process" in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except (OSError, ValueError):
            continue  # no process, or none any more
    return sorted(found)


def test_a_front_end_that_is_killed_under_load_loses_nothing_silently(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--frontends", "2")
    engine, fronts = children(server, "engine"), children(server, "front")
    with Load(server).running() as load:
        for _ in range(2):
            load.answered(300)
            os.kill(children(server, "front")[0], signal.SIGKILL)
            wait_until(lambda: len(children(server, "front")) == 2, "a successor")
        load.answered(600)
    assert load.outcomes.total() == load.n_sent
    assert set(load.outcomes) <= {"answered", "reset"}, load.outcomes
    assert 0 < load.outcomes["reset"] <= 2 * N_CLIENTS
    assert children(server, "engine") == engine
    assert len(set(fronts) & set(children(server, "front"))) < 2
    metrics = server.metrics()
    of_affine = (("model", "affine"), ("version", "1"))
    n_run = metrics["ferry_request_seconds_count", of_affine]
    n_cancelled = metrics["ferry_cancelled_total", of_affine]
    assert metrics["ferry_in_flight", of_affine] == 0
    assert load.outcomes["answered"] <= n_run <= n_run + n_cancelled <= load.n_sent
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_an_engine_that_is_killed_under_load_fails_its_requests_and_comes_back(
    start_server: Start, own_repository: Path
) -> None:
    server = start_server(own_repository, "--frontends", "2")
    fronts = children(server, "front")
    with Load(server).running() as load:
        for _ in range(2):
            load.answered(300)
            (engine,) = children(server, "engine")
            os.kill(engine, signal.SIGKILL)
            load.answered(300)
    assert load.outcomes.total() == load.n_sent
    assert set(load.outcomes) == {"answered", "retryable"}, load.outcomes
    assert children(server, "front") == fronts
    n_failed = sum(int(n) for n in re.findall(r"the engine is gone: (\d+) requests fail", server.log))
    assert 0 < n_failed <= 2 * N_CLIENTS
    assert server.stop() == 0
    assert "Traceback" not in server.log


def test_without_an_engine_it_lives_is_not_ready_and_says_when_to_try_again(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--frontends", "1")
    connection = server.connect()
    (engine,) = children(server, "engine")
    os.kill(engine, signal.SIGSTOP)  # so that its successor cannot come before we have looked
    os.kill(server.process.pid, signal.SIGSTOP)
    os.kill(engine, signal.SIGKILL)
    try:
        wait_until(lambda: call(connection, "POST", INFER, BODY).status == 503, "the front end's notice")
        for path in ("/v2/health/ready", "/v2/models/affine", "/metrics"):
            reply = call(connection, "GET", path)
            assert (reply.status, reply.headers["retry-after"], "try again" in reply.error) == (503, "1", True)
        told = call(connection, "POST", "/v1/chat/completions", b"{}")
        assert (told.status, told.headers["x-should-retry"], "try again" in told.json["error"]["message"]) == (
            503,
            "true",
            True,
        )
        assert call(connection, "GET", "/v2/health/live").json == {"live": True}
        assert call(connection, "POST", INFER, BODY).headers["retry-after-ms"] == "1000"
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    wait_until(lambda: call(connection, "POST", INFER, BODY).status == 200, "the successor")
    connection.close()


def test_nobody_is_left_when_the_supervisor_is_killed(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--frontends", "2")
    orphans = [*children(server, "engine"), *children(server, "front")]
    assert len(orphans) == 3
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and _lives(pid) for pid in orphans), "their end")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_model_can_be_replaced_under_load_without_a_refusal(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--frontends", "2")
    with Load(server).running() as load:
        for version in (2, 3):
            load.answered(200)
            models.publish_model(own_repository, "affine", models.affine())
            assert server.call("POST", "/v2/repository/models/affine/load").status == 200
            assert server.call("GET", "/v2/models/affine").json["versions"] == [str(version)]
            assert server.call("POST", INFER, X).json["model_version"] == str(version)
        load.answered(200)
    assert set(load.outcomes) == {"answered"}, load.outcomes
    assert load.outcomes.total() == load.n_sent
    assert server.call("POST", "/v2/repository/models/affine/unload").status == 200
    gone = server.call("POST", INFER, X)
    assert (gone.status, "not ready" in gone.error) == (503, True)


def test_the_engines_own_routes_are_passed_on_piece_by_piece(start_server: Start, own_repository: Path, tmp_path: Path) -> None:
    server = start_server(own_repository, "--frontends", "2", "--max-upload-bytes", "3000000")
    assert server.call("GET", "/openapi.json").json["paths"]["/v2/models/{name}/infer"]
    assert server.call("GET", "/v2/models/affine?x=%20y").status == 200
    assert server.call("GET", "/nowhere").status == 404
    assert server.call("PUT", INFER).status == 405
    assert server.call("POST", "/v2/models/nope/infer", X).error.startswith("unknown model 'nope'")
    file = models.affine()
    uploaded = server.call("POST", "/admin/models/uploaded/versions?slo=5s", file)
    assert uploaded.status == 201, uploaded
    assert server.call("POST", "/v2/models/uploaded/infer", X).json["outputs"][0]["data"] == RIGHT
    with closing(server.connect()) as connection:  # without a length, in pieces
        connection.request("POST", "/admin/models/again/versions?slo=5s", iter([file[:50], file[50:]]), encode_chunked=True)
        assert connection.getresponse().read()
    assert server.call("POST", "/v2/models/again/infer", X).status == 200
    with closing(server.connect()) as connection:  # answered before it was sent
        connection.putrequest("POST", "/admin/models/large/versions?slo=5s")
        connection.putheader("Content-Length", "100000000")
        connection.endheaders()
        sent = 0
        while sent < 50_000_000:
            try:
                connection.send(bytes(100_000))
            except OSError:
                break
            sent += 100_000
            if sent > 3_000_000 and _readable(connection.sock):
                break
        assert connection.getresponse().status == 413


def _readable(connection: socket.socket) -> bool:
    import select

    return bool(select.select([connection], [], [], 0.02)[0])


def test_a_client_that_leaves_during_an_upload_leaves_nothing_behind(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, "--frontends", "1")
    connection = server.connect()
    connection.putrequest("POST", "/admin/models/half/versions?slo=5s")
    connection.putheader("Content-Length", "1000000")
    connection.endheaders()
    connection.send(bytes(100_000))
    staging = own_repository / ".staging"
    wait_until(lambda: staging.is_dir() and any(staging.iterdir()), "the upload's beginning")
    connection.close()
    wait_until(lambda: not any(path.is_dir() for path in staging.iterdir()), "the upload's end")
    assert server.call("GET", "/v2/health/ready").status == 200
    assert "Traceback" not in server.log


IMPORTED = "import sys, {}; print(' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("server.front_process", {"onnxruntime", "fastapi", "grpc", "google", "onnx", "tokenizers", "torch"}),
        (
            "server.processes",
            {"numpy", "onnxruntime", "fastapi", "starlette", "grpc", "uvicorn", "uvloop", "prometheus_client"},
        ),
    ],
)
def test_what_a_process_does_not_need_it_does_not_import(module: str, heavy: set[str]) -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED.format(module)], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & heavy == set()
