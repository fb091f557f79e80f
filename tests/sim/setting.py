"""A version with a linear profile, ready to be played: no wire, unless a test says otherwise."""

from __future__ import annotations

from server.contract.profile import Placement
from server.core.costs import HAND_OFF_S, CostTable
from server.core.types import Limits, Mixing, ModelKey
from server.simulation.arrivals import Shaped, Steady
from server.simulation.laws import ROWS, linear_profile
from server.simulation.lengths import Lengths
from server.simulation.play import Setting, Version
from server.simulation.traffic import Traffic
from server.simulation.wire import NO_WIRE, Wire

KEY = ModelKey("m", 1)
MAX_ROWS = 32
ALPHA_S, BETA_S = 0.001, 0.004
FULL_S = MAX_ROWS * ALPHA_S + BETA_S
PEAK = MAX_ROWS / FULL_S


def version(instances: int = 1, threads: int = 1, wire: Wire = NO_WIRE, inline: bool = False, scale: float = 1.0) -> Version:
    """l(b) = b + 4 ms, with 2 % noise; the hand-off that the scheduler reckons with is part of it. `scale`: so many times faster."""
    profile = linear_profile(ALPHA_S / scale, BETA_S / scale - HAND_OFF_S, ROWS, instances=instances, noise=0.02)
    return Version(
        KEY, profile, Placement(instances, threads), CostTable(profile, MAX_ROWS, brief_s=FULL_S if inline else 0.0), Limits(MAX_ROWS, 10**6, 0 if inline else 1),
        Mixing.ANY, None, wire,
    )  # fmt: skip


def setting(one: Version, seed: int = 1, slower: float = 1.0, beside: float = 0.0) -> Setting:
    return Setting((one,), seed, slower, beside)


def traffic(rate: float = 1.0, slo_s: float = 3 * FULL_S, lengths: Lengths | None = None, name: str = "t") -> Traffic:
    """Poisson, of one row."""
    return Traffic(name, KEY, Shaped(Steady()), rate, slo_s, slo_s, 1, lengths)
