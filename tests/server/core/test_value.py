from __future__ import annotations

import pytest

from server.core.value import value


@value
class Point:
    x: int
    y: int = 0


def test_a_value_is_equal_to_itself_only() -> None:
    point = Point(1)
    assert point == point
    assert point != Point(1)
    assert len({point, Point(1)}) == 2


def test_a_value_has_its_fields_and_no_others() -> None:
    assert repr(Point(1, y=2)) == "Point(x=1, y=2)"
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]


def test_mypy_lets_nobody_change_one() -> None:
    point = Point(1)
    point.x = 2  # type: ignore[misc]  # the check of the types fails here if it were allowed: an unused ignore
    assert point.x == 2, "at run time nobody looks"
