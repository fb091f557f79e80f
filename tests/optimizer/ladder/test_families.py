"""The default candidates fit the graph, and say what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from optimizer.ladder.families import default_candidates
from optimizer.transforms.facts import GraphFacts
from server.backends.base import Backend, Backends
from server.backends.onnx_runtime import OnnxRuntimeBackend

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
