"""A card that is really the processor, and engines for it that only name the file they were built of. For the tests of the ladder;
importable in the processes of its tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from optimizer.errors import StageFailed
from optimizer.tensorrt.build import Engine, EngineWish, Products
from server.backends.base import LoadError, Session
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.accelerator import Accelerator
from server.contract.layout import describe_file

CARD = Accelerator("Fake H100", "9.0", "580.1", "13.0")


class Engines(OnnxRuntimeBackend):
    """Serves an engine only beside the very file of which it was built."""

    name, runtime, model_file = "tensorrt", "tensorrt 11.4.0.106", "model.plan"
    accelerator: Accelerator | None = CARD  # type: ignore[assignment]  # the processor has none

    def load(self, folder: Path, threads: int) -> Session:
        plan = json.loads((folder / self.model_file).read_bytes())
        if plan["of"] != describe_file(folder / "model.onnx").sha256:
            raise LoadError("the engine was not built from the model.onnx beside it")
        return OnnxRuntimeBackend().load(folder, threads)


class OtherCard(Engines):
    """The same library on another machine."""

    accelerator = replace(CARD, name="Fake H200")


class Meter(OnnxRuntimeBackend):
    """Stands for ONNX Runtime on the card."""

    name, runtime = "onnxruntime-cuda-tf32", "onnxruntime cuda"


def build(model: Path, out: Path, wish: EngineWish, timings: Path | None) -> Engine:
    """Knows no exact products, to have something to refuse."""
    if wish.products is Products.F32:
        raise StageFailed("TensorRT cannot build an engine: no such\nproducts")
    assert timings is not None
    timings.write_text("timed", encoding="utf-8")
    told = {"of": describe_file(model).sha256, "bounds": [[one.least, one.best, one.most] for one in wish.bounds]}
    out.write_text(json.dumps(told), encoding="utf-8")
    return Engine(out.stat().st_size, "tensorrt as the library calls itself")
