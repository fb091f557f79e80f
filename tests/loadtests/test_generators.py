from __future__ import annotations

import os

import pytest

from loadtests import generators


@pytest.mark.parametrize(("now", "asked"), [(0, -10), (5, -10), (-15, -15)])
def test_a_generator_goes_before_the_server_on_the_same_machine(monkeypatch: pytest.MonkeyPatch, now: int, asked: int) -> None:
    niceness = [now]
    monkeypatch.setattr(os, "getpriority", lambda which, who: niceness[-1])
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: niceness.append(value))
    assert generators._go_first() == asked
    assert niceness == [now, asked]


def test_one_that_may_not_is_as_patient_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setattr(os, "setpriority", _refuse)
    assert generators._go_first() == 0


def _refuse(which: int, who: int, value: int) -> None:
    raise PermissionError(1, "Operation not permitted")
