"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from server.backends.base import Array, BatchError, Session
from server.backends.onnx_session import open_session
from server.backends.onnx_values import declared_by, reason_of
from server.contract.tensors import DataType


class OnnxRuntimeBackend:
    """Loads `model.onnx`. With one thread per call, calls from several threads run side by side on shared weights."""

    name = "onnxruntime"
    runtime = f"onnxruntime {ort.__version__}"
    accelerator = None
    model_file = "model.onnx"

    def load(self, folder: Path, threads: int) -> Session:
        """Raises LoadError when the file is missing, is not ONNX, or uses operators or types that are not supported."""
        return _OnnxRuntimeSession(open_session(folder / self.model_file, threads, ort.SessionOptions()))

    def load_traced(self, folder: Path, threads: int, prefix: Path) -> TracedSession:
        """Likewise. Each operator of each run is timed, which takes a little time itself; `end_trace` tells where to read it,
        a file whose path begins with `prefix`."""
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(prefix)
        return TracedSession(open_session(folder / self.model_file, threads, options))


class _OnnxRuntimeSession:
    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: ort.InferenceSession | None = session
        self.inputs = tuple(declared_by(arg) for arg in session.get_inputs())
        self.outputs = tuple(declared_by(arg) for arg in session.get_outputs())
        self._output_names = [spec.name for spec in self.outputs]
        self._texts = [spec.name for spec in self.inputs if spec.datatype is DataType.BYTES]
        self._text_places = [place for place, spec in enumerate(self.outputs) if spec.datatype is DataType.BYTES]

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        session = self._session
        assert session is not None, "run after close"
        if self._texts:
            inputs = {**inputs, **{name: _to_text(name, inputs[name]) for name in self._texts}}
        try:
            outputs: list[Array] = session.run(self._output_names, inputs)
        except Exception as error:  # a dozen unrelated types: whatever the library raises concerns this batch only
            raise BatchError(reason_of(error)) from None
        for place in self._text_places:
            outputs[place] = _each(str.encode, outputs[place])
        return outputs

    def close(self) -> None:
        self._session = None


class TracedSession(_OnnxRuntimeSession):
    """One whose operators are timed."""

    def end_trace(self) -> Path:
        """The file with what was timed until now; nothing is timed afterwards. Once only, before `close`."""
        assert self._session is not None, "end_trace after close"
        return Path(self._session.end_profiling())


def _to_text(name: str, array: Array) -> Array:
    """The library's strings are text: it would take a bytes object for its own repr."""
    try:
        return _each(bytes.decode, array)
    except UnicodeDecodeError:
        raise BatchError(f"input {name!r} holds bytes that are not UTF-8, which ONNX Runtime's strings must be") from None


def _each(convert: Callable[[Any], object], array: Array) -> Array:
    converted = np.empty(array.size, dtype=np.object_)
    converted[:] = [convert(item) for item in array.reshape(-1)]
    return converted.reshape(array.shape)
