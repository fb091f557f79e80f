"""The networks that cards are measured with are what they say: tiny ones of the kind run, and ignore padding. Needs no card."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends.onnx_runtime import OnnxRuntimeBackend
from tests.gpu.shapes import encoder, residual


def test_an_encoder_ignores_what_the_mask_hides(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(encoder(2, 32, 4, 100))
    session = OnnxRuntimeBackend().load(tmp_path, 1)
    ids, mask = np.array([[5, 6, 7]]), np.ones((1, 3), np.int64)
    (alone,) = session.run({"ids": ids, "mask": mask})
    (padded,) = session.run({"ids": np.array([[5, 6, 7, 9, 9]]), "mask": np.array([[1, 1, 1, 0, 0]])})
    assert alone.shape == (1, 32)
    np.testing.assert_allclose(alone, padded, atol=1e-5)


def test_a_residual_network_classifies(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(residual((1, 2), 8, 32, 10))
    (logits,) = OnnxRuntimeBackend().load(tmp_path, 1).run({"image": np.ones((2, 3, 32, 32), np.float32)})
    assert logits.shape == (2, 10)
    assert np.isfinite(logits).all()
