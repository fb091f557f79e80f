"""What a file declares, read without an inference library: the same as ONNX Runtime says."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper

from server.backends.base import LoadError
from server.backends.onnx_declaration import declared
from server.backends.onnx_runtime import OnnxRuntimeBackend
from tests.models import KINDS, affine, identity, lookup


@pytest.mark.parametrize("model", [affine(), lookup(), *(identity(kind) for kind in KINDS)])
def test_it_is_what_onnx_runtime_says(model: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(model)
    session = OnnxRuntimeBackend().load(tmp_path, 1)
    assert declared(file) == (session.inputs, session.outputs)


def test_constants_that_are_listed_as_inputs_are_none(tmp_path: Path) -> None:
    import numpy as np

    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", ["batch", 2]), ("w", [2]))]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    weights = numpy_helper.from_array(np.ones(2, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", ports, [out], [weights])
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    inputs, _ = declared(tmp_path / "model.onnx")
    assert [spec.name for spec in inputs] == ["x"]


def test_a_type_that_cannot_be_served(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.BFLOAT16, ["batch"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(LoadError, match="tensor 'x' has a type that cannot be served"):
        declared(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", [b"not a model", None])
def test_what_is_no_onnx_file(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(LoadError, match=r"model\.onnx cannot be read as ONNX"):
        declared(tmp_path / "model.onnx")
