"""The default candidates, so that no recipe need be written: by what the graph is, and by what can be used here."""

from __future__ import annotations

from collections.abc import Sequence

from optimizer.ladder.candidate import Candidate
from optimizer.ladder.here import Here
from optimizer.ladder.steps import known_step
from optimizer.tensorrt.build import Products
from optimizer.transforms.catalog import find_transform
from optimizer.transforms.facts import GraphFacts
from server.backends.base import Backend, Backends

ENGINES = "tensorrt"
"""The backend that loads engines, which are built of a candidate's file."""

_BF16, _F32 = "openvino-bf16", "openvino-f32"
_CARD_F32, _CARD_TF32 = "onnxruntime-cuda-f32", "onnxruntime-cuda-tf32"
_ON_A_CARD = (_CARD_TF32, _CARD_F32, ENGINES)


def default_candidates(facts: GraphFacts | None, backends: Backends) -> tuple[Candidate, ...]:
    """Cheapest and most promising first; few, because each takes time. What cannot be used here is listed, too: its reason says what
    to install; but what needs a card is listed only where there is one. `facts` None: nothing is known of the graph."""
    other = _BF16 if _BF16 in backends.usable or _F32 not in backends.usable else _F32
    found = [
        *_on_a_card(backends),
        Candidate(f"OpenVINO {other.removeprefix('openvino-')}", (), other, "the same file by other kernels"),
        *(_of_convolutions(other) if facts is not None and _is_cnn(facts) else _of_products(facts)),
    ]
    return tuple(one for one in found if all(_makes_sense(step.name, facts) for step in one.steps))


def left_out(here: Here) -> tuple[str, ...]:
    """Why the default candidates lack some that need a card: a sentence if there is none, else one for each library that is missing.
    Nothing where none is."""
    backends, cards = here.backends, here.cards
    lacking = [name for name in _ON_A_CARD if name not in backends.usable]
    if cards.reason and len(lacking) == len(_ON_A_CARD):
        return (f"No candidate for an NVIDIA card was tried: {cards.reason}",)
    names: dict[str, list[str]] = {}
    for name in lacking:
        names.setdefault(backends.missing.get(name, "this ferry does not have it; upgrade ferry"), []).append(name)
    return tuple(f"No candidate for {' and '.join(found)} was tried: {reason}" for reason, found in names.items())


def meter_of(backends: Backends) -> Backend | None:
    """The backend that takes any ONNX file to the card; None: there is none."""
    return next((backends.usable[name] for name in (_CARD_TF32, _CARD_F32) if name in backends.usable), None)


def _is_cnn(facts: GraphFacts) -> bool:
    """Also where most of its weights are in the layers after the convolutions, as in small ones. Speech and vision encoders have some
    convolutions before their attention."""
    is_encoder = facts.has_attention or facts.has_normalization
    return facts.conv_bytes > (facts.matmul_bytes if is_encoder else 0)


def _on_a_card(backends: Backends) -> list[Candidate]:
    """Coarsest first: what is not close enough fails its gate, and what is left is not much slower."""
    found = [
        Candidate(
            "fp16 on the card", (known_step("fp16"),), _CARD_TF32, "half the bits, for which cards have units of their own"
        ),
        Candidate("TF32 on the card", (), _CARD_TF32, "the same file; products of factors with ten bits of fraction"),
        Candidate("float32 on the card", (), _CARD_F32, "the same file"),
        *_engines(),
    ]
    return [one for one in found if one.backend in backends.usable]


def _engines() -> Sequence[Candidate]:
    """int8 as TensorRT reads it: ranges around zero, and nothing but int8 is made of floats by DequantizeLinear."""
    int8 = (known_step("int8-static", {"activations": "s8", "biases": "float", "tables": "float"}),)
    tf32, f32 = Products.TF32, Products.F32
    return (
        Candidate("TensorRT int8", int8, ENGINES, "an engine of a quarter of the bits, by calibrated ranges", tf32),
        Candidate("TensorRT fp16", (known_step("fp16"),), ENGINES, "an engine of half the bits", tf32),
        Candidate(
            "TensorRT TF32", (), ENGINES, "an engine of the same file; products of factors with ten bits of fraction", tf32
        ),
        Candidate("TensorRT float32", (), ENGINES, "an engine of the same file", f32),
    )


def _of_convolutions(other: str) -> list[Candidate]:
    """CNNs: calibrated int8 is the one that has fast kernels, of which OpenVINO has faster ones."""
    static = (known_step("int8-static"),)
    return [
        Candidate("int8 static", static, why="a quarter of the bits, by calibrated ranges"),
        Candidate("int8 static OpenVINO", static, other, "the same file by other kernels"),
    ]


def _of_products(facts: GraphFacts | None) -> list[Candidate]:
    """Encoders and the like. Dynamic int8 is made of the fused graph where there is something to fuse: the fused operators have int8
    kernels of their own."""
    fuse, dynamic = known_step("fuse"), known_step("int8-dynamic")
    first = (fuse,) if facts is None or _makes_sense("fuse", facts) else ()
    return [
        Candidate("fused", (fuse,), why="the same calculation in fewer operators"),
        Candidate("int8 dynamic", (*first, dynamic), why="a quarter of the bits in matrix products"),
    ]


def _makes_sense(step: str, facts: GraphFacts | None) -> bool:
    return facts is None or find_transform(step).why_not(facts) is None
