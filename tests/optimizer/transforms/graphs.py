"""Small networks as ONNX files, and what tests ask of a transformed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from optimizer.quiet import tool
from optimizer.stages.onnx_names import set_names
from optimizer.transforms.base import Material
from server.backends.base import Array

Request = dict[str, Array]


@dataclass(frozen=True)
class Net:
    """A model file and requests for it."""

    path: Path
    requests: Sequence[Request]
    pads: Mapping[str, int | float]
    ragged_axis: str | None = None

    @property
    def material(self) -> Material:
        return Material(self.requests, self.pads, self.ragged_axis)

    def answers(self, path: Path) -> list[Array]:
        """First output of the file at `path` for every request."""
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        return [session.run(None, request)[0] for request in self.requests]

    def cosine(self, path: Path) -> float:
        """Mean over the requests, computed here in the plainest way; an answer of zeros agrees with nothing."""
        pairs = zip(self.answers(self.path), self.answers(path), strict=True)
        flat = [(one.ravel().astype(np.float64), other.ravel().astype(np.float64)) for one, other in pairs]
        return float(np.mean([one @ other / np.sqrt(max(one @ one, 1e-30) * max(other @ other, 1e-30)) for one, other in flat]))


def signature(path: Path) -> list[tuple[str, str, list[Any]]]:
    """Name, type and axes of inputs and outputs, as the runtime sees them."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [(arg.name, arg.type, arg.shape) for arg in (*session.get_inputs(), *session.get_outputs())]


def alone_and_together(net: Net, path: Path) -> tuple[Array, Array]:
    """Answers to the requests, each in a call of its own, and all in one."""
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = {name: np.concatenate([request[name] for request in net.requests]) for name in net.requests[0]}
    return np.concatenate(net.answers(path)), session.run(None, batch)[0]


def operators(path: Path) -> dict[str, int]:
    names = [node.op_type for node in onnx.load(path).graph.node]
    return {name: names.count(name) for name in names}


def constants(path: Path) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}


def write(
    path: Path, nodes: Sequence[Any], inputs: Sequence[tuple[str, int, list[Any]]], outputs: Sequence[tuple[str, int, list[Any]]],
    weights: Mapping[str, Any], opset: int = 20, domains: Sequence[str] = (),
) -> Path:  # fmt: skip
    """A model file of these parts."""
    graph = helper.make_graph(
        list(nodes), "small", [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


def chained(path: Path) -> Net:
    """A CNN with a shortcut: FP32 [batch, 3, 12, 12] → logits FP32 [batch, 10]; 250 KB of weights in three convolutions and a Gemm."""
    rng = np.random.default_rng(0)

    def kernel(n_out: int, n_in: int, size: int) -> Array:
        return (rng.standard_normal((n_out, n_in, size, size)) / np.sqrt(n_in * size * size)).astype(np.float32)

    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a2"], "shortcut"),
        helper.make_node("Relu", ["a2"], ["r2"], "relu2"),
        helper.make_node("Conv", ["r2", "w3"], ["c3"], "conv3"),
        helper.make_node("GlobalAveragePool", ["c3"], ["p3"], "pool"),
        helper.make_node("Flatten", ["p3"], ["f3"], "flatten"),
        helper.make_node("Gemm", ["f3", "w4", "b4"], ["logits"], "head", transB=1),
    ]
    weights = {
        "w1": kernel(48, 3, 3), "b1": rng.standard_normal(48).astype(np.float32) * 0.1,
        "w2": kernel(48, 48, 3), "b2": rng.standard_normal(48).astype(np.float32) * 0.1, "w3": kernel(64, 48, 1),
        "w4": rng.standard_normal((10, 64)).astype(np.float32) / 8, "b4": rng.standard_normal(10).astype(np.float32) * 0.1,
    }  # fmt: skip
    write(
        path, nodes, [("image", TensorProto.FLOAT, ["batch", 3, 12, 12])], [("logits", TensorProto.FLOAT, ["batch", 10])], weights
    )  # fmt: skip
    return Net(path, [{"image": rng.random((1, 3, 12, 12), dtype=np.float32)} for _ in range(6)], {})


def with_a_harmful_layer(path: Path) -> Net:
    """Six MatMuls in a row; what goes into the fourth has one channel ten thousand times the others, which its weights ignore, so
    that one scale for all channels leaves nothing of the others."""
    rng = np.random.default_rng(1)
    weights = {f"w{n}": (rng.standard_normal((32, 32)) / 6).astype(np.float32) for n in range(6)}
    loud = np.ones(32, dtype=np.float32)
    loud[7] = 1e4
    weights |= {"loud": loud}
    weights["w3"][7] = 0
    nodes, value = [], "x"
    for n in range(6):
        if n == 3:
            nodes.append(helper.make_node("Mul", [value, "loud"], ["louder"], "amplify"))
            value = "louder"
        nodes.append(helper.make_node("MatMul", [value, f"w{n}"], [f"m{n}"], f"layer{n}"))
        nodes.append(helper.make_node("Tanh", [f"m{n}"], [f"t{n}" if n < 5 else "y"], f"tanh{n}"))
        value = f"t{n}"
    write(path, nodes, [("x", TensorProto.FLOAT, ["batch", 32])], [("y", TensorProto.FLOAT, ["batch", 32])], weights)
    return Net(path, [{"x": rng.standard_normal((1, 32)).astype(np.float32)} for _ in range(8)], {})


def encoder(path: Path) -> Net:
    """Two layers of attention as torch exports them: ids and mask INT64 [batch, sequence] → FP32 [batch, 64]."""
    import torch

    from tests.optimizer.transforms.encoder import Encoder

    torch.manual_seed(0)
    ids = torch.ones(2, 7, dtype=torch.int64)
    batch, sequence = torch.export.Dim("batch", min=1, max=64), torch.export.Dim("sequence", min=2, max=32)
    axes = {0: batch, 1: sequence}
    with tool("exporting"):
        program = torch.onnx.export(
            Encoder().eval(), (ids, ids), dynamo=True, verbose=False, opset_version=20, external_data=False,
            dynamic_shapes=(axes, axes), input_names=["ids", "mask"], output_names=["safe"],
        )  # fmt: skip
    assert program is not None
    model = program.model_proto
    set_names(model, {"safe": "embedding"})
    onnx.save(model, path)
    rng = np.random.default_rng(2)
    rows = [rng.integers(1, 512, (1, length)) for length in (3, 9, 14, 5, 20, 11, 7, 2)]
    return Net(path, [{"ids": row, "mask": np.ones_like(row)} for row in rows], {"ids": 0, "mask": 0}, "sequence")
