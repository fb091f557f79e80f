"""Errors in OpenAI's form: {"error": {message, type, param, code}}, with the headers that its clients obey."""

from __future__ import annotations

import math
from typing import Any

import orjson

from server.errors import BadRequest, BadText, FerryError, MethodNotAllowed, NotFound, Refused, TooLong, Unauthorized


class BadParameter(BadRequest):
    """A field of the request is wrong; `param` is its name."""

    def __init__(self, param: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownModel(NotFound):
    """No model of that name does what is asked."""


def openai_error(error: FerryError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body. A refusal that may pass is 429, which clients take as "later"; `x-should-retry` keeps them from trying
    what cannot succeed."""
    status = 429 if isinstance(error, Refused) and not isinstance(error, TooLong) else error.status
    body = _body(error, status)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    in_vain = isinstance(error, Refused) and error.retry_after_s is None
    if status == 429 or status >= 500:
        headers.append((b"x-should-retry", b"true" if error.retryable and not in_vain else b"false"))
    if error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        headers.append((b"retry-after-ms", b"%d" % max(1, math.ceil(error.retry_after_s * 1e3))))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, body


def _body(error: FerryError, status: int) -> bytes:
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    param, code = None, error.label
    if isinstance(error, BadParameter):
        param, code = error.param, error.code or error.label
    elif isinstance(error, UnknownModel):
        param, code = "model", "model_not_found"
    elif isinstance(error, TooLong):
        code = "context_length_exceeded"
    elif isinstance(error, BadText):
        param = "input"
    elif isinstance(error, Unauthorized):
        code = "invalid_api_key"
    content: dict[str, Any] = {"error": {"message": str(error), "type": kind, "param": param, "code": code}}
    return orjson.dumps(content)


def no_route(path: str) -> FerryError:
    """For a path under /v1 that leads nowhere, or that KServe's first protocol has there."""
    if path.endswith((":predict", ":explain")):
        return NotFound(
            f"{path!r} is KServe's protocol v1, and this server speaks V2: in the kserve client, RESTConfig(protocol='v2')"
        )
    return NotFound(
        f"no route {path!r}; there are POST /v1/chat/completions, /v1/completions and /v1/embeddings, GET /v1/models and /v1/models/NAME"
    )


def wrong_method(path: str, method: str) -> FerryError:
    """For a path that exists, asked with another method."""
    return MethodNotAllowed(f"{path} does not take {method}")
