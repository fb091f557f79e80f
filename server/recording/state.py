"""The scheduler's whole state as plain data that JSON can hold, and back: it goes on as if nothing had happened.

Attributes are found, not listed, so that what the core learns to remember tomorrow is saved too. Payloads are left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from math import isfinite
from types import ModuleType
from typing import Any

from server.core import (
    company,
    device,
    floors,
    forecast,
    lane,
    learning,
    lifetimes,
    outlook,
    resident_lane,
    residents,
    scheduler,
    sketch,
    step_forecast,
    types,
    waiting,
)  # fmt: skip
from server.core.costs import CostTable, LinearSteps
from server.core.forecast import Forecast
from server.core.learning import Learning
from server.core.scheduler import Scheduler
from server.core.step_costs import StepTable
from server.core.types import Batch, GenerateRequest, InferRequest, Iteration
from server.recording.facts import Costs, Facts, request_facts
from server.recording.known import Known, read_model, read_request

_PLAIN = frozenset((int, str, bool, type(None)))

_MODULES = (
    company, device, floors, forecast, lane, learning, lifetimes, outlook, resident_lane, residents, scheduler, sketch, step_forecast, types, waiting,
)  # fmt: skip

_FOLLOWS: dict[type, dict[str, Any]] = {Forecast: {"_targets": {}}, Learning: {"_targets": {}}}
"""Attributes that follow from the others, and what they begin with."""


def _classes(*modules: ModuleType) -> dict[str, type]:
    found = [(name, one) for module in modules for name, one in vars(module).items() if isinstance(one, type)]
    return {name: one for name, one in found if one.__module__ in {module.__name__ for module in modules}}


_CLASSES = _classes(*_MODULES)


class Saved:
    """A state: `tree` and `requests` hold nothing but lists, dicts, strings and finite numbers; `costs` are the tables that the
    tree names by their place."""

    __slots__ = ("costs", "requests", "tree")

    def __init__(self, tree: Any, requests: list[Facts], costs: list[Costs]) -> None:
        self.tree = tree
        self.requests = requests
        self.costs = costs


def save(scheduler: Scheduler[Any]) -> Saved:
    """Raises TypeError for a kind of object that this module does not know."""
    writer = _Writer()
    tree = writer.write(scheduler)
    return Saved(tree, [(tuple(one.model), request_facts(one)) for one in writer.requests.values()], writer.costs)


def restore(saved: Saved) -> tuple[Scheduler[None], Known]:
    """The scheduler, and the requests, batches and steps that it holds. Raises KeyError, TypeError or ValueError for a tree that is none."""
    reader = _Reader(saved)
    found = reader.read(saved.tree)
    if not isinstance(found, Scheduler):
        raise TypeError(f"a state is a Scheduler, not a {type(found).__name__}")
    return found, reader.known


def _attributes(value: object) -> list[str]:
    if hasattr(value, "__dict__"):
        return list(vars(value))
    return [name for kind in reversed(type(value).__mro__) for name in vars(kind).get("__slots__", ())]


class _Writer:
    def __init__(self) -> None:
        self.requests: dict[int, InferRequest[Any]] = {}
        self.costs: list[Costs] = []
        self._seen: dict[int, int] = {}

    def write(self, value: Any) -> Any:
        kind = type(value)
        if kind is InferRequest or kind is GenerateRequest:
            self.requests[value.id] = value
            return {"request": value.id}
        if kind is tuple or kind is deque:
            return {kind.__name__: self._write_all(value)}
        if kind is list:
            return self._write_all(value)
        if kind in _PLAIN:
            return value
        if kind is float:
            return value if isfinite(value) else {"float": repr(value)}
        if kind is set:
            return {"set": self._write_all(sorted(value))}
        if kind is dict:
            return {"dict": [self._write_all(pair) for pair in value.items()]}
        if kind is CostTable or kind is LinearSteps or kind is StepTable:
            return {"costs": self._place_of(value)}
        if kind.__name__ not in _CLASSES:
            raise TypeError(f"a {kind.__name__} is nothing that a recording can hold; see {__name__}")
        return self._write_object(value)

    def _write_all(self, values: Iterable[Any]) -> list[Any]:
        """Numbers, most of what there is, are written here: under overload thousands of requests wait."""
        return [
            one if (kind := type(one)) in _PLAIN or (kind is float and isfinite(one)) else self.write(one) for one in values
        ]  # fmt: skip

    def _write_object(self, value: Any) -> Any:
        name = type(value).__name__
        if isinstance(value, Enum):
            return {name: value.value}
        if isinstance(value, tuple):
            return {name: self._write_all(value)}
        number = self._seen.get(id(value))
        if number is not None:
            return {"again": number}
        self._seen[id(value)] = len(self._seen)
        names = [one for one in _attributes(value) if one not in _FOLLOWS.get(type(value), ())]
        return {name: {one: self.write(getattr(value, one)) for one in names}}

    def _place_of(self, costs: Costs) -> int:
        for place, known in enumerate(self.costs):
            if known is costs:
                return place
        self.costs.append(costs)
        return len(self.costs) - 1


class _Reader:
    def __init__(self, saved: Saved) -> None:
        self.known = Known()
        requests = [read_request(read_model(model), facts) for model, facts in saved.requests]
        self.known.requests.update((request.id, request) for request in requests)
        self._costs = saved.costs
        self._seen: list[Any] = []

    def read(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.read(one) for one in tree]
        if not isinstance(tree, dict):
            return tree
        ((name, held),) = tree.items()
        match name:
            case "float":
                return float(held)
            case "tuple" | "set" | "deque":
                return {"tuple": tuple, "set": set, "deque": deque}[name](map(self.read, held))
            case "dict":
                return {self.read(key): self.read(one) for key, one in held}
            case "request":
                return self.known.requests[held]
            case "costs":
                return self._costs[held]
            case "again":
                return self._seen[held]
        return self._read_object(_CLASSES[name], held)

    def _read_object(self, kind: type, held: Any) -> Any:
        if issubclass(kind, Enum):
            return kind(held)
        if issubclass(kind, tuple):
            return kind(*map(self.read, held))
        made = Scheduler() if kind is Scheduler else object.__new__(kind)  # an older ferry's does not know what came later
        self._seen.append(made)
        for name, tree in held.items():
            object.__setattr__(made, name, self.read(tree))
        for name, begins in _FOLLOWS.get(kind, {}).items():
            object.__setattr__(made, name, type(begins)(begins))
        if isinstance(made, Batch):
            self.known.batches[made.id] = made
        elif isinstance(made, Iteration):
            self.known.iterations[made.id] = made
        return made
