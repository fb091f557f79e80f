"""The books of one instance: slots, room, tokens."""

import pytest

from server.core.residents import Residents
from server.core.types import Chunk, Iteration
from tests.server.core.build import KEY, LIMITS, ids, prompt


def step(*decode: object, chunks: tuple[Chunk[str], ...] = ()) -> Iteration[str]:
    return Iteration(1, KEY, 0, decode, chunks, 0, 0.0)  # type: ignore[arg-type]


def test_who_joins_has_its_room_set_aside() -> None:
    place: Residents[str] = Residents(0, LIMITS)
    one = prompt(1, length=100, new_tokens=20)
    place.join(one, 110.0)
    assert (place.slots_left, place.room_left, place.n_likely) == (3, 880, 110.0)
    assert repr(place) == "<instance 0: 0 decode, 1 prefill, 3 slots and 880 tokens left>"
    assert len(place) == 1
    assert place.of(prompt(2)) is None
    with pytest.raises(AssertionError, match="does not fit"):
        place.join(prompt(2, length=900), 0.0)


def test_prompt_then_tokens_then_gone() -> None:
    place: Residents[str] = Residents(0, LIMITS)
    one, two = prompt(1, length=100), prompt(2, length=10)
    place.join(one, 105.0)
    place.join(two, 15.0)
    got = place.advance(step(chunks=(Chunk(one, 0, 64), Chunk(two, 0, 10))), 1.0)
    assert ids([resident.request for resident in got]) == [2]
    assert place.context == 11
    got = place.advance(step(two, chunks=(Chunk(one, 64, 100),)), 2.0)
    assert ids([resident.request for resident in got]) == [2, 1]
    assert [resident.n_new for resident in got] == [2, 1]
    assert (place.context, place.stepped_at) == (12 + 101, 2.0)
    place.leaving = [got[0], got[0]]
    assert place.let_go() == [got[0]], "once"
    assert (place.context, place.slots_left, place.n_likely) == (101, 3, 105.0)
    assert place.let_go() == []


def test_a_step_of_one_who_decodes_moves_only_that_one() -> None:
    place: Residents[str] = Residents(0, LIMITS)
    requests = [prompt(1), prompt(2)]
    for one in requests:
        place.join(one, 15.0)
    place.advance(step(chunks=tuple(Chunk(one, 0, 10) for one in requests)), 1.0)
    (got,) = place.advance(step(requests[1]), 2.0)
    assert (got.request, got.n_new) == (requests[1], 2)
    assert place.context == 23


def test_who_leaves_before_its_first_token_kept_nothing() -> None:
    place: Residents[str] = Residents(0, LIMITS)
    one = prompt(1, length=100)
    place.join(one, 105.0)
    place.advance(step(chunks=(Chunk(one, 0, 64),)), 1.0)
    place.suspects.add(1)
    resident = place.of(one)
    assert resident is not None
    place.leaving.append(resident)
    place.let_go()
    assert (len(place), place.context, place.room_left, place.suspects) == (0, 0, 1000, set())
