"""Operators timed by each library; that times are right is for the library, that they are put together rightly is tested here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from optimizer.errors import OptimizeError
from optimizer.inspection.operators import time_by_operator
from optimizer.inspection.tracing import mean_run, trace
from optimizer.inspection.versions import find_version
from server.backends.base import Picked
from server.backends.catalog import plain_backend
from server.backends.openvino import NodeTime, OpenVinoBackend, Precision
from server.backends.scripted import Script, ScriptedBackend
from tests.models import onnx_bytes, publish_model

BATCH = {"x": np.ones((2, 4), np.float32)}


def picked(made: Path) -> Picked:
    return Picked(find_version("affine/1", made).read(), plain_backend())


def test_onnxruntime_tells_of_each_run(made: Path) -> None:
    found = trace(picked(made), BATCH, 1, 4)
    operators = time_by_operator(found.events, found.n_runs)
    assert {one.operator: one.n_calls for one in operators} == {"Mul": 1, "Add": 1}
    assert {one.provider for one in operators} == {"CPUExecutionProvider"}


def test_openvino_tells_means(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    weight = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    model = onnx_bytes([node], [("x", "FP32", ["batch", 512])], [("y", "FP32", ["batch", 512])], {"w": weight})
    publish_model(tmp_path, "dense", model, max_rows=2)
    served = Picked(find_version("dense", tmp_path).read(), OpenVinoBackend(Precision.F32))
    found = trace(served, {"x": np.ones((64, 512), np.float32)}, 1, 4)
    operators = time_by_operator(found.events, found.n_runs)
    assert found.n_runs == 1
    assert [one.n_calls for one in operators if one.operator in ("MatMul", "FullyConnected")] == [1]


def test_warming_up_is_taken_off_and_nodes_lie_end_to_end() -> None:
    before = {"a": 3.0, "b": 1.0}
    events = mean_run([NodeTime("a", "MatMul", "jit", 7.0), NodeTime("b", "Add", "ref", 2.0)], before, 4)
    assert [(event["name"], event["ts"], event["dur"]) for event in events] == [
        ("model_run", 0.0, 1.25e6), ("a_kernel_time", 0.0, 1e6), ("b_kernel_time", 1e6, 0.25e6),
    ]  # fmt: skip
    assert [(one.operator, one.seconds) for one in time_by_operator(events, 1)] == [("MatMul", 1.0), ("Add", 0.25)]


def test_failures_and_other_backends_are_named(made: Path) -> None:
    with pytest.raises(OptimizeError, match="cannot be profiled"):
        trace(picked(made), {"x": np.ones((1, 3), np.float32)}, 1, 1)
    scripted = ScriptedBackend(Script(lambda inputs: list(inputs.values())))
    with pytest.raises(OptimizeError, match="served by scripted, whose operators cannot be timed"):
        trace(replace(picked(made), backend=scripted), BATCH, 1, 1)
