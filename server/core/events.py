"""The scheduler's whole vocabulary: events go in, actions come out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

from server.core.costs import CostTable, StepCosts, Unmeasured
from server.core.types import (
    Batch,
    Failure,
    GenerateRequest,
    InferRequest,
    Iteration,
    Limits,
    Mixing,
    ModelKey,
    P,
    Refusal,
    ResidentLimits,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Open:
    """A model version begins to take requests. Those with the same `device` share it; None: it has one of its own. Without known
    costs they are learnt from the batches that run, and nobody is refused for what is not known."""

    model: ModelKey
    limits: Limits
    mixing: Mixing
    costs: CostTable | Unmeasured
    device: str | None = None


@dataclass(frozen=True, slots=True)
class OpenResident:
    """A model version begins to take requests that stay for many steps (GenerateRequest). `device` as in Open."""

    model: ModelKey
    limits: ResidentLimits
    costs: StepCosts
    device: str | None = None


@dataclass(frozen=True, slots=True)
class Recost:
    """An open model's costs were measured: from now on these count instead of what was believed or learnt before. `limits` allow
    batches of as many rows as before."""

    model: ModelKey
    limits: Limits
    costs: CostTable


@dataclass(frozen=True, slots=True)
class Submit(Generic[P]):
    """Requests of one model that arrived together: all are queued before any batch or step is formed."""

    model: ModelKey
    requests: tuple[InferRequest[P], ...]


@dataclass(frozen=True, slots=True)
class Cancel(Generic[P]):
    """Nobody waits for this answer any more. Harmless after the request's outcome."""

    request: InferRequest[P]


@dataclass(frozen=True, slots=True)
class StepDone(Generic[P]):
    """A batch ran and its answers are there. `began_at`: when an instance took it up, where that was measured."""

    batch: Batch[P]
    began_at: float | None = None


@dataclass(frozen=True, slots=True)
class StepFailed(Generic[P]):
    """A batch raised; its instance is still good."""

    batch: Batch[P]
    detail: str


@dataclass(frozen=True, slots=True)
class IterationDone(Generic[P]):
    """A step ran. `ended`: those of its requests that got their last token by it. `began_at` as in StepDone. `known`: how many tokens of a
    prompt that began with it were there already, by request id; then its chunk was that much further on."""

    iteration: Iteration[P]
    ended: tuple[GenerateRequest[P], ...]
    began_at: float | None = None
    known: Mapping[int, int] = field(default_factory=dict)

    @property
    def ran(self) -> Iteration[P]:
        """What was calculated."""
        return self.iteration.moved(self.known)


@dataclass(frozen=True, slots=True)
class IterationFailed(Generic[P]):
    """A step raised; its instance and what it keeps for the residents are still good, and nobody got a token."""

    iteration: Iteration[P]
    detail: str


@dataclass(frozen=True, slots=True)
class InstanceUp:
    """An open model has one more instance; it takes the first batch that no other has begun. `instance`: its number, where requests are
    resident and so must be told which they are on; the others are all alike."""

    model: ModelKey
    instance: int = 0


@dataclass(frozen=True, slots=True)
class InstanceLost(Generic[P]):
    """An instance died, together with the batch it had (None: it was idle) or the residents of this number."""

    model: ModelKey
    batch: Batch[P] | None
    detail: str
    instance: int = 0


@dataclass(frozen=True, slots=True)
class Drain:
    """Take nothing new, finish what was accepted, then close."""

    model: ModelKey


@dataclass(frozen=True, slots=True)
class Wake:
    """The time that next_wakeup() asked for has come."""


Event = (
    Open | OpenResident | Recost | Submit[P] | Cancel[P] | StepDone[P] | StepFailed[P] | IterationDone[P] | IterationFailed[P] | InstanceUp
    | InstanceLost[P] | Drain | Wake
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run(Generic[P]):
    """Give this batch to the first instance that is free; batches begin in the order they are given."""

    batch: Batch[P]


@dataclass(frozen=True, slots=True)
class Answer(Generic[P]):
    """Deliver the results of `batch` to `requests` (those of the batch that still want one)."""

    batch: Batch[P]
    requests: tuple[InferRequest[P], ...]


@dataclass(frozen=True, slots=True)
class Iterate(Generic[P]):
    """Give this step to the instance that it names, which has none. `may_go_on`: nobody else wants its device, so the instance may begin
    the next tokens of its residents as soon as this step has run, before it is told what its next step is."""

    iteration: Iteration[P]
    may_go_on: bool = False


@dataclass(frozen=True, slots=True)
class Emit(Generic[P]):
    """Deliver the tokens of a step to `requests` (those that got one and still want it). It was the last one for those in `ended`."""

    iteration: Iteration[P]
    requests: tuple[GenerateRequest[P], ...]
    ended: tuple[GenerateRequest[P], ...]


@dataclass(frozen=True, slots=True)
class Release(Generic[P]):
    """These have left the instance: their slots and what was kept for them may be used by its next step."""

    model: ModelKey
    instance: int
    requests: tuple[GenerateRequest[P], ...]


@dataclass(frozen=True, slots=True)
class Refuse(Generic[P]):
    """Tell the client no. `retry_after_s`: when it may fit; None where trying again here is pointless."""

    request: InferRequest[P]
    why: Refusal
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Fail(Generic[P]):
    """Tell the client that its accepted request failed."""

    request: InferRequest[P]
    why: Failure
    detail: str


@dataclass(frozen=True, slots=True)
class Closed:
    """A draining model has nothing left; its instances may go."""

    model: ModelKey


Action = Run[P] | Answer[P] | Iterate[P] | Emit[P] | Release[P] | Refuse[P] | Fail[P] | Closed
