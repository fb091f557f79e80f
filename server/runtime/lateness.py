"""What makes an answer late besides the queue and the model: the wait to be read, and the answer's own encoding."""

from __future__ import annotations

from server.core.types import Refusal
from server.errors import Refused
from server.runtime.serving import ServingModel

REPLY_S = 0.0005
"""Taken off every deadline: encoding the answer and writing it to the socket."""


def read_too_late(model: ServingModel, waited_s: float, late_s: float) -> Refused:
    """The refusal of a request that was too late already when it was read."""
    message = (
        f"the request waited {waited_s * 1e3:.0f} ms until the server could read it, too long for model {model.key} to answer "
        f"within its {model.slo_s * 1e3:g} ms; send fewer requests, or raise the model's SLO"
    )
    return Refused(message, Refusal.DEADLINE.value, late_s)
