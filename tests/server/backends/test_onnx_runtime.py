"""The ONNX Runtime backend: what it loads, what it refuses, whose fault a failure is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper

from server.backends.base import BatchError, LoadError, Session
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.tensors import DataType, TensorSpec
from tests.models import KINDS, Port, affine, identity, lookup, onnx_bytes


def loaded(folder: Path, model: bytes) -> Session:
    (folder / "model.onnx").write_bytes(model)
    return OnnxRuntimeBackend().load(folder, threads=1)


def copies(*ports: Port) -> bytes:
    """y = x for each port x."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name, _, _ in ports]
    return onnx_bytes(nodes, ports, [(f"{name}_out", kind, shape) for name, kind, shape in ports])


def of_bfloat16() -> bytes:
    """A type that V2 has and the library's Python interface has not."""
    ports = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["batch"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    return data


def test_declares_the_tensors_of_the_file(tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    assert session.inputs == (TensorSpec("x", DataType.FP32, ("batch", 4)),)
    assert session.outputs == (TensorSpec("y", DataType.FP32, ("batch", 4)),)


def test_axes_without_a_name_get_one(tmp_path: Path) -> None:
    assert loaded(tmp_path, copies(("x", "FP32", [None, 4, None]))).inputs[0].shape == ("x_axis0", 4, "x_axis2")


@pytest.mark.parametrize("datatype", list(KINDS))
def test_every_datatype_goes_through(datatype: str, tmp_path: Path) -> None:
    session = loaded(tmp_path, identity(datatype))
    assert session.inputs[0].datatype is DataType(datatype)
    values = [[b"a", "ü".encode()]] if datatype == "BYTES" else [[1, 0]]
    dtype: Any = (
        object
        if datatype == "BYTES"
        else {"BOOL": bool, "FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(datatype, datatype.lower())
    )
    array = np.array(values, dtype)
    (output,) = session.run({"x": array})
    assert output.dtype == array.dtype
    assert output.tolist() == array.tolist()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"not a model", "Protobuf parsing failed"),
        (copies(("x", "FP32", [])), "tensor 'x' is a scalar: every input and output needs a first (batch) axis"),
        (copies(("x", "FP32", ["batch", 0])), "tensor 'x' has shape ['batch', 0]: fixed sizes must be positive"),
        (of_bfloat16(), "tensor 'x' has type tensor(bfloat16), which cannot be served"),
    ],
)
def test_files_that_cannot_be_served(model: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        loaded(tmp_path, model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"model.onnx"):
        OnnxRuntimeBackend().load(tmp_path, threads=1)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"index": np.array([[99]])}, "out of data bounds"),
        ({"index": np.array([[1.5]])}, "Unexpected input data type"),
        ({"index": np.array([[1, 2]])}, "Got invalid dimensions for input"),
        ({}, "Required inputs (['index']) are missing"),
    ],
)
def test_a_bad_batch_leaves_the_session_good(inputs: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    session = loaded(tmp_path, lookup())
    with pytest.raises(BatchError) as caught:
        session.run(inputs)
    assert message in str(caught.value)
    assert not str(caught.value).startswith("[ONNXRuntimeError]")
    assert session.run({"index": np.array([[3]])})[0].tolist() == [[[6, 7]]]


def test_strings_must_be_text(tmp_path: Path) -> None:
    session = loaded(tmp_path, identity("BYTES"))
    with pytest.raises(BatchError, match="input 'x' holds bytes that are not UTF-8"):
        session.run({"x": np.array([[b"a", b"\xff"]], object)})


def test_running_after_close_is_a_bug(tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    session.close()
    with pytest.raises(AssertionError, match="run after close"):
        session.run({})
