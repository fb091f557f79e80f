"""How long inputs are, in the words of `ferry loadtest`."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from server.simulation.clients import Draw, log_normal
from server.simulation.errors import BadWorkload

FORMS = "use fixed:N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA:MAX or a file with one length per line"


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of lengths with its ends."""

    draw: Draw
    shortest: int
    longest: int

    def within(self, shortest: int, longest: int, model: str) -> Lengths:
        """The same for a model that takes these. Raises BadWorkload for lengths that it would refuse."""
        if self.longest > longest or self.longest < shortest:
            raise BadWorkload(f"{model} takes lengths from {shortest} to {longest}; --lengths asks for up to {self.longest}")
        return Lengths(lambda rnd: max(float(shortest), self.draw(rnd)), max(shortest, self.shortest), self.longest)


def parse_lengths(text: str) -> Lengths | None:
    """None for what is no distribution: the name of a file, perhaps. Raises BadWorkload."""
    name, *rest = text.split(":")
    if name not in ("fixed", "uniform", "lognormal"):
        return None
    try:
        numbers = [float(one) for one in rest]
    except ValueError:
        numbers = []
    is_right = all(math.isfinite(one) and one > 0 for one in numbers)
    match name, numbers:
        case "fixed", [size] if is_right and size >= 1:
            return Lengths(lambda _: int(size), int(size), int(size))
        case "uniform", [low, high] if is_right and 1 <= low <= high:
            return Lengths(lambda rnd: rnd.randint(int(low), int(high)), int(low), int(high))
        case "lognormal", [median, sigma, most] if is_right and most >= 1:
            draw = log_normal(median, sigma, int(most))
            return Lengths(lambda rnd: round(draw(rnd)), 1, int(most))
    raise BadWorkload(f"lengths {text!r}: {FORMS}")


def listed(lines: Sequence[str], where: str) -> Lengths:
    """Drawn from a file's lines. Raises BadWorkload."""
    try:
        found = [int(line) for line in lines if line.strip()]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise BadWorkload(f"lengths {where!r}: a length is a whole number from 1 on, one per line; or {FORMS}")
    return Lengths(lambda rnd: _one_of(found, rnd), min(found), max(found))


def _one_of(found: Sequence[int], rnd: random.Random) -> float:
    return found[int(rnd.random() * len(found))]
