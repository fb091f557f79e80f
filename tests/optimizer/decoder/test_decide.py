"""The decision: a pure function of step profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping

from optimizer.decoder.decide import Rate, decide, margin_of, rate_at
from optimizer.decoder.trial import PLAIN, SMALLER, Candidate, Trial
from optimizer.ladder.gates import Gate
from server.contract.profile import Placement
from server.contract.step_profile import DecodeCell, PrefillCell, StepProfile
from server.simulation.laws import DEVICE

INT8, INT4 = SMALLER


def steps(step_s: float, row_s: float = 0.0, guard: float = 1.0, contexts: tuple[int, ...] = (64, 512, 1023)) -> StepProfile:
    decode = tuple(
        DecodeCell(rows, context, time_s, guard * time_s, 9)
        for context in contexts
        for rows in (1, 2, 4)
        if (time_s := step_s + rows * row_s + context * 1e-9)
    )
    return StepProfile(DEVICE, Placement(1, 2), decode, (PrefillCell(16, 1.0, 1.0, 9),))


def trials(profiles: Mapping[Candidate, StepProfile]) -> list[Trial]:
    return [Trial(candidate, steps=profile) for candidate, profile in profiles.items()]


def test_the_rate_is_that_of_the_most_rows_within_the_gap() -> None:
    profile = steps(0.01, 0.01)
    assert rate_at(profile, 0.1, 1.0).rows == 4
    assert math.isclose(rate_at(profile, 0.1, 1.0).tokens_per_s, 4 / 0.05, rel_tol=1e-3)
    assert rate_at(profile, 0.04, 1.0).rows == 2, "with half of what a row may keep"
    assert rate_at(profile, 0.1, 3.0).rows == 2
    assert rate_at(profile, 0.01, 1.0) == Rate(0, 0.0)
    assert margin_of([steps(1.0, guard=guard) for guard in (1.0, 2.0, 2.5)]) == 3.0


def test_the_most_tokens_per_second_win() -> None:
    decision = decide(trials({PLAIN: steps(0.010), INT8: steps(0.005), INT4: steps(0.006)}), 0.1)
    assert decision.winner == "int8"
    assert decision.because == "at a gap of 100ms it generates 2.00 times the tokens per second of the plain export"
    assert {name: failed.gate for name, failed in decision.lost.items()} == {"fp32": Gate.RATE, "int4": Gate.RATE}
    assert decision.lost["int4"].reason == "0.83 times the tokens per second of int8"


def test_of_those_alike_the_more_exact_one_wins() -> None:
    decision = decide(trials({PLAIN: steps(0.010), INT8: steps(0.0051), INT4: steps(0.005)}), 0.1)
    assert decision.winner == "int8"
    assert (
        decision.lost["int4"].reason == "1.02 times the tokens per second of int8, which is no difference; int8 is more exact"
    )
    decision = decide(trials({PLAIN: steps(0.010), INT8: steps(0.0099)}), 0.1)
    assert decision.winner == "fp32"
    assert decision.because.endswith("none of the others that passed all gates generates clearly more tokens per second")


def test_the_gap_decides_how_many_rows_count() -> None:
    profiles = {PLAIN: steps(0.004, 0.001), INT4: steps(0.001, 0.003)}
    assert decide(trials(profiles), 0.1).winner == "fp32", "8 ms for four rows against 13"
    assert decide(trials(profiles), 0.0055).winner == "int4", "one row each, in 5 ms and in 4"
    decision = decide(trials(profiles), 0.0045)
    assert decision.because == "it keeps a gap of 4.5ms, which the plain export does not"
    assert decision.rates["fp32"] == Rate(0, 0.0)


def test_where_none_keeps_the_gap_single_rows_decide() -> None:
    decision = decide(trials({PLAIN: steps(1.0), INT8: steps(0.5)}), 0.1)
    assert decision.winner == "int8"
    assert decision.because.startswith("no candidate keeps a gap of 100ms, and of single rows it generates 2.00 times")


def test_alone_the_plain_export_wins() -> None:
    decision = decide(trials({PLAIN: steps(1.0)}), 10.0)
    assert (decision.winner, decision.because, decision.lost) == ("fp32", "no other candidate passed all gates", {})
