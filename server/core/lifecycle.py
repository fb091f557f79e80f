"""The states of a model version and the only ways between them."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """Names as the V2 repository index gives them."""

    LOADING = "LOADING"
    READY = "READY"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


_TRANSITIONS = {
    State.LOADING: {State.READY, State.UNAVAILABLE},
    State.READY: {State.UNLOADING},
    State.UNLOADING: {State.UNAVAILABLE},
    State.UNAVAILABLE: {State.LOADING},
}


def step(current: State, following: State) -> State:
    """`following`, if the table allows it. Anything else is a bug of ours: AssertionError."""
    assert following in _TRANSITIONS[current], f"{current.value} cannot become {following.value}"
    return following


def version_to_serve(on_disk: list[int]) -> int | None:
    """Which of a model's versions should be loaded: the newest; None when there is none."""
    return max(on_disk, default=None)
