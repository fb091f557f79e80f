"""The costs of steps: they are what was measured, and never fall when there is more to do."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.contract.profile import Placement
from server.contract.step_profile import DecodeCell, PrefillCell, StepProfile
from server.core.step_costs import StepTable
from server.simulation.laws import DEVICE


def step_profile(
    rows: Sequence[int], contexts: Sequence[int], times: Sequence[float], tokens: Sequence[int] = (16,), chunks: Sequence[float] = (1.0,)
) -> StepProfile:  # fmt: skip
    places = [(r, c) for r in rows for c in contexts]
    decode = tuple(DecodeCell(r, c, time, 2 * time, 9) for (r, c), time in zip(places, times, strict=True))
    prefill = tuple(PrefillCell(n, time, 2 * time, 9) for n, time in zip(tokens, chunks, strict=True))
    return StepProfile(DEVICE, Placement(1, 1), decode, prefill)


def linear(rows: Sequence[int], contexts: Sequence[int], tokens: Sequence[int]) -> StepProfile:
    """1 + rows / 4 + all context / 100 for a step, 2 + tokens / 8 for a chunk."""
    times = [1 + r / 4 + r * c / 100 for r in rows for c in contexts]
    return step_profile(rows, contexts, times, tokens, [2 + n / 8 for n in tokens])


def test_the_cells_are_what_was_measured() -> None:
    table = StepTable(linear((1, 2, 8), (64, 512), (16, 512)))
    for rows in (1, 2, 8):
        for context in (64, 512):
            assert math.isclose(table.decode_s(rows, rows * context), 1 + rows / 4 + rows * context / 100)
    assert [table.prefill_s(n) for n in (16, 512)] == [4.0, 66.0]
    assert table.guard == 2.0


@pytest.mark.parametrize("rows", [1, 3, 8, 12])
@pytest.mark.parametrize("context", [64, 100, 512, 2000])
def test_what_lies_between_and_past_them_follows_the_law(rows: int, context: int) -> None:
    table = StepTable(linear((1, 2, 8), (64, 512), (16, 512)))
    assert math.isclose(table.decode_s(rows, rows * context), 1 + rows / 4 + rows * context / 100, rel_tol=0.05)
    assert math.isclose(table.prefill_s(context), 2 + context / 8)


def test_below_what_was_measured_the_fixed_cost_stands() -> None:
    table = StepTable(linear((2, 4), (64, 512), (16, 512)))
    assert table.decode_s(2, 0) == table.decode_s(2, 128)
    assert table.decode_s(1, 64) == table.decode_s(2, 128)
    assert table.prefill_s(1) == table.prefill_s(16)


def test_one_cell_says_the_same_for_all() -> None:
    table = StepTable(step_profile((4,), (64,), (0.5,)))
    assert {table.decode_s(rows, context) for rows, context in ((1, 0), (4, 256), (32, 99999))} == {0.5}
    assert {table.prefill_s(n) for n in (1, 16, 4096)} == {1.0}


marks = st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True).map(sorted)
seconds = st.floats(1e-6, 10.0)


@st.composite
def step_profiles(draw: st.DrawFn) -> StepProfile:
    rows, contexts, tokens = draw(marks), draw(marks), draw(marks)
    n_cells = len(rows) * len(contexts)
    times = draw(st.lists(seconds, min_size=n_cells, max_size=n_cells))
    return step_profile(rows, contexts, times, tokens, draw(st.lists(seconds, min_size=len(tokens), max_size=len(tokens))))


@given(step_profiles(), st.integers(1, 200), st.integers(0, 200), st.integers(0, 50), st.integers(0, 50))
@example(step_profile((1, 2), (1, 2), (1.0, 5.0, 6.0, 6.0)), 1, 3, 1, 0)
@example(step_profile((1, 2), (1, 2), (1.0, 5.0, 6.0, 6.0)), 4, 1, 0, 1)
def test_never_falls_when_rows_context_or_tokens_grow(
    profile: StepProfile, rows: int, each: int, more: int, longer: int
) -> None:
    table = StepTable(profile)
    less = table.decode_s(rows, rows * each)
    assert 0 < less <= table.decode_s(rows + more, (rows + more) * (each + longer)) * (1 + 1e-9)
    assert 0 < table.prefill_s(each) <= table.prefill_s(each + longer) * (1 + 1e-9)


@given(step_profiles())
def test_no_cell_is_promised_to_take_less_than_was_measured(profile: StepProfile) -> None:
    table = StepTable(profile)
    for cell in profile.decode:
        assert table.decode_s(cell.rows, cell.rows * cell.context) >= cell.p50_s * (1 - 1e-9)
    for chunk in profile.prefill:
        assert table.prefill_s(chunk.tokens) >= chunk.p50_s * (1 - 1e-9)
