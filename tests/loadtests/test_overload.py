from __future__ import annotations

import os

import pytest

from loadtests.child import Child
from loadtests.overload import Offer, overload
from tests.loadtests.conftest import Serve
from tests.loadtests.test_closed_loop import BUSY, OK, request


def test_an_offer_is_made_and_every_request_of_what_counts_has_an_end(serve: Serve) -> None:
    port = serve(lambda number, whole: [BUSY] if number % 2 else [OK]).port
    found = overload(Child(os.getpid(), port, 0.0), [request(b"a")], Offer(200.0, 5.0, 0.4, seed=1))
    ends = sum(found[name] for name in ("in_slo", "late", "refused", "failed", "timed_out", "never_sent"))
    assert ends == found["scheduled"] > 0
    assert found["refused"] > 0
    assert found["reasons"] == {"503 busy": found["refused"]}
    assert found["goodput_share"] == found["in_slo"] / found["scheduled"]
    assert found["goodput_per_s"] == pytest.approx(found["in_slo"] / 0.3)  # the first quarter is not counted
    assert found["offered_per_s"] == 200.0
    assert found["memory_after"] > 0


def test_answers_count_by_their_work_and_refusals_by_how_long_they_took(serve: Serve) -> None:
    """The second of two requests is refused, the first is worth three."""

    def answer(number: int, whole: bytes) -> list[bytes]:
        return [OK] if whole.endswith(b"a") else [BUSY]

    port = serve(answer).port
    server, requests = Child(os.getpid(), port, 0.0), [request(b"a"), request(b"b")]
    found = overload(server, requests, Offer(200.0, 5.0, 0.4, seed=1), [3.0, 0.5])
    assert found["work_in_slo_per_s"] == pytest.approx(3 * found["goodput_per_s"])
    assert (found["refused"] > 0, found["refused_after_waiting"]) == (True, 0)
    hasty = overload(server, requests, Offer(200.0, 1e-6, 0.4, seed=1))
    assert hasty["refused_after_waiting"] == hasty["refused"] > 0
    assert hasty["work_in_slo_per_s"] == 0
