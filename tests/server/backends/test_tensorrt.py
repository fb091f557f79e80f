"""The TensorRT backend without a card: which profile serves which shape, what is recorded, whose fault a failure is."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

from server.backends import tensorrt
from server.backends.base import BatchError, LoadError, Session
from server.backends.card_slots import N_SLOTS
from server.backends.catalog import find_backends
from server.backends.nvidia import Card
from server.backends.tensorrt import TensorRtBackend
from server.contract.accelerator import Accelerator
from tests.models import onnx_bytes
from tests.server.backends.fake_tensorrt import Engine, fake_tensorrt, plan_bytes
from tests.server.backends.host_card import HostCard


def doubles() -> bytes:
    from onnx import helper

    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return onnx_bytes(nodes, [("x", "FP32", ["batch", "length"])], [("y", "FP32", ["batch", "length"])])


class Bench:
    """A folder, a card that is the host's memory, and the engines that were loaded."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.card, self.library = folder, HostCard(), fake_tensorrt()
        monkeypatch.setitem(sys.modules, "tensorrt", self.library)
        monkeypatch.setattr(TensorRtBackend, "_memory", lambda _: self.card)
        (folder / "model.onnx").write_bytes(doubles())

    def load(self, **changes: Any) -> Session:
        (self.folder / "model.plan").write_bytes(plan_bytes(**changes))
        return TensorRtBackend().load(self.folder, 1)

    @property
    def engine(self) -> Engine:
        (engine,) = self.library.engines
        assert isinstance(engine, Engine)
        return engine


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def run(session: Session, rows: int, length: int) -> None:
    x = np.arange(rows * length, dtype=np.float32).reshape(rows, length)
    (found,) = session.run({"x": x})
    np.testing.assert_array_equal(found, 2 * x)


def test_names_and_axes_are_those_of_the_file_beside_it(bench: Bench) -> None:
    with closing(bench.load()) as session:
        assert [(spec.name, spec.shape) for spec in (*session.inputs, *session.outputs)] == [
            ("x", ("batch", "length")), ("y", ("batch", "length")),
        ]  # fmt: skip


def test_each_shape_is_served_by_the_smallest_profile_that_covers_it(bench: Bench) -> None:
    with closing(bench.load()) as session:
        for length in (3, 40, 8):
            run(session, 2, length)
        assert [context.profile for context in bench.engine.contexts] == [1, 0]


def test_a_shape_that_comes_again_is_recorded_in_a_context_of_its_own(bench: Bench) -> None:
    with closing(bench.load()) as session:
        for _ in range(5):
            run(session, 2, 3)
        launched, recorded = bench.engine.contexts
        assert launched.shapes == recorded.shapes == {"x": (2, 3)}
        assert launched.scratch == recorded.scratch
        assert [entry for entry in bench.card.did if "graph" in entry] == [
            "graph 1",
            "launch graph 1",
            "launch graph 1",
            "launch graph 1",
        ]
    assert bench.card.is_empty


def test_each_slot_has_scratch_memory_of_its_own(bench: Bench) -> None:
    with closing(bench.load()):
        assert len(bench.card.allocated) == N_SLOTS
    assert bench.card.is_empty


def test_a_shape_that_it_was_not_built_for_fails_alone(bench: Bench) -> None:
    with closing(bench.load()) as session:
        with pytest.raises(BatchError, match=r"not built for x \[9, 3\]; optimize the model again with these sizes"):
            run(session, 9, 3)
        run(session, 8, 3)


def test_a_failure_says_what_the_library_said(bench: Bench) -> None:
    with closing(bench.load()) as session:
        bench.engine.fails = True
        with pytest.raises(BatchError) as caught:
            run(session, 1, 3)
        assert str(caught.value) == "[enqueueV3] misaligned address"
        bench.engine.fails = False
        run(session, 1, 3)


def test_an_output_of_another_size_than_declared_is_never_written(bench: Bench) -> None:
    with closing(bench.load(more=1)) as session:
        with pytest.raises(BatchError, match=r"output 'y' would be \[1, 4\], model.onnx declares \[1, 3\]"):
            run(session, 1, 3)
        assert bench.engine.n_executed == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensors": {"x": ["INPUT", "INT64"], "y": ["OUTPUT", "FLOAT"]}},
            "not built from the model.onnx beside it: tensor 'x' differs",
        ),
        ({"tensors": {"x": ["INPUT", "FLOAT"], "y": ["OUTPUT", "FP8"]}}, "tensor 'y' differs; optimize the model again"),
        ({"tensors": {"z": ["INPUT", "FLOAT"], "y": ["OUTPUT", "FLOAT"]}}, "tensor 'x' differs"),
        ({"location": "HOST"}, "tensor 'x' holds sizes that the engine reads on the host"),
    ],
)
def test_refuses_engines_that_cannot_be_served(changes: dict[str, Any], message: str, bench: Bench) -> None:
    with pytest.raises(LoadError, match=message):
        bench.load(**changes)
    assert bench.card.is_empty


def test_a_truncated_engine_is_named_with_the_librarys_reason(bench: Bench) -> None:
    (bench.folder / "model.plan").write_bytes(plan_bytes()[:-5])
    with pytest.raises(
        LoadError, match=r"model.plan cannot be loaded: Serialization assertion failed: magic tag does not match"
    ):
        TensorRtBackend().load(bench.folder, 1)


@pytest.mark.parametrize("name", ["model.plan", "model.onnx"])
def test_both_files_must_be_there(name: str, bench: Bench) -> None:
    (bench.folder / "model.plan").write_bytes(plan_bytes())
    (bench.folder / name).unlink()
    with pytest.raises(LoadError, match=f"{name} cannot be read"):
        TensorRtBackend().load(bench.folder, 1)


def test_what_does_not_fit_into_the_card_is_not_loaded(bench: Bench) -> None:
    bench.card.room = 40
    with pytest.raises(LoadError, match="no memory left"):
        bench.load()
    assert bench.card.is_empty


def test_a_context_that_does_not_fit_costs_that_batch(bench: Bench) -> None:
    with closing(bench.load()) as session:
        bench.engine.has_room = False
        with pytest.raises(BatchError, match="no execution context could be made: out of memory"):
            run(session, 1, 3)
        bench.engine.has_room = True
        run(session, 1, 3)


def test_says_what_is_missing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = [None]
    monkeypatch.setattr(tensorrt, "_version", lambda: None)
    assert find_backends().missing["tensorrt"] == "tensorrt is not installed: pip install 'ferry-serving[tensorrt]'"
    monkeypatch.setattr(tensorrt, "_version", lambda: "11.4")
    monkeypatch.setattr(tensorrt, "find_memory", lambda: "the NVIDIA driver has no card")
    assert find_backends().missing["tensorrt"] == "the NVIDIA driver has no card"
    monkeypatch.setattr(tensorrt, "find_memory", HostCard)
    monkeypatch.setattr(tensorrt, "find_card", lambda: found[0])
    assert "update nvidia-ml-py" in find_backends().missing["tensorrt"]
    found[0] = Card(Accelerator("A card", "9.0", "570.1", "12.8"), 1, "0000:17:00.0")
    assert find_backends().usable["tensorrt"].runtime == "tensorrt 11.4"
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert "tensorrt is installed but cannot be imported" in find_backends().missing["tensorrt"]
    with pytest.raises(LoadError, match="tensorrt cannot be imported"):
        bench.load()
