"""The calculator against numbers reckoned by hand, and against sizes that were really reached."""

from __future__ import annotations

import json
from typing import Any

import pytest

from optimizer.errors import OptimizeError
from optimizer.estimate import Assumed, Change, Measured, Pruning, Risk, Runtime, Span, estimate

SLOW = Assumed(positions=10, cores=2, gflops_per_core=1.0)
KNOWN = Measured("tiny/1", " of length 8", n_parameters=1000, file_bytes=4100, grown_bytes=500, p50_s=0.002)
INT8 = Measured("tiny/2", "", n_parameters=1000, file_bytes=1100, grown_bytes=0, p50_s=0.001)


def test_the_model_as_it_is() -> None:
    found = estimate(1000, Change(), SLOW)
    assert (found.n_parameters, found.size_bytes, found.size_ratio, found.memory_bytes) == (1000, 4000, 1, 4000)
    assert found.latency_s.low == found.latency_s.high == pytest.approx(2 * 1000 * 10 / (1e9 * 2))
    assert (found.speed_up, found.risk, found.measured) == (Span(1, 1), Risk.LOW, ())
    assert "2 operations for each parameter at 10 position(s), 1 GFLOP/s on each of 2 core(s)" in found.assumptions[0]


def test_eight_bits() -> None:
    found = estimate(1000, Change(bits=8), SLOW)
    assert (found.size_bytes, found.size_ratio) == (1000, 0.25)
    assert found.speed_up == Span(1.7, 2.8)
    assert (found.latency_s.low, found.latency_s.high) == (pytest.approx(1e-5 / 2.8), pytest.approx(1e-5 / 1.7))
    assert found.risk is Risk.MEDIUM


def test_four_bits_of_an_encoder_whose_table_stays_whole() -> None:
    found = estimate(22_700_000, Change(bits=4, quantized=10.6 / 22.7), SLOW)
    assert found.size_bytes == pytest.approx((10.6e6 * 5 + 12.1e6 * 32) / 8)
    assert 53e6 < found.size_bytes < 56e6, "what four ways of doing it gave"
    assert found.risk is Risk.HIGH


@pytest.mark.parametrize(
    ("change", "share"),
    [
        (Change(sparsity=0.5), 0.5), (Change(rank=0.25), 0.5), (Change(student=250), 0.25), (Change(sparsity=0.2, student=500), 0.4),
        (Change(sparsity=0.5, rank=0.125, student=500), 0.0625),
    ],
)  # fmt: skip
def test_fewer_weights(change: Change, share: float) -> None:
    found = estimate(1000, change, SLOW)
    assert (found.n_parameters, found.size_bytes) == (round(1000 * share), round(4000 * share))
    assert found.speed_up.low == pytest.approx((1 / share) ** 0.7)
    assert found.speed_up.high == pytest.approx((1 / share) ** 1.1)


def test_pruned_channels_bring_what_was_seen() -> None:
    found = estimate(1000, Change(sparsity=1 - 22 / 47), SLOW).speed_up
    assert found.low <= 4.6 / 1.9 + 0.2
    assert found.low < 4.3 / 1.8 < found.high + 0.1


def test_single_zeros_bring_nothing() -> None:
    found = estimate(1000, Change(sparsity=0.9, pruning=Pruning.UNSTRUCTURED), SLOW)
    assert (found.size_bytes, found.speed_up, found.risk) == (4000, Span(1, 1), Risk.HIGH)
    assert any("nothing is gained" in line for line in found.assumptions)


def test_a_measured_version_as_it_is_has_no_assumptions() -> None:
    found = estimate(1000, Change(), KNOWN)
    assert (found.size_bytes, found.memory_bytes, found.latency_s) == (4100, 4600, Span(0.002, 0.002))
    assert found.assumptions == ()
    assert found.measured[0] == "tiny/1: one row of length 8 takes 2 ms (p50); its file has 4,100 bytes"


def test_a_measured_version_changed() -> None:
    found = estimate(1000, Change(bits=8), KNOWN)
    assert found.size_ratio == pytest.approx(1000 / 4100)
    assert (found.latency_s.low, found.latency_s.high) == (pytest.approx(0.002 / 2.8), pytest.approx(0.002 / 1.7))
    assert len(found.measured) == 2
    assert found.assumptions == ("8 bits on onnxruntime: 1.7 to 2.8 times as fast as float32 on onnxruntime",)


def test_a_model_like_it_of_another_size() -> None:
    found = estimate(2000, Change(), KNOWN)
    assert found.size_bytes == 8000
    assert found.latency_s.low == pytest.approx(0.002 * 2**0.7)
    assert found.latency_s.high == pytest.approx(0.002 * 2**1.1)
    assert found.assumptions[0].startswith("a model like tiny/1, 2 times its size")


def test_a_quantized_version_is_known_by_its_file() -> None:
    assert (KNOWN.bits, INT8.bits) == (32, 8)
    assert estimate(1000, Change(bits=8), INT8).speed_up == Span(1, 1)
    back = estimate(1000, Change(bits=32), INT8)
    assert (back.speed_up.low, back.speed_up.high) == (pytest.approx(1 / 2.8), pytest.approx(1 / 1.7))
    assert back.risk is Risk.LOW


def test_another_runtime_is_a_change() -> None:
    found = estimate(1000, Change(runtime=Runtime.OPENVINO), KNOWN)
    assert (found.speed_up, found.risk) == (Span(1.5, 5.8), Risk.LOW)
    assert found.reasons == ("computed in bf16: cosine 0.9999 and more was seen",)
    served = Measured("tiny/3", "", 1000, 4100, 0, 0.001, Runtime.OPENVINO)
    assert estimate(1000, Change(runtime=Runtime.OPENVINO), served).speed_up == Span(1, 1)
    assert estimate(1000, Change(), served).speed_up.high == pytest.approx(1 / 1.5)


def test_errors_of_several_steps_add_up() -> None:
    assert estimate(1000, Change(sparsity=0.2), SLOW).risk is Risk.MEDIUM
    both = estimate(1000, Change(bits=8, sparsity=0.2), SLOW)
    assert both.risk is Risk.HIGH
    assert both.reasons[-1] == "the errors of several steps add up"
    assert estimate(1000, Change(student=50), SLOW).risk is Risk.HIGH
    assert estimate(1000, Change(bits=16), SLOW).risk is Risk.LOW


@pytest.mark.parametrize(
    ("wrong", "wanted"),
    [
        ({"bits": 5}, "5 bits: nothing is known of that on onnxruntime; known are 32, 16, 8, 4, 2"),
        ({"bits": 4, "runtime": Runtime.OPENVINO}, "4 bits: nothing is known of that on openvino-bf16"),
        ({"sparsity": 1.0}, "a sparsity of 1"),
        ({"rank": 0.5}, "a rank of 0.5 saves nothing"),
        ({"quantized": 0.0, "bits": 8}, "a quantized share of 0"),
        ({"quantized": 0.5}, "at 32 bits says nothing"),
        ({"student": 0}, "a student of 0 parameters"),
    ],
)
def test_impossible_changes_are_refused(wrong: dict[str, Any], wanted: str) -> None:
    with pytest.raises(OptimizeError, match=wanted):
        Change(**wrong)


def test_a_model_has_parameters() -> None:
    with pytest.raises(OptimizeError, match="0 parameters"):
        estimate(0, Change(), SLOW)


def test_it_is_json() -> None:
    found = json.loads(json.dumps(estimate(1000, Change(bits=8), KNOWN).to_json()))
    assert (found["risk"], found["speed_up"]) == ("medium", {"low": 1.7, "high": 2.8})
