"""The keys' check of every gRPC call but those that tell whether something is up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from server.api.keys import Keys
from server.errors import Unauthorized
from server.grpc_api.messages import INFERENCE_SERVICE
from server.grpc_api.statuses import Context, abort

OPEN = ("ServerLive", "ServerReady", "ModelReady")


class KeyCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # the library has no types
    """Calls with one of `keys` go on; the others end before their message is read."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def intercept_service(self, go_on: Callable[[Any], Awaitable[Any]], call: Any) -> Any:
        """Satisfies the library's interceptor."""
        handler = await go_on(call)
        if handler is None:  # no such method: that is what it is told
            return None
        _, service, method = call.method.split("/")
        if service != INFERENCE_SERVICE or method in OPEN:
            return handler
        try:
            self._keys.check([(name.encode(), _bytes(value)) for name, value in call.invocation_metadata or ()])
        except Unauthorized as error:
            return _refusal(error, is_stream=handler.response_streaming)
        return handler


def _refusal(error: Unauthorized, is_stream: bool) -> Any:
    async def refuse(_: Any, context: Context) -> None:
        await abort(context, error)

    return (grpc.stream_stream_rpc_method_handler if is_stream else grpc.unary_unary_rpc_method_handler)(refuse)


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin-1", errors="replace")
