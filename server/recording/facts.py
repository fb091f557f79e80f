"""Events and decisions as plain lists that JSON can hold, without payloads; docs/flight-recorder.md has the format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, assert_never

from server.contract.profile import Profile
from server.contract.profiles import Profiles
from server.core.costs import CostTable, LinearSteps, StepCosts, Unmeasured
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Closed,
    Drain,
    Emit,
    Event,
    Fail,
    InstanceLost,
    InstanceUp,
    Iterate,
    IterationDone,
    IterationFailed,
    Open,
    OpenResident,
    Recost,
    Refuse,
    Release,
    Run,
    StepDone,
    StepFailed,
    Submit,
    Wake,
)  # fmt: skip
from server.core.sketch import Drawn
from server.core.step_costs import StepTable
from server.core.types import GenerateRequest, InferRequest

LONGEST_TEXT = 256
"""Characters of an error's text, or of a client's name for a request, that are kept."""

Facts = list[Any] | tuple[Any, ...]

Costs = CostTable | Unmeasured | StepCosts


def event_facts(event: Event[Any]) -> Facts:
    """The kind of event and what it holds."""
    if isinstance(event, Submit):  # the two that come all the time; a pattern would take twice as long
        if event.requests and type(event.requests[0]) is GenerateRequest:  # those of one model are all of one kind
            return "submit", tuple(event.model), [request_facts(request) for request in event.requests]
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
        case IterationDone(iteration, ended, began_at, known):
            facts = "iteration_done", iteration.id, _ids(ended), began_at
            return (*facts, list(known.items())) if known else facts
        case IterationFailed(iteration, detail):
            return "iteration_failed", iteration.id, plain(detail)
        case Open() | OpenResident() | Recost() | InstanceUp() | InstanceLost() | Drain():
            return _change_facts(event)
        case _:
            assert_never(event)


def _change_facts(event: Open | OpenResident | Recost | InstanceUp | InstanceLost[Any] | Drain) -> Facts:
    match event:
        case InstanceUp(model, instance):
            return "instance_up", tuple(model), instance
        case InstanceLost(model, lost, detail, instance):
            return "instance_lost", tuple(model), None if lost is None else lost.id, plain(detail), instance
        case Drain(model):
            return "drain", tuple(model)
        case Open(model, limits, mixing, costs, device):
            return "open", tuple(model), tuple(limits), mixing.value, costs_facts(costs), device
        case OpenResident(model, room, steps, device):
            return "open_resident", tuple(model), tuple(room), costs_facts(steps), device
        case Recost(model, limits, costs):
            return "recost", tuple(model), tuple(limits), costs_facts(costs)
        case _:
            assert_never(event)


def action_facts(action: Action[Any]) -> Facts:
    """The kind of decision and what it says."""
    if isinstance(action, Run):
        batch = action.batch
        return "run", batch.id, [request.id for request in batch.requests], batch.rows, batch.length, batch.close.value
    if isinstance(action, Answer):
        whole = len(action.requests) == len(action.batch.requests)
        return "answer", action.batch.id, None if whole else _ids(action.requests)
    match action:
        case Refuse(request, why, retry_after_s):
            return "refuse", request.id, why.value, retry_after_s
        case Fail(request, why, detail):
            return "fail", request.id, why.value, plain(detail)
        case Closed(model):
            return "closed", tuple(model)
        case Iterate(step, may_go_on):
            chunks = [[chunk.request.id, chunk.start, chunk.stop] for chunk in step.chunks]
            return "iterate", step.id, step.instance, _ids(step.decode), chunks, step.context, may_go_on
        case Emit(step, requests, ended):
            return "emit", step.id, _ids(requests), _ids(ended)
        case Release(model, instance, requests):
            return "release", tuple(model), instance, _ids(requests)
        case _:
            assert_never(action)


def _ids(requests: Sequence[InferRequest[Any]]) -> list[int]:
    return [request.id for request in requests]


def request_facts(request: InferRequest[Any]) -> Facts:
    """Everything about a request but its model and its payload."""
    facts = request.id, request.rows, request.length, request.arrived_at, request.deadline_at, request.priority
    return (*facts, request.new_tokens) if isinstance(request, GenerateRequest) else facts


def costs_facts(costs: Costs) -> dict[str, Any]:
    """What they were made from. Raises TypeError for costs of a kind that this module does not know."""
    if isinstance(costs, CostTable) and isinstance(costs.law, Profile):
        return {"max_rows": costs.max_rows, "brief_s": costs.brief_s, "profile": Profiles((costs.law,)).to_json()}
    if isinstance(costs, CostTable) and isinstance(costs.law, Drawn):
        return {"max_rows": costs.max_rows, "brief_s": costs.brief_s, "drawn": tuple(costs.law)}
    if isinstance(costs, Unmeasured):
        return {"unmeasured": tuple(costs)}
    if isinstance(costs, StepTable):
        return {"step_profile": costs.profile.to_json()}
    if isinstance(costs, LinearSteps):
        return {"steps": asdict(costs)}
    raise TypeError(f"costs of the kind {type(costs).__name__} are nothing that a recording can hold; see {__name__}")


def plain(text: str) -> str:
    """Cut to what is kept, without halves of characters that UTF-8 cannot hold."""
    return text[:LONGEST_TEXT].encode("utf-8", "replace").decode("utf-8")
