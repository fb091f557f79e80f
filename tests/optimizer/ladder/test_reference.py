"""What candidates are compared with."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.errors import StageFailed
from optimizer.ladder.reference import _check_numbers

NOTHING = np.full((1, 4), np.nan, np.float32)


def test_an_original_that_answers_no_number_is_nothing_to_compare_with() -> None:
    """Every candidate would look right beside it."""
    with pytest.raises(StageFailed, match="output 'y' has no number for made-up inputs"):
        _check_numbers({"x": np.ones((1, 2), np.float32), "y": NOTHING})
    _check_numbers(
        {"y": np.array([[np.nan, 1.0]], np.float32), "ids": np.zeros((1, 3), np.int64), "none": np.zeros((1, 0), np.float32)}
    )
