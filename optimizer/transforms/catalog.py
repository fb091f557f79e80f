"""Every transform by its name: what runs, what decides its result, what may be set, what it promises, and where it makes sense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from optimizer.env import distributions_of
from optimizer.errors import OptimizeError
from optimizer.transforms import fp16, fuse, int8_dynamic, int8_static, low_rank, prune, weights_only
from optimizer.transforms.base import Transform
from optimizer.transforms.facts import GraphFacts
from optimizer.transforms.options import Option

_SMALL_BYTES, _TINY_BYTES = 256 * 1024, 32 * 1024
_NUMBERS = ("numpy", "onnx", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Entry:
    """`modules`: top-level modules of other projects whose versions decide the result. `promises`: one sentence.
    `why_not`: the reason that it makes no sense on such a graph; None: it does. `mixes_rows`: how a row's answer then depends on
    the other rows of its batch; None: it does not."""

    name: str
    run: Transform
    modules: tuple[str, ...]
    options: tuple[Option, ...]
    promises: str
    why_not: Callable[[GraphFacts], str | None]
    mixes_rows: str | None = None

    @property
    def defaults(self) -> dict[str, str | int | float]:
        """Every option with the value it has where none is given."""
        return {option.name: option.default for option in self.options}

    def distributions(self) -> set[str]:
        """The installed distributions whose versions decide the result; for optimizer.env.tool_versions."""
        return distributions_of(self.modules)

    def missing(self) -> str | None:
        """Why it cannot run here, and what to do; None: it can."""
        absent = [module for module in self.modules if find_spec(module) is None]
        return f"{absent[0]} is not installed: pip install 'ferry-serving[optimizer]'" if absent else None


def find_transform(name: str) -> Entry:
    """Raises OptimizeError for a name that is none."""
    if name not in TRANSFORMS:
        raise OptimizeError(f"there is no transform {name!r}; there are {', '.join(TRANSFORMS)}")
    return TRANSFORMS[name]


def _fuse_why_not(facts: GraphFacts) -> str | None:
    if facts.is_quantized:
        return "it is quantized already, and attention would be packed from weights that become floats in each call; fuse first"
    if not facts.has_attention and not facts.has_normalization:
        return "it has neither attention nor layer normalization; the runtime itself fuses what else there is when it loads"
    return None


def _fp16_why_not(facts: GraphFacts) -> str | None:
    return None if "FLOAT" in facts.dtypes else f"it has no float32 constants ({', '.join(facts.dtypes) or 'none at all'})"


def _dynamic_why_not(facts: GraphFacts) -> str | None:
    if facts.matmul_bytes < facts.conv_bytes:
        return "most of its weights are in convolutions, for which the runtime has no fast dynamic kernel"
    return _too_small(facts, facts.matmul_bytes)


def _static_why_not(facts: GraphFacts) -> str | None:
    """The size of a small model may be worth something where its speed is not."""
    return _too_small(facts, facts.matmul_bytes + facts.conv_bytes, _TINY_BYTES)


def _weights_why_not(facts: GraphFacts) -> str | None:
    if facts.matmul_bytes < facts.conv_bytes:
        return "most of its weights are in convolutions, which have no kernel for blocks of weights"
    return _too_small(facts, facts.matmul_bytes)


def _prune_why_not(facts: GraphFacts) -> str | None:
    return (
        "no runtime here gains from zeros that are spread over a matrix: neither time nor size"
        if facts.n_layers
        else "it has no layers"
    )


def _low_rank_why_not(facts: GraphFacts) -> str | None:
    return _too_small(facts, facts.matmul_bytes + facts.conv_bytes)


def _too_small(facts: GraphFacts, n_bytes: int, least: int = _SMALL_BYTES) -> str | None:
    if facts.is_quantized:
        return "it is quantized already"
    if n_bytes < least:
        return f"its layers have {n_bytes / 1024:.0f} KiB of weights: nothing that takes time could get faster"
    return None


_ENTRIES = (
    Entry(
        fuse.NAME, fuse.fuse, ("numpy", "onnx", "onnx_ir", "onnxscript"), fuse.OPTIONS,
        "the same answers from fewer, larger operators (attention, normalization, activation); for encoders and decoders",
        _fuse_why_not,
    ),
    Entry(
        fp16.NAME, fp16.fp16, _NUMBERS, fp16.OPTIONS,
        "half the size at hardly any loss; faster only where the device calculates in fp16, which CPUs mostly do not",
        _fp16_why_not,
    ),
    Entry(
        int8_dynamic.NAME, int8_dynamic.int8_dynamic, (*_NUMBERS, "sympy"), int8_dynamic.OPTIONS,
        "a quarter of the size and int8 arithmetic in matrix products without calibration; for encoders and decoders on a CPU",
        _dynamic_why_not,
        "the scale of an activation is taken over the whole batch, padding included",
    ),
    Entry(
        int8_static.NAME, int8_static.int8_static, (*_NUMBERS, "sympy"), int8_static.OPTIONS,
        "a quarter of the size and int8 arithmetic with calibrated ranges; best for CNNs, and the int8 that OpenVINO and TensorRT read",
        _static_why_not,
    ),
    Entry(
        weights_only.NAME_8, weights_only.weights_int8, (*_NUMBERS, "onnx_ir", "sympy"), weights_only.OPTIONS_8,
        "matrices in 8-bit blocks at hardly any loss; faster where weights are read for few rows, as in decoding",
        _weights_why_not,
    ),
    Entry(
        weights_only.NAME_4, weights_only.weights_int4, (*_NUMBERS, "onnx_ir", "sympy", "torch"), weights_only.OPTIONS_4,
        "matrices in 4-bit blocks, an eighth of their size; for decoders, whose speed is that of reading weights; small ones suffer",
        _weights_why_not,
    ),
    Entry(
        prune.NAME, prune.prune, ("numpy", "onnx"), prune.OPTIONS,
        "zeros in place of the smallest weights: no speed-up and no smaller file on any runtime here, only one that compresses better",
        _prune_why_not,
    ),
    Entry(
        low_rank.NAME, low_rank.low_rank, (*_NUMBERS, "sympy"), low_rank.OPTIONS,
        "two thin matrices for a wide one where real inputs use few of its directions; most models need fine-tuning to gain from it",
        _low_rank_why_not,
    ),
)  # fmt: skip

TRANSFORMS: Mapping[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""All transforms, in the order in which to try them one by one."""
