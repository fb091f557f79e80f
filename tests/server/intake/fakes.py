"""A model that is a Python function, behind the backend's protocols; and a clock that a test turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from server.backends.base import Array, LoadError
from server.contract.tensors import DataType, TensorSpec
from server.intake.inspect import Signature, read_signature

Function = Callable[[Mapping[str, Array]], Sequence[Array]]

X = TensorSpec("x", DataType.FP32, ("n", 4))
Y = TensorSpec("y", DataType.FP32, ("n", 4))
IDS = TensorSpec("ids", DataType.INT64, ("n", "length"))
MASK = TensorSpec("mask", DataType.INT64, ("n", "length"))
MEAN = TensorSpec("mean", DataType.FP32, ("n", 1))


class FakeSession:
    """Runs `function`, and counts."""

    def __init__(self, function: Function, inputs: Sequence[TensorSpec] = (X,), outputs: Sequence[TensorSpec] = (Y,)) -> None:
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.function = function
        self.threads = 1
        self.n_runs = 0
        self.is_closed = False

    @property
    def signature(self) -> Signature:
        return read_signature(self.inputs, self.outputs)

    def run(self, inputs: Mapping[str, Array]) -> Sequence[Array]:
        self.n_runs += 1
        return self.function(inputs)

    def close(self) -> None:
        self.is_closed = True


class FakeBackend:
    """Loads the same function for any folder; keeps what it loaded."""

    name = "onnxruntime"
    runtime = "fake 1"
    accelerator = None
    model_file = "model.onnx"

    def __init__(self, function: Function, inputs: Sequence[TensorSpec] = (X,), outputs: Sequence[TensorSpec] = (Y,)) -> None:
        self.function = function
        self.inputs = inputs
        self.outputs = outputs
        self.sessions: list[FakeSession] = []

    def load(self, folder: Path, threads: int) -> FakeSession:
        if not (folder / self.model_file).exists():
            raise LoadError("no such file")
        self.sessions.append(FakeSession(self.function, self.inputs, self.outputs))
        return self.sessions[-1]


class FakeTimer:
    """Stands still, except where a test moves it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def doubled(inputs: Mapping[str, Array]) -> list[Array]:
    return [inputs["x"] * 2]


def masked_mean(inputs: Mapping[str, Array]) -> list[Array]:
    """The mask makes padding invisible."""
    ids, mask = inputs["ids"], inputs["mask"]
    return [((ids * mask).sum(1, keepdims=True) / np.maximum(mask.sum(1, keepdims=True), 1)).astype(np.float32)]


def plain_mean(inputs: Mapping[str, Array]) -> list[Array]:
    """Padding changes the answer."""
    return [(inputs["ids"] + 1).mean(1, keepdims=True).astype(np.float32)]
