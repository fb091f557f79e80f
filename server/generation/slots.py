"""Which request has which slot of an instance, and what each slot still keeps of prompts that were read before.

Slots in use stay together at the low end, since a step calculates all rows up to the highest one. Knows ids only: it moves nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from server.backends.base import Array

_NOTHING: Array = np.empty(0, np.int64)


class Taken(NamedTuple):
    """A newcomer's slot. The first `n_known` tokens of its prompt are kept in slot `source`, which may be the very one."""

    slot: int
    source: int
    n_known: int


class Move(NamedTuple):
    """A resident goes from one slot to a lower one."""

    request: int
    source: int
    target: int


@dataclass(slots=True)
class _Slot:
    """`owner`: a request's id; None: it is free. `read`: prompt tokens that it keeps (int64), as they came out of reading prompts; what was
    generated does not count, since its bits are those of single tokens. `used`: greater for those in use later."""

    owner: int | None = None
    read: Array = field(default_factory=lambda: _NOTHING)
    used: int = 0


class Slots:
    """The slots of one instance."""

    def __init__(self, n_slots: int, chunk: int) -> None:
        """`chunk`: prompts are cut at multiples of this, and so is what is known of them: else their bits would depend on the past."""
        self._slots = [_Slot() for _ in range(n_slots)]
        self._of: dict[int, int] = {}
        self._chunk = chunk
        self._n_used = 0

    def __repr__(self) -> str:
        return f"<{len(self._of)} of {len(self._slots)} slots in use>"

    def __len__(self) -> int:
        """How many are in use."""
        return len(self._of)

    def __getitem__(self, request: int) -> int:
        return self._of[request]

    def __contains__(self, request: int) -> bool:
        return request in self._of

    @property
    def n_kept(self) -> int:
        """Prompt tokens that are kept, in use or not."""
        return sum(len(slot.read) for slot in self._slots)

    def take(self, request: int, prompt: Array, reads_all: bool = False) -> Taken:
        """A slot for a newcomer. There must be a free one. `reads_all`: its prompt is read whatever is known of it."""
        source, n_known = (0, 0) if reads_all else self._known(prompt)
        slot = self._place_for(source, n_known)
        taken = self._slots[slot]
        assert taken.owner is None, f"request {request} was given slot {slot}, which is in use"
        if n_known:
            self._touch(source)
        taken.owner, taken.read = request, prompt[:n_known]
        self._touch(slot)
        self._of[request] = slot
        return Taken(slot, source if n_known else slot, n_known)

    def read(self, request: int, prompt: Array, stop: int) -> None:
        """So many tokens of a resident's prompt are kept now."""
        self._slots[self._of[request]].read = prompt[:stop]

    def release(self, request: int) -> None:
        """Its slot is free, and what it keeps can still be of use."""
        slot = self._of.pop(request)
        self._slots[slot].owner = None
        self._touch(slot)

    def close_hole(self) -> Move | None:
        """The highest resident moves into a free slot below it, if there is one: what that one kept is lost."""
        top = max(self._of.values(), default=0)
        holes = self._holes(top)
        request = self._slots[top].owner
        if not holes or request is None:
            return None
        target = min(holes, key=self._last_used)
        self._slots[target].owner, self._slots[target].read = request, self._slots[top].read
        self._slots[top].owner = None
        self._of[request] = target
        self._touch(target)
        return Move(request, top, target)

    def _known(self, prompt: Array) -> tuple[int, int]:
        """The slot that keeps the most of this prompt, and how many tokens; at least the last one is left to be calculated."""
        most = (len(prompt) - 1) // self._chunk * self._chunk
        best, best_slot = 0, 0
        for number, slot in enumerate(self._slots):
            n_common = min(len(slot.read), most) // self._chunk * self._chunk
            if n_common > best:
                differs = slot.read[:n_common] != prompt[:n_common]
                n_common = int(differs.argmax()) // self._chunk * self._chunk if differs.any() else n_common
                if n_common > best:
                    best, best_slot = n_common, number
        return best_slot, best

    def _place_for(self, source: int, n_known: int) -> int:
        """Below the highest resident if there is room, so that a step calculates no more rows, else just above. There the slot itself that
        keeps what is known, if it keeps little else; else the one that was not used for the longest time."""
        top = max(self._of.values(), default=-1)
        places = self._holes(top) or [top + 1]
        if not n_known:
            return min(places, key=self._last_used)
        if source in places and 2 * n_known >= len(self._slots[source].read):
            return source
        others = [place for place in places if place != source] or places
        return min(others, key=self._last_used)

    def _holes(self, top: int) -> list[int]:
        return [number for number in range(top) if self._slots[number].owner is None]

    def _last_used(self, number: int) -> int:
        return self._slots[number].used

    def _touch(self, number: int) -> None:
        self._n_used += 1
        self._slots[number].used = self._n_used
