"""The composition root in-process: what happens when something unforeseen goes wrong."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from server.app import Ferry
from server.backends.nvidia import Card, CardReading
from server.contract.accelerator import Accelerator
from server.settings import read_settings


async def request(ferry: Ferry, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await ferry({**scope, "raw_path": path.encode(), "root_path": "", "scheme": "http"}, receive, send)
    assert dict(sent[0]["headers"])[b"content-type"] == b"application/json"
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def run(repository: Path, scenario: Any) -> None:
    async def main() -> None:
        ferry = Ferry(read_settings({"repository": repository, "grpc_port": "off"}, None))
        incoming, started, stop = [{"type": "lifespan.startup"}], asyncio.Event(), asyncio.Event()

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await stop.wait()
            return {"type": "lifespan.shutdown"}

        async def send(_: Any) -> None:
            started.set()

        life = asyncio.create_task(ferry({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send))
        await asyncio.wait_for(started.wait(), 30)
        await scenario(ferry)
        stop.set()
        await asyncio.wait_for(life, 30)

    asyncio.run(main())


def test_a_bug_in_the_infer_path_is_logged_and_told_without_its_details(
    own_repository: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.api.v2_request.RequestDecoder.decode", lambda *_: 1 / 0)

    async def scenario(ferry: Ferry) -> None:
        status, body = await request(ferry, "POST", "/v2/models/affine/infer", b"{}")
        assert (status, set(body)) == (500, {"error"})
        assert "division" not in body["error"]

    with caplog.at_level(logging.ERROR):
        run(own_repository, scenario)
    assert "ZeroDivisionError" in caplog.text


def test_an_empty_repository_serves_and_says_what_it_has(tmp_path: Path) -> None:
    async def scenario(ferry: Ferry) -> None:
        assert await request(ferry, "GET", "/v2/health/ready") == (200, {"ready": True, "live": True})
        status, body = await request(ferry, "POST", "/v2/models/any/infer", b"{}")
        assert (status, body["error"]) == (404, "unknown model 'any'; this server has none")
        assert await request(ferry, "GET", "/v2/models") == (200, {"models": []})

    run(tmp_path, scenario)


def test_what_killed_publishers_left_is_swept_at_start(own_repository: Path) -> None:
    abandoned = own_repository / ".staging" / "tmpabandoned"
    abandoned.mkdir(parents=True)
    (abandoned / "upload").write_bytes(b"half")

    async def scenario(ferry: Ferry) -> None:
        assert (await request(ferry, "GET", "/v2/models"))[1] == {"models": ["affine"]}

    run(own_repository, scenario)
    assert not abandoned.exists()


NOW = CardReading("A card", "GPU-7", 0.4, 3, 80, 312.5, 700.0)
CARD = Card(Accelerator("A card", "9.0", "580.2", "13.1"), 80, "0000:17:00.0")


class Reader:
    """A card that somebody reads."""

    n_open = 1

    def read(self) -> CardReading:
        assert self.n_open
        return NOW

    def close(self) -> None:
        self.n_open -= 1


@pytest.mark.parametrize("there", [True, False])
def test_a_cards_metrics_are_exported_while_the_server_runs(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader()
    monkeypatch.setattr("server.app.find_card", lambda: CARD if there else None)
    monkeypatch.setattr("server.app.open_reader", lambda card: reader)
    labels = {"gpu_uuid": "GPU-7"}
    seen: list[Ferry] = []

    async def scenario(ferry: Ferry) -> None:
        assert ferry.metrics.registry.get_sample_value("nv_gpu_power_usage", labels) == (312.5 if there else None)
        seen.append(ferry)

    run(tmp_path, scenario)
    assert reader.n_open == (0 if there else 1)
    assert seen[0].metrics.registry.get_sample_value("nv_gpu_power_usage", labels) is None


def test_a_driver_that_does_not_tell_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.app.find_card", lambda: CARD)
    monkeypatch.setattr("server.app.open_reader", lambda card: "the NVIDIA driver does not answer: gone")

    async def scenario(_: Ferry) -> None:
        assert "no metrics of the card: the NVIDIA driver does not answer: gone" in caplog.text

    run(tmp_path, scenario)
