"""What both kinds of models have in common is tested with each; here, how they share a device."""

from __future__ import annotations

from itertools import count

import pytest

from server.core.device import FLOOR, Device
from server.core.events import Iterate, IterationDone, Run
from server.core.lane import Lane
from server.core.resident_lane import ResidentLane
from server.core.types import Iteration, Limits, Mixing, ModelKey
from tests.server.core.build import LIMITS, MS, costs, ids, prompt, request, resident_lane

OTHER = ModelKey("n", 1)


def pair() -> tuple[Device[str], Lane[str], ResidentLane[str]]:
    """A model whose batches of b take b + 4 ms beside one that promises a token every 20 ms."""
    device: Device[str] = Device()
    one_shot: Lane[str] = Lane(OTHER, Limits(8, 100), Mixing.ANY, costs(), device)
    one_shot.add_instance(0.0)
    return device, one_shot, resident_lane(device=device)


def begin(lane: ResidentLane[str], at_ms: float) -> Iteration[str]:
    (action,) = lane.start_next(at_ms * MS, count(1).__next__)
    assert isinstance(action, Iterate)
    return action.iteration


def test_only_one_of_them_runs_at_a_time() -> None:
    device, one_shot, resident = pair()
    resident.waiting.add(prompt(1))
    one_shot.waiting.add(request(2, 500, model=OTHER))
    assert resident.wants_device
    first = device.next(0.0)
    assert first is one_shot, "whose last moment to start is earlier"
    assert [type(action) for action in first.start_next(0.0, count(1).__next__)] == [Run]
    assert device.next(0.0) is None


def test_who_decodes_goes_first_when_another_batch_would_break_the_promise() -> None:
    device, one_shot, resident = pair()
    resident.waiting.add(prompt(1))
    resident.finish(IterationDone(begin(resident, 0), ()), 2 * MS)
    one_shot.waiting.add(request(2, 30, model=OTHER, priority=-1))
    assert resident.promised_start == pytest.approx(20 * MS), "2 + 20 - 2"
    assert device.next(2 * MS) is one_shot, "its batch of one ends at 7"
    assert device.next(14 * MS) is one_shot, "at 19"
    assert device.next(16 * MS) is resident


def test_a_prompt_that_waits_has_its_place_in_that_promise() -> None:
    _, _, resident = pair()
    resident.waiting.add(prompt(1))
    resident.finish(IterationDone(begin(resident, 0), ()), 2 * MS)
    resident.waiting.add(prompt(2))
    assert resident.promised_start == pytest.approx((2 + 20 - 2 - 7.4) * MS)
    assert resident.next_s == pytest.approx(9.4 * MS)


def test_a_step_after_anothers_batch_has_only_what_is_left_of_the_gap() -> None:
    _, _, resident = pair()
    resident.waiting.add(prompt(1))
    resident.finish(IterationDone(begin(resident, 0), ()), 2 * MS)
    resident.waiting.add(prompt(2, length=200))
    assert [chunk.stop for chunk in begin(resident, 12).chunks] == [64], "10 ms: 2 and 7.4"


def test_nobody_blocks_the_device_for_longer_than_the_neighbours_have_patience() -> None:
    device, one_shot, resident = pair()
    resident.waiting.add(prompt(1))
    resident.finish(IterationDone(begin(resident, 0), ()), 2 * MS)
    assert resident.patience_s == pytest.approx(18 * MS)
    assert device.most_s(one_shot, 2 * MS) == pytest.approx(9 * MS)
    one_shot.asked(request(2, 17, model=OTHER), 2 * MS)
    assert device.most_s(resident, 2 * MS) == pytest.approx(5 * MS), "half of 17 - 2 - 5"
    resident.waiting.add(prompt(2, length=64))
    assert begin(resident, 2).chunks == (), "7.4 ms are too much"


def test_work_of_those_who_stay_counts_at_the_neighbours_admission() -> None:
    device, one_shot, resident = pair()
    assert device.work_before_s(one_shot, 0, 0.1, 0.0) == 0.0
    resident.waiting.add(prompt(1))
    assert device.work_before_s(one_shot, 0, 0.1, 0.0) == 0.0, "it has all the time"
    assert device.work_before_s(one_shot, 1, 0.1, 0.0) == pytest.approx(2 * MS)
    resident.finish(IterationDone(begin(resident, 0), ()), 2 * MS)
    assert device.work_before_s(one_shot, 0, 0.1, 0.0) == pytest.approx(5 * 2 * MS), "a step of 2 ms every 20 ms"
    one_shot.waiting.add(request(2, 10, model=OTHER))
    late = prompt(3, deadline_ms=15)
    assert resident.why_not(late, 2 * MS) is None
    one_shot.waiting.add(request(4, 10, rows=8, model=OTHER))
    assert resident.why_not(late, 2 * MS) is not None


def test_priority_and_urgency_of_those_who_stay() -> None:
    _, _, resident = pair()
    resident.waiting.add(prompt(1, priority=2))
    assert resident.priority == 2
    first = begin(resident, 0)
    resident.waiting.add(prompt(2, 500, length=100, priority=1))
    resident.finish(IterationDone(first, ()), 2 * MS)
    assert resident.priority == 1
    assert resident.latest_safe_start == pytest.approx((22 - 2 - 7.4) * MS)
    resident.cancel(first.chunks[0].request)
    assert resident.latest_safe_start == pytest.approx((500 - 11) * MS)
    second = begin(resident, 3)
    assert ids([chunk.request for chunk in second.chunks]) == [2]
    assert resident.is_active(1e6)


def test_an_unfinished_prompt_is_as_urgent_as_its_first_token() -> None:
    device: Device[str] = Device()
    resident = resident_lane(LIMITS._replace(step_tokens=64), device=device)
    resident.waiting.add(prompt(1, 300, length=100))
    resident.finish(IterationDone(begin(resident, 0), ()), 8 * MS)
    assert resident.latest_safe_start == pytest.approx((300 - 11) * MS)
    assert resident.promised_start == float("inf")
    assert resident.wants_device


def test_the_floor_is_that_of_the_device() -> None:
    device, one_shot, resident = pair()
    resident.waiting.add(prompt(1, priority=1))
    one_shot.waiting.add(request(2, 500, model=OTHER))
    assert device.next(0.0) is one_shot
    device.started(one_shot, 9.4 * MS / FLOOR)
    assert device.next(0.0) is resident
