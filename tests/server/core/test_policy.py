"""Which requests share the next batch, and the reason given for each choice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.contract.profile import Cell, Placement, Profile
from server.core.costs import CostTable
from server.core.forecast import Forecast
from server.core.policy import OVERTAKEN, Choice, behind, cheapest_partition, choose, group_of_head
from server.core.types import Limits, Mixing
from server.simulation.laws import DEVICE
from tests.server.core.build import MS, Request, costs, ids, request

LINEAR = costs(1, 4, max_rows=8)  # l(b) = b + 4 ms: knee 7
LARGE = costs(1, 4, max_rows=32)  # knee 22
TOKENS = costs(0.01, 1, max_rows=8, lengths=(1, 100))  # l = 1 ms + 10 us per token: knee 6 at length 100
FAR_MS = 1000.0


def picked(
    requests: Sequence[Request], table: CostTable = LINEAR, mixing: Mixing = Mixing.ANY, pace: float = 1.0, waiting: int = 0
) -> str:
    """The choice as text: "1,2 idle"."""
    limits = Limits(table.max_rows, 1000)
    forecast = Forecast(table)
    forecast.ratio = pace
    choice = choose(requests, waiting or len(requests), mixing, limits, forecast, 0.0)
    return f"{','.join(map(str, ids(choice.requests)))} {choice.close.value}"


def row(number: int, deadline_ms: float = FAR_MS, length: int = 0, rows: int = 1) -> Request:
    return request(number, deadline_ms + 1e-6, rows, length)  # a nanosecond, for rounding


def span(first: int, last: int, deadline_ms: float = FAR_MS, length: int = 0) -> list[Request]:
    return [row(number, deadline_ms, length) for number in range(first, last + 1)]


@pytest.mark.parametrize(
    ("requests", "table", "choice"),
    [
        (span(1, 1), LINEAR, "1 idle"),
        (span(1, 3), LINEAR, "1,2,3 idle"),
        (span(1, 8), LINEAR, "1,2,3,4,5,6,7,8 idle"),
        (span(1, 10), LINEAR, "1,2,3,4,5,6,7,8 full"),
        ([row(1), row(2, rows=6), row(3, rows=2)], LINEAR, "1,2 full"),
        ([row(1, rows=8), row(2)], LINEAR, "1 full"),
        (span(1, 25), LARGE, ",".join(map(str, range(1, 23))) + " knee"),
        ([row(1, rows=25), row(2)], LARGE, "1 knee"),
        (span(1, 6, deadline_ms=8), LINEAR, "1,2,3,4 deadline"),
        (span(1, 6, deadline_ms=5), LINEAR, "1 deadline"),
        ([row(1, 9), row(2, 14, rows=5)], LINEAR, "1 deadline"),
    ],
)
def test_without_lengths_the_most_urgent_prefix(requests: list[Request], table: CostTable, choice: str) -> None:
    assert picked(requests, table) == choice


def test_more_waits_than_the_window_holds() -> None:
    assert picked(span(1, 8), waiting=100) == "1,2,3,4,5,6,7,8 full"


@pytest.mark.parametrize(("pace", "choice"), [(1.0, "1,2,3,4,5,6 idle"), (1.4, "1,2,3 deadline"), (8.0, "1 deadline")])
def test_a_slow_device_gets_smaller_batches(pace: float, choice: str) -> None:
    assert picked(span(1, 6, deadline_ms=10), pace=pace) == choice


def test_the_guard_for_a_slow_run_counts() -> None:
    cells = tuple(Cell(rows, 0, 0.004 + rows / 1000, 0.02, 0.006 + rows / 1000 + 0.02, 9, 0) for rows in (1, 2, 4, 8))
    table = CostTable(Profile(DEVICE, Placement(1, 1), cells), 8)
    assert picked(span(1, 6, deadline_ms=20), table) == "1 deadline"


@pytest.mark.parametrize(
    ("n_before", "rows", "n_instances", "slow", "waits_ms", "takes_ms"),
    [
        (0, 1, 1, 1.5, 0, 5),  # alone: nobody else's deadline is at stake
        (3, 1, 1, 1.5, 0, 8 * 1.5),
        (7, 1, 1, 1.0, 0, 12),
        (8, 1, 1, 1.0, 12, 12),  # later ones fill the batch
        (23, 2, 1, 1.0, 36, 12),
        (23, 2, 2, 1.0, 18, 12),
        (20, 1, 1, 1.5, 24, 12 * 1.5),
        (16, 8, 1, 1.0, 24, 12),
    ],
)
def test_behind_so_many_rows_whole_batches_go_first(
    n_before: int, rows: int, n_instances: int, slow: float, waits_ms: float, takes_ms: float
) -> None:
    forecast = Forecast(costs())
    forecast._slow = slow
    found = behind(n_before, 1e9, request(1, rows=rows), Mixing.ANY, Limits(8, 1000), forecast, n_instances)
    assert found == pytest.approx((waits_ms * MS, takes_ms * MS))


def test_where_others_overtake_the_work_before_counts_more_than_once() -> None:
    forecast = Forecast(TOKENS)
    forecast.ratio = 2.0
    found = behind(99, 0.010, request(1, length=100), Mixing.PADDED, Limits(8, 1000), forecast, 2)
    assert found == pytest.approx((OVERTAKEN * 2 * 0.010 / 2, 2 * TOKENS.batch_s(1, 100)))
    found = behind(99, 0.010, request(1, length=100), Mixing.PADDED, Limits(1, 1000), forecast, 2)
    assert found == pytest.approx((2 * 0.010 / 2, 2 * TOKENS.batch_s(1, 100))), "nobody overtakes where none share"


def test_a_head_that_would_shrink_the_batch_is_given_up() -> None:
    late_head = row(1, 6)
    assert picked([late_head, *span(2, 8, 12)]) == " deadline", "2 rows in 6 ms, where 7 rows in 11 ms are possible without it"
    assert picked([late_head, *span(2, 8, 20)]) == "1,2 deadline", "the others can have those 11 ms afterwards as well"
    assert picked([late_head, *span(2, 3, 7)]) == "1,2 deadline", "without it there are 2 rows in 6 ms too"
    assert picked([late_head, row(2, 10, rows=6)]) == " deadline", "requests are not divided: 1 row, or 6 without it"
    assert picked([row(1, 11), *span(2, 8, deadline_ms=11)]) == "1,2,3,4,5,6,7 deadline"


def test_equal_lengths_only() -> None:
    mixed = [row(1, length=7), row(2, length=9), row(3, length=7), row(4, length=9)]
    assert picked(mixed, TOKENS, Mixing.EQUAL) == "1,3 length"
    assert picked(span(1, 3, length=7), TOKENS, Mixing.EQUAL) == "1,2,3 idle"
    assert picked(span(1, 9, length=7), TOKENS, Mixing.EQUAL) == "1,2,3,4,5,6,7,8 full"


def test_padded_lengths_join_where_padding_is_cheaper_than_another_batch() -> None:
    near_and_far = [row(1, length=10), row(2, length=100), row(3, length=11), row(4, length=12)]
    assert picked(near_and_far, TOKENS, Mixing.PADDED) == "1,3,4 length"
    assert picked(near_and_far[2:], TOKENS, Mixing.PADDED) == "3,4 idle"
    assert picked([row(2, length=100), *near_and_far], TOKENS, Mixing.PADDED) == "2,2 length"


def test_padded_batches_stop_at_the_limit_and_at_the_knee() -> None:
    assert picked([*span(1, 8, length=1), row(9, length=100)], TOKENS, Mixing.PADDED) == "1,2,3,4,5,6,7,8 full"
    assert picked([*span(1, 6, length=100), row(7, length=1)], TOKENS, Mixing.PADDED) == "1,2,3,4,5,6 knee"


def test_padded_the_least_alike_leave_until_the_head_is_in_time() -> None:
    # 4 rows x 12 = 1.48 ms, 3 x 12 = 1.36, 2 x 11 = 1.22: the head has 1.25
    group = [row(1, 1.25, 10), row(2, 1.3, 11), row(3, 1.3, 12), row(4, 1.3, 12)]
    assert picked(group, TOKENS, Mixing.PADDED) == "1,2 deadline"
    longest_first = [row(1, 1.43, 13), row(2, 1.44, 10), row(3, 1.44, 11), row(4, 1.44, 12)]
    assert picked(longest_first, TOKENS, Mixing.PADDED) == "3,4,1 deadline"


def test_padded_a_head_that_would_shrink_the_batch_is_given_up() -> None:
    head = row(1, 1.15, 10)
    assert picked([head, *span(2, 8, 2, length=10)], TOKENS, Mixing.PADDED) == " deadline"
    assert picked([head, *span(2, 8, 9, length=10)], TOKENS, Mixing.PADDED) == "1 deadline"


def test_equal_lengths_a_head_that_would_shrink_the_batch_is_given_up() -> None:
    crowd = [row(1, 1.15, 10), row(2, 1.9, 100), *span(3, 8, 2, length=10)]
    assert picked(crowd, TOKENS, Mixing.EQUAL) == " deadline"


@st.composite
def windows(draw: st.DrawFn) -> tuple[list[Request], CostTable, int]:
    """A few requests sorted by length, and costs on a grid that hypothesis drew."""
    rows_marks, length_marks = (1, 2, 4, 8), (2, 5, 9)
    times = draw(st.lists(st.floats(1e-4, 1e-2), min_size=12, max_size=12))
    cells = [Cell(r, n, t, t, t, 1, 0) for (r, n), t in zip(itertools.product(rows_marks, length_marks), times, strict=True)]
    shapes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=8))
    by_length = sorted((row(n, rows=r, length=length) for n, (r, length) in enumerate(shapes)), key=lambda one: one.length)
    batch_rows = draw(st.integers(3, 8))
    return by_length, CostTable(Profile(DEVICE, Placement(1, 1), tuple(cells)), batch_rows), batch_rows


def cost(group: Sequence[Request], table: CostTable, batch_rows: int) -> float:
    """Time of one group, infinite where it breaks the row limits."""
    rows, last = sum(one.rows for one in group), group[-1]
    allowed = min(batch_rows, max(table.knee(last.length), last.rows))
    return table.batch_s(rows, last.length) if rows <= allowed else math.inf


def least(requests: Sequence[Request], table: CostTable, batch_rows: int) -> float:
    """The cheapest partition into runs, by trying all of them."""
    if not requests:
        return 0.0
    totals = []
    for cuts in itertools.product((False, True), repeat=len(requests) - 1):
        bounds = [0, *(place for place, cut in enumerate(cuts, 1) if cut), len(requests)]
        totals.append(sum(cost(requests[a:b], table, batch_rows) for a, b in itertools.pairwise(bounds)))
    return min(totals)


@settings(max_examples=150, deadline=None)
@given(windows(), st.data())
def test_the_group_belongs_to_a_cheapest_partition(window: tuple[list[Request], CostTable, int], data: st.DataObject) -> None:
    by_length, table, batch_rows = window
    place = data.draw(st.integers(0, len(by_length) - 1))
    groups = cheapest_partition(by_length, batch_rows, table)
    assert sorted(ids(request for group in groups for request in group)) == sorted(ids(by_length))
    assert by_length[place] in group_of_head(groups, by_length[place])
    in_all = sum(cost(group, table, batch_rows) for group in groups)
    assert math.isclose(in_all, least(by_length, table, batch_rows), rel_tol=1e-9)


def test_a_choice_is_read_by_name_or_position() -> None:
    requests, close, burden = Choice(
        (row(1),), choose(span(1, 1), 1, Mixing.ANY, Limits(1, 1), Forecast(costs(max_rows=1)), 0.0).close
    )
    assert (ids(requests), close.value) == ([1], "idle")
    assert burden is None
