"""The plot of rate against quality."""

from __future__ import annotations

import pytest

from optimizer.pareto import Point, front, pareto_plot

PLAIN, FAST, BAD = (
    Point("plain <export>", 100.0, 1.0, False),
    Point("fast", 300.0, 0.99, True),
    Point("bad", 200.0, 0.98, False),
)


def test_the_front_has_those_that_no_other_beats() -> None:
    assert front([FAST, BAD, PLAIN]) == [PLAIN, FAST]
    assert front([PLAIN, PLAIN]) == [PLAIN, PLAIN]


@pytest.mark.parametrize("points", [[PLAIN], [PLAIN, FAST, BAD], [Point("a", 0.0, 0.0, True)]])
def test_any_points_are_drawn(points: list[Point]) -> None:
    plot = pareto_plot(points, "score")
    assert plot.count("<circle") == len(points)
    assert "nan" not in plot
    assert "<export>" not in plot
