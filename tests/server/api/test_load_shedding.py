"""What is left of a server when more is asked than it can take on, in virtual time; drops are misses."""

from __future__ import annotations

import pytest

from server.api import load_shedding
from server.api.load_shedding import MOST, LoadShedder
from tests.server.api.loop_world import LoopWorld

ANSWER_S, REFUSAL_S = 200e-6, 15e-6  # as measured for 16 rows of 64 numbers in JSON
PEAK = 1 / ANSWER_S
BEFORE_S, OVERLOAD_S, AFTER_S = 1.0, 4.0, 2.0


def overloaded(factor: float, slo_s: float, seed: int) -> LoopWorld:
    world = LoopWorld(ANSWER_S, REFUSAL_S, slo_s)
    world.play([(0.5 * PEAK, BEFORE_S), (factor * PEAK, OVERLOAD_S), (0.5 * PEAK, AFTER_S)], seed)
    return world


@pytest.mark.parametrize("slo_s", [0.02, 0.05])
@pytest.mark.parametrize(("factor", "kept"), [(1.5, 0.8), (3.0, 0.7)])
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


def test_what_one_long_stop_has_left_behind_is_soon_worked_off() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05)
    world.play([(0.5 * PEAK, 0.5)], seed=1)
    world.now += 0.2
    world.play([(0.5 * PEAK, 2.0)], seed=2)
    assert world.share_in_time(1.0, 1.9) == pytest.approx(0.5, abs=0.05)
    assert world.shedder.share == 0.0


def test_it_sleeps_while_nothing_is_asked() -> None:
    world = LoopWorld(ANSWER_S, REFUSAL_S, 0.05)
    world.play([(0.5 * PEAK, 0.5), (1e-9, 1.0)], seed=1)
    assert not world._timers
    shedder: LoadShedder = world.shedder
    assert shedder.retry_after_s > 0
