"""A result of the benchmark of generation, made up."""

from __future__ import annotations

from typing import Any

from loadtests.generation.claims import claims
from loadtests.verdicts import verdict_values


def pace(first: float, whole: float) -> dict[str, float]:
    return {"first_p50_s": first / 2, "first_p95_s": first, "whole_p50_s": whole, "same_answers": 1.0}


def kept(per_s: float, refused: float) -> dict[str, float]:
    hinted = float(refused > 0)
    return {"tokens_per_s": per_s, "in_time": 1 - refused, "refused": refused, "broke_gap": 0.0, "refusals_with_hint": hinted}


def side(encoder: float, decoder: float) -> dict[str, Any]:
    return {
        "encoder": {"goodput_share": encoder, "refused": 10, "scheduled": 100, "latency_ms": {"p99": 31.0}},
        "decoder": {"in_slo": decoder, "refused": 0.125, "first_p99_s": 0.25, "gap_p99_s": None},
    }


def result() -> dict[str, Any]:
    """Two rounds; it misses nothing but transformers' continuous batching (twice) and the encoder's SLO in company."""
    over = {
        "ferry": 1.0,
        "ferry, waves": 1.6,
        "ferry, static batches": 2.6,
        "ferry's engine in process": 0.9,
        "ferry's engine in process, static batches": 2.43,
        "transformers, continuous": 2.5,
        "llama.cpp, continuous": 2.4,
    }
    arrivals = {"ferry": pace(0.03, 0.4), "ferry, waves": pace(1.5, 1.2), "ferry, static batches": pace(3.0, 2.4)}
    content = {
        "kind": "generation",
        "command": "python -m loadtests.bench_generation --rounds 2",
        "options": {"rounds": 2, "slots": 16, "threads": 2, "slo": 1.0, "gap": 0.1},
        "environment": {"cpu": "Some CPU", "cores": 2, "git_commit": "0123456789abcdef"},
        "failed": {},
        "work": {"requests": 96, "tokens": 4800, "row_step_ceiling": 3.0},
        "backlog": {
            "tokens_per_s": {name: [1000 / ratio, 1000 / ratio] for name, ratio in over.items()},
            "ferry_over": over,
            "same_answers": {name: 0.6 if name.startswith("llama") else 1.0 for name in over},
            "same_answers_by_round": {name: [0.6, 0.7] if name.startswith("llama") else [1.0, 1.0] for name in over},
            "engine_over_static": 2.7,
            "row_step_ceiling": 3.0,
            "left_out": {"onnxruntime-genai engine": "no wheel"},
        },
        "chosen": {
            "headline": "chosen was published as int8.",
            "compared_on": "16 texts of 256 tokens",
            "candidate": {"name": "int8", "n_bytes": 34_000_000, "perplexity": 10.1, "top1": 0.97, "kl": 0.0012},
            "tokens_per_s": {"plain": [1000.0, 1010.0], "chosen": [1400.0, 1414.0]},
            "over_plain": 1.4,
            "times_smaller": 3.76,
        },
        "arrivals": {
            "rate": 10.0,
            "rounds": [arrivals, arrivals],
            "over_ferry": {"ferry, static batches": {"first_p50_s": 100.0, "first_p95_s": 100.0, "whole_p50_s": 6.0}},
        },
        "gap": {
            "objective_s": 0.045,
            "rounds": [{"plain_s": 0.01, "worst_s": worst, "first_s": first} for worst, first in ((0.025, 0.12), (0.07, 0.11), (0.03, 0.1))],
            "worst_over_plain": 3.0,
        },
        "overload": {"capacity_per_s": 16.0, "kept_at_3": 1.1, "loads": {"1": kept(900.0, 0.0), "3": kept(990.0, 0.6)}},
        "company": {
            "share": 0.45, "encoder_per_s": 1000.0, "encoder_slo_s": 0.05, "decoder_rate": 7.0,
            "rounds": [{"alone": side(1.0, 1.0), "together": side(share, 0.85)} for share in (0.9, 0.92)],
        },
    }  # fmt: skip
    return {**content, "verdicts": verdict_values(claims(content))}
