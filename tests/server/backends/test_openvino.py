"""The OpenVINO backend: the same file gives the same answers as ONNX Runtime, from many threads, and failures say whose they are."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("openvino")

from server.backends import openvino
from server.backends.base import BatchError, LoadError, Session
from server.backends.catalog import find_backends
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.backends.openvino import OpenVinoBackend, Precision
from tests.models import affine, identity, lookup


def loaded(folder: Path, model: bytes, threads: int = 1) -> Session:
    (folder / "model.onnx").write_bytes(model)
    return OpenVinoBackend(Precision.F32).load(folder, threads)


@pytest.mark.parametrize("model", [affine(), lookup(), identity("INT64"), identity("BOOL"), identity("FP16")])
def test_declares_what_onnx_runtime_declares(model: bytes, tmp_path: Path) -> None:
    session, other = loaded(tmp_path, model), OnnxRuntimeBackend().load(tmp_path, 1)
    assert (session.inputs, session.outputs) == (other.inputs, other.outputs)


def test_answers_are_onnx_runtimes(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    with closing(loaded(tmp_path, affine())) as session:
        (found,) = session.run({"x": x})
    (wanted,) = OnnxRuntimeBackend().load(tmp_path, 1).run({"x": x})
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_get_their_own_answers(threads: int, tmp_path: Path) -> None:
    session = loaded(tmp_path, affine(), threads)
    batches = [np.full((rows, 4), rows, np.float32) for rows in range(1, 9)] * 20
    wanted = {rows: session.run({"x": np.full((rows, 4), rows, np.float32)})[0] for rows in range(1, 9)}
    with ThreadPoolExecutor(4) as pool:
        for batch, (found,) in zip(batches, pool.map(lambda batch: session.run({"x": batch}), batches), strict=True):
            np.testing.assert_array_equal(found, wanted[len(batch)])


def test_a_request_that_another_thread_has_just_taken_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    class Contended(list[object]):
        """Says that one is idle, as it looked a moment ago."""

        def __bool__(self) -> bool:
            return True

    session: Any = loaded(tmp_path, affine())
    session._idle = Contended()
    assert session.run({"x": np.ones((2, 4), np.float32)})[0].shape == (2, 4)


def test_an_answer_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    (first,) = session.run({"x": np.ones((2, 4), np.float32)})
    before = first.copy()
    session.run({"x": np.zeros((2, 4), np.float32)})
    np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("model", "message"),
    [(b"not a model", "model.onnx"), (identity("BYTES"), "tensor 'x' is a string, which this library does not calculate with")],
)
def test_files_that_cannot_be_served(model: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        loaded(tmp_path, model)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("inputs", [{"x": np.ones((2, 5), np.float32)}, {"z": np.ones((2, 4), np.float32)}])
def test_a_bad_batch_leaves_the_session_good(inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    with pytest.raises(BatchError) as caught:
        session.run(inputs)
    assert str(caught.value)
    assert "\n" not in str(caught.value)
    assert session.run({"x": np.ones((2, 4), np.float32)})[0].shape == (2, 4)


def test_running_after_close_is_a_bug(tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    session.close()
    with pytest.raises(AssertionError, match="run after close"):
        session.run({})


def test_what_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_version", lambda: None)
    found = find_backends()
    assert "onnxruntime" in found.usable
    assert not {"openvino-bf16", "openvino-f32"} & set(found.usable)
    assert found.missing["openvino-f32"] == "openvino is not installed: pip install 'ferry-serving[openvino]'"


def test_a_processor_without_bf16_still_has_the_other_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "_cpu_flags", lambda: frozenset({"avx2"}))
    found = find_backends()
    assert "openvino-f32" in found.usable
    assert "does not calculate in bf16" in found.missing["openvino-bf16"]


def test_a_damaged_installation_is_an_error_of_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openvino._library.cache_clear()
    openvino._core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(LoadError, match="openvino cannot be imported"):
        loaded(tmp_path, affine())
    openvino._library.cache_clear()
    openvino._core.cache_clear()
