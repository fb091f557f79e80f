"""Small JSON bodies of requests that control the server, and how the OpenAPI page describes them."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect

from server.errors import BadRequest, Cancelled, TooLarge

MAX_CONTROL_BYTES = 1 << 20


async def json_object(request: Request) -> dict[str, Any]:
    """The body, which may be absent. Raises BadRequest or TooLarge."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_CONTROL_BYTES:
                raise TooLarge(
                    f"the body has more than {MAX_CONTROL_BYTES} bytes; this request needs a small JSON object or none"
                )
    except ClientDisconnect:
        raise Cancelled("the client closed the connection while it sent the body") from None
    if not body:
        return {}
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRequest("the body must be a JSON object")
    return data


def documented(**properties: str) -> dict[str, Any]:
    """For `openapi_extra`: an optional JSON object with these properties and their types."""
    fields = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": fields}
    return {"requestBody": {"required": False, "content": {"application/json": {"schema": schema}}}}
