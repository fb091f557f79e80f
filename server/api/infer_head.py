"""What the head of an infer request says: which model, and how its body is to be read."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, NamedTuple

from server.api.clients import Clients
from server.api.compression import too_large
from server.api.terms import PRIORITY, TIMEOUT, HeadTerms, read_head_terms
from server.errors import BadRequest, MethodNotAllowed, NotFound

Scope = MutableMapping[str, Any]

Body = bytes | memoryview
"""The whole body of a request. A memoryview is of bytes."""

IDENTITY = b"identity"

_MOST_DIGITS = 18


class InferHead(NamedTuple):
    """`version` is None for the one that serves by default, `header_length` (of the JSON part) None when all of the body is JSON,
    `content_length` None when the body comes in chunks, and `terms` None when the head gives none and nobody asks who the
    client is."""

    name: str
    version: str | None
    content_length: int | None
    header_length: int | None
    encoding: bytes
    terms: HeadTerms | None = None


def is_infer_path(path: str) -> bool:
    return path.endswith("/infer") and path.startswith("/v2/models/")


def read_head(scope: Scope, max_body_bytes: int, clients: Clients | None = None) -> InferHead:
    """The head of a request to an infer path; `clients` tells who asks. Raises NotFound, MethodNotAllowed, BadRequest or
    TooLarge."""
    name, version = _route(scope)
    content_length = header_length = None
    encoding = IDENTITY
    timeout = priority = b""
    for header, value in scope["headers"]:
        if header == b"content-length":
            content_length = int(value)  # a number: the HTTP parser has seen to that
            if content_length > max_body_bytes:
                raise too_large("has more", max_body_bytes)
        elif header == b"inference-header-content-length":
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                raise BadRequest(f"Inference-Header-Content-Length must be a number, found {value.decode('latin-1')!r}")
            header_length = int(value)
        elif header == b"content-encoding" and value:
            encoding = value.lower()
        elif header == PRIORITY:
            priority = value
        elif header == TIMEOUT:
            timeout = value
    terms = None
    if timeout or priority or clients is not None:
        terms = read_head_terms(timeout, priority, clients.by_headers(scope["headers"]) if clients is not None else 0)
    return InferHead(name, version, content_length, header_length, encoding, terms)


def _route(scope: Scope) -> tuple[str, str | None]:
    parts = scope["path"].split("/")
    if len(parts) == 5:  # "", v2, models, NAME, infer
        name, version = parts[3], None
    elif len(parts) == 7 and parts[4] == "versions":
        name, version = parts[3], parts[5]
    else:
        raise NotFound(f"no route {scope['path']!r}; infer is POST /v2/models/NAME[/versions/N]/infer")
    if scope["method"] != "POST":
        raise MethodNotAllowed(f"{scope['path']} takes POST, not {scope['method']}")
    return name, version
