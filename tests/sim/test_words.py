"""The words that say when requests come and how long they are; they are those of `ferry loadtest`."""

from __future__ import annotations

import random

import pytest

from server.simulation.arrivals import Trace, parse_arrivals, parse_trace
from server.simulation.errors import BadWorkload
from server.simulation.lengths import listed, parse_lengths


def times(text: str, rate: float = 100.0, duration_s: float = 40.0) -> list[float]:
    return list(parse_arrivals(text).times(rate, duration_s, random.Random(1)))


@pytest.mark.parametrize("text", ["poisson", "constant", "burst:3:0.25:2", "ramp:0.5:1.5"])
def test_every_shape_keeps_the_mean_rate(text: str) -> None:
    found = times(text)
    assert len(found) == pytest.approx(4000, rel=0.05)
    assert found == sorted(found)
    assert found[-1] <= 40.0


def test_constant_is_even() -> None:
    found = times("constant", 10.0, 1.05)
    assert found == pytest.approx([0.1 * n for n in range(1, 11)])


def test_a_burst_comes_in_its_share_of_each_period() -> None:
    in_burst = [at for at in times("burst:3:0.25:2") if at % 2 < 0.5]
    assert len(in_burst) == pytest.approx(3000, rel=0.05)


def test_a_burst_may_be_all_there_is() -> None:
    assert all(at % 2 < 0.5 for at in times("burst:4:0.25:2"))


def test_a_ramp_grows() -> None:
    found = times("ramp:0:2")
    assert sum(at > 20 for at in found) == pytest.approx(3 * sum(at <= 20 for at in found), rel=0.15)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "often",
        "poisson:3",
        "burst:3:0.5:2",
        "burst:3:0.25",
        "burst:1:0.5:0",
        "ramp:0:0",
        "ramp:-1:2",
        "ramp:a:b",
        "burst:nan:0.1:1",
    ],
)
def test_other_arrivals_are_refused(text: str) -> None:
    with pytest.raises(BadWorkload, match="burst:FACTOR:SHARE:PERIOD_S"):
        parse_arrivals(text)


def test_a_trace_counts_from_its_first_request() -> None:
    trace = parse_trace(["# time length", "3.0 16", "", "2.5, 8"], "f")
    assert trace == Trace([0.0, 0.5], [8, 16])
    assert trace.rate == 4.0
    assert list(trace.times(2.0, 10.0)) == [0.0, 0.25]
    assert list(trace.times(1.0, 0.4)) == [0.0]


@pytest.mark.parametrize("lines", [[], ["# none"], ["1.0", "2.0 3"]])
def test_a_trace_without_requests_or_with_some_lengths_is_refused(lines: list[str]) -> None:
    with pytest.raises(BadWorkload, match="the trace f"):
        parse_trace(lines, "f")


@pytest.mark.parametrize("line", ["x", "1 2 3", "nan", "1.0 0", "1.0 2.5", "inf 3"])
def test_a_bad_line_of_a_trace_is_named(line: str) -> None:
    with pytest.raises(BadWorkload, match="f line 2"):
        parse_trace(["0.5 1", line], "f")


@pytest.mark.parametrize(
    ("text", "ends"), [("fixed:16", (16, 16)), ("uniform:3:9", (3, 9)), ("lognormal:40:0.7:256", (1, 256))]
)
def test_lengths_stay_within_their_ends(text: str, ends: tuple[int, int]) -> None:
    lengths, rnd = parse_lengths(text), random.Random(1)
    assert lengths is not None
    assert (lengths.shortest, lengths.longest) == ends
    drawn = [lengths.draw(rnd) for _ in range(2000)]
    assert ends[0] <= min(drawn) <= max(drawn) <= ends[1]


def test_a_log_normal_has_its_median() -> None:
    lengths, rnd = parse_lengths("lognormal:40:0.7:256"), random.Random(1)
    assert lengths is not None
    assert sorted(lengths.draw(rnd) for _ in range(4001))[2000] == pytest.approx(40, abs=2)


def test_lengths_that_no_model_takes_are_refused_and_short_ones_are_padded_by_the_client() -> None:
    lengths = parse_lengths("lognormal:4:1:64")
    assert lengths is not None
    with pytest.raises(BadWorkload, match="m/1 takes lengths from 3 to 32; --lengths asks for up to 64"):
        lengths.within(3, 32, "m/1")
    rnd = random.Random(1)
    assert min(lengths.within(3, 64, "m/1").draw(rnd) for _ in range(1000)) == 3
    with pytest.raises(BadWorkload, match="from 80 to 90"):
        lengths.within(80, 90, "m/1")


@pytest.mark.parametrize("text", ["fixed:0", "fixed:", "uniform:9:3", "lognormal:40:0.7", "lognormal:a:b:c", "uniform:-1:4"])
def test_impossible_distributions_are_refused(text: str) -> None:
    with pytest.raises(BadWorkload, match="fixed:N"):
        parse_lengths(text)


def test_lengths_come_from_a_file() -> None:
    assert parse_lengths("lengths.txt") is None
    lengths = listed(["3", "", "5"], "lengths.txt")
    assert {lengths.draw(random.Random(n)) for n in range(20)} == {3, 5}
    for lines in ([], ["x"], ["0"]):
        with pytest.raises(BadWorkload, match="one per line"):
            listed(lines, "lengths.txt")
