"""Who may change the server."""

from __future__ import annotations

from typing import Any

import pytest

from server.api.guard import Guard, is_loopback
from server.errors import Unauthorized, Unsupported


class Request:
    def __init__(self, authorization: str | None = None, **headers: str) -> None:
        self.headers = headers if authorization is None else {"authorization": authorization}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert is_loopback(host)
    guard: Any = Guard(None, host)
    guard(Request())
    assert "loopback" in guard.state


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_elsewhere_there_is_no_admin_api_without_a_token(host: str) -> None:
    assert not is_loopback(host)
    guard: Any = Guard(None, host)
    with pytest.raises(Unsupported, match="no admin token"):
        guard(Request())
    with pytest.raises(Unsupported):
        guard(Request("Bearer anything"))
    assert guard.state.startswith("off")


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "secret-token", "Bearer secret-toke", "Bearer sécret"])
def test_with_a_token_only_that_token_opens(host: str, given: str | None) -> None:
    guard: Any = Guard("secret-token", host)
    with pytest.raises(Unauthorized, match="Authorization: Bearer"):
        guard(Request(given))
    guard(Request("Bearer secret-token"))
    assert "secret" not in guard.state


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000"},
        {"host": "localhost:8000", "origin": "http://localhost:8000"},
        {"host": "[::1]:8000", "origin": "http://[::1]:8000"},
    ],
)
def test_without_a_token_own_pages_are_let_in(headers: dict[str, str]) -> None:
    guard: Any = Guard(None, "127.0.0.1")
    guard(Request(None, **headers))


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:8000", "origin": "https://example.org"},
        {"host": "127.0.0.1:8000", "origin": "null"},
        {"host": "rebound.example.org:8000"},
        {"host": "127.0.0.1.example.org"},
        {"host": "[::1"},
        {"host": "]["},
        {"host": "127.0.0.1", "origin": "http://[::1"},
        {"host": "127.0.0.1", "origin": "http://[v.x]"},
    ],
)
def test_without_a_token_pages_from_elsewhere_are_kept_out(headers: dict[str, str]) -> None:
    guard: Any = Guard(None, "127.0.0.1")
    with pytest.raises(Unauthorized, match="must be this machine's own"):
        guard(Request(None, **headers))
