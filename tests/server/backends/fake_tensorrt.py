"""Stands for the module `tensorrt`: an engine that doubles its first input, at addresses of a HostCard. Strict where the library is:
nothing is calculated before shapes, addresses and scratch memory are set, nor outside a profile. That its calls are those of the real
library is checked by make lint-tensorrt."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable
from enum import Enum, IntEnum
from types import ModuleType
from typing import Any

import numpy as np


class TensorIOMode(Enum):
    INPUT, OUTPUT = 1, 2


class TensorLocation(Enum):
    DEVICE, HOST = 0, 1


class ExecutionContextAllocationStrategy(Enum):
    STATIC, USER_MANAGED = 0, 2


class DataType(Enum):
    FLOAT, INT64, FP8 = 0, 8, 9


class Severity(IntEnum):
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


class ILogger:
    Severity = Severity
    INTERNAL_ERROR, ERROR, WARNING = Severity.INTERNAL_ERROR, Severity.ERROR, Severity.WARNING

    def log(self, severity: Severity, msg: str) -> None:
        raise NotImplementedError


class Dims:
    """As the real one: a sequence that is no tuple; a slice of it is."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = tuple(sizes)

    def __getitem__(self, place: Any) -> Any:
        return self.sizes[place]


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.scratch = 0
        self.profile: int | None = None
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_device_memory(self, memory: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = memory

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        self.profile = profile_index
        return profile_index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self.profile is not None
        least, _, most = (dims.sizes for dims in self.engine.get_tensor_profile_shape(name, self.profile))
        self.shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> Dims:
        return Dims([*self.shapes["x"][:1], self.shapes["x"][1] + self.engine.plan["more"]])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return memory % 4 == 0

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self.scratch
        assert set(self.addresses) == set(self.engine.plan["tensors"])
        if self.engine.fails:
            self.engine.logger.log(Severity.WARNING, "just so you know")
            self.engine.logger.log(Severity.ERROR, "[enqueueV3] misaligned\naddress")
            return False
        shape = self.shapes["x"]
        n = int(np.prod(shape))
        x, y = ((ctypes.c_float * n).from_address(self.addresses[name]) for name in ("x", "y"))
        np.ctypeslib.as_array(y)[:] = 2 * np.ctypeslib.as_array(x)
        self.engine.n_executed += 1
        return True


class Engine:
    device_memory_size_v2 = 32
    fails = False
    has_room = True

    def __init__(self, plan: dict[str, Any], logger: ILogger) -> None:
        self.plan, self.logger = plan, logger
        self.contexts: list[Context] = []
        self.n_executed = 0

    @property
    def num_io_tensors(self) -> int:
        return len(self.plan["tensors"])

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.plan["profiles"])

    def get_tensor_name(self, index: int) -> str:
        return list(self.plan["tensors"])[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode[self.plan["tensors"][name][0]]

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType[self.plan["tensors"][name][1]]

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation[self.plan["location"]]

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        return [Dims(sizes) for sizes in self.plan["profiles"][profile_index]]

    def create_execution_context(self, strategy: ExecutionContextAllocationStrategy) -> Context | None:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.has_room:
            self.logger.log(Severity.ERROR, "out of memory")
            return None
        self.contexts.append(Context(self))
        return self.contexts[-1]


def plan_bytes(**changes: Any) -> bytes:
    """An engine of x [1…8, 1…64] → y likewise, with a profile of few columns and one of all."""
    plan: dict[str, Any] = {
        "tensors": {"x": ["INPUT", "FLOAT"], "y": ["OUTPUT", "FLOAT"]},
        "profiles": [[[1, 1], [4, 64], [8, 64]], [[1, 1], [1, 8], [8, 8]]],
        "location": "DEVICE",
        "more": 0,
    }
    return json.dumps(plan | changes).encode()


def fake_tensorrt() -> Any:
    """The module; `engines`: those that it has loaded."""
    module: Any = ModuleType("tensorrt")
    module.engines = []

    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
            try:
                plan = json.loads(serialized_engine)
            except ValueError:
                self.logger.log(Severity.ERROR, "Serialization assertion failed:\nmagic tag does not match")
                return None
            module.engines.append(Engine(plan, self.logger))
            return module.engines[-1]

    module.Runtime = Runtime
    kinds: list[Callable[..., Any]] = [
        ILogger,
        Dims,
        TensorIOMode,
        TensorLocation,
        ExecutionContextAllocationStrategy,
        DataType,
    ]
    for kind in kinds:
        setattr(module, kind.__name__, kind)
    return module
