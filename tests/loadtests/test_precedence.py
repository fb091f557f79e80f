from __future__ import annotations

import os

import pytest

from loadtests.precedence import go_first, going_first


@pytest.fixture
def nicenesses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of this thread, one after another; really it stays as it is."""
    found = [0]
    monkeypatch.setattr(os, "getpriority", lambda which, who: found[-1])
    monkeypatch.setattr(os, "setpriority", lambda which, who, value: found.append(value))
    return found


@pytest.mark.parametrize(("now", "asked"), [(0, -10), (5, -10), (-15, -15)])
def test_clients_go_before_the_server_on_the_same_machine(nicenesses: list[int], now: int, asked: int) -> None:
    nicenesses[0] = now
    assert go_first() == asked
    assert nicenesses == [now, asked]


def test_for_a_while_only(nicenesses: list[int]) -> None:
    with going_first() as niceness:
        assert niceness == -10
    assert nicenesses == [0, -10, 0]


def test_who_may_not_is_as_patient_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpriority", lambda which, who: 0)
    monkeypatch.setattr(os, "setpriority", _refuse)
    assert go_first() == 0


def _refuse(which: int, who: int, value: int) -> None:
    raise PermissionError(1, "Operation not permitted")
