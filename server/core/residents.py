"""Who is resident on one instance: slots and room for tokens, prompts under way, those who decode, the step that runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from server.core.types import Chunk, GenerateRequest, InferRequest, Iteration, P, ResidentLimits


@dataclass(slots=True)
class Resident(Generic[P]):
    """A request in its slot. `n_likely`: tokens that will hardly be exceeded. `n_new`: those it got; it decodes as soon as it has one."""

    request: GenerateRequest[P]
    n_likely: float
    n_prefilled: int = 0
    n_new: int = 0
    is_wanted: bool = True


@dataclass(slots=True)
class Stepping(Generic[P]):
    """A step in flight, when it should end, and what the profile says that its two parts take."""

    iteration: Iteration[P]
    expected_at: float
    decode_s: float
    prefill_s: float


class Residents(Generic[P]):
    """The books of one instance. Room for prompt and new tokens is set aside when a request joins, so nobody is ever evicted."""

    def __init__(self, instance: int, limits: ResidentLimits) -> None:
        self.instance = instance
        self.slots_left = limits.slots
        self.room_left = limits.room
        self.decoding: dict[int, Resident[P]] = {}
        self.prefilling: dict[int, Resident[P]] = {}
        self.leaving: list[Resident[P]] = []  # whose step may still run
        self.suspects: set[int] = set()  # ids of those in a step that failed
        self.n_likely = 0.0  # tokens that are likely to be kept at most, for all
        self.context = 0  # tokens kept for those who decode
        self.stepped_at = 0.0  # when those who decode got their last token

    def __repr__(self) -> str:
        return (
            f"<instance {self.instance}: {len(self.decoding)} decode, {len(self.prefilling)} prefill, "
            f"{self.slots_left} slots and {self.room_left} tokens left>"
        )

    def __len__(self) -> int:
        return len(self.decoding) + len(self.prefilling)

    def all(self) -> list[Resident[P]]:
        return [*self.decoding.values(), *self.prefilling.values()]

    def join(self, request: GenerateRequest[P], n_likely: float) -> None:
        """Give it a slot and set its room aside; there must be both."""
        self.slots_left -= 1
        self.room_left -= request.room
        assert min(self.slots_left, self.room_left) >= 0, f"{request!r} does not fit on {self!r}"
        self.n_likely += n_likely
        self.prefilling[request.id] = Resident(request, n_likely)

    def let_go(self) -> list[Resident[P]]:
        """Free the slots and the room of those who leave, each once; returns them."""
        gone = {resident.request.id: resident for resident in self.leaving}
        self.leaving = []
        for resident in gone.values():
            self._leave(resident)
        return list(gone.values())

    def _leave(self, resident: Resident[P]) -> None:
        request = resident.request
        if self.prefilling.pop(request.id, None) is None:
            del self.decoding[request.id]
            self.context -= resident.n_prefilled + resident.n_new
        self.suspects.discard(request.id)
        self.n_likely -= resident.n_likely
        self.slots_left += 1
        self.room_left += request.room

    def of(self, request: InferRequest[P]) -> Resident[P] | None:
        """None when it is not here."""
        return self.decoding.get(request.id) or self.prefilling.get(request.id)

    def advance(self, iteration: Iteration[P], now: float) -> list[Resident[P]]:
        """A step ran: its prompts are further, and who decoded has a token more. Returns those who got one."""
        if len(iteration.decode) == len(self.decoding):
            got = list(self.decoding.values())
        else:
            got = [self.decoding[request.id] for request in iteration.decode]
        for resident in got:
            resident.n_new += 1
        self.context += len(got)
        got += [resident for chunk in iteration.chunks if (resident := self._prefilled(chunk)).n_new]
        self.stepped_at = now
        return got

    def _prefilled(self, chunk: Chunk[P]) -> Resident[P]:
        resident = self.prefilling[chunk.request.id]
        resident.n_prefilled = chunk.stop
        if chunk.is_last:
            resident.n_new = 1
            self.decoding[chunk.request.id] = self.prefilling.pop(chunk.request.id)
            self.context += resident.n_prefilled + 1
        return resident
