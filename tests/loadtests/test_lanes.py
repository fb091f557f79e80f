from __future__ import annotations

import os

import numpy as np
import pytest

from loadtests.child import Child
from loadtests.errors import LoadTestError
from loadtests.lanes import Lane, Sample, measure, median, verify
from loadtests.tensors import Array
from loadtests.wire import infer_request
from tests.loadtests.conftest import Serve
from tests.loadtests.test_wire import echoed, response

REQUESTS = [infer_request("h", "m", {"x": np.full((1, 2), n, "f4")}, binary=True) for n in range(5)]


def lane(port: int) -> Lane:
    return Lane("echoing", Child(os.getpid(), port, 0.0), REQUESTS, connections=2)


def expected(index: int) -> dict[str, Array]:
    return {"x": np.full((1, 2), index, "f4")}


def test_a_sample_counts_what_came_back(serve: Serve) -> None:
    busy = response(b"503 Busy", b"")
    one = measure(lane(serve(lambda number, request: [busy if number % 2 else echoed(request)]).port), 0.05)
    assert one.n_answered > 0
    assert one.n_refused > 0
    assert one.n_failed == 0
    assert one.per_s > 0


def test_the_median_is_taken_figure_by_figure_and_counts_are_summed() -> None:
    samples = [Sample(n, 10 - n, n, n, n, n, n, 1) for n in (1, 2, 9)]
    assert median(samples) == Sample(2, 8, 2, 2, 2, 12, 12, 3)
    with pytest.raises(ValueError, match="no samples"):
        median([])


def test_right_answers_differ_by_nothing(serve: Serve) -> None:
    assert verify(lane(serve(lambda number, request: [echoed(request)]).port), expected, 4) == 0.0


@pytest.mark.parametrize(("apart", "match"), [(0.0005, None), (0.5, "away from what was expected"), (np.nan, "is inf away")])
def test_the_largest_difference_is_told_and_a_wrong_answer_is_one(serve: Serve, apart: float, match: str | None) -> None:
    def off(index: int) -> dict[str, Array]:
        wanted = expected(index)["x"]
        return {"x": wanted + apart * np.maximum(1.0, np.abs(wanted)) if index == 2 else wanted}

    one = lane(serve(lambda number, request: [echoed(request)]).port)
    if match is None:
        assert verify(one, off, 5) == pytest.approx(apart, rel=0.01)
    else:
        with pytest.raises(LoadTestError, match=match):
            verify(one, off, 5)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (response(b"503 Busy", b'{"error":"queue is full"}'), "queue is full"),
        (response(b"200 OK", b'{"outputs":[]}'), "was expected"),
        (response(b"200 OK", b"oops"), "not a V2 answer"),
        (b"", "5 of 5 requests got no reply"),
    ],
)
def test_wrong_answers_are_refused(serve: Serve, reply: bytes, match: str) -> None:
    with pytest.raises(LoadTestError, match=match):
        verify(lane(serve(lambda number, request: [reply]).port), expected, 5)
