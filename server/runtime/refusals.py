"""What clients are told who get no answer, and when it is too late for one. Each refusal names the limit that was hit and what to change."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

from server.core.types import Failure, ModelKey, Refusal
from server.errors import FerryError, InstanceLost, ModelFailed, Refused
from server.runtime.serving import ServingModel
from server.runtime.work import WorkRequest

if TYPE_CHECKING:  # a front end in a process of its own has neither
    from server.runtime.served import ServedModel
    from server.runtime.text_stage import TextRequest

REPLY_S = 0.0005
"""Taken off every deadline: encoding the answer and writing it to the socket."""


MOST_KNOWN = 4096


class KnownRefusals:
    """Under overload the same is said tens of thousands of times a second: it is put into words once."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Refused] = {}

    def find(self, key: Hashable) -> Refused | None:
        """What was kept under a key: the model, and whatever else its words depend on."""
        return self._known.get(key)

    def keep(self, key: Hashable, refused: Refused) -> Refused:
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key] = refused
        return refused


def read_too_late(model: ServingModel, waited_s: float, late_s: float, priority: int = 0) -> Refused:
    """The refusal of a request that was too late already when it was read."""
    message = (
        f"the request waited {waited_s * 1e3:.0f} ms until the server could read it, too long for model {model.key} to answer "
        f"within its {model.classes.of(priority).slo_s * 1e3:g} ms; send fewer requests, or raise the model's SLO"
    )
    return Refused(message, Refusal.DEADLINE.value, late_s)


def shed(model: ServingModel, share: float, retry_after_s: float) -> Refused:
    """The refusal of one of many that come faster than they can be answered."""
    message = (
        f"requests come faster than this server can take them on: {share:.0%} of them are refused, so that the others are answered "
        f"within the {model.slo_s * 1e3:g} ms of model {model.key}; send fewer requests, or send them to more servers"
    )
    return Refused(message, Refusal.OVERLOAD.value, retry_after_s)


def refused(
    model: ServedModel | None, request: WorkRequest | TextRequest, why: Refusal, retry_after_s: float | None
) -> Refused:
    return refusal(model, request.model, request.payload.allowed_s, why, retry_after_s)


def refusal(model: ServedModel | None, key: ModelKey, allowed_s: float, why: Refusal, retry_after_s: float | None) -> Refused:
    if model is None or why is Refusal.DRAINING:
        return Refused(f"model {key} is being unloaded; ask for another version", why.value, None)
    if why is Refusal.QUEUE_FULL:
        message = f"model {key} has {model.limits.queue_rows} rows waiting, which is its limit; send fewer requests"
    else:
        late = f"model {key} would answer later than the {allowed_s * 1e3:g} ms allowed by"
        if allowed_s == model.slo_s or any(one.slo_s == allowed_s for one in model.classes.all):
            message = f"{late} its SLO; send fewer requests, raise the SLO, or add instances"
        else:
            message = f"{late} the request's timeout; send fewer requests, or allow more time"
    return Refused(message, why.value, retry_after_s)


def failure(request: WorkRequest, why: Failure, detail: str) -> FerryError:
    if why is Failure.INSTANCE_LOST:
        return InstanceLost(f"an instance of model {request.model} died while it ran this request; try again")
    return ModelFailed(f"model {request.model} failed on this request: {detail}")
