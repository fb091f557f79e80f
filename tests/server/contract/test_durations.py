"""Durations as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.contract.durations import exact_duration, format_duration, parse_duration
from server.contract.errors import ContractError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20ms", 0.02), ("1.5s", 1.5), ("2m", 120.0), ("250us", 0.00025), (" 7 ms ", 0.007), ("0.5ms", 0.0005)],
)
def test_reads_number_and_unit(text: str, seconds: float) -> None:
    assert math.isclose(parse_duration(text), seconds)


@pytest.mark.parametrize("text", ["20", "", "ms", "-5ms", "0ms", "0.0001us", "1h", "1,5s", "1e3ms", "٢ms", "9" * 400 + "s"])
def test_refuses_what_is_not_a_positive_time_with_a_unit(text: str) -> None:
    with pytest.raises(ContractError, match=r"slo: .* is not a duration; write a positive number with a unit, like 20ms"):
        parse_duration(text, "slo")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.02, "20ms"), (1.5, "1.5s"), (90, "90s"), (0.0123456, "12.3ms"), (0.00025, "250us"), (1e-7, "0.1us"), (0.0, "0us"),
     (1000.0, "1000s")],
)  # fmt: skip
def test_shows_three_digits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_file_keeps_every_digit() -> None:
    assert exact_duration(0.02) == "20ms"
    assert exact_duration(0.0123456) == "12345.600us"


@given(st.floats(1e-9, 1e6))
def test_what_is_written_is_read_back(seconds: float) -> None:
    assert math.isclose(parse_duration(exact_duration(seconds)), seconds, rel_tol=1e-6, abs_tol=0.5e-9)
