"""The model-file backends of this installation: which can be used here, and what the others need. Loads no library before its need."""

from __future__ import annotations

from server.backends.base import Backend, Backends
from server.backends.onnx_cuda import CudaPrecision, OnnxCudaBackend
from server.backends.onnx_decoder import OnnxDecoderBackend
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.backends.openvino import OpenVinoBackend, Precision
from server.backends.tensorrt import TensorRtBackend


def plain_backend() -> Backend:
    """The one that is always there."""
    return OnnxRuntimeBackend()


def find_backends() -> Backends:
    """All that this ferry knows of. Cheap: nothing is loaded."""
    plain = plain_backend()
    usable: dict[str, Backend] = {plain.name: plain}
    missing: dict[str, str] = {}
    others: tuple[OpenVinoBackend | OnnxCudaBackend | TensorRtBackend, ...] = (
        *(OpenVinoBackend(precision) for precision in Precision),
        *(OnnxCudaBackend(precision) for precision in CudaPrecision),
        TensorRtBackend(),
    )
    for backend in others:
        reason = backend.missing()
        if reason is None:
            usable[backend.name] = backend
        else:
            missing[backend.name] = reason
    decoder = OnnxDecoderBackend()
    return Backends(usable, missing, {decoder.name: decoder})
