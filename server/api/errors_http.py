"""Errors on the wire: always {"error": "<text>"} with exactly application/json, whatever went wrong."""

from __future__ import annotations

import math
from typing import Any

import orjson

from server.errors import FerryError, Unauthorized, UnknownEncoding

Headers = list[tuple[bytes, bytes]]
Reply = tuple[int, Headers, bytes]
"""Status, headers and body."""

INTERNAL = "internal error; the server's log has the details"


def error_reply(error: FerryError) -> Reply:
    """Retry-After is in whole seconds, as HTTP wants; the exact figure is in milliseconds beside it."""
    body = error_body(str(error))
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(error.retry_after_s * 1e3))))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, UnknownEncoding):
        headers.append((b"accept-encoding", b"gzip, deflate"))
    return error.status, headers, body


def error_body(text: str) -> bytes:
    content: dict[str, Any] = {"error": text}
    return orjson.dumps(content)
