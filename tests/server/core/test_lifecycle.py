"""The table of states, and which version is served."""

import itertools

import pytest

from server.core.lifecycle import State, step, version_to_serve

ALLOWED = {
    (State.LOADING, State.READY),
    (State.LOADING, State.UNAVAILABLE),
    (State.READY, State.UNLOADING),
    (State.UNLOADING, State.UNAVAILABLE),
    (State.UNAVAILABLE, State.LOADING),
}


@pytest.mark.parametrize(("current", "following"), list(itertools.product(State, State)))
def test_only_the_table_moves_a_version(current: State, following: State) -> None:
    if (current, following) in ALLOWED:
        assert step(current, following) is following
    else:
        with pytest.raises(AssertionError, match=f"{current.value} cannot become {following.value}"):
            step(current, following)


def test_the_newest_version_is_served() -> None:
    assert version_to_serve([2, 10, 9]) == 10
    assert version_to_serve([]) is None
