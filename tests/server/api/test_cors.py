"""Which pages may call what from a browser."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from server.api.asgi import App, Send
from server.api.cors import with_cors
from server.api.disconnects import Receive
from server.api.infer_head import Scope
from tests.child_server import ChildServer

PAGE = "https://chat.example"


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"bare"})


def asked(app: App, path: str, method: str = "POST", origin: str = PAGE) -> tuple[int, dict[str, str]]:
    sent: list[MutableMapping[str, Any]] = []
    headers = [(b"origin", origin.encode())]
    if method == "OPTIONS":
        headers += [
            (b"access-control-request-method", b"POST"),
            (b"access-control-request-headers", b"authorization,x-stainless-os"),
        ]

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(_call(app, {"type": "http", "method": method, "path": path, "headers": headers}, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def _call(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def test_without_origins_the_application_stays_as_it_is() -> None:
    assert with_cors(bare, "") is bare
    assert with_cors(bare, " ") is bare


def test_a_browser_may_ask_first_and_then_read_the_answer() -> None:
    app = with_cors(bare, f"https://other.example, {PAGE}")
    status, headers = asked(app, "/v1/chat/completions", "OPTIONS")
    assert status == 200
    assert headers["access-control-allow-origin"] == PAGE
    assert "x-stainless-os" in headers["access-control-allow-headers"]
    status, headers = asked(app, "/v1/chat/completions")
    assert (status, headers["access-control-allow-origin"]) == (200, PAGE)
    assert "retry-after-ms" in headers["access-control-expose-headers"]


def test_any_page_may_where_that_is_said() -> None:
    _, headers = asked(with_cors(bare, "*"), "/v1/models", "GET")
    assert headers["access-control-allow-origin"] == "*"


def test_other_pages_may_not() -> None:
    app = with_cors(bare, PAGE)
    assert (asked(app, "/v1/models", "OPTIONS", "https://bad.example"))[0] == 400
    assert "access-control-allow-origin" not in (asked(app, "/v1/models", "GET", "https://bad.example"))[1]


@pytest.mark.parametrize("path", ["/admin/models/m/versions", "/v2/models/m/infer", "/metrics", "/v10/x"])
def test_nothing_but_v1_is_opened(path: str) -> None:
    assert asked(with_cors(bare, "*"), path) == (200, {})


@pytest.mark.parametrize("more", [(), ("--frontends", "1")], ids=["one process", "front ends"])
def test_a_served_model_can_be_asked_from_a_page(more: tuple[str, ...], tiny_repository: Path, tmp_path: Path) -> None:
    with ChildServer(tiny_repository, tmp_path / "log", "--cors-origins", PAGE, *more) as server:
        reply = server.call("GET", "/v1/models", headers={"Origin": PAGE})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, PAGE)
        asks = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        assert server.call("OPTIONS", "/v1/embeddings", headers=asks).status == 200
        assert "access-control-allow-origin" not in server.call("GET", "/v2", headers={"Origin": PAGE}).headers
