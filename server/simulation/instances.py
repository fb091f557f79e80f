"""The instances of one model as the runtime has them: each batch goes to the first that is free, in the order given."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic

from server.core.types import Batch, P


class Instances(Generic[P]):
    """`begin(batch)` is called when an instance takes it up."""

    def __init__(self, begin: Callable[[Batch[P]], None]) -> None:
        self._begin = begin
        self._free = 0
        self._given: deque[Batch[P]] = deque()

    def give(self, batch: Batch[P]) -> None:
        """It begins now if an instance is free, else when one is."""
        self._given.append(batch)
        self._serve()

    def take(self) -> bool:
        """Whether one is free, whose place somebody else takes until `free` is called."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def free(self) -> None:
        """An instance is new, or has ended its batch."""
        self._free += 1
        self._serve()

    def _serve(self) -> None:
        while self._free and self._given:
            self._free -= 1
            self._begin(self._given.popleft())
