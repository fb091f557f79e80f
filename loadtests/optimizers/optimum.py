"""Optimum (optimum-onnx) by Hugging Face: its levels of graph optimization, and int8 for AVX-512 VNNI, each with its defaults."""

from __future__ import annotations

from loadtests.errors import MissingData
from loadtests.optimizers.tool import CNNS, ENCODERS, Recipe, Steps, Tool, Work

_EMBEDDING = "sentence_embedding"


def _level(work: Work, level: str) -> Steps:
    optimize = [work.tool("optimum-cli"), "onnxruntime", "optimize", "--onnx_model", "export", f"-{level}", "-o", "out"]
    return Steps([_export(work), optimize, _one_output(work, "out/model_optimized.onnx")], "model.onnx")


def _level_2(work: Work) -> Steps:
    return _level(work, "O2")


def _level_3(work: Work) -> Steps:
    return _level(work, "O3")


def _dynamic_encoder(work: Work) -> Steps:
    return Steps([_export(work), _quantize(work, "export"), _one_output(work, "out/model_quantized.onnx")], "model.onnx")


def _dynamic_cnn(work: Work) -> Steps:
    return Steps([_without_notes(work), _quantize(work, ".")], "out/model_quantized.onnx")


def _static_cnn(work: Work) -> Steps:
    assert work.rows is not None, "these models have rows that are all alike"
    calibrate = work.script("optimum_static.py", "model.onnx", work.rows, "out")
    return Steps([_without_notes(work), calibrate], "out/model_quantized.onnx")


def _export(work: Work) -> list[str]:
    """By Optimum's own exporter, as its guides begin: its fusions do not match the graph of torch's newer one."""
    if work.weights is None:
        raise MissingData(f"{work.model}: Optimum exports published networks only, and this one has no folder of weights")
    command = [work.tool("optimum-cli"), "export", "onnx", "--model", str(work.weights), "--task", "feature-extraction"]
    return [*command, "--library", "sentence_transformers", "export"]


def _quantize(work: Work, source: str) -> list[str]:
    return [work.tool("optimum-cli"), "onnxruntime", "quantize", "--onnx_model", source, "--avx512_vnni", "-o", "out"]


def _one_output(work: Work, file: str) -> list[str]:
    """The export answers with every token's embedding as well, which nobody here asks for and every reply would carry."""
    return work.script("onnx_graph.py", file, "model.onnx", "--outputs", _EMBEDDING)


def _without_notes(work: Work) -> list[str]:
    return work.script("onnx_graph.py", work.plain, "model.onnx")


OPTIMUM = Tool(
    name="optimum",
    label="Optimum",
    package="optimum-onnx",
    requirements=(
        "torch==2.13.0", "optimum-onnx==0.1.0", "optimum==2.1.0", "onnx==1.23.2", "onnxruntime==1.31.1", "transformers==4.57.6",
        "numpy==2.4.6", "sentence-transformers==5.7.0", "datasets==5.0.1",
    ),
    recipes=(
        Recipe("O2", "`optimum-cli export onnx`, then `optimum-cli onnxruntime optimize -O2`: transformer fusions", ENCODERS, _level_2),
        Recipe("O3", "the same with `-O3`: an approximate GELU, too", ENCODERS, _level_3),
        Recipe("int8", "`optimum-cli onnxruntime quantize --avx512_vnni` of the export: dynamic int8", ENCODERS, _dynamic_encoder),
        Recipe("int8", "`optimum-cli onnxruntime quantize --avx512_vnni`: dynamic int8", CNNS, _dynamic_cnn),
        Recipe("static int8", "ORTQuantizer with avx512_vnni(is_static=True), ranges by minima and maxima; the rows that are asked calibrate", CNNS, _static_cnn),
    ),
    environment={"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    cannot=(
        "`optimum-cli onnxruntime optimize` wants a config.json of transformers: it refuses digits and resnet18.",
        "It quantizes digits and resnet18 only after torch's notes on inner shapes are taken out of the file, which is done for it.",
        "`quantize` after `optimize -O2` ends in ONNX Runtime's shape inference with these versions.",
    ),
)  # fmt: skip
