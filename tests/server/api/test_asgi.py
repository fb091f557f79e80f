"""How a call that failed is answered: in its interface's form, once, and a bug without its details."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import orjson
import pytest

from server.api.asgi import answer_failed
from server.api.errors_http import INTERNAL, Reply, error_reply
from server.api.openai_errors import openai_error
from server.errors import Cancelled, FerryError, NotFound, Refused


def answered(error: Exception, form: Callable[[FerryError], Reply] = error_reply, method: str = "POST") -> list[Any]:
    """The messages that are sent."""
    sent: list[Any] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    asyncio.run(answer_failed(error, form, {"path": "/v2/x", "method": method}, send))
    return sent


@pytest.mark.parametrize(("form", "status"), [(error_reply, 503), (openai_error, 429)])
def test_an_error_is_one_reply_in_the_form_of_its_interface(form: Callable[[FerryError], Reply], status: int) -> None:
    start, body = answered(Refused("too much waits", "queue_full", 1.5), form)
    assert (start["type"], start["status"]) == ("http.response.start", status)
    assert dict(start["headers"])[b"retry-after"] == b"2"
    assert body["type"] == "http.response.body"
    assert "too much waits" in str(orjson.loads(body["body"])["error"])


def test_nobody_is_answered_who_has_gone() -> None:
    assert answered(Cancelled("the client closed the connection")) == []


def test_a_bug_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    start, body = answered(ZeroDivisionError("a secret"))
    assert start["status"] == 500
    assert orjson.loads(body["body"]) == {"error": INTERNAL}
    (record,) = caplog.records
    assert record.getMessage() == "/v2/x failed: a bug in ferry"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ZeroDivisionError)


def test_head_gets_the_headers_alone() -> None:
    start, body = answered(NotFound("no such model"), method="HEAD")
    assert start["status"] == 404
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""
