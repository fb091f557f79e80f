"""Claims hold or miss by the figures of a result, and only of scenes that ran."""

from __future__ import annotations

import pytest

from loadtests.generation.claims import LEAST_OVER, claims, judged
from loadtests.generation.joining import Joining
from tests.loadtests.generation.example import result


def test_which_claims_miss() -> None:
    missed = [one.figure for one in claims(result()) if not one.holds]
    assert missed == [
        "ferry / transformers, continuous",
        "in process: ferry's engine / transformers, continuous",
        "encoder in its SLO beside the decoder, share of all requests",
    ]


def test_others_are_compared_with_the_engine_round_by_round_too() -> None:
    found = result()
    per_s = found["backlog"]["tokens_per_s"]
    per_s["ferry's engine in process"], per_s["transformers, continuous"] = [900.0, 700.0], [300.0, 200.0]
    (told,) = (one for one in claims(found) if one.figure == "in process: ferry's engine / transformers, continuous")
    assert (told.found, told.bound, told.holds) == (3.25, 3.0, True)


def test_nothing_is_claimed_of_waves_and_of_those_left_out() -> None:
    told = " ".join(one.figure for one in claims(result()))
    assert Joining.WAVES.value not in told
    assert "onnxruntime-genai" not in told
    assert Joining.STATIC.value in LEAST_OVER


@pytest.mark.parametrize(
    ("scene", "n"), [("backlog", 9), ("chosen", 2), ("arrivals", 2), ("gap", 1), ("overload", 2), ("company", 2)]
)
def test_a_scene_that_did_not_run_claims_nothing(scene: str, n: int) -> None:
    whole = result()
    assert len(claims(whole)) - len(claims({name: one for name, one in whole.items() if name != scene})) == n


def test_the_ceiling_is_compared_with_the_engine_alone() -> None:
    slower = result()
    slower["backlog"]["engine_over_static"] = 2.35
    assert "in process: the same, of the row-step ceiling" in [one.figure for one in claims(slower) if not one.holds]


def test_answers_that_differ_are_a_miss_though_not_of_llama_cpp() -> None:
    changed = result()
    changed["backlog"]["same_answers"]["ferry, static batches"] = 0.99
    assert "the same answers from everybody but llama.cpp, the least share" in [
        one.figure for one in claims(changed) if not one.holds
    ]


ENCODER = "encoder in its SLO beside the decoder, share of all requests"
DECODER = "decoder in its SLOs beside the encoder, share of all requests"


@pytest.mark.parametrize(
    ("kept_up", "encoder", "decoder"),
    [
        ((True, True, True), "MISSES by 3.2%", "holds"),
        ((False, True, True), "holds", "MISSES by 12.5%"),
        ((False, True, False), "VOID", "VOID"),
        ((False, False, False), "VOID", "VOID"),
    ],
)
def test_rounds_whose_generator_was_late_decide_nothing(kept_up: tuple[bool, ...], encoder: str, decoder: str) -> None:
    late = result()
    shares = ((0.9, 0.9), (0.92, 0.8), (0.99, 0.6))
    late["company"]["rounds"] = [
        {"together": {"encoder": {"goodput_share": one, "generator_kept_up": kept}, "decoder": {"in_slo": other}}}
        for (one, other), kept in zip(shares, kept_up, strict=True)
    ]
    told = {one.figure: one for one in claims(late)}
    assert (told[ENCODER].told, told[DECODER].told) == (encoder, decoder)
    assert (told[ENCODER].holds, told[DECODER].holds) == (encoder == "holds", decoder == "holds")


@pytest.mark.parametrize(
    ("worst_s", "holds", "told"),
    [
        ((0.02, 0.03, 0.039), True, "holds; the worst round: 3.9"),
        ((0.02, 0.03, 0.07), True, "holds; the worst round: 7, which misses"),
        ((0.02, 0.06, 0.07), False, "MISSES by 50.0%; the worst round: 7"),
    ],
)
def test_the_longest_gap_is_judged_by_the_median_and_told_with_the_worst(
    worst_s: tuple[float, ...], holds: bool, told: str
) -> None:
    changed = result()
    changed["gap"]["rounds"] = [{"plain_s": 0.01, "worst_s": one, "first_s": 0.1} for one in worst_s]
    (found,) = (one for one in claims(changed) if one.figure.startswith("longest gap"))
    assert (found.holds, found.told) == (holds, told)


def test_a_file_is_judged_by_todays_rules_with_its_own_bounds_and_keeps_what_only_it_claimed() -> None:
    old = result()
    old["verdicts"] = [
        {"figure": "once claimed", "found": 0.7, "side": ">=", "bound": 0.8, "holds": False},
        {"figure": ENCODER, "found": 0.99, "side": ">=", "bound": 0.9, "holds": True},
    ]
    for one in old["company"]["rounds"]:
        one["together"]["encoder"]["generator_kept_up"] = False
    found = judged(old)
    assert [(one.figure, one.bound, one.told) for one in found[:2]] == [
        ("once claimed", 0.8, "MISSES by 12.5%"),
        (ENCODER, 0.9, "VOID"),
    ]
    assert {one.figure for one in found} == {"once claimed", *(one.figure for one in claims(old))}


def test_older_results_without_an_engine_in_process_claim_nothing_of_it() -> None:
    old = result()
    del old["backlog"]["engine_over_static"], old["backlog"]["tokens_per_s"]["ferry's engine in process"]
    assert not [one for one in claims(old) if one.figure.startswith("in process")]
