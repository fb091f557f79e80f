"""TensorRT: engines that were built for one card, in `model.plan`. What an engine forgets, the names of axes, is read from the
`model.onnx` beside it, from which it was built. Loaded when a model first needs it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from server.backends.base import CardMemory, LoadError, Session
from server.backends.card_slots import Bucket, CardSession, Place, Shape
from server.backends.cuda_memory import DeviceMemory, OutOfDeviceMemory, find_card, find_memory
from server.backends.onnx_declaration import declared
from server.contract.accelerator import Accelerator
from server.contract.tensors import TensorSpec

if TYPE_CHECKING:
    import tensorrt as trt

EXTRA = "tensorrt"
SOURCE_FILE = "model.onnx"
_DISTRIBUTIONS = ("tensorrt", "tensorrt_cu13", "tensorrt_cu12", "tensorrt_cu13_bindings")
_MOST_SAID = 5
"""Messages of the library that are kept for the next error."""

_DATATYPES = {
    "FLOAT": "FP32", "HALF": "FP16", "BF16": "BF16", "INT64": "INT64", "INT32": "INT32", "INT8": "INT8", "UINT8": "UINT8",
    "BOOL": "BOOL",
}  # fmt: skip
"""TensorRT's names → V2's."""


class TensorRtBackend:
    """Loads `model.plan`. Two calls at a time run side by side on the same weights."""

    name = "tensorrt"
    model_file = "model.plan"

    @property
    def runtime(self) -> str:
        """With all four parts of the version: an engine is for one of them."""
        return f"tensorrt {_version()}"

    @property
    def accelerator(self) -> Accelerator | None:
        card = find_card()
        return card.accelerator if card is not None else None

    def missing(self) -> str | None:
        """Why it cannot be used here, and what to do; None: it can."""
        if _version() is None:
            return f"tensorrt is not installed: pip install 'ferry-serving[{EXTRA}]'"
        memory = find_memory()
        if isinstance(memory, str):
            return memory
        if find_card() is None:
            return "the driver does not know the card that CUDA shows; update nvidia-ml-py"
        return _why_not_imported()

    def card_memory(self) -> CardMemory:
        """Satisfies OnCard."""
        return self._memory().memory()

    def load(self, folder: Path, threads: int) -> Session:
        """`threads` are not needed: the card calculates. Raises LoadError when a file is missing, when the engine is damaged, was built
        for another card or by another version, or does not fit into the card's memory."""
        memory = self._memory()
        inputs, outputs = declared(folder / SOURCE_FILE)
        with memory.gate.shared():
            engine = Engine(folder / self.model_file)
        engine.check(inputs, outputs)
        return CardSession(memory, inputs, outputs, lambda stream: _Calculation(engine, memory, stream))

    def _memory(self) -> DeviceMemory:
        """Raises LoadError where there is none."""
        memory = find_memory()
        if isinstance(memory, str):
            raise LoadError(memory)
        return memory


class Engine:
    """A file's engine with what the library said of it. For several threads."""

    def __init__(self, file: Path) -> None:
        """Raises LoadError."""
        try:
            import tensorrt as trt
        except ImportError as error:
            raise LoadError(f"tensorrt cannot be imported: {error}") from None
        self._said: deque[str] = deque(maxlen=_MOST_SAID)
        self._runtime = trt.Runtime(listen(self._said))
        try:
            plan = file.read_bytes()
        except OSError as error:
            raise LoadError(f"{file.name} cannot be read: {error.strerror}") from None
        loaded = self._runtime.deserialize_cuda_engine(plan)
        if loaded is None:
            raise LoadError(f"{file.name} cannot be loaded: {self.said()}")
        self._loaded = loaded
        self._profiles = sorted(range(loaded.num_optimization_profiles), key=self._volume)

    @property
    def scratch_bytes(self) -> int:
        """What a calculation needs on the card besides weights, at most."""
        n_bytes: int = self._loaded.device_memory_size_v2
        return n_bytes

    def said(self) -> str:
        """What the library complained about since it was last asked."""
        said = "; ".join(self._said) or "the library gave no reason"
        self._said.clear()
        return " ".join(said.split())

    def check(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Raises LoadError when these are not the engine's tensors."""
        import tensorrt as trt

        loaded = self._loaded
        found = {
            name: (loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT, _DATATYPES.get(loaded.get_tensor_dtype(name).name))
            for name in (loaded.get_tensor_name(place) for place in range(loaded.num_io_tensors))
        }
        wanted = {
            spec.name: (is_input, spec.datatype.value)
            for specs, is_input in ((inputs, True), (outputs, False))
            for spec in specs
        }
        different = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if different:
            raise LoadError(
                f"the engine was not built from the {SOURCE_FILE} beside it: tensor {different[0]!r} differs; optimize the model again"
            )
        on_host = [name for name in found if loaded.get_tensor_location(name) != trt.TensorLocation.DEVICE]
        if on_host:
            raise LoadError(f"tensor {on_host[0]!r} holds sizes that the engine reads on the host, which is not supported")

    def context(self, profile: int, scratch: int, scratch_bytes: int, stream: int) -> trt.IExecutionContext:
        """One for shapes of this profile, which calculates in that scratch memory. Raises OutOfDeviceMemory."""
        import tensorrt as trt

        context = self._loaded.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise OutOfDeviceMemory(f"no execution context could be made: {self.said()}")
        context.set_device_memory(scratch, scratch_bytes)
        if not context.set_optimization_profile_async(profile, stream):
            raise RuntimeError(f"optimization profile {profile} cannot be used: {self.said()}")
        return context

    def profile_for(self, inputs: Sequence[Place]) -> int:
        """The smallest one that covers these shapes. Raises ValueError where none does."""
        for profile in self._profiles:
            if all(self._covers(profile, place) for place in inputs):
                return profile
        shapes = ", ".join(f"{place.name} {list(place.shape)}" for place in inputs)
        raise ValueError(f"the engine was not built for {shapes}; optimize the model again with these sizes")

    def _covers(self, profile: int, place: Place) -> bool:
        least, _, most = self._loaded.get_tensor_profile_shape(place.name, profile)
        return all(low <= size <= high for low, size, high in zip(_sizes(least), place.shape, _sizes(most), strict=True))

    def _volume(self, profile: int) -> int:
        """Elements of all inputs, at most."""
        import tensorrt as trt

        loaded = self._loaded
        names = [loaded.get_tensor_name(place) for place in range(loaded.num_io_tensors)]
        inputs = [name for name in names if loaded.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        return sum(math.prod(_sizes(loaded.get_tensor_profile_shape(name, profile)[2])) for name in inputs)


class _Calculation:
    """The contexts of one slot. A recorded graph has a context of its own, for it is bound to the state of that context; all of them
    calculate in the same scratch memory, one after the other (docs.nvidia.com, TensorRT, CUDA graphs)."""

    def __init__(self, engine: Engine, memory: DeviceMemory, stream: int) -> None:
        self._engine, self._memory, self._stream = engine, memory, stream
        self._scratch_bytes = max(1, engine.scratch_bytes)
        self._scratch = memory.allocate(self._scratch_bytes)
        self._launched: dict[int, trt.IExecutionContext] = {}
        self._recorded: dict[int, tuple[int, trt.IExecutionContext]] = {}

    def enqueue(self, bucket: Bucket) -> None:
        if bucket.number is None:
            profile = self._engine.profile_for(bucket.inputs)
            if profile not in self._launched:
                self._launched[profile] = self._context(profile)
            self._bind(self._launched[profile], bucket)
            self._execute(self._launched[profile])
        elif bucket.number in self._recorded:
            self._memory.launch(self._recorded[bucket.number][0], self._stream)
        else:
            self._record(bucket, bucket.number)

    def close(self) -> None:
        for graph, _ in self._recorded.values():
            self._memory.forget(graph)
        self._recorded.clear()
        self._launched.clear()
        self._memory.free(self._scratch)

    def _record(self, bucket: Bucket, number: int) -> None:
        """The first execution with new shapes does what no graph can hold; it also is this batch's."""
        context = self._context(self._engine.profile_for(bucket.inputs))
        self._bind(context, bucket)
        self._execute(context)
        self._memory.wait(self._stream)
        graph = self._memory.record(self._stream, lambda: self._execute(context))
        self._recorded[number] = graph, context

    def _context(self, profile: int) -> trt.IExecutionContext:
        return self._engine.context(profile, self._scratch, self._scratch_bytes, self._stream)

    def _bind(self, context: trt.IExecutionContext, bucket: Bucket) -> None:
        for place in bucket.inputs:
            if not context.set_input_shape(place.name, place.shape):
                raise RuntimeError(f"input {place.name!r} cannot be {list(place.shape)}: {self._engine.said()}")
            self._set_address(context, place, bucket.into.address)
        for place in bucket.outputs:
            shape = _sizes(context.get_tensor_shape(place.name))
            if shape != place.shape:
                raise RuntimeError(f"output {place.name!r} would be {list(shape)}, {SOURCE_FILE} declares {list(place.shape)}")
            self._set_address(context, place, bucket.out_of.address)

    def _set_address(self, context: trt.IExecutionContext, place: Place, base: int) -> None:
        if not context.set_tensor_address(place.name, base + place.offset):
            raise RuntimeError(f"tensor {place.name!r} cannot be bound: {self._engine.said()}")

    def _execute(self, context: trt.IExecutionContext) -> None:
        if not context.execute_async_v3(self._stream):
            raise RuntimeError(self._engine.said())


def _sizes(dims: trt.Dims) -> Shape:
    sizes: Shape = dims[:]
    return sizes


def listen(said: deque[str]) -> trt.ILogger:
    """A logger that keeps errors."""
    import tensorrt as trt

    worth = (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)

    class Listener(trt.ILogger):
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            if severity in worth:
                said.append(msg)

    return Listener()


def _why_not_imported() -> str | None:
    """The bindings are one package, the libraries another, which its vendor's own index has."""
    try:
        import tensorrt  # noqa: F401 - whether it can be is the question
    except ImportError as error:
        return f"tensorrt is installed but cannot be imported: {error}"
    return None


@cache
def _version() -> str | None:
    for name in _DISTRIBUTIONS:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None
