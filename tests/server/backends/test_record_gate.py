"""Users side by side, who records alone and before those that come later."""

from __future__ import annotations

import threading
import time

import pytest

from server.backends.record_gate import RecordGate

LONG_S = 5.0


class Other(threading.Thread):
    """Enters a gate in a thread of its own and stays until it is told to leave."""

    def __init__(self, gate: RecordGate, alone: bool) -> None:
        super().__init__(daemon=True)
        self.gate, self.alone = gate, alone
        self.is_in, self.may_leave = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self.gate.alone() if self.alone else self.gate.shared():
            self.is_in.set()
            assert self.may_leave.wait(LONG_S)

    def leave(self) -> None:
        self.may_leave.set()
        self.join(LONG_S)
        assert not self.is_alive()


def waits(gate: RecordGate) -> None:
    """Until somebody waits to record."""
    while not gate._n_waiting:
        time.sleep(0.001)


def test_users_are_in_together() -> None:
    gate = RecordGate()
    other = Other(gate, alone=False)
    assert other.is_in.wait(LONG_S)
    with gate.shared():
        assert not gate.is_recording
    other.leave()


def test_who_records_waits_for_users_and_keeps_later_ones_out() -> None:
    gate = RecordGate()
    user = Other(gate, alone=False)
    assert user.is_in.wait(LONG_S)
    recorder = Other(gate, alone=True)
    waits(gate)
    later = Other(gate, alone=False)
    assert not recorder.is_in.is_set()
    user.leave()
    assert recorder.is_in.wait(LONG_S)
    assert gate.is_recording
    assert not later.is_in.is_set()
    recorder.leave()
    assert later.is_in.wait(LONG_S)
    later.leave()


def test_one_after_the_other_records() -> None:
    gate = RecordGate()
    first = Other(gate, alone=True)
    assert first.is_in.wait(LONG_S)
    second = Other(gate, alone=True)
    waits(gate)
    assert not second.is_in.is_set()
    first.leave()
    assert second.is_in.wait(LONG_S)
    second.leave()


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_leaves_it_open(alone: bool) -> None:
    gate = RecordGate()
    with pytest.raises(ZeroDivisionError), gate.alone() if alone else gate.shared():
        print(1 / 0)
    with gate.alone():
        assert gate.is_recording
    assert not gate.is_recording
