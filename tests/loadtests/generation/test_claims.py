"""Claims hold or miss by the figures of a result, and only of scenes that ran."""

from __future__ import annotations

import pytest

from loadtests.generation.claims import LEAST_OVER, claims
from loadtests.generation.joining import Joining
from tests.loadtests.generation.example import result


def test_which_claims_miss() -> None:
    missed = [one.figure for one in claims(result()) if not one.holds]
    assert missed == ["ferry / transformers, continuous", "encoder in its SLO beside the decoder, share of all requests"]


def test_nothing_is_claimed_of_waves_and_of_those_left_out() -> None:
    told = " ".join(one.figure for one in claims(result()))
    assert Joining.WAVES.value not in told
    assert "onnxruntime-genai" not in told
    assert Joining.STATIC.value in LEAST_OVER


@pytest.mark.parametrize(
    ("scene", "n"), [("backlog", 7), ("chosen", 2), ("arrivals", 2), ("gap", 1), ("overload", 2), ("company", 2)]
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
