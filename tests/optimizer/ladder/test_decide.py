"""The decision is a pure function of the measurements."""

from __future__ import annotations

import pytest

from optimizer.ladder.candidate import PLAIN, Candidate, Step
from optimizer.ladder.decide import Standing, close_ones, decide
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


def test_alike_half_the_size_wins_over_simplicity() -> None:
    found = decide(
        [standing(PLAIN, 1.0, 100), standing(named("int8", 2), 1.01, 50), standing(named("fp16", 1), 1.0, 51)], 0.1, 2
    )
    assert found.winner == "fp16", "neither is twice as large as the other"
    assert found.because == "it is 0.51 times as large as the plain export, at the same rate"


def test_past_what_a_front_end_can_take_in_size_comes_first_and_rate_after_that() -> None:
    plain, small = standing(PLAIN, 0.001, 90), standing(named("int8"), 0.00125, 30)
    found = decide([plain, small], 0.1, 2)
    assert found.winner == "int8"
    more = "and no front end takes in more than 60,000 single rows/s"
    assert found.because == (
        f"it is 0.33 times as large as the plain export, at 0.80 times the rate of the plain export within 100ms, {more}"
    )  # fmt: skip
    assert found.lost[PLAIN.name].reason == f"1.25 times the rate of int8 within 100ms, {more}; int8 is 0.33 times as large"
    assert decide([plain, standing(named("half"), 0.002, 60)], 0.1, 2).winner == PLAIN.name, (
        "neither faster nor clearly smaller"
    )
    quick = decide([plain, standing(named("quick"), 0.0005, 89)], 0.1, 2)
    assert quick.because.startswith("it sustains 2.0"), "what it does not need of the processor is for others"


def test_who_may_be_the_best() -> None:
    tried = [standing(PLAIN, 2.0), standing(named("a"), 1.0), standing(named("b"), 1.4)]
    assert close_ones(tried, 0.1, 2) == ["a", "b"]
    assert close_ones([tried[0], tried[1]], 0.1, 2) == ["a"]


@pytest.mark.parametrize("ms", [1.0, 0.98, 3.0])
def test_the_plain_export_stays_where_nothing_is_clearly_faster(ms: float) -> None:
    decision = decide([standing(PLAIN, 1.0), standing(named("a", 0, "other"), ms)], 0.1, 2)
    assert decision.winner == PLAIN.name
    assert (
        decision.because
        == "none of the 1 other that passed all gates sustains a clearly higher rate within 100ms, or the same at half the size"
    )
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
