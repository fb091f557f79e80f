"""The guard and the alarm that batches and steps have in common; learning is tested in test_forecast.py and test_step_forecast.py."""

from server.core.pace import N_ENOUGH, N_RECENT, Pace, clamped
from server.core.types import Drift


def test_at_first_nothing_is_known() -> None:
    pace = Pace()
    assert pace.guard == 1.0
    assert pace.drift is Drift.NONE


def test_the_guard_is_the_slowest_but_one_of_the_recent() -> None:
    pace = Pace()
    for _ in range(N_ENOUGH - 2):
        pace._remember(1.0, 1.0)
    pace._remember(1.5, 1.0)
    assert pace.guard == 1.0, "not enough of them"
    pace._remember(2.0, 1.0)
    assert pace.guard == 1.5
    for _ in range(N_RECENT):
        pace._remember(0.9, 1.0)
    assert pace.guard == 1.0, "forgotten, and never below 1"


def test_clamped() -> None:
    assert [clamped(value, (1.0, 2.0)) for value in (0.5, 1.5, 2.5)] == [1.0, 1.5, 2.0]
