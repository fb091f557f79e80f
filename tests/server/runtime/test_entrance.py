"""Who is turned away before his request is decoded, and what is asked for that, by a clock that stands."""

from __future__ import annotations

import pytest

from server.contract.classes import Classes, ServiceClass
from server.contract.manifest import Manifest
from server.core.types import ModelKey
from server.errors import Refused
from server.runtime.entrance import Entrance
from server.runtime.reply_time import within_s

NOW = 100.0
FULL = Refused("too much waits", "deadline", 1.0)


class Model:
    """Satisfies ServingModel: two classes, the second by default."""

    key = ModelKey("m", "1")
    slo_s = 0.1
    classes = Classes((ServiceClass("urgent", 0.02), ServiceClass("usual", 0.1)), 2)
    max_rows = 1
    fastest_s = 0.01

    @property
    def manifest(self) -> Manifest:
        raise AssertionError("nothing is asked of it")


class Door(Entrance[Model]):
    """Remembers what it was asked. `full`: what it says of the queue."""

    def __init__(self, full: Refused | None = None) -> None:
        super().__init__(lambda: NOW)
        self.full = full
        self.asked: list[tuple[float, int]] = []
        self.noted: list[tuple[float, Refused]] = []

    def crowded_out(self, model: Model, arrived_at: float, priority: int = 0) -> Refused | None:
        self.asked.append((arrived_at, priority))
        return self.full

    def turned_away(self, model: Model, waited_s: float, error: Refused) -> None:
        self.noted.append((waited_s, error))


def test_a_request_of_no_known_arrival_comes_now_and_is_let_in() -> None:
    door = Door(FULL)
    assert door.arrival(Model(), None) == NOW
    assert (door.asked, door.noted) == ([], [])


def test_one_in_time_is_let_in_if_the_queue_has_room_for_its_class() -> None:
    door = Door()
    assert door.arrival(Model(), NOW - 0.05) == NOW - 0.05
    assert door.arrival(Model(), NOW - 0.005, 1) == NOW - 0.005
    assert (door.asked, door.noted) == ([(NOW - 0.05, 0), (NOW - 0.005, 1)], [])


def test_one_that_is_crowded_out_is_told_what_the_queue_says_and_noted_once() -> None:
    door = Door(FULL)
    with pytest.raises(Refused) as caught:
        door.arrival(Model(), NOW - 0.05)
    assert caught.value is FULL
    assert door.noted == [(pytest.approx(0.05), FULL)]


@pytest.mark.parametrize(("waited_s", "priority", "slo_ms"), [(0.2, 0, 100), (0.05, 1, 20), (0.2, 2, 100)])
def test_one_read_too_late_for_its_class_is_refused_without_a_look_at_the_queue(
    waited_s: float, priority: int, slo_ms: int
) -> None:
    door = Door()
    with pytest.raises(Refused, match=f"waited {waited_s * 1e3:.0f} ms .* within its {slo_ms} ms") as caught:
        door.arrival(Model(), NOW - waited_s, priority)
    assert caught.value.retry_after_s == pytest.approx(waited_s + Model.fastest_s - within_s(slo_ms / 1e3))
    assert door.asked == []
    assert door.noted == [(pytest.approx(waited_s), caught.value)]


@pytest.mark.parametrize(("priority", "slo_s"), [(0, 0.1), (1, 0.02), (2, 0.1)])
def test_late_is_what_the_fastest_answer_and_its_reply_leave_of_the_classes_slo(priority: int, slo_s: float) -> None:
    door = Door()
    latest_s = within_s(slo_s) - Model.fastest_s
    assert door.late_s(Model(), latest_s + 0.001, priority) == pytest.approx(0.001)
    assert door.late_s(Model(), latest_s - 0.001, priority) == pytest.approx(-0.001)
