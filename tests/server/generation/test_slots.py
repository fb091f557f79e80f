"""Who gets which slot, and what is known of a prompt: never more than is true, never in the way of the dense block."""

from __future__ import annotations

import random

import numpy as np
import pytest

from server.backends.base import Array
from server.generation.slots import Move, Slots, Taken

CHUNK = 4


def ids(text: str) -> Array:
    return np.frombuffer(text.encode(), np.uint8).astype(np.int64)


def read(slots: Slots, request: int, text: str) -> Taken:
    taken = slots.take(request, ids(text))
    slots.read(request, ids(text), len(text))
    return taken


def test_the_lowest_slots_are_taken_first() -> None:
    slots = Slots(4, CHUNK)
    assert [slots.take(n, ids("x")).slot for n in range(3)] == [0, 1, 2]
    slots.release(1)
    assert slots.take(9, ids("x")).slot == 1
    assert slots.take(10, ids("x")).slot == 3
    assert len(slots) == 4
    assert slots[9] == 1
    assert 1 not in slots


def test_of_holes_the_one_unused_for_longest_is_taken() -> None:
    slots = Slots(4, CHUNK)
    for n in range(4):
        slots.take(n, ids("x"))
    for n in (2, 0, 1):
        slots.release(n)
    assert [slots.take(n, ids("x")).slot for n in (5, 6, 7)] == [2, 0, 1]


@pytest.mark.parametrize(
    ("kept", "prompt", "n_known"),
    [
        ("abcdefgh", "abcdefghijkl", 8),
        ("abcdefgh", "abcdefgX", 4),
        ("abcdefgh", "abcdefgh", 4),  # the last token is left to be calculated
        ("abcdefgh", "abcdefghi", 8),
        ("abcdefgh", "abcX", 0),
        ("abcdefgh", "Xbcdefgh", 0),
        ("abcdefgh", "abcd", 0),
        ("abc", "abcdefgh", 0),
    ],
)
def test_what_is_known_of_a_prompt(kept: str, prompt: str, n_known: int) -> None:
    slots = Slots(2, CHUNK)
    read(slots, 1, kept)
    taken = slots.take(2, ids(prompt))
    assert taken == Taken(1, 0 if n_known else 1, n_known)


def test_the_slot_that_keeps_most_is_the_source() -> None:
    slots = Slots(4, CHUNK)
    read(slots, 1, "abcdXXXX")
    read(slots, 2, "abcdefghXX")
    read(slots, 3, "abcdefXX")
    assert slots.take(4, ids("abcdefghijkl")) == Taken(3, 1, 8)


def test_a_prompt_that_is_being_read_is_known_as_far_as_it_was_read() -> None:
    slots = Slots(3, CHUNK)
    slots.take(1, ids("abcdefghijkl"))
    assert slots.take(2, ids("abcdefghijkl")).n_known == 0
    slots.read(1, ids("abcdefghijkl"), 8)
    assert slots.take(3, ids("abcdefghijkl")) == Taken(2, 0, 8)


def test_a_free_slot_that_keeps_it_is_taken_as_it_is() -> None:
    slots = Slots(2, CHUNK)
    read(slots, 1, "abcdefgh")
    slots.release(1)
    assert read(slots, 2, "abcdefghij") == Taken(0, 0, 8)
    assert slots.n_kept == 10


def test_but_not_if_most_of_what_it_keeps_would_be_lost() -> None:
    slots = Slots(3, CHUNK)
    read(slots, 1, "abcdefghijklmnop")
    read(slots, 2, "x")
    read(slots, 3, "y")
    slots.release(1)
    slots.release(2)
    assert read(slots, 4, "abcdX") == Taken(1, 0, 4)
    assert slots.take(5, ids("abcdefghijklmnopq")) == Taken(0, 0, 16)


def test_what_a_newcomer_overwrites_is_not_known_any_more() -> None:
    slots = Slots(1, CHUNK)
    read(slots, 1, "abcdefgh")
    slots.release(1)
    slots.take(2, ids("XXXXXXXX"))
    slots.release(2)
    assert slots.take(3, ids("abcdefgh")).n_known == 0


def test_the_highest_moves_into_a_hole() -> None:
    slots = Slots(4, CHUNK)
    for n in range(4):
        read(slots, n, f"{n}bcdefgh")
    assert slots.close_hole() is None
    slots.release(1)
    assert slots.close_hole() == Move(3, 3, 1)
    assert slots[3] == 1
    assert slots.close_hole() is None
    assert slots.take(9, ids("3bcdefghi")).n_known == 8


def test_nobody_there_is_no_hole() -> None:
    assert Slots(2, CHUNK).close_hole() is None


def test_nothing_is_ever_known_that_is_not_kept() -> None:
    """Against a cache that is written as the decoder writes its own."""
    rnd = random.Random(1)
    slots = Slots(5, CHUNK)
    cache = [""] * 5
    prompts: dict[int, str] = {}
    n_known = 0
    for number in range(3000):
        if prompts and (len(prompts) == 5 or rnd.random() < 0.5):
            gone = rnd.choice(list(prompts))
            slots.release(gone)
            del prompts[gone]
        else:
            prompt = "".join(rnd.choice("ab") for _ in range(rnd.randrange(1, 14)))
            taken = slots.take(number, ids(prompt))
            assert cache[taken.source].startswith(prompt[: taken.n_known])
            stop = rnd.choice((taken.n_known, len(prompt)))
            cache[taken.slot] = prompt[:stop]
            slots.read(number, ids(prompt), stop)
            prompts[number] = prompt
            n_known += taken.n_known
        move = slots.close_hole() if rnd.random() < 0.3 else None
        if move is not None:
            cache[move.target] = cache[move.source]
        assert sorted({slots[one] for one in prompts}) == sorted(slots[one] for one in prompts)
    assert n_known > 300
