"""A graph made ready for quantization, the way ONNX Runtime recommends: shapes known, constants folded, nodes named. Needs onnx."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import StageFailed
from optimizer.quiet import reason, tool
from optimizer.transforms.graph import OLDEST_OPSET, count_operators, float_weights, load_model, name_nodes, opset_of
from optimizer.transforms.options import OneOf
from optimizer.transforms.unpack import unpack_attention

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHT_BITS = OneOf(
    "weight_bits", 8, (8, 7), "7 keeps sums from overflowing on processors whose instructions add in 16 bits (x86 before VNNI)"
)

_QUANTIZED = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv",
    "MatMulNBits", "QAttention", "QGemm",
})  # fmt: skip


def is_quantized(operators: set[str]) -> bool:
    """Whether a graph with these operators has been quantized already."""
    return bool(operators & _QUANTIZED)


def prepare(source: Path) -> ModelProto:
    """The model of the file, ready for a quantizer. Raises StageFailed when it cannot be read, or is quantized already."""
    model = load_model(source)
    found = set(count_operators(model))
    if is_quantized(found):
        raise StageFailed(
            f"the model is quantized already ({', '.join(sorted(found & _QUANTIZED))}); start from the float model"
        )
    with tempfile.TemporaryDirectory() as folder, tool("preparing the graph for quantization"):
        if opset_of(model) < OLDEST_OPSET:
            model = _raise_opset(model)
        model = _pre_process(model, Path(folder))
    name_nodes(model)
    unpack_attention(model)
    _complete_types(model)
    _mark_as_inferred(model)
    return model


def gemm_as_matmul(model: ModelProto) -> None:
    """Each plain Gemm becomes MatMul and Add, in place: tools for weights know MatMul only."""
    from onnxruntime.quantization.onnx_model import ONNXModel

    with tool("replacing Gemm by MatMul"):
        ONNXModel(model).replace_gemm_with_matmul()
        model.graph.ClearField("value_info")  # it would still tell the shapes of the weights that were transposed
    name_nodes(model)


def _raise_opset(model: ModelProto) -> ModelProto:
    from onnx import version_converter

    return version_converter.convert_version(model, OLDEST_OPSET)


def _pre_process(model: ModelProto, folder: Path) -> ModelProto:
    """Symbolic shape inference, ONNX Runtime's basic optimizations, ONNX's shape inference."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    given, made = folder / "given.onnx", folder / "made.onnx"
    onnx.save(model, given)
    try:
        quant_pre_process(str(given), str(made), auto_merge=True)
    except Exception as error:  # symbolic inference gives up on some graphs in its own ways; the rest does without it
        print(f"without symbolic shapes: {reason(error)}")
        quant_pre_process(str(given), str(made), skip_symbolic_shape=True)
    return onnx.load(made)


def _mark_as_inferred(model: ModelProto) -> None:
    """Quantizers would write, infer and read the whole model again, each time, without this note."""
    from onnxruntime.quantization.quant_utils import add_infer_metadata

    add_infer_metadata(model)


def _complete_types(model: ModelProto) -> None:
    """Shape inference does not see through every vendor's operator. What goes into and comes out of a layer with float32
    weights is float32, however; without its type a tensor would silently be left unquantized."""
    from onnx import TensorProto, helper

    weights = set(float_weights(model))
    known = {one.name for group in (model.graph.value_info, model.graph.input, model.graph.output) for one in group}
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose") and node.input[1] in weights:
            for name in (node.input[0], node.output[0]):
                if name not in known and name not in weights:
                    model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
                    known.add(name)
