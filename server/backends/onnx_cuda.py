"""ONNX Runtime on an NVIDIA card: the same .onnx files. Tensors stay where the card is told to find them, so that a shape's whole
calculation can be recorded once and launched as one graph (onnxruntime.ai, CUDA execution provider)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import onnxruntime as ort

from server.backends.base import CardMemory, LoadError, Session
from server.backends.card_slots import Bucket, CardSession
from server.backends.cuda_memory import DeviceMemory, find_card, find_memory
from server.backends.nvidia import EXTRA
from server.backends.onnx_declaration import declared
from server.backends.onnx_values import reason_of
from server.contract.accelerator import Accelerator

log = logging.getLogger(__name__)

PROVIDER = "CUDAExecutionProvider"
_LAUNCHED = "-1"
"""ONNX Runtime's word for a run that no graph is recorded of."""


class CudaPrecision(Enum):
    """What float32 products are calculated in: as they are, or with factors rounded to ten bits of fraction, which is much faster."""

    F32 = "f32"
    TF32 = "tf32"


class OnnxCudaBackend:
    """Loads `model.onnx`. Two calls at a time run side by side, each by a session of its own: the library keeps a recorded graph for one
    stream and one thread. Weights are therefore on the card twice."""

    model_file = "model.onnx"

    def __init__(self, precision: CudaPrecision) -> None:
        self._precision = precision
        self.name = f"onnxruntime-cuda-{precision.value}"
        self.runtime = f"onnxruntime {ort.__version__} cuda {precision.value}"

    @property
    def accelerator(self) -> Accelerator | None:
        card = find_card()
        return card.accelerator if card is not None else None

    def missing(self) -> str | None:
        """Why it cannot be used here, and what to do; None: it can."""
        if PROVIDER not in ort.get_available_providers():
            return (
                f"this build of ONNX Runtime has no {PROVIDER}: pip uninstall onnxruntime, then pip install 'ferry-serving[{EXTRA}]' "
                "(the two packages share one folder, so only one of them may be installed)"
            )
        memory = find_memory()
        if isinstance(memory, str):
            return memory
        return None if find_card() is not None else "the driver does not know the card that CUDA shows; update nvidia-ml-py"

    def card_memory(self) -> CardMemory:
        """Satisfies OnCard."""
        return self._memory().memory()

    def load(self, folder: Path, threads: int) -> Session:
        """Raises LoadError when the file is missing, is not ONNX, uses operators or types that are not supported, or does not fit into
        the card's memory."""
        memory, model = self._memory(), folder / self.model_file
        inputs, outputs = declared(model)

        return CardSession(memory, inputs, outputs, lambda stream: self._open(model, threads, stream, memory.kind))

    def _open(self, model: Path, threads: int, stream: int, kind: str) -> _Calculation:
        """With graphs, or without them where the file has operators that no graph can hold."""
        ours = {"has_user_compute_stream": "1", "user_compute_stream": str(stream)}
        try:
            return _Calculation(self._session(model, threads, ours | {"enable_cuda_graph": "1"}), kind, has_graphs=True)
        except LoadError as error:
            calculation = _Calculation(self._session(model, threads, ours), kind, has_graphs=False)
            log.warning("%s is launched operator by operator, for no graph can hold it: %s", model, error)
            return calculation

    def _session(self, model: Path, threads: int, more: Mapping[str, str]) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(model, options, providers=self._providers(more))
        except Exception as error:  # the library raises a dozen unrelated types, none of them public
            raise LoadError(reason_of(error).replace(f"{model.parent}/", "")) from None
        if self._provider not in session.get_providers():
            raise LoadError(
                f"ONNX Runtime could not begin to use the card and would calculate on the processor instead: are its CUDA and cuDNN "
                f"libraries installed? pip install 'ferry-serving[{EXTRA}]' brings them"
            )
        session.disable_fallback()
        return session

    def _providers(self, more: Mapping[str, str]) -> Sequence[Any]:
        """The card, and the processor for operators that only it knows."""
        tf32 = "1" if self._precision is CudaPrecision.TF32 else "0"
        options = {"device_id": "0", "use_tf32": tf32, "arena_extend_strategy": "kSameAsRequested", **more}
        return [(PROVIDER, options), "CPUExecutionProvider"]

    @property
    def _provider(self) -> str:
        """Which one must be in use in the end."""
        return PROVIDER

    def _memory(self) -> DeviceMemory:
        """Raises LoadError where there is none."""
        memory = find_memory()
        if isinstance(memory, str):
            raise LoadError(memory)
        preload()
        return memory


class _Calculation:
    """A session with a binding for each bucket."""

    def __init__(self, session: ort.InferenceSession, kind: str, has_graphs: bool) -> None:
        self._session: ort.InferenceSession | None = session
        self._kind = kind
        self._has_graphs = has_graphs
        self._bound: dict[int, tuple[ort.IOBinding, ort.RunOptions]] = {}

    def enqueue(self, bucket: Bucket) -> None:
        session = self._session
        assert session is not None, "enqueue after close"
        if bucket.number is None:
            binding, options = self._bind(session, bucket), self._options(_LAUNCHED)
        elif bucket.number in self._bound:
            binding, options = self._bound[bucket.number]
        else:
            binding, options = self._bind(session, bucket), self._options(str(bucket.number))
            self._bound[bucket.number] = binding, options
        session.run_with_iobinding(binding, options)

    def close(self) -> None:
        self._bound.clear()
        self._session = None

    def _options(self, graph: str) -> ort.RunOptions:
        """`graph`: which one to record or launch. The slot waits for its stream itself, after it has put the copy out on it; but only a
        run that the library waits for gives back the pinned memory of its operators, and recorded graphs go on reading theirs."""
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", graph)
        if self._has_graphs:
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options

    def _bind(self, session: ort.InferenceSession, bucket: Bucket) -> ort.IOBinding:
        binding = session.io_binding()
        for place in bucket.inputs:
            address = bucket.into.address + place.offset
            binding.bind_input(place.name, self._kind, 0, place.dtype.type, place.shape, address)
        for place in bucket.outputs:
            address = bucket.out_of.address + place.offset
            binding.bind_output(place.name, self._kind, 0, place.dtype.type, place.shape, address)
        return binding


@cache
def preload() -> None:
    """Loads the CUDA libraries that pip has installed; those of the system are found without. Releases before 1.21 cannot."""
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
