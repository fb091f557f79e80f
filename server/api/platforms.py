"""What V2 clients call a model's kind, in Triton's words where it has some."""

from __future__ import annotations

from server.backends.base import ONNX_BACKENDS
from server.runtime.terms import CARD, Terms


def platform(backend: str) -> str:
    """Of a manifest's backend."""
    if backend == "tensorrt":
        return "tensorrt_plan"
    return "onnxruntime_onnx" if backend in ONNX_BACKENDS else backend


def instance_kind(terms: Terms) -> str:
    """Of the instances of a model on these terms."""
    return "KIND_GPU" if terms.device == CARD else "KIND_CPU"
