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
