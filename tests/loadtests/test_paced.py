from __future__ import annotations

import pytest

from loadtests.paced import Pace


def test_the_pace_is_known() -> None:
    pace = Pace(per_row_s=0.001, per_batch_s=0.004, stall_s=0.5, period_s=2.0)
    assert pace.batch_s(32) == pytest.approx(0.036)
    assert [pace.stalled_until(at) for at in (0.0, 0.2, 0.5, 1.9, 2.1)] == pytest.approx([0.5, 0.5, 0.5, 1.9, 2.5])
