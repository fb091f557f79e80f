"""The payload that travels through the scheduler with a request, unseen by it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.backends.base import Array
from server.runtime.assemble import Inputs


@dataclass(slots=True, eq=False)
class Work:
    """A request's arrays, and the future of its outputs (arrays [rows, …] in output order)."""

    inputs: Inputs
    answer: asyncio.Future[list[Array]]
