"""Builds an engine for the card of this machine. Types are the file's own: fp16 and int8 engines are built of files that the fp16 and
int8-static steps have made (TensorRT's strongly typed networks); only how float32 products are rounded is chosen here."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.errors import StageFailed
from optimizer.tensorrt.bounds import Bounds
from server.backends.tensorrt import listen

if TYPE_CHECKING:
    import tensorrt as trt

_MOST_SAID = 20


class Products(Enum):
    """What float32 products are calculated in."""

    F32 = "f32"
    TF32 = "tf32"


@dataclass(frozen=True, slots=True)
class EngineWish:
    """`bounds`: at least one. `effort`: how many ways to calculate are timed, 0 to 5, as the library counts them. `workspace_bytes`: a
    way that needs more memory on the card is not tried."""

    bounds: tuple[Bounds, ...]
    products: Products = Products.F32
    effort: int = 3
    workspace_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Engine:
    """What was built. `runtime`: the library and its version, which alone can load it."""

    n_bytes: int
    runtime: str


def build_engine(model: Path, out: Path, wish: EngineWish, timing_cache: Path | None = None) -> Engine:
    """Writes `out`, a minutes' work. `timing_cache`: what was timed before, and is timed now, is kept in that file, so that the next
    build of the like is quick; one that is damaged or of another card is begun anew.

    Raises StageFailed with the library's reason: no such library or card, an operator that it does not know, not enough memory.
    """
    try:
        import tensorrt as trt
    except ImportError as error:
        raise StageFailed(f"tensorrt cannot be imported: {error}; pip install 'ferry-serving[tensorrt]'") from None
    said: deque[str] = deque(maxlen=_MOST_SAID)
    logger = listen(said)

    def reason() -> str:
        return " ".join("; ".join(said).split()) or "the library gave no reason"

    try:
        builder = trt.Builder(logger)
    except Exception as error:  # without a card the library raises what its bindings make of a null pointer
        raise StageFailed(f"TensorRT has no card to build for: {reason()} ({error})") from None
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        raise StageFailed(f"TensorRT cannot read the model: {_first_error(parser, reason)}")
    config = builder.create_builder_config()
    _configure(config, wish)
    for bounds in wish.bounds:
        _add_profile(builder, config, bounds)
    _take_timings(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise StageFailed(f"TensorRT cannot build an engine: {reason()}")
    out.write_bytes(bytes(plan))
    _keep_timings(config, timing_cache)
    return Engine(out.stat().st_size, f"tensorrt {trt.__version__}")


def _configure(config: trt.IBuilderConfig, wish: EngineWish) -> None:
    import tensorrt as trt

    if wish.products is Products.TF32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # which the library sets unless it is told otherwise
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, wish.workspace_bytes)
    config.builder_optimization_level = wish.effort


def _add_profile(builder: trt.Builder, config: trt.IBuilderConfig, bounds: Bounds) -> None:
    import tensorrt as trt

    profile = builder.create_optimization_profile()
    for name, least in bounds.least.items():
        profile.set_shape(name, trt.Dims(least), trt.Dims(bounds.best[name]), trt.Dims(bounds.most[name]))
    if config.add_optimization_profile(profile) < 0:
        raise StageFailed(f"TensorRT takes no engine for shapes from {dict(bounds.least)} to {dict(bounds.most)}")


def _take_timings(config: trt.IBuilderConfig, file: Path | None) -> None:
    """An empty cache where there is none yet, so that there is one to keep. One of another card is refused by the library, which says
    so by its return value; then an empty one takes its place."""
    if file is None:
        return
    known = file.read_bytes() if file.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(config: trt.IBuilderConfig, file: Path | None) -> None:
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    scratch.write_bytes(bytes(config.get_timing_cache().serialize()))
    scratch.replace(file)


def _first_error(parser: trt.OnnxParser, reason: Callable[[], str]) -> str:
    """The parser's first error names the operator."""
    if not parser.num_errors:
        return reason()
    error = parser.get_error(0)
    operator = f" (operator {error.node_operator()})" if error.node_operator() else ""
    return f"{' '.join(error.desc().split())}{operator}"
