"""Events made again from their facts (facts.py), by who remembers what they name by number."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from server.contract.profiles import Profiles
from server.contract.step_profile import StepProfile
from server.core.costs import CostTable, LinearSteps, StepCosts, Unmeasured
from server.core.events import (
    Action,
    Answer,
    Cancel,
    Drain,
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
from server.core.types import Batch, GenerateRequest, InferRequest, Iteration, Limits, Mixing, ModelKey, ResidentLimits
from server.recording.facts import Costs, Facts


def read_model(facts: Facts) -> ModelKey:
    return ModelKey(*facts)


def read_request(model: ModelKey, facts: Facts) -> InferRequest[None]:
    number, rows, length, arrived_at, deadline_at, priority, *new_tokens = facts
    if new_tokens:
        return GenerateRequest(number, model, rows, length, arrived_at, deadline_at, None, priority, new_tokens=new_tokens[0])
    return InferRequest(number, model, rows, length, arrived_at, deadline_at, None, priority)


def read_costs(facts: dict[str, Any]) -> Costs:
    """Raises ContractError for a profile that is none, ValueError for several."""
    return read_steps(facts) if "steps" in facts or "step_profile" in facts else read_table(facts)


def read_table(facts: dict[str, Any]) -> CostTable:
    """The same, of models whose requests take one step."""
    max_rows, brief_s = facts["max_rows"], facts.get("brief_s", 0.0)
    if "drawn" in facts:
        longest, least, costs, spread = facts["drawn"]
        return CostTable(Drawn(longest, tuple(least), tuple(costs), spread), max_rows, brief_s)
    (profile,) = Profiles.from_json(facts["profile"], "profile").profiles
    return CostTable(profile, max_rows, brief_s)


def read_open(facts: dict[str, Any]) -> CostTable | Unmeasured:
    """The same where nothing may be known yet."""
    return Unmeasured(*facts["unmeasured"]) if "unmeasured" in facts else read_table(facts)


def read_steps(facts: dict[str, Any]) -> StepCosts:
    """Those of models whose requests stay."""
    if "step_profile" in facts:
        return StepTable(StepProfile.from_json(facts["step_profile"], "step_profile"))
    return LinearSteps(**facts["steps"])


class Known:
    """The requests, batches and steps that a recording has spoken of and that have not ended: later events name their numbers."""

    def __init__(self) -> None:
        self.requests: dict[int, InferRequest[None]] = {}
        self.batches: dict[int, Batch[None]] = {}
        self.iterations: dict[int, Iteration[None]] = {}

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
            case ["iteration_done", step, ended, began_at, *known]:
                residents = tuple([self._resident(one) for one in ended])
                return IterationDone(self.iterations[step], residents, began_at, dict(known[0]) if known else {})
            case ["iteration_failed", step, detail]:
                return IterationFailed(self.iterations[step], detail)
        return self._change(facts)

    def _change(self, facts: Facts) -> Event[None]:
        match facts:
            case ["instance_up", model, *instance]:  # old recordings have no number
                return InstanceUp(read_model(model), *instance)
            case ["instance_lost", model, batch, detail, *instance]:
                return InstanceLost(read_model(model), None if batch is None else self.batches[batch], detail, *instance)
            case ["drain", model]:
                return Drain(read_model(model))
            case ["open", model, limits, mixing, costs, device]:
                return Open(read_model(model), Limits(*limits), Mixing(mixing), read_open(costs), device)
            case ["recost", model, limits, costs]:
                return Recost(read_model(model), Limits(*limits), read_table(costs))
            case ["open_resident", model, room, steps, device]:
                return OpenResident(read_model(model), ResidentLimits(*room), read_steps(steps), device)
        raise ValueError(f"{facts[0]!r} with {len(facts) - 1} values is no event that this ferry knows")

    def _resident(self, number: int) -> GenerateRequest[None]:
        request = self.requests[number]
        if not isinstance(request, GenerateRequest):
            raise ValueError(f"{request!r} takes one step only")
        return request

    def note(self, event: Event[None], actions: Iterable[Action[None]]) -> None:
        """Remember what later events may name, and forget what none will."""
        if isinstance(event, Submit):
            self.requests.update((request.id, request) for request in event.requests)
        else:
            self._forget_done(event)
        for action in actions:
            if isinstance(action, Run):
                self.batches[action.batch.id] = action.batch
            elif isinstance(action, Iterate):
                self.iterations[action.iteration.id] = action.iteration
            elif isinstance(action, Answer):
                self._forget(action.batch.requests)  # some may have been cancelled
            elif isinstance(action, Release):
                self._forget(action.requests)
            elif isinstance(action, Refuse | Fail):
                self._forget((action.request,))

    def _forget_done(self, event: Event[None]) -> None:
        if isinstance(event, IterationDone | IterationFailed):
            del self.iterations[event.iteration.id]
        elif isinstance(event, StepDone | StepFailed | InstanceLost) and event.batch is not None:
            del self.batches[event.batch.id]
        elif isinstance(event, InstanceLost):
            lost = [one.id for one in self.iterations.values() if (one.model, one.instance) == (event.model, event.instance)]
            for number in lost:
                del self.iterations[number]

    def _forget(self, requests: Iterable[InferRequest[None]]) -> None:
        for request in requests:
            self.requests.pop(request.id, None)
