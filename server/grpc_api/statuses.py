"""Errors on the wire: a FerryError becomes its status, a text of bounded size and, where it may be tried again, when."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from server.api.errors_http import INTERNAL
from server.errors import BadRequest, FerryError

log = logging.getLogger(__name__)

MOST_DETAIL_BYTES = 2000
"""Longer texts are cut: with each byte escaped as three they must fit into what clients take as headers, 8 KiB."""

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]


class Context(Protocol):
    """What is used of the library's context of one call."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata) -> None: ...
    async def read(self) -> Any: ...
    async def write(self, message: bytes) -> None: ...
    def time_remaining(self) -> float | None: ...
    def invocation_metadata(self) -> Any: ...
    def peer(self) -> str: ...


def parse(kind: Callable[[bytes], T], data: bytes, what: str) -> T:
    """`data` read by `kind` (a message's FromString). Raises BadRequest."""
    try:
        return kind(data)
    except DecodeError:
        raise BadRequest(f"the message is not a {what} of the inference protocol") from None


def text_of(error: FerryError) -> str:
    """What the client is told, cut to MOST_DETAIL_BYTES."""
    data = str(error).encode(errors="replace")
    return data.decode() if len(data) <= MOST_DETAIL_BYTES else data[:MOST_DETAIL_BYTES].decode(errors="ignore") + " …"


def retry_metadata(error: FerryError) -> Metadata:
    """`retry-after` in whole seconds, as HTTP has it, and the exact figure under the name that gRPC's own retries obey."""
    if error.retry_after_s is None:
        return ()
    return (
        ("retry-after", str(max(1, math.ceil(error.retry_after_s)))),
        ("grpc-retry-pushback-ms", str(max(1, math.ceil(error.retry_after_s * 1e3)))),
    )


async def told(answer: Awaitable[T]) -> T | FerryError:
    """The result, or the error that the client is to be told. Cancellation passes through."""
    try:
        return await answer
    except FerryError as error:
        return error
    except Exception:  # a client always gets an answer, and one bug must not end the stream of the others
        log.exception("a gRPC call failed: a bug in ferry")
        return FerryError(INTERNAL)


async def abort(context: Context, error: FerryError) -> None:
    """End the call with the error's status; raises what the library wants raised."""
    await context.abort(grpc.StatusCode[error.grpc_status], text_of(error), retry_metadata(error))
