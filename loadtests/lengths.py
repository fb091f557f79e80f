"""How long inputs are: sizes of free axes, sampled from a distribution or taken from a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from loadtests.errors import BadInput

Lengths = npt.NDArray[np.int64]
_HELP = "use fixed:N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA:MAX or a file with one length per line"


def sample(text: str, n: int, seed: int) -> Lengths:
    """`n` lengths of at least 1, by a distribution or drawn from a file's lines. Raises BadInput."""
    rng = np.random.default_rng(seed)
    name, *rest = text.split(":")
    try:
        numbers = [float(one) for one in rest]
    except ValueError:
        numbers = []
    right = all(math.isfinite(one) and one > 0 for one in numbers)
    match name, numbers:
        case "fixed", [size] if right and size >= 1:
            return np.full(n, int(size), np.int64)
        case "uniform", [low, high] if right and 1 <= low <= high:
            return np.asarray(rng.integers(int(low), int(high) + 1, n), np.int64)
        case "lognormal", [median, sigma, most] if right and most >= 1:
            drawn = np.rint(rng.lognormal(math.log(median), sigma, n))
            return np.asarray(np.clip(drawn, 1, most), np.int64)
    if rest:
        raise BadInput(f"lengths {text!r}: {_HELP}")
    return np.asarray(rng.choice(_read(Path(text)), n), np.int64)


def _read(file: Path) -> Lengths:
    try:
        found = [int(line) for line in file.read_text().split()]
    except (OSError, ValueError) as error:
        raise BadInput(f"lengths {str(file)!r}: {error}; {_HELP}") from error
    if not found or min(found) < 1:
        raise BadInput(f"lengths {str(file)!r}: a length is a whole number from 1 on, one per line")
    return np.array(found)
