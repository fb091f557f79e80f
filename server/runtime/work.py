"""The payload that travels through the scheduler with a request, unseen by it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.backends.base import Array
from server.runtime.assemble import Inputs


@dataclass(slots=True, eq=False)
class Work:
    """A request's arrays, the future of its outputs (arrays [rows, …] in output order), and the seconds it may take in all.
    `answered_at`: when the outputs were there, in absolute seconds."""

    inputs: Inputs
    answer: asyncio.Future[list[Array]]
    allowed_s: float
    answered_at: float = 0.0
