from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from loadtests.bench_overload import parse, phased, told, verdicts
from loadtests.clients import Clients
from loadtests.generators import Generated
from loadtests.ledger import Record
from loadtests.load import Generator, Loaded, Traffic
from loadtests.memory import Look, MemoryWatch
from tests.loadtests.slo_examples import episode

OPTIONS = parse(["--before-s", "3", "--overload-s", "2", "--after-s", "4", "--slo", "50ms"])


def test_requests_are_due_at_the_rates_of_the_phases() -> None:
    due_s = phased(OPTIONS, peak=1000.0, factor=3.0, seed=0)
    assert (np.diff(due_s) >= 0).all()
    counts = [int(((start <= due_s) & (due_s < end)).sum()) for start, end in ((0, 3), (3, 5), (5, 9))]
    assert counts == pytest.approx([1500, 6000, 2000], rel=0.1)
    assert due_s.max() < OPTIONS.whole_s


def loaded(served: float) -> tuple[Loaded, MemoryWatch]:
    """1,000 requests a second, of which only a share is answered during the overload, and all others in 4 ms."""
    due_s = np.arange(0.0, 9.0, 0.001)
    during = (due_s >= 3.0) & (due_s < 5.0)
    good = ~during | (np.arange(len(due_s)) % 10 < served * 10)
    none = np.zeros(len(due_s), np.int16)
    status = np.where(good, 200, 503).astype(np.int16)
    record = Record(
        due_s, due_s, due_s + 0.004, status, np.where(good, 0, 1).astype(np.int16), none.astype(np.bool_), ["", "busy"]
    )
    traffic = Traffic("overload", [b""], due_s, none.astype(np.int64), 0.05)
    generated = Generated(record, 0.9, 1024, 9.0, False, niceness=-10)
    watch = MemoryWatch(os.getpid())
    watch.looks = [Look(at / 2, 100 + at) for at in range(18)]
    generator = Generator(1, 1024, 1.0, clients=Clients.INDEPENDENT)
    return Loaded([traffic], generator, generated, none.astype(np.int64), None, 9.0), watch


def test_a_run_is_told_by_phase() -> None:
    found = told(OPTIONS, *loaded(0.6), peak=1000.0)
    assert found["kept"] == pytest.approx(0.6)
    assert found["recovered_after_s"] == 0.0
    assert found["normal_p99_ms"] == pytest.approx(5.0)
    phases = found["phases"]
    assert phases["during"]["reasons"] == {"503 busy": 800}
    assert (phases["before"]["goodput_share"], phases["after"]["goodput_share"]) == (1.0, 1.0)
    assert [phases[name]["most_rss"] for name in ("before", "during", "after")] == [105, 109, 117]
    assert found["generator_busy"] == pytest.approx(0.1)
    assert found["generator_niceness"] == -10
    assert found["generator_kept_up"]


def test_claims_are_judged_by_medians_and_who_never_recovers_misses() -> None:
    rounds = [{"1.5": episode(kept, 0.5), "3": episode(0.6, None, (100, 150, None))} for kept in (0.7, 0.85, 0.9)]
    found = {one.figure: one for one in verdicts(rounds)}
    assert found["1.5 x: goodput / peak"].found == 0.85
    assert found["1.5 x: memory / before the first overload"].holds
    assert found["3 x: goodput / peak"].holds
    assert found["3 x: s to the normal p99"].told == "MISSES: not reached"
    assert found["3 x: memory / before the first overload"].found == 1.5


def test_memory_that_grows_once_and_stays_is_growth() -> None:
    later = episode(0.9, 0.5, (140, 145, 145))
    found = {one.figure: one for one in verdicts([{"1.5": episode(0.9, 0.5), "3": later}, {"1.5": later, "3": later}])}
    assert found["3 x: memory / before the first overload"].found == 1.45


def test_memory_is_compared_with_before_the_first_overload_even_if_that_was_void() -> None:
    void = episode(0.9, 0.5, (50, 60, 90), kept_up=False)
    found = {one.figure: one for one in verdicts([{"1.5": {**episode(0.9, 0.5), "void": [void]}, "3": episode(0.9, 0.5)}])}
    assert found["1.5 x: memory / before the first overload"].found == 2.1


def test_overloads_whose_generator_sent_late_prove_nothing() -> None:
    late, well = episode(0.9, 0.5, kept_up=False), episode(0.7, 0.5)
    found = {
        one.figure: one for one in verdicts([{"1.5": late, "3": late}, {"1.5": well, "3": late}, {"1.5": well, "3": well}])
    }
    assert found["1.5 x: goodput / peak"].found == 0.7
    assert found["3 x: goodput / peak"].told == "VOID"


def test_quick_is_one_round() -> None:
    assert parse(["--quick"]).rounds == 1
    assert parse(["--repository", "models"]).repository == Path("models")
