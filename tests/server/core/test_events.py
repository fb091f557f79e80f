"""Events and actions are values: equal when they say the same, and never changed."""

import dataclasses

import pytest

from server.core.events import Cancel, Closed, Drain, InstanceUp, StepFailed, Wake
from server.core.types import ModelKey
from tests.server.core.build import KEY, batch, request


def test_events_are_values() -> None:
    one = request(1)
    both = batch(one)
    assert Drain(KEY) == Drain(KEY)
    assert {Drain(KEY)}.isdisjoint({Closed(KEY)})
    assert InstanceUp(KEY) != InstanceUp(ModelKey("n", 1))
    assert StepFailed(both, "x") == StepFailed(both, "x")
    assert Cancel(one) != Cancel(request(1)), "requests are told apart by identity"
    assert Wake() == Wake()


def test_events_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Drain(KEY).model = KEY  # type: ignore[misc]
