"""Which layers a lossy step has to leave alone, found by trying: knows neither the step nor the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.transforms.agreement import MOST_REQUESTS, QUICK_REQUESTS, Agreement, decibel
from optimizer.transforms.options import Between

MOST_TRIALS = 48
"""Layers are tried in groups of neighbours where there are more of them."""

MIN_COSINE = Between(
    "min_cosine", 0.999, 0.0, 1.0, "wanted agreement with the original; the noisiest layers stay as they are until it is reached"
)  # fmt: skip

Measure = Callable[[Sequence[str], int], Agreement]
"""(layers to change, most requests) → agreement of the model with only these changed."""


@dataclass(frozen=True, slots=True)
class Left:
    """Layers that were left as they were, and the signal-to-noise ratio in dB of the answers when only they were changed."""

    layers: tuple[str, ...]
    snr_db: float


@dataclass(frozen=True, slots=True)
class Choice:
    """`changed` and `left` are all the layers. `cosine`: what is reached, perhaps less than `wanted`; `all_changed`: with none left."""

    changed: tuple[str, ...]
    left: tuple[Left, ...]
    cosine: float
    wanted: float
    all_changed: float

    @property
    def n_left(self) -> int:
        """Layers that stay as they were."""
        return sum(len(one.layers) for one in self.left)

    def sentence(self, done: str, kept: str) -> str:
        """For people: "5 of 6 layers `done`, agreement …; `kept`: …"."""
        n_all = len(self.changed) + self.n_left
        found = f"{len(self.changed)} of {n_all} layers {done}, agreement with the original {self.cosine:.5f}"
        if self.cosine < self.wanted:
            found += f" (wanted {self.wanted:g})"
        if not self.left:
            return found
        named = ", ".join(f"{_group(one.layers)} ({one.snr_db:.0f} dB)" for one in self.left[:6])
        more = f" and {len(self.left) - 6} more" if len(self.left) > 6 else ""
        return f"{found}; with all of them {self.all_changed:.5f}; {kept}, as they add the most noise: {named}{more}"

    def data(self) -> dict[str, Any]:
        """For the report."""
        left = [{"layers": list(one.layers), "snr_db": round(one.snr_db, 2)} for one in self.left]
        return {
            "n_layers": len(self.changed) + self.n_left, "n_changed": len(self.changed), "left": left,
            "cosine": self.cosine, "wanted_cosine": self.wanted, "cosine_all_changed": self.all_changed,
        }  # fmt: skip


def choose(layers: Sequence[str], measure: Measure, wanted: float) -> Choice:
    """Change as many layers as the wanted cosine allows.

    Each layer, or group of neighbours, is changed alone, and ranked by the noise that this adds to the answers. To first order such
    noises add up, so that the least set to leave out is the noisiest k; k is found by bisection over what all requests answer.
    At most half of the layers are left, wanted or not. About MOST_TRIALS + log2(MOST_TRIALS) models are made.
    """
    everything = measure(layers, MOST_REQUESTS)
    if everything.cosine >= wanted:
        return Choice(tuple(layers), (), everything.cosine, wanted, everything.cosine)
    ranked = _rank(layers, measure)
    cosines: dict[int, float] = {0: everything.cosine}

    def cosine_without(n_left: int) -> float:
        if n_left not in cosines:
            cosines[n_left] = measure(_rest(layers, ranked[:n_left]), MOST_REQUESTS).cosine
        return cosines[n_left]

    n_left = _least(_most(ranked, len(layers)), lambda n: cosine_without(n) >= wanted)
    left = tuple(ranked[:n_left])
    return Choice(_rest(layers, left), left, cosine_without(n_left), wanted, everything.cosine)


def _rank(layers: Sequence[str], measure: Measure) -> list[Left]:
    """The noisiest first; of equally noisy ones the earlier."""
    size = -(-len(layers) // MOST_TRIALS)
    groups = [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]
    noises = [measure(group, QUICK_REQUESTS).noise for group in groups]
    order = sorted(range(len(groups)), key=lambda n: (-noises[n], n))
    return [Left(groups[n], decibel(noises[n])) for n in order]


def _most(ranked: Sequence[Left], n_layers: int) -> int:
    """How many groups may be left before half of the layers are."""
    n_groups, n_left = 0, 0
    for one in ranked:
        n_left += len(one.layers)
        if n_left * 2 > n_layers:
            break
        n_groups += 1
    return n_groups


def _least(most: int, is_enough: Callable[[int], bool]) -> int:
    """The least number from 1 to `most` that is enough, by bisection; `most` where none is."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _rest(layers: Sequence[str], left: Sequence[Left]) -> tuple[str, ...]:
    out = {name for one in left for name in one.layers}
    return tuple(name for name in layers if name not in out)


def _group(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
