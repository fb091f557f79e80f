"""Events and decisions as plain lists that JSON can hold, without payloads; docs/flight-recorder.md has the format."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, assert_never

from server.contract.profile import Profile
from server.core.costs import CostTable
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Open,
    Refuse,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.types import Batch, InferRequest, Limits, Mixing, ModelKey

LONGEST_TEXT = 256
"""Characters of an error's text, or of a client's name for a request, that are kept."""

Facts = list[Any] | tuple[Any, ...]


def event_facts(event: Event[Any]) -> Facts:
    """The kind of event and what it holds."""
    if isinstance(event, Submit):  # the two that come all the time; a pattern would take twice as long
        requests = [(r.id, r.rows, r.length, r.arrived_at, r.deadline_at, r.priority) for r in event.requests]
        return "submit", tuple(event.model), requests
    if isinstance(event, StepDone):
        return "step_done", event.batch.id, event.began_at
    match event:
        case Wake():
            return ("wake",)
        case Cancel(request):
            return "cancel", tuple(request.model), request_facts(request)
        case StepFailed(batch, detail):
            return "step_failed", batch.id, plain(detail)
        case InstanceUp(model):
            return "instance_up", tuple(model)
        case InstanceLost(model, lost, detail):
            return "instance_lost", tuple(model), None if lost is None else lost.id, plain(detail)
        case Drain(model):
            return "drain", tuple(model)
        case Open(model, limits, mixing, costs, device):
            return "open", tuple(model), tuple(limits), mixing.value, costs_facts(costs), device
        case _:
            assert_never(event)


def action_facts(action: Action[Any]) -> Facts:
    """The kind of decision and what it says."""
    if isinstance(action, Run):
        batch = action.batch
        return "run", batch.id, [request.id for request in batch.requests], batch.rows, batch.length, batch.close.value
    if isinstance(action, Answer):
        whole = len(action.requests) == len(action.batch.requests)
        return "answer", action.batch.id, None if whole else [request.id for request in action.requests]
    match action:
        case Refuse(request, why, retry_after_s):
            return "refuse", request.id, why.value, retry_after_s
        case Fail(request, why, detail):
            return "fail", request.id, why.value, plain(detail)
        case Closed(model):
            return "closed", tuple(model)
        case _:
            assert_never(action)


def request_facts(request: InferRequest[Any]) -> Facts:
    """Everything about a request but its model and its payload."""
    return request.id, request.rows, request.length, request.arrived_at, request.deadline_at, request.priority


def costs_facts(costs: CostTable) -> dict[str, Any]:
    """What the table was made from."""
    return {"max_rows": costs.max_rows, "profile": costs.profile.to_json()}


def plain(text: str) -> str:
    """Cut to what is kept, without halves of characters that UTF-8 cannot hold."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")


def read_model(facts: Facts) -> ModelKey:
    return ModelKey(*facts)


def read_request(model: ModelKey, facts: Facts) -> InferRequest[None]:
    number, rows, length, arrived_at, deadline_at, priority = facts
    return InferRequest(number, model, rows, length, arrived_at, deadline_at, None, priority)


def read_costs(facts: dict[str, Any]) -> CostTable:
    """Raises ContractError for a profile that is none."""
    return CostTable(Profile.from_json(facts["profile"], "profile"), facts["max_rows"])


class Known:
    """The requests and batches that a recording has spoken of and that have no outcome yet: later events name their numbers."""

    def __init__(self) -> None:
        self.requests: dict[int, InferRequest[None]] = {}
        self.batches: dict[int, Batch[None]] = {}

    def event(self, facts: Facts) -> Event[None]:
        """The event that has these facts. Raises KeyError, TypeError or ValueError when there is none."""
        match facts:
            case ["submit", model, requests]:
                key = read_model(model)
                return Submit(key, tuple(read_request(key, one) for one in requests))
            case ["step_done", batch, began_at]:
                return StepDone(self.batches[batch], began_at)
            case ["wake"]:
                return Wake()
            case ["cancel", model, request]:
                return Cancel(self.requests.get(request[0]) or read_request(read_model(model), request))
            case ["step_failed", batch, detail]:
                return StepFailed(self.batches[batch], detail)
            case ["instance_up", model]:
                return InstanceUp(read_model(model))
            case ["instance_lost", model, batch, detail]:
                return InstanceLost(read_model(model), None if batch is None else self.batches[batch], detail)
            case ["drain", model]:
                return Drain(read_model(model))
            case ["open", model, limits, mixing, costs, device]:
                return Open(read_model(model), Limits(*limits), Mixing(mixing), read_costs(costs), device)
        raise ValueError(f"{facts[0]!r} with {len(facts) - 1} values is no event that this ferry knows")

    def note(self, event: Event[None], actions: Iterable[Action[None]]) -> None:
        """Remember what later events may name, and forget what none will."""
        if isinstance(event, Submit):
            self.requests.update((request.id, request) for request in event.requests)
        elif isinstance(event, StepDone | StepFailed | InstanceLost) and event.batch is not None:
            del self.batches[event.batch.id]
        for action in actions:
            if isinstance(action, Run):
                self.batches[action.batch.id] = action.batch
            elif isinstance(action, Answer):
                for request in action.batch.requests:  # some may have been cancelled
                    self.requests.pop(request.id, None)
            elif isinstance(action, Refuse | Fail):
                self.requests.pop(action.request.id, None)
