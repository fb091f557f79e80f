"""OpenVINO on the CPU, in one precision: the same .onnx files, another library. Loaded when a model first needs it."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from server.backends.base import Array, BatchError, LoadError, Session
from server.backends.onnx_declaration import declared
from server.contract.tensors import DataType

DISTRIBUTION = "openvino"
_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""What x86 and ARM processors that calculate in bf16 say of themselves."""


class Precision(Enum):
    """What is calculated in where the file says float32; the value is the library's own word. Quantized layers stay quantized."""

    BF16 = "bf16"
    F32 = "f32"


class OpenVinoBackend:
    """Loads `model.onnx`. Calls from several threads run side by side on shared weights, as many as cores ÷ threads."""

    accelerator = None
    model_file = "model.onnx"

    def __init__(self, precision: Precision) -> None:
        self._precision = precision
        self.name = f"openvino-{precision.value}"
        self.runtime = f"openvino {_version()} {precision.value}"

    def missing(self) -> str | None:
        """Why it cannot be used here, and what to do; None: it can."""
        if _version() is None:
            return f"{DISTRIBUTION} is not installed: pip install 'ferry-serving[openvino]'"
        if self._precision is Precision.BF16 and not _cpu_flags() & _BF16_FLAGS:
            return f"this processor does not calculate in bf16 (it has none of {', '.join(sorted(_BF16_FLAGS))})"
        return None

    def load(self, folder: Path, threads: int) -> Session:
        """Raises LoadError when the file is missing, is not ONNX, or uses operators or types that are not supported."""
        streams = max(1, len(os.sched_getaffinity(0)) // threads)
        return _OpenVinoSession(self._compile(folder, streams, threads, {}), folder / self.model_file)

    def load_traced(self, folder: Path, threads: int) -> TimedSession:
        """Likewise, for one call at a time. Each node of each run is timed, which takes a little time itself."""
        return TimedSession(self._compile(folder, 1, threads, {"PERF_COUNT": True}), folder / self.model_file)

    def _compile(self, folder: Path, streams: int, threads: int, more: Mapping[str, object]) -> Any:
        config = {
            "INFERENCE_PRECISION_HINT": self._precision.value,
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(streams * threads),
            "ENABLE_CPU_PINNING": False,  # the event loop needs one of these cores between two batches
            **more,
        }
        try:
            return _core().compile_model(str(folder / self.model_file), "CPU", config)
        except Exception as error:  # the library raises whatever its parts raise
            raise LoadError(_reason(error).replace(f"{folder}/", "")) from None


class _OpenVinoSession:
    def __init__(self, compiled: Any, file: Path) -> None:
        self.inputs, self.outputs = declared(file)
        texts = [spec.name for spec in (*self.inputs, *self.outputs) if spec.datatype is DataType.BYTES]
        if texts:
            raise LoadError(f"tensor {texts[0]!r} is a string, which this library does not calculate with")
        self._compiled: Any = compiled
        self._places = [_place(compiled.outputs, spec.name) for spec in self.outputs]
        self._idle: list[Any] = []

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        assert self._compiled is not None, "run after close"
        try:
            request = self._taken()
            request.infer(inputs, share_inputs=True, share_outputs=True)
            answers = [np.array(request.get_output_tensor(place).data) for place in self._places]
        except Exception as error:  # as above: whatever the library raises concerns this batch only
            raise BatchError(_reason(error)) from None
        self._idle.append(request)  # one that failed is not used again
        return answers

    def _taken(self) -> Any:
        """A request that no other thread has. To look first whether one is idle would let two threads see the same last one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def close(self) -> None:
        self._idle.clear()
        self._compiled = None


class NodeTime(NamedTuple):
    """One node of the compiled graph that was run: its name, its operator, what calculated it, and seconds for all runs until now."""

    name: str
    operator: str
    kernel: str
    seconds: float


class TimedSession(_OpenVinoSession):
    """One whose nodes are timed. For one thread."""

    def __init__(self, compiled: Any, file: Path) -> None:
        super().__init__(compiled, file)
        self._n_runs = 0

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        answers = super().run(inputs)
        self._n_runs += 1
        return answers

    def times(self) -> list[NodeTime]:
        """In the order of the graph, after at least one run. Left out are nodes that were optimized away, and those that take less than
        the microsecond in which the library counts."""
        found = self._idle[-1].profiling_info  # means over all runs of the one stream
        return [
            NodeTime(node.node_name, node.node_type, node.exec_type, node.real_time.total_seconds() * self._n_runs)
            for node in found
            if node.status == node.Status.EXECUTED
        ]


def _place(outputs: Sequence[Any], name: str) -> int:
    return next(place for place, output in enumerate(outputs) if name in output.get_names())


@cache
def _core() -> Any:
    return _library().Core()


@cache
def _library() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise LoadError(f"{DISTRIBUTION} cannot be imported: {error}") from None
    return openvino  # type: ignore[no-any-return]  # it has no types


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
    word = "Features" if platform.machine() == "aarch64" else "flags"
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith(word)), ()))


def _reason(error: Exception) -> str:
    """The library's message, without the places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return " ".join(said or lines)
