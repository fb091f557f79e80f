"""What clients that know Triton are told of a model's kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from server.api.platforms import instance_kind, platform
from server.contract.layout import read_version
from server.contract.wants import read_wants
from server.runtime.terms import CARD, terms_to_learn
from tests.server.runtime.scripted_world import MODEL, publish_fake
from tests.server.runtime.test_measuring import HERE


@pytest.mark.parametrize(
    ("backend", "wanted"),
    [
        ("onnxruntime", "onnxruntime_onnx"), ("openvino-bf16", "onnxruntime_onnx"), ("onnxruntime-cuda-f32", "onnxruntime_onnx"),
        ("tensorrt", "tensorrt_plan"), ("scripted", "scripted"),
    ],
)  # fmt: skip
def test_platforms_have_tritons_names_where_it_has_some(backend: str, wanted: str) -> None:
    assert platform(backend) == wanted


def test_instances_on_a_card_are_called_so(tmp_path: Path) -> None:
    files = read_version(tmp_path / MODEL, publish_fake(tmp_path))
    terms = terms_to_learn(files.manifest, read_wants(tmp_path / MODEL / "model.toml"), HERE, None)
    assert instance_kind(terms) == "KIND_CPU"
    assert instance_kind(replace(terms, device=CARD)) == "KIND_GPU"
