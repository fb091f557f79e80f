"""From a checkpoint to a decoder graph: onnxruntime-genai's model builder in a process of its own, then our rewrite."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from optimizer.decoder.rewrite import DATA, MODEL, rewrite_file
from optimizer.errors import StageFailed
from optimizer.stages.base import Result
from server.contract.generation import KeptShape
from server.intake.measure import Progress

DISTRIBUTIONS = ("onnxruntime-genai", "transformers", "torch", "onnx")
"""What decides the result."""

_BUILDER = "onnxruntime_genai.models.builder"


@dataclass(frozen=True, slots=True)
class ExportTask:
    """`folder`: the checkpoint; `kept`: what it keeps of each token."""

    folder: Path
    kept: KeptShape

    def __call__(self, out: Path, progress: Progress) -> Result:
        """Writes MODEL and DATA. Raises StageFailed with the builder's reason."""
        progress("building the graph", 0, 2)
        with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
            built = Path(scratch) / "built"
            build(self.folder, built, Path(scratch) / "cache")
            progress("rewriting the graph", 1, 2)
            n_nodes = rewrite_file(built / MODEL, out, self.kept)
        n_bytes = sum((out / name).stat().st_size for name in (MODEL, DATA))
        return Result(f"{n_nodes} nodes, {n_bytes / 1e6:.2f} MB", None, {"n_nodes": n_nodes, "bytes": n_bytes})


def build(checkpoint: Path, out: Path, cache: Path) -> None:
    """The builder's own files, weights in float32. It runs without a network, and nothing that it prints is shown.

    Raises StageFailed.
    """
    command = [
        sys.executable, "-m", _BUILDER, "--input", str(checkpoint.resolve()), "--output", str(out), "--precision", "fp32",
        "--execution_provider", "cpu", "--cache_dir", str(cache),
    ]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not (out / MODEL).is_file():
        raise StageFailed(f"onnxruntime-genai cannot export the checkpoint: {_reason(done.stderr)}", done.stdout + done.stderr)


def _reason(log: str) -> str:
    """Python ends a traceback with the error itself."""
    lines = [line for line in log.splitlines() if line.strip()]
    return lines[-1].strip()[:400] if lines else "it says nothing"
