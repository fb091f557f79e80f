"""Models that share a device, decision by decision. l(b) = b + 4 ms, at most 8 rows; see tests/sim for what it brings."""

from __future__ import annotations

import pytest

from server.core.device import FLOOR, Device
from server.core.lane import Lane
from server.core.policy import choose
from server.core.types import Limits, Mixing, ModelKey
from tests.server.core.build import MS, batch, costs, ids, request

A, B = ModelKey("a", 1), ModelKey("b", 1)


def shared(instances_a: int = 1, instances_b: int = 1) -> tuple[Device[str], Lane[str], Lane[str]]:
    device: Device[str] = Device()
    lanes = [Lane(key, Limits(8, 100), Mixing.ANY, costs(), device) for key in (A, B)]
    lanes[0].instances, lanes[1].instances = instances_a, instances_b
    return device, lanes[0], lanes[1]


def test_alone_a_model_waits_for_its_instances_only() -> None:
    device: Device[str] = Device()
    lane = Lane(A, Limits(8, 100), Mixing.ANY, costs(), device)
    lane.instances = 1
    assert device.next(0.0) is None
    lane.waiting.add(request(1, model=A))
    assert device.next(0.0) is lane
    lane.start(batch(request(2, model=A)))
    assert device.next(0.0) is None


def test_a_batch_takes_its_models_share_of_the_device() -> None:
    device, a, b = shared(instances_a=2)
    a.start(batch(request(1, model=A)))
    assert device.has_room(a)
    assert not device.has_room(b)
    assert device.free_at(a, 0.0) == 0.0
    assert device.free_at(b, 0.0) == pytest.approx(5 * MS)
    a.start(batch(request(2, model=A), number=2, formed_ms=1))
    assert device.free_at(a, 0.001) == pytest.approx(5 * MS), "the first end makes room for one"
    assert device.free_at(b, 0.001) == pytest.approx(6 * MS), "both must end"


def test_the_most_urgent_goes_first_and_nobody_before_it() -> None:
    device, a, b = shared(instances_a=2)
    a.waiting.add(request(1, 100, model=A))
    b.waiting.add(request(2, 50, model=B))
    assert device.next(0.0) is b
    a.start(batch(request(3, model=A)))
    assert device.next(0.0) is None, "b needs the whole device, and a does not take what becomes free"


def test_priority_is_before_urgency_until_the_floor_is_due() -> None:
    device, a, b = shared()
    a.waiting.add(request(1, 500, model=A))
    b.waiting.add(request(2, 50, model=B, priority=1))
    assert device.next(0.0) is a
    device.started(a, 5 * MS / FLOOR)
    assert device.next(0.0) is b
    device.started(b, 5 * MS)
    assert device.next(0.0) is a


def test_where_one_would_be_late_who_had_less_goes_first() -> None:
    device, a, b = shared()
    a.waiting.add(request(1, 8, model=A))
    b.waiting.add(request(2, 9, model=B))
    assert device.next(0.0) is a
    a.used_s = 1.0
    assert device.next(0.0) is b


def test_a_batch_may_block_for_half_of_the_least_slack_of_active_neighbours() -> None:
    device, a, b = shared()
    assert device.most_s(a, 0.0) == float("inf")
    b.asked(request(1, 21, model=B), 0.0)
    assert device.most_s(a, 0.0) == pytest.approx(8 * MS), "21 ms less 5 ms alone, halved"
    for number in range(8):
        a.waiting.add(request(10 + number, 1000, model=A))
    assert ids(a.choose(0.0).requests) == [10, 11, 12, 13], "four rows take 8 ms"
    assert len(a.choose(0.9).requests) == 8, "nobody has asked for b for long"
    b.asked(request(2, 1000, model=B), 0.0)
    assert b.slack_s < 30 * MS, "much slack is believed slowly"


def test_work_of_the_neighbours_counts_at_admission() -> None:
    device, a, b = shared()
    a.start(batch(request(1, model=A)))
    for number in range(8):
        b.waiting.add(request(10 + number, 30, model=B))
    assert a.refusal(request(2, 29, model=A), 0.0) is None
    assert device.work_before_s(a, 0, 0.030, 0.0) == pytest.approx(12 * MS)
    assert a.refusal(request(2, 31, model=A), 0.0) is None, "5 ms, 12 ms, 5 ms"
    b.forecast.ratio = 3.0
    assert a.refusal(request(2, 31, model=A), 0.0) is not None


def test_nothing_is_formed_ahead_of_a_neighbour_that_waits() -> None:
    device, a, b = shared()
    assert not device.is_wanted_beside(a)
    b.waiting.add(request(1, model=B))
    assert device.is_wanted_beside(a)
    assert not device.is_wanted_beside(b)


def test_it_is_left_to_who_has_no_active_neighbour() -> None:
    device, a, b = shared()
    assert device.is_left_to(a, 0.0)
    b.waiting.add(request(1, model=B))
    assert not device.is_left_to(a, 0.0)
    assert device.is_left_to(b, 0.0)


def test_a_lower_priority_with_a_tighter_deadline_does_not_shrink_the_batch() -> None:
    first, second = request(1, 1000), request(2, 5.5, priority=1)
    forecast = Lane(A, Limits(8, 100), Mixing.ANY, costs(), Device[str]()).forecast
    choice = choose([first, second], 2, Mixing.ANY, Limits(8, 100), forecast, 0.0)
    assert (ids(choice.requests), choice.close.value) == ([1], "priority")
    choice = choose([first, request(3, 6.5, priority=1)], 2, Mixing.ANY, Limits(8, 100), forecast, 0.0)
    assert (ids(choice.requests), choice.close.value) == ([1, 3], "idle")
