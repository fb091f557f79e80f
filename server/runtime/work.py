"""The payload that travels through the scheduler with a request, unseen by it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from server.backends.base import Array
from server.core.types import InferRequest
from server.errors import FerryError
from server.runtime.assemble import Inputs


class Answer(Protocol):
    """Where a request's one outcome goes: a future, or whatever stands for a client elsewhere."""

    def done(self) -> bool:
        """Whether nobody waits for an outcome any more."""

    def set_result(self, outputs: list[Array], /) -> None:
        """Arrays [rows, …] in output order."""

    def set_exception(self, error: FerryError, /) -> None:
        """Refused, failed or cancelled."""


A = TypeVar("A", bound=Answer)


@dataclass(slots=True, eq=False)
class Work(Generic[A]):
    """A request's arrays, where its outputs (arrays [rows, …] in output order) go, and the seconds it may take in all.
    `answered_at`: when the outputs were there, in absolute seconds."""

    inputs: Inputs
    answer: A
    allowed_s: float
    answered_at: float = 0.0


WorkRequest = InferRequest[Work[asyncio.Future[list[Array]]]]
"""A request whose outcome can be awaited."""

AnyRequest = InferRequest[Work[Any]]
