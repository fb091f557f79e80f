"""OpenVINO as an execution provider of ONNX Runtime, from the package `onnxruntime-ep-openvino`. Loaded when a model first needs it."""

from __future__ import annotations

import importlib
import json
import os
from enum import Enum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime as ort

from server.backends.base import LoadError

DISTRIBUTION = "onnxruntime-ep-openvino"
_MODULE = "onnxruntime_ep_openvino"
_BF16_FLAGS = ("amx_bf16", "avx512_bf16")


class Precision(Enum):
    """What OpenVINO calculates in where the model file says float32; the value is its own word. Quantized layers stay so."""

    BF16 = "bf16"
    F32 = "f32"


class OpenVinoProvider:
    """Satisfies onnx_runtime.Provider."""

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self.backend = f"openvino-{precision.value}"
        self.runtime = f"onnxruntime {ort.__version__}, openvino provider {_version()} {precision.value}"

    def missing(self) -> str | None:
        """Why it cannot be used here, and what to do; None: it can."""
        if _version() is None:
            return f"{DISTRIBUTION} is not installed: pip install 'ferry-serving[openvino]'"
        if self._precision is Precision.BF16 and not _cpu_flags() & set(_BF16_FLAGS):
            return f"this processor does not calculate in bf16 (none of {', '.join(_BF16_FLAGS)}); use a machine that does"
        return None

    def set_up(self, options: ort.SessionOptions, threads: int) -> list[str]:
        """As many streams as calls of so many threads have room on the cores; nothing for the caller to name. Raises LoadError."""
        streams = max(1, len(os.sched_getaffinity(0)) // threads)
        cpu = {
            "INFERENCE_PRECISION_HINT": self._precision.value,
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams * threads),
            "ENABLE_CPU_PINNING": "NO",  # the event loop is on one of these cores, too
        }
        options.add_provider_for_devices(_devices(), {"load_config": json.dumps({"CPU": cpu})})
        return []


def openvino_providers() -> tuple[OpenVinoProvider, ...]:
    """In every precision, usable here or not."""
    return tuple(OpenVinoProvider(precision) for precision in Precision)


@cache
def _devices() -> list[Any]:
    """The provider's CPU device, once its library is registered with ONNX Runtime. Raises LoadError."""
    try:
        plugin = importlib.import_module(_MODULE)
        ort.register_execution_provider_library(_MODULE, plugin.get_library_path())
        name = plugin.get_ep_name()
    except Exception as error:  # the library raises a dozen unrelated types, none of them public
        raise LoadError(f"{DISTRIBUTION} {_version()} cannot be loaded: {' '.join(str(error).split())}") from None
    found = [one for one in ort.get_ep_devices() if one.ep_name == name and one.ep_metadata.get("ov_device") == "CPU"]
    if not found:
        raise LoadError(f"{DISTRIBUTION} {_version()} finds no CPU device that it supports")
    return found


@cache
def _version() -> str | None:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


@cache
def _cpu_flags() -> frozenset[str]:
    """What the processor says it can do; empty where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ()))
