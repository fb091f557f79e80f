from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loadtests.generators import Generated
from loadtests.html import render
from loadtests.ledger import Ledger, Record
from loadtests.load import Generator, Loaded, Traffic
from loadtests.result import result
from loadtests.text import summary


def record(n: int, *, lag_s: float = 0.0, silent_from: int | None = None) -> Record:
    due_s = [at / 10 for at in range(n)]
    ledger = Ledger(due_s, 5.0)
    for at, one in enumerate(due_s):
        ledger.sent(ledger.take(one + lag_s), one + lag_s)
        if silent_from is not None and at >= silent_from:
            ledger.failed(at, "connection refused")
        elif at % 10 < 3:
            ledger.answered(at, one + lag_s + 0.001, 503, "busy")
        else:
            ledger.answered(at, one + lag_s + 0.01, 200)
    return ledger.record()


def told(one: Record, cpu_s: float = 0.1, niceness: int = 0) -> dict[str, Any]:
    n = len(one.due_s)
    traffic = Traffic("m", [b""], one.due_s, np.zeros(n, np.int64), 0.05, None)
    generated = Generated(one, cpu_s, 1, n / 10, interrupted=False, niceness=niceness)
    return result(Loaded([traffic], Generator(1, 10, 5.0), generated, np.zeros(n, np.int64), None, n / 10), {"model": "m"})


def test_a_server_that_refuses_is_accounted_for() -> None:
    content = told(record(100))
    counts = content["traffic"]["m"]["counts"]
    assert counts["refused"] == {"503 busy": 30}
    assert counts["in_slo"] == 70
    assert content["valid"]
    assert content["notices"] == []
    assert content["traffic"]["m"]["latency_ms"]["p99"] == pytest.approx(10)
    assert content["traffic"]["m"]["latency_with_misses_ms"]["p99"] is None
    assert content["traffic"]["m"]["goodput_per_s"] == pytest.approx(7)
    assert "30 x 503 busy" in summary(content)
    assert "30 × 503 busy" in render(content)


@pytest.mark.parametrize(("cpu_s", "cure"), [(9.9, "use --processes"), (1.0, "others on this machine")])
def test_a_generator_that_was_late_makes_a_run_void_and_says_why(cpu_s: float, cure: str) -> None:
    content = told(record(100, lag_s=0.02), cpu_s)
    assert not content["valid"]
    (notice,) = content["notices"]
    assert notice.startswith("VOID: the generator could not keep up: 100 of 100")
    assert cure in notice
    assert "VOID" in summary(content)
    assert "notice void" in render(content)


@pytest.mark.parametrize(("niceness", "told_so"), [(0, True), (-10, False)])
def test_a_late_generator_says_that_it_could_go_first_only_where_it_did_not(niceness: int, told_so: bool) -> None:
    content = told(record(100, lag_s=0.02), 1.0, niceness)
    assert ("CAP_SYS_NICE" in content["notices"][0]) is told_so
    assert content["generator"]["niceness"] == niceness


def test_a_server_that_goes_away_is_told_with_the_time() -> None:
    content = told(record(100, silent_from=50))
    assert "no reply to anything due after 4.90 s of 10.00 s (50 requests)" in content["notices"][0]
    assert content["traffic"]["m"]["counts"]["failed"] == {"connection refused": 50}


def test_silence_from_the_start_does_not_count() -> None:
    content = told(record(5, silent_from=0))
    assert not content["valid"]
    assert "right address" in content["notices"][0]
    assert "<svg" in render(content)
