from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.arrivals import Burst, Ramp, Spacing, Steady, parse_shape, read_trace, schedule
from loadtests.errors import BadInput


def test_constant_arrivals_lie_evenly() -> None:
    assert schedule(Steady(), Spacing.CONSTANT, 4, 1.0, 0).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_have_the_rate_and_exponential_gaps() -> None:
    due_s = schedule(Steady(), Spacing.POISSON, 1000, 50, 1)
    assert len(due_s) == pytest.approx(50_000, rel=0.02)
    gaps = np.diff(due_s)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.03)
    assert schedule(Steady(), Spacing.POISSON, 1000, 50, 1).tolist() == due_s.tolist()


def test_bursts_keep_the_mean_and_hold_their_share() -> None:
    due_s = schedule(Burst(3, 0.25, 2), Spacing.POISSON, 1000, 40, 1)
    assert len(due_s) == pytest.approx(40_000, rel=0.02)
    assert ((due_s % 2) < 0.5).mean() == pytest.approx(0.75, abs=0.01)


def test_a_burst_may_be_all_there_is() -> None:
    due_s = schedule(Burst(4, 0.25, 2), Spacing.CONSTANT, 100, 4, 1)
    assert ((due_s % 2) <= 0.5).all()
    assert len(due_s) == 400


def test_a_ramp_rises() -> None:
    due_s = schedule(Ramp(0, 2), Spacing.CONSTANT, 100, 10, 0)
    assert len(due_s) == pytest.approx(1000, abs=1)
    assert (due_s < 5).mean() == pytest.approx(0.25, abs=0.01)


@given(
    st.sampled_from(["poisson", "constant", "burst:3:0.25:2", "ramp:0.5:3"]),
    st.floats(0.5, 500),
    st.floats(0.1, 5),
    st.integers(0, 9),
)
def test_schedules_are_sorted_and_within_the_run(text: str, rate: float, duration_s: float, seed: int) -> None:
    due_s = schedule(*parse_shape(text), rate, duration_s, seed)
    assert (np.diff(due_s) >= 0).all()
    assert not len(due_s) or (due_s[0] >= 0 and due_s[-1] <= duration_s)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "poison",
        "burst",
        "burst:5:0.25:2",
        "burst:nan:0.25:2",
        "burst:2:0:2",
        "ramp:1",
        "ramp:a:b",
        "ramp:nan:1",
        "ramp:0:0",
    ],
)
def test_shapes_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="use poisson, constant"):
        parse_shape(text)


@pytest.mark.parametrize(("rate", "duration_s"), [(0, 1), (-1, 1), (float("nan"), 1), (1, 0), (1, float("inf"))])
def test_a_rate_that_is_none_is_refused(rate: float, duration_s: float) -> None:
    with pytest.raises(BadInput, match="above zero"):
        schedule(Steady(), Spacing.POISSON, rate, duration_s, 0)


def test_a_trace_counts_from_its_first_request(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("# seconds, tokens\n100.5, 7\n100.0, 3\n\n102 1\n")
    trace = read_trace(file)
    assert trace.due_s.tolist() == [0.0, 0.5, 2.0]
    assert trace.lengths is not None
    assert trace.lengths.tolist() == [3, 7, 1]
    file.write_text("1\n2\n")
    assert read_trace(file).lengths is None


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"0.1\nnan\n", "line 2: 'nan' is not a finite time"),
        (b"0.1\ninf\n", "line 2"),
        (b"0.1\nabc\n", "line 2"),
        (b"1 2 3\n", "line 1"),
        (b"1 0\n", "line 1"),
        (b"1 nan\n", "line 1"),
        (b"1\n2 3\n", "lengths in some lines only"),
        (b"# nothing\n", "holds no request"),
        (b"\xff\xfe", "cannot read the trace"),
    ],
)
def test_a_bad_trace_is_one_clear_error(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(content)
    with pytest.raises(BadInput, match=match):
        read_trace(file)


def test_a_trace_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read the trace"):
        read_trace(tmp_path / "none")
