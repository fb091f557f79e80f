"""The CUDA backend of ONNX Runtime without a card: the real library binds to the host's memory. What only a card shows is in tests/gpu."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends import onnx_cuda
from server.backends.base import BatchError, LoadError, Session
from server.backends.card_slots import N_SEEN, N_SLOTS
from server.backends.catalog import find_backends
from server.backends.cuda_memory import DeviceLost
from server.backends.nvidia import Card
from server.backends.onnx_cuda import CudaPrecision, OnnxCudaBackend
from server.backends.onnx_runtime import OnnxRuntimeBackend
from server.contract.accelerator import Accelerator
from tests.models import affine, identity, lookup, masked_mean, per_token, plain_mean, two_outputs
from tests.server.backends.host_card import HostCard, OnTheHost


def loaded(folder: Path, model: bytes, card: HostCard | None = None, graphs: bool = True) -> Session:
    (folder / "model.onnx").write_bytes(model)
    return OnTheHost(card or HostCard(), graphs).load(folder, 1)


@pytest.mark.parametrize("model", [affine(), lookup(), identity("INT64"), identity("BOOL"), identity("FP16"), two_outputs()])
def test_declares_what_onnx_runtime_declares(model: bytes, tmp_path: Path) -> None:
    with closing(loaded(tmp_path, model)) as session:
        other = OnnxRuntimeBackend().load(tmp_path, 1)
        assert (session.inputs, session.outputs) == (other.inputs, other.outputs)


@pytest.mark.parametrize("model", [masked_mean(), per_token(), plain_mean()])
def test_answers_are_onnx_runtimes_at_each_shape_again_and_again(model: bytes, tmp_path: Path) -> None:
    made = np.random.default_rng(1)
    with closing(loaded(tmp_path, model)) as session:
        other = OnnxRuntimeBackend().load(tmp_path, 1)
        for rows, length in [(1, 3), (4, 8), (2, 5), (4, 8), (1, 3)] * (N_SEEN + 1):
            batch = {
                spec.name: made.integers(1, 5, (rows, length)).astype("i8" if spec.datatype.value == "INT64" else "f4")
                for spec in session.inputs
            }
            for found, wanted in zip(session.run(batch), other.run(batch), strict=True):
                assert found.dtype == wanted.dtype
                np.testing.assert_array_equal(found, wanted)


def test_a_batch_is_copied_calculated_and_copied_back_on_one_stream(tmp_path: Path) -> None:
    card = HostCard()
    with closing(loaded(tmp_path, affine(), card)) as session:
        session.run({"x": np.ones((2, 4), np.float32)})
        (stream,) = {entry.split()[1] for entry in card.did}
        assert card.did == [f"in {stream}", f"out {stream}", f"wait {stream}"]


def test_all_is_given_back(tmp_path: Path) -> None:
    card = HostCard()
    with closing(loaded(tmp_path, affine(), card)) as session:
        for rows in (1, 2, 1, 2, 3, 1):
            session.run({"x": np.ones((rows, 4), np.float32)})
        assert not card.is_empty
    assert card.is_empty


def test_each_slot_has_a_stream_and_asks_for_graphs(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(affine())
    backend = OnTheHost(HostCard())
    with closing(backend.load(tmp_path, 1)):
        wanted = {"has_user_compute_stream": "1", "enable_cuda_graph": "1"}
        assert backend.asked == [wanted | {"user_compute_stream": str(number + 1)} for number in range(N_SLOTS)]


def test_a_model_that_no_graph_can_hold_is_loaded_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(loaded(tmp_path, affine(), graphs=False)) as session:
        (found,) = session.run({"x": np.ones((2, 4), np.float32)})
        np.testing.assert_array_equal(found, np.full((2, 4), 3, np.float32))
    assert "is launched operator by operator, for no graph can hold it" in caplog.text


def test_threads_get_their_own_answers(tmp_path: Path) -> None:
    with closing(loaded(tmp_path, affine())) as session, ThreadPoolExecutor(4) as pool:
        batches = [np.full((rows, 4), rows, np.float32) for rows in range(1, 9)] * 20
        for batch, (found,) in zip(batches, pool.map(lambda batch: session.run({"x": batch}), batches), strict=True):
            np.testing.assert_array_equal(found, 2 * batch + 1)


def test_an_answer_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    with closing(loaded(tmp_path, affine())) as session:
        for _ in range(N_SEEN):
            (first,) = session.run({"x": np.ones((2, 4), np.float32)})
        before = first.copy()
        session.run({"x": np.zeros((2, 4), np.float32)})
        np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": np.ones((2, 5), np.float32)}, "input 'x' is float32 [2, 5], the model declares float32 ['batch', 4]"),
        ({"x": np.ones((2, 4), np.float64)}, "input 'x' is float64 [2, 4], the model declares float32 ['batch', 4]"),
        ({"x": np.ones(4, np.float32)}, "input 'x' is float32 [4], the model declares"),
        ({"z": np.ones((2, 4), np.float32)}, "input 'x' is missing"),
    ],
)
def test_a_bad_batch_leaves_the_session_good(inputs: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with closing(loaded(tmp_path, affine())) as session:
        with pytest.raises(BatchError) as caught:
            session.run(inputs)
        assert message in str(caught.value)
        assert session.run({"x": np.ones((2, 4), np.float32)})[0].shape == (2, 4)


def test_a_kernel_error_is_that_batchs_own(tmp_path: Path) -> None:
    with closing(loaded(tmp_path, lookup())) as session:
        for _ in range(N_SEEN + 1):
            with pytest.raises(BatchError) as caught:
                session.run({"index": np.array([[99]])})
            assert "\n" not in str(caught.value)
            (found,) = session.run({"index": np.array([[3]])})
            np.testing.assert_array_equal(found, [[[6.0, 7.0]]])


def test_two_inputs_must_agree_on_the_axis_that_they_share(tmp_path: Path) -> None:
    with closing(loaded(tmp_path, masked_mean())) as session, pytest.raises(BatchError, match="input 'mask' is int64"):
        session.run({"ids": np.ones((1, 4), np.int64), "mask": np.ones((1, 3), np.int64)})


def test_a_lost_card_is_not_the_batchs_fault(tmp_path: Path) -> None:
    card = HostCard()
    session = loaded(tmp_path, affine(), card)
    card.is_lost = True
    with pytest.raises(DeviceLost, match="start the server again"):
        session.run({"x": np.ones((2, 4), np.float32)})
    card.is_lost = False
    session.close()


def test_a_batch_for_which_there_is_no_memory_fails_alone(tmp_path: Path) -> None:
    card = HostCard()
    with closing(loaded(tmp_path, affine(), card)) as session:
        session.run({"x": np.ones((1, 4), np.float32)})
        room, card.room = card.room, 64
        with pytest.raises(BatchError, match="no memory left"):
            session.run({"x": np.ones((100, 4), np.float32)})
        card.room = room
        assert session.run({"x": np.ones((100, 4), np.float32)})[0].shape == (100, 4)
    assert card.is_empty


@pytest.mark.parametrize(
    ("model", "message"),
    [(b"not a model", "model.onnx"), (identity("BYTES"), "tensor 'x' is a string, which a card does not calculate with")],
)
def test_files_that_cannot_be_served(model: bytes, message: str, tmp_path: Path) -> None:
    card = HostCard()
    with pytest.raises(LoadError) as caught:
        loaded(tmp_path, model, card)
    assert message in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert card.is_empty


def test_a_file_that_the_library_refuses_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = HostCard()
    (tmp_path / "model.onnx").write_bytes(affine())
    backend = OnTheHost(card)
    monkeypatch.setattr(OnTheHost, "_provider", "another")
    with pytest.raises(LoadError, match="would calculate on the processor instead: are its CUDA and cuDNN libraries installed"):
        backend.load(tmp_path, 1)
    assert card.is_empty


def test_running_after_close_is_a_bug(tmp_path: Path) -> None:
    session = loaded(tmp_path, affine())
    session.close()
    with pytest.raises(AssertionError, match="run after close"):
        session.run({})


@pytest.mark.parametrize(("precision", "tf32"), [(CudaPrecision.F32, "0"), (CudaPrecision.TF32, "1")])
def test_the_precision_is_the_librarys_to_keep(precision: CudaPrecision, tf32: str) -> None:
    backend = OnnxCudaBackend(precision)
    ((name, options), processor) = backend._providers({"user_compute_stream": "5"})
    assert (name, processor) == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["use_tf32"] == tf32
    assert options["user_compute_stream"] == "5"
    assert backend.runtime.endswith(f" cuda {precision.value}")


def test_what_is_not_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onnx_cuda.ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert "pip uninstall onnxruntime, then pip install 'ferry-serving[gpu]'" in find_backends().missing["onnxruntime-cuda-f32"]
    monkeypatch.setattr(onnx_cuda.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnx_cuda, "find_memory", lambda: "the NVIDIA driver has no card")
    assert find_backends().missing["onnxruntime-cuda-tf32"] == "the NVIDIA driver has no card"
    with pytest.raises(LoadError, match="the NVIDIA driver has no card"):
        OnnxCudaBackend(CudaPrecision.F32).load(tmp_path, 1)


def test_with_a_card_it_is_usable_and_says_on_which(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator("A card", "9.0", "570.1", "12.8")
    found: list[Any] = [None]
    monkeypatch.setattr(onnx_cuda.ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnx_cuda, "find_memory", HostCard)
    monkeypatch.setattr(onnx_cuda, "find_card", lambda: found[0])
    assert "update nvidia-ml-py" in find_backends().missing["onnxruntime-cuda-f32"]
    found[0] = Card(accelerator, 1, "0000:17:00.0")
    assert find_backends().usable["onnxruntime-cuda-f32"].accelerator == accelerator
