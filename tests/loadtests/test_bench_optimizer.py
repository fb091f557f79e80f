"""The claims about what the optimizer is worth, and the table, from figures that nobody measured."""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.bench_optimizer import _table as table_of
from loadtests.bench_optimizer import main, parse, verdicts
from loadtests.side_by_side import TERMS


def found(rate_ratio: float | None, cosine: float, times_smaller: float) -> dict[str, Any]:
    def way(backend: str, n_bytes: int, per_s: float) -> dict[str, Any]:
        samples = [{"per_s": per_s + n, "cpu_us": 2000.0, "p50_ms": 4.0} for n in (-1, 0, 1)]
        return {"backend": backend, "bytes": n_bytes, "closed_loop": samples, "capacity": {"rate": per_s / 2}}

    agreed = {"mean_cosine": cosine, "worst_cosine": cosine, "same_top": 1.0, "same_neighbour": None}
    plain, chosen = way("onnxruntime", 4_000_000, 100.0), way("openvino-bf16", 1_000_000, 250.0)
    return {"rate_ratio": rate_ratio, "times_smaller": times_smaller, "agreement": agreed, "plain": plain, "chosen": chosen}


@pytest.mark.parametrize(
    ("one", "holds"),
    [
        (found(1.0, 0.9995, 3.5), [True, True, True]),
        (found(0.99, 0.998, 2.9), [False, False, False]),
        (found(None, 1.0, 3.0), [False, True, True]),
    ],
)
def test_claims_of_digits(one: dict[str, Any], holds: list[bool]) -> None:
    assert [claim.holds for claim in verdicts("digits", TERMS["digits"], one)] == holds


def test_a_model_without_a_claim_on_size_has_none() -> None:
    assert len(verdicts("minilm", TERMS["minilm"], found(3.0, 1.0, 1.0))) == 2


def test_the_table_tells_quality_of_the_chosen_one_only() -> None:
    plain, chosen = table_of({"digits": found(2.5, 0.9995, 4.0)}).splitlines()[-2:]
    assert "0.99950 / 0.99950" in chosen
    assert "0.99950" not in plain
    assert "openvino-bf16" in chosen
    assert "250.0" in chosen


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", "abacus"]) == 1
    assert capsys.readouterr().err == "bench-optimizer: --models abacus: known are digits, resnet18, minilm\n"


def test_paths_have_defaults() -> None:
    assert str(parse([]).plain) == ".ferry-cache/plain"
