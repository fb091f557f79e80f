"""Replies as the bytes of an HTTP response."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from server.api.errors_http import Headers, Reply


def response_bytes(reply: Reply, more_headers: Headers) -> bytes:
    """A whole response; `more_headers` go before the reply's own."""
    status, headers, body = reply
    lines = [b"%s: %s\r\n" % header for header in (*more_headers, *headers)]
    return b"".join((STATUS_LINE[status], *lines, b"\r\n", body))


class Responses:
    """Keeps the bytes of the error that was said last: under overload one refusal is said tens of thousands of times a second."""

    def __init__(self) -> None:
        self._reply: Reply | None = None
        self._more_headers: Headers | None = None
        self._bytes = b""

    def encode(self, reply: Reply, more_headers: Headers) -> bytes:
        """Like response_bytes. Neither argument may be changed afterwards; uvicorn makes new headers each second, for the date."""
        if reply is self._reply and more_headers is self._more_headers:
            return self._bytes
        encoded = response_bytes(reply, more_headers)
        if reply[0] >= 400:
            self._reply, self._more_headers, self._bytes = reply, more_headers, encoded
        return encoded
