"""Tables of embeddings: a quarter of the size, each row as exact as 8 bits allow, and nothing else touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.transforms.graph import save_model
from optimizer.transforms.tables import shrink_tables
from tests.optimizer.transforms.graphs import Net, constants, signature, write

TABLE = (np.random.default_rng(0).standard_normal((512, 48)) * np.logspace(-3, 3, 512)[:, None]).astype(np.float32)
TABLE[5] = 0
IDS = np.array([[0, 5, 511, 200]])


def looked_up(path: Path, *more: Any, table: Any = TABLE, axis: int = 0, outputs: tuple[str, ...] = ("rows",)) -> Net:
    nodes = [helper.make_node("Gather", ["table", "ids"], ["rows"], axis=axis), *more]
    declared = [(name, TensorProto.FLOAT, None) for name in outputs]
    write(path, nodes, [("ids", TensorProto.INT64, ["batch", "n"])], declared, {"table": table})
    return Net(path, [{"ids": IDS}], {})


def test_rows_are_as_exact_as_their_own_scale_allows(tmp_path: Path) -> None:
    net = looked_up(tmp_path / "model.onnx")
    model = onnx.load(net.path)
    assert shrink_tables(model) == ["table"]
    n_bytes = save_model(model, onnx.load(net.path), tmp_path / "small.onnx")
    assert n_bytes < 0.3 * net.path.stat().st_size
    assert signature(tmp_path / "small.onnx") == signature(net.path)
    (wanted,), (found,) = net.answers(net.path), net.answers(tmp_path / "small.onnx")
    scales = np.abs(wanted).max(axis=-1, keepdims=True) / 127
    assert np.all(np.abs(found - wanted) <= scales / 2 * 1.001)
    assert np.any(found != wanted)
    kept = constants(tmp_path / "small.onnx")
    assert {(array.dtype.name, array.shape) for array in kept.values()} == {("int8", (512, 48)), ("float32", (512, 1))}


@pytest.mark.parametrize(
    "change",
    [
        {"table": TABLE[:8]},
        {"table": TABLE.astype(np.float64)},
        {"axis": 1},
        {"outputs": ("rows", "table")},
        {"more": [helper.make_node("MatMul", ["rows", "turned"], ["y"]), helper.make_node("Transpose", ["table"], ["turned"])]},
    ],
)
def test_what_is_small_or_read_otherwise_stays(tmp_path: Path, change: dict[str, Any]) -> None:
    looked_up(tmp_path / "model.onnx", *change.pop("more", ()), **change)
    model = onnx.load(tmp_path / "model.onnx")
    before = model.SerializeToString()
    assert shrink_tables(model) == []
    assert model.SerializeToString() == before


def test_two_lookups_share_a_table(tmp_path: Path) -> None:
    more = [helper.make_node("Gather", ["table", "ids"], ["again"]), helper.make_node("Add", ["rows", "again"], ["sum"])]
    net = looked_up(tmp_path / "model.onnx", *more, outputs=("sum",))
    model = onnx.load(net.path)
    assert shrink_tables(model) == ["table"]
    save_model(model, onnx.load(net.path), tmp_path / "small.onnx")
    assert len(constants(tmp_path / "small.onnx")) == 2
    assert net.cosine(tmp_path / "small.onnx") > 0.9999
