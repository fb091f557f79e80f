"""What the scheduler talks about: requests, batches, steps, limits. Payloads are opaque (the type variable P)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from server.core.value import value

P = TypeVar("P")


class ModelKey(NamedTuple):
    """One loaded model version; `load` tells a version from its own reload, which may overlap with it."""

    name: str
    version: int
    load: int = 0

    def __str__(self) -> str:
        return f"{self.name}/{self.version}"


@value
class InferRequest(Generic[P]):
    """One request; equal only to itself. `id` grows with arrival; `length` is the size of the ragged axis (0 without one); the two times
    are absolute monotonic seconds; the answer must leave the scheduler's hands by `deadline_at`. `priority`: lower is more urgent."""

    id: int
    model: ModelKey
    rows: int
    length: int
    arrived_at: float
    deadline_at: float
    payload: P
    priority: int = 0

    def __repr__(self) -> str:
        return f"<#{self.id} {self.model} {self.rows}x{self.length} by {self.deadline_at:.6f}>"


@value
class GenerateRequest(InferRequest[P]):
    """A request that stays for many steps: one row, whose `length` is that of its prompt in tokens (at least 1) and whose `deadline_at` is
    that of its first token. It gets at most `new_tokens` (at least 1); whoever runs it says when it has ended."""

    new_tokens: int = field(kw_only=True)

    def __repr__(self) -> str:
        return f"<#{self.id} {self.model} {self.length}+{self.new_tokens} tokens, first by {self.deadline_at:.6f}>"

    @property
    def room(self) -> int:
        """Tokens that are kept for it at most: what is set aside when it gets its slot."""
        return self.length + self.new_tokens


class Demand(NamedTuple):
    """What admission asks of a request, for one that is not there yet."""

    rows: int
    length: int
    deadline_at: float
    priority: int = 0


class Close(Enum):
    """Why a batch closed with the requests it has: metric label and test assertion in one."""

    FULL = "full"  # no room for the next request
    IDLE = "idle"  # everything that waited is in it
    KNEE = "knee"  # more rows would not raise the rate
    DEADLINE = "deadline"  # more rows would make the most urgent request late
    LENGTH = "length"  # the other lengths that wait would cost more in padding than they save
    PRIORITY = "priority"  # the next in line has a lower priority and would be late in a larger batch
    ALONE = "alone"  # a second try, after the batch it was in failed


@value
class Batch(Generic[P]):
    """Requests that run together, padded to `length`, on whichever instance comes free first."""

    id: int
    model: ModelKey
    requests: tuple[InferRequest[P], ...]
    rows: int
    length: int
    formed_at: float
    close: Close

    def __repr__(self) -> str:
        ids = ",".join(str(request.id) for request in self.requests)
        return f"<batch {self.id}: {ids} ({self.rows}x{self.length}, {self.close.value})>"


@dataclass(frozen=True, slots=True)
class Chunk(Generic[P]):
    """Tokens [start, stop) of a prompt. With the first it joins, from the last comes its first token."""

    request: GenerateRequest[P]
    start: int
    stop: int

    @property
    def is_last(self) -> bool:
        return self.stop == self.request.length

    def moved(self, n_known: int) -> Chunk[P]:
        """As many tokens, or those that are left, of a prompt that begins with so many known ones."""
        return Chunk(self.request, self.start + n_known, min(self.stop + n_known, self.request.length))


@dataclass(frozen=True, slots=True, eq=False)
class Iteration(Generic[P]):
    """One step of one instance: a token more for each of `decode`, and these chunks of prompts. `context`: tokens kept for `decode`
    until now, together."""

    id: int
    model: ModelKey
    instance: int
    decode: tuple[GenerateRequest[P], ...]
    chunks: tuple[Chunk[P], ...]
    context: int
    formed_at: float

    def __repr__(self) -> str:
        decode = ",".join(str(request.id) for request in self.decode)
        chunks = ",".join(f"{chunk.request.id}[{chunk.start}:{chunk.stop}]" for chunk in self.chunks)
        return f"<step {self.id} on {self.instance}: decode {decode or '-'}, prefill {chunks or '-'}>"

    def moved(self, known: Mapping[int, int]) -> Iteration[P]:
        """What it is when so many tokens of prompts that begin with it (by request id) are there already."""
        if not known:
            return self
        chunks = [one if one.start else one.moved(known.get(one.request.id, 0)) for one in self.chunks]
        return replace(self, chunks=tuple(chunks))

    @property
    def n_requests(self) -> int:
        return len(self.decode) + len(self.chunks)


class Mixing(Enum):
    """Which requests of a model may share a batch."""

    ANY = "any"  # no ragged axis: all are alike
    PADDED = "padded"  # lengths may differ: the shorter are padded
    EQUAL = "equal"  # padding would change answers: equal lengths only


class Limits(NamedTuple):
    """Budgets of one model: rows in a batch, rows waiting, and batches formed ahead of a free instance."""

    batch_rows: int
    queue_rows: int
    ahead: int = 0


class ResidentLimits(NamedTuple):
    """Budgets of a model whose requests stay resident. Of each instance: slots, tokens kept (`room`), prompt tokens in one step. Of one
    request: prompt and new tokens together (`longest`). `queue`: requests waiting. `gap_s`: the inter-token SLO. Prompts are cut at
    multiples of `chunk`."""

    slots: int
    room: int
    longest: int
    step_tokens: int
    queue: int
    gap_s: float
    chunk: int = 64


class Refusal(Enum):
    """Why a request was not served; `value` is the metric label."""

    DEADLINE = "deadline"  # predicted to be late
    QUEUE_FULL = "queue_full"
    DRAINING = "draining"
    OVERLOAD = "overload"  # refused unread: requests come faster than they can be taken on
    TOO_LONG = "too_long"  # more tokens than there is ever room for, or than keep the inter-token SLO


class Failure(Enum):
    """Why an accepted request failed; `value` is the metric label."""

    MODEL = "model_error"  # the model refused this very request, alone
    INSTANCE_LOST = "instance_lost"


class Drift(Enum):
    """Whether the device still is what the profile says; `value` is the metric label."""

    NONE = "none"
    SLOWER = "slower"
    FASTER = "faster"
