"""How many slots and how long a queue follow from what was measured and what is wanted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.contract.device import Device
from server.contract.generation import Generation, KeptShape
from server.contract.profile import Placement
from server.contract.step_profile import DecodeCell, PrefillCell, StepProfile
from server.contract.tensors import DataType
from server.contract.wants import USUAL_GAP_S, Wants
from server.runtime.generating_terms import generating_terms, hopeless
from server.runtime.loading_decoder import slots_to_measure
from server.runtime.terms import CPU

GENERATION = Generation("tokenizer.json", None, {}, (0,), 64, 1000, KeptShape(2, 2, 16, DataType.FP32))
ROWS = (1, 2, 4, 8)


def profile(guard: float = 1.0, instances: int = 1) -> StepProfile:
    """10 ms, 1 ms more for each row, as much again for each with a whole slot."""
    decode = tuple(
        DecodeCell(rows, context, took_s := 0.010 + rows * 0.001 * (1 + context / 1000), took_s * guard, 9)
        for rows in ROWS for context in (1, 1000)
    )  # fmt: skip
    prefill = (PrefillCell(64, 0.020, 0.020 * guard, 9), PrefillCell(128, 0.040, 0.040 * guard, 9))
    return StepProfile(Device("p", 2, "r"), Placement(instances, 2), decode, prefill)


@pytest.mark.parametrize(
    ("gap_s", "guard", "slots"),
    [(0.0221, 1.0, 8), (0.0219, 1.0, 4), (0.0221, 1.05, 4), (0.0161, 1.0, 4), (0.0131, 1.0, 2), (0.005, 1.0, 1)],
)
def test_as_many_slots_as_keep_the_gap_when_they_are_half_full(gap_s: float, guard: float, slots: int) -> None:
    terms = generating_terms(GENERATION, Wants(1.0, gap_s=gap_s), profile(guard))
    assert terms.limits.slots == slots
    assert terms.limits.room == slots * 1000
    assert f"{slots} slots" in terms.why


def test_the_owner_may_say_how_many_slots() -> None:
    terms = generating_terms(GENERATION, Wants(1.0, slots=3), profile())
    assert terms.limits.slots == 3
    assert terms.why == f"{Placement(1, 2)}, 3 slots by model.toml"


def test_the_usual_gap_counts_where_none_is_wanted() -> None:
    terms = generating_terms(GENERATION, Wants(1.0), profile())
    assert terms.gap_s == terms.limits.gap_s == USUAL_GAP_S
    assert terms.device == CPU
    assert terms.limits.longest == terms.limits.step_tokens == 1000


def test_a_short_model_still_reads_a_chunk_in_a_step() -> None:
    assert generating_terms(replace(GENERATION, longest=20), Wants(1.0), profile()).limits.step_tokens == 64


@pytest.mark.parametrize(
    ("slo_s", "slots", "instances", "queue"), [(0.1, 8, 1, 32), (2.0, 8, 1, 200), (2.0, 8, 2, 400), (2.0, 64, 1, 256)]
)
def test_as_many_may_wait_as_could_be_in_time(slo_s: float, slots: int, instances: int, queue: int) -> None:
    """Short prompts take 20 ms each."""
    terms = generating_terms(GENERATION, Wants(slo_s, slots=slots), profile(instances=instances))
    assert terms.limits.queue == queue


def test_it_is_told_when_nothing_can_be_served_as_promised() -> None:
    reason = hopeless(generating_terms(GENERATION, Wants(1.0, gap_s=0.010), profile()))
    assert reason is not None
    assert reason.startswith("one token takes 11 ms even alone, more than the 10 ms promised between two")
    assert hopeless(generating_terms(GENERATION, Wants(1.0), profile())) is None


def test_slots_are_measured_only_as_far_as_memory_allows() -> None:
    assert slots_to_measure(GENERATION) == 32
    large = KeptShape(32, 8, 128, DataType.FP16)  # 128 KiB of each token
    assert slots_to_measure(replace(GENERATION, kept=large, longest=2048)) == 4
    assert slots_to_measure(replace(GENERATION, kept=large, longest=131072)) == 1
