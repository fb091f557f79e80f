"""A model that doubles 64 floats, and a finished comparison of two servers. Tests only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from loadtests.limit import InProcess, model_file
from loadtests.peers.peer import Model
from tests.loadtests.models import publish


def doubling(folder: Path) -> tuple[Model, InProcess]:
    """`digits`, published in `folder`; skips the test without the onnx package."""
    publish(folder)
    file = model_file(folder, "digits")
    rows = [{"x": np.full((1, 64), n / 8, np.float32)} for n in range(8)]
    in_process = InProcess(file, rows)
    return Model("digits", file, rows, ("y",), [in_process.outputs(row) for row in rows]), in_process


def _sample(per_s: float, cpu_us: float) -> dict[str, float]:
    counts = {"n_answered": 10, "n_refused": 0, "n_failed": 0}
    return {"per_s": per_s, "cpu_us": cpu_us, "p50_ms": 2.0, "p99_ms": 4.0, "own_us": 10.0, **counts}


def _load(share: float) -> dict[str, Any]:
    return {"goodput_share": share, "generator_kept_up": True}


def visit(per_s: float, goodput: tuple[float, float] = (1.0, 0.0), binary: float | None = None) -> dict[str, Any]:
    """What one visit found."""
    lanes = {"JSON": _sample(per_s, 1e6 / per_s), "JSON, alone": _sample(500.0, 90.0)}
    if binary is not None:
        lanes["binary"] = _sample(binary, 1e6 / binary)
    return {
        "reason": None,
        "cold_start_s": 1.25,
        "difference": 0.0,
        "memory": {"rss": 200_000_000, "pss": 80_000_000},
        "lanes": lanes,
        "overload": {"0.8": _load(goodput[0]), "1.5": _load(goodput[1])},
    }


def comparison() -> dict[str, Any]:
    """Three rounds of ferry, a faster peer, one that fails in a round, and one that cannot be installed."""
    told = {"requirements": [], "settings": "as it comes", "versions": {"ferry-serving": "1.0"}, "reason": None}
    peers = {name: {"label": label, **copy.deepcopy(told)} for name, label in _LABELS.items()}
    peers["gone"] |= {"reason": "no matching distribution", "versions": {}}
    rounds: list[dict[str, Any]] = []
    for factor in (1.0, 0.5, 2.0):
        digits = {"ferry": visit(1000 * factor, (1.0, 0.7), 1500.0), "fast": visit(2000 * factor), "shaky": visit(100 * factor)}
        resnet = {name: visit(factor * per_s) for name, per_s in (("ferry", 50), ("fast", 20), ("shaky", 10))}
        rounds.append(
            {
                "visits": {"digits": digits, "resnet18": resnet},
                "limits": {"digits": 4000 * factor, "resnet18": 100 * factor},
                "echo": _sample(9000 * factor, 50.0),
            }
        )
    rounds[1]["visits"]["resnet18"]["shaky"] = {"reason": "status 500:\n boom | bang"}
    return {
        "kind": "peers",
        "command": "python -m loadtests.bench_peers",
        "options": {"connections": 64},
        "environment": {"cpu": "Some <CPU>", "cores": 2, "git_commit": "0123456789abcdef"},
        "slo_ms": {"digits": 50.0},
        "peers": peers,
        "models": {"digits": {}, "resnet18": {}},
        "choices": {"digits": {"fast": {"chosen": "no batching", "tried": {"no batching": 2000.0, "batches": "it fell"}}}},
        "rounds": rounds,
    }


_LABELS = {"fast": "Fast", "ferry": "ferry", "shaky": "Shaky", "gone": "Gone"}
