"""Tiny ONNX models, and publishing them the way the product does. For tests only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.layout import TOKENIZER
from server.contract.publish import publish, staging
from server.contract.wants import Wants
from server.intake.build import Intake, build_version
from server.intake.measure import Effort
from server.intake.texts import TextWish

QUICK = Effort(cell_s=0.001, n_least=1, n_most=3)
PATIENT_S = 5.0
"""An SLO that a busy test machine keeps."""

KINDS: Mapping[str, int] = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}  # fmt: skip

Port = tuple[str, str, Sequence[Any]]
"""Name, V2 datatype, shape."""


def onnx_bytes(
    nodes: Sequence[Any], inputs: Sequence[Port], outputs: Sequence[Port], constants: Mapping[str, Any] | None = None
) -> bytes:
    """A serialized model."""
    declared_in, declared_out = (
        [helper.make_tensor_value_info(name, KINDS[datatype], shape) for name, datatype, shape in ports]
        for ports in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(nodes, "tiny", declared_in, declared_out, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def affine(scale: float = 2.0, shift: float = 1.0) -> bytes:
    """y = scale·x + shift over FP32 [batch, 4]."""
    return onnx_bytes(
        [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["y"])],
        [("x", "FP32", ["batch", 4])],
        [("y", "FP32", ["batch", 4])],
        {"scale": np.float32(scale), "shift": np.float32(shift)},
    )


def identity(datatype: str) -> bytes:
    """y = x over [batch, 2]."""
    return onnx_bytes(
        [helper.make_node("Identity", ["x"], ["y"])], [("x", datatype, ["batch", 2])], [("y", datatype, ["batch", 2])]
    )


def masked_mean() -> bytes:
    """Mean of the ids that the mask keeps: padding changes nothing. [batch, length] twice → FP32 [batch, 1]."""
    return onnx_bytes(
        [
            helper.make_node("Mul", ["ids", "mask"], ["kept"]),
            helper.make_node("Cast", ["kept"], ["kept_f"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["mask"], ["mask_f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["kept_f", "axes"], ["total"], keepdims=1),
            helper.make_node("ReduceSum", ["mask_f", "axes"], ["count"], keepdims=1),
            helper.make_node("Div", ["total", "count"], ["mean"]),
        ],
        [("ids", "INT64", ["batch", "length"]), ("mask", "INT64", ["batch", "length"])],
        [("mean", "FP32", ["batch", 1])],
        {"axes": np.array([1])},
    )


def plain_mean() -> bytes:
    """Mean over the whole ragged axis: padding changes the answer. FP32 [batch, length] → [batch, 1]."""
    return onnx_bytes(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1)],
        [("x", "FP32", ["batch", "length"])],
        [("mean", "FP32", ["batch", 1])],
    )


def per_token() -> bytes:
    """One output carries the ragged axis (ids + 1), the other does not (their sum)."""
    return onnx_bytes(
        [
            helper.make_node("Add", ["ids", "one"], ["next"]),
            helper.make_node("ReduceSum", ["ids", "axes"], ["sum"], keepdims=1),
        ],
        [("ids", "INT64", ["batch", "length"])],
        [("next", "INT64", ["batch", "length"]), ("sum", "INT64", ["batch", 1])],
        {"one": np.int64(1), "axes": np.array([1])},
    )


def two_outputs() -> bytes:
    """sum = a + b, difference = a − b over FP32 [batch, 2]."""
    return onnx_bytes(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [("a", "FP32", ["batch", 2]), ("b", "FP32", ["batch", 2])],
        [("sum", "FP32", ["batch", 2]), ("difference", "FP32", ["batch", 2])],
    )


def lookup() -> bytes:
    """Row `index` of a table of 8: raises for an index out of range. INT64 [batch, 1] → FP32 [batch, 1, 2]."""
    return onnx_bytes(
        [helper.make_node("Gather", ["table", "index"], ["row"], axis=0)],
        [("index", "INT64", ["batch", 1])],
        [("row", "FP32", ["batch", 1, 2])],
        {"table": np.arange(16, dtype=np.float32).reshape(8, 2)},
    )


def sums_the_batch() -> bytes:
    """One row out whatever goes in: not servable."""
    return onnx_bytes(
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)],
        [("x", "FP32", ["batch", 4])],
        [("y", "FP32", ["rows", 4])],
        {"axes": np.array([0])},
    )


def mixes_rows() -> bytes:
    """Takes the batch's mean off each row: not servable."""
    return onnx_bytes(
        [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1), helper.make_node("Sub", ["x", "mean"], ["y"])],
        [("x", "FP32", ["batch", 4])],
        [("y", "FP32", ["batch", 4])],
    )


def coarse() -> bytes:
    """x in steps of a 127th of the batch's largest value, as dynamic int8 does: rows depend a little on each other."""
    return onnx_bytes(
        [
            helper.make_node("Abs", ["x"], ["size"]),
            helper.make_node("ReduceMax", ["size"], ["largest"], keepdims=0),
            helper.make_node("Div", ["largest", "steps"], ["step"]),
            helper.make_node("Div", ["x", "step"], ["scaled"]),
            helper.make_node("Round", ["scaled"], ["rounded"]),
            helper.make_node("Mul", ["rounded", "step"], ["y"]),
        ],
        [("x", "FP32", ["batch", 4])],
        [("y", "FP32", ["batch", 4])],
        {"steps": np.float32(127)},
    )


N_WORDS = 60
"""w0 … w59 are the words that `word_tokenizer` knows, after "[UNK]", "[C]" and "[S]", which begins and ends each text."""


def bag(n_ids: int = N_WORDS + 3) -> bytes:
    """Mean of the embeddings of the ids that the mask keeps: [batch, length] twice → FP32 [batch, 4]. Other ids are refused."""
    return onnx_bytes(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"]),
            helper.make_node("Cast", ["mask"], ["mask_f"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask_f", "last"], ["weight"]),
            helper.make_node("Mul", ["rows", "weight"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axes"], ["total"], keepdims=0),
            helper.make_node("ReduceSum", ["mask_f", "axes"], ["count"], keepdims=1),
            helper.make_node("Div", ["total", "count"], ["embedding"]),
        ],
        [("ids", "INT64", ["batch", "length"]), ("mask", "INT64", ["batch", "length"])],
        [("embedding", "FP32", ["batch", 4])],
        {
            "table": np.random.default_rng(0).standard_normal((n_ids, 4)).astype(np.float32), "axes": np.array([1]),
            "last": np.array([2]),
        },
    )  # fmt: skip


def word_tokenizer() -> str:
    """A tokenizer.json of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[UNK]", "[C]", "[S]", *(f"w{n}" for n in range(N_WORDS))]
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    made.post_processor = processors.TemplateProcessing(single="[C] $A [S]", special_tokens=[("[C]", 1), ("[S]", 2)])
    return str(made.to_str())


def word_ids(text: str) -> list[int]:
    """What `word_tokenizer` makes of a text of its words."""
    return [1, *(int(word[1:]) + 3 for word in text.split()), 2]


def text_folder(folder: Path, name: str, model: bytes | None = None, lengths: tuple[int, int] = (2, 32)) -> Path:
    """A version that takes text: `bag`, or another model of its inputs, with `word_tokenizer`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(word_tokenizer(), encoding="utf-8")
    wish = TextWish({"ids": "ids", "mask": "mask"}, "embedding", ("w1 w2 w3", "w5"))
    return version_folder(folder, name, model or bag(), lengths, max_rows=8, text=wish)


def publish_text(repository: Path, name: str, slo_s: float = PATIENT_S) -> int:
    """Build and publish `bag` with its tokenizer; its number."""
    with staging(repository) as folder:
        return publish(text_folder(folder / "version", name), repository, name, Wants(slo_s))


def version_folder(
    folder: Path, name: str, model: bytes, lengths: tuple[int, int] | None = None, max_rows: int = 8,
    text: TextWish | None = None,
) -> Path:  # fmt: skip
    """Build a checked, profiled version folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    intake = Intake(name, lengths=lengths, max_rows=max_rows, effort=QUICK, text=text)
    build_version(folder, OnnxRuntimeBackend(), intake, lambda *_: None)
    return folder


def publish_model(
    repository: Path, name: str, model: bytes, lengths: tuple[int, int] | None = None, max_rows: int = 8,
    slo_s: float = PATIENT_S,
) -> int:  # fmt: skip
    """Build and publish a version; its number."""
    with staging(repository) as folder:
        built = version_folder(folder / "version", name, model, lengths, max_rows)
        return publish(built, repository, name, Wants(slo_s))


def publish_all(repository: Path) -> None:
    """Every model that the wire tests use."""
    for datatype in KINDS:
        publish_model(repository, f"id_{datatype.lower()}", identity(datatype), max_rows=4)
    publish_model(repository, "affine", affine())
    publish_model(repository, "two", two_outputs())
    publish_model(repository, "lookup", lookup())
    publish_model(repository, "masked", masked_mean(), lengths=(1, 64), max_rows=16)
    publish_model(repository, "plain", plain_mean(), lengths=(2, 32))
    publish_model(repository, "tokens", per_token(), lengths=(1, 32))
    publish_text(repository, "words")
