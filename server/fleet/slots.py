"""Memory that two processes share, cut into slots: one side writes and owns them, the other borrows and gives back.

Both sides of a connection make such a memory for what they send. It ends with the connection, and each process unmaps it
when the last array that looks at it is gone: whoever dies, nobody's slots are given to another while they are being read.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

SLOT_BYTES = 64 << 10
N_SLOTS = 1024


class BrokenLink(Exception):
    """The other process sent what it never should: a bug of ours, which ends the connection."""


def shared_memory(n_bytes: int = SLOT_BYTES * N_SLOTS) -> int:
    """A descriptor of new anonymous memory. It takes room page by page, as it is first written."""
    memory = os.memfd_create("ferry", os.MFD_CLOEXEC)
    os.ftruncate(memory, n_bytes)
    return memory


def mapped(descriptor: int) -> mmap.mmap:
    """The memory behind a descriptor. It stays until nothing looks at it any more."""
    return mmap.mmap(descriptor, os.fstat(descriptor).st_size)


class Slots:
    """The writer's side: which slots are free. The lowest free ones are taken first, so that little memory is touched."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memoryview(memory)
        self._free = bytearray(b"\1" * (len(memory) // SLOT_BYTES))
        self._taken: dict[int, int] = {}

    @property
    def n_taken(self) -> int:
        """Slots in use."""
        return sum(self._taken.values())

    def take(self, n_bytes: int) -> int | None:
        """The first of as many neighbouring slots as `n_bytes` need; None when there is no such gap at the moment."""
        n = -(-n_bytes // SLOT_BYTES)
        first = self._free.find(b"\1" * n)
        if first < 0:
            return None
        self._free[first : first + n] = bytes(n)
        self._taken[first] = n
        return first

    def view(self, first: int, n_bytes: int) -> memoryview:
        """The memory of taken slots, to write to."""
        place = first * SLOT_BYTES
        return self._memory[place : place + n_bytes]

    def give_back(self, first: int) -> None:
        """The reader is done with the slots that were taken with this one as the first. Raises BrokenLink when none were."""
        n = self._taken.pop(first, 0)
        if not n:
            raise BrokenLink(f"slot {first} was given back, but is not in use")
        self._free[first : first + n] = b"\1" * n


class Borrowed:
    """The reader's side: arrays on the other's slots. Slots whose last array is gone are collected by `returned`."""

    def __init__(self, memory: mmap.mmap, gone: Callable[[], None]) -> None:
        """`gone` is called, on whatever thread, when there is something to return and before it was nothing."""
        self._memory = memory
        self._gone = gone
        self._returned: deque[int] = deque()
        self._is_told = False

    def borrow(self, first: int, n_bytes: int) -> memoryview:
        """Read-only memory, starting at a slot. Whatever is made from it keeps it borrowed. Raises BrokenLink."""
        place = first * SLOT_BYTES
        if first < 0 or n_bytes <= 0 or place + n_bytes > len(self._memory):
            raise BrokenLink(f"{n_bytes} bytes from slot {first} on are not within the shared memory")
        view: Any = np.frombuffer(self._memory, np.uint8, n_bytes, place)  # unlike a memoryview it tells when it ends
        view.flags.writeable = False
        weakref.finalize(view, self._return, first).atexit = False
        return memoryview(view)

    def returned(self) -> list[int]:
        """First slots of what nobody looks at any more; each is told once."""
        self._is_told = False  # before looking: what comes in between tells again
        slots = []
        while self._returned:
            slots.append(self._returned.popleft())
        return slots

    def _return(self, first: int) -> None:
        self._returned.append(first)
        if not self._is_told:
            self._is_told = True
            self._gone()
