from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loadtests.errors import BadInput
from loadtests.scenario import names, read
from tests.loadtests.fake_grpc import grpc_server
from tests.loadtests.test_cli import ferry_loadtest


@pytest.mark.parametrize("name", names())
def test_those_that_come_along_are_right(name: str) -> None:
    assert read(name).title


def test_all_that_were_promised_come_along() -> None:
    assert set(names()) == {
        "steady", "burst", "overload", "mixed_lengths", "two_models", "two_slo_classes", "cold_start", "hot_reload", "slow_clients",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("nonsense", "scenario"),
        ("title = 'x'", r"no \[\[traffic\]\]"),
        ("[[traffic]]\nspeed = 1", "unknown key 'speed'"),
        ("[[traffic]]\nfactor = 'x'", "wrong type"),
        ("[[traffic]]\n[[action]]\nwhen = 1", "unknown key 'when'"),
        ("[[traffic]]\n[slow_clients]\nn = 1.5", "wrong type"),
    ],
)
def test_a_wrong_scenario_is_one_clear_error(tmp_path: Path, text: str, match: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(BadInput, match=match):
        read(str(file))


def test_actions_carry_the_token_and_results_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    class Guarded(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200 if seen[-1] == "Bearer s3cret-token" else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    file = tmp_path / "x.toml"
    file.write_text("title = 'x'\nduration_s = 0.5\nbefore = ['/now']\n[[traffic]]\n[[action]]\nat_s = 0.1\npost = '/later'\n")
    with grpc_server() as port, ThreadingHTTPServer(("127.0.0.1", 0), Guarded) as admin:
        threading.Thread(target=admin.serve_forever, daemon=True).start()
        url = ["--url", f"grpc://127.0.0.1:{port}", "--model", "m", "--rate", 30, "--slo", "5s", "--scenario", file]
        flags = [*url, "--admin-url", f"http://127.0.0.1:{admin.server_port}", "--out", tmp_path]
        assert ferry_loadtest(*flags) == 1
        assert "status 401: give --admin-token or set FERRY_ADMIN_TOKEN" in capsys.readouterr().err
        ferry_loadtest(*flags, "--admin-token", "s3cret-token")  # 1 where others kept the generator from its processor: VOID
        assert "written: " in capsys.readouterr().out
        monkeypatch.setenv("FERRY_ADMIN_TOKEN", "s3cret-token")
        ferry_loadtest(*flags)
        assert "written: " in capsys.readouterr().out
        admin.shutdown()
    assert seen == ["", *["Bearer s3cret-token"] * 4]
    written = [one.read_text() for one in tmp_path.iterdir() if one.suffix in (".json", ".html")]
    assert written
    assert not any("s3cret" in one for one in written)


def test_traffic_of_one_model_has_a_line_each(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    lines = ["", "", "name = 'm'", "name = 'nightly'"]
    file.write_text("title = 'x'\nduration_s = 0.5\n" + "".join(f"[[traffic]]\n{one}\n" for one in lines))
    with grpc_server() as port:
        url = ["--url", f"grpc://127.0.0.1:{port}", "--model", "m", "--rate", 30, "--slo", "5s", "--scenario", file]
        assert ferry_loadtest(*url, "--out", tmp_path) == 0
    (written,) = tmp_path.glob("*.json")
    assert list(json.loads(written.read_text())["traffic"]) == ["m", "m (2)", "m (3)", "nightly"]
