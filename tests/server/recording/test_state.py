from __future__ import annotations

import random

import orjson
import pytest

from server.contract.step_profile import StepProfile
from server.core.events import Cancel, Event, InstanceUp, Open, OpenResident, Run, StepDone, Submit
from server.core.policy import WINDOW
from server.core.scheduler import Scheduler
from server.core.step_costs import StepTable
from server.core.types import InferRequest, Limits, Mixing
from server.recording.facts import costs_facts
from server.recording.file import pieces, read
from server.recording.known import read_steps
from server.recording.replay import first_difference
from server.recording.ring import Ring
from server.recording.state import Saved, restore, save
from tests.golden.make import RecordedMixedWorld, RecordedWorld
from tests.server.contract.examples import STEPS_JSON
from tests.server.core.build import KEY, LIMITS, costs
from tests.server.recording.build import HEADER, Tape

N_WORLDS = 20

LEARNING = 89
"""The seed of a world with a model that learns its costs for a long while."""


@pytest.fixture(params=[RecordedWorld, RecordedMixedWorld])
def kind(request: pytest.FixtureRequest) -> type[RecordedWorld]:
    found: type[RecordedWorld] = request.param
    return found


def test_a_scheduler_goes_on_from_any_of_its_states_as_it_went_on(kind: type[RecordedWorld]) -> None:
    """Random worlds with accidents, a state about every 40 events: replayed from each of them, all decisions are the same."""
    n_parts = 0
    for seed in range(N_WORLDS):
        world = kind(seed, chunk_bytes=8000)
        world.run()
        recording = read(b"".join(pieces(HEADER, world.ring.chunks())))
        for place in range(len(recording.parts)):
            rest = recording._replace(parts=recording.parts[place:])
            assert first_difference(rest) is None, f"seed {seed}, part {place}"
        n_parts += len(recording.parts)
    assert n_parts > 2 * N_WORLDS


@pytest.mark.parametrize("mixing", [Mixing.PADDED, Mixing.EQUAL])
def test_groups_that_outlive_a_batch_are_in_its_states(mixing: Mixing) -> None:
    """A queue so deep that they are kept, with requests that leave it; replayed from each of its states, all decisions are the same."""
    rnd = random.Random(1)
    scheduler: Scheduler[None] = Scheduler()
    ring = Ring(scheduler, chunk_bytes=2000)
    requests = [InferRequest(n, KEY, 1, rnd.randint(1, 100), 0.0, 1e6 + n, None) for n in range(5 * WINDOW)]
    told: list[Event[None]] = [
        Open(KEY, Limits(16, 10**6), mixing, costs(0.1, 4, max_rows=16, lengths=(1, 100))), InstanceUp(KEY), Submit(KEY, tuple(requests)),
    ]  # fmt: skip
    now = 0.0
    while told:
        event = told.pop(0)
        actions = scheduler.handle(event, now)
        ring.note(event, actions, now)
        now += 0.01
        for action in actions:
            if isinstance(action, Run):
                told += [Cancel(requests[rnd.randrange(len(requests))]), StepDone(action.batch)]
    recording = read(b"".join(pieces(HEADER, ring.chunks())))
    assert len(recording.parts) > 4
    for place in range(len(recording.parts)):
        assert first_difference(recording._replace(parts=recording.parts[place:])) is None


def test_steps_that_were_measured_are_in_a_recording() -> None:
    """Of a model that generates, in the event that opened it and in a state."""
    scheduler: Scheduler[None] = Scheduler()
    table = StepTable(StepProfile.from_json(STEPS_JSON, "steps.json"))
    ring = Ring(scheduler)
    opened = OpenResident(KEY, LIMITS, table)
    ring.note(opened, scheduler.handle(opened, 0.0), 0.0)
    again, _ = restore(save(scheduler))
    assert first_difference(read(b"".join(pieces(HEADER, ring.chunks())))) is None
    for read_back in (read_steps(costs_facts(table)), again.resident_lane(KEY).forecast.costs):
        assert [read_back.decode_s(rows, 100 * rows) for rows in (1, 3, 9)] == [
            table.decode_s(rows, 100 * rows) for rows in (1, 3, 9)
        ]
        assert read_back.prefill_s(100) == table.prefill_s(100)
        assert read_back.guard == table.guard


def test_what_was_learnt_of_a_model_without_a_profile_is_in_its_states() -> None:
    world = RecordedWorld(LEARNING, chunk_bytes=3000)
    world.run()
    recording = read(b"".join(pieces(HEADER, world.ring.chunks())))
    assert any(b'"Learning"' in orjson.dumps(part.saved.tree) for part in recording.parts)
    for place in range(len(recording.parts)):
        assert first_difference(recording._replace(parts=recording.parts[place:])) is None


def test_what_is_saved_is_whole(kind: type[RecordedWorld]) -> None:
    for seed in range(N_WORLDS):
        world = kind(seed, chunk_bytes=8000)
        world.run()
        for part in read(b"".join(pieces(HEADER, world.ring.chunks()))).parts:
            scheduler, _ = restore(part.saved)
            again = save(scheduler)
            assert orjson.loads(orjson.dumps([again.requests, again.tree])) == [part.saved.requests, part.saved.tree]


def test_payloads_are_left_out() -> None:
    tape = Tape()
    tape.submit(0.0, 1, 2, 3)
    tape.submit(1.0, 4)
    saved = save(tape.scheduler)
    assert b"payload" not in orjson.dumps([saved.requests, saved.tree])
    scheduler, known = restore(saved)
    assert sorted(known.requests) == [1, 2, 3, 4]
    assert repr(scheduler) == repr(tape.scheduler)


def test_what_it_does_not_know_is_refused_not_forgotten() -> None:
    class Novelty:
        pass

    scheduler: Scheduler[None] = Scheduler()
    scheduler.novelty = Novelty()  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="a Novelty is nothing that a recording can hold"):
        save(scheduler)


@pytest.mark.parametrize("tree", [{"Scheduler": 5}, {"Earthquake": {}}, {"Lane": {}}, [1], {"again": 0}, {"a": 1, "b": 2}])
def test_what_is_no_state_is_refused(tree: object) -> None:
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError)):
        restore(Saved(tree, [], []))
