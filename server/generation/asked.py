"""The payload that travels through the scheduler with a generating request, unseen by it."""

from __future__ import annotations

from dataclasses import dataclass

from server.backends.base import Array
from server.core.types import GenerateRequest
from server.generation.options import Sampling, TokenSink


@dataclass(slots=True, eq=False)
class Asked:
    """Token ids of the prompt (int64), how tokens are chosen, who is told, and the seconds until the first token that are allowed.

    `is_over`: nobody is to be told anything any more. `token_at`: when it got its last token; None: it has none. `n_known`: tokens of
    its prompt that a slot kept from requests before.
    """

    ids: Array
    sampling: Sampling
    sink: TokenSink
    allowed_s: float
    is_over: bool = False
    token_at: float | None = None
    n_known: int = 0


Asking = GenerateRequest[Asked]
