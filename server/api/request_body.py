"""The body of a request on the raw ASGI paths: bounded while it comes in, unpacked, whole."""

from __future__ import annotations

from server.api.compression import too_large, unpack_body
from server.api.disconnects import Receive
from server.api.infer_head import IDENTITY
from server.errors import Cancelled


def check_length(value: bytes, most_bytes: int) -> None:
    """Refuse a body by its Content-Length, before any of it is read. Raises TooLarge."""
    if int(value) > most_bytes:  # a number: the HTTP parser has seen to that
        raise too_large("has more", most_bytes)


async def read_body(receive: Receive, encoding: bytes, most_bytes: int) -> bytes:
    """The whole body, decoded. Raises TooLarge as soon as the limit is passed, without reading the rest, and Cancelled when the
    client goes away meanwhile."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= most_bytes:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise Cancelled("the client closed the connection while it sent the body")
    if len(body) > most_bytes:
        raise too_large("has more", most_bytes)
    return body if encoding == IDENTITY else unpack_body(body, encoding, most_bytes)
