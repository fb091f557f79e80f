"""What a newcomer may expect: 1 ms and 1 ms a row to decode, 1 ms and 0.1 ms a token for a chunk; 4 slots, a token every 20 ms."""

import pytest

from server.core.lifetimes import Lifetimes
from server.core.outlook import Outlook, most_rows
from server.core.residents import Residents, Stepping
from server.core.step_forecast import StepForecast
from server.core.types import Iteration, ResidentLimits
from tests.server.core.build import KEY, LIMITS, MS, STEPS, prompt


def place(*n_new: int, limits: ResidentLimits = LIMITS, number: int = 0) -> Residents[str]:
    """One with residents who decode: 10 tokens of prompt each, so many of 100 new ones."""
    one: Residents[str] = Residents(number, limits)
    for request_id, count in enumerate(n_new):
        one.join(prompt(request_id, new_tokens=100), 110.0)
        resident = one.prefilling.pop(request_id)
        resident.n_prefilled, resident.n_new = 10, count
        one.decoding[request_id] = resident
        one.context += 10 + count
    return one


def outlook(
    *places: Residents[str], ends_ms: tuple[float, ...] = (), limits: ResidentLimits = LIMITS, all_take: int = 0, now_ms: float = 0.0
) -> Outlook:  # fmt: skip
    """Steps of 5 ms."""
    lifetimes = Lifetimes()
    if all_take:
        lifetimes.learn(all_take, 100)
    step: Iteration[str] = Iteration(1, KEY, 0, (), (), 0, 0.0)
    running = {number: Stepping(step, end_ms * MS, 0.0, 0.0) for number, end_ms in enumerate(ends_ms)}
    by_number = {one.instance: one for one in places}
    return Outlook(by_number, running, limits, StepForecast(STEPS), lifetimes, 5 * MS, now_ms * MS)


def first_ms(
    one: Outlook, n_before: float = 0, room: float = 0, work_ms: float = 0, length: int = 10, now_ms: float = 0
) -> float:
    return one.first_at(n_before, room, work_ms * MS, length, 100, now_ms * MS) / MS


def test_an_idle_instance_takes_a_prompt_at_once() -> None:
    assert first_ms(outlook(place()), now_ms=7) == pytest.approx(9)


def test_without_an_instance_it_is_as_if_one_were_idle() -> None:
    assert first_ms(outlook(), n_before=50) == pytest.approx(2)


def test_beside_others_it_is_the_end_of_the_next_step() -> None:
    """The one that runs ends at 6; the next decodes two (3 ms) and takes the prompt (2 ms)."""
    assert first_ms(outlook(place(1, 1), ends_ms=(6,))) == pytest.approx(6 + 3 + 2)


def test_a_long_prompt_takes_several_steps() -> None:
    """17 ms are left in each."""
    assert first_ms(outlook(place(1, 1), ends_ms=(6,)), length=300) == pytest.approx(6 + 31 + 2 * 3)


def test_prompts_before_it_take_their_share_of_the_steps() -> None:
    assert first_ms(outlook(place(1, 1), ends_ms=(6,)), work_ms=34) == pytest.approx(6 + 34 * 20 / 17 + 3 + 2)


def test_unfinished_prompts_are_before_it_too() -> None:
    one = place(1)
    one.join(prompt(7, length=100), 100.0)
    assert first_ms(outlook(one, ends_ms=(6,))) == pytest.approx(6 + 11 * 20 / 17 + 3 + 2)


def test_when_all_slots_are_taken_it_waits_for_the_first_to_leave() -> None:
    """Of 50 tokens those have had 10, 20, 30 and 40; steps of 5 ms."""
    full = outlook(place(10, 20, 30, 40), ends_ms=(0,), all_take=50)
    assert [round(first_ms(full, n_before=count) - 5 - 2) for count in range(4)] == [50, 100, 150, 200]
    assert round(first_ms(full, n_before=4) - 5 - 2) == 50 + 250, "and then for the first of those who came for them"


def test_those_whose_turn_on_a_shared_device_has_not_come_stay_on() -> None:
    waits = outlook(place(10, 20, 30, 40), all_take=50, now_ms=1000)
    assert round(first_ms(waits, now_ms=1000) - 5 - 2) == 1050


def test_free_slots_come_first() -> None:
    half = outlook(place(10, 20), ends_ms=(0,), all_take=50)
    assert [round(first_ms(half, n_before=count) - 3 - 2) for count in range(4)] == [0, 0, 150, 200]


def test_room_is_waited_for_like_a_slot() -> None:
    limits = LIMITS._replace(room=300)
    tight = outlook(place(10, 20, limits=limits), ends_ms=(0,), limits=limits, all_take=50)
    assert round(first_ms(tight) - 3 - 2) == 150, "110 are asked for and 80 are left"
    assert round(first_ms(tight, room=100) - 3 - 2) == 200
    assert round(first_ms(tight, room=5) - 3 - 2) == 150


def test_two_instances_work_off_twice_as_much() -> None:
    pair = outlook(place(1, 1), place(1, 1, number=1), ends_ms=(6, 9))
    assert first_ms(pair, work_ms=34) == pytest.approx(6 + 17 * 20 / 17 + 3 + 2)


def test_how_many_rows_keep_the_gap() -> None:
    forecast = StepForecast(STEPS)
    assert [most_rows(place(), LIMITS._replace(gap_s=gap_ms * MS), forecast) for gap_ms in (1, 2, 3.5, 9)] == [1, 1, 2, 4]


def test_nobody_is_expected_to_join_where_steps_are_too_long_already() -> None:
    limits = LIMITS._replace(gap_s=3.5 * MS)
    one = outlook(place(10, 20, limits=limits), ends_ms=(0,), limits=limits, all_take=50)
    assert first_ms(one) > 150
