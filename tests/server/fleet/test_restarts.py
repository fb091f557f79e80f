"""How soon, and how often, a child is started again."""

from __future__ import annotations

from server.fleet.restarts import LONGEST_PAUSE_S, MOST_FAILED_STARTS, STEADY_S, Restarts


def test_who_never_got_ready_is_given_up_at_once() -> None:
    assert Restarts().pause_s(0.5, was_ready=False) is None


def test_who_lived_long_is_started_at_once_and_who_did_not_ever_more_slowly() -> None:
    restarts = Restarts()
    pauses = [restarts.pause_s(0.2, was_ready=True) for _ in range(8)]
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert restarts.pause_s(STEADY_S, was_ready=True) == 0.0
    assert restarts.pause_s(0.2, was_ready=True) == 0.0


def test_dying_after_it_was_ready_is_never_a_reason_to_give_up() -> None:
    restarts = Restarts()
    assert None not in [restarts.pause_s(0.1, was_ready=True) for _ in range(1000)]


def test_starts_that_fail_in_a_row_are_a_reason() -> None:
    restarts = Restarts()
    assert restarts.pause_s(60.0, was_ready=True) == 0.0
    assert None not in [restarts.pause_s(60.0, was_ready=False) for _ in range(MOST_FAILED_STARTS - 1)]
    assert restarts.pause_s(60.0, was_ready=True) is not None
    assert [restarts.pause_s(60.0, was_ready=False) is None for _ in range(MOST_FAILED_STARTS)] == [False] * 4 + [True]
