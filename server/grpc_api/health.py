"""The standard health service: the whole server under "" and the service's own name, each model under its name."""

from __future__ import annotations

import asyncio

from server.errors import FerryError, NotFound
from server.grpc_api.messages import INFERENCE_SERVICE, HealthCheckRequest, HealthCheckResponse
from server.grpc_api.statuses import Context, abort, parse, told
from server.runtime.registry import Registry


class Health:
    """Always what the registry says at that moment; after drain() nothing serves."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Tell everyone NOT_SERVING and end the watches."""
        self._draining.set()

    async def check(self, data: bytes, context: Context) -> bytes | None:
        """Check."""
        reply = await told(self._check(data))
        if isinstance(reply, FerryError):
            await abort(context, reply)
            return None
        return reply

    async def watch(self, data: bytes, context: Context) -> None:
        """Watch: the status now, and again at each change, until the server stops or the client goes."""
        service = await told(self._service(data))
        if isinstance(service, FerryError):
            await abort(context, service)
            return
        draining = asyncio.ensure_future(self._draining.wait())
        sent = ""
        try:
            while not draining.done():
                change = asyncio.ensure_future(self._registry.change())  # from here on: the client may take long to read
                try:
                    status = self._status(service) or "SERVICE_UNKNOWN"
                    if status != sent:
                        await context.write(_pack(status))
                        sent = status
                    await asyncio.wait((change, draining), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    change.cancel()
            await context.write(_pack("NOT_SERVING"))
        finally:
            draining.cancel()

    async def _service(self, data: bytes) -> str:
        service: str = parse(HealthCheckRequest.FromString, data, "HealthCheckRequest").service
        return service

    async def _check(self, data: bytes) -> bytes:
        service = await self._service(data)
        status = self._status(service)
        if status is None:
            raise NotFound(f"no service or model {service!r}; ask for '', {INFERENCE_SERVICE!r} or a model's name")
        return _pack(status)

    def _status(self, service: str) -> str | None:
        """None for a name that is neither the service's nor a model's."""
        registry = self._registry
        if service in ("", INFERENCE_SERVICE):
            serves = registry.ready
        elif any(model.key.name == service for model in registry.served):
            serves = True
        elif service in registry.names():
            serves = False
        else:
            return None
        return "SERVING" if serves and not self._draining.is_set() else "NOT_SERVING"


def _pack(status: str) -> bytes:
    packed: bytes = HealthCheckResponse(status=status).SerializeToString()
    return packed
