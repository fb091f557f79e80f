"""What the headers of a call say that has its own JSON body: OpenAI's routes, and Triton's that generate."""

from __future__ import annotations

from typing import NamedTuple

from server.api.clients import Clients
from server.api.infer_head import IDENTITY, Scope
from server.api.request_body import check_length
from server.api.terms import PRIORITY, TIMEOUT, HeadTerms, read_head_terms

NAMES = (b"x-request-id", b"x-client-request-id")
"""Headers by which a client or a proxy before us names a request."""


class CallHead(NamedTuple):
    """`name` is "" where none is given."""

    encoding: bytes
    terms: HeadTerms
    name: str


def read_call_head(scope: Scope, max_body_bytes: int, clients: Clients | None = None) -> CallHead:
    """The encoding of the body, and what is said of time and class. Who asks is known too, where there are `clients`: by the headers, else
    by the connection. Raises BadRequest or TooLarge."""
    encoding, timeout, priority, name = IDENTITY, b"", b"", b""
    for header, value in scope["headers"]:
        if header == b"content-length":
            check_length(value, max_body_bytes)
        elif header == b"content-encoding" and value:
            encoding = value.lower()
        elif header == TIMEOUT:
            timeout = value
        elif header == PRIORITY:
            priority = value
        elif header in NAMES and not name:
            name = value
    client = clients.known(clients.by_headers(scope["headers"]), scope.get("client")) if clients is not None else 0
    return CallHead(encoding, read_head_terms(timeout, priority, client), name.decode("latin-1"))
