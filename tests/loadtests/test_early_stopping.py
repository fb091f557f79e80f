from __future__ import annotations

import pytest

from loadtests.early_stopping import Decision, at_most, confidence_of, decide, queries_needed

LATE = (0, 1, 2, 5, 10, 20, 50, 100)
MLPERF = {
    0.9: (44, 64, 81, 127, 197, 325, 681, 1_246),
    0.95: (90, 130, 165, 259, 398, 656, 1_372, 2_504),
    0.99: (459, 662, 838, 1_307, 2_010, 3_304, 6_898, 12_571),
    0.999: (4_603, 6_636, 8_403, 13_105, 20_140, 33_097, 69_058, 125_826),
}


@pytest.mark.parametrize("percentile", MLPERF)
def test_mlperfs_table_comes_out(percentile: float) -> None:
    assert tuple(queries_needed(late, percentile) for late in LATE) == MLPERF[percentile]


def test_the_binomial_sum_is_right() -> None:
    assert at_most(0, 1, 0.25) == pytest.approx(0.75)
    assert at_most(1, 2, 0.5) == pytest.approx(0.75)
    assert at_most(2, 2, 0.5) == 1.0


def test_a_claim_holds_is_broken_or_is_open() -> None:
    assert decide(0, 458, 0.99) is Decision.OPEN
    assert decide(0, 459, 0.99) is Decision.HOLDS
    assert decide(5, 500, 0.99) is Decision.OPEN
    assert decide(20, 500, 0.99) is Decision.BROKEN
    assert decide(0, 0, 0.99) is Decision.OPEN
    assert confidence_of(0, 459, 0.99) == pytest.approx(0.99, abs=1e-3)
