from __future__ import annotations

from dataclasses import replace

from loadtests.recovery import Phases, Recovery, goodput_per_s, recovery
from loadtests.tally import Bin

PHASES = Phases(settle_s=0.5, begins_s=2.0, ends_s=4.0)


def steps(p99_ms: float = 4.0) -> list[Bin]:
    """Ten seconds in quarters, all of them well."""
    return [Bin(at / 4, 1000.0, 1000.0, 0.0, 0.0, 0.0, 2.0, p99_ms) for at in range(40)]


def slow(one: Bin) -> Bin:
    return replace(one, p99_ms=80.0)


def losing(one: Bin) -> Bin:
    return replace(one, in_slo=900.0, refused=100.0)


def test_who_was_never_disturbed_has_recovered_at_once() -> None:
    assert recovery(steps(), PHASES, calm_s=1.0) == Recovery(5.0, 0.0)


def test_recovery_is_when_the_latencies_are_normal_again_for_a_while() -> None:
    found = steps()
    for at in (16, 17, 18, 20):  # a single good step at 4.75 s is not calm
        found[at] = slow(found[at])
    assert recovery(found, PHASES, calm_s=1.0).after_s == 1.25


def test_misses_count_though_the_answers_are_fast() -> None:
    found = steps()
    found[16] = losing(found[16])
    assert recovery(found, PHASES, calm_s=1.0).after_s == 0.25


def test_one_bad_step_long_after_is_not_the_overloads_doing() -> None:
    found = steps()
    found[30] = slow(found[30])
    assert recovery(found, PHASES, calm_s=1.0).after_s == 0.0


def test_who_stays_slow_never_recovers() -> None:
    found = [slow(one) if one.at_s >= 2.0 else one for one in steps()]
    assert recovery(found, PHASES, calm_s=1.0) == Recovery(5.0, None)


def test_nothing_was_normal_before() -> None:
    assert recovery([losing(one) for one in steps()], PHASES, calm_s=1.0) == Recovery(None, None)


def test_what_is_normal_is_not_taken_from_the_first_moments() -> None:
    found = steps()
    found[0] = slow(found[0])
    assert recovery(found, PHASES, calm_s=1.0).normal_ms == 5.0


def test_goodput_of_an_interval() -> None:
    found = steps()
    found[0] = losing(found[0])
    assert goodput_per_s(found, 0.0, 0.5) == 950.0
    assert goodput_per_s(found, 50.0, 60.0) is None
