"""Slots are never given to two at a time, and come back only when nobody looks at them."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.fleet.slots import SLOT_BYTES, Borrowed, BrokenLink, Slots, mapped, shared_memory

N = 8


def pair(n_slots: int = N) -> tuple[Slots, Borrowed, list[str]]:
    """Both sides of one memory, through two mappings of it, and what the reader was told."""
    descriptor = shared_memory(n_slots * SLOT_BYTES)
    told: list[str] = []
    try:
        return Slots(mapped(descriptor)), Borrowed(mapped(descriptor), lambda: told.append("gone")), told
    finally:
        os.close(descriptor)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """What comes back must come back by itself."""
    gc.disable()
    yield
    gc.enable()


@given(st.lists(st.tuples(st.sampled_from(["take", "give"]), st.integers(1, N * SLOT_BYTES)), max_size=60))
def test_taken_slots_never_overlap_and_all_of_them_can_be_taken_again(steps: list[tuple[str, int]]) -> None:
    slots, _, _ = pair()
    held: dict[int, set[int]] = {}
    for what, size in steps:
        if what == "take":
            first = slots.take(size)
            n = -(-size // SLOT_BYTES)
            free = "".join("x" if any(place in run for run in held.values()) else "." for place in range(N))
            assert (first is None) == ("." * n not in free)
            if first is not None:
                assert first == free.index("." * n)
                held[first] = set(range(first, first + n))
        elif held:
            first = sorted(held)[size % len(held)]
            del held[first]
            slots.give_back(first)
        assert slots.n_taken == sum(map(len, held.values()))
    for first in held:
        slots.give_back(first)
    assert slots.take(N * SLOT_BYTES) == 0


def test_what_is_written_is_what_is_borrowed() -> None:
    slots, borrowed, _ = pair()
    for size in (1, SLOT_BYTES, SLOT_BYTES + 1, 3 * SLOT_BYTES):
        first = slots.take(size)
        assert first is not None
        data = os.urandom(size)
        slots.view(first, size)[:] = data
        assert bytes(borrowed.borrow(first, size)) == data


def test_slots_come_back_with_the_last_array_that_looks_at_them() -> None:
    _, borrowed, told = pair()
    memory = borrowed.borrow(2, 1024)
    array = np.frombuffer(memory, np.float32).reshape(16, 16)
    del memory
    row = array[3][::2]
    del array
    assert (borrowed.returned(), told) == ([], [])
    with pytest.raises(ValueError, match="read-only"):
        row[0] = 1.0
    del row
    assert told == ["gone"]
    assert borrowed.returned() == [2]
    assert borrowed.returned() == []


def test_who_is_told_once_looks_at_all_of_them_and_is_told_again_later() -> None:
    _, borrowed, told = pair()
    for first in (1, 4):
        borrowed.borrow(first, 10).release()
    gone = [borrowed.borrow(first, 10) for first in (0, 7)]
    assert (told, borrowed.returned()) == (["gone"], [1, 4])
    gone.clear()
    assert (told, sorted(borrowed.returned())) == (["gone"] * 2, [0, 7])


def test_slots_may_come_back_on_any_thread() -> None:
    _, borrowed, _ = pair()
    held = [[borrowed.borrow(place, 64)] for place in range(N)]
    threads = [threading.Thread(target=one.clear) for one in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(borrowed.returned()) == list(range(N))


def test_the_memory_outlives_both_sides_while_an_array_looks_at_it() -> None:
    slots, borrowed, _ = pair()
    first = slots.take(8)
    assert first is not None
    slots.view(first, 8)[:] = b"12345678"
    array = np.frombuffer(borrowed.borrow(first, 8), np.uint8)
    del slots, borrowed
    assert array.tobytes() == b"12345678"


@pytest.mark.parametrize(
    ("first", "n_bytes"), [(-1, 8), (N, 1), (0, N * SLOT_BYTES + 1), (N - 1, SLOT_BYTES + 1), (0, 0), (0, -8)]
)
def test_what_lies_outside_the_memory_cannot_be_borrowed(first: int, n_bytes: int) -> None:
    _, borrowed, _ = pair()
    with pytest.raises(BrokenLink, match="not within"):
        borrowed.borrow(first, n_bytes)


def test_what_is_not_in_use_cannot_be_given_back() -> None:
    slots, _, _ = pair()
    first = slots.take(2 * SLOT_BYTES)
    assert first == 0
    with pytest.raises(BrokenLink, match="not in use"):
        slots.give_back(1)
    slots.give_back(0)
    with pytest.raises(BrokenLink, match="not in use"):
        slots.give_back(0)
