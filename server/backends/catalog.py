"""The model-file backends of this installation: which can be used here, and what the others need. Loads no library before its need."""

from __future__ import annotations

from server.backends.base import Backend, Backends
from server.backends.onnx_runtime import OWN_KERNELS, OnnxRuntimeBackend
from server.backends.openvino_provider import openvino_providers


def plain_backend() -> Backend:
    """The one that is always there."""
    return OnnxRuntimeBackend(OWN_KERNELS)


def find_backends() -> Backends:
    """All that this ferry knows of. Cheap: nothing is loaded."""
    usable: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for provider in (OWN_KERNELS, *openvino_providers()):
        reason = provider.missing()
        if reason is None:
            usable[provider.backend] = OnnxRuntimeBackend(provider)
        else:
            missing[provider.backend] = reason
    return Backends(usable, missing)
