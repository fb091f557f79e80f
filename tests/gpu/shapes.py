"""Networks of well-known shapes with random weights, as .onnx files: nothing to learn from their answers, but their arithmetic is the
real thing."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    """Operators and weights, one after the other."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        scale = float(np.sqrt(2 / np.prod(shape[1:] or shape)))
        return self.constant((scale * self._random.standard_normal(shape)).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, out: str | None = None, **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def model(self, inputs: list[Any], outputs: list[Any]) -> bytes:
        graph = helper.make_graph(self.nodes, "shape", inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        data: bytes = model.SerializeToString()
        return data


def encoder(layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 30522) -> bytes:
    """BERT-base's shape by default: ids, mask INT64 [batch, length] → embedding FP32 [batch, width], the mean of what the mask keeps."""
    g = _Graph()
    kept = g.add("Cast", "mask", to=TensorProto.FLOAT)
    bias = g.add("Mul", g.add("Sub", g.constant(np.float32(1)), kept), g.constant(np.float32(-1e9)))
    bias = g.add("Unsqueeze", bias, g.constant(np.array([1, 2])))
    hidden = g.add("Gather", g.weight(vocabulary, width), "ids")
    for _ in range(layers):
        hidden = _layer(g, hidden, bias, width, heads)
    weight = g.add("Unsqueeze", kept, g.constant(np.array([2])))
    total = g.add("ReduceSum", g.add("Mul", hidden, weight), g.constant(np.array([1])), keepdims=0)
    g.add("Div", total, g.add("ReduceSum", kept, g.constant(np.array([1])), keepdims=1), out="embedding")
    ids, mask = (helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in ("ids", "mask"))
    return g.model([ids, mask], [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", width])])


def _layer(g: _Graph, hidden: str, bias: str, width: int, heads: int) -> str:
    split = g.constant(np.array([0, 0, heads, width // heads]))
    query, key, value = (
        g.add("Transpose", g.add("Reshape", _linear(g, hidden, width, width), split), perm=perm)
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = g.add("Div", g.add("MatMul", query, key), g.constant(np.float32(np.sqrt(width / heads))))
    seen = g.add("MatMul", g.add("Softmax", g.add("Add", scores, bias), axis=-1), value)
    joined = g.add("Reshape", g.add("Transpose", seen, perm=[0, 2, 1, 3]), g.constant(np.array([0, 0, width])))
    hidden = _norm(g, g.add("Add", hidden, _linear(g, joined, width, width)), width)
    wide = _linear(g, hidden, width, 4 * width)
    erf = g.add("Erf", g.add("Div", wide, g.constant(np.float32(np.sqrt(2)))))
    gelu = g.add("Mul", g.add("Mul", wide, g.add("Add", erf, g.constant(np.float32(1)))), g.constant(np.float32(0.5)))
    return _norm(g, g.add("Add", hidden, _linear(g, gelu, 4 * width, width)), width)


def _linear(g: _Graph, x: str, n_in: int, n_out: int) -> str:
    return g.add("Add", g.add("MatMul", x, g.weight(n_in, n_out)), g.weight(n_out))


def _norm(g: _Graph, x: str, width: int) -> str:
    return g.add(
        "LayerNormalization", x, g.constant(np.ones(width, np.float32)), g.constant(np.zeros(width, np.float32)), axis=-1
    )


def residual(blocks: tuple[int, ...] = (3, 4, 6, 3), width: int = 64, side: int = 224, classes: int = 1000) -> bytes:
    """ResNet-50's shape by default, batch normalization folded: image FP32 [batch, 3, side, side] → logits FP32 [batch, classes]."""
    g = _Graph()
    x = g.add("MaxPool", _conv(g, "image", 3, width, 7, 2), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    n_in = width
    for stage, count in enumerate(blocks):
        inner = width << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            through = _conv(g, _conv(g, x, n_in, inner, 1, 1), inner, inner, 3, stride)
            through = _conv(g, through, inner, 4 * inner, 1, 1, last=True)
            around = x if n_in == 4 * inner else _conv(g, x, n_in, 4 * inner, 1, stride, last=True)
            x, n_in = g.add("Relu", g.add("Add", through, around)), 4 * inner
    pooled = g.add("Flatten", g.add("GlobalAveragePool", x))
    g.add("Gemm", pooled, g.weight(n_in, classes), g.weight(classes), out="logits")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, side, side])
    return g.model([image], [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])])


def _conv(g: _Graph, x: str, n_in: int, n_out: int, size: int, stride: int, last: bool = False) -> str:
    pad = size // 2
    made = g.add("Conv", x, g.weight(n_out, n_in, size, size), g.weight(n_out), strides=[stride] * 2, pads=[pad] * 4)
    return made if last else g.add("Relu", made)
