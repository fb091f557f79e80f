"""What clients are told who get no answer, and when it is too late for one. Each refusal names the limit that was hit and what to change."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from server.core.types import Failure, InferRequest, ModelKey, Refusal
from server.errors import FerryError, InstanceLost, ModelFailed, Refused, TooLong
from server.generation.asked import Asking
from server.runtime.serving import ServingModel
from server.runtime.work import WorkRequest

if TYPE_CHECKING:  # a front end in a process of its own has neither
    from server.runtime.served import ServedModel
    from server.runtime.served_decoder import ServedDecoder
    from server.runtime.text_stage import TextRequest

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


def refused_generating(model: ServedDecoder | None, request: Asking, why: Refusal, retry_after_s: float | None) -> Refused:
    """The refusal of a request that generates; its SLO is that of the first token. TooLong where trying again is pointless."""
    if model is None or why is Refusal.DRAINING:
        return refusal(None, request.model, request.payload.allowed_s, Refusal.DRAINING, None)
    if why is Refusal.QUEUE_FULL:
        message = f"model {model.key} has {model.limits.queue} requests waiting, which is its limit; send fewer requests"
        return Refused(message, why.value, retry_after_s)
    if why is Refusal.TOO_LONG:
        return TooLong(_too_long(model, request), why.value, None)
    allowed_s = request.payload.allowed_s
    by = "its SLO" if any(one.slo_s == allowed_s for one in model.classes.all) else "the request's timeout"
    alone_s = model.terms.costs.prefill_s(request.length)
    if alone_s > allowed_s:
        message = (
            f"the prompt's {request.length} tokens take model {model.key} {alone_s * 1e3:.4g} ms even alone, more than the "
            f"{allowed_s * 1e3:g} ms until the first token that {by} allows; shorten the prompt, or allow more time"
        )
        return TooLong(message, why.value, None)
    message = (
        f"model {model.key} would give its first token later than the {allowed_s * 1e3:g} ms that {by} allows; send fewer requests, "
        "allow more time, or add instances"
    )
    return Refused(message, why.value, retry_after_s)


def _too_long(model: ServedDecoder, request: Asking) -> str:
    asked = f"the prompt's {request.length} tokens and {request.new_tokens} new ones are {request.room}"
    longest = min(model.limits.longest, model.limits.room)
    if request.room > longest:
        return f"{asked}, but model {model.key} takes {longest} in all; shorten the prompt, or ask for fewer new tokens"
    return (
        f"{asked}: with so many, model {model.key} cannot give a token each {model.gap_s * 1e3:g} ms, as it promises; shorten the "
        "prompt, ask for fewer new tokens, or raise gap in model.toml"
    )


def failure(request: InferRequest[Any], why: Failure, detail: str) -> FerryError:
    if why is Failure.INSTANCE_LOST:
        return InstanceLost(f"an instance of model {request.model} died while it ran this request; try again")
    return ModelFailed(f"model {request.model} failed on this request: {detail}")
