"""The decision is a pure function of the measurements."""

from __future__ import annotations

import pytest

from optimizer.ladder.candidate import PLAIN, Candidate, Step
from optimizer.ladder.decide import Standing, decide
from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile

DEVICE = Device("cpu", 2, "runtime 1")


def standing(candidate: Candidate, ms: float, n_bytes: int = 100, lengths: tuple[int, ...] = (0,)) -> Standing:
    """A row takes `ms` milliseconds, of length n n times that; batches gain nothing."""
    cells = tuple(
        Cell(rows, n, *(3 * (rows * ms * max(1, n) / 1e3,)), 9, 0) for n in lengths for rows in (1, 2)
    )  # fmt: skip
    return Standing(candidate, Profile(DEVICE, Placement(1, 1), cells), n_bytes)


def named(name: str, n_steps: int = 1, backend: str = "onnxruntime") -> Candidate:
    return Candidate(name, tuple(Step(f"s{n}") for n in range(n_steps)), backend)


def test_the_highest_rate_wins_and_all_others_say_by_how_much() -> None:
    decision = decide([standing(PLAIN, 2.0), standing(named("a"), 1.0), standing(named("b"), 0.5)], 0.1, 2)
    assert decision.winner == "b"
    assert decision.because.startswith("it sustains 4.")
    assert decision.because.endswith(" times the rate of the plain export within 100ms")
    assert set(decision.lost) == {PLAIN.name, "a"}
    assert decision.lost["a"].reason.startswith("0.4")
    assert decision.rates["b"] > decision.rates["a"] > decision.rates[PLAIN.name] > 0


def test_alike_the_simpler_one_wins() -> None:
    fewer = decide([standing(PLAIN, 2.0), standing(named("two", 2), 1.0), standing(named("one", 1), 1.01)], 0.1, 2)
    assert fewer.winner == "one"
    assert "which is no difference; one is simpler" in fewer.lost["two"].reason
    own = decide([standing(PLAIN, 2.0), standing(named("x", 1, "other"), 1.0), standing(named("y", 1), 1.01)], 0.1, 2)
    assert own.winner == "y"
    smaller = decide([standing(PLAIN, 2.0), standing(named("big"), 1.0, 200), standing(named("small"), 1.01, 100)], 0.1, 2)
    assert smaller.winner == "small"


@pytest.mark.parametrize("ms", [1.0, 0.98, 3.0])
def test_the_plain_export_stays_where_nothing_is_clearly_faster(ms: float) -> None:
    decision = decide([standing(PLAIN, 1.0), standing(named("a", 0, "other"), ms)], 0.1, 2)
    assert decision.winner == PLAIN.name
    assert decision.because == "none of the 1 other that passed all gates sustains a clearly higher rate within 100ms"
    assert decide([standing(PLAIN, 1.0)], 0.1, 2).because == "no other candidate passed all gates"


def test_lengths_count_alike() -> None:
    """Rates of short inputs are much higher; they do not outweigh the long ones."""
    plain = standing(PLAIN, 1.0, lengths=(1, 10))
    quick_short = Profile(DEVICE, Placement(1, 1), tuple(
        Cell(rows, n, *(3 * (rows * ms / 1e3,)), 9, 0) for n, ms in ((1, 0.9), (10, 20.0)) for rows in (1, 2)
    ))  # fmt: skip
    decision = decide([plain, Standing(named("short"), quick_short, 1)], 0.2, 2)
    assert decision.rates["short"] > decision.rates[PLAIN.name]
    assert decision.winner == PLAIN.name


def test_where_none_keeps_the_objective_single_rows_decide() -> None:
    decision = decide([standing(PLAIN, 2.0), standing(named("a"), 1.0)], 0.0001, 2)
    assert decision.winner == "a"
    assert decision.because == "it sustains 2.00 times the rate of the plain export within 100us"
    assert set(decision.rates.values()) == {0.0}


def test_where_only_the_winner_keeps_it() -> None:
    decision = decide([standing(PLAIN, 10.0), standing(named("a"), 1.0)], 0.005, 2)
    assert decision.because == "it keeps 5ms, which the plain export does not"
