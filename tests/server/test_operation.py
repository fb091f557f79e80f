"""What an operator reaches while the server runs: metrics on a port of their own, log settings."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest

from server.serve import serve
from server.settings import read_settings
from tests.child_server import ChildServer, call, wait_until

pytest.importorskip("onnx")

Start = Callable[..., ChildServer]
X = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}


def metrics_port(server: ChildServer) -> int:
    found = re.search(r"metrics also on http://127\.0\.0\.1:(\d+)/metrics", server.log)
    assert found, server.log
    return int(found[1])


def scrape(port: int) -> str:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert (response.status, response.getheader("content-type", "").startswith("text/plain")) == (200, True)
    text = response.read().decode()
    connection.close()
    return text


def test_metrics_have_a_port_of_their_own_and_the_main_one_keeps_them(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository)
    assert server.call("POST", "/v2/models/affine/infer", X).status == 200
    counted = 'ferry_request_seconds_count{model="affine",version="1"} 1.0'
    assert counted in scrape(metrics_port(server))
    assert counted in server.call("GET", "/metrics").body.decode()


def test_what_is_promised_and_the_process_are_among_them(start_server: Start, own_repository: Path) -> None:
    samples = start_server(own_repository).metrics()
    of_the_model = (("model", "affine"), ("version", "1"))
    assert samples["ferry_slo_seconds", (of_the_model[0], ("objective", "answer"), of_the_model[1])] > 0
    assert samples["ferry_instances", of_the_model] >= 1
    assert samples["process_resident_memory_bytes", ()] > 1 << 20


def test_metrics_are_answered_under_load(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository)
    port, stop = metrics_port(server), threading.Event()

    def work() -> None:
        connection = server.connect()
        while not stop.is_set():
            call(connection, "POST", "/v2/models/affine/infer", X)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        assert all("ferry_in_flight" in scrape(port) for _ in range(5))
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_metrics_port_that_was_asked_for_and_is_taken_is_an_error(own_repository: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        child = ChildServer(own_repository, tmp_path / "log", "--metrics-port", port)
        child.spawn()
        assert child.process.wait(30) == 1
    assert f"no metrics on port {port}" in child.log
    assert "Traceback" not in child.log


def test_the_usual_metrics_port_being_taken_stops_no_second_server(
    own_repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.one_process.run_web_server", lambda *_: 0)
    monkeypatch.setattr("server.one_process.ScrapeServer", taken)
    assert serve(read_settings({"repository": own_repository}, None)) == 0
    assert "no metrics on port 8002: address in use" in caplog.text
    assert "/metrics on the main port works all the same" in caplog.text
    assert serve(read_settings({"repository": own_repository, "metrics_port": 8002}, None)) == 1
    assert "choose another with --metrics-port" in capsys.readouterr().err


def taken(*_: object) -> None:
    raise OSError(98, "address in use")


def test_the_log_level_changes_while_it_runs(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository)
    before = server.call("GET", "/v2/logging").json
    assert before == {"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0}
    quiet = server.call("POST", "/v2/logging", {"log_info": False})
    assert (quiet.status, quiet.json) == (200, {**before, "log_info": False})
    n_lines = server.log.count("serving, SLO")
    assert server.call("POST", "/v2/repository/models/affine/load").status == 200
    assert server.log.count("serving, SLO") == n_lines
    assert server.call("POST", "/v2/logging", {"log_info": True}).json == before
    assert server.call("POST", "/v2/repository/models/affine/load").status == 200
    wait_until(lambda: server.log.count("serving, SLO") == n_lines + 1, "the line about the load")


def test_log_settings_are_guarded_and_checked(start_server: Start, own_repository: Path) -> None:
    server = start_server(own_repository, FERRY_ADMIN_TOKEN="a-long-secret")
    assert server.call("GET", "/v2/logging").status == 200
    assert server.call("POST", "/v2/logging", {"log_info": False}).status == 401
    right = {"Authorization": "Bearer a-long-secret"}
    for body, status in (({"log_info": 1}, 400), ({"colour": True}, 400), ({"log_file": "x"}, 501), ([], 400)):
        reply = server.call("POST", "/v2/logging", body, right)
        assert (reply.status, bool(reply.error)) == (status, True)
