"""Building engines with a library that stands for TensorRT: what it is told, what is kept, what failures say."""

from __future__ import annotations

import sys
from enum import Enum, IntEnum
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from optimizer.errors import StageFailed
from optimizer.tensorrt.bounds import Bounds
from optimizer.tensorrt.build import EngineWish, Products, build_engine
from tests.server.backends.fake_tensorrt import Severity, fake_tensorrt

BOUNDS = (Bounds({"x": (1, 4)}, {"x": (2, 4)}, {"x": (8, 4)}),)


class Config:
    builder_optimization_level = 3

    def __init__(self, library: Library) -> None:
        self.library = library

    def set_flag(self, flag: Enum) -> None:
        self.library.told.append(("set", flag.name))

    def clear_flag(self, flag: Enum) -> None:
        self.library.told.append(("clear", flag.name))

    def set_memory_pool_limit(self, pool: Enum, pool_size: int) -> None:
        self.library.told.append((pool.name, pool_size))

    def add_optimization_profile(self, profile: Any) -> int:
        return -1 if self.library.fails == "profile" else 0

    def create_timing_cache(self, known: bytes) -> bytes | None:
        return None if known == b"damaged" else known

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        self.library.told.append(("timings", cache))
        return cache in (b"", b"timings of this card")

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"more timings")


class Builder:
    def __init__(self, library: Library, logger: Any) -> None:
        self.library, self.logger = library, logger
        if library.fails == "card":
            logger.log(Severity.ERROR, "CUDA initialization failure with error 100")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> str:
        self.library.told.append(("network", flags))
        return "network"

    def create_builder_config(self) -> Config:
        return Config(self.library)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda name, *dims: self.library.told.append((name, *(one.sizes for one in dims))))

    def build_serialized_network(self, network: str, config: Config) -> bytes | None:
        self.library.told.append(("level", config.builder_optimization_level))
        if self.library.fails == "build":
            self.logger.log(Severity.ERROR, "could not find any\nimplementation")
            return None
        return b"a plan"


class OnnxParser:
    def __init__(self, library: Library, network: str, logger: Any) -> None:
        self.library, self.logger = library, logger
        self.num_errors = 1 if library.fails == "operator" else 0

    def parse_from_file(self, model: str) -> bool:
        if self.library.fails == "file":
            self.logger.log(Severity.ERROR, "failed to open file")
        return self.library.fails not in ("operator", "file")

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "no importer\nregistered", node_operator=lambda: "Foo")


class Library:
    """Notes what it is told. `fails`: at which call."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.told: list[Any] = []

    def module(self) -> Any:
        module = fake_tensorrt()
        module.__version__ = "11.4"
        module.Builder, module.OnnxParser = partial(Builder, self), partial(OnnxParser, self)
        module.NetworkDefinitionCreationFlag = IntEnum("Flag", {"STRONGLY_TYPED": 1})
        module.BuilderFlag = Enum("BuilderFlag", ["TF32"])
        module.MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])
        return module


def build(library: Library, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.setitem(sys.modules, "tensorrt", library.module())
    cache = more.pop("cache", None)
    return build_engine(folder / "model.onnx", folder / "model.plan", EngineWish(BOUNDS, **more), cache)


def test_an_engine_is_written_with_what_can_load_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    engine = build(library, tmp_path, monkeypatch, workspace_bytes=5)
    assert (tmp_path / "model.plan").read_bytes() == b"a plan"
    assert (engine.n_bytes, engine.runtime) == (6, "tensorrt 11.4")
    assert library.told == [
        ("network", 2), ("clear", "TF32"), ("WORKSPACE", 5), ("x", (1, 4), (2, 4), (8, 4)), ("level", 3),
    ]  # fmt: skip


def test_coarser_products_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    build(library, tmp_path, monkeypatch, products=Products.TF32, effort=5)
    assert ("set", "TF32") in library.told
    assert ("level", 5) in library.told


@pytest.mark.parametrize(
    ("known", "taken"),
    [
        (None, [("timings", b"")]),
        (b"timings of this card", [("timings", b"timings of this card")]),
        (b"timings of another card", [("timings", b"timings of another card"), ("timings", b"")]),
        (b"damaged", [("timings", b"")]),
    ],
)
def test_timings_are_kept_and_only_those_of_this_card_are_used(
    known: bytes | None, taken: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, cache = Library(), tmp_path / "kept" / "timings"
    if known is not None:
        cache.parent.mkdir()
        cache.write_bytes(known)
    build(library, tmp_path, monkeypatch, cache=cache)
    assert [told for told in library.told if told[0] == "timings"] == taken
    assert [(path.name, path.read_bytes()) for path in cache.parent.iterdir()] == [("timings", b"more timings")]


@pytest.mark.parametrize(
    ("fails", "message"),
    [
        ("card", "TensorRT has no card to build for: CUDA initialization failure with error 100"),
        ("operator", "TensorRT cannot read the model: no importer registered (operator Foo)"),
        ("file", "TensorRT cannot read the model: failed to open file"),
        ("profile", "TensorRT takes no engine for shapes from {'x': (1, 4)} to {'x': (8, 4)}"),
        ("build", "TensorRT cannot build an engine: could not find any implementation"),
    ],
)
def test_failures_say_why(fails: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StageFailed) as caught:
        build(Library(fails), tmp_path, monkeypatch)
    assert message in str(caught.value)
    assert not (tmp_path / "model.plan").exists()


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(StageFailed, match=r"tensorrt cannot be imported.*pip install 'ferry-serving\[tensorrt\]'"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.plan", EngineWish(BOUNDS))
