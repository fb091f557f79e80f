"""The default candidates fit the graph, and say what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.ladder.families import default_candidates, left_out, meter_of
from optimizer.ladder.here import Here
from optimizer.tensorrt.build import Products
from optimizer.transforms.facts import GraphFacts
from server.backends.base import Backend, Backends
from server.backends.nvidia import Card, Cards
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.accelerator import Accelerator

ENCODER = GraphFacts({"MatMul": 30}, 10**7, 4 * 10**7, 4 * 10**7, 0, 0, True, True, ("FLOAT",))
CNN = replace(ENCODER, matmul_bytes=10**6, conv_bytes=4 * 10**7, has_attention=False, has_normalization=False)
TINY = replace(CNN, matmul_bytes=10_000, conv_bytes=20_000)
SMALL = replace(CNN, matmul_bytes=75_000, conv_bytes=11_000)
SPEECH = replace(ENCODER, conv_bytes=10**6)
MLP = replace(CNN, conv_bytes=0, matmul_bytes=10**7)


def backends(*names: str) -> Backends:
    usable: dict[str, Backend] = {name: OnnxRuntimeBackend() for name in ("onnxruntime", *names)}
    return Backends(usable, {"openvino-bf16": "not here"})


def shown(facts: GraphFacts | None, *names: str) -> list[tuple[str, str]]:
    return [("+".join(step.name for step in one.steps), one.backend) for one in default_candidates(facts, backends(*names))]


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        (ENCODER, [("", "openvino-bf16"), ("fuse", "onnxruntime"), ("fuse+int8-dynamic", "onnxruntime")]),
        (CNN, [("", "openvino-bf16"), ("int8-static", "onnxruntime"), ("int8-static", "openvino-bf16")]),
        (TINY, [("", "openvino-bf16")]),
        (SMALL, [("", "openvino-bf16"), ("int8-static", "onnxruntime"), ("int8-static", "openvino-bf16")]),
        (SPEECH, [("", "openvino-bf16"), ("fuse", "onnxruntime"), ("fuse+int8-dynamic", "onnxruntime")]),
        (MLP, [("", "openvino-bf16"), ("int8-dynamic", "onnxruntime")]),
        (None, [("", "openvino-bf16"), ("fuse", "onnxruntime"), ("fuse+int8-dynamic", "onnxruntime")]),
    ],
)
def test_by_what_the_graph_is(facts: GraphFacts | None, wanted: list[tuple[str, str]]) -> None:
    assert shown(facts, "openvino-bf16") == wanted
    names = [one.name for one in default_candidates(facts, backends())]
    assert len(set(names)) == len(names)


def test_the_backend_that_is_missing_is_asked_for_unless_another_precision_is_here() -> None:
    assert shown(TINY) == [("", "openvino-bf16")]
    assert shown(TINY, "openvino-f32") == [("", "openvino-f32")]
    assert shown(TINY, "openvino-f32", "openvino-bf16") == [("", "openvino-bf16")]


def test_what_needs_a_card_is_tried_where_there_is_one() -> None:
    tf32, f32 = "onnxruntime-cuda-tf32", "onnxruntime-cuda-f32"
    wanted = [
        ("fp16", tf32),
        ("", tf32),
        ("", f32),
        ("", "openvino-bf16"),
        ("fuse", "onnxruntime"),
        ("fuse+int8-dynamic", "onnxruntime"),
    ]
    assert shown(ENCODER, tf32, f32) == wanted
    names = [one.name for one in default_candidates(ENCODER, backends(tf32, f32))]
    assert len(set(names)) == len(names)


def test_engines_are_built_where_the_library_is_here() -> None:
    found = [one for one in default_candidates(ENCODER, backends("tensorrt")) if one.backend == "tensorrt"]
    assert [("+".join(map(str, one.steps)), one.products) for one in found] == [
        ("int8-static(activations=s8, biases=float, tables=float)", Products.TF32),
        ("fp16", Products.TF32),
        ("", Products.TF32),
        ("", Products.F32),
    ]
    assert all(one.products is None for one in default_candidates(ENCODER, backends(*CARDS)) if one.backend != "tensorrt")


CARDS = ("onnxruntime-cuda-tf32", "onnxruntime-cuda-f32", "tensorrt")
A_CARD = Cards((Card(Accelerator("H100", "9.0", "580.1", "13.0"), 80 << 30, "0000:01:00.0"),))


def test_what_is_not_tried_for_want_of_a_card_is_said_in_one_sentence() -> None:
    lacking = Backends({}, {name: "install it" for name in CARDS})
    said = ("No candidate for an NVIDIA card was tried: the NVIDIA driver has no card",)
    assert left_out(Here(lacking, Cards((), "the NVIDIA driver has no card"))) == said


def test_where_there_is_a_card_each_library_that_is_missing_is_said() -> None:
    missing = {"onnxruntime-cuda-tf32": "install ORT", "onnxruntime-cuda-f32": "install ORT", "tensorrt": "install TRT"}
    assert left_out(Here(Backends({}, missing), A_CARD)) == (
        "No candidate for onnxruntime-cuda-tf32 and onnxruntime-cuda-f32 was tried: install ORT",
        "No candidate for tensorrt was tried: install TRT",
    )
    assert left_out(Here(backends(*CARDS), A_CARD)) == ()
    assert left_out(Here(backends(*CARDS[:2]), A_CARD)) == (
        "No candidate for tensorrt was tried: this ferry does not have it; upgrade ferry",
    )


def test_rows_are_measured_by_what_takes_any_file_to_the_card() -> None:
    assert meter_of(backends("tensorrt")) is None
    both = backends(*CARDS)
    assert meter_of(both) is both.usable["onnxruntime-cuda-tf32"]
