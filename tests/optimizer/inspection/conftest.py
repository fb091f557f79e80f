"""A repository with small published versions, made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.models import affine, masked_mean, onnx_bytes, plain_mean, publish_model, publish_text


def roots() -> bytes:
    """y = 1 ÷ √|x|: not finite at zero. FP32 [batch, 2]."""
    from onnx import helper

    nodes = [
        helper.make_node("Abs", ["x"], ["size"]), helper.make_node("Sqrt", ["size"], ["root"]),
        helper.make_node("Div", ["one", "root"], ["y"]),
    ]  # fmt: skip
    return onnx_bytes(nodes, [("x", "FP32", ["batch", 2])], [("y", "FP32", ["batch", 2])], {"one": np.float32(1)})


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """affine/1, an equal affine/2 and another affine/3; masked/1 with lengths that mix, plain/1 with lengths that do not; roots/1;
    words/1 that takes text. Not to be changed by a test."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("made")
    for model in (affine(), affine(), affine(2.0, 1.5)):
        publish_model(folder, "affine", model, max_rows=4)
    publish_model(folder, "masked", masked_mean(), lengths=(1, 16), max_rows=4)
    publish_model(folder, "plain", plain_mean(), lengths=(2, 8), max_rows=2)
    publish_model(folder, "roots", roots(), max_rows=2)
    publish_text(folder, "words")
    return folder
