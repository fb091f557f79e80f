"""Profiles with a known law, l(b) = alpha·b + beta per unit of length, for worlds that need no hardware."""

from server.contract.device import Device
from server.contract.profile import Cell, Placement, Profile

DEVICE = Device("virtual", 2, "virtual 1")


def linear_profile(
    alpha_s: float, beta_s: float, rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32), lengths: tuple[int, ...] = (0,),
    instances: int = 1,
) -> Profile:  # fmt: skip
    """p50 = p95 = p99 = beta + alpha · rows · max(1, length)."""
    cells = []
    for length in lengths:
        for count in rows:
            time_s = beta_s + alpha_s * count * max(1, length)
            cells.append(Cell(count, length, time_s, time_s, time_s, 1, 0))
    return Profile(DEVICE, Placement(instances, 1), tuple(cells))
