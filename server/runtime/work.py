"""The payload that travels through the scheduler with a request, unseen by it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.backends.base import Array
from server.runtime.assemble import Inputs


@dataclass(slots=True, eq=False)
class Work:
    """A request's arrays, the future of its outputs (arrays [rows, …] in output order), and the seconds it may take in all.
    `prepared_s`: how long after the request's arrival its arrays were there, where they had to be made from text.
    `answered_at`: when the outputs were there, in absolute seconds."""

    inputs: Inputs
    answer: asyncio.Future[list[Array]]
    allowed_s: float
    prepared_s: float = 0.0
    answered_at: float = 0.0
