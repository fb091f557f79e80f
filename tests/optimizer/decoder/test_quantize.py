"""Weights of fewer bits: smaller files, predictions that stay, rows that do not know of each other."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from optimizer.decoder.checkpoint import read_checkpoint
from optimizer.decoder.judge import company_error
from optimizer.decoder.quantize import QuantizeTask
from optimizer.errors import StageFailed
from server.backends.onnx_decoder import OnnxDecoderBackend
from tests.optimizer.decoder.tiny import prompts


def nothing(what: str, done: int, total: int) -> None:
    """Nobody watches."""


@pytest.mark.parametrize(("bits", "most"), [(8, 0.45), (4, 0.35)])
def test_rows_do_not_depend_on_their_company(
    bits: int, most: float, tiny_checkpoint: Path, exported: Path, tmp_path: Path
) -> None:
    generation = read_checkpoint(tiny_checkpoint).generation
    result = QuantizeTask(exported, bits)(tmp_path, nothing)
    sizes = [
        sum((folder / name).stat().st_size for name in ("model.onnx", "model.onnx.data")) for folder in (exported, tmp_path)
    ]
    assert result.data["bytes"] == sizes[1] < most * sizes[0]
    assert f"11 matrices with {bits}-bit weights" in result.note
    texts = prompts((100, 1, 64, 70, 7))
    first = []
    for folder in (exported, tmp_path):
        with closing(OnnxDecoderBackend().load(folder, generation, len(texts), 2)) as decoder:
            first.append(decoder.prefill(range(len(texts)), texts, 0))
            assert company_error(decoder, texts) == 0
    assert np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1] > 0.97


def test_embeddings_get_eight_bits_of_their_own(exported: Path, tmp_path: Path) -> None:
    QuantizeTask(exported, 4)(tmp_path, nothing)
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph
    assert [node.op_type for node in graph.node][:4] == ["Gather", "Gather", "Cast", "Mul"]
    assert not any(node.op_type == "Transpose" for node in graph.node)
    tables = [one for one in graph.initializer if one.data_type == TensorProto.INT8]
    assert [list(one.dims) for one in tables] == [[320, 64]]


def test_a_graph_without_matrices_is_told_so(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "none", values[:1], values[1:])
    onnx.save_model(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(StageFailed, match="nothing to quantize: no MatMul has a constant matrix"):
        QuantizeTask(tmp_path, 8)(tmp_path, nothing)


def test_the_task_goes_to_another_process(tmp_path: Path) -> None:
    task = QuantizeTask(tmp_path, 8)
    assert pickle.loads(pickle.dumps(task)) == task
