"""Slots: which shapes get buffers of their own, what happens to a graph that cannot be recorded, and that nothing is left behind."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest

from server.backends import card_slots
from server.backends.base import BatchError, LoadError
from server.backends.card_slots import N_SEEN, N_SLOTS, Bucket, CardSession, Open, Sizes
from server.backends.cuda_memory import OutOfDeviceMemory
from server.contract.tensors import DataType, TensorSpec
from tests.server.backends.host_card import HostCard

X = TensorSpec("x", DataType.FP32, ("batch", "length"))
MASK = TensorSpec("mask", DataType.BOOL, ("batch", "length"))
Y = TensorSpec("y", DataType.FP32, ("rows", "length"))


class Doubles:
    """y = 2·x, by the host. Notes the numbers of its buckets and the thread; fails when it is to record, if told so."""

    def __init__(self, card: HostCard, fails: type[Exception] | None = None) -> None:
        self.card, self.fails = card, fails
        self.numbers: list[int | None] = []
        self.threads: set[int] = set()
        self.recorded_alone: list[bool] = []
        self.is_closed = False

    def enqueue(self, bucket: Bucket) -> None:
        self.numbers.append(bucket.number)
        self.threads.add(threading.get_ident())
        self.recorded_alone.append(self.card.gate.is_recording)
        if bucket.number is not None and self.fails is not None:
            raise self.fails("operation not permitted\nwhen stream is capturing")
        x, y = bucket.inputs[0], bucket.outputs[0]
        source = self.card.allocated[bucket.into.address][x.offset : x.offset + x.n_bytes].view(np.float32)
        self.card.allocated[bucket.out_of.address][y.offset : y.offset + y.n_bytes].view(np.float32)[:] = 2 * source

    def close(self) -> None:
        self.is_closed = True


class World:
    """A session whose calculations can be looked at. With one call at a time it is always the slot that was used last."""

    def __init__(self, fails: type[Exception] | None = None) -> None:
        self.card = HostCard()
        self.made: list[Doubles] = []

        def open_(stream: int) -> Doubles:
            self.made.append(Doubles(self.card, fails))
            return self.made[-1]

        self.session = CardSession(self.card, (X, MASK), (Y,), open_)

    def run(self, rows: int, length: int) -> None:
        x = np.arange(rows * length, dtype=np.float32).reshape(rows, length)
        (found,) = self.session.run({"x": x, "mask": np.ones((rows, length), np.bool_)})
        np.testing.assert_array_equal(found, 2 * x)

    @property
    def numbers(self) -> list[int | None]:
        return next(one.numbers for one in self.made if one.numbers)


def test_a_shape_that_comes_again_gets_buffers_of_its_own() -> None:
    world = World()
    with closing(world.session):
        for length in (3, 5, 3, 5, 3, 7):
            world.run(2, length)
        assert N_SEEN == 2
        assert world.numbers == [None, None, 1, 2, 1, None]


def test_it_is_recorded_while_nobody_allocates() -> None:
    world = World()
    with closing(world.session):
        for _ in range(4):
            world.run(2, 3)
        (used,) = [one for one in world.made if one.numbers]
        assert used.recorded_alone == [False, True, False, False]


def test_only_so_many_shapes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_slots, "MAX_KEPT", 2)
    world = World()
    with closing(world.session):
        for length in (1, 1, 2, 2, 3, 3, 3, 1):
            world.run(1, length)
        assert world.numbers == [None, 1, None, 2, None, None, None, 1]


def test_shared_buffers_grow_and_are_used_for_what_is_smaller() -> None:
    world = World()
    with closing(world.session):
        for rows, length in [(1, 4), (8, 400), (2, 3), (9, 500)]:
            world.run(rows, length)
        assert len(world.card.allocated) == 2


def test_each_slot_has_a_thread_of_its_own() -> None:
    world = World()
    with closing(world.session):
        for _ in range(5):
            world.run(1, 2)
        (used,) = [one for one in world.made if one.numbers]
        assert len(world.made) == N_SLOTS
        assert len(used.threads) == 1
        assert threading.get_ident() not in used.threads


def test_a_graph_that_cannot_be_recorded_costs_no_batch_and_after_some_no_more_are_tried(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(RuntimeError)
    with closing(world.session):
        for length in (2, 2, 2, 3, 3, 4, 4, 5, 5):
            world.run(1, length)
        assert world.numbers == [None, 1, None, None, None, 2, None, None, 3, None, None, None]
        assert "a graph could not be recorded: operation not permitted when stream is capturing" in caplog.text
        assert caplog.text.count("from now on new shapes are launched operator by operator") == 1
    assert world.card.is_empty


def test_a_record_that_failed_in_passing_does_not_end_recording() -> None:
    world = World(OutOfDeviceMemory)
    with closing(world.session):
        for length in (2, 2):
            world.run(1, length)
        for one in world.made:
            one.fails = None
        for length in (3, 3, 3):
            world.run(1, length)
        assert world.numbers == [None, 1, None, None, 2, 2]


def test_closing_gives_everything_back() -> None:
    world = World()
    for length in (1, 2, 1, 2):
        world.run(3, length)
    world.session.close()
    assert world.card.is_empty
    assert all(one.is_closed for one in world.made)


def test_a_slot_for_which_there_is_no_memory_takes_the_others_along() -> None:
    card = HostCard()
    made: list[Doubles] = []

    def open_(stream: int) -> Doubles:
        if made:
            raise OutOfDeviceMemory("the card has no memory left")
        made.append(Doubles(card))
        return made[-1]

    with pytest.raises(LoadError, match="no memory left"):
        CardSession(card, (X,), (Y,), open_)
    assert card.is_empty
    assert made[0].is_closed


def test_an_output_must_have_a_size_that_follows_from_the_inputs() -> None:
    found = TensorSpec("found", DataType.INT64, ("batch", "hits"))
    with pytest.raises(LoadError, match="output 'found' has the axis 'hits', which no input has"):
        Sizes((X,), (found,))


def test_places_do_not_overlap_and_are_aligned() -> None:
    x, mask = np.ones((3, 7), np.float32), np.ones((3, 7), np.bool_)
    (first, second), (out,) = Sizes((X, MASK), (Y,)).of({"x": x, "mask": mask})
    assert (first.offset, first.n_bytes, second.offset, second.n_bytes) == (0, 84, 256, 21)
    assert (out.shape, out.dtype) == ((3, 7), np.float32)


def test_the_pinned_half_is_given_back_when_the_card_has_no_room() -> None:
    card = HostCard(room=100)
    opened: Open = lambda stream: Doubles(card)  # noqa: E731 - a type is given
    with closing(CardSession(card, (X,), (Y,), opened)) as session:
        for length in (90, 10):
            with pytest.raises(BatchError, match="no memory left"):
                session.run({"x": np.ones((1, length), np.float32)})
            assert not card.pinned
            card.room = 64
