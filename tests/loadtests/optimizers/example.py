"""A finished comparison of optimizers. Tests only."""

from __future__ import annotations

from typing import Any

from loadtests.agreed import Agreement
from loadtests.optimizers.claims import FERRY, OPENVINO, OPENVINO_LABEL, PLAIN, claims
from loadtests.optimizers.quality import Quality, quality_values
from loadtests.verdicts import verdict_values


def version(tool: str, rate: float | None, cosine: float = 1.0, sha256: str = "a", **more: Any) -> dict[str, Any]:
    """One version: `rate` within the objective; the plain export's is 100."""
    quality = Quality(Agreement("y", cosine, cosine - 0.001, 1.0, 0.75), 0.988, 0.99)
    return {
        "tool": tool, "backend": "onnxruntime", "bytes": 4_000_000, "sha256": sha256, "max_rows": 64, "mixes": None, "made": None,
        "refused": [], "quality": quality_values(quality), "rate": rate, "limited": False, "rate_ratio": None if rate is None else rate / 100,
        "closed_loop_ratio": 1.5, "closed_loop": [{"per_s": 150.0 + n} for n in (-1, 0, 1)], "capacity": [], **more,
    }  # fmt: skip


def comparison() -> dict[str, Any]:
    """Ferry is faster than Swift's good version, and Swift's fast one is wrong."""
    versions = {
        PLAIN: version(PLAIN, 100.0),
        f"{PLAIN} on {OPENVINO_LABEL}": version(OPENVINO, 150.0, 0.9995, backend="openvino-bf16"),
        FERRY: version(FERRY, 200.0, 0.9995, "b"),
        "swift fp32": version("swift", 110.0, made={"tool": "swift", "recipe": "fp32", "seconds": 12.0, "reason": None}),
        "swift int8": version("swift", 300.0, 0.95, "c", max_rows=1, refused=["rows influence each other"]),
        "swift slow": version("swift", None, 1.0, "d", limited=True),
    }
    tool = {
        "label": "Swift", "requirements": ["swift==1"], "versions": {"swift": "1"}, "cannot": ["It cannot fly."],
        "recipes": [{"name": "fp32", "models": ["digits"], "says": "all defaults"}],
    }  # fmt: skip
    models = {"digits": {"terms": {"slo_s": 0.05}, "versions": versions, "reasons": {"swift int4": "it fell"}}}
    return {
        "kind": "optimizers",
        "command": "python -m loadtests.bench_optimizers",
        "environment": {"cpu": "Some CPU", "cores": 2, "git_commit": "0123456789abcdef+changes"},
        "tools": {"swift": tool},
        "models": models,
        "verdicts": verdict_values(claims(models, {OPENVINO: OPENVINO_LABEL, "swift": "Swift"})),
    }
