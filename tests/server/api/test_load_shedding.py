"""What is left of a server when more is asked than it can take on, in virtual time; drops are misses."""

from __future__ import annotations

from itertools import pairwise

import pytest

from server.api import load_shedding
from server.api.load_shedding import MOST, LoadShedder
from tests.server.api.loop_world import LoopWorld, WaitingCrowd

ANSWER_S, REFUSAL_S = 200e-6, 15e-6  # as measured for 16 rows of 64 numbers in JSON
PEAK = 1 / ANSWER_S
BEFORE_S, OVERLOAD_S, AFTER_S = 1.0, 4.0, 2.0


def overloaded(factor: float, slo_s: float, seed: int) -> LoopWorld:
    world = LoopWorld(ANSWER_S, REFUSAL_S, slo_s)
    world.play([(0.5 * PEAK, BEFORE_S), (factor * PEAK, OVERLOAD_S), (0.5 * PEAK, AFTER_S)], seed)
    return world


@pytest.mark.parametrize("slo_s", [0.02, 0.05])
@pytest.mark.parametrize(("factor", "kept"), [(1.5, 0.92), (3.0, 0.78)])
def test_an_overload_leaves_most_of_the_goodput_and_ends_when_it_ends(factor: float, kept: float, slo_s: float) -> None:
    world = overloaded(factor, slo_s, seed=1)
    ends_at = BEFORE_S + OVERLOAD_S
    assert world.share_in_time(0.1, BEFORE_S) == pytest.approx(0.5, abs=0.05)
    assert world.share_in_time(BEFORE_S, ends_at) >= kept
    assert world.share_in_time(ends_at + 0.5, ends_at + AFTER_S - 0.1) == pytest.approx(0.5, abs=0.05)
    assert world.shedder.share == 0.0


@pytest.mark.parametrize("factor", [1.5, 3.0])
def test_without_it_nothing_is_left(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_shedding, "MOST", 0.0)
    world = overloaded(factor, 0.05, seed=1)
    assert world.share_in_time(BEFORE_S + 1, BEFORE_S + OVERLOAD_S) < 0.02


def test_no_more_than_so_many_are_refused_however_many_ask() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.02)
    world.play([(20 * PEAK, 1.0)], seed=1)
    assert world.shedder.share == MOST
    n_answered = world.n_late + sum(world.in_time.values())
    assert n_answered * ANSWER_S > 0.6, "most of the time is still spent on answers"


def test_a_full_loop_with_short_turns_refuses_nobody() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05, n_clients=64)
    world.play([(3 * PEAK, 1.0)], seed=1)
    assert world.n_refused == 0


@pytest.mark.parametrize(("surprise", "is_refused"), [(load_shedding.SURPRISE, False), (float("inf"), True)])
def test_stops_in_the_middle_of_a_turn_are_not_held_against_the_clients(
    surprise: float, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few connections whose clients wait for each answer: however often something else has the processor, no turn of theirs can be
    too long."""
    monkeypatch.setattr(load_shedding, "SURPRISE", surprise)
    world = WaitingCrowd(40e-6, 20e-6, 0.02, n_clients=64)
    for at in (0.5, 0.7, 0.9):
        world.call_later(at, lambda: setattr(world, "slowness", 10.0))
        world.call_later(at + 0.005, lambda: setattr(world, "slowness", 1.0))
    world.play([], seed=1, lasts_s=1.5)
    assert bool(world.n_refused) is is_refused


def test_requests_that_have_become_dearer_are_an_overload_soon() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05, n_clients=256)
    world.call_later(0.5, lambda: setattr(world, "slowness", 10.0))
    world.play([(0.5 * PEAK, 1.0)], seed=1)
    assert world.n_refused > 0


def test_what_one_long_stop_has_left_behind_is_soon_worked_off() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05)
    world.call_later(0.5, lambda: world.work(0.2))
    world.play([(0.8 * PEAK, 2.5)], seed=1)
    assert world.n_refused > 0
    assert world.share_in_time(0.9, 2.4) == pytest.approx(0.8, abs=0.05)
    assert world.shedder.share == 0.0


def test_a_crowd_that_waits_for_its_answers_is_refused_for_a_spell_only() -> None:
    """To clients who ask again at once each refusal is a request more: their turns stay as long, however many are refused."""
    world = WaitingCrowd(ANSWER_S, ANSWER_S / 2, 0.05, n_clients=125)
    world.call_later(0.5, lambda: setattr(world, "slowness", 4.0))
    world.call_later(0.6, lambda: setattr(world, "slowness", 1.0))
    world.play([], seed=1, lasts_s=3.0)
    assert world.share_in_time(0.7, 1.0) < 0.5
    assert world.share_in_time(2.0, 2.9) == pytest.approx(1.0, abs=0.05)


def test_it_is_tried_again_and_again_whether_it_goes_without_but_less_and_less_often() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05)
    tries_at: list[float] = []
    was_overload = False

    def look() -> None:
        nonlocal was_overload
        if was_overload and not world.shedder.is_overload:
            tries_at.append(world.now)
        was_overload = world.shedder.is_overload
        world.call_later(0.005, look)

    look()
    world.play([(2 * PEAK, 9.0)], seed=1)
    gaps = [later - before for before, later in pairwise(tries_at)]
    assert len(gaps) >= 2
    assert all(later > 1.5 * before for before, later in pairwise(gaps))


def test_it_sleeps_while_nothing_is_asked() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05)
    world.play([(0.5 * PEAK, 0.5), (1e-9, 1.0)], seed=1)
    assert not world._timers
    shedder: LoadShedder = world.shedder
    assert shedder.retry_after_s > 0
