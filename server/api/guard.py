"""Who may change the server: the holder of the token; without one configured, only who is on this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import Request

from server.errors import Unauthorized, Unsupported


class Guard:
    """A FastAPI dependency that raises Unauthorized, or Unsupported where the API does not exist."""

    def __init__(self, token: str | None, host: str) -> None:
        self._token = token
        self._is_loopback = is_loopback(host)

    @property
    def state(self) -> str:
        """For the log at start."""
        if self._token:
            return "on, with token"
        if self._is_loopback:
            return "on without a token, because the server is bound to loopback"
        return "off: set an admin token (FERRY_ADMIN_TOKEN) to have it on an address that others can reach"

    def __call__(self, request: Request) -> None:
        self.check(request.headers.get("authorization", ""))
        if self._token is None:
            _check_not_a_foreign_page(request.headers)

    def check(self, given: str) -> None:
        """`given`: the authorization that the client sent, in whatever protocol."""
        if self._token is None:
            if not self._is_loopback:
                raise Unsupported("the admin API is off: this server has no admin token and is not bound to loopback")
            return
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            raise Unauthorized("the admin token is missing or wrong; send the header Authorization: Bearer TOKEN")


def _check_not_a_foreign_page(headers: Mapping[str, str]) -> None:
    """A web page from elsewhere, open in a browser on this machine, reaches loopback too: it betrays itself by its
    Origin, or, where its name was made to point here, by the Host it asked for."""
    for name in ("host", "origin"):
        value = headers.get(name, "")
        if value and not is_loopback(_host_of(value)):
            raise Unauthorized(f"without an admin token, {name.title()} must be this machine's own, found {value!r}")


def _host_of(value: str) -> str:
    """The host in a Host or Origin header; "" where there is none."""
    try:
        return urlsplit(value if "//" in value else f"//{value}").hostname or ""
    except ValueError:  # what looks like an IPv6 address and is none
        return ""


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, ::1 and localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
