"""One step while it is planned: 1 ms and 0.1 ms a token for each chunk, chunks of 64."""

import pytest

from server.core.step_forecast import StepForecast
from server.core.stepping import Plan
from tests.server.core.build import LIMITS, MS, STEPS, prompt


def plan(decode_ms: float = 0.0, most_ms: float = float("inf"), step_tokens: int = 512) -> Plan[str]:
    return Plan(LIMITS._replace(step_tokens=step_tokens), StepForecast(STEPS), decode_ms * MS, most_ms * MS, 0.0)


def spans(one: Plan[str]) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.stop) for chunk in one.chunks]


def test_when_nobody_decodes_whole_prompts_go_as_far_as_the_step_has_room() -> None:
    one = plan()
    assert one.add(prompt(1, length=300), 0)
    assert one.add(prompt(2, length=300), 0)
    assert spans(one) == [(0, 300), (0, 192)], "512 tokens, cut at a multiple of 64"
    assert one.takes_s == pytest.approx((31 + 20.2) * MS)


@pytest.mark.parametrize(("most_ms", "expected"), [(12.3, []), (12.5, [(0, 64)]), (20, [(0, 128)]), (36.1, [(0, 300)])])
def test_beside_those_who_decode_as_much_as_their_gap_leaves(most_ms: float, expected: list[tuple[int, int]]) -> None:
    one = plan(5, most_ms)
    assert one.add(prompt(1, length=300), 0) is bool(expected)
    assert spans(one) == expected


def test_the_last_chunk_is_what_is_left() -> None:
    one = plan(5, 15)
    assert one.add(prompt(1, length=300), 256)
    assert spans(one) == [(256, 300)]


def test_a_step_of_nobody_else_takes_one_chunk_whatever_it_costs() -> None:
    one = plan(0, 1)
    assert one.add(prompt(1, length=300), 64)
    assert spans(one) == [(64, 128)]
    assert not one.add(prompt(2, length=300), 0), "but only one"
    short = plan(0, 1)
    assert short.add(prompt(1, length=30), 0)
    assert spans(short) == [(0, 30)]


def test_nothing_is_added_that_makes_a_first_token_late() -> None:
    one = plan()
    assert one.add(prompt(1, deadline_ms=10, length=50), 0)  # 6 ms
    assert not one.add(prompt(2, length=64), 0), "7.4 ms more"
    assert one.add(prompt(3, length=20), 0), "3 ms more"


def test_a_first_token_that_is_late_already_holds_nobody_back() -> None:
    one = plan()
    assert one.add(prompt(1, deadline_ms=5, length=50), 0)
    assert one.add(prompt(2, length=64), 0)


def test_when_a_newcomer_would_have_its_first_token() -> None:
    assert plan(5, 20).first_at(prompt(1, length=100)) == pytest.approx(16 * MS), "in this step"
    assert plan(5, 20).first_at(prompt(1, length=300)) == pytest.approx((5 + 31 + 2 * 5) * MS), "and two more"
    assert plan(5, 5).first_at(prompt(1, length=10)) == pytest.approx(7 * MS), "no time for prompts: who knows"
