"""A stream through a front end: piece by piece, and its end is noticed on both sides."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tokenizers")

from server.fleet.proxy import Proxy, web_address
from tests.child_server import wait_until
from tests.fake_generation import NAME, FakeEngine, FakeModels, FakeServer, InThread, fake_model, nothing_else
from tests.generating import codec

N_TOKENS = 200


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(lambda *_: [1], step_s=0.02)


@pytest.fixture
def front(engine: FakeEngine, tmp_path: Path) -> Iterator[HTTPConnection]:
    behind, before = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))
    behind.bind(str(web_address(tmp_path)))
    behind.listen()
    proxy = Proxy(web_address(tmp_path))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (nothing_else if scope["type"] == "lifespan" else proxy)(scope, receive, send)

    with FakeServer(engine, FakeModels(fake_model()), listener=behind), InThread(app, before):
        connection = HTTPConnection("127.0.0.1", before.getsockname()[1], timeout=30)
        body = {"model": NAME, "prompt": "x", "max_tokens": N_TOKENS, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body))
        yield connection
        connection.close()


def test_a_piece_comes_as_soon_as_it_is_there_and_a_client_that_leaves_is_noticed(
    front: HTTPConnection, engine: FakeEngine
) -> None:
    reply = front.getresponse()
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert b'"text":' in reply.readline()
    assert engine.asked[0].n_told < N_TOKENS, "the answer is not complete by far"
    reply.close()
    front.close()
    wait_until(lambda: engine.n_stopped == 1, "the engine hears of it")
    assert engine.asked[0].n_told < N_TOKENS


def test_a_stream_comes_whole(front: HTTPConnection, engine: FakeEngine) -> None:
    engine.step_s = 0.0005
    reply = front.getresponse().read().decode()
    assert reply.endswith("data: [DONE]\n\n")
    events = [json.loads(event.removeprefix("data: ")) for event in reply.split("\n\n")[:-2]]
    assert "".join(event["choices"][0]["text"] for event in events) == codec().decode([1] * N_TOKENS)
